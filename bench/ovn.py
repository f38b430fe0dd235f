#!/usr/bin/env python3
"""OVN's controller killed and started, default and tuned, beside ours with as many flows, a probe running at both.

One logical switch with 5,000 ports makes some 15,000 flows on a hypervisor's br-int. Tuned is `ovn-monitor-all=true`.
OVN is in sync when `ovn-nbctl --wait=hv sync` returns; ours when br-tun is (`reconcile.py`). Both are timed from the
start of the process and from the connection to the switch. Needs root; OVN is taken from Debian and installed nowhere.
"""
from __future__ import annotations

import statistics
import time
from argparse import Namespace
from datetime import datetime

import reconcile
from ovn_site import LOCAL, Site, Unavailable, address, site
from probing import Ends, probe
from reports import Report, finish, parser, say
from whole import Runs

SOONER = 5.0
PAUSE = 1.0  # seconds between kill and start


def restarted(here: Site) -> dict[str, float]:
    """ovn-controller is killed and started; seconds until it is in sync, and what the probe lost."""
    room = {name: ("ip", "netns", "exec", here.rooms[name]) for name in ("p1", "p2")}
    with probe(Ends(room["p1"], room["p2"], address(2))) as heard:
        here.kill()
        time.sleep(PAUSE)
        start = time.time()
        here.start()
        here.sync()
        end = time.time()
    found = {"s": end - connected(here), "from start": end - start, "lost": heard.lost, "gap": heard.gap}
    say("  " + ", ".join(f"{key} {value:.3f}" for key, value in found.items()))
    return found


def connected(here: Site) -> float:
    """When ovn-controller had its connection to the switch, by its log."""
    lines = (here.where / "ovn-controller.log").read_text().splitlines()
    line = next(line for line in lines if "br-int.mgmt: connected" in line)
    return datetime.fromisoformat(line.split("|")[0].replace("Z", "+00:00")).timestamp()


def plugged(here: Site, ports: int, runs: int) -> list[float]:
    """Milliseconds from a device's coming until OVN says that its flows are in."""
    found = []
    for number in range(ports + 1, ports + 1 + runs):
        here.nbctl("--wait=hv", *here.port(number)[1:])
        start = time.monotonic()
        here.plug(number, f"w{number}", "type=internal")
        here.vsctl("wait-until", "interface", f"w{number}", "external_ids:ovn-installed=true")
        found.append((time.monotonic() - start) * 1e3)
    return found


def measured(made: Report, asked: Namespace, *, tuned: bool) -> float:
    """One way to run OVN; the median of its times from connection to in sync."""
    name = "OVN, tuned" if tuned else "OVN, default"
    say(f"{name}: {asked.ports} ports")
    with site(asked.ports, tuned=tuned) as here:
        made.add(f"{name}: flows of br-int, {LOCAL} ports of {asked.ports} local", "", [here.flows()])
        tries = Runs[dict[str, float]]()
        # As ours are. With default settings a run takes more than a minute, and is not compared with anything.
        runs = [tries.take(name, lambda again: None, lambda: restarted(here)) if tuned else restarted(here)
                for _ in range(asked.runs)]
        bound = plugged(here, asked.ports, asked.plugs)
    made.add(f"{name}: restarted, connected to in sync", "s", [run["s"] for run in runs])
    made.add(f"{name}: restarted, start to in sync", "s", [run["from start"] for run in runs])
    made.add(f"{name}: packets lost by the probe", "packets", [run["lost"] for run in runs])
    made.add(f"{name}: longest gap", "ms", [run["gap"] for run in runs])
    made.add(f"{name}: a device comes until `ovn-installed`", "ms", bound)
    return statistics.median(run["s"] for run in runs)


def report(asked: Namespace) -> Report:
    """Figures and verdicts."""
    made = Report(f"OVN beside ours, {asked.flows:,} flows")
    ours = reconcile.measure(asked.flows, asked.runs, reconcile.Rounds.restart)[0]
    mine = made.add("tunbridge restarted, connected to in sync", "s", ours["restart s"])
    made.add("tunbridge restarted, start to in sync", "s", ours["restart from start"])
    made.add("tunbridge: packets lost by the probe", "packets", ours["restart lost"])
    made.add("tunbridge: longest gap", "ms", ours["restart gap"])
    words = f"restart with {asked.flows:,} flows in sync {SOONER:.0f} x sooner than tuned OVN"
    try:
        theirs = measured(made, asked, tuned=True)
        if not asked.tuned_only:
            measured(made, asked, tuned=False)
    except Unavailable as error:
        made.promise(words, str(error), None)
    else:
        made.promise(words, f"{theirs / mine.median:.1f} x", theirs >= SOONER * mine.median)
    return made


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--ports", type=int, default=5000)
    options.add_argument("--flows", type=int, default=15_000)
    options.add_argument("--plugs", type=int, default=20)
    options.add_argument("--tuned-only", action="store_true", help="the default restarts take a minute each")
    finish(report, options.parse_args())
