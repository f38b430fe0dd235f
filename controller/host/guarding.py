"""From a topology to the packet filter of one host, with the hybrid driver: who is guarded, and against whom."""
from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
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
    meaning = Meaning(topology)
    guards = [guard(topology, port, meaning) for port in ports]
    return Firewall(iptables.rules(guards, 4), iptables.rules(guards, 6), meaning.sets(ports),
                    tuple(guarded(one) for one in guards))


class Meaning:
    """The groups of a topology in the terms of iptables and ipset.

    Remote groups have Neutron's names. Where a group's ports are on networks that no router joins, it means other
    ports on each of these, and only on the first of them it has that name.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._first: dict[str, str] = {}  # group -> the first of the networks that stand for its joined ones
        self._rules: dict[tuple[str, tuple[str, ...]], tuple[Rule, ...]] = {}
        self._sets: dict[tuple[str, int], AddressSet] = {}
        for network, ports in topology.ports_by_network.items():
            home = topology.filters.joined(network)[0]
            for group in {group for port in ports for group in port.security_groups}:
                self._first[group] = min(home, self._first.get(group, home))

    def rules(self, port: Port) -> tuple[Rule, ...]:
        """Those that a port obeys; they are the same for all ports of a network with the same groups."""
        same = port.network, port.security_groups
        if same not in self._rules:
            self._rules[same] = tuple(self._rule(port, one) for one in self._topology.filters.rules(port) if one.obeyed)
        return self._rules[same]

    def sets(self, ports: Iterable[Port]) -> tuple[AddressSet, ...]:
        """Each once: the remote groups of these ports, as seen from their networks."""
        alike = {(port.network, port.security_groups): port for port in ports}
        found = {(rule.group, rule.version) for port in alike.values() for rule in self.rules(port) if rule.group}
        return tuple(self._sets[key] for key in sorted(found))

    def _rule(self, port: Port, one: Resolved) -> Rule:
        rule, name = one.rule, None
        if rule.remote_group is not None:
            name = self._name(rule.remote_group, port.network, one.version)
            if (name, one.version) not in self._sets:
                members = (each for each in self._topology.filters.members(rule.remote_group, port.network)
                           if each.version == one.version)
                self._sets[name, one.version] = AddressSet(name, one.version, tuple(sorted(map(spelled, members))))
        return Rule(one.by_vm, one.version, one.protocol, rule.ports, rule.icmp_type, rule.icmp_code, rule.remote, name)

    def _name(self, group: str, network: str, version: int) -> str:
        id_, here = self._topology.security_groups[group].id, self._topology.filters.joined(network)[0]
        if here != self._first.get(group, here):
            id_ = uuid5(id_, here)
        return f"NIPv{version}{id_}"[:_SET_CHARS]


def guard(topology: Topology, port: Port, meaning: Meaning) -> Guard:
    """What must be known of a port to guard its tap."""
    filters = topology.filters
    profile = filters.profile(port)
    return Guard(
        name=f"port {port.name}", id=str(port.id), address=port.ip,
        identities=tuple((one.mac, one.addresses) for one in placement.identities(port)),
        zone=filters.numbers(port.host).zones[port.id] if profile is not None else None,
        rules=meaning.rules(port), may_begin=profile is not None and profile.may_begin)


def guarded(one: Guard) -> Guarded:
    """The same for whoever changes its rules."""
    return Guarded(one.key, one.name, one.tap, one.zone, _judge(one) if one.zone is not None else "")


def _judge(one: Guard) -> str:
    """As `sweep` reads it."""
    return (f'{{"to":{json.dumps([str(one.address)])},"in":{_listed(one.rules, False)},'
            f'"out":{"null" if one.may_begin else _listed(one.rules, True)}}}')


@lru_cache(maxsize=256)
def _listed(rules: tuple[Rule, ...], by_vm: bool) -> str:
    return json.dumps([[rule.version, rule.protocol, rule.ports, rule.icmp_type, rule.icmp_code,
                        str(rule.remote) if rule.remote is not None else None, rule.group]
                       for rule in dict.fromkeys(rules) if rule.by_vm == by_vm], separators=(",", ":"))
