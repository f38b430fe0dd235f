#!/usr/bin/env python3
"""TCP and 64-byte UDP between VMs on two hosts: the whole pipeline, beside four hand-written flows on the same bridges.

A lab of two hypervisors with `firewall: none`. In every other stream, table 0 of each hypervisor's bridges has four
more flows, of the highest priority, that lead from one port to the other and back: two on br-int, two on br-tun. TCP is
one connection, UDP one sender as fast as it can (`traffic.py`). Needs root.
"""
from __future__ import annotations

import os
import statistics
import subprocess
from argparse import Namespace
from pathlib import Path

import clouds
from labs import daemon, timed
from reports import Report, finish, parser, say
from routing import Way, stream

SHARE = 0.97
CLOUD = """
cloud: pipeline
underlay: {cidr: 192.0.2.0/24}
firewall: none
hosts:
  compute1: {tunnel_ip: 192.0.2.11}
  compute2: {tunnel_ip: 192.0.2.12}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24}}}
vms:
  blue1: {host: compute1, network: blue, ip: 10.0.1.11}
  blue2: {host: compute2, network: blue, ip: 10.0.1.12}
"""
WAY = Way("blue", "blue1", "blue2", "10.0.1.12")
KINDS = {"tcp": ("TCP", "Mbit/s", 1e6), "udp": ("64-byte UDP", "kpps", 1e3)}
COOKIE = "0xbe"
Rates = dict[tuple[str, bool], list[float]]  # kind, whether by hand -> per second


class Bridges:
    """Those of one hypervisor, and the four flows."""

    def __init__(self, where: Path, host: str, tap: str, tunnel: str) -> None:
        self._environment = {**os.environ, "OVS_RUNDIR": str(where / "lab" / host)}
        self._pairs = {"br-int": (tap, "patch-tun", ""), "br-tun": ("patch-int", tunnel, "set_field:1001->tun_id,")}

    def _ofctl(self, *words: str) -> None:
        subprocess.run(["ovs-ofctl", "-O", "OpenFlow14", *words], env=self._environment, check=True, timeout=20,
                       stdin=subprocess.DEVNULL)

    def by_hand(self, on: bool) -> None:
        """The four flows come, or go."""
        for bridge, (near, far, before) in self._pairs.items():
            if not on:
                self._ofctl("del-flows", bridge, f"cookie={COOKIE}/-1")
                continue
            for source, actions in ((near, f"{before}output:{far}"), (far, f"output:{near}")):
                self._ofctl("--names", "add-flow", bridge,
                            f"cookie={COOKIE},priority=65535,in_port={source},actions={actions}")


def measure(runs: int) -> Rates:
    """Every way once in every round, so that what else happens on the machine happens to both."""
    rates: Rates = {(kind, hand): [] for kind in KINDS for hand in (False, True)}
    topology = clouds.read(CLOUD)
    taps = {port.host: port.device for port in topology.ports()}
    with daemon(CLOUD) as where:
        try:
            timed(where, "lab", "up", str(where / "topology.yaml"))
            timed(where, "lab", "exec", WAY.source, "--", "ping", "-n", "-c", "2", "-i", "0.2", WAY.address)
            hosts = [Bridges(where, "compute1", taps["compute1"], "vxlan-c000020c"),
                     Bridges(where, "compute2", taps["compute2"], "vxlan-c000020b")]
            for number in range(runs):
                for hand in (False, True) if number % 2 else (True, False):
                    for one in hosts:
                        one.by_hand(hand)
                    for kind in KINDS:
                        rates[kind, hand].append(stream(where, WAY, kind)[0])
                say(f"  run {number + 1} of {runs}: " + ", ".join(
                    f"{kind} {'by hand' if hand else 'ours'} {values[-1] / KINDS[kind][2]:.1f}"
                    for (kind, hand), values in rates.items()))
        finally:
            timed(where, "lab", "down")
    return rates


def report(asked: Namespace) -> Report:
    """Figures and verdicts."""
    rates, made = measure(asked.runs), Report("the pipeline, between two hosts")
    for kind, (title, unit, scale) in KINDS.items():
        ours, theirs = (made.add(f"{title}, {words}", unit, [rate / scale for rate in rates[kind, hand]])
                        for hand, words in ((False, "whole pipeline"), (True, "four hand-written flows")))
        pairs = [mine / other for mine, other in zip(ours.runs, theirs.runs, strict=True)]
        share = ours.median / theirs.median
        made.promise(f"{title}: at least {SHARE} of four hand-written flows",
                     f"{share:.2f} (round by round {statistics.median(pairs):.2f})", share >= SHARE)
    return made


if __name__ == "__main__":
    options = parser(__doc__)
    options.set_defaults(runs=9)
    finish(report, options.parse_args())
