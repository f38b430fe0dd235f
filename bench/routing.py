#!/usr/bin/env python3
"""`make bench`: how fast packets are routed, by each driver of a router, beside the way without a router.

One lab; senders on compute1, receivers on compute2, both routers on network1. Every round takes every path once.
Needs root; writes bench/routing.json and prints a table.
"""
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labs import ROOT, TUNBRIDGE, daemon, environment, machine, timed

# Two tenants, alike but for the driver of their router. No firewall's bridge stands before the VMs: it would cost
# every path the same, and hide how the paths differ.
CLOUD = """
cloud: bench
underlay: {cidr: 192.0.2.0/24}
firewall: none
hosts:
  compute1: {tunnel_ip: 192.0.2.11}
  compute2: {tunnel_ip: 192.0.2.12}
  network1: {tunnel_ip: 192.0.2.21, role: network}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  blue-data: {tunnel_id: 1003, subnets: {blue-data-subnet: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
  green: {tunnel_id: 1002, subnets: {green-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  green-data: {tunnel_id: 1004, subnets: {green-data-subnet: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
  public: {external: true, subnets: {public-subnet: {cidr: 203.0.113.0/24, gateway: 203.0.113.1}}}
routers:
  r1:
    host: network1
    driver: simulated
    interfaces: [blue-subnet, blue-data-subnet]
    gateway: {network: public, ip: 203.0.113.10}
  r2:
    host: network1
    driver: namespace
    interfaces: [green-subnet, green-data-subnet]
    gateway: {network: public, ip: 203.0.113.20}
vms:
  blue1: {host: compute1, network: blue, ip: 10.0.1.11}
  blue2: {host: compute2, network: blue, ip: 10.0.1.12}
  store2: {host: compute2, network: blue-data, ip: 10.0.2.12}
  green1: {host: compute1, network: green, ip: 10.0.1.11}
  vault2: {host: compute2, network: green-data, ip: 10.0.2.12}
"""
INTERNET = "203.0.113.1"


@dataclass(frozen=True)
class Way:
    """From a VM to a node and the address it is called by."""

    name: str
    source: str
    target: str
    address: str


WAYS = (Way("unrouted", "blue1", "blue2", "10.0.1.12"),
        Way("routed, simulated", "blue1", "store2", "10.0.2.12"),
        Way("routed, namespace", "green1", "vault2", "10.0.2.12"),
        Way("SNAT, simulated", "blue1", "internet", INTERNET),
        Way("SNAT, namespace", "green1", "internet", INTERNET))
DRIVERS = ("simulated", "namespace")
KINDS = {"tcp": ("TCP", "Mbit/s", 1e6), "udp": ("64-byte UDP", "kpps", 1e3)}
SENT = "udp sent"
Samples = dict[str, dict[str, list[float]]]  # way -> kind -> a figure of each round
Counted = dict[str, int]


def start(where: Path, node: str, *arguments: str) -> subprocess.Popen[str]:
    """One end of a stream, in a node."""
    command = [*TUNBRIDGE, "lab", "exec", node, "--", sys.executable, str(ROOT / "bench" / "traffic.py"), *arguments]
    return subprocess.Popen(command, env=environment(where), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            text=True)


def stream(where: Path, way: Way, kind: str, seconds: float = 0) -> tuple[float, float]:
    """What came by this way and what was sent, per second: bits of TCP or packets of UDP; for so long, or as usual."""
    receiver = start(where, way.target, str(seconds), "receive", kind)
    assert receiver.stdout and receiver.stdout.readline() == "ready\n"
    sender = start(where, way.source, str(seconds), "send", kind, way.address)
    came, _ = receiver.communicate(timeout=60)
    sent, _ = sender.communicate(timeout=60)
    assert (receiver.returncode, sender.returncode) == (0, 0), f"{way.name}: a stream failed"
    return float(came), float(sent)


def told(where: Path) -> Counted:
    """How many packets the simulated router's flows gave to the daemon, and how many of them were for the router."""
    answer: list[dict[str, Any]] = json.loads(timed(where, "routers", "--json")[1])["routers"]
    counters = next(one["counters"] for one in answer if one["driver"] == "simulated")
    return {"came": counters["asked"], "for the router": counters["answered"]}


def measure(rounds: int) -> tuple[Samples, Counted]:
    """All figures, and what came to the controller while they were measured."""
    found: Samples = {way.name: {kind: [] for kind in (*KINDS, SENT)} for way in WAYS}
    with daemon(CLOUD) as where:
        try:
            timed(where, "lab", "up", str(where / "topology.yaml"))
            for way in WAYS:  # ARP and learning are over before anything is measured
                timed(where, "lab", "exec", way.source, "--", "ping", "-n", "-c", "2", "-i", "0.2", way.address)
            before = told(where)
            for number in range(rounds):
                for way in WAYS:
                    samples = found[way.name]
                    samples["tcp"].append(stream(where, way, "tcp")[0])
                    for what, value in zip(("udp", SENT), stream(where, way, "udp"), strict=True):
                        samples[what].append(value)
                print(f"round {number + 1} of {rounds}", file=sys.stderr)
            return found, {what: count - before[what] for what, count in told(where).items()}
        finally:
            timed(where, "lab", "down")


def table(found: Samples) -> list[str]:
    """The figures' medians, least and most."""
    lines = []
    for kind, (title, unit, scale) in KINDS.items():
        lines.append(f"  {title}")
        for way in WAYS:
            values = [value / scale for value in found[way.name][kind]]
            sent = f", {statistics.median(found[way.name][SENT]) / scale:.0f} sent" if kind == "udp" else ""
            lines.append(f"    {way.name:<20} {statistics.median(values):8.1f} {unit:<7}"
                         f" ({min(values):.1f} to {max(values):.1f}{sent})")
    return lines


def verdicts(found: Samples, came: Counted) -> list[tuple[bool, str]]:
    """What was promised, and whether it was kept."""
    own = came["for the router"]
    kept = [(came["came"] == own, f"{came['came'] - own} packets of the streams came to the controller "
             f"(and {own} for the router itself: its next hop's answers to ARP)")]
    for what in ("routed", "SNAT"):
        for kind, (title, _, _) in KINDS.items():
            ours, theirs = (statistics.median(found[f"{what}, {driver}"][kind]) for driver in DRIVERS)
            kept.append((ours >= theirs, f"{what}, {title}: simulated does {ours / theirs:.2f} times namespace's work"))
    return kept


def main() -> None:
    """Medians of several rounds, as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    asked_for = parser.parse_args()
    found, came = measure(asked_for.rounds)
    rounded = {way: {kind: [round(value) for value in values] for kind, values in kinds.items()}
               for way, kinds in found.items()}
    units = {"tcp": "bit/s", "udp": "packets/s", SENT: "packets/s"}
    results = {"machine": machine(), "units": units, "rounds": rounded, "to_controller": came}
    (ROOT / "bench" / "routing.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"between two hosts; {machine()['cores']} cores; medians of {asked_for.rounds} (min to max)")
    print("\n".join(table(found)))
    kept = verdicts(found, came)
    for good, sentence in kept:
        print(f"  {'pass' if good else 'FAIL'}: {sentence}")
    sys.exit(not all(good for good, _ in kept))


if __name__ == "__main__":
    main()
