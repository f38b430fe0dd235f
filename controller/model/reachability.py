"""Who may reach whom, read from the topology alone.

This is the yardstick that observations, traces and proofs are held against, so it knows nothing of flows.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import permutations, product

from controller.model.gates import Gates
from controller.model.likeness import Kind, Kinds
from controller.model.topology import FloatingIp, Port, RouterPort, Topology
from controller.model.walking import Holder, Hop, Internet, World

Pair = tuple[str, str]  # the names of a source port and a destination port

INTERNET = "internet"  # the lab's node outside


@dataclass(frozen=True)
class Target:
    """An address that is asked beside those of VMs: a gateway's, a floating IP, or one of the internet."""

    source: str  # a VM's port, or `internet`
    name: str  # `r1 on blue-subnet`, `floating IP of web1`, `internet`
    address: IPv4Address
    expected: bool  # whether an answer shall come
    seen_by: str | None  # the VM's port that the question shall come to


def all_pairs(topology: Topology) -> tuple[Pair, ...]:
    """Every ordered pair of different VM ports, in the order of the file."""
    return tuple((source.name, target.name) for source, target in permutations(topology.ports(), 2))


def expected_pairs(topology: Topology) -> frozenset[Pair]:
    """The pairs whose source shall reach the destination's address, and get its answer.

    Within a subnet that is everybody whom the security groups at both ends let talk. To others a packet goes by the
    source's default route, and its way is walked.
    """
    by_subnet: dict[str, dict[Kind, list[Port]]] = {}
    tell_apart = Kinds(topology)
    for port in topology.ports():
        by_subnet.setdefault(port.subnet, {}).setdefault(tell_apart(port), []).append(port)
    found: set[Pair] = set()
    world = World(topology)
    for kinds in by_subnet.values():
        found.update(_side_by_side(world.gates, list(kinds.values())))
    near = _Near(world)
    for kinds in by_subnet.values():
        for sources in kinds.values():
            for subnet in near.subnets(sources[0]) - {sources[0].subnet}:
                for targets in by_subnet.get(subnet, {}).values():
                    if _reaches(world, sources[0], targets[0]):
                        found.update((one.name, other.name) for one, other in product(sources, targets))
    return frozenset(found)


def _side_by_side(gates: Gates, kinds: Sequence[Sequence[Port]]) -> Iterator[Pair]:
    """The pairs of a subnet, whose packets no router touches; of each kind of ports the first is asked for all."""
    if not any(map(gates.filters.profile, (ports[0] for ports in kinds))):
        yield from permutations((port.name for ports in kinds for port in ports), 2)
        return
    for sources, targets in product(kinds, kinds):
        one, other = sources[0], targets[0 if targets is not sources else -1]
        if gates.lets_talk(one, other):
            yield from ((each.name, its.name) for each, its in product(sources, targets) if each is not its)


def _reaches(world: World, source: Port, target: Port) -> bool:
    return isinstance(target.ip, IPv4Address) and world.asks(source, target.ip) == target


class _Near:
    """The subnets that a packet can come to from a router, by way of other routers, too."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: dict[str, frozenset[str]] = {}

    def subnets(self, source: Port) -> frozenset[str]:
        """Where the default route of a card can lead."""
        leg = self._world.gateway_of(source)
        if leg is None:
            return frozenset()
        if leg.router not in self._known:
            self._known[leg.router] = frozenset(self._beyond(leg.router))
        return self._known[leg.router]

    def _beyond(self, router: str) -> Iterator[str]:
        waiting, met = [router], {router}
        while waiting:
            for route in self._world.routes[waiting.pop()]:
                if route.nexthop is None:
                    yield route.leg.subnet
                    continue
                other = self._world.holder(Hop(route.leg.network, route.nexthop))
                if isinstance(other, RouterPort) and other.router not in met:
                    met.add(other.router)
                    waiting.append(other.router)


def expected_targets(topology: Topology) -> Iterator[Target]:
    """What else is asked: by every VM's port the gateways, the floating IPs and the internet; by this the floating IPs.

    In the order of the file. Floating IPs are asked by all, so there are as many as ports times floating IPs.
    """
    world, tell_apart = World(topology), Kinds(topology)
    ends: dict[tuple[Kind, IPv4Address], Holder | None] = {}
    for port in topology.ports():
        kind = tell_apart(port)
        for name, address, wanted in _wanted(world, port):
            if (kind, address) not in ends:
                ends[kind, address] = world.asks(port, address)
            end = ends[kind, address]
            seen_by = wanted.name if isinstance(wanted, Port) and end == wanted else None
            # The internet is one, whichever of its gateways a packet comes by.
            expected = isinstance(end, Internet) if isinstance(wanted, Internet) else end is not None and end == wanted
            if expected or end is None:  # else somebody else answers for the address, and an answer does not say who
                yield Target(port.name, name, address, expected, seen_by)
    for one in topology.floating_ips:
        internet = world.internets.get(topology.subnet_of(one.outside, one.address).name)
        if internet is not None and isinstance(one.address, IPv4Address):
            fixed = topology.fixed_port(one)
            expected = fixed is not None and world.calls(internet, one.address) == fixed
            yield Target(INTERNET, _called(one), one.address, expected, fixed.name if fixed and expected else None)


def _wanted(world: World, port: Port) -> Iterator[tuple[str, IPv4Address, Holder | None]]:
    """What a port is to ask for, and who should answer."""
    topology, gateway = world.topology, world.gateway_of(port)
    if port.ip.version != 4:
        return
    legs = [leg for leg in topology.legs_by_network.get(port.network, ()) if leg.subnet == port.subnet]
    legs += topology.legs_by_router[gateway.router] if gateway is not None else ()
    for leg in {leg.id: leg for leg in legs}.values():
        yield leg.name, leg.ip, leg
    for one in topology.floating_ips:
        if isinstance(one.address, IPv4Address):
            yield _called(one), one.address, topology.fixed_port(one)
    internet = _internet_of(world, port, gateway)
    if internet is not None:
        yield INTERNET, internet.address, internet


def _called(floating_ip: FloatingIp) -> str:
    return f"floating IP of {floating_ip.vm}"


def _internet_of(world: World, port: Port, gateway: RouterPort | None) -> Internet | None:
    """Where a port finds the internet, or would: beside its router's gateway, on its own subnet, or at the first."""
    legs = world.topology.legs_by_router[gateway.router] if gateway is not None else ()
    subnets = [leg.subnet for leg in legs if leg.outside] + [port.subnet]
    known = world.internets
    return next((known[subnet] for subnet in subnets if subnet in known), next(iter(known.values()), None))
