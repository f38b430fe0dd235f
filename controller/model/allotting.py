"""Addresses for the ports that the file gives none.

The search starts at a hash of the port's id and takes the next free address, ports in the order of their ids, around
the pools of the subnet (or all of it). Skipped are the subnet's own and broadcast addresses, its gateway, and what the
file gives to anything else. So a VM that is added or removed does not renumber the others, unless they collide.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from uuid import UUID

from controller.model import providers
from controller.model.claims import Homes, is_judged, pinned_ip
from controller.model.draft import Draft, SubnetItem
from controller.model.kinds import host_range
from controller.model.problems import Finding, quoted
from controller.model.topology import Address

_ANYCAST: Final = 128  # the last addresses of an IPv6 subnet are no host's (RFC 2526)


@dataclass(frozen=True)
class Allotment:
    """The addresses given out, and what could not be given."""

    addresses: Mapping[UUID, Address]  # by the id of the port
    servers: Mapping[str, Address]  # by the subnet whose DHCP server has it
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Wish:
    """A port that needs an address."""

    id: UUID
    network: str
    needs_dhcp: bool
    ipv4: bool = False  # nothing else will do


def allot(draft: Draft) -> Allotment:
    """An address for every DHCP server and every port without one, in networks whose subnets are known.

    Servers come first, each with the highest one that is free, so that a VM more does not move them.
    """
    spaces = {subnet.name: _Space(subnet) for subnet in draft.subnets.values()}
    homes = Homes(draft)
    for claim in homes.claims():
        if claim.subnet is not None and claim.subnet.name in spaces:
            spaces[claim.subnet.name].take(int(claim.what[1]))
    for network, mentioned in _mentioned(draft):
        home = homes.of(network, mentioned)
        if home is not None and home.name in spaces:
            spaces[home.name].take(int(mentioned))
    servers = {subnet.name: spaces[subnet.name].last() for subnet in providers.served(draft)}
    given: dict[UUID, Address] = {}
    short: dict[str, int] = {}
    for wish in sorted(_wishes(draft), key=lambda each: each.id):
        candidates = _candidates(draft.subnets_by_network[wish.network], wish)
        address = next((found for subnet in candidates if (found := spaces[subnet.name].next(wish.id))), None)
        if address is not None:
            given[wish.id] = address
        elif candidates:
            short[candidates[0].name] = short.get(candidates[0].name, 0) + 1
    unserved = [_unserved(draft.subnets[name]) for name, own in servers.items() if own is None]
    return Allotment(given, {name: own for name, own in servers.items() if own is not None},
                     (*_exhausted(draft, short), *unserved))


def _wishes(draft: Draft) -> Iterator[_Wish]:
    for port in draft.ports:
        if pinned_ip(port) is None and is_judged(draft, port.shape.network):
            yield _Wish(port.id, port.shape.network, port.shape.ip == "dhcp")
    for leg in draft.legs:
        if leg.subnet is None and leg.ip is None and leg.network is not None and is_judged(draft, leg.network):
            yield _Wish(leg.id, leg.network, needs_dhcp=False, ipv4=True)


def _mentioned(draft: Draft) -> Iterator[tuple[str, Address]]:
    """Addresses that belong to nobody of the file but mean somebody, by network: shared ones, and next hops."""
    for subnet in draft.subnets.values():
        yield from ((subnet.network, route.nexthop) for route in subnet.shape.host_routes)
    for leg in draft.legs:
        routes = draft.routers[leg.router].shape.routes if leg.network is not None else ()
        yield from ((str(leg.network), route.nexthop) for route in routes)
    for port in draft.ports:
        for pair in port.shape.allowed_address_pairs:
            if pair.ip.prefixlen == pair.ip.max_prefixlen:
                yield port.shape.network, pair.ip.network_address


def _candidates(subnets: Iterable[SubnetItem], wish: _Wish) -> list[SubnetItem]:
    """The first fitting subnet, and after it those of the same version of IP in case it is full."""
    fitting = [subnet for subnet in subnets if (subnet.shape.dhcp or not wish.needs_dhcp)
               and (subnet.shape.cidr.version == 4 or not wish.ipv4)]
    return [subnet for subnet in fitting if subnet.shape.cidr.version == fitting[0].shape.cidr.version]


def _exhausted(draft: Draft, short: Mapping[str, int]) -> Iterator[Finding]:
    for name, count in short.items():
        subnet = draft.subnets[name]
        message = f"{subnet.path}: {subnet.shape.cidr} has no free address for {count} of the ports that need one"
        hint = f"widen the subnet, or add another one to network {quoted(subnet.network)}"
        at = subnet.at("allocation_pools" if subnet.shape.allocation_pools else "cidr")
        yield Finding("TB401", at, message, hint)


def _unserved(subnet: SubnetItem) -> Finding:
    message = f"{subnet.path}: no address is free for the DHCP server, so nobody is served"
    return Finding("TB610", subnet.at("dhcp"), message, "widen the subnet or its pools, or remove the key")


class _Space:
    """The addresses of a subnet that can be given out, counted from 0 across its pools."""

    def __init__(self, subnet: SubnetItem) -> None:
        low, high = host_range(subnet.shape.cidr)
        pools = sorted((max(low, int(pool.start)), min(high, int(pool.end))) for pool in subnet.shape.allocation_pools)
        self._ranges = [pool for pool in pools if pool[0] <= pool[1]] or ([] if pools else [(low, high)])
        self._size = sum(last - first + 1 for first, last in self._ranges)
        self._kind = IPv4Address if subnet.shape.cidr.version == 4 else IPv6Address
        self._taken = 0
        self._next: dict[int, int] = {}  # a taken index -> one further on, possibly taken, too
        if subnet.shape.gateway is not None:
            self.take(int(subnet.shape.gateway))

    def take(self, address: int) -> None:
        """Give an address away, if it is one of ours and still free."""
        before = 0
        for first, last in self._ranges:
            if first <= address <= last:
                self._mark(before + address - first)
            before += last - first + 1

    def last(self) -> Address | None:
        """The highest free address; None if all are taken."""
        top = self._size - (_ANYCAST if self._kind is IPv6Address and self._size > _ANYCAST else 0)
        index = next((each for each in range(top - 1, -1, -1) if each not in self._next), None)
        return self._give(index) if index is not None else None

    def next(self, port_id: UUID) -> Address | None:
        """The first free address from the place that the port's id points to; None if all are taken."""
        if self._taken >= self._size:
            return None
        return self._give(self._free_from(port_id.int % self._size))

    def _give(self, index: int) -> Address:
        self._mark(index)
        for first, last in self._ranges:
            if index <= last - first:
                return self._kind(first + index)
            index -= last - first + 1
        raise IndexError("beyond the last pool")

    def _mark(self, index: int) -> None:
        if index not in self._next:
            self._next[index] = (index + 1) % self._size
            self._taken += 1

    def _free_from(self, index: int) -> int:
        """Follow the taken ones to a free one, and shorten the way for the next search (as union-find does)."""
        passed = []
        while index in self._next:
            passed.append(index)
            index = self._next[index]
        for step in passed:
            self._next[step] = index
        return index
