"""Which ports nothing on a ping's way tells apart, so that one can stand for all of its kind."""
from __future__ import annotations

from collections.abc import Iterable, Iterator

from controller.model.filtering import Resolved
from controller.model.protocols import BEGINNINGS, ICMP, ICMPV6
from controller.model.topology import Address, Port, Prefix, Topology

Kind = tuple[object, ...]  # what ports have in common that nothing on a packet's way tells apart
_PINGS = {ICMP: 8, ICMPV6: 128}  # protocol -> type of an echo request
assert all(kind in BEGINNINGS[protocol] for protocol, kind in _PINGS.items())


class Kinds:
    """Sorts ports such that one of a kind can stand for all."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._routes = _Sorter((route.destination, str(route.destination)) for router in topology.routers.values()
                               for route in router.routes)
        self._nexthops = {route.nexthop for router in topology.routers.values() for route in router.routes}
        self._remotes = _Sorter(_remotes(topology))
        self._floating = {port.name: (router, self._routes(one.address), self._remotes(one.address))
                          for router, floating_ips in topology.floating_ips_by_router.items()
                          for one in reversed(floating_ips) if (port := topology.fixed_port(one)) is not None}

    def __call__(self, port: Port) -> Kind:
        alike = len(self._topology.vms[port.vm].ports) == 1 and port.ip not in self._nexthops
        profile = self._topology.filters.profile(port)
        return (port.subnet, alike or port.name, self._routes(port.ip), self._floating.get(port.name),
                profile and profile.id, self._remotes(port.ip))


class _Sorter:
    """Which of many prefixes, each with something said of it, hold an address: one look-up per prefix length."""

    def __init__(self, said: Iterable[tuple[Prefix, object]]) -> None:
        found: dict[tuple[int, int, int], dict[object, None]] = {}
        for prefix, what in said:
            shift = prefix.max_prefixlen - prefix.prefixlen
            found.setdefault((prefix.version, shift, int(prefix.network_address) >> shift), {})[what] = None
        numbers: dict[frozenset[object], int] = {}  # so that comparing two of many is comparing two numbers
        self._found = {key: numbers.setdefault(frozenset(each), len(numbers)) for key, each in found.items()}
        self._shifts = sorted({key[:2] for key in self._found})

    def __call__(self, address: Address) -> Kind:
        keys = ((version, shift, int(address) >> shift) for version, shift in self._shifts
                if version == address.version)
        return tuple(self._found[key] for key in keys if key in self._found)


def _remotes(topology: Topology) -> Iterator[tuple[Prefix, object]]:
    """The prefixes by which rules tell apart who pings, and who is pinged."""
    profiles = {profile.id: profile for port in topology.ports()
                if (profile := topology.filters.profile(port)) is not None}
    met: set[object] = set()
    for profile in profiles.values():
        for rule in profile.rules:
            if rule.members is not None and _is_of_pings(rule) and id(rule.members) not in met:
                met.add(id(rule.members))  # they live as long as the filters
                yield from ((prefix, id(rule.members)) for prefix in rule.members.prefixes)
            elif rule.rule.remote is not None and _is_of_pings(rule) and rule.rule.remote not in met:
                met.add(rule.rule.remote)
                yield rule.rule.remote, rule.rule.remote


def _is_of_pings(rule: Resolved) -> bool:
    wanted = _PINGS.get(rule.protocol) if rule.protocol is not None else _PINGS[ICMP if rule.version == 4 else ICMPV6]
    return wanted is not None and rule.rule.icmp_type in (None, wanted)
