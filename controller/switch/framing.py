"""Whether the lengths inside an OpenFlow 1.4 message lead from its start to its end.

os-ken's parsers step from item to item by the length that the item gives: one of zero would hold the daemon, and fill
its memory, forever. So nothing reaches them before it was walked here.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Final

HEADER: Final = 8  # bytes of every message (OpenFlow 1.4, 7.1.1)
HELLO, PACKET_IN, FLOW_REMOVED, MULTIPART_REPLY = 0, 10, 11, 19  # message types (7.1.1)
ROLE_REPLY, ROLE_STATUS = 25, 30
FLOW, AGGREGATE, TABLE, METER_CONFIG, PORT_DESC, FLOW_MONITOR = 1, 2, 3, 10, 13, 16  # multipart types (7.3.5)
MULTIPART_HEADER: Final = 16  # with the message's own
_ELEMENT: Final = 4  # type and length of a hello's element (7.5.1)
_PORT: Final = 40  # a port without properties; its length stands behind the port number (7.2.1)
_MATCH_AT: Final = {PACKET_IN: 24, FLOW_REMOVED: 48}  # bytes up to the match (7.4.1, 7.4.2)
_MATCH: Final = 4  # type and length of a match (7.2.3.1)
_FIELD: Final = 4  # header of a field in it; the last of these bytes is the length of what follows (7.2.3.2)
_PADDING: Final = {PACKET_IN: 2, FLOW_REMOVED: 0}  # bytes behind the match
_METER: Final = 8  # a meter without bands (7.3.5.14)
_BAND: Final = 16  # every band (7.3.4.5)
_AGGREGATE: Final = 24  # the one body of such a reply (7.3.5.3)
TABLE_STATS: Final = 24  # of each table (7.3.5.4)
_ROLE: Final = 16  # what follows the header (7.3.9, 7.4.4)
_PROPERTY: Final = 4  # type and length
_UPDATE: Final = 8  # an update of a flow monitor that names no flow (7.3.5.17.2)
FULL: Final = 24  # one that does, up to its match
NAMES_FLOW: Final = frozenset({0, 1, 2, 3})  # events that do
_ACTIONS: Final = frozenset({3, 4, 5})  # instructions that carry actions (7.2.4)
_INSTRUCTIONS: Final = {1: 8, 2: 24, 6: 8}  # goto, metadata, meter: bytes of each; os-ken steps by these
_SET_FIELD: Final = 25
_OUTPUT: Final = {0: 16}  # bytes of an output action; every other one of OpenFlow has 8 (7.2.5)
_EXPERIMENTER: Final = 0xFFFF  # type of an action with a vendor
# Nicira's vendor id and conntrack, or clone: bytes up to the actions in them.
_NESTING: Final = {b"\x00\x00\x23\x20\x00\x23": 24, b"\x00\x00\x23\x20\x00\x2a": 16}


class Broken(ValueError):
    """The lengths do not add up; str() says where."""


def walk(kind: int, message: bytes) -> None:
    """Broken if an item of this message ends outside of it, or where it starts."""
    end = len(message)
    if kind == HELLO:
        _all(items(message, HEADER, end, _ELEMENT))
    elif kind in _MATCH_AT:
        _match(message, _MATCH_AT[kind], end - _PADDING[kind])
    elif kind in (ROLE_REPLY, ROLE_STATUS):
        _all(items(message, HEADER + _ROLE, end, _PROPERTY))
    elif kind == MULTIPART_REPLY:
        _parts(message, _number(message, HEADER, end), end)


def part(message: bytes) -> int:
    """The type of a multipart reply. Broken if it has none."""
    if len(message) < MULTIPART_HEADER:
        raise Broken("it ends in its header")
    return _number(message, HEADER, MULTIPART_HEADER)


def _parts(message: bytes, what: int, end: int) -> None:
    """The body of a multipart reply."""
    if what == PORT_DESC:
        _all(items(message, MULTIPART_HEADER, end, _PORT, at=4))
    elif what == AGGREGATE:
        _exact(end - MULTIPART_HEADER, _AGGREGATE)
    elif what == TABLE:
        _exact((end - MULTIPART_HEADER) % TABLE_STATS, 0)
    elif what == METER_CONFIG:
        for start, stop in items(message, MULTIPART_HEADER, end, _METER, at=0):
            _all(items(message, start + _METER, stop, _BAND))
    elif what == FLOW_MONITOR:
        for start, stop in items(message, MULTIPART_HEADER, end, _UPDATE, at=0):
            if _number(message, start + 2, stop) in NAMES_FLOW:
                flow(message, start + FULL, stop)
            else:
                _exact(stop - start, _UPDATE)


def flow(message: bytes, start: int, stop: int) -> None:
    """Broken if an item of the match that starts here, or of the instructions behind it, ends outside of it."""
    for instruction, end in items(message, _match(message, start, stop), stop, HEADER):
        kind = _number(message, instruction, end)
        if kind in _ACTIONS:
            _actions(message, instruction + HEADER, end)
        else:
            _exact(end - instruction, _INSTRUCTIONS.get(kind))


def _actions(message: bytes, start: int, stop: int) -> None:
    for action, end in items(message, start, stop, HEADER):
        kind = _number(message, action, end)
        if kind not in (_EXPERIMENTER, _SET_FIELD):
            _exact(end - action, _OUTPUT.get(kind, HEADER))
        elif header := _NESTING.get(bytes(message[action + 4:action + 10])):
            _actions(message, action + header, end)


def _match(message: bytes, start: int, stop: int) -> int:
    """Where a match ends, with its padding."""
    length = _number(message, start + 2, stop)
    end = start + (length + 7) // 8 * 8
    if length < _MATCH or end > stop:
        raise Broken(f"a match of {length} bytes where {_MATCH} to {stop - start} may be")
    at = start + _MATCH
    while at < start + length:
        if at + _FIELD > start + length:
            raise Broken("a match ends in the middle of a field")
        at += _FIELD + message[at + _FIELD - 1]
    if at != start + length:
        raise Broken("a field ends outside of its match")
    return end


def _exact(length: int, known: int | None) -> None:
    if length != known:
        raise Broken(f"an item of {length} bytes where {known or 'none'} should be")


def items(message: bytes, start: int, stop: int, least: int, at: int = 2) -> Iterator[tuple[int, int]]:
    """(start, end) of each item between two offsets; its length stands `at` bytes behind its start. Broken."""
    while start < stop:
        length = _number(message, start + at, stop)
        if not least <= length <= stop - start:
            raise Broken(f"an item of {length} bytes where {least} to {stop - start} may be")
        yield start, start + length
        start += length


def _number(message: bytes, offset: int, stop: int) -> int:
    if offset + 2 > stop:
        raise Broken("it ends in the middle of an item")
    return message[offset] << 8 | message[offset + 1]


def _all(items: Iterator[tuple[int, int]]) -> None:
    for _ in items:
        pass
