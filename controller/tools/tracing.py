"""What every leg of a trace is made of: the cloud that remembers, who asks, and how a sent frame becomes a leg."""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from controller.model.reachability import INTERNET
from controller.model.topology import Address, Port, Topology
from controller.model.walking import World
from controller.tools.arrivals import most_telling, question
from controller.tools.journey import ARRIVED, DROPPED, Hop, Leg, Taught, in_line
from controller.tools.lookups import taught
from controller.tools.passing import Passing, Sent
from controller.tools.services import Service
from controller.tools.simulate import Cloud
from controller.tools.stops import Crossing, Ending
from flows.packet import Packet


@dataclass(frozen=True)
class Target:
    """Whom the packet is for."""

    address: Address
    name: str  # as the user said it
    port: Port | None  # None: only the address was given


@dataclass(frozen=True)
class Shot:
    """A frame that was sent, and what became of all its copies."""

    sent: Sent
    endings: tuple[Ending, ...]

    @property
    def sender(self) -> str:
        """Who sent it."""
        return self.sent.sender.name if self.sent.sender else INTERNET


@dataclass(frozen=True)
class Tracing:
    """One trace."""

    topology: Topology
    cloud: Cloud
    source: Port
    target: Target
    service: Service

    @cached_property
    def passing(self) -> Passing:
        """Makes its hops."""
        return Passing(self.topology, self.cloud)

    def send(self, port: Port, packet: Packet) -> Shot:
        """A VM sends a frame."""
        endings = self.cloud.send(port, packet)
        return Shot(Sent(port, packet, self.cloud.let_out), endings)

    def send_from_outside(self, network: str, packet: Packet) -> Shot:
        """The world outside does."""
        return Shot(Sent(None, packet), self.cloud.send_from_outside(network, packet))

    def leg(self, shot: Shot, shown: Ending | None, words: Leg) -> Leg:
        """The leg of a frame, of which one copy's way is shown; `words` has its title, part and aside."""
        return replace(self.summary(shot, shown, words), hops=self.passing.hops(shot.sent, shown) if shown else ())

    def tree(self, shot: Shot, words: Leg) -> Leg:
        """The leg of a frame, of which every copy's way is shown."""
        return replace(self.summary(shot, None, words), hops=self.passing.tree(shot.sent, shot.endings))

    def summary(self, shot: Shot, shown: Ending | None, words: Leg) -> Leg:
        """The leg without its hops."""
        home = shot.sent.sender.host if shot.sent.sender else ""
        hosts = dict.fromkeys(stop.host for one in shot.endings for stop in one.stop.way if stop.host != home)
        reached = dict.fromkeys(who for one in shot.endings if (who := receiver(one)) and who != shot.sender)
        learned: dict[Taught, None] = {}
        for one in shot.endings:
            learned |= dict.fromkeys(taught(one))
        who = receiver(shown) if shown else None
        return replace(words, sender=shot.sender, receiver=who, outcome=ARRIVED if who or (not shown and reached) else
                       DROPPED, reached=tuple(sorted(reached)), hosts=tuple(hosts), learned=tuple(learned))

    def telling(self, shot: Shot) -> Ending:
        """Of the copies that missed their target, the one that came nearest."""
        return most_telling(shot.endings, self.target.port)

    def mac_of(self, port: Port, address: Address) -> tuple[Ending, ...]:
        """What becomes of a VM's question for a MAC."""
        return self.cloud.send(port, question(port, address))

    def next_hop(self, port: Port, address: Address) -> tuple[Address | None, str]:
        """Whose MAC a VM asks for, or why it does not know whom to ask."""
        subnet = self.topology.subnets[port.subnet]
        if address in subnet.cidr:
            return address, ""
        if subnet.gateway is None:
            return None, f"{address} is outside of {subnet.cidr}, and {subnet.name} has no gateway"
        by_default = self.world.default_cards.get(port.vm, port)
        if by_default != port and address.version == 4:
            return None, f"{address} is outside of {subnet.cidr}, and {port.vm}'s default route is by {by_default.name}"
        return subnet.gateway, ""

    @cached_property
    def world(self) -> World:
        """Who would send what where."""
        return World(self.topology)

    def card_towards(self, port: Port, address: Address) -> Port:
        """The port by which a VM answers, whichever it was asked by."""
        near = [(self.topology.subnets[card.subnet].cidr.prefixlen, card) for card in self.topology.vms[port.vm].ports
                if address in self.topology.subnets[card.subnet].cidr]
        if near:
            return max(near, key=lambda one: one[0])[1]
        return self.world.default_cards.get(port.vm, port)


def receiver(ending: Ending) -> str | None:
    """Who got this copy: a port, the world outside, a router that keeps it; None if nobody did."""
    if ending.port is not None:
        return ending.port.name
    if ending.outside is not None:
        return INTERNET
    if ending.server is not None:
        return ending.server.name
    return ending.stop.passage.router if isinstance(ending.stop, Crossing) else None


def parted(hops: tuple[Hop, ...], at: int) -> tuple[tuple[Hop, ...], tuple[Hop, ...]]:
    """The hops before a place, and from there on."""
    return hops[:at], in_line(iter(hops[at:]))
