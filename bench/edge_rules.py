#!/usr/bin/env python3
"""How long a rule of a large security group takes, by either firewall driver, from the request until it holds.

`openvswitch`: until every switch has the flows; the daemon says so after each one's commit. `iptables_hybrid`: until
`tunbridge apply` ends, which has the lab follow, so that every hypervisor has the rules. Needs root; prints a table and
writes bench/edge_rules.json.
"""
from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

from labs import ROOT, ask, daemon, machine, timed

HOSTS = 4
WORK = ("added", "deleted", "forgotten")  # flow-mods
PATIENCE = 60.0  # seconds
PORTS = (80, 8080)  # the rule is now for one of them, now for the other


def cloud(firewall: str, members: int, port: int) -> str:
    """A group whose members are all on one network, named by rules of it."""
    lines = ["cloud: rules", "underlay: {cidr: 192.0.2.0/24}", f"firewall: {firewall}", "hosts:"]
    lines += [f"  host{n}: {{tunnel_ip: 192.0.2.{n + 1}}}" for n in range(HOSTS)]
    lines += ["networks:", "  blue: {tunnel_id: 1001, subnets: {blue: {cidr: 10.0.0.0/16}}}", "security_groups:",
              "  all:", f"    - {{direction: ingress, protocol: tcp, port: {port}, remote: 0.0.0.0/0}}",
              f"    - {{direction: ingress, protocol: udp, port: {port}, remote_group: all}}",
              "    - {direction: ingress, protocol: icmp, remote_group: all}", "vms:"]
    lines += [f"  vm{n}: {{host: host{n % HOSTS}, network: blue, ip: 10.0.{n // 250}.{n % 250 + 1}, "
              "security_groups: [all]}" for n in range(members)]
    return "\n".join(lines) + "\n"


def in_sync(where: Path) -> dict[str, int]:
    """Wait until all switches are, and return the work of all together since they connected."""
    deadline = time.monotonic() + PATIENCE
    while not (status := ask(where, {"do": "status"}))["ok"]:
        if time.monotonic() > deadline:
            sys.exit(f"not in sync: {status}")
        time.sleep(0.01)
    return {name: sum(switch["counters"][name] for switch in status["switches"]) for name in WORK}


def openvswitch(where: Path, members: int, number: int) -> dict[str, float]:
    """A rule, asked of the daemon, until all switches are in sync."""
    text = cloud("openvswitch", members, PORTS[(number + 1) % 2])
    before, start = in_sync(where), time.monotonic()
    answer = ask(where, {"do": "apply", "text": text, "source": "topology.yaml"})
    after = in_sync(where)
    seconds = time.monotonic() - start
    if not answer["ok"]:
        sys.exit(f"refused: {answer}")
    return {"rule (s)": seconds, "flow-mods of all switches": sum(after[one] - before[one] for one in WORK)}


def hybrid(where: Path, members: int, number: int) -> dict[str, float]:
    """A rule, by the whole command: it reads the file, asks the daemon, and converges the lab."""
    file = where / "topology.yaml"
    file.write_text(cloud("iptables_hybrid", members, PORTS[(number + 1) % 2]))
    before = _command(), _daemon(where)
    seconds, _ = timed(where, "apply", str(file))
    return {"rule, `apply` as a whole (s)": seconds, "  its processor time (s)": _command() - before[0],
            "  the daemon's (s)": _daemon(where) - before[1]}


def _command() -> float:
    """Processor time of all commands that have ended, with what they had started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _daemon(where: Path) -> float:
    """The daemon's own, with that of its copies that have ended (proc(5), stat: fields 14 to 17)."""
    pid = (where / "daemon.lock").read_text().strip()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def measure(firewall: str, members: int, rounds: int) -> dict[str, list[float]]:
    """What each round took, by what was measured."""
    one = openvswitch if firewall == "openvswitch" else hybrid
    with daemon(cloud(firewall, members, PORTS[0])) as where:
        try:
            up, _ = timed(where, "lab", "up", str(where / "topology.yaml"))
            print(f"{firewall}: {members} VMs are up after {up:.0f} s", file=sys.stderr)
            runs = [one(where, members, number) for number in range(rounds)]
        finally:
            timed(where, "lab", "down")
    return {key: [round(run[key], 3) for run in runs] for key in runs[0]}


def main() -> None:
    """Medians, as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--members", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--firewall", choices=("openvswitch", "iptables_hybrid"), action="append")
    asked = parser.parse_args()
    found = {firewall: measure(firewall, asked.members, asked.rounds)
             for firewall in asked.firewall or ("openvswitch", "iptables_hybrid")}
    results = {"machine": machine(), "members": asked.members, "hypervisors": HOSTS, "runs": found}
    (ROOT / "bench" / "edge_rules.json").write_text(json.dumps(results, indent=1) + "\n")
    for firewall, measured in found.items():
        for key, values in measured.items():
            print(f"  {firewall:<16} {key:<32} {statistics.median(values):8.3f}   "
                  f"({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
