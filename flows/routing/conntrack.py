"""Connections as a router tracks them: which packet belongs to which, and for how long (Linux's conntrack).

A connection is kept only once its first packet leaves (or is answered), so what is refused on the way leaves no trace.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from flows.fields import UDP
from flows.packet import ICMP, TCP
from flows.routing.frozenmap import FrozenMap
from flows.routing.transport import (
    ACK,
    FIN,
    RST,
    SYN,
    Way,
    inverse,
    is_error,
    quoted,
    segment_flags,
    sound,
    way_of,
)
from flows.routing.wireformat import Datagram


class Stage(Enum):
    """How far a connection is; the value is its timeout in seconds (Linux, net.netfilter.nf_conntrack_*)."""

    SYN_SENT = 120.001  # enum members of one value would be one
    SYN_RECEIVED = 60.0
    ESTABLISHED = 432000.0
    FIN_WAIT = 120.0  # one has said FIN
    CLOSE_WAIT = 60.001  # and the other has heard it
    LAST_ACK = 30.001  # both have said it
    TIME_WAIT = 120.003  # and that was heard, too
    CLOSED = 10.0  # by a reset
    ASKED = 30.0  # UDP or ICMP
    CONVERSING = 120.002  # UDP, both ways, for two seconds
    OTHER = 600.0  # other protocols


@dataclass(frozen=True)
class Connection:
    """A conversation: the way of its first packet as it came in, and the way of the answers as they come in."""

    original: Way
    reply: Way
    stage: Stage
    started: float
    expires: float
    answered: bool = False
    source_changed: bool = False
    destination_changed: bool = False

    def way(self, *, back: bool) -> Way:
        """One of its two ways, as packets come in."""
        return self.reply if back else self.original


@dataclass(frozen=True)
class Tracking:
    """What is known of one packet: its connection, whether it goes back, is about it (an error), or begins it."""

    connection: Connection
    back: bool = False
    about: bool = False
    new: bool = False


@dataclass(frozen=True)
class Connections:
    """All of them, found by either way."""

    by_original: FrozenMap[Way, Connection] = field(default_factory=FrozenMap)
    original_of: FrozenMap[Way, Way] = field(default_factory=FrozenMap)  # by the way of the answers

    def find(self, way: Way, now: float) -> Tracking | None:
        """The connection that a packet of this way belongs to, if it has not expired."""
        connection = self.by_original.get(way)
        if connection is not None and connection.expires > now:
            return Tracking(connection)
        original = self.original_of.get(way)
        connection = self.by_original.get(original) if original else None
        if connection is None or connection.expires <= now:
            return None
        return Tracking(connection, back=True)

    def with_(self, connection: Connection) -> Connections:
        """With one more, or with what is newly known of one."""
        table = self
        if (old := self.by_original.get(connection.original)) is not None and old.reply != connection.reply:
            table = self.without(old)
        replies = table.original_of
        if replies.get(connection.reply) != connection.original:
            replies = replies.with_(connection.reply, connection.original)
        return Connections(table.by_original.with_(connection.original, connection), replies)

    def without(self, connection: Connection) -> Connections:
        """With one less."""
        replies = self.original_of
        if replies.get(connection.reply) == connection.original:  # else another connection has it by now
            replies = replies.without(connection.reply)
        return Connections(self.by_original.without(connection.original), replies)

    def swept(self, now: float) -> Connections:
        """Without those that have expired."""
        table = self
        for _, connection in self.by_original.items():
            if connection.expires <= now:
                table = table.without(connection)
        return table

    def __len__(self) -> int:
        return len(self.by_original)


def track(table: Connections, datagram: Datagram, now: float) -> Tracking | None:
    """What connection a packet belongs to; None for one that cannot belong to any, which nobody translates."""
    if not sound(datagram):
        return None
    if is_error(datagram):
        return _about(table, datagram, now)
    way = way_of(datagram)
    if way is None:
        return None
    found = table.find(way, now)
    if found is not None and _contradicts(found, datagram):
        return None
    if found is not None and not _begins_anew(found, datagram):
        return replace(found, connection=_advanced(found, datagram, now))
    stage = _first_stage(datagram)
    if stage is None:
        return None
    return Tracking(Connection(way, inverse(way), stage, now, now + stage.value), new=True)


def _about(table: Connections, datagram: Datagram, now: float) -> Tracking | None:
    """An ICMP error belongs to the connection of the packet that it quotes, if it goes to that packet's sender."""
    inner = quoted(datagram)
    way = way_of(inner) if inner else None
    found = table.find(inverse(way), now) if way else None
    if found is None or found.connection.way(back=found.back).dst != datagram.dst:
        return None
    return replace(found, about=True)


def _contradicts(found: Tracking, datagram: Datagram) -> bool:
    """A TCP segment that no peer would send at this point: before an answer, or the answer of who began."""
    if datagram.proto != TCP:
        return False
    flags, stage = segment_flags(datagram), found.connection.stage
    if flags & RST:
        return False
    if stage is Stage.SYN_SENT:
        return bool(flags & FIN) if found.back else bool(flags & (ACK | FIN))
    if found.back:
        return flags & (SYN | ACK) == SYN and stage is not Stage.TIME_WAIT
    return flags & (SYN | ACK) == SYN | ACK and stage is not Stage.SYN_RECEIVED


def _begins_anew(found: Tracking, datagram: Datagram) -> bool:
    """A SYN on a closed connection is a new connection with the same ports."""
    closed = found.connection.stage in (Stage.TIME_WAIT, Stage.CLOSED)
    return datagram.proto == TCP and closed and segment_flags(datagram) & (SYN | ACK) == SYN


def _first_stage(datagram: Datagram) -> Stage | None:
    """None where a connection cannot begin with this packet."""
    if datagram.proto == TCP:
        flags = segment_flags(datagram) & (SYN | ACK | FIN | RST)
        # net.netfilter.nf_conntrack_tcp_loose: what began before the router did is picked up where it is.
        return {SYN: Stage.SYN_SENT, ACK: Stage.ESTABLISHED}.get(flags)
    if datagram.proto == ICMP:
        return Stage.ASKED if datagram.payload[0] in (8, 13, 15, 17) else None
    return Stage.ASKED if datagram.proto == UDP else Stage.OTHER


def _advanced(found: Tracking, datagram: Datagram, now: float) -> Connection:
    connection = found.connection
    answered = connection.answered or found.back
    stage = connection.stage
    if datagram.proto == TCP:
        stage = _tcp_stage(found, segment_flags(datagram))
    elif datagram.proto == UDP and answered and now >= connection.started + 2:
        stage = Stage.CONVERSING
    # A connection that was reset before anything else was answered never was one.
    refused = stage is Stage.CLOSED and not connection.answered
    return replace(connection, stage=stage, answered=answered, expires=now if refused else now + stage.value)


_AFTER_FIN = {Stage.SYN_RECEIVED: Stage.FIN_WAIT, Stage.ESTABLISHED: Stage.FIN_WAIT,
              Stage.FIN_WAIT: Stage.LAST_ACK, Stage.CLOSE_WAIT: Stage.LAST_ACK}
_AFTER_ACK = {Stage.SYN_RECEIVED: Stage.ESTABLISHED, Stage.FIN_WAIT: Stage.CLOSE_WAIT,
              Stage.LAST_ACK: Stage.TIME_WAIT}


def _tcp_stage(found: Tracking, flags: int) -> Stage:
    stage = found.connection.stage
    if flags & RST:
        return Stage.CLOSED
    if flags & SYN:
        return Stage.SYN_RECEIVED if found.back and stage is Stage.SYN_SENT else stage
    if flags & FIN:
        return _AFTER_FIN.get(stage, stage)
    return _AFTER_ACK.get(stage, stage) if flags & ACK else stage
