"""Checks of the rules in security groups: each says one thing that a packet can be."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from controller.model.draft import Draft, Item
from controller.model.problems import Finding
from controller.model.schema import RuleShape

WITH_PORTS: Final = frozenset({"tcp", "udp", "sctp", "dccp", "udplite", 6, 17, 33, 132, 136})
ICMP: Final = frozenset({"icmp", "icmpv6", 1, 58})
# Protocols that exist in one version of IP only, by name and number.
ONLY_IN: Final = {"icmpv6": "IPv6", 58: "IPv6", "igmp": "IPv4", 2: "IPv4"}


def check_rules(draft: Draft) -> Iterator[Finding]:
    """Every rule of every group, alone."""
    for group in draft.groups.values():
        for rule in group.rules:
            yield from _protocol(rule)
            yield from _remote(rule)


def is_sound(rule: Item[RuleShape]) -> bool:
    """Whether nothing is wrong with it."""
    return not any((*_protocol(rule), *_remote(rule)))


def ethertype_of(rule: RuleShape) -> str:
    """What the rule says; else the version of its remote or protocol; else IPv4."""
    if rule.ethertype is not None:
        return rule.ethertype
    if rule.remote is not None:
        return f"IPv{rule.remote.version}"
    return ONLY_IN.get(rule.protocol, "IPv4") if rule.protocol is not None else "IPv4"


def _protocol(rule: Item[RuleShape]) -> Iterator[Finding]:
    shape = rule.shape
    if shape.port is not None and shape.protocol not in WITH_PORTS:
        what = "a rule for any protocol" if shape.protocol is None else f"the protocol {shape.protocol}"
        yield Finding("TB507", rule.at("port"), f"{rule.path}: {what} has no ports", "add protocol: tcp or udp")
    for key in ("icmp_type", "icmp_code"):
        if getattr(shape, key) is not None and shape.protocol not in ICMP:
            yield Finding("TB509", rule.at(key), f'{rule.path}: "{key}" is for ICMP only', "add protocol: icmp")
    if shape.icmp_code is not None and shape.icmp_type is None:
        yield Finding("TB509", rule.at("icmp_code"), f'{rule.path}: "icmp_code" needs "icmp_type"', "add icmp_type")


def _remote(rule: Item[RuleShape]) -> Iterator[Finding]:
    shape, ethertype = rule.shape, ethertype_of(rule.shape)
    if shape.remote is not None and shape.remote_group is not None:
        message = f'{rule.path}: "remote" and "remote_group" exclude each other'
        yield Finding("TB508", rule.at("remote_group"), message, "make two rules of it")
    if shape.remote is not None and f"IPv{shape.remote.version}" != ethertype:
        message = f"{rule.path}: the remote {shape.remote} is not of {ethertype}"
        yield Finding("TB510", rule.at("remote"), message, f"say ethertype: IPv{shape.remote.version}, or leave it out")
    needed = ONLY_IN.get(shape.protocol) if shape.protocol is not None else None
    if needed is not None and needed != ethertype:
        message = f"{rule.path}: the protocol {shape.protocol} is of {needed}, but the rule of {ethertype}"
        yield Finding("TB510", rule.at("protocol"), message, "make the two agree")
