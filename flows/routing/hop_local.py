"""Packets for the router itself, and the moment when a connection becomes one."""
from __future__ import annotations

from dataclasses import replace

from flows.fields import UDP
from flows.packet import ICMP, TCP
from flows.router import Kind, Router, Target
from flows.routing import options
from flows.routing.conntrack import track
from flows.routing.hop import Answered, Desk, Drop, Outcome, Parcel
from flows.routing.hop_send import error, send_own
from flows.routing.nat import from_address
from flows.routing.transport import ACK, ECHO_REPLY, ECHO_REQUEST, FIN, RST, SYN, UNREACHABLE, icmp, is_error, sound
from flows.routing.wireformat import Datagram, summed

_PROTOCOL, _PORT = 2, 3  # codes of "unreachable"
_TCP_SUM = 16
_TOS_SENT = 0xFC  # without the ECN bits (RFC 3168)
_IGMP = 2


def deliver(desk: Desk, parcel: Parcel, target: Target) -> Outcome:
    """A packet for one of the router's addresses: it answers echo requests, and that nobody listens."""
    datagram = parcel.datagram
    # A broadcast, too, begins a connection, and then no other connection's answers may look like its own.
    parcel = confirm(desk, parcel, None)
    if target.kind is Kind.BROADCAST:
        raise Drop("the router does not answer broadcasts")
    if datagram.proto == ICMP:
        return _echo(desk, parcel)
    if datagram.proto == _IGMP:
        raise Drop("the router takes part in no multicast")
    if datagram.proto == TCP:
        return _reset(desk, parcel)
    if datagram.proto == UDP and not sound_enough(datagram):
        raise Drop("its UDP checksum is wrong")
    code = _PORT if datagram.proto == UDP else _PROTOCOL
    error(desk, parcel, UNREACHABLE, code, source=datagram.dst)
    raise Drop("nothing listens there")


def sound_enough(datagram: Datagram) -> bool:
    """UDP as a receiver checks it, who looks only at as many bytes as its header says."""
    length = int.from_bytes(datagram.payload[4:6], "big")
    return sound(replace(datagram, payload=datagram.payload[:length])) if length else False


def confirm(desk: Desk, parcel: Parcel, target: Target | None) -> Parcel:
    """A new connection is kept, now that its first packet leaves (by the target's leg) or is for the router."""
    tracking = parcel.tracking
    if tracking is None or not tracking.new:
        return parcel
    if len(desk.connections) >= desk.router.limits.connections:
        raise Drop("too many connections")
    address = _source(desk.router, parcel, target) if target else tracking.connection.original.src
    settled = from_address(desk.connections, tracking, address, desk.now)
    if settled is None:
        raise Drop("no port is left for its translation")
    desk.connections = desk.connections.with_(settled.connection)
    return replace(parcel, tracking=settled)


def _source(router: Router, parcel: Parcel, target: Target) -> int:
    """What a new connection's source becomes: Neutron's rules in the order of its chains."""
    source = parcel.datagram.src
    connection = parcel.tracking.connection if parcel.tracking else None
    to_floating = connection is not None and connection.destination_changed
    if router.gateway is None or router.outside is None or (target.leg != router.outside and not to_floating):
        return source
    if (floating := router.floating_of.get(source)) is not None:
        return floating
    gateway = router.snat_address
    hidden = router.gateway.snat if target.leg == router.outside else parcel.leg != router.outside
    return gateway if hidden and gateway is not None else source


def _echo(desk: Desk, parcel: Parcel) -> Outcome:
    datagram = parcel.datagram
    if not sound(datagram):
        raise Drop("an ICMP message with a wrong checksum, or none that is known")
    if is_error(datagram):
        raise Drop("an ICMP error about a packet that the router did not send")
    if datagram.payload[0] != ECHO_REQUEST:
        raise Drop("an ICMP message that wants no answer")
    kind = datagram.payload
    body = icmp(ECHO_REPLY, kind[1], int.from_bytes(kind[4:8], "big"), kind[8:])
    reply = Datagram(datagram.dst, datagram.src, ICMP, body, tos=datagram.tos, ident=desk.next_ident(),
                     options=_echoed(desk, datagram))
    _reply(desk, reply)
    return Answered("an echo request for the router")


def _echoed(desk: Desk, datagram: Datagram) -> bytes:
    back = desk.router.lookup(datagram.src)
    return options.echoed(datagram.options, datagram.dst, back.source) if back else b""


def _reply(desk: Desk, datagram: Datagram) -> None:
    tracking = track(desk.connections, datagram, desk.now)
    if tracking and not tracking.new:
        desk.connections = desk.connections.with_(tracking.connection)
    send_own(desk, datagram, tracking, desk.mark)


def _reset(desk: Desk, parcel: Parcel) -> Outcome:
    """RFC 793, 3.4: a segment for a port where nobody listens."""
    datagram, body = parcel.datagram, parcel.datagram.payload
    head = (body[12] >> 4) * 4 if len(body) >= 20 else 0
    if not parcel.for_us or head < 20 or head > len(body) or summed(datagram, _TCP_SUM) != datagram:
        raise Drop("a TCP segment with a wrong checksum or header, or for many")
    flags = body[13]
    if flags & RST:
        raise Drop("a reset wants no answer")
    if flags & ACK:
        sequence, acknowledged, answer = body[8:12], bytes(4), RST
    else:
        length = len(body) - head + bool(flags & SYN) + bool(flags & FIN)
        after = (int.from_bytes(body[4:8], "big") + length) % 2**32
        sequence, acknowledged, answer = bytes(4), after.to_bytes(4, "big"), RST | ACK
    segment = body[2:4] + body[0:2] + sequence + acknowledged + bytes((0x50, answer)) + bytes(6)
    reply = summed(Datagram(datagram.dst, datagram.src, TCP, segment, tos=datagram.tos & _TOS_SENT,
                            dont_fragment=True, options=_echoed(desk, datagram)), _TCP_SUM)
    _reply(desk, reply)
    return Answered("nothing listens there: a reset")
