#!/usr/bin/env python3
"""A port appears: how long until its first packet is delivered, on a hypervisor that carries 1,000 networks.

The hypervisor is hv1 of a lab; 10,000 VMs of its networks live elsewhere. 200 devices are plugged into br-int one after
the other, each with a VM behind it that speaks all the time, to a VM of its network on the same hypervisor. Each goes
again before the next one comes, so that there are a dozen ports; then the same with 200 that stay. The time
counts from when the switch says that it has the port, and once more from when its database does; between the two Open
vSwitch is at work alone. In between, the same is done with a device that the topology does not know: whoever hears of
it answers at once with one flow by hand, so that is what the switch itself needs. Needs root.
"""
from __future__ import annotations

import json
import statistics
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import clouds
from daemons import Daemon
from labs import ROOT, TUNBRIDGE, environment
from reports import Report, finish, parser, say
from stage import Stage, stage

from controller.model.topology import Topology

LIMIT = 20.0  # ms at the 99th percentile
RECEIVERS = 10  # networks on which ports appear
BY_HAND = 4  # of so many ports, one more is led by hand
Times = list[dict[str, Any]]  # of each port, in ms
PROBE = str(ROOT / "bench" / "plug_probe.py")


def cloud(networks: int, ports: int) -> Topology:
    """1,000 networks on hv1, ten VMs of each elsewhere; `ear` and `new` are the VMs that are plugged in."""
    base = clouds.crowd(networks * 10, networks)
    ears = [(f"ear{n}", "hv1", f"net{n}", "10.0.240.1", clouds.mac((1 << 22) + n)) for n in range(RECEIVERS)]
    new = [(f"new{n}", "hv1", f"net{n % RECEIVERS}", f"10.0.241.{n // RECEIVERS + 1}", clouds.mac((1 << 21) + n))
           for n in range(ports)]
    return replace(clouds.grown(base, [*ears, *new]), source="plug")


def described(topology: Topology, kind: str) -> list[dict[str, str]]:
    """For the probe."""
    found = [vm.ports[0] for name, vm in topology.vms.items() if name.startswith(kind)]
    return [{"device": port.device, "mac": port.mac, "ip": str(port.ip), "network": port.network} for port in found]


def beside(senders: list[dict[str, str]]) -> list[dict[str, str]]:
    """All of these, and one more again and again, which nobody knows."""
    stranger = {**senders[0], "device": "tbhand", "mac": clouds.mac((1 << 21) - 1), "by_hand": "yes"}
    return [one for number, sender in enumerate(senders, 1)
            for one in ([sender, stranger] if number % BY_HAND == 0 else [sender])]


def measure(here: Stage, topology: Topology, *, stay: bool) -> tuple[Times, Times]:
    """Every port's times, in ms, and of those that are led by hand."""
    daemon = Daemon(here.where, ("hv1",))
    daemon.start(clouds.kept(topology, here.where / "plug"))
    lab = here.where / "lab" / "hv1"
    argv = [*TUNBRIDGE, "lab", "exec", "hv1", "--", sys.executable, PROBE, str(lab / "db.sock"),
            str(lab / "br-int.mgmt")]
    try:
        for bridge in ("br-int", "br-tun"):
            daemon.first("in sync", switch=f"hv1/{bridge}")
        plan: dict[str, Any] = {"receivers": described(topology, "ear"), "senders": beside(described(topology, "new")),
                                "stay": stay}
        probe = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                 env=environment(here.where))
        assert probe.stdin and probe.stdout
        probe.stdin.write(json.dumps(plan) + "\n")
        probe.stdin.flush()
        if probe.stdout.readline() != "plugged\n":
            sys.exit("the probe in hv1 fails")
        for one in plan["receivers"]:
            daemon.first("ports", changed=one["device"])
        said, _ = probe.communicate("go\n", timeout=600)
        found: Times = json.loads(said)
        pairs = list(zip(found, plan["senders"], strict=True))
        return ([one | by_log(daemon, sender["device"], one) for one, sender in pairs if "by_hand" not in sender],
                [one for one, sender in pairs if "by_hand" in sender])
    finally:
        daemon.kill()


def by_log(daemon: Daemon, device: str, seen: dict[str, Any]) -> dict[str, float]:
    """How the daemon's log divides the time (ms): until it knows what to write, until that is in, and what is left.

    Both hear the switch's word, and whoever was not scheduled is late: the time counts from the first of the two.
    """
    known = max(one.at for one in daemon.wait(1, "ports", changed=device) if one.at <= seen["at"])
    done = next(one.at for one in daemon.events() if one.event == "in sync" and one.at >= known)
    return {"appeared": (seen["at"] - min(known, seen["told"])) * 1e3, "computed": (known - seen["told"]) * 1e3,
            "written": (done - known) * 1e3, "rest": (seen["at"] - done) * 1e3}


def percentile(values: Sequence[float]) -> float:
    """The 99th."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]


WORDS = {"appeared": "the switch has the port, until its first packet is delivered",
         "committed": "  the same from the database's word", "switch": "  of which Open vSwitch alone",
         "computed": "the daemon: until it knows what to write", "written": "  until the switch has it",
         "rest": "  until the first packet, from then"}


def report(asked: Namespace) -> Report:
    """Figures and verdicts."""
    say("the topology")
    topology = cloud(asked.networks, asked.ports)
    made = Report(f"a port appears on a hypervisor with {asked.networks:,} networks")
    few, many = "a dozen ports", f"up to {asked.ports} ports"
    with stage() as here:
        late = {among: told(made, among, *measure(here, topology, stay=among == many)) for among in (few, many)}
    made.promise(f"a port appears until its first packet, p99 of {asked.ports}, in {LIMIT:.0f} ms",
                 f"{late[few]:.1f} ms among {few}, {late[many]:.1f} ms among {many}", late[few] <= LIMIT)
    return made


def told(made: Report, among: str, found: Times, hand: Times) -> float:
    """Put the times into the report; the 99th percentile of those that count."""
    for key, what in WORDS.items():
        made.add(f"{what}; {among}", "ms", [one[key] for one in found])
    made.add(f"by hand: the switch has the port, until its first packet; {among}", "ms",
             [one["appeared"] for one in hand])
    late = {key: percentile([one[key] for one in found]) for key in WORDS}
    aside = [time for one in found for time in one["aside"]]
    if aside:
        made.add(f"put aside, as the machine's host took processors away meanwhile; {among}", "ms", aside)
    made.notes.append(f"{among}, at the 99th percentile: " + ", ".join(
        f"{WORDS[key].strip()} {value:.1f} ms" for key, value in late.items())
        + f", by hand {percentile([one['appeared'] for one in hand]):.1f} ms")
    return late["appeared"]


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--networks", type=int, default=1000)
    options.add_argument("--ports", type=int, default=200)
    finish(report, options.parse_args())
