"""What the parts of the routed hop (flows.qrouter) pass to each other: state, outcomes, packets on their way."""
from __future__ import annotations

from dataclasses import dataclass, field, replace

from flows.router import Leg, Router
from flows.routing.conntrack import Connections, Tracking
from flows.routing.fragments import Key, Parts, Whole
from flows.routing.frozenmap import FrozenMap
from flows.routing.icmp_limits import Budget
from flows.routing.neighbours import Neighbour
from flows.routing.wireformat import Datagram


class Drop(Exception):
    """A packet goes no further; says why."""


@dataclass(frozen=True)
class Sent:
    """A frame that leaves by a leg. `mark` is that of the packet that caused it."""

    leg: str
    frame: bytes
    forwarded: bool = field(default=False, compare=False)  # else the router made it: ARP, ICMP errors, answers
    mark: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Forwarded:
    """The packet went on: `sent` is the packet (or its fragments, or others that waited for this answer)."""

    why: str
    sent: tuple[Sent, ...] = ()


@dataclass(frozen=True)
class Answered:
    """The packet was for the router: `sent` is the answer, if it wants one."""

    why: str
    sent: tuple[Sent, ...] = ()


@dataclass(frozen=True)
class Kept:
    """The router remembers something until more comes; `sent` is what it asks meanwhile."""

    why: str
    sent: tuple[Sent, ...] = ()


@dataclass(frozen=True)
class Refused:
    """The packet ended here; `sent` is the ICMP error that says so, if there is one."""

    why: str
    sent: tuple[Sent, ...] = ()


Outcome = Forwarded | Answered | Kept | Refused


@dataclass(frozen=True)
class Parcel:
    """A packet on its way through. `leg` is where it came in; `for_us`: in a frame to that leg's own MAC."""

    whole: Whole
    tracking: Tracking | None
    leg: Leg
    for_us: bool
    own: bool = False  # made by the router
    mark: int = 0  # what the caller calls it; stays with it, and with what is sent because of it

    @property
    def datagram(self) -> Datagram:
        """The packet itself."""
        return self.whole.datagram

    def with_(self, datagram: Datagram) -> Parcel:
        """The same with the packet rewritten."""
        return replace(self, whole=replace(self.whole, datagram=datagram))


@dataclass(frozen=True)
class State:
    """Everything that a router remembers from one packet to the next."""

    neighbours: FrozenMap[tuple[str, int], Neighbour[Parcel]] = field(default_factory=FrozenMap)
    connections: Connections = field(default_factory=Connections)
    fragments: FrozenMap[Key, Parts] = field(default_factory=FrozenMap)
    budget: Budget = field(default_factory=Budget)
    ident: int = 1  # IPv4 identification of the router's next own packet


class Desk:
    """The work on one packet: a state that is being changed, and what has been sent so far.

    It lives as long as one call of `receive` or `tick`, which stay pure.
    """

    def __init__(self, router: Router, state: State, now: float, mark: int = 0) -> None:
        self.router = router
        self.now = now
        self.mark = mark  # of the packet that came in
        self.neighbours = state.neighbours
        self.connections = state.connections
        self.fragments = state.fragments
        self.budget = state.budget
        self.ident = state.ident
        self.sent: list[Sent] = []

    def state(self) -> State:
        """What it has become."""
        return State(self.neighbours, self.connections, self.fragments, self.budget, self.ident)

    def next_ident(self) -> int:
        """An identification for a packet of the router's own."""
        self.ident = self.ident % 0xFFFF + 1
        return self.ident
