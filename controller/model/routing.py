"""From a topology to the simulated routers of a host: what the compilers, and the controller itself, need of each."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final
from uuid import UUID

from controller.model.topology import RouterPort, Topology
from flows import host as narrow
from flows import router as hop

LIMITS: Final = hop.Limits()  # what a router allows itself: as Linux


def place_router(topology: Topology, router: str, vlans: Mapping[str, int]) -> narrow.SimulatedRouter:
    """A router of its host. `vlans` holds the local VLAN of each network that it has a leg on."""
    legs = topology.legs_by_router[router]
    numbers = topology.numbers_by_host[legs[0].host]
    neighbours = tuple(neighbour for leg in legs for neighbour in _neighbours(topology, leg, numbers.meters))
    zone = numbers.zones[topology.routers[router].id]
    return narrow.SimulatedRouter(
        origin=f"routers.{router}", router=_value(topology, router, legs, neighbours),
        number=zone, zone=zone, hairpin_zone=zone + 1,
        legs=tuple(narrow.RouterLeg(leg.device, numbers.legs[leg.id], vlans[leg.network], leg.network, leg.name,
                                    numbers.meters[leg.id]) for leg in legs),
        neighbours=neighbours)


def router_value(topology: Topology, router: str) -> hop.Router:
    """A router as the hop sees it, whatever its driver; it asks for the MAC of every neighbour."""
    return _value(topology, router, topology.legs_by_router[router], ())


def _value(topology: Topology, router: str, legs: Iterable[RouterPort],
           neighbours: Iterable[narrow.RouterNeighbour]) -> hop.Router:
    item = topology.routers[router]
    routes = [hop.Route(route.destination, route.nexthop) for route in item.routes
              if isinstance(route.destination, IPv4Network) and isinstance(route.nexthop, IPv4Address)]
    pairs = [(each.address, fixed.ip) for each in topology.floating_ips_by_router.get(router, ())
             if (fixed := topology.fixed_port(each)) is not None]
    return hop.Router(
        name=router,
        legs=tuple(hop.Leg(leg.device, leg.mac, (_interface(topology, leg),), topology.mtu_of(leg.network))
                   for leg in legs),
        gateway=next((_gateway(topology, leg) for leg in legs if leg.outside), None),
        routes=tuple(routes),
        floating_ips=tuple(hop.FloatingIp(external, fixed) for external, fixed in pairs
                           if isinstance(external, IPv4Address) and isinstance(fixed, IPv4Address)),
        known=tuple((each.leg, each.address, each.mac) for each in neighbours if each.fixed),
        limits=LIMITS)


def _interface(topology: Topology, leg: RouterPort) -> IPv4Interface:
    return IPv4Interface((int(leg.ip), topology.subnets[leg.subnet].cidr.prefixlen))


def _gateway(topology: Topology, leg: RouterPort) -> hop.Gateway:
    nexthop, gateway = topology.subnets[leg.subnet].gateway, topology.routers[leg.router].gateway
    return hop.Gateway(leg.device, nexthop if isinstance(nexthop, IPv4Address) else None,
                       snat=gateway is not None and gateway.snat)


# ---- who is behind a leg

def _neighbours(topology: Topology, leg: RouterPort, meters: Mapping[UUID, int]) -> Iterator[narrow.RouterNeighbour]:
    """The VMs on a leg's network; then what other simulated routers of this host answer for there.

    These are compiled because they cannot be asked: a router's ARP request leaves behind the tables that would answer
    it. All other routers are asked, so that many on one external network do not need a row for each two of them.
    """
    inside = topology.subnets[leg.subnet].cidr
    contested = topology.contested_by_network[leg.network]
    for port in topology.ports_by_network.get(leg.network, ()):
        if isinstance(port.ip, IPv4Address):
            yield narrow.RouterNeighbour(
                port.name, port.path, leg.device, port.mac, port.ip,
                fixed=port.port_security and port.ip in inside and port.ip not in contested,
                meter=meters.get(port.id, meters[leg.id]))
            for pair in port.allowed_address_pairs if port.port_security else ():
                address = pair.ip.network_address
                if isinstance(address, IPv4Address) and pair.ip.num_addresses == 1 and address in inside:
                    yield narrow.RouterNeighbour(port.name, port.path, leg.device, pair.mac, address, fixed=False,
                                                 meter=meters.get(port.id, meters[leg.id]))
    for other in topology.legs_by_network[leg.network]:
        if other.router != leg.router and other.host == leg.host and other.driver == leg.driver:
            for name, address in _answers(topology, other):
                yield narrow.RouterNeighbour(
                    name, other.path, leg.device, other.mac, address,
                    fixed=address in inside and address not in contested,
                    meter=meters.get(other.id, meters[leg.id]))


def _answers(topology: Topology, leg: RouterPort) -> Iterator[tuple[str, IPv4Address]]:
    yield leg.name, leg.ip
    for each in topology.floating_ips_by_router.get(leg.router, ()) if leg.outside else ():
        if isinstance(each.address, IPv4Address):
            yield f"{leg.router} for {each.vm}", each.address
