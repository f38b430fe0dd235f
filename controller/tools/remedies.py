"""Edits of a topology that may let a packet through where it cannot go: security groups, and who may say what.

Each stage of a packet's way proposes edits only while it seems to be in the way; together they follow the way from the
sender to the answer. What they propose is tried by `whynot`.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from controller.model.amending import Append, Edit, Put
from controller.model.topology import Address, Port
from controller.tools.case import Case
from flows import fields as f

RULE, ROUTE, GATEWAY, INTERFACE, PAIR, ATTACHMENT, FLOATING = (
    "rule", "route", "gateway", "interface", "pair", "attachment", "floating-ip")
_PROTOCOLS: Final = {f.TCP: "tcp", f.UDP: "udp"}
_GROUPS: Final = 2  # of a port's groups that are offered a rule


@dataclass(frozen=True)
class Remedy:
    """Something that a person could change, as one thing."""

    kind: str
    what: str  # a clause without its full stop: `let tcp 5432 from 10.0.2.11 into group db`
    edits: tuple[Edit, ...]
    joins: bool = False  # it brings networks together that nothing joined
    source: str = ""  # who asks from then on, if it is another port
    target: str = ""  # who is asked from then on, if it is another address


def port_path(case: Case, port: Port) -> tuple[str | int, ...]:
    """Where a port stands in the file."""
    listed = isinstance(case.raw["vms"][port.vm], dict) and "ports" in case.raw["vms"][port.vm]
    return ("vms", port.vm, "ports", port.index) if listed else ("vms", port.vm)


# ---- security groups

def out_of_the_groups(case: Case) -> list[Remedy]:
    """Rules that would let the source begin."""
    outside = (internet.address for internet in case.world.internets.values())
    address: Address | None = case.asked or next(outside, None)
    if address is None or address.version != case.source.ip.version:
        return []
    if case.topology.filters.leaves(case.source, case.begins(case.source.ip, address)).passes:
        return []
    remotes = _remotes(case, case.hearer if case.floating is None else None, address)
    return [_rule(case, "egress", group, remote) for group in _groups(case, case.source) for remote in remotes]


def into_the_groups(case: Case) -> list[Remedy]:
    """Rules that would let the packet in, or groups of the source's that would."""
    hearer, seen = case.hearer, case.seen_as()
    if hearer is None or hearer.ip.version != seen.version:
        return []
    if case.topology.filters.enters(hearer, case.begins(seen, hearer.ip)).passes:
        return []
    inside = case.source if seen == case.source.ip else None
    rules = [_rule(case, "ingress", group, remote) for group in _groups(case, hearer)
             for remote in _remotes(case, inside, seen)]
    return [*rules, *_memberships(case, hearer)] if inside else rules


def _groups(case: Case, port: Port) -> list[str]:
    """A port's groups, those that fewest others obey first."""
    obeyed = {name: sum(name in one.security_groups for one in case.topology.ports()) for name in port.security_groups}
    return sorted(obeyed, key=lambda name: obeyed[name])[:_GROUPS]


def _remotes(case: Case, other: Port | None, address: Address) -> list[tuple[str, str]]:
    """Who a rule may name: the one address; a group that the other end is in."""
    groups = other.security_groups if other is not None and case.topology.firewall != "none" else ()
    return [("remote", str(address)), *(("remote_group", name) for name in groups)]


def _rule(case: Case, direction: str, group: str, remote: tuple[str, str]) -> Remedy:
    service, rule = case.service, {"direction": direction}
    if case.source.ip.version == 6:
        rule["ethertype"] = "IPv6"
    rule["protocol"] = _PROTOCOLS.get(service.protocol, "icmp")
    at = {"port": service.port} if service.port is not None else {}
    made: dict[str, Any] = {**rule, **at, remote[0]: remote[1]}
    given = case.raw["security_groups"][group]
    path = ("security_groups", group, *(("rules",) if isinstance(given, dict) else ()))
    what = rule["protocol"] if service.port is None else f"{rule['protocol']} {service.port}"
    who = f"group {remote[1]}" if remote[0] == "remote_group" else remote[1]
    words = f"let {what} from {who} into group {group}" if direction == "ingress" else \
        f"let group {group} begin {what} with {who}"
    return Remedy(RULE, words, (Append(path, made),))


def _memberships(case: Case, hearer: Port) -> Iterator[Remedy]:
    """Groups that the hearer's rules let in already: the source may join one."""
    datagram = case.begins(case.source.ip, hearer.ip)
    for rule in case.topology.filters.rules(hearer):
        name, anybody = rule.rule.remote_group, replace(rule, members=None, rule=replace(rule.rule, remote_group=None))
        if name and not rule.by_vm and name not in case.source.security_groups and anybody.allows(datagram):
            path = (*port_path(case, case.source), "security_groups")
            alone = "" if case.source.security_groups else f" (from then on only what {name} allows reaches it)"
            yield Remedy(ATTACHMENT, f"put {case.source.name} into group {name}, which {rule.group} lets in{alone}",
                         (Append(path, name),))


# ---- what helps without an edit

def otherwise(case: Case) -> list[Remedy]:
    """Other addresses of who is asked, and other cards of who asks."""
    found = [Remedy(ATTACHMENT, f"ask from {card.name}, another port of {card.vm}", (), source=card.name)
             for card in case.topology.vms[case.source.vm].ports if card != case.source]
    if case.hearer is not None and case.floating is None:
        found += [Remedy(FLOATING, f"ask {one.address}, the floating IP of {case.hearer.name}", (),
                         target=str(one.address))
                  for one in case.topology.floating_ips if case.topology.fixed_port(one) == case.hearer]
    return found


# ---- port security

def by_another_card(case: Case) -> list[Remedy]:
    """Pairs that let a VM answer by the card that leads to the asker with the address of the card that was asked."""
    hearer = case.hearer
    if hearer is None or case.floating is not None:
        return []
    cards = case.topology.vms[hearer.vm].ports
    near = [card for card in cards if case.source.ip in case.subnet(card).cidr]
    card = max(near, key=lambda one: case.subnet(one).cidr.prefixlen, default=None) \
        or case.world.default_cards.get(hearer.vm, hearer)
    known = any(pair.mac == card.mac and hearer.ip in pair.ip for pair in card.allowed_address_pairs)
    if card == hearer or not card.port_security or known:
        return []
    path = port_path(case, card)
    return [Remedy(PAIR, f"let {card.name}, by which {hearer.vm} answers, say that it is {hearer.ip}",
                   (Append((*path, "allowed_address_pairs"), {"ip": str(hearer.ip)}),)),
            Remedy(PAIR, f"switch port security of {card.name} off, by which {hearer.vm} answers as {hearer.ip}",
                   (Put((*path, "port_security"), False),))]
