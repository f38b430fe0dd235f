#!/usr/bin/env python3
"""`make bench`: how long a lab takes, and how much memory. Needs root; writes bench/results.json and prints a table.

The cloud has 20 hypervisors, 100 VMs and 8 networks unless options say otherwise. Every run is a new
daemon and a new lab in a run directory of its own.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sizes import cloud

ROOT = Path(__file__).resolve().parents[1]
TUNBRIDGE = (sys.executable, "-m", "controller")
LIMIT_SECONDS, LIMIT_MIB = 90.0, 4096.0


def timed(where: Path, *arguments: str) -> tuple[float, str]:
    """Seconds and stdout of a command of ours."""
    start = time.monotonic()
    done = subprocess.run([*TUNBRIDGE, *arguments], cwd=ROOT, env={**os.environ, "TUNBRIDGE_RUNDIR": str(where)},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    if done.returncode:
        sys.exit(f"tunbridge {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    return time.monotonic() - start, done.stdout


def used_mib() -> float:
    """Memory in use on the whole machine (proc_meminfo(5): MemTotal - MemAvailable)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    values = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines)}
    return (values["MemTotal"] - values["MemAvailable"]) / 1024


def once(hosts: int, vms: int, networks: int) -> dict[str, float]:
    """One lab from nothing to nothing."""
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        where = Path(name)
        file = where / "topology.yaml"
        file.write_text(cloud(hosts, vms, networks))
        before = used_mib()
        with (where / "daemon.log").open("w") as log:
            daemon = subprocess.Popen([*TUNBRIDGE, "run", str(file), "--listen", "none"], cwd=ROOT, stdout=log,
                                      stderr=log, env={**os.environ, "TUNBRIDGE_RUNDIR": name})
        try:
            up, _ = timed(where, "lab", "up", str(file))
            memory = used_mib() - before
            reach, answer = timed(where, "lab", "reach", "--json")
            assert json.loads(answer)["ok"]
            sampled, _ = timed(where, "lab", "reach", "--sample", "500", "--json")
            down, _ = timed(where, "lab", "down")
        finally:
            daemon.terminate()
            daemon.wait(30)
    return {"lab up, in sync (s)": up, "memory (MiB)": memory, "whole matrix (s)": reach,
            "matrix, 500 pairs (s)": sampled, "lab down (s)": down}


def main() -> None:
    """Medians of several runs, as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--vms", type=int, default=100)
    parser.add_argument("--networks", type=int, default=8)
    asked = parser.parse_args()
    runs = []
    for number in range(asked.runs):
        runs.append(once(asked.hosts, asked.vms, asked.networks))
        print(f"run {number + 1} of {asked.runs}: up in {runs[-1]['lab up, in sync (s)']:.1f} s", file=sys.stderr)
    found = {key: [round(run[key], 2) for run in runs] for key in runs[0]}
    machine = {"cores": os.cpu_count(), "kernel": platform.release().split("-")[0], "python": platform.python_version()}
    size = {"hypervisors": asked.hosts, "vms": asked.vms, "networks": asked.networks}
    results = {"machine": machine, **size, "runs": found}
    (ROOT / "bench" / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"{asked.hosts} hypervisors, {asked.vms} VMs, {asked.networks} networks; {machine['cores']} cores; "
          f"medians of {asked.runs} (min to max)")
    for key, values in found.items():
        print(f"  {key:<24} {statistics.median(values):8.2f}   ({min(values):.2f} to {max(values):.2f})")
    good = max(found["lab up, in sync (s)"]) < LIMIT_SECONDS and max(found["memory (MiB)"]) < LIMIT_MIB
    print(f"  {'pass' if good else 'FAIL'}: up in under {LIMIT_SECONDS:.0f} s and {LIMIT_MIB:.0f} MiB, every time")
    sys.exit(not good)


if __name__ == "__main__":
    main()
