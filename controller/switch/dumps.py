"""The one place that reads what is in a switch's tables from its bytes, without os-ken's objects (OpenFlow 1.4).

Nothing here trusts a length: `framing.Broken` says that one leads astray.
"""
from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from controller.switch import cutting, framing
from controller.switch.events import Counted, Installed, NextHop, Row
from controller.switch.found import Found
from controller.switch.framing import Broken
from controller.switch.packing import HEADERS
from flows import cookie as cookies
from flows import fields as f
from flows.fields import Field
from flows.tables import CLASSIFY, TUNNEL_TO_VLAN

_ROW: Final = struct.Struct("!HB9xH10xQ")  # of 7.3.5.2: length, table, priority, cookie
_COUNTED: Final = struct.Struct("!4xI16xQQQ")  # seconds since it was added, cookie, packets, bytes
_TABLE: Final = struct.Struct("!B3xI16x")  # of 7.3.5.4: table, flows
_TIMEOUTS, _TIMEOUTS_AT = struct.Struct("!HH"), 14  # idle and hard, in seconds
MATCH_AT: Final = 48  # bytes of a row up to its match
_LEAST: Final = MATCH_AT + 8  # and those of the smallest match
_INSTRUCTION: Final = 8  # the smallest one, and what stands in front of actions
_CARRY_ACTIONS: Final = frozenset({3, 4, 5})  # write, apply, clear (7.2.4)
_SET_FIELD: Final = b"\x00\x19"
_TRACK: Final = b"\x00\x00\x23\x20\x00\x23"  # of Nicira's conntrack: vendor, subtype
_TRACK_ZONE: Final = struct.Struct("!12x4sH")  # where it finds its zone, and the zone if that is nowhere
_NOWHERE: Final = bytes(4)
TO_VLAN: Final = frozenset({CLASSIFY.id, *(table.id for table in TUNNEL_TO_VLAN.values())})
_ZONE: Final = HEADERS[f.REG_ZONE.name]
_COMPILED, _NEIGHBOUR = cookies.of_kind(cookies.COMPILED) >> 48, cookies.NEIGHBOUR_COOKIE >> 48


Head = tuple[int, int, int, int]  # length, table, priority, cookie


def take(message: bytes, found: Found) -> None:
    """Add the rows of a part of a dump. Only ours that may tell more than their cookie are read."""
    found.parts.append(message)
    tells_zones = _ZONE in message or _TRACK in message
    compiled, at = found.compiled, framing.MULTIPART_HEADER
    for length, table, priority, cookie in _heads(message):
        kind = cookie >> 48
        if kind == _COMPILED and table not in TO_VLAN and not (tells_zones and _tells(message[at:at + length])):
            place = cutting.place(table, priority)
            if place in compiled:
                compiled[place].append(cookie)
            else:
                compiled[place] = [cookie]
        elif kind in (_COMPILED, _NEIGHBOUR):
            found.add(_told(cookie, table, priority, message[at:at + length]))
        else:
            found.add(Installed(cookie, table, priority=priority))
        at += length


def _tells(row: bytes) -> bool:
    """Whether it may name a zone of connection tracking."""
    return _ZONE in row or _TRACK in row


def _heads(message: bytes) -> Iterable[Head]:
    """What stands in front of each row."""
    rows = memoryview(message)[framing.MULTIPART_HEADER:]
    size = int.from_bytes(rows[:2])
    if size >= _LEAST and len(rows) % size == 0:
        alike = list(_all_of(size).iter_unpack(rows))
        if {head[0] for head in alike} == {size}:  # as in a large table: then each begins where the last one ends
            return alike
    return _one_by_one(message)


@lru_cache(maxsize=64)
def _all_of(size: int) -> struct.Struct:
    return struct.Struct(f"{_ROW.format}{size - _ROW.size}x")


def _one_by_one(message: bytes) -> Iterator[Head]:
    at, end, read = framing.MULTIPART_HEADER, len(message), _ROW.unpack_from
    while at < end:
        if end - at < _LEAST:
            raise Broken("it ends in the middle of a row")
        head: Head = read(message, at)
        if not _LEAST <= head[0] <= end - at:
            raise Broken(f"an item of {head[0]} bytes where {_LEAST} to {end - at} may be")
        yield head
        at += head[0]


def counted(message: bytes) -> Iterator[tuple[int, Counted]]:
    """Cookie and counters of each row of a part of a dump."""
    for row in whole(message):
        _, cookie, packets, size = _COUNTED.unpack_from(row)
        yield cookie, Counted(packets, size)


def tally(message: bytes) -> Iterator[tuple[int, int]]:
    """(table, number of flows) of each table that has any, from a part of the answer to `wire.count_tables`."""
    at = framing.MULTIPART_HEADER
    return ((table, count) for table, count in _TABLE.iter_unpack(memoryview(message)[at:]) if count)


def head(row: bytes) -> Row:
    """What stands in front of a row's match."""
    _, table, priority, _ = _ROW.unpack_from(row)
    seconds, cookie, packets, size = _COUNTED.unpack_from(row)
    return Row(cookie, table, priority, "", "", packets, size, seconds)


def whole(message: bytes) -> Iterator[bytes]:
    """The rows of a part of a dump, each as it stands there."""
    at = framing.MULTIPART_HEADER
    for length, *_ in _heads(message):
        yield message[at:at + length]
        at += length


class Content(NamedTuple):
    """A row as a switch holds it: what it matches (fields in the switch's order, unpadded), and what it does."""

    table: int
    priority: int
    cookie: int
    match: bytes
    instructions: bytes
    timeouts: tuple[int, int] = (0, 0)  # seconds: idle, hard


def contents(message: bytes) -> Iterator[Content]:
    """What is in the rows of a part of a dump."""
    return map(content, whole(message))


def contents_of(found: Found, cookies: Set[int]) -> Iterator[Content]:
    """What is in the rows with these cookies."""
    for message in found.parts:
        at = framing.MULTIPART_HEADER
        for length, _, _, cookie in _heads(message):
            if cookie in cookies:
                yield content(message[at:at + length])
            at += length


def content(row: bytes) -> Content:
    """What is in a row as it stands in a dump."""
    _, table, priority, cookie = _ROW.unpack_from(row)
    stop, behind = _match(row)
    return Content(table, priority, cookie, row[MATCH_AT + _MATCH.size:stop], row[behind:],
                   _TIMEOUTS.unpack_from(row, _TIMEOUTS_AT))


def _match(row: bytes) -> tuple[int, int]:
    """Where the fields of a match end, and where its padding does."""
    length = int.from_bytes(row[MATCH_AT + 2:MATCH_AT + 4])
    behind = MATCH_AT + (length + 7) // 8 * 8
    if length < _MATCH.size or behind > len(row):
        raise Broken(f"a match of {length} bytes where {_MATCH.size} to {len(row) - MATCH_AT} may be")
    return MATCH_AT + length, behind


def _told(cookie: int, table: int, priority: int, row: bytes) -> Installed:
    """What stands in a row of ours: a local VLAN that it gives, a zone that it tracks in, or a neighbour."""
    stop, behind = _match(row)
    match = _fields(row, MATCH_AT + _MATCH.size, stop)
    written, zone = _done(row, behind)
    if cookies.is_neighbour(cookie):
        hop = NextHop(_number(match, f.REG_LEAVES_BY), _number(match, f.REG_NEXT_HOP),
                      _mac(written, f.ETH_DST), _mac(written, f.ETH_SRC))
        return Installed(cookie, table, neighbour=hop, priority=priority)
    zone = _number(written, f.REG_ZONE) or zone
    if table not in TO_VLAN or HEADERS["vlan_vid"] not in written:
        return Installed(cookie, table, zone=zone, priority=priority)
    segment = _number(match, f.VLAN_VID)  # only where it is compared whole
    return Installed(cookie, table, _known(match, f.TUN_ID), _number(written, f.VLAN_VID) & ~f.VLAN_PRESENT,
                     _known(match, f.IN_PORT), segment & ~f.VLAN_PRESENT if segment & f.VLAN_PRESENT else None,
                     zone=zone, priority=priority)


Values = dict[bytes, bytes]  # header of a field -> its value


def _fields(row: bytes, at: int, stop: int) -> Values:
    found = {}
    while at < stop:
        end = at + 4 + (row[at + 3] if at + 4 <= stop else stop)
        if end > stop:
            raise Broken("a field ends outside of its match")
        found[row[at:at + 4]] = row[at + 4:end]
        at = end
    return found


def _done(row: bytes, at: int) -> tuple[Values, int | None]:
    """What the actions of a row write, and the zone of the first that tracks in one by its number."""
    written: Values = {}
    zone: int | None = None
    for start, end in framing.items(row, at, len(row), _INSTRUCTION):
        if int.from_bytes(row[start:start + 2]) not in _CARRY_ACTIONS:
            continue
        for action, stop in framing.items(row, start + _INSTRUCTION, end, _INSTRUCTION):
            if row[action:action + 2] == _SET_FIELD:
                width = row[action + 7]
                written[row[action + 4:action + 8]] = row[action + 8:min(action + 8 + width, stop)]
            elif zone is None and row[action + 4:action + 10] == _TRACK and stop - action >= _TRACK_ZONE.size:
                where, number = _TRACK_ZONE.unpack_from(row, action)
                zone = number if where == _NOWHERE else None
    return written, zone


def _known(values: Values, field: Field) -> int | None:
    value = values.get(HEADERS[field.name])
    return None if value is None else int.from_bytes(value)


def _number(values: Values, field: Field) -> int:
    return _known(values, field) or 0


def _mac(values: Values, field: Field) -> str:
    value = _known(values, field)
    return "" if value is None else field.show(value)


INITIAL, ADDED, REMOVED, MODIFIED, ABBREVIATED, PAUSED, RESUMED = range(7)  # events of a flow monitor (7.3.5.17.2)
_UPDATE: Final = struct.Struct("!HH")  # length, event
_FULL: Final = struct.Struct("!BBHHH4xQ")  # table, reason, timeouts, priority, cookie
_MATCH: Final = struct.Struct("!HH")  # type, length


@dataclass(frozen=True, slots=True)
class Update:
    """What a flow monitor says of one flow: as it is now, or was when it went.

    ABBREVIATED: a change of our own, by the message of this transaction id. PAUSED: the switch holds updates back,
    and may leave out some; RESUMED: from here on it tells all again.
    """

    event: int
    table: int = 0
    priority: int = 0
    cookie: int = 0
    match: bytes = b""  # its fields, without header and padding
    instructions: bytes = b""
    reason: int = 0  # REMOVED: as of a flow-removed message; 2 is a deletion
    timeouts: tuple[int, int] = (0, 0)  # seconds: idle, hard
    xid: int = 0


def updates(message: bytes) -> Iterator[Update]:
    """What a part of a flow monitor's answer says; `answers` has walked it."""
    at = framing.MULTIPART_HEADER
    while at < len(message):
        length, event = _UPDATE.unpack_from(message, at)
        if event in framing.NAMES_FLOW:
            yield _full(event, message[at:at + length])
        else:
            yield Update(event, xid=int.from_bytes(message[at + 4:at + 8]) if event == ABBREVIATED else 0)
        at += length


def _full(event: int, update: bytes) -> Update:
    table, reason, idle, hard, priority, cookie = _FULL.unpack_from(update, _UPDATE.size)
    _, length = _MATCH.unpack_from(update, framing.FULL)
    behind = framing.FULL + (length + 7) // 8 * 8
    return Update(event, table, priority, cookie, update[framing.FULL + _MATCH.size:framing.FULL + length],
                  update[behind:], reason, (idle, hard))
