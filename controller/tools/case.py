"""What `why-not` is asked, and what a topology says of it by addresses alone: who is meant, which way, seen as whom.

It only guesses where the trouble may be. Whether an edit helps is for a trace to say.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address, ip_address
from typing import Any, Final

from controller.model.amending import data_of
from controller.model.protocols import Datagram, echo
from controller.model.reachability import INTERNET
from controller.model.topology import Address, FloatingIp, Port, RouterPort, Subnet, Topology
from controller.model.walking import Hop, Internet, World
from controller.tools.services import Service

_FROM: Final = 40000  # a client's port
_MOST: Final = 4096  # addresses of a subnet that are looked at for a free one


@dataclass(frozen=True)
class Way:
    """How far routers bring a packet: those it passes, and the leg or the world outside that it leaves the last by."""

    routers: tuple[str, ...]
    end: RouterPort | Internet | None  # None: the last one knows no way


@dataclass(frozen=True)
class Case:
    """A question, and the topology that it is asked of, with the text of its file."""

    topology: Topology
    text: str
    source: Port
    target: str  # as asked for: a port, an address, or `internet`
    service: Service

    @property
    def raw(self) -> Any:
        """The file as plain data."""
        return data_of(self.text)

    @cached_property
    def world(self) -> World:
        """Who has which address."""
        return World(self.topology)

    @cached_property
    def ports(self) -> dict[str, Port]:
        """By every name that a port is called by."""
        found = {vm.name: vm.ports[0] for vm in self.topology.vms.values() if vm.ports}
        return {**{port.name: port for port in self.topology.ports()}, **found}

    @cached_property
    def asked(self) -> Address | None:
        """The address that is asked; None: any of the world outside."""
        if self.target in self.ports:
            return self.ports[self.target].ip
        return None if self.target == INTERNET else ip_address(self.target)

    @cached_property
    def floating(self) -> FloatingIp | None:
        """The floating IP that is asked, if it is one."""
        return next((one for one in self.topology.floating_ips if one.address == self.asked), None) \
            if self.target not in self.ports else None

    @cached_property
    def hearer(self) -> Port | None:
        """The port that it is for, as far as the file knows one."""
        if self.target in self.ports:
            return self.ports[self.target]
        if self.floating is not None:
            return self.topology.fixed_port(self.floating)
        near = (port for name in self.topology.filters.joined(self.source.network)
                for port in self.topology.ports_by_network.get(name, ()))
        return next((port for port in near if port.ip == self.asked), None)

    @property
    def is_outside(self) -> bool:
        """Whether the source asks an address outside, a floating IP among them."""
        return self.floating is not None or self.hearer is None

    @property
    def apart(self) -> bool:
        """Whether the two are ports on networks that no router joins."""
        other = self.hearer
        return other is not None and self.floating is None \
            and other.network not in self.topology.filters.joined(self.source.network)

    def reversed(self) -> Case:
        """The way back, of one port to another."""
        assert self.hearer is not None
        return replace(self, source=self.hearer, target=self.source.name)

    # ---- ways

    def subnet(self, port: Port) -> Subnet:
        """Where a port's address is from."""
        return self.topology.subnets[port.subnet]

    def is_near(self) -> bool:
        """Whether no router is needed."""
        return self.asked is not None and self.asked in self.subnet(self.source).cidr

    def legs_on(self, subnet: str) -> list[RouterPort]:
        """The legs of routers inside a subnet."""
        return [leg for leg in self.topology.legs_by_network.get(self.topology.subnets[subnet].network, ())
                if leg.subnet == subnet and not leg.outside]

    def gateway(self) -> RouterPort | None:
        """The leg that has the address of the source's gateway."""
        address = self.subnet(self.source).gateway
        if not isinstance(address, IPv4Address):
            return None
        found = self.world.holder(Hop(self.source.network, address))
        return found if isinstance(found, RouterPort) else None

    def way(self, router: str) -> Way:
        """From a router on, to whom is asked."""
        address = self.asked if isinstance(self.asked, IPv4Address) else IPv4Address("203.0.113.1")
        met: list[str] = []
        while router not in met:
            met.append(router)
            route = next((one for one in self.world.routes.get(router, ())
                          if address in one.prefix or (self.asked is None and one.prefix.prefixlen == 0)), None)
            if route is None:
                break
            if route.nexthop is None:
                return Way(tuple(met), route.leg)
            other = self.world.holder(Hop(route.leg.network, route.nexthop))
            if not isinstance(other, RouterPort):
                return Way(tuple(met), other if isinstance(other, Internet) else None)
            router = other.router
        return Way(tuple(met), None)

    def arrives(self, way: Way) -> bool:
        """Whether a way leads where the asked address is."""
        if self.is_outside:
            return isinstance(way.end, Internet) or (way.end is not None and way.end.outside)
        return self.hearer is not None and isinstance(way.end, RouterPort) and way.end.subnet == self.hearer.subnet

    def routers_towards(self) -> list[str]:
        """The routers that lead to who is asked, those beside it first."""
        if self.is_outside:
            return [name for name, legs in self.topology.legs_by_router.items() if any(leg.outside for leg in legs)]
        assert self.hearer is not None
        near = [leg.router for leg in self.legs_on(self.hearer.subnet)]
        return [*near, *(name for name in self.topology.legs_by_router
                         if name not in near and self.arrives(self.way(name)))]

    # ---- what is heard

    def begins(self, source: Address, target: Address) -> Datagram:
        """The first packet."""
        if self.service.port is None:
            return echo(source, target)
        return Datagram(source.version, self.service.protocol, source, target, port=self.service.port,
                        source_port=_FROM)

    def seen_as(self) -> Address:
        """Which address the hearer is shown."""
        leg = self.gateway()
        if self.is_near() or leg is None or not isinstance(self.source.ip, IPv4Address):
            return self.source.ip
        way = self.way(leg.router)
        last = self.topology.routers[way.routers[-1]]
        leaves = self.floating is not None or isinstance(way.end, Internet) or (way.end is not None and way.end.outside)
        if not leaves or last.gateway is None:
            return self.source.ip
        own = (one.address for one in self.topology.floating_ips_by_router.get(last.name, ())
               if self.topology.fixed_port(one) == self.source)
        return next(own, last.gateway.ip if last.gateway.snat or self.floating else self.source.ip)

    # ---- addresses

    def free(self, subnet: str) -> Iterator[Address]:
        """Addresses of a subnet that nobody has."""
        found = self.topology.subnets[subnet]
        taken: set[object] = set(self._taken(found))
        hosts: Iterator[Address] = iter(found.cidr.hosts())
        for _ in range(_MOST):
            address = next(hosts, None)
            if address is None:
                return
            if address not in taken:
                yield address

    def _taken(self, subnet: Subnet) -> Iterator[object]:
        yield subnet.gateway
        yield subnet.dhcp_address
        yield from (one.address for one in self.topology.floating_ips)
        yield from (leg.ip for leg in self.topology.legs_by_network.get(subnet.network, ()))
        for port in self.topology.ports_by_network.get(subnet.network, ()):
            yield port.ip
            yield from (pair.ip.network_address for pair in port.allowed_address_pairs)
        yield from (route.nexthop for router in self.topology.routers.values() for route in router.routes)
