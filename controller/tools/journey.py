"""A packet's journey as values: legs, each of them one packet, and hops, the places that it passes. And as JSON."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from controller.tools.headers import Change, changes, headers
from flows.cookie import cookie_of
from flows.flow import Flow
from flows.packet import Packet
from flows.tables import Table
from flows.text import line

# Where a hop is: the VM's interface, a device before br-int, a port of a bridge, one of its tables, between hosts, in a
# router (its namespace, or the daemon), or outside.
VM, TAP, QBR, QVB, PORT, TABLE, PATCH, TUNNEL, UNDERLAY, ROUTER, PROVIDER, WORLD = (
    "vm", "tap", "qbr", "qvb", "port", "table", "patch", "tunnel", "underlay", "router", "provider", "internet")
DHCP: Final = "dhcp"  # the namespace of a DHCP server
QUESTION, ANSWER, REQUEST, REPLY, BROADCAST = "question", "answer", "request", "reply", "broadcast"  # parts
DELIVERED, DROPPED, ANSWERED = "delivered", "dropped", "answered"  # verdicts; of a leg, ARRIVED for the first
ARRIVED: Final = "arrived"

Json = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A flow, and where in the topology its cause stands."""

    flow: Flow
    line: int | None

    def document(self) -> Json:
        """As plain values."""
        return {"flow": line(self.flow), "why": self.flow.why, "origin": self.flow.origin, "line": self.line}


@dataclass(frozen=True)
class Tracked:
    """What connection tracking said and did."""

    zone: int
    state: tuple[str, ...]  # empty where nobody asks for it
    commit: bool
    translation: str | None  # in words

    def document(self) -> Json:
        """As plain values."""
        return {"zone": self.zone, "state": list(self.state), "commit": self.commit, "translation": self.translation}


@dataclass(frozen=True)
class Lookup:
    """What a table said."""

    table: Table
    row: Row | None  # None: no flow matches
    clauses: tuple[Row, ...] = ()
    tracked: Tracked | None = None
    learned: tuple[Flow, ...] = ()
    outputs: tuple[str, ...] = ()  # devices


@dataclass(frozen=True)
class Observed:
    """What was seen at a hop of a running lab."""

    seen: bool | None  # None: nobody can tell
    how: str  # captured | counted | hidden
    note: str = ""
    packet: str | None = None
    vlan: int | None = None
    tunnel_id: int | None = None
    milliseconds: float | None = None  # since the packet was sent


@dataclass(frozen=True)
class Hop:
    """One place that a packet passes."""

    host: str
    device: str
    kind: str
    why: str
    wears: Packet  # as it leaves the place
    said: Lookup | None = None  # of kind TABLE
    after: int | None = None  # the place, in its leg, of the hop before it; None for the first
    observed: Observed | None = None
    owner: str = ""  # the port whose wires these are, or the router; empty for what belongs to a host

    @property
    def table(self) -> str | None:
        """The table's name."""
        return self.said.table.name if self.said else None

    @property
    def flow(self) -> str | None:
        """The flow, as ovs-ofctl has it."""
        return line(self.said.row.flow) if self.said and self.said.row else None

    @property
    def vlan(self) -> int | None:
        """The VLAN that it wears."""
        return self.wears.vlan

    @property
    def tunnel_id(self) -> int | None:
        """The tunnel id that it goes with."""
        return self.wears.tunnel_id or None

    @property
    def packet(self) -> str:
        """What it says, in words."""
        return str(self.wears)


@dataclass(frozen=True)
class Taught:
    """What a switch learned."""

    host: str
    bridge: str
    flow: Flow


@dataclass(frozen=True)
class Leg:
    """One packet of a journey, from its sender to where it ends."""

    title: str
    hops: tuple[Hop, ...] = ()
    aside: str = ""  # what else came of it
    part: str = REQUEST
    sender: str = ""
    receiver: str | None = None
    outcome: str = ARRIVED
    reached: tuple[str, ...] = ()  # every port that got a copy
    hosts: tuple[str, ...] = ()  # every host that got a copy
    learned: tuple[Taught, ...] = ()
    round: int = 1

    def changed(self) -> Iterator[tuple[Hop, tuple[Change, ...]]]:
        """Each hop with what differs from the hop before it."""
        worn = [headers(hop.wears) for hop in self.hops]
        for hop, mine in zip(self.hops, worn, strict=True):
            yield hop, changes(worn[hop.after], mine) if hop.after is not None else ()

    @property
    def is_tree(self) -> bool:
        """Whether it forks."""
        ways = [hop.after for hop in self.hops]
        return len(ways) != len(set(ways))


@dataclass(frozen=True)
class Live:
    """What was observed of a whole journey in a running lab."""

    differs: tuple[str, ...]
    unknown: tuple[str, ...]
    token: str

    @property
    def agrees(self) -> bool:
        """Whether all that was seen is as computed."""
        return not self.differs

    def document(self) -> Json:
        """As plain values."""
        return {"agrees": self.agrees, "differs": list(self.differs), "unknown": list(self.unknown),
                "token": self.token}


@dataclass(frozen=True)
class Journey:
    """What became of a request, and the way of its packets."""

    verdict: str  # delivered | dropped | answered
    reason: str
    legs: tuple[Leg, ...]
    routers: tuple[str, ...] = ()  # that the request passed, in order
    source: str = ""
    target: str = ""
    service: str = ""
    live: Live | None = field(default=None)

    @property
    def hops(self) -> tuple[Hop, ...]:
        """All hops, in the order of time."""
        return tuple(hop for leg in self.legs for hop in leg.hops)

    def document(self) -> Json:
        """The journey as plain values for JSON; docs/trace.md says what they are."""
        legs: list[Json] = []
        hops: list[Json] = []
        for number, leg in enumerate(self.legs):
            first = len(hops)
            legs.append(_leg(leg, number, first))
            hops += (_hop(hop, changed, {"number": first + place, "leg": number,
                                         "after": None if hop.after is None else first + hop.after})
                     for place, (hop, changed) in enumerate(leg.changed()))
        return {"verdict": self.verdict, "reason": self.reason, "source": self.source, "target": self.target,
                "service": self.service, "legs": legs, "hops": hops,
                "live": self.live.document() if self.live else None}


def in_line(hops: Iterator[Hop]) -> tuple[Hop, ...]:
    """Hops that come one after the other."""
    return tuple(replace(hop, after=place - 1 if place else None) for place, hop in enumerate(hops))


def _leg(leg: Leg, number: int, first: int) -> Json:
    return {"number": number, "round": leg.round, "part": leg.part, "title": leg.title, "sender": leg.sender,
            "receiver": leg.receiver, "outcome": leg.outcome, "first": first if leg.hops else None,
            "last": first + len(leg.hops) - 1 if leg.hops else None, "reached": list(leg.reached),
            "hosts": list(leg.hosts), "aside": leg.aside,
            "learned": [{"host": one.host, "bridge": one.bridge, "flow": line(one.flow), "why": one.flow.why}
                        for one in leg.learned]}


def _hop(hop: Hop, changed: tuple[Change, ...], place: Json) -> Json:
    return {"host": hop.host, "device": hop.device, "kind": hop.kind, "table": hop.table, "flow": hop.flow,
            "why": hop.why, "vlan": hop.vlan, "tunnel_id": hop.tunnel_id, "packet": hop.packet, **place,
            "owner": hop.owner, "headers": headers(hop.wears), "changes": [vars(one) for one in changed],
            **_said(hop.said), "observed": vars(hop.observed) if hop.observed else None}


def _said(said: Lookup | None) -> Json:
    row = said.row if said else None
    return {"table_id": said.table.id if said else None, "question": said.table.question if said else None,
            "priority": row.flow.priority if row else None, "cookie": f"{cookie_of(row.flow):#x}" if row else None,
            "origin": row.flow.origin if row else None, "line": row.line if row else None,
            "clauses": [one.document() for one in said.clauses] if said else [],
            "tracked": said.tracked.document() if said and said.tracked else None,
            "learned": [{"flow": line(one), "why": one.why} for one in said.learned] if said else [],
            "outputs": list(said.outputs) if said else []}
