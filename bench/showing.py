#!/usr/bin/env python3
"""How soon `tunbridge flows` shows something of a bridge of 100,000 flows, and how long all of it takes.

The stage and the cloud are those of `reconcile.py`. Times are of the whole command, from its start: to the first
line of a flow, to the first lines that fill a screen, and once to the last. Needs root.
"""
from __future__ import annotations

import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import clouds
from daemons import Daemon
from labs import ROOT, environment
from reports import Report, finish, parser, say
from stage import stage

HOSTS = ("hv1", "hv2")
BRIDGE = "hv1/br-tun"
SCREEN = 50  # lines
WANTED = 1.0  # seconds to the first line


def shown(where: Path, whole: bool) -> tuple[float, float, float]:
    """Seconds to the first line of a flow, to a screen of lines, and to the end, which is cut short unless `whole`."""
    begin = time.monotonic()
    command = subprocess.Popen([sys.executable, "-m", "controller", "flows", BRIDGE], cwd=ROOT, env=environment(where),
                               stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert command.stdout
    times = []
    for number, line in enumerate(command.stdout):
        assert line or number
        if number in (2, SCREEN):  # behind the names of the bridge and of its first table
            times.append(time.monotonic() - begin)
        if len(times) == 2 and not whole:
            break
    command.stdout.close()
    command.wait()
    return times[0], times[1], time.monotonic() - begin


def report(asked: Namespace) -> Report:
    """Figures, and the verdict."""
    made = Report(f"flows of a bridge of {asked.flows:,} flows")
    with stage() as here:
        daemon = Daemon(here.where, HOSTS)
        try:
            daemon.start(clouds.kept(clouds.crowd(asked.flows), here.where / "cloud"))
            for host in HOSTS:
                for bridge in ("br-int", "br-tun"):
                    daemon.first("in sync", switch=f"{host}/{bridge}")
            times = []
            for number in range(asked.runs):
                times.append(shown(here.where, whole=False))
                say(f"  first line after {times[-1][0]:.2f} s, a screen after {times[-1][1]:.2f} s ({number + 1})")
            whole = shown(here.where, whole=True)[2]
        finally:
            daemon.kill()
    first = made.add("the first flow is printed", "s", [one[0] for one in times]).median
    made.add(f"{SCREEN} lines are printed", "s", [one[1] for one in times])
    made.add("all is printed", "s", [whole])
    made.promise(f"starts printing within {WANTED:.0f} s", f"{first:.2f} s", first < WANTED)
    return made


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--flows", type=int, default=100_000)
    finish(report, options.parse_args())
