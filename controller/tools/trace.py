"""What becomes of a ping, from the topology alone: the question for the MAC, its answer, then the ping and its own."""
from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from controller.model.placement import Seen
from controller.model.reachability import INTERNET
from controller.model.topology import Address, Port, RouterPort, Topology
from controller.model.walking import World
from controller.tools import world
from controller.tools.arrivals import (
    ICMP_TYPE,
    has_come,
    is_answer,
    mac_for,
    mac_of,
    most_telling,
    own_addresses,
    owns,
    question,
)
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.journey import TABLE, Hop, Journey, Leg, hops, story
from controller.tools.services import PING, Service
from controller.tools.simulate import Cloud
from controller.tools.stops import Crossing, Ending, Visit
from controller.tools.telling import answerer, learned, numbers, refusal, routers, why
from flows import fields as f
from flows import packet as packets
from flows.tables import BR_TUN

__all__ = ["Journey", "story", "trace"]

DELIVERED, DROPPED, ANSWERED = "delivered", "dropped", "answered"


def trace(topology: Topology, src: str, dst: str, seen: Mapping[str, Seen] | None = None,
          service: Service = PING) -> Journey:
    """The journey of a ping from a VM to another, to an address, or to `internet`; or of what another service needs.

    Names are those of VMs (their first port) or of ports (`fw1:eth1`). `seen`: a host's numbers, where they are known
    from its switch; the rest is as on a host that has just been built. Refusal for a name that there is not.
    """
    source = _port(topology, src)
    return _Trace(topology, Cloud(topology, seen), source, _target(topology, source, dst), service).journey()


def service(tcp: int | None, udp: int | None) -> Service:
    """A TCP or UDP port, or else a ping."""
    if tcp is not None:
        return Service(f.TCP, tcp)
    return Service(f.UDP, udp) if udp is not None else PING


def _port(topology: Topology, name: str) -> Port:
    if name in topology.vms and topology.vms[name].ports:
        return topology.vms[name].ports[0]
    ports = {port.name: port for port in topology.ports()}
    if name in ports:
        return ports[name]
    near = difflib.get_close_matches(name, [*topology.vms, *ports], n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(ports)) or 'none at all'}."
    raise Refusal(f"{topology.source} has no VM or port named {name!r}; {hint}", BAD_INPUT)


@dataclass(frozen=True)
class _Target:
    address: Address
    name: str  # as the user said it
    port: Port | None  # None: only the address was given


def _target(topology: Topology, source: Port, dst: str) -> _Target:
    if dst == INTERNET and dst not in topology.vms:
        return _Target(_outside(topology, source), dst, None)
    try:
        return _Target(ip_address(dst), dst, None)
    except ValueError:
        port = _port(topology, dst)
        return _Target(port.ip, port.name, port)


def _outside(topology: Topology, source: Port) -> IPv4Address:
    """An address of the world outside: on the network that the source's router leads to, or else on any."""
    routers = {leg.router for leg in topology.legs_by_network.get(source.network, ()) if leg.subnet == source.subnet}
    near = [leg.network for router in sorted(routers) for leg in topology.legs_by_router[router] if leg.outside]
    every = [name for name, network in topology.networks.items() if network.physical_network is not None]
    for network in (*near, *every):
        for address in world.gateways(topology, network):
            return address
    raise Refusal(f"{topology.source} has no network with a gateway outside; see `external` of a network.", BAD_INPUT)


@dataclass(frozen=True)
class _Trace:
    topology: Topology
    cloud: Cloud
    source: Port
    target: _Target
    service: Service

    def journey(self) -> Journey:
        source, target = self.source, self.target
        if target.port == source or (target.port is None and target.address == source.ip):
            return Journey(DELIVERED, f"{source.name} talks to itself; nothing leaves it", ())
        if target.address.version != source.ip.version:
            return Journey(DROPPED, f"{source.name} has no IPv{target.address.version} address", ())
        next_hop, reason = self._next_hop(source, target.address)
        if next_hop is None:
            return Journey(DROPPED, f"{reason}{self._apart()}", ())
        return self._ask(next_hop)

    def _next_hop(self, port: Port, address: Address) -> tuple[Address | None, str]:
        """Whose MAC a VM asks for, or why it does not know whom to ask."""
        subnet = self.topology.subnets[port.subnet]
        if address in subnet.cidr:
            return address, ""
        if subnet.gateway is None:
            return None, f"{address} is outside of {subnet.cidr}, and {subnet.name} has no gateway"
        by_default = World(self.topology).default_cards.get(port.vm, port)
        if by_default != port and address.version == 4:
            return None, f"{address} is outside of {subnet.cidr}, and {port.vm}'s default route is by {by_default.name}"
        return subnet.gateway, ""

    # ---- the question for the MAC, and its answer

    def _ask(self, address: Address) -> Journey:
        """Who has the address (the target's, or its gateway's)?"""
        source = self.source
        asked = question(source, address)
        endings = self.cloud.send(source, asked)
        answered = next((one for one in endings if is_answer(one, source, address)), None)
        shown = answered or most_telling(endings, self.target.port)
        way = tuple(hops(self.topology, source, asked, shown, self.cloud.let_out))
        heard = sorted({one.port.name for one in endings if one.port and one is not shown})
        told = Leg("")
        if answered is not None and answered.port == source:
            way, told = self._told(way, answered, address)
        ask = Leg(f"{source.name} asks who has {address}", way,
                  f"The same question came to {', '.join(heard)}." if heard else "")
        if answered is None or answered.port is None:
            return Journey(DROPPED, self._nobody(address, shown), (ask,))
        if address == self.target.address and self.target.port and self.target.port.network != source.network:
            owner = answered.port.name if answered.port != source else answerer(answered)
            twin = f"in {source.network}, {address} is {owner}, not {self.target.name}"
            return Journey(DROPPED, f"{twin}{self._apart()}", (ask,))
        if answered.port == source:  # a switch or a router answered, and not a VM
            return self._ping(mac_of(answered.packet), (ask, told))
        return self._answer(answered.port, address, ask)

    def _told(self, way: tuple[Hop, ...], answered: Ending, address: Address) -> tuple[tuple[Hop, ...], Leg]:
        """The hops up to where the question was answered, and the answer in words."""
        who, mac = answerer(answered), mac_of(answered.packet)
        words = f"{who} answers: {address} is at {mac}"
        if who.startswith(BR_TUN):
            return way, Leg(words)
        first = next((n for n, hop in enumerate(way) if hop.packet == str(answered.packet)), len(way))
        end = first + 1 if first < len(way) and way[first].kind == TABLE else first
        return way[:end], Leg(words, aside=learned(answered, mac))

    def _answer(self, owner: Port, address: Address, ask: Leg) -> Journey:
        """The owner's answer goes back, and teaches the tunnels on its way."""
        source, mac = self.source, mac_for(owner, address)
        answer = (packets.arp_reply if address.version == 4 else packets.neighbour_advertisement)(
            mac, address, source.mac, source.ip)
        endings = self.cloud.send(owner, answer)
        back = next((one for one in endings if one.port == source), None)
        if back is None:
            lost = endings[0]
            leg = Leg(f"{owner.name} answers", tuple(hops(self.topology, owner, answer, lost, self.cloud.let_out)))
            return Journey(DROPPED, f"the answer of {owner.name} is lost: {why(lost)}", (ask, leg))
        told = Leg(f"{owner.name} answers: {address} is at {mac}", aside=learned(back, mac))
        return self._ping(mac, (ask, told))

    # ---- the echo request, and its answer

    def _ping(self, mac: str, before: tuple[Leg, ...]) -> Journey:
        source, target = self.source, self.target
        first = self.service.request((source.mac, source.ip), (mac, target.address))
        endings = self.cloud.send(source, first)
        let_out = self.cloud.let_out
        reached = next((one for one in endings if has_come(one)
                        and not (one.port == source and self.service.is_reply(one.packet))), None)
        spoken = next((one for one in endings if one.port == source
                       and (one.packet.get(ICMP_TYPE) is not None or self.service.is_reply(one.packet))), None)
        shown = reached or spoken or most_telling(endings, target.port)
        legs = (*before, Leg(self.service.asks(source.name, target.address),
                             tuple(hops(self.topology, source, first, shown, let_out))))
        if reached is not None:
            return self._reached(reached, legs)
        if spoken is None:
            return Journey(DROPPED, f"{why(shown)}{self._no_neighbour(shown)}", legs)
        if self.service.is_reply(spoken.packet):
            return Journey(ANSWERED, self._own_answer(spoken), legs)
        return Journey(DROPPED, f"{refusal(spoken)}, and tells {source.name}{self._apart()}", legs)

    def _reached(self, reached: Ending, legs: tuple[Leg, ...]) -> Journey:
        target, port, seen_as = self.target, reached.port, reached.packet.shown(f.IPV4_SRC)
        if port is None and not world.has(self.topology, IPv4Address(reached.packet.get(f.IPV4_DST) or 0)):
            return Journey(DROPPED, f"the world outside is not {target.address}, and passes nothing on", legs)
        if target.port and port != target.port and (port is None or target.port.network != port.network):
            who = port.name if port else "the world outside"
            return Journey(DROPPED, f"from {self.source.network}, {target.address} is {who}, not {target.name}"
                                    f"{self._apart()}", legs)
        way = numbers(self.topology, self.cloud, self.source, reached)
        if port and routers(reached) and port.vm == self.source.vm and seen_as in own_addresses(self.topology, port.vm):
            return Journey(DROPPED, f"{port.vm} believes nobody else who shows its own address {seen_as}", legs)
        if port is not None and not routers(reached):
            return Journey(DELIVERED, f"{port.name} got it on {port.host}: {way}", legs)
        got = f"{port.name} got it on {port.host}" if port else "the world outside got it"
        shown = f" from {seen_as}" if seen_as != str(self.source.ip) else ""
        back, lost = self._back(reached)
        if back is None:
            return Journey(DROPPED, f"{got}{shown}, but its answer is lost: {lost}", legs)
        leg = Leg(f"{port.name if port else 'The world outside'} answers, and {self.source.name} gets it",
                  aside=f"On its way back: {numbers(self.topology, self.cloud, port, back)}.")
        return Journey(DELIVERED, f"{got}{shown}: {way}", (*legs, leg), routers(reached))

    def _back(self, reached: Ending) -> tuple[Ending | None, str]:
        """The answer at the source, or why it does not come."""
        port, packet = reached.port, reached.packet
        asker, asked = packet.shown(f.IPV4_SRC), packet.shown(f.IPV4_DST)
        if port is None:
            network = world.near(self.topology, IPv4Address(asker))
            mac = self._mac_from_outside(network, IPv4Address(asker)) if network else None
            if not network or not mac:
                return None, f"the world outside finds no way to {asker}"
            reply = self.service.reply((world.mac(self.topology, network), asked), (mac, asker), packet)
            endings = self.cloud.send_from_outside(network, reply)
        else:
            card = self._card_towards(port, ip_address(asker))
            next_hop, reason = self._next_hop(card, ip_address(asker))
            mac = self._mac_of(card, next_hop) if next_hop else None
            if not mac:
                return None, reason or f"nobody in {card.network} tells {card.name} the MAC of {next_hop}"
            endings = self.cloud.send(card, self.service.reply((card.mac, asked), (mac, asker), packet))
        came = next((one for one in endings
                     if one.port == self.source and self.service.is_reply(one.packet)), None)
        if came is None:
            return None, why(most_telling(endings, self.source))
        if came.packet.shown(f.IPV4_SRC) != str(self.target.address):
            return None, f"it shows {came.packet.shown(f.IPV4_SRC)}, which {self.source.name} did not ask"
        return came, ""

    def _card_towards(self, port: Port, address: Address) -> Port:
        """The port by which a VM answers, whichever it was asked by."""
        near = [(self.topology.subnets[card.subnet].cidr.prefixlen, card) for card in self.topology.vms[port.vm].ports
                if address in self.topology.subnets[card.subnet].cidr]
        if near:
            return max(near, key=lambda one: one[0])[1]
        return World(self.topology).default_cards.get(port.vm, port)

    def _mac_of(self, port: Port, address: Address) -> str | None:
        """What a VM learns if it asks for an address of its network."""
        for one in self.cloud.send(port, question(port, address)):
            if one.port is not None and is_answer(one, port, address):
                return mac_of(one.packet) if one.port == port else mac_for(one.port, address)
        return None

    def _mac_from_outside(self, network: str, address: IPv4Address) -> str | None:
        """What the world outside learns if it asks for an address."""
        own = next(iter(world.gateways(self.topology, network)), IPv4Address(0))
        asked = packets.arp_request(world.mac(self.topology, network), own, address)
        for one in self.cloud.send_from_outside(network, asked):
            if one.outside == network and one.packet.get(f.ARP_OP) == f.ARP_REPLY:
                return mac_of(one.packet)
            if one.port is not None and owns(one.port, address):
                return mac_for(one.port, address)
        return None

    def _own_answer(self, spoken: Ending) -> str:
        """A router's answer to what was for itself."""
        router = next(iter(routers(spoken)), "")
        leg = next((one for one in self.topology.legs_by_router.get(router, ()) if one.ip == self.target.address), None)
        where = f", which is {leg.name}" if leg else ""
        host = leg.host if leg else self.topology.routers[router].host if router else ""
        does = "answers" if self.service.port is None else "itself refuses"  # nothing listens there
        return f"{router} on {host} {does} as {self.target.address}{where}"

    def _no_neighbour(self, shown: Ending) -> str:
        """What is behind a frame that waits in a router."""
        if not isinstance(shown.stop, Crossing):
            return ""
        return ", and nobody answers"

    # ---- words

    def _nobody(self, address: Address, shown: Ending) -> str:
        """Why there is no answer."""
        source, target = self.source, self.target
        stop = shown.stop
        if isinstance(stop, Visit) and stop.before is None and not stop.walk.outputs:  # it did not leave br-int
            return f"{why(shown)}{self._apart()}"
        if address != target.address:
            return f"nobody in {source.network} is the gateway {address}{self._no_gateway()}"
        if target.port and target.port.network == source.network:
            return f"{target.name} did not hear the question: {why(shown)}"
        return f"nobody in {source.network} has {address}{self._apart()}"

    def _no_gateway(self) -> str:
        legs = self._legs(self.source.subnet)
        if legs:
            return f"; {legs[0].name} is {legs[0].ip}"
        return self._apart() or ": no router stands there"

    def _legs(self, subnet: str) -> list[RouterPort]:
        return [leg for legs in self.topology.legs_by_router.values() for leg in legs
                if leg.subnet == subnet and not leg.outside]

    def _apart(self) -> str:
        """What keeps the two apart, if they are in different networks or subnets."""
        source, other = self.source, self.target.port
        if other is None or other.subnet == source.subnet:
            return ""
        where = f"{other.name} is on {other.network}, {source.name} on {source.network}"
        if other.network == source.network:
            where = f"{other.name} is on {other.subnet}, {source.name} on {source.subnet}"
        joint = [leg.router for leg in self._legs(source.subnet)
                 if leg.router in {one.router for one in self._legs(other.subnet)}]
        return f"; {where}, and {f'only {joint[0]} joins them' if joint else 'no router joins them'}"
