"""Translation: source NAT with ports, floating IPs, and the ICMP errors that belong to what was translated.

Linux's order: the destination is written before the route is chosen, the source after it.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

from flows.fields import UDP
from flows.packet import ICMP, TCP
from flows.routing.conntrack import Connection, Connections, Tracking
from flows.routing.transport import REDIRECT, Way, inverse, quoted, requoted, with_destination, with_source
from flows.routing.wireformat import Datagram

_QUOTED_LEAST = 8  # RFC 792: bytes of the payload in an ICMP error


def to_address(table: Connections, tracking: Tracking, address: int, now: float) -> Tracking:
    """A new connection goes to `address`: the fixed IP of a floating one, or where it wanted to.

    The id of an ICMP query belongs to neither end; Linux makes it unique here already, and calls that a translation
    of the destination.
    """
    connection = tracking.connection
    reply = connection.reply._replace(src=address)
    if reply.proto == ICMP:
        reply = _free(table, connection, reply, now, chain((reply.src_port,), range(0x10000))) or reply
    changed = reply != connection.reply
    return replace(tracking, connection=replace(connection, reply=reply, destination_changed=changed))


def from_address(table: Connections, tracking: Tracking, address: int, now: float) -> Tracking | None:
    """A new connection leaves as `address`, with its own port if that is free, else with another one of its kind.

    None if no port is left.
    """
    connection = tracking.connection
    wanted = connection.reply._replace(dst=address)
    reply = _free(table, connection, wanted, now, _ports(_port_to(wanted), wanted.proto))
    if reply is None:
        return None
    changed = reply != connection.reply
    return replace(tracking, connection=replace(connection, reply=reply, source_changed=changed))


def _free(table: Connections, connection: Connection, reply: Way, now: float, ports: Iterable[int]) -> Way | None:
    """The way of answers, with the first port at which no other connection's answers look the same."""
    for port in ports:
        wanted = reply._replace(src_port=port) if reply.proto == ICMP else reply._replace(dst_port=port)
        taken = table.find(wanted, now)
        if taken is None or taken.connection.original == connection.original:
            return wanted
    return None


def _ports(own: int, proto: int) -> Iterator[int]:
    """Its own port, then all others of the same kind, beginning far away, where no neighbour port is likely taken."""
    yield own
    if proto not in (ICMP, TCP, UDP):
        return
    # Linux keeps privileged ports privileged; the ids of ICMP have no kinds.
    kinds = (range(0x10000),) if proto == ICMP else (range(1, 512), range(512, 1024), range(1024, 0x10000))
    kind = next((kind for kind in kinds if own in kind), kinds[-1])
    middle = kind.start + (own - kind.start + len(kind) // 2) % len(kind)
    yield from range(middle, kind.stop)
    yield from range(kind.start, middle)


def write_destination(datagram: Datagram, tracking: Tracking | None) -> Datagram:
    """The packet after the first half of its translation, before the route is chosen."""
    if tracking is None:
        return datagram
    connection, back = tracking.connection, tracking.back
    if not (connection.source_changed if back else connection.destination_changed):
        return datagram
    target = inverse(connection.way(back=not back))
    if not tracking.about:
        return with_destination(datagram, target.dst, _port_to(target))
    other = connection.way(back=not back)
    inner = quoted(datagram)
    if inner is None:
        return datagram
    return replace(requoted(datagram, with_source(inner, other.src, other.src_port)), dst=other.src)


def write_source(datagram: Datagram, tracking: Tracking | None) -> Datagram:
    """The packet after the second half of its translation, when it is about to leave."""
    if tracking is None:
        return datagram
    connection, back = tracking.connection, tracking.back
    if not (connection.destination_changed if back else connection.source_changed):
        return datagram
    target = inverse(connection.way(back=not back))
    if not tracking.about:
        return with_source(datagram, target.src, target.src_port)
    other = connection.way(back=not back)
    inner = quoted(datagram)
    if inner is None:
        return datagram
    return replace(requoted(datagram, with_destination(inner, other.dst, _port_to(other))), src=other.dst)


def _port_to(way: Way) -> int:
    return way.src_port if way.proto == ICMP else way.dst_port


def untranslatable(datagram: Datagram, tracking: Tracking | None) -> bool:
    """Whether an ICMP error must end here: it cannot be told to the other side of its connection.

    A redirect would name an address of this side; and from too short a quote nobody learns what it is about.
    """
    if tracking is None or not tracking.about:
        return False
    translated = tracking.connection.source_changed or tracking.connection.destination_changed
    if datagram.payload[0] == REDIRECT:
        return translated or tracking.new
    inner = quoted(datagram)
    return translated and (inner is None or (inner.proto in (TCP, UDP) and len(inner.payload) < _QUOTED_LEAST))
