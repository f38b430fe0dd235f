"""Where attacks take place: a running lab, its interfaces, a stranger on its underlay, and what changes meanwhile."""
from __future__ import annotations

import operator
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from controller.host import announce, hostile, netns
from controller.host.hostile import Place
from controller.model import names, reading, variation
from controller.model.topology import Port, Topology
from controller.tools import lab, leases
from controller.tools.attacks import FORGED
from controller.tools.client import ask, wait_for_status
from controller.tools.errors import BAD_INPUT, MISSING, NO, Refusal
from controller.tools.following import lab_follows
from controller.tools.rundir import Rundir
from flows.cookie import LEARNED_COOKIE

Json = dict[str, Any]
STRANGER: Final = "a stranger on the underlay"
_NEAR, _FAR = "stranger0", "stranger1"  # both ends of the stranger's wire
_KIND: Final = 0xFFFF << 48  # the bits of a cookie that say whose and what a flow is
_DEVICE_CHARS: Final = 15
_LEASES: Final = 15.0  # seconds for DHCP clients to have their addresses
_SYNC: Final = 20.0  # seconds for the switches to have what they shall
_PATIENCE: Final = 20.0  # seconds for a command in the lab
_ONCE: Final = 1000.0  # frames a second: all at once
_LOCKTIME: Final = 1.1  # seconds after which Linux believes another MAC (arp(7), locktime)
# A rule that changes nothing: nobody has that address (RFC 5737), and nobody that port.
_RULE: Final = {"direction": "ingress", "protocol": "tcp", "port": 65111, "remote": "203.0.113.250/32"}


@dataclass(frozen=True)
class Field:
    """A running lab, and the file it was built from, which the daemon obeys, too."""

    where: Rundir
    topology: Topology
    content: bytes
    source: str  # what the daemon calls its file

    @property
    def nodes(self) -> dict[str, lab.Node]:
        """What runs, by name."""
        return lab.state(self.where.path)

    def place(self, port: Port) -> Place:
        """A VM's card. Refusal if the lab does not have it."""
        node = self.nodes.get(port.vm)
        if node is None or not node.alive:
            raise Refusal(f"{port.vm} is not in the running lab; bring it up to date with: tunbridge lab up", MISSING)
        return Place(port.name, "vm", port.network, netns.of_process(node.pid), port.interface)

    def places(self) -> Iterator[Place]:
        """Every interface behind which somebody is: cards of VMs, of routers, of DHCP servers, and outside."""
        for port in self.topology.ports():
            yield self.place(port)
        nodes = self.nodes
        for router, legs in self.topology.legs_by_router.items():
            inside = _namespace(nodes, self.topology.routers[router].host,
                                names.qrouter(self.topology.routers[router].id))
            if inside is not None:
                yield from (Place(leg.name, "router", leg.network, inside, leg.device) for leg in legs)
        for network, server in self.topology.dhcp_by_network.items():
            inside = _namespace(nodes, server.host, names.qdhcp(self.topology.networks[network].id))
            if inside is not None:
                yield Place(server.name, "dhcp", network, inside, server.device)
        for node in nodes.values():
            if node.kind == "internet" and node.alive:
                yield Place("internet", "outside", "", netns.of_process(node.pid), "")

    def run(self, node: str, *command: str) -> str | None:
        """What a command prints in a node of the lab; None if it fails."""
        argv, environment = lab.exec_argv(self.where.path, node, command)
        try:
            done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=_PATIENCE,
                                  check=False, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return None if done.returncode else done.stdout

    def vlans(self, host: str) -> dict[str, int]:
        """Network -> local VLAN on a host, as the daemon says."""
        for switch in ask(self.where, {"do": "status"})["switches"]:
            if switch["host"] == host and switch["connected"]:
                return dict(switch["vlans"])
        raise Refusal(f"{host} is not connected to the daemon. `tunbridge status` says more.", MISSING)


def _namespace(nodes: dict[str, lab.Node], host: str, name: str) -> str | None:
    """The path of a namespace that a hypervisor has made; None if there is none."""
    node = nodes.get(host)
    path = Path(f"/proc/{node.pid}/root/run/netns/{name}") if node is not None and node.alive else None
    return str(path) if path is not None and path.exists() else None


def field(where: Rundir) -> Field:
    """The lab that runs and is whole. Refusal if none is, or if daemon and lab do not obey the same file."""
    kept = lab.topology_file(where.path)
    if not lab.state(where.path) or not kept.exists():
        raise Refusal(f"No lab runs at {where.path}: bring one up with `tunbridge lab up`.", MISSING)
    status = wait_for_status(where, _SYNC)
    if not status["ok"]:
        raise Refusal("Not every switch is in sync, so that nothing would be proven. `tunbridge status` says why.", NO)
    content = kept.read_bytes()
    found = reading.parse(content, str(kept))
    if found.topology is None:
        raise Refusal(f"{kept} is not valid any more; `tunbridge lab up` writes it anew.", BAD_INPUT)
    planned = ask(where, {"do": "plan", "text": content.decode("utf-8", "surrogateescape"), "source": str(kept)})
    if any(switch["add"] or switch["delete"] for switch in planned.get("switches", ())):
        raise Refusal("The daemon obeys another file than the one the lab was built from. `tunbridge apply FILE` "
                      "gives both the same.", NO)
    if without := leases.wait(found.topology, where.path, _LEASES):
        raise Refusal(f"{', '.join(without)} has no address yet. `tunbridge status` may say why its DHCP server does "
                      "not answer.", NO)
    return Field(where, found.topology, content, status["topology"])


# ---- a stranger

@contextmanager
def stranger(field_: Field) -> Iterator[Place]:
    """A machine on the lab's underlay, for as long as it is needed."""
    node = next((name for name, one in field_.nodes.items() if one.kind == "underlay"), None)
    if node is None:
        raise Refusal("The lab has no underlay; take it down and up again.", MISSING)
    field_.run(node, "ip", "link", "del", _NEAR)
    try:
        made = field_.run(node, "ip", "link", "add", _NEAR, "type", "veth", "peer", "name", _FAR)
        for words in ((_FAR, "master", node[:_DEVICE_CHARS]), (_FAR, "up"), (_NEAR, "up")):
            made = made if made is None else field_.run(node, "ip", "link", "set", "dev", *words)
        if made is None:
            raise Refusal("No stranger can be plugged into the lab's underlay; take the lab down and up again.",
                          MISSING)
        yield Place(STRANGER, "outside", "", netns.of_process(field_.nodes[node].pid), _NEAR)
    finally:
        field_.run(node, "ip", "link", "del", _NEAR)


# ---- what changes

def change_rules(field_: Field, group: str) -> None:
    """Add a rule that lets nobody in to a group, then take it away again; the daemon and the lab follow both times."""
    changed = variation.with_rule(field_.content, group, _RULE)
    try:
        _apply(field_, changed)
    finally:
        _apply(field_, field_.content)


def _apply(field_: Field, content: bytes) -> None:
    answer = ask(field_.where, {"do": "apply", "text": content.decode("utf-8", "surrogateescape"),
                                "source": field_.source, "filters": True})
    if not answer["ok"]:
        raise Refusal(f"{field_.source} cannot be changed for the attack; `tunbridge check` it.", BAD_INPUT)
    lab_follows(answer, content, field_.source, field_.where.path)
    _settled(field_)


def restart_switch(field_: Field, host: str) -> None:
    """Kill the ovs-vswitchd of a host and start it again; returns when the daemon has given it its flows."""
    lab.restart_vswitchd(field_.where.path, host)
    _settled(field_)


def _settled(field_: Field) -> None:
    status = wait_for_status(field_.where, _SYNC)
    if not status["ok"]:
        late = [f"{one['host']}/{one['bridge']}" for one in status["switches"] if not one["in_sync"]]
        raise Refusal(f"{', '.join(late)} did not come in sync again. `tunbridge status` says why.", NO)


# ---- afterwards

def forget(field_: Field, hosts: Iterable[str]) -> None:
    """Take what switches have learned of forged MACs away again."""
    for host in hosts:
        for bridge in ("br-int", "br-tun"):
            field_.run(host, "ovs-ofctl", "-O", "OpenFlow14", "del-flows", bridge,
                       f"cookie={LEARNED_COOKIE:#x}/{_KIND:#x},dl_dst={FORGED}:00:00:00/ff:ff:ff:00:00:00")


def mend(field_: Field, network: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """After lies that were believed: the VMs of a network forget who lives where, and then all of them say it."""
    ports = field_.topology.ports_by_network[network]
    for port in ports:
        field_.run(port.vm, "ip", "neigh", "flush", "dev", port.interface)
    for pause in (0.0, _LOCKTIME):
        sleep(pause)
        for port in ports:
            with hostile.mouth(field_.place(port)) as mouth:
                said = announce.frames(port.mac, str(port.ip))
                mouth.say(said, _ONCE, partial(operator.gt, len(said)))
