#!/usr/bin/env python3
"""A trace in a cloud of 1,000 hosts and 20,000 ports, once its file is read: from the topology to the printed lines.

Nothing is known of the topology when a trace begins: each run has a copy of its own. In process; no switch, no root.
"""
from __future__ import annotations

import time
from argparse import Namespace
from dataclasses import replace

import clouds
from reports import Report, finish, parser

from controller.model.topology import Topology
from controller.tools.trace import story, trace

SECONDS = 0.5
SIZES = ((100, 2000), (1000, 20_000))  # hosts, ports
SETTINGS = {"learning, hybrid firewall": {"forwarding": "learning", "firewall": "iptables_hybrid"},
            "l2population, openvswitch firewall": {"forwarding": "l2population", "firewall": "openvswitch"}}


def seconds(topology: Topology, target: str) -> float:
    """Of one trace and its story."""
    began = time.perf_counter()
    lines = list(story(trace(topology, "vm0", target)))
    assert len(lines) > 20, "it goes somewhere"
    return time.perf_counter() - began


def report(asked: Namespace) -> Report:
    """Figures, and whether the largest is quick enough."""
    made, slowest = Report("journeys"), 0.0
    for hosts, ports in SIZES:
        base = clouds.spread(hosts, ports)
        for words, settings in SETTINGS.items():
            for target in ("vm1", "broadcast"):
                runs = [seconds(replace(base, **settings), target) for _ in range(asked.runs)]
                one = made.add(f"{hosts:,} hosts, {words}, to {target}", "s", runs)
                slowest = one.median if hosts == max(SIZES)[0] and one.median > slowest else slowest
    made.promise(f"a trace on 1,000 hosts in {SECONDS} s", f"{slowest:.2f} s at most", slowest < SECONDS)
    return made


if __name__ == "__main__":
    finish(report, parser(__doc__).parse_args())
