"""What lies above IPv4, as far as a router looks: who speaks to whom (a Way), and how to write that anew.

Checksums are changed by what changed (RFC 1624), so that a packet that was damaged before stays visibly damaged.
"""
from __future__ import annotations

import struct
from dataclasses import replace
from typing import Final, NamedTuple

from flows.fields import UDP
from flows.packet import ICMP, TCP
from flows.routing.wireformat import Datagram, checksum, patched, updated

ECHO_REPLY, UNREACHABLE, SOURCE_QUENCH, REDIRECT, ECHO_REQUEST = 0, 3, 4, 5, 8
TIME_EXCEEDED, PARAMETER_PROBLEM = 11, 12
ERRORS: Final = frozenset({UNREACHABLE, SOURCE_QUENCH, REDIRECT, TIME_EXCEEDED, PARAMETER_PROBLEM})
_NEITHER: Final = frozenset({1, 2, 6, 7, 9, 10})  # no queries, so Linux sends no error about them either
LAST_TYPE: Final = 18  # the last ICMP type that Linux knows
ICMP_HEAD: Final = 8

_QUERIES: Final = {8: 0, 13: 14, 15: 16, 17: 18}  # RFC 792 and 950: who asks, who answers
_INVERSE: Final = {**_QUERIES, **{answer: query for query, answer in _QUERIES.items()}}

FIN, SYN, RST, ACK, URG = 0x01, 0x02, 0x04, 0x10, 0x20
_CONTROL: Final = FIN | SYN | RST | ACK | URG
# What conntrack takes for a segment; every other mixture of flags is not one.
_SENSIBLE: Final = frozenset({SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG})
_TCP_HEAD, _UDP_HEAD, _PORTS = 20, 8, 4
_SUM_PLACE: Final = {TCP: 16, UDP: 6}


class Way(NamedTuple):
    """One direction of a conversation. For ICMP queries `src_port` is the id, `dst_port` type * 256 + code."""

    proto: int
    src: int
    src_port: int
    dst: int
    dst_port: int


def inverse(way: Way) -> Way:
    """The way of the answers."""
    if way.proto != ICMP:
        return Way(way.proto, way.dst, way.dst_port, way.src, way.src_port)
    kind, code = divmod(way.dst_port, 256)
    return Way(ICMP, way.dst, way.src_port, way.src, _INVERSE[kind] * 256 + code)


def way_of(datagram: Datagram) -> Way | None:
    """Between whom a packet goes; None where the protocol cannot be read, or it is an ICMP message of its own kind."""
    body = datagram.payload
    if datagram.proto not in (ICMP, TCP, UDP):
        return Way(datagram.proto, datagram.src, 0, datagram.dst, 0)
    if len(body) < (ICMP_HEAD if datagram.proto == ICMP else _PORTS):
        return None
    if datagram.proto == ICMP:
        if body[0] not in _INVERSE:
            return None
        return Way(ICMP, datagram.src, int.from_bytes(body[4:6], "big"), datagram.dst, body[0] * 256 + body[1])
    return Way(datagram.proto, datagram.src, int.from_bytes(body[0:2], "big"),
               datagram.dst, int.from_bytes(body[2:4], "big"))


def is_error(datagram: Datagram) -> bool:
    """Whether it is an ICMP message about another packet."""
    return datagram.proto == ICMP and len(datagram.payload) >= ICMP_HEAD and datagram.payload[0] in ERRORS


def may_cause_error(datagram: Datagram) -> bool:
    """RFC 1122, 3.2.2: no ICMP error about an ICMP error (or about what may be one), nor about a later fragment."""
    if datagram.offset:
        return False
    if datagram.proto != ICMP:
        return True
    kind = datagram.payload[0] if datagram.payload else LAST_TYPE + 1
    return kind <= LAST_TYPE and kind not in ERRORS | _NEITHER


def segment_flags(datagram: Datagram) -> int:
    """SYN, ACK, FIN, RST and URG of a TCP segment."""
    return datagram.payload[13] & _CONTROL


def sound(datagram: Datagram) -> bool:
    """Whether its protocol's header and checksum are right; only such packets are tracked and translated."""
    body = datagram.payload
    if datagram.proto == ICMP:
        return len(body) >= ICMP_HEAD and body[0] <= LAST_TYPE and not checksum(body)
    if datagram.proto == TCP:
        return _sound_segment(datagram)
    if datagram.proto == UDP:
        if len(body) < _UDP_HEAD or not _UDP_HEAD <= int.from_bytes(body[4:6], "big") <= len(body):
            return False
        return body[6:8] == b"\0\0" or not checksum(datagram.pseudo() + body)
    return True


def _sound_segment(datagram: Datagram) -> bool:
    body = datagram.payload
    if len(body) < _TCP_HEAD:
        return False
    head = (body[12] >> 4) * 4
    if head < _TCP_HEAD or head > len(body) or segment_flags(datagram) not in _SENSIBLE:
        return False
    return not checksum(datagram.pseudo() + body)


def with_source(datagram: Datagram, address: int, port: int) -> Datagram:
    """The packet as if sent by somebody else; `port` is the id of an ICMP query."""
    place = 4 if datagram.proto == ICMP else 0
    return _rewritten(replace(datagram, src=address), datagram.src, address, (place, port))


def with_destination(datagram: Datagram, address: int, port: int) -> Datagram:
    """The packet as if sent to somebody else; `port` is the id of an ICMP query."""
    place = 4 if datagram.proto == ICMP else 2
    return _rewritten(replace(datagram, dst=address), datagram.dst, address, (place, port))


def _rewritten(datagram: Datagram, before: int, after: int, port: tuple[int, int]) -> Datagram:
    if datagram.proto not in (ICMP, TCP, UDP):
        return datagram
    place, number = port
    body, old = datagram.payload, datagram.payload[place:place + 2]
    if len(old) < 2 or (datagram.proto == ICMP and body[0] not in _INVERSE):
        return datagram
    was = struct.pack("!I", before) + old
    is_ = struct.pack("!IH", after, number)
    body = patched(body, place, number)
    if datagram.proto == ICMP:  # no pseudo header
        return replace(datagram, payload=_resummed(body, 2, was[4:], is_[4:]))
    if datagram.proto == UDP and body[6:8] == b"\0\0":  # RFC 768: the sender made no checksum
        return replace(datagram, payload=body)
    return replace(datagram, payload=_resummed(body, _SUM_PLACE[datagram.proto], was, is_, datagram.proto == UDP))


def _resummed(body: bytes, place: int, was: bytes, is_: bytes, never_zero: bool = False) -> bytes:
    if len(body) < place + 2:  # the quote of an ICMP error may end before
        return body
    value = updated(int.from_bytes(body[place:place + 2], "big"), was, is_)
    return patched(body, place, value or (0xFFFF if never_zero else 0))


def icmp(kind: int, code: int, rest: int, data: bytes) -> bytes:
    """An ICMP message: type, code, the four bytes that depend on them, data."""
    blank = struct.pack("!BBHI", kind, code, 0, rest) + data
    return patched(blank, 2, checksum(blank))


# ---- the packet that an ICMP error quotes

_HEAD: Final = 20


def quoted(datagram: Datagram) -> Datagram | None:
    """The beginning of the packet that an ICMP error is about, None if it cannot be read. Its sums may be wrong."""
    data = datagram.payload[ICMP_HEAD:]
    if len(data) < _HEAD or data[0] >> 4 != 4:
        return None
    head = (data[0] & 0x0F) * 4
    if head < _HEAD or len(data) < head or int.from_bytes(data[6:8], "big") & 0x1FFF:
        return None
    return Datagram(int.from_bytes(data[12:16], "big"), int.from_bytes(data[16:20], "big"), data[9], data[head:],
                    options=data[_HEAD:head])


def requoted(datagram: Datagram, inner: Datagram) -> Datagram:
    """The ICMP error with other addresses and ports in the packet that it quotes."""
    data = datagram.payload[ICMP_HEAD:]
    addresses = struct.pack("!II", inner.src, inner.dst)
    header_sum = updated(int.from_bytes(data[10:12], "big"), data[12:20], addresses)
    quote = patched(data[:12], 10, header_sum) + addresses + data[20:inner.head] + inner.payload
    kind, code, rest = datagram.payload[0], datagram.payload[1], datagram.payload[4:8]
    return replace(datagram, payload=icmp(kind, code, int.from_bytes(rest, "big"), quote))
