"""What is doubtful about security groups as a whole: rules that can never match, groups that nobody uses."""
from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final

from controller.model import protocols, providers
from controller.model.check_rules import ethertype_of
from controller.model.check_shadowing import is_obeyed
from controller.model.claims import pinned_ip
from controller.model.draft import Draft, Group, Item, PortItem
from controller.model.membership import components
from controller.model.problems import Finding, quoted
from controller.model.schema import RuleShape
from controller.model.topology import Prefix

# Addresses that no packet on a network comes from: multicast, loopback, broadcast (RFC 1122, 3.2.1.3; RFC 4291, 2.5 to
# 2.7); and those that none goes to. A DHCP client's first packet does come from 0.0.0.0.
_NO_SOURCE: Final = tuple(map(ip_network, ("127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "ff00::/8", "::1/128")))
_NO_DESTINATION: Final = tuple(map(ip_network, ("127.0.0.0/8", "0.0.0.0/8", "::1/128", "::/128")))


def warn_of_groups(draft: Draft) -> Iterator[Finding]:
    """Rules and groups that do nothing."""
    known = _all_known(draft, "vms")
    users = _Users(draft)
    for group in draft.groups.values():
        used = group.name in users.ports
        if known and not used and group.name not in users.named:
            message = f"security_groups.{quoted(group.name)[1:-1]}: no port lists this group, and no rule names it"
            yield Finding("TB613", group.node.place, message, "list it at a port, or remove it")
        for rule in group.rules:
            yield from _alone(draft, rule)
            if known and used:
                yield from _of_ports(users, group, rule)


def _all_known(draft: Draft, section: str) -> bool:
    declared = draft.declared[section]
    return declared is not None and len(declared) == len(getattr(draft, section))


class _Users:
    """Which ports list which group, and who is whose member."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.ports: dict[str, list[PortItem]] = {}
        for port in draft.ports:
            for group in port.shape.security_groups:
                self.ports.setdefault(group, []).append(port)
        self.named = {rule.shape.remote_group for group in draft.groups.values() for rule in group.rules}
        inside: dict[str, list[str]] = {}
        for leg in providers.live_legs(draft):
            if leg.subnet is not None and leg.network in draft.networks:
                inside.setdefault(leg.router, []).append(str(leg.network))
        self._spoken: dict[str, set[int]] = {}
        self._component = components(draft.networks, inside.values())
        self._members: dict[str, dict[str | None, set[int]]] = {}

    def component(self, port: PortItem) -> str | None:
        return self._component.get(port.shape.network)

    def members(self, group: str) -> dict[str | None, set[int]]:
        """Component -> the versions of IP that a group's members have there."""
        if group not in self._members:
            found: dict[str | None, set[int]] = {}
            for port in self.ports.get(group, ()):
                found.setdefault(self.component(port), set()).update(_versions(self.draft, port))
            self._members[group] = found
        return self._members[group]

    def speaks(self, group: str) -> set[int]:
        """The versions of IP of a group's ports; both if one of them may have any address."""
        if group not in self._spoken:
            free = not all(port.shape.port_security for port in self.ports[group])
            self._spoken[group] = {4, 6} if free else set().union(*self.members(group).values())
        return self._spoken[group]


def _versions(draft: Draft, port: PortItem) -> set[int]:
    """The versions of IP that a port may speak; if its address is not known yet, those of its network's subnets."""
    found = {pair.ip.version for pair in port.shape.allowed_address_pairs}
    address = pinned_ip(port)
    if address is not None:
        return found | {address.version}
    subnets = draft.subnets_by_network.get(port.shape.network, ())
    return found | ({subnet.shape.cidr.version for subnet in subnets} or {4, 6})


def _alone(draft: Draft, rule: Item[RuleShape]) -> Iterator[Finding]:
    """What is wrong with a rule, whoever obeys it."""
    shape = rule.shape
    version = 6 if ethertype_of(shape) == "IPv6" else 4
    if draft.options.get("firewall") == "openvswitch" and not is_obeyed(shape):
        message = f"{rule.path}: Open vSwitch does not know the ports of {shape.protocol}, so this rule allows nothing"
        yield Finding("TB618", rule.at("port"), message, "leave the ports out, or use firewall: iptables_hybrid")
    kinds = protocols.BEGINNINGS.get(protocols.protocol_number(shape.protocol, version) or 0)
    if kinds is not None and shape.icmp_type is not None and shape.icmp_type not in kinds:
        yield _never(rule, "icmp_type", f"no conversation begins with ICMP type {shape.icmp_type}",
                     "answers and errors pass with the conversation that they belong to")
    elif kinds is not None and shape.icmp_code:
        yield _never(rule, "icmp_code", f"no conversation begins with ICMP code {shape.icmp_code}",
                     "a question has code 0")
    if shape.remote is not None:
        nowhere, verb = (_NO_SOURCE, "comes from") if shape.direction == "ingress" else (_NO_DESTINATION, "goes to")
        if any(_within(shape.remote, wide) for wide in nowhere):
            yield _never(rule, "remote", f"no packet {verb} {shape.remote}", "name the other end of the conversation")


def _within(prefix: Prefix, wide: Prefix) -> bool:
    return prefix.version == wide.version and prefix.prefixlen >= wide.prefixlen and prefix.network_address in wide


def _of_ports(users: _Users, group: Group, rule: Item[RuleShape]) -> Iterator[Finding]:
    """What is wrong with a rule for the ports that obey it."""
    ports, version = users.ports[group.name], 6 if ethertype_of(rule.shape) == "IPv6" else 4
    if version not in users.speaks(group.name):
        yield _never(rule, "ethertype", f"no port of {quoted(group.name)} has an IPv{version} address",
                     "say the ethertype of the ports' addresses")
        return
    remote = rule.shape.remote_group
    if remote is None or remote not in users.draft.groups:
        return
    members = users.members(remote)
    if not any(version in members.get(users.component(port), ()) for port in ports):
        where = "" if not members else f" on a network that routers join with those of {quoted(group.name)}"
        yield _never(rule, "remote_group", f"no port with an IPv{version} address is in group {quoted(remote)}{where}",
                     "list the group at the ports that are meant")


def _never(rule: Item[RuleShape], key: str, why: str, hint: str) -> Finding:
    return Finding("TB611", rule.at(key), f"{rule.path}: this rule never matches: {why}", hint)
