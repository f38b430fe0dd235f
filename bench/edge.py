#!/usr/bin/env python3
"""`make bench`: what security groups cost a TCP connection, by either firewall driver, beside VMs that list none.

One lab for each driver; iperf3 from one VM to another, on the same host and on another one. Every round takes every way
once, so that what else happens on the machine happens to all. Needs root; writes bench/edge.json and prints a table.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from labs import ROOT, TUNBRIDGE, daemon, environment, machine, timed

PROMISE = 0.9  # of the rate without groups, on the openvswitch driver
DRIVERS = ("openvswitch", "iptables_hybrid")
SECONDS = 3
PATIENCE = 20.0  # seconds until a server listens

# Both ends of a filtered way have the same groups, some with rules that the connection has nothing to do with.
CLOUD = """
cloud: bench
underlay: {{cidr: 192.0.2.0/24}}
firewall: {firewall}
hosts:
  compute1: {{tunnel_ip: 192.0.2.11}}
  compute2: {{tunnel_ip: 192.0.2.12}}
networks:
  blue: {{tunnel_id: 1001, subnets: {{blue-subnet: {{cidr: 10.0.1.0/24}}}}}}
security_groups:
  web:
    - {{direction: ingress, protocol: tcp, port: "80-443", remote: 0.0.0.0/0}}
    - {{direction: ingress, protocol: icmp}}
    - {{direction: egress, protocol: any}}
  iperf:
    - {{direction: ingress, protocol: tcp, port: 5201, remote_group: iperf}}
    - {{direction: ingress, protocol: udp, port: "5000-6000", remote: 10.0.0.0/8}}
vms:
  bare1: {{host: compute1, network: blue, ip: 10.0.1.11}}
  bare2: {{host: compute1, network: blue, ip: 10.0.1.12}}
  bare3: {{host: compute2, network: blue, ip: 10.0.1.13}}
  web1: {{host: compute1, network: blue, ip: 10.0.1.21, security_groups: [web, iperf]}}
  web2: {{host: compute1, network: blue, ip: 10.0.1.22, security_groups: [web, iperf]}}
  web3: {{host: compute2, network: blue, ip: 10.0.1.23, security_groups: [web, iperf]}}
"""


@dataclass(frozen=True)
class Way:
    """From a VM to another and its address."""

    where: str
    filtered: bool
    source: str
    target: str
    address: str


WAYS = (Way("same host", False, "bare1", "bare2", "10.0.1.12"), Way("same host", True, "web1", "web2", "10.0.1.22"),
        Way("other host", False, "bare1", "bare3", "10.0.1.13"), Way("other host", True, "web1", "web3", "10.0.1.23"))
Rates = dict[Way, list[float]]  # bits per second of each round


def iperf(where: Path, node: str, *arguments: str) -> subprocess.Popen[str]:
    """One end of a stream, in a VM."""
    return subprocess.Popen([*TUNBRIDGE, "lab", "exec", node, "--", "iperf3", *arguments], env=environment(where),
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def stream(where: Path, way: Way) -> float:
    """Bits per second that one TCP connection brings to its receiver, after its slow start."""
    server = iperf(where, way.target, "-s", "-1", "--forceflush")
    assert server.stdout
    deadline = time.monotonic() + PATIENCE
    while "listening" not in server.stdout.readline():
        if time.monotonic() > deadline or server.poll() is not None:
            sys.exit(f"iperf3 does not listen in {way.target}")
    client = iperf(where, way.source, "-c", way.address, "-t", str(SECONDS), "-O", "1", "-J")
    said, _ = client.communicate(timeout=60)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.communicate(timeout=10)
    server.kill()
    found = json.loads(said)
    if "error" in found:
        sys.exit(f"iperf3 from {way.source} to {way.target}: {found['error']}")
    return float(found["end"]["sum_received"]["bits_per_second"])


def measure(firewall: str, rounds: int) -> Rates:
    """All rates on one driver."""
    rates: Rates = {way: [] for way in WAYS}
    with daemon(CLOUD.format(firewall=firewall)) as where:
        try:
            timed(where, "lab", "up", str(where / "topology.yaml"))
            for way in WAYS:  # ARP and learning are over before anything is measured
                timed(where, "lab", "exec", way.source, "--", "ping", "-n", "-c", "2", "-i", "0.2", way.address)
            for number in range(rounds):
                for way in WAYS:
                    rates[way].append(stream(where, way))
                print(f"{firewall}: round {number + 1} of {rounds}", file=sys.stderr)
        finally:
            timed(where, "lab", "down")
    return rates


def ratio(rates: Rates, where: str) -> float:
    """How much of the unfiltered rate is left with groups."""
    filtered, bare = (statistics.median(rates[way]) for which in (True, False) for way in WAYS
                      if (way.where, way.filtered) == (where, which))
    return filtered / bare


def main() -> None:
    """Medians of several rounds, as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    found = {firewall: measure(firewall, rounds) for firewall in DRIVERS}
    rounded = {firewall: {f"{way.where}, {'groups' if way.filtered else 'no groups'}": [round(one) for one in values]
                          for way, values in rates.items()} for firewall, rates in found.items()}
    results = {"machine": machine(), "unit": "bit/s", "rounds": rounded}
    (ROOT / "bench" / "edge.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"one TCP connection, Mbit/s; {machine()['cores']} cores; medians of {rounds} (min to max)")
    for firewall, rates in rounded.items():
        for way, values in rates.items():
            mbit = [value / 1e6 for value in values]
            print(f"  {firewall:<16} {way:<22} {statistics.median(mbit):8.0f}   ({min(mbit):.0f} to {max(mbit):.0f})")
    kept = True
    for firewall, measured in found.items():
        for where in ("same host", "other host"):
            share = ratio(measured, where)
            promised = firewall == "openvswitch"
            good = share >= PROMISE
            kept &= good or not promised
            verdict = ("pass" if good else "FAIL") if promised else "info"
            print(f"  {verdict}: {firewall}, {where}: {share:.2f} of the rate without groups")
    sys.exit(not kept)


if __name__ == "__main__":
    main()
