"""IPv4 options as a router treats them (RFC 791, 3.1; RFC 2113): checked, the record of the route kept, the rest left.

Places are bytes from the start of the IPv4 header, as an ICMP parameter problem names them.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_HEAD: Final = 20
_END, _NOP, _RECORD_ROUTE = 0, 1, 7
_LOOSE_SOURCE_ROUTE, _STRICT_SOURCE_ROUTE, _ROUTER_ALERT = 131, 137, 148
_SOURCE_ROUTES: Final = (_LOOSE_SOURCE_ROUTE, _STRICT_SOURCE_ROUTE)
_ADDRESS: Final = 4


class BadOption(ValueError):
    """An option that cannot be read; `place` is where."""

    def __init__(self, place: int) -> None:
        super().__init__(f"the IPv4 option at byte {place} is malformed")
        self.place = place


def _each(options: bytes) -> Iterator[tuple[int, int, int]]:
    """(kind, where it begins in the options, its length)."""
    place = 0
    while place < len(options) and options[place] != _END:
        if options[place] == _NOP:
            place += 1
            continue
        length = options[place + 1] if place + 1 < len(options) else 0
        if length < 2 or place + length > len(options):
            raise BadOption(_HEAD + place)
        yield options[place], place, length
        place += length


def check(options: bytes) -> bool:
    """Whether they ask for a source route. BadOption if they make no sense."""
    seen: set[int] = set()
    for kind, place, length in _each(options):
        routed = kind in _SOURCE_ROUTES
        family = _LOOSE_SOURCE_ROUTE if routed else kind
        if routed or kind == _RECORD_ROUTE:
            _check_route(options, place, length, twice=family in seen)
        if routed or kind == _RECORD_ROUTE:
            seen.add(family)
        if kind == _RECORD_ROUTE and length - _ADDRESS + 1 < options[place + 2] <= length:
            raise BadOption(_HEAD + place + 2)
        if kind == _ROUTER_ALERT and length < _ADDRESS:
            raise BadOption(_HEAD + place + 1)
    return _LOOSE_SOURCE_ROUTE in seen


def readable(options: bytes) -> bool:
    """Whether they make sense."""
    try:
        check(options)
    except BadOption:
        return False
    return True


def _check_route(options: bytes, place: int, length: int, *, twice: bool) -> None:
    """A list of addresses begins with a pointer to the next free one, 4 at first."""
    if twice:
        raise BadOption(_HEAD + place)
    if length < 3:
        raise BadOption(_HEAD + place + 1)
    if options[place + 2] < _ADDRESS:
        raise BadOption(_HEAD + place + 2)


def signed(options: bytes, source: int) -> bytes:
    """With a router's address in the record of the route, if there is room; what follows the end is blank."""
    result = bytearray(options)
    end = 0
    for kind, place, length in _each(options):
        end = place + length
        pointer = options[place + 2] if length > 2 else 0
        if kind == _RECORD_ROUTE and pointer <= length:
            result[place + pointer - 1:place + pointer + 3] = source.to_bytes(_ADDRESS, "big")
            result[place + 2] = pointer + _ADDRESS
    if (stop := result.find(_END, end)) >= 0:
        result[stop:] = bytes(len(result) - stop)
    return bytes(result)


def echoed(options: bytes, received_by: int, source: int) -> bytes:
    """The options of an answer: the record of the route goes on, signed on the way in and again on the way out."""
    if not readable(options):
        return b""
    records = [(place, length) for kind, place, length in _each(options) if kind == _RECORD_ROUTE]
    answer = b"".join(options[place:place + length] for place, length in records[:1])
    answer = signed(signed(answer, received_by), source)
    return answer + bytes(-len(answer) % 4)
