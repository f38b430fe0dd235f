"""Fragments: put together before a packet is translated, as Linux does once it tracks connections, and cut again."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from flows.routing.wireformat import Datagram

TIMEOUT: Final = 30.0  # seconds, net.ipv4.ipfrag_time
MOST: Final = 65535  # RFC 791: bytes of a packet

_END, _NOP, _COPIED = 0, 1, 0x80  # RFC 791, 3.1: options, and the flag of those that go into every fragment

Key = tuple[int, int, int, int]  # source, destination, identification, protocol


@dataclass(frozen=True)
class Parts:
    """The fragments of one packet that have come so far, in order of their offset."""

    pieces: tuple[Datagram, ...]
    expires: float
    mark: int = 0  # of the first that came
    end: int = 0  # bytes of payload, as far as is known
    last_seen: bool = False


@dataclass(frozen=True)
class Whole:
    """A packet, and how it had been cut if it came in fragments."""

    datagram: Datagram
    largest: int = 0  # bytes of the largest fragment with its header
    sizes: tuple[int, ...] = ()  # payload of each fragment


class Overlap(ValueError):
    """Fragments that contradict each other: all of them are thrown away (RFC 5722, for IPv4 too)."""


def key_of(datagram: Datagram) -> Key:
    """What the fragments of one packet have in common."""
    return datagram.src, datagram.dst, datagram.ident, datagram.proto


def add(parts: Parts, piece: Datagram) -> Parts:
    """One fragment more. Overlap if it cannot belong to the rest; a repeated one changes nothing."""
    if piece.more:
        piece = replace(piece, payload=piece.payload[:len(piece.payload) // 8 * 8])
    begin, end = piece.offset, piece.offset + len(piece.payload)
    if begin == end:
        raise Overlap("an empty fragment")
    if (not piece.more and end < parts.end) or (parts.last_seen and end > parts.end):
        raise Overlap("a fragment beyond the end of its packet")
    if any(begin >= first and end <= last for first, last in _runs(parts.pieces)):
        return parts
    if any(begin < last and end > first for first, last in _runs(parts.pieces)):
        raise Overlap("fragments overlap")
    pieces = tuple(sorted((*parts.pieces, piece), key=lambda one: one.offset))
    return replace(parts, pieces=pieces, end=max(parts.end, end), last_seen=parts.last_seen or not piece.more)


def _runs(pieces: tuple[Datagram, ...]) -> list[tuple[int, int]]:
    """Stretches without a hole, as (first byte, byte after the last)."""
    runs: list[tuple[int, int]] = []
    for piece in pieces:
        end = piece.offset + len(piece.payload)
        if runs and runs[-1][1] == piece.offset:
            runs[-1] = runs[-1][0], end
        else:
            runs.append((piece.offset, end))
    return runs


def whole(parts: Parts) -> Whole | None:
    """The packet, once nothing is missing. It may not be cut again (DF) if its largest fragment might not."""
    if not parts.last_seen or _runs(parts.pieces) != [(0, parts.end)]:
        return None
    sizes = tuple(len(piece.payload) for piece in parts.pieces)
    largest = max(piece.size for piece in parts.pieces)
    largest_df = max((piece.size for piece in parts.pieces if piece.dont_fragment), default=0)
    payload = b"".join(piece.payload for piece in parts.pieces)
    first = replace(parts.pieces[0], payload=payload, more=False, dont_fragment=largest_df == largest)
    if first.size > MOST:
        raise Overlap("fragments of more than 65535 bytes")
    return Whole(first, largest, sizes)


def too_big(packet: Whole, mtu: int) -> bool:
    """Whether the sender must be told to send smaller ones."""
    datagram = packet.datagram
    return datagram.size > mtu and datagram.dont_fragment and (not packet.sizes or packet.largest > mtu)


def cut(packet: Whole, mtu: int) -> Iterator[Datagram]:
    """What goes out: the packet, or fragments no larger than the MTU, nor than those it came in."""
    datagram = packet.datagram
    if not packet.sizes and datagram.size <= mtu:
        yield datagram
        return
    limit = min(mtu, packet.largest) if packet.largest else mtu
    room = (limit - datagram.head) // 8 * 8
    sizes = packet.sizes
    # Linux hands on the fragments as they came if they still fit, and forgets DF when it does.
    as_they_came = bool(sizes) and all(size <= limit - datagram.head for size in sizes)
    if not as_they_came:
        total = len(datagram.payload)
        sizes = tuple(min(room, total - start) for start in range(0, total, room))
    keep_df = datagram.dont_fragment and not as_they_came
    yield from _slices(datagram, sizes, dont_fragment=keep_df)


def _slices(datagram: Datagram, sizes: tuple[int, ...], *, dont_fragment: bool) -> Iterator[Datagram]:
    start = 0
    for size in sizes:
        yield replace(datagram, payload=datagram.payload[start:start + size], offset=datagram.offset + start,
                      more=datagram.more or start + size < len(datagram.payload), dont_fragment=dont_fragment,
                      options=_later(datagram.options) if start else datagram.options)
        start += size


def _later(options: bytes) -> bytes:
    """The options of a fragment that is not the first: those that are not copied become padding."""
    kept, place = bytearray(options), 0
    while place < len(kept) and kept[place] != _END:
        if kept[place] == _NOP:
            place += 1
            continue
        length = kept[place + 1] if place + 1 < len(kept) else 0
        if length < 2 or place + length > len(kept):
            break
        if not kept[place] & _COPIED:
            kept[place:place + length] = bytes([_NOP]) * length
        place += length
    return bytes(kept)
