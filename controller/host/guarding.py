"""From a topology to the packet filter of one host, with the hybrid driver: who is guarded, and against whom."""
from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final
from uuid import uuid5

from controller.host import iptables
from controller.host.firewall import AddressSet, Firewall, Guarded
from controller.host.guards import Guard, Rule, spelled
from controller.model import placement
from controller.model.filtering import Resolved
from controller.model.topology import Port, Topology

_SET_CHARS: Final = 31  # IPSET_MAXNAMELEN without its final zero


def firewall(topology: Topology, host: str) -> Firewall | None:
    """What shall stand in the kernel of a host; None if its driver is another, or no VM is there."""
    ports = topology.ports_by_host.get(host, ())
    if not (topology.has_qbr() and ports):
        return None
    sets = _SetNames(topology)
    guards = [guard(topology, port, sets) for port in ports]
    return Firewall(iptables.rules(guards, 4), iptables.rules(guards, 6), tuple(_sets(topology, ports, sets)),
                    tuple(map(_guarded, guards)))


class _SetNames:
    """Neutron's names for remote groups. Where a group's ports are on networks that no router joins, it means other
    ports on each of these, and only on the first of them it has that name.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._first: dict[str, str] = {}  # group -> the first of the networks that stand for its joined ones
        for network, ports in topology.ports_by_network.items():
            home = topology.filters.joined(network)[0]
            for group in {group for port in ports for group in port.security_groups}:
                self._first[group] = min(home, self._first.get(group, home))

    def name(self, group: str, network: str, version: int) -> str:
        """The name of the set of a group's addresses, as rules of ports on a network mean it."""
        id_, here = self._topology.security_groups[group].id, self._topology.filters.joined(network)[0]
        if here != self._first.get(group, here):
            id_ = uuid5(id_, here)
        return f"NIPv{version}{id_}"[:_SET_CHARS]


def guard(topology: Topology, port: Port, sets: _SetNames) -> Guard:
    """What must be known of a port to guard its tap."""
    filters = topology.filters
    profile = filters.profile(port)
    return Guard(
        name=f"port {port.name}", id=str(port.id), address=port.ip,
        identities=tuple((one.mac, one.addresses) for one in placement.identities(port)),
        zone=filters.numbers(port.host).zones[port.id] if profile is not None else None,
        rules=tuple(_rule(port, one, sets) for one in filters.rules(port) if one.obeyed),
        may_begin=profile is not None and profile.may_begin)


def _rule(port: Port, one: Resolved, sets: _SetNames) -> Rule:
    rule = one.rule
    group = sets.name(rule.remote_group, port.network, one.version) if rule.remote_group is not None else None
    return Rule(one.by_vm, one.version, one.protocol, rule.ports, rule.icmp_type, rule.icmp_code, rule.remote, group)


def _guarded(one: Guard) -> Guarded:
    return Guarded(one.key, one.name, one.tap, one.zone, _judge(one) if one.zone is not None else "")


def _judge(one: Guard) -> str:
    """As `sweep` reads it."""
    def listed(*, by_vm: bool) -> list[list[Any]]:
        return [[rule.version, rule.protocol, rule.ports, rule.icmp_type, rule.icmp_code,
                 str(rule.remote) if rule.remote is not None else None, rule.group]
                for rule in dict.fromkeys(one.rules) if rule.by_vm == by_vm]
    verdicts = {"to": [str(one.address)], "in": listed(by_vm=False),
                "out": None if one.may_begin else listed(by_vm=True)}
    return json.dumps(verdicts, separators=(",", ":"))


def _sets(topology: Topology, ports: Iterable[Port], sets: _SetNames) -> Iterator[AddressSet]:
    """Each once: the remote groups of these ports, as seen from their networks."""
    named = {(sets.name(group, port.network, one.version), one.version): (group, port.network)
             for port in ports for one in topology.filters.rules(port)
             if one.obeyed and (group := one.rule.remote_group) is not None}
    for (name, version), (group, network) in sorted(named.items()):
        members = (each for each in topology.filters.members(group, network) if each.version == version)
        yield AddressSet(name, version, tuple(sorted(map(spelled, members))))
