#!/usr/bin/env python3
"""`make bench`: how long a lab takes, and how much memory. Needs root; writes bench/results.json and prints a table.

The cloud has 20 hypervisors, 100 VMs and 8 networks unless options say otherwise. Every run is a new
daemon and a new lab in a run directory of its own.
"""
from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from labs import ROOT, daemon, machine, timed
from sizes import cloud

LIMIT_SECONDS, LIMIT_MIB = 90.0, 4096.0


def used_mib() -> float:
    """Memory in use on the whole machine (proc_meminfo(5): MemTotal - MemAvailable)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    values = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines)}
    return (values["MemTotal"] - values["MemAvailable"]) / 1024


def once(hosts: int, vms: int, networks: int) -> dict[str, float]:
    """One lab from nothing to nothing."""
    before = used_mib()
    with daemon(cloud(hosts, vms, networks)) as where:
        file = str(where / "topology.yaml")
        try:
            up, _ = timed(where, "lab", "up", file)
            memory = used_mib() - before
            reach, answer = timed(where, "lab", "reach", "--json")
            assert json.loads(answer)["ok"]
            sampled, _ = timed(where, "lab", "reach", "--sample", "500", "--json")
        finally:
            down, _ = timed(where, "lab", "down")
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
    size = {"hypervisors": asked.hosts, "vms": asked.vms, "networks": asked.networks}
    results = {"machine": machine(), **size, "runs": found}
    (ROOT / "bench" / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"{asked.hosts} hypervisors, {asked.vms} VMs, {asked.networks} networks; {machine()['cores']} cores; "
          f"medians of {asked.runs} (min to max)")
    for key, values in found.items():
        print(f"  {key:<24} {statistics.median(values):8.2f}   ({min(values):.2f} to {max(values):.2f})")
    good = max(found["lab up, in sync (s)"]) < LIMIT_SECONDS and max(found["memory (MiB)"]) < LIMIT_MIB
    print(f"  {'pass' if good else 'FAIL'}: up in under {LIMIT_SECONDS:.0f} s and {LIMIT_MIB:.0f} MiB, every time")
    sys.exit(not good)


if __name__ == "__main__":
    main()
