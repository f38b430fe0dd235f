"""DHCP in the running lab: which VMs have their address by now, and which servers have died."""
from __future__ import annotations

import errno
import fcntl
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from controller.host import clients, dnsmasq, netns
from controller.host.lab import Card, LabPlan
from controller.model.topology import Port, Topology
from controller.tools.nodes import Node, in_force, state

PATIENCE: Final = 30.0  # seconds; a client asks every second, but the flows may come last
_PAUSE: Final = 0.05
_SIOCGIFADDR: Final = 0x8915  # linux/sockios.h
_IFREQ: Final = "16s24x"  # netdevice(7): the name, then room for the answer
_WITHOUT: Final = (errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO)


def wait(topology: Topology, rundir: Path, patience: float = PATIENCE) -> tuple[str, ...]:
    """Wait until every VM port with `ip: dhcp` has the address that the topology reserves for it; the names of those
    that have not, when patience ends. Empty: all have it. Needs root.
    """
    asking = tuple(port for port in topology.ports() if clients.asks(port))
    nodes = state(rundir) if asking else {}
    deadline = time.monotonic() + patience
    while asking := tuple(port for port in asking if not _has_lease(port, nodes)):
        if time.monotonic() >= deadline:
            break
        time.sleep(_PAUSE)
    return tuple(port.name for port in asking)


def _has_lease(port: Port, nodes: Mapping[str, Node]) -> bool:
    node = nodes.get(port.vm)
    return node is not None and node.alive and address_of(node.pid, port.interface) == str(port.ip)


def address_of(pid: int, interface: str) -> str | None:
    """The first IPv4 address of an interface, in the namespace of a process; None without one. Needs root."""
    request = struct.pack(_IFREQ, interface.encode())
    with netns.inside(netns.of_process(pid)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            answer = fcntl.ioctl(asker, _SIOCGIFADDR, request)
        except OSError as error:
            if error.errno in _WITHOUT:
                return None
            raise
    return socket.inet_ntoa(answer[20:24])


def without_server(plan: LabPlan, nodes: Mapping[str, Node]) -> set[tuple[str, str]]:
    """The (host, namespace) whose dnsmasq should run and does not."""
    return {(host, one.name) for host, have in plan.hypervisors.items() for one in have.namespaces
            if one.whole and one.dnsmasq is not None and not dnsmasq.runs(one.name, nodes[host].pid)}


def without_clients(plan: LabPlan, nodes: Mapping[str, Node]) -> LabPlan:
    """A plan as it stands: a card whose client has died does not ask."""
    def card(vm: str, one: Card) -> Card:
        return replace(one, dhcp=False) if one.dhcp and not clients.runs(one.interface, nodes[vm].pid) else one
    vms = {name: replace(vm, cards=tuple(card(name, one) for one in vm.cards)) for name, vm in plan.vms.items()}
    return replace(plan, vms=vms)


def dead(rundir: Path) -> list[dict[str, str]]:
    """What `status` has to say of servers that have died since the lab was last converged: host, object, problem."""
    plan, nodes = in_force(rundir), state(rundir)
    if plan is None or not nodes.keys() >= plan.hypervisors.keys():
        return []
    owners = {(host, one.name): one.owner for host, have in plan.hypervisors.items() for one in have.namespaces}
    return [{"host": host, "object": owners[host, name],
             "problem": "its dnsmasq has died; `tunbridge lab up` starts it again"}
            for host, name in sorted(without_server(plan, nodes))]
