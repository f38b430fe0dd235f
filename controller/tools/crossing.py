"""What becomes of a frame that leaves the switches for a router: a namespace, or the daemon for a simulated one.

Both are `flows.qrouter` here: it is what the daemon runs, and packet for packet what Linux does.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from controller.model import names, routing
from controller.model.topology import RouterPort, Topology
from controller.switch.hop import way_back
from controller.tools import frames
from flows import fields as f
from flows import qrouter
from flows.fields import Criterion
from flows.host import SimulatedRouter
from flows.packet import Packet
from flows.qrouter import Outcome, Sent, State
from flows.router import Router
from flows.tables import Table

DAEMON: Final = "tunbridge"  # stands for the daemon where others have a device
_NOW: Final = 0.0  # a trace is over before any timer


@dataclass(frozen=True)
class Put:
    """A frame that a router puts back into br-int: by a leg's port, or as the daemon does, by a table."""

    device: str
    packet: Packet
    forwarded: bool  # else the router made it
    start: Table | None = None
    registers: tuple[Criterion, ...] = ()


@dataclass(frozen=True)
class Passage:
    """One frame in a router."""

    router: str
    place: str  # the namespace's name, or DAEMON
    leg: str  # the name of the leg that it came in by
    outcome: Outcome
    puts: tuple[Put, ...]


class Routers:
    """The routers of a cloud, and what they remember of the frames that came."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._states: dict[str, State] = {}

    def in_namespace(self, leg: RouterPort, packet: Packet) -> Passage:
        """A frame came out of br-int by a leg's port."""
        outcome = self._receive(routing.router_value(self._topology, leg.router), leg.device, packet, 0)
        puts = (Put(sent.leg, frames.decode(sent.frame), sent.forwarded) for sent in outcome.sent)
        place = names.qrouter(self._topology.routers[leg.router].id)
        return Passage(leg.router, place, leg.device, outcome, tuple(puts))

    def in_daemon(self, placed: Iterable[SimulatedRouter], packet: Packet) -> Passage | None:
        """A table of br-int asks the daemon; None if it is for none of the host's routers, as they are placed there."""
        number, leg = (packet.get(field) for field in (f.REG_ROUTER, f.REG_CAME_BY))
        for simulated in placed:
            numbers = next((one for one in simulated.legs if one.number == leg), None)
            if simulated.number == number and numbers is not None:
                outcome = self._receive(qrouter.bare(simulated.router), numbers.name, packet,
                                        packet.get(f.REG_TRANSLATED) or 0)
                return Passage(simulated.router.name, DAEMON, numbers.name, outcome,
                               tuple(_back(simulated, outcome.sent)))
        return None

    def _receive(self, router: Router, leg: str, packet: Packet, mark: int) -> Outcome:
        state = self._states.get(router.name, State())
        outcome, self._states[router.name] = qrouter.receive(router, state, leg, frames.encode(packet), _NOW, mark=mark)
        return outcome


def _back(simulated: SimulatedRouter, sents: Iterable[Sent]) -> Iterator[Put]:
    for sent in sents:
        registers, table = way_back(simulated, sent)
        yield Put(DAEMON, frames.decode(sent.frame), sent.forwarded, table, registers)
