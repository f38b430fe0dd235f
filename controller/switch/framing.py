"""Whether the lengths inside an OpenFlow 1.4 message lead from its start to its end.

os-ken's parsers step from item to item by the length that the item gives: one of zero would hold the daemon, and fill
its memory, forever. So nothing reaches them before it was walked here.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Final

HEADER: Final = 8  # bytes of every message (OpenFlow 1.4, 7.1.1)
HELLO, MULTIPART_REPLY = 0, 19  # message types (7.1.1)
FLOW, PORT_DESC = 1, 13  # multipart types (7.3.5)
_MULTIPART_HEADER: Final = 16  # with the message's own
_ELEMENT: Final = 4  # type and length of a hello's element (7.5.1)
_PORT: Final = 40  # a port without properties; its length stands behind the port number (7.2.1)
_FLOW: Final = 48  # an entry up to its match (7.3.5.2)
_ACTIONS: Final = frozenset({3, 4, 5})  # instructions that carry actions (7.2.4)
_EXPERIMENTER: Final = b"\xff\xff"  # type of an action with a vendor (7.2.5)
_CT: Final = b"\x00\x00\x23\x20\x00\x23"  # Nicira's vendor id, and conntrack, which has actions behind 24 bytes
_CT_HEADER: Final = 24


class Broken(ValueError):
    """The lengths do not add up; str() says where."""


def walk(kind: int, message: bytes) -> None:
    """Broken if an item of this message ends outside of it, or where it starts."""
    end = len(message)
    if kind == HELLO:
        _all(_items(message, HEADER, end, _ELEMENT))
    elif kind == MULTIPART_REPLY:
        what = _number(message, HEADER, end)
        if what == PORT_DESC:
            _all(_items(message, _MULTIPART_HEADER, end, _PORT, at=4))
        elif what == FLOW:
            for start, stop in _items(message, _MULTIPART_HEADER, end, _FLOW + HEADER, at=0):
                _flow(message, start, stop)


def _flow(message: bytes, start: int, stop: int) -> None:
    match = _number(message, start + _FLOW + 2, stop)
    for instruction, end in _items(message, start + _FLOW + (match + 7) // 8 * 8, stop, HEADER):
        if _number(message, instruction, end) in _ACTIONS:
            _actions(message, instruction + HEADER, end)


def _actions(message: bytes, start: int, stop: int) -> None:
    for action, end in _items(message, start, stop, HEADER):
        if message[action:action + 2] == _EXPERIMENTER and message[action + 4:action + 10] == _CT:
            _actions(message, action + _CT_HEADER, end)


def _items(message: bytes, start: int, stop: int, least: int, at: int = 2) -> Iterator[tuple[int, int]]:
    """(start, end) of each item between two offsets; its length stands `at` bytes behind its start."""
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
