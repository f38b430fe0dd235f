"""The first packet of what is traced and the answer to it, there and back; and what became of both, as a verdict."""
from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

from controller.model.topology import Address, Port
from controller.tools import world
from controller.tools.apart import apart
from controller.tools.arrivals import (
    ECHO_REQUEST,
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
from controller.tools.journey import ANSWERED, DELIVERED, DROPPED, REPLY, REQUEST, ROUTER, TABLE, Hop, Journey, Leg
from controller.tools.stops import Crossing, Ending
from controller.tools.telling import listed, numbers, refusal, routers, why
from controller.tools.tracing import Shot, Tracing, parted
from flows import fields as f
from flows import packet as packets
from flows.packet import Packet


class Speaking:
    """One packet and its answer; `number` counts from 1."""

    def __init__(self, trace: Tracing, mac: str, number: int) -> None:
        self._trace = trace
        self._mac = mac
        self._number = number

    def journey(self) -> Journey:
        """The verdict, and these legs alone."""
        found = self._journey()
        return replace(found, legs=tuple(replace(leg, round=self._number) for leg in found.legs))

    def _journey(self) -> Journey:
        trace, source, service = self._trace, self._trace.source, self._trace.service
        shot = trace.send(source, service.request((source.mac, source.ip), (self._mac, trace.target.address)))
        reached = next((one for one in shot.endings if has_come(one)
                        and not (one.port == source and service.is_reply(one.packet))), None)
        spoken = next((one for one in shot.endings if one.port == source
                       and (one.packet.get(ICMP_TYPE) is not None or service.is_reply(one.packet))), None)
        shown = reached or spoken or trace.telling(shot)
        again = " again" if self._number > 1 else ""
        words = Leg(f"{service.asks(source.name, trace.target.address)}{again}", aside=_spread(shot), part=REQUEST)
        leg = trace.leg(shot, shown, words)
        if reached is not None:
            return self._reached(reached, leg)
        if spoken is None:
            silence = ", and nobody answers" if isinstance(shown.stop, Crossing) else ""
            lost = replace(leg, receiver=None, outcome=DROPPED)
            return Journey(DROPPED, f"{why(shown)}{silence}", (lost,))
        legs = self._turned(leg, spoken)
        if service.is_reply(spoken.packet):
            return Journey(ANSWERED, self._own_answer(spoken), legs, routers(spoken))
        return Journey(DROPPED, f"{refusal(spoken)}, and tells {source.name}{apart(trace)}", legs)

    def _turned(self, leg: Leg, spoken: Ending) -> tuple[Leg, ...]:
        """The request up to the router that did not pass it on, and what it said to that."""
        first = next((n for n, hop in enumerate(leg.hops) if self._is_said_back(hop)), len(leg.hops))
        by_table = 0 < first < len(leg.hops) and leg.hops[first].kind == TABLE and leg.hops[first - 1].kind != ROUTER
        way, back = parted(leg.hops, first + 1 if by_table else first)
        crossed = [stop for stop in spoken.stop.way if isinstance(stop, Crossing)]
        who = crossed[-1].passage.router if crossed else "the switch"
        said = Leg(f"{who} says: {spoken.packet}", back, part=REPLY, sender=who, receiver=leg.sender,
                   reached=(leg.sender,))
        return replace(leg, hops=way, receiver=who, outcome=ANSWERED, reached=()), said

    def _is_said_back(self, hop: Hop) -> bool:
        return hop.wears.get(ICMP_TYPE) not in (None, ECHO_REQUEST) or self._trace.service.is_reply(hop.wears)

    # ---- it has come

    def _reached(self, reached: Ending, leg: Leg) -> Journey:
        trace, source, port = self._trace, self._trace.source, reached.port
        if reason := self._wrong(reached):
            return Journey(DROPPED, reason, (replace(leg, outcome=DROPPED),))
        got = f"{port.name} got it on {port.host}" if port else "the world outside got it"
        seen_as = _source(reached.packet)
        shown = f" from {seen_as}" if seen_as != str(source.ip) else ""
        reply, lost = self._back(reached)
        legs = (leg, reply) if reply else (leg,)
        if lost:
            return Journey(DROPPED, f"{got}{shown}, but its answer is lost: {lost}", legs)
        way = numbers(trace.topology, trace.cloud, source, reached)
        return Journey(DELIVERED, f"{got}{shown}: {way}", legs, routers(reached))

    def _wrong(self, reached: Ending) -> str:
        """Why who got it is not who was meant, or does not want it."""
        trace, target, port = self._trace, self._trace.target, reached.port
        if port is None and not world.has(trace.topology, IPv4Address(reached.packet.get(f.IPV4_DST) or 0)):
            return f"the world outside is not {target.address}, and passes nothing on"
        if target.port and port != target.port and (port is None or target.port.network != port.network):
            who = port.name if port else "the world outside"
            return f"from {trace.source.network}, {target.address} is {who}, not {target.name}{apart(trace)}"
        seen_as = _source(reached.packet)
        if port and routers(reached) and port.vm == trace.source.vm and \
                seen_as in own_addresses(trace.topology, port.vm):
            return f"{port.vm} believes nobody else who shows its own address {seen_as}"
        return ""

    # ---- the answer

    def _back(self, reached: Ending) -> tuple[Leg | None, str]:
        """The answer's leg, and why it does not come; empty if it does."""
        trace, port = self._trace, reached.port
        shot, lost = self._reply(reached)
        if shot is None:
            return None, lost
        came = next((one for one in shot.endings
                     if one.port == trace.source and trace.service.is_reply(one.packet)), None)
        who = port.name if port else "The world outside"
        if came is None:
            shown = most_telling(shot.endings, trace.source)
            return trace.leg(shot, shown, Leg(f"{who} answers", part=REPLY)), why(shown)
        by_way = f"On its way back: {numbers(trace.topology, trace.cloud, port, came)}."
        aside = " ".join(words for words in (by_way if routers(came) else "", _spread(shot)) if words)
        leg = trace.leg(shot, came, Leg(f"{who} answers, and {trace.source.name} gets it", aside=aside, part=REPLY))
        if _source(came.packet) != str(trace.target.address):
            return leg, f"it shows {_source(came.packet)}, which {trace.source.name} did not ask"
        return leg, ""

    def _reply(self, reached: Ending) -> tuple[Shot | None, str]:
        """The answer is sent, or why it cannot be."""
        trace, packet = self._trace, reached.packet
        asker, asked = ip_address(_source(packet)), ip_address(_target(packet))
        if reached.port is not None:
            return self._from_vm(reached, asker, asked)
        network = world.near(trace.topology, IPv4Address(int(asker)))
        mac = self._mac_from_outside(network, IPv4Address(int(asker))) if network else None
        if not network or not mac:
            return None, f"the world outside finds no way to {asker}"
        own = world.mac(trace.topology, network)
        reply = trace.service.reply((own, str(asked)), (mac, str(asker)), packet)
        return trace.send_from_outside(network, reply), ""

    def _from_vm(self, reached: Ending, asker: Address, asked: Address) -> tuple[Shot | None, str]:
        trace, port, packet = self._trace, reached.port, reached.packet
        assert port is not None
        if not routers(reached):  # who asks for a MAC tells its own
            reply = trace.service.reply((mac_for(port, asked), str(asked)), (mac_of(packet), str(asker)), packet)
            return trace.send(port, reply), ""
        card = trace.card_towards(port, asker)
        next_hop, reason = trace.next_hop(card, asker)
        mac = self._mac_of(card, next_hop) if next_hop else None
        if not mac:
            return None, reason or f"nobody in {card.network} tells {card.name} the MAC of {next_hop}"
        return trace.send(card, trace.service.reply((card.mac, str(asked)), (mac, str(asker)), packet)), ""

    def _mac_of(self, port: Port, address: Address) -> str | None:
        """What a VM learns if it asks for an address of its network."""
        for one in self._trace.cloud.send(port, question(port, address)):
            if one.port is not None and is_answer(one, port, address):
                return mac_of(one.packet) if one.port == port else mac_for(one.port, address)
        return None

    def _mac_from_outside(self, network: str, address: IPv4Address) -> str | None:
        """What the world outside learns if it asks for an address."""
        topology = self._trace.topology
        own = next(iter(world.gateways(topology, network)), IPv4Address(0))
        asked = packets.arp_request(world.mac(topology, network), own, address)
        for one in self._trace.cloud.send_from_outside(network, asked):
            if one.outside == network and one.packet.get(f.ARP_OP) == f.ARP_REPLY:
                return mac_of(one.packet)
            if one.port is not None and owns(one.port, address):
                return mac_for(one.port, address)
        return None

    def _own_answer(self, spoken: Ending) -> str:
        """A router's answer to what was for itself."""
        topology, address = self._trace.topology, self._trace.target.address
        router = next(iter(routers(spoken)), "")
        leg = next((one for one in topology.legs_by_router.get(router, ()) if one.ip == address), None)
        where = f", which is {leg.name}" if leg else ""
        host = leg.host if leg else topology.routers[router].host if router else ""
        does = "answers" if self._trace.service.port is None else "itself refuses"  # nothing listens there
        return f"{router} on {host} {does} as {address}{where}"


def _spread(shot: Shot) -> str:
    """Said of a frame that came to more hosts than one."""
    last = dict.fromkeys(one.stop.host for one in shot.endings)
    return f"It was flooded to {len(last)} hosts: {listed(last)}." if len(last) > 1 else ""


def _source(packet: Packet) -> str:
    return packet.shown(f.IPV4_SRC) or packet.shown(f.IPV6_SRC)


def _target(packet: Packet) -> str:
    return packet.shown(f.IPV4_DST) or packet.shown(f.IPV6_DST)
