"""Addresses that more than one may use: one has it, and an allowed address pair lets another one have it, too."""
from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple
from uuid import UUID


class Holder(NamedTuple):
    """Who has an address, and the MAC that goes with it."""

    address: IPv4Address | IPv6Address
    mac: str
    id: UUID


class Grant(NamedTuple):
    """What an address pair allows a port."""

    prefix: IPv4Network | IPv6Network
    mac: str
    id: UUID


def contested(holders: Iterable[Holder], grants: Iterable[Grant]) -> frozenset[IPv4Address | IPv6Address]:
    """The addresses of holders that a grant gives to somebody else, or to another MAC."""
    allowed: dict[tuple[int, int], dict[int, set[tuple[UUID, str]]]] = {}  # version, bits that do not count -> bits
    for prefix, mac, port in grants:
        shift = prefix.max_prefixlen - prefix.prefixlen
        starts = allowed.setdefault((prefix.version, shift), {})
        starts.setdefault(int(prefix.network_address) >> shift, set()).add((port, mac))
    found = set()
    for address, mac, own in holders if allowed else ():
        for (version, shift), starts in allowed.items():
            if version == address.version and starts.get(int(address) >> shift, set()) - {(own, mac)}:
                found.add(address)
    return frozenset(found)
