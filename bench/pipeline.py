#!/usr/bin/env python3
"""TCP and 64-byte UDP between VMs on two hosts: the whole pipeline, beside four hand-written flows on the same bridges.

A lab of two hypervisors with `firewall: none`. In every other stream, table 0 of each hypervisor's bridges has four
more flows, of the highest priority, that lead from one port to the other and back: two on br-int, two on br-tun. TCP is
one connection, UDP one sender as fast as it can (`traffic.py`).

The rate of TCP between two hosts on two processors goes up and down by half, for minutes. So streams are short, each
round has ours, theirs, theirs and ours again, and its share is that of these four; and beside the rates stands what
does not depend on them: the processor time of the two switches for each megabyte or packet, and whether their datapaths
do the same with each packet. Caches are emptied whenever the flows change. Needs root.
"""
from __future__ import annotations

import os
import statistics
import subprocess
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import clouds
from daemons import cpu
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
SECONDS = 1.0  # of a stream
ABBA = (False, True, True, False)  # by hand


@dataclass(frozen=True)
class Stream:
    """Per second, and the seconds of processor time that the switches took for as many bits or packets."""

    rate: float
    cpu: float


Found = dict[tuple[str, bool], list[Stream]]  # kind, whether by hand


class Bridges:
    """Those of one hypervisor, and the four flows."""

    def __init__(self, where: Path, host: str, tap: str, tunnel: str) -> None:
        run = where / "lab" / host
        self._environment = {**os.environ, "OVS_RUNDIR": str(run)}
        self._pid = int((run / "ovs-vswitchd.pid").read_text())
        self._control = str(run / f"ovs-vswitchd.{self._pid}.ctl")
        self._pairs = {"br-int": (tap, "patch-tun", ""), "br-tun": ("patch-int", tunnel, "set_field:1001->tun_id,")}

    def _ofctl(self, *words: str) -> None:
        subprocess.run(["ovs-ofctl", "-O", "OpenFlow14", *words], env=self._environment, check=True, timeout=20,
                       stdin=subprocess.DEVNULL)

    def _appctl(self, *words: str) -> str:
        return subprocess.run(["ovs-appctl", "-t", self._control, *words], env=self._environment, check=True,
                              timeout=20, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout

    def cpu(self) -> float:
        """Seconds of processor time of the switch so far."""
        return cpu(self._pid)

    def actions(self) -> set[str]:
        """What its datapath does with what is cached, but for ARP: that is up to the VMs' neighbour tables."""
        return {line.partition("actions:")[2].partition(", dp-extra-info")[0]
                for line in self._appctl("dpctl/dump-flows").splitlines() if "actions:" in line and "arp(" not in line}

    def by_hand(self, on: bool) -> None:
        """The four flows come, or go, and nothing of before is cached."""
        for bridge, (near, far, before) in self._pairs.items():
            if not on:
                self._ofctl("del-flows", bridge, f"cookie={COOKIE}/-1")
                continue
            for source, actions in ((near, f"{before}output:{far}"), (far, f"output:{near}")):
                self._ofctl("--names", "add-flow", bridge,
                            f"cookie={COOKIE},priority=65535,in_port={source},actions={actions}")
        self._appctl("revalidator/purge")


def once(where: Path, kind: str, hosts: list[Bridges]) -> Stream:
    """One stream."""
    before, start = sum(one.cpu() for one in hosts), time.monotonic()
    rate = stream(where, WAY, kind, SECONDS)[0]
    busy = (sum(one.cpu() for one in hosts) - before) / (time.monotonic() - start)
    return Stream(rate, busy / rate)


def measure(runs: int) -> tuple[Found, dict[bool, set[str]]]:
    """All streams, and what the datapaths do with the packets of TCP."""
    found: Found = {(kind, hand): [] for kind in KINDS for hand in (False, True)}
    done: dict[bool, set[str]] = {False: set(), True: set()}
    topology = clouds.read(CLOUD)
    taps = {port.host: port.device for port in topology.ports()}
    with daemon(CLOUD) as where:
        try:
            timed(where, "lab", "up", str(where / "topology.yaml"))
            timed(where, "lab", "exec", WAY.source, "--", "ping", "-n", "-c", "2", "-i", "0.2", WAY.address)
            hosts = [Bridges(where, "compute1", taps["compute1"], "vxlan-c000020c"),
                     Bridges(where, "compute2", taps["compute2"], "vxlan-c000020b")]
            for number in range(runs):
                for hand in ABBA:
                    for one in hosts:
                        one.by_hand(hand)
                    for kind in KINDS:
                        found[kind, hand].append(once(where, kind, hosts))
                    done[hand] |= {action for one in hosts for action in one.actions()}
                say(f"  round {number + 1} of {runs}: " + ", ".join(
                    f"{kind} {'by hand' if hand else 'ours'} {values[-1].rate / KINDS[kind][2]:.1f}"
                    for (kind, hand), values in found.items()))
        finally:
            timed(where, "lab", "down")
    return found, done


def pairs(values: list[Stream]) -> list[float]:
    """The rate of both streams of each round."""
    return [(one.rate + other.rate) / 2 for one, other in zip(values[::2], values[1::2], strict=True)]


def report(asked: Namespace) -> Report:
    """Figures and verdicts."""
    (found, done), made = measure(asked.runs), Report("the pipeline, between two hosts")
    for kind, (title, unit, scale) in KINDS.items():
        ours, theirs = (made.add(f"{title}, {words}", unit, [rate / scale for rate in pairs(found[kind, hand])])
                        for hand, words in ((False, "whole pipeline"), (True, "four hand-written flows")))
        amount = "1 Mbit" if kind == "tcp" else "1,000 packets"
        work = [made.add(f"  processor time of the switches for {amount}, {who}", "ms",
                         [one.cpu * scale * 1e3 for one in found[kind, hand]])
                for hand, who in ((False, "ours"), (True, "by hand"))]
        shares = [mine / other for mine, other in zip(ours.runs, theirs.runs, strict=True)]
        share = statistics.median(shares)
        made.promise(f"{title}: at least {SHARE} of four hand-written flows",
                     f"{share:.2f} (rounds {min(shares):.2f} to {max(shares):.2f}; of the medians "
                     f"{ours.median / theirs.median:.2f}; processor time {work[0].median / work[1].median:.2f})",
                     share >= SHARE)
    same = "the same" if done[False] == done[True] else f"other things: {sorted(done[False] ^ done[True])}"
    made.notes.append(f"the datapaths do {same} with the packets of both")
    return made


if __name__ == "__main__":
    options = parser(__doc__)
    options.set_defaults(runs=9)
    finish(report, options.parse_args())
