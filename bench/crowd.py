#!/usr/bin/env python3
"""500 switches connect at once, 1,000 flows each: how long until all are in sync, and how much memory the daemon takes.

The switches are sockets (`fakes.py`), the br-int and br-tun of 250 hosts with `l2population`. Then the daemon is killed
and started: all connect again, with their flows in place. No root, no Open vSwitch.
"""
from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clouds
from daemons import Daemon
from labs import ROOT, environment
from reports import Report, finish, parser, say

from controller.model import placement
from controller.model.topology import Topology

SECONDS, MIB = 20.0, 1024.0
FAKES = str(ROOT / "bench" / "fakes.py")


def switches(topology: Topology) -> list[dict[str, Any]]:
    """Every bridge of every host, with all ports that it shall have."""
    found = []
    for host in topology.hosts.values():
        seen = placement.imagined(topology, host.name)
        found += [{"dpid": dpid, "ports": dict(seen.ports.get(bridge, {}))}
                  for bridge, dpid in host.datapath_ids.items()]
    return found


class Rack:
    """The process with the switches."""

    def __init__(self, where: Path, plan: list[dict[str, Any]]) -> None:
        self._process = subprocess.Popen([sys.executable, FAKES, str(where / "openflow.sock")], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True, env=environment(where))
        self._write(json.dumps(plan))

    def _write(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()

    def ready(self) -> None:
        """All have connected for the first time."""
        if self._read() != "ready\n":
            sys.exit("the fake switches have ended")

    def tell(self) -> list[dict[str, int]]:
        """What each has been sent since it connected, and holds."""
        self._write("")
        found: list[dict[str, int]] = json.loads(self._read())
        return found

    def end(self) -> None:
        """All hang up."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)


@contextlib.contextmanager
def rack(where: Path, plan: list[dict[str, Any]]) -> Iterator[Rack]:
    """Fake switches that go with the block."""
    made = Rack(where, plan)
    try:
        made.ready()
        yield made
    finally:
        made.end()


def in_sync(daemon: Daemon, count: int) -> dict[str, float]:
    """Seconds from the first connection until the last switch is in sync."""
    done = [one.at for one in daemon.wait(count, "in sync")]
    connected = [one.at for one in daemon.wait(count, "connected")]
    return {"s": max(done) - min(connected), "connected": max(connected) - min(connected),
            "memory": daemon.memory(), "cpu": daemon.cpu()}


def once(topology: Path, plan: list[dict[str, Any]]) -> dict[str, float]:
    """Cold, then restarted."""
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        daemon = Daemon(Path(name))
        daemon.start(topology)
        try:
            daemon.first("ready")
            with rack(Path(name), plan) as fakes:
                cold = in_sync(daemon, len(plan))
                held = fakes.tell()
                daemon.kill()
                daemon.start(topology)
                again = in_sync(daemon, len(plan))
                sent = sum(one.get("added", 0) + one.get("deleted", 0) for one in fakes.tell())
        finally:
            daemon.kill()
    least = min(one["flows"] for one in held)
    return {"cold": cold["s"], "flows": sum(one["flows"] for one in held), "least": least, "again": again["s"],
            "connected": cold["connected"], "cpu": cold["cpu"], "cpu again": again["cpu"],
            "memory": max(cold["memory"], again["memory"]), "sent": sent}


def report(asked: Namespace) -> Report:
    """Figures and verdicts."""
    topology = clouds.spread(asked.switches // 2, asked.switches * 21)
    plan = switches(topology)
    runs = []
    with tempfile.TemporaryDirectory() as name:
        file = clouds.kept(topology, Path(name) / "topology")
        for number in range(asked.runs):
            runs.append(once(file, plan))
            say(f"run {number + 1} of {asked.runs}: "
                + ", ".join(f"{key} {value:.2f}" for key, value in runs[-1].items()))
    made = Report(f"crowd: {len(plan)} fake switches")
    cold = made.add("all in sync, from the first connection", "s", [run["cold"] for run in runs])
    made.add("  of which until the last has connected", "s", [run["connected"] for run in runs])
    made.add("all in sync again after a restart, flows in place", "s", [run["again"] for run in runs])
    made.add("  processor time of the daemon, cold, since its start", "s", [run["cpu"] for run in runs])
    made.add("  and again", "s", [run["cpu again"] for run in runs])
    made.add("  flow-mods sent then", "", [run["sent"] for run in runs])
    made.add("flows of all together", "", [run["flows"] for run in runs])
    made.add("flows of the switch with the fewest", "", [run["least"] for run in runs])
    memory = made.add("memory of the daemon at most", "MiB", [run["memory"] for run in runs])
    made.promise(f"{len(plan)} switches of 1,000 flows in sync in {SECONDS:.0f} s", f"{cold.median:.1f} s",
                 cold.median <= SECONDS)
    made.promise(f"memory under {MIB:.0f} MiB", f"{max(memory.runs):.0f} MiB", max(memory.runs) < MIB)
    return made


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--switches", type=int, default=500)
    finish(report, options.parse_args())
