"""Who is meant by a group that a rule names as its remote: its ports, as far as networks are joined."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from hashlib import blake2b
from ipaddress import ip_network

from controller.model.objects import Address, Port, Prefix


def _order(prefix: Prefix) -> tuple[int, int, int]:
    return prefix.version, int(prefix.network_address), prefix.prefixlen


class Members:
    """Prefixes of both versions of IP, each once and in order; asked with one look-up per length of prefix."""

    def __init__(self, prefixes: Iterable[Prefix]) -> None:
        self.prefixes: tuple[Prefix, ...] = tuple(sorted(set(prefixes), key=_order))
        self._starts: dict[tuple[int, int], set[int]] = {}  # version, bits that do not count -> the others
        for prefix in self.prefixes:
            shift = prefix.max_prefixlen - prefix.prefixlen
            self._starts.setdefault((prefix.version, shift), set()).add(int(prefix.network_address) >> shift)

    def __contains__(self, address: Address) -> bool:
        return any(version == address.version and int(address) >> shift in starts
                   for (version, shift), starts in self._starts.items())

    @cached_property
    def digest(self) -> bytes:
        """Equal members have equal ones, and others do not."""
        return blake2b(",".join(map(str, self.prefixes)).encode(), digest_size=16).digest()


NOBODY = Members(())


def addresses_of(port: Port) -> Iterator[Prefix]:
    """What a port may speak as, but for pairs that stand for everybody: a group is not opened to the world by one."""
    yield ip_network(port.ip)
    for pair in port.allowed_address_pairs:
        if pair.ip.prefixlen > 0:
            yield pair.ip


def members_by_group(ports: Iterable[Port], component: Mapping[str, str]) -> Mapping[tuple[str, str], Members]:
    """(group, the name of a component of networks) -> the group's members there; without members it is absent."""
    found: dict[tuple[str, str], list[Prefix]] = {}
    for port in ports:
        for group in port.security_groups:
            found.setdefault((group, component[port.network]), []).extend(addresses_of(port))
    return {key: Members(prefixes) for key, prefixes in found.items()}


def components(networks: Iterable[str], joined: Iterable[Iterable[str]]) -> dict[str, str]:
    """Network -> the first, by name, of those that it is joined with, itself included.

    `joined` holds the networks that each router is inside of. Its gateway joins nothing: outside is nobody's member.
    """
    parent = {name: name for name in networks}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for inside in map(list, joined):
        for other in inside[1:]:
            low, high = sorted((root(inside[0]), root(other)))
            parent[high] = low
    return {name: root(name) for name in parent}
