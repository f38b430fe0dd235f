"""A packet's way by addresses alone: from a VM's card through routers to whoever has the destination, and back.

It knows networks, who has which address on each, what routers do to addresses, and which pings security groups let
begin. It knows nothing of flows, tables or VLANs, so what they do can be held against it. IPv4 only, as routers are.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final, NamedTuple

from controller.model.gates import Gates
from controller.model.topology import Port, RouterPort, Topology

TTL: Final = 64


class Packet(NamedTuple):
    """The two addresses of a packet, as they are at one place of its way."""

    source: IPv4Address
    destination: IPv4Address


@dataclass(frozen=True)
class Internet:
    """The world behind the gateway of a subnet on a physical network."""

    network: str
    address: IPv4Address


Holder = Port | RouterPort | Internet  # who has an address on a network


class Hop(NamedTuple):
    """Where a packet goes next: an address on a network."""

    network: str
    address: IPv4Address


class Route(NamedTuple):
    """One way of a router. Without a next hop the destination is on the leg's own network."""

    prefix: IPv4Network
    leg: RouterPort
    nexthop: IPv4Address | None


@dataclass
class Conversation:
    """What the routers on the way remember of a packet, to do the contrary to its answer."""

    answers: dict[tuple[str, Packet], Packet] = field(default_factory=dict)  # router, an answer there -> as it leaves
    answering: bool = False


class World:
    """Who has which address, and where routers send: made once for a topology, then asked often."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.gates = Gates(topology.filters)
        self._floating = dict(_floating(topology))  # (router, floating IP) -> fixed IP
        self._shown = {(router, fixed): floating for (router, floating), fixed in reversed(self._floating.items())}
        self._held: dict[str, dict[IPv4Address, Holder]] = {}
        self.internets = _internets(topology)
        outside = ((internet.network, internet.address, internet) for internet in self.internets.values())
        for network, address, holder in (*_holders(topology), *outside):
            self._held.setdefault(network, {}).setdefault(address, holder)
        self._own = {router: {leg.ip: leg for leg in reversed(legs)}
                     for router, legs in topology.legs_by_router.items()}
        self.routes = {router: sorted(_routes(topology, router), key=lambda route: -route.prefix.prefixlen)
                       for router in topology.legs_by_router}
        self.default_cards = {vm.name: card for vm in topology.vms.values()
                              for card in reversed(vm.ports) if _gateway(topology, card) is not None}

    def holder(self, hop: Hop) -> Holder | None:
        """Who answers ARP for an address on a network."""
        return self._held.get(hop.network, {}).get(hop.address)

    def gateway_of(self, port: Port) -> RouterPort | None:
        """The router's leg that a card's default route leads to."""
        gateway = _gateway(self.topology, port)
        if gateway is None or self.default_cards.get(port.vm) != port:
            return None
        found = self.holder(Hop(port.network, gateway))
        return found if isinstance(found, RouterPort) else None

    # ---- whole ways

    def asks(self, source: Port, address: IPv4Address) -> Holder | None:
        """Who gets what a VM sends out of this card to an address, if its answer comes back to this card; else None."""
        if not isinstance(source.ip, IPv4Address):
            return None
        first = self._out_of(source, address)
        return self._there_and_back(first, Packet(source.ip, address), source)

    def calls(self, internet: Internet, address: IPv4Address) -> Holder | None:
        """The same from a gateway of the internet, to an address on its own subnet."""
        return self._there_and_back(Hop(internet.network, address), Packet(internet.address, address), internet)

    def ends(self, source: Port | Internet, address: IPv4Address) -> tuple[Holder | None, Holder | None]:
        """Who gets what a VM's card or the internet sends to an address, and who the answer: perhaps somebody else."""
        if isinstance(source, Internet):
            first = Hop(source.network, address)
            end, back, _ = self._both_ways(first, Packet(source.address, address), source)
        elif isinstance(source.ip, IPv4Address):
            end, back, _ = self._both_ways(self._out_of(source, address), Packet(source.ip, address), source)
        else:
            return None, None
        return end, back

    def _both_ways(self, first: Hop | None, packet: Packet, asker: Port | Internet
                   ) -> tuple[Holder | None, Holder | None, Packet]:
        """Who gets the packet, who gets its answer, and what this looks like then."""
        if not self.gates.leaves(asker, *packet):
            return None, None, packet
        talk = Conversation()
        end, arrived = self._walk(first, packet, talk)
        if end is None or not self.gates.enters(end, *arrived):
            return None, None, arrived
        if isinstance(end, Port) and self._is_own(end, arrived.source):
            return end, None, arrived
        talk.answering = True
        answer = Packet(arrived.destination, arrived.source)
        return end, *self._walk(self._answers_by(end, answer), answer, talk)

    def _there_and_back(self, first: Hop | None, packet: Packet, asker: Port | Internet) -> Holder | None:
        end, back, heard = self._both_ways(first, packet, asker)
        if isinstance(asker, Internet):
            came_back = isinstance(back, Internet)
        else:
            came_back = back == asker
        return end if came_back and heard == Packet(packet.destination, packet.source) else None

    def _is_own(self, port: Port, address: IPv4Address) -> bool:
        """Whether a VM takes a sender for itself, and so does not answer: a martian."""
        return any(card.ip == address for card in self.topology.vms[port.vm].ports)

    # ---- the first hop, from those who are no routers

    def _out_of(self, card: Port, destination: IPv4Address) -> Hop | None:
        """From one card of a VM: its own subnet, and if it is the VM's default card, the rest of the world."""
        if destination in self.topology.subnets[card.subnet].cidr:
            return Hop(card.network, destination)
        gateway = _gateway(self.topology, card)
        return Hop(card.network, gateway) if gateway and self.default_cards.get(card.vm) == card else None

    def _answers_by(self, end: Holder, answer: Packet) -> Hop | None:
        if isinstance(end, RouterPort):
            route = self._route(end.router, answer.destination)
            return Hop(route.leg.network, route.nexthop or answer.destination) if route else None
        if isinstance(end, Internet):
            near = self._outside_subnet(answer.destination)
            return Hop(near, answer.destination) if near is not None else None
        card = self._card_towards(end, answer.destination)
        return self._out_of(card, answer.destination) if card and self._may_answer(card, end, answer) else None

    def _may_answer(self, card: Port, asked: Port, answer: Packet) -> bool:
        return _may_say(card, asked, answer.source) and self.gates.answers(card, asked)

    def _card_towards(self, port: Port, address: IPv4Address) -> Port | None:
        """The card by which a VM answers, whichever it was asked by."""
        near = [card for card in self.topology.vms[port.vm].ports
                if address in self.topology.subnets[card.subnet].cidr]
        near.sort(key=lambda card: -self.topology.subnets[card.subnet].cidr.prefixlen)
        return near[0] if near else self.default_cards.get(port.vm)

    def _outside_subnet(self, address: IPv4Address) -> str | None:
        """The network by which the internet is a neighbour of an address; it keeps everything else to itself."""
        return next((internet.network for subnet, internet in self.internets.items()
                     if address in self.topology.subnets[subnet].cidr), None)

    # ---- through routers

    def _walk(self, hop: Hop | None, packet: Packet, talk: Conversation) -> tuple[Holder | None, Packet]:
        """Who gets the packet in the end, and with which addresses; None if nobody does."""
        for _ in range(TTL):
            holder = self.holder(hop) if hop is not None else None
            if holder is None or isinstance(holder, Internet):
                return holder, packet
            if isinstance(holder, Port):  # a VM does not forward what is for others
                return (holder if holder.ip == packet.destination else None), packet
            packet, hop, own = self._through(holder, packet, talk)
            if own is not None:
                return own, packet
        return None, packet

    def _through(self, leg: RouterPort, packet: Packet, talk: Conversation
                 ) -> tuple[Packet, Hop | None, RouterPort | None]:
        """What a router does with a packet that came in by a leg: what it looks like then, and where it goes.

        The third is the router's own leg that the packet was for.
        """
        router = leg.router
        known = talk.answers.get((router, packet)) if talk.answering else None
        fixed = self._floating.get((router, packet.destination)) if not talk.answering else None
        inside = known or Packet(packet.source, fixed or packet.destination)
        route = self._route(router, inside.destination)
        if route is None or inside.destination in self._own[router]:
            return inside, None, self._own[router].get(inside.destination)
        after = inside
        if talk.answering:
            if known is None and (leg.outside or (route.leg.outside and self._translates(router))):
                return inside, None, None  # an answer to what this router has not seen
        else:
            if route.leg.outside or (fixed is not None and not leg.outside):
                after = Packet(self._seen_as(router, inside.source, always=not route.leg.outside), inside.destination)
            answer = Packet(after.destination, after.source)
            talk.answers[router, answer] = Packet(packet.destination, packet.source)
        return after, Hop(route.leg.network, route.nexthop or after.destination), None

    def _seen_as(self, router: str, source: IPv4Address, *, always: bool) -> IPv4Address:
        """What a source looks like outside; `always`: inside too, when it asked for a floating IP of a neighbour."""
        gateway = self.topology.routers[router].gateway
        assert gateway is not None
        own = gateway.ip if isinstance(gateway.ip, IPv4Address) and (gateway.snat or always) else source
        return self._shown.get((router, source), own)

    def _translates(self, router: str) -> bool:
        """Whether what leaves by its gateway may show another address there."""
        gateway = self.topology.routers[router].gateway
        return gateway is not None and (gateway.snat or bool(self.topology.floating_ips_by_router.get(router)))

    def _route(self, router: str, address: IPv4Address) -> Route | None:
        return next((route for route in self.routes[router] if address in route.prefix), None)


def _gateway(topology: Topology, port: Port) -> IPv4Address | None:
    gateway = topology.subnets[port.subnet].gateway
    return gateway if isinstance(gateway, IPv4Address) and port.ip.version == 4 else None


def _may_say(card: Port, port: Port, address: IPv4Address) -> bool:
    """Whether port security lets a card use the address of another card of its VM."""
    if card == port or not card.port_security:
        return True
    return any(pair.mac == card.mac and address in pair.ip for pair in card.allowed_address_pairs)


def _floating(topology: Topology) -> Iterator[tuple[tuple[str, IPv4Address], IPv4Address]]:
    for router, floating_ips in topology.floating_ips_by_router.items():
        for one in floating_ips:
            fixed = topology.fixed_port(one)
            if fixed is not None and isinstance(fixed.ip, IPv4Address) and isinstance(one.address, IPv4Address):
                yield (router, one.address), fixed.ip


def _holders(topology: Topology) -> Iterator[tuple[str, IPv4Address, Holder]]:
    for legs in topology.legs_by_router.values():
        for leg in legs:
            yield leg.network, leg.ip, leg
            for one in topology.floating_ips_by_router.get(leg.router, ()) if leg.outside else ():
                if isinstance(one.address, IPv4Address):
                    yield leg.network, one.address, leg
    for port in topology.ports():
        if isinstance(port.ip, IPv4Address):
            yield port.network, port.ip, port


def gateways(topology: Topology) -> Iterator[Internet]:
    """Where the internet is: at the gateway of each subnet on a physical network, unless the cloud has it itself.

    Networks that nobody is on do not count.
    """
    return iter(_internets(topology).values())


def _internets(topology: Topology) -> dict[str, Internet]:
    """Subnet name -> the internet at its gateway."""
    found = {}
    for network in topology.networks.values():
        ports, legs = topology.ports_by_network.get(network.name, ()), topology.legs_by_network.get(network.name, ())
        if network.physical_network is not None and (ports or legs):
            ours = {port.ip for port in ports} | {leg.ip for leg in legs}
            found.update({subnet.name: Internet(network.name, subnet.gateway) for subnet in network.subnets
                          if isinstance(subnet.gateway, IPv4Address) and subnet.gateway not in ours})
    return found


def _routes(topology: Topology, router: str) -> Iterator[Route]:
    """Connected ones first, for of two equally long prefixes the first counts."""
    near = [Route(cidr, leg, None) for leg in topology.legs_by_router[router]
            if isinstance(cidr := topology.subnets[leg.subnet].cidr, IPv4Network)]
    yield from near
    for route in topology.routers[router].routes:
        if isinstance(route.destination, IPv4Network) and isinstance(route.nexthop, IPv4Address):
            leg = next((one.leg for one in near if route.nexthop in one.prefix), None)
            if leg is not None:
                yield Route(route.destination, leg, route.nexthop)
    for leg in topology.legs_by_router[router]:
        gateway = topology.subnets[leg.subnet].gateway
        if leg.outside and isinstance(gateway, IPv4Address):
            yield Route(IPv4Network("0.0.0.0/0"), leg, gateway)
