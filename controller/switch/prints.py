"""Flow-mods of rows that are printed (`flows.stencil`): packed once for each stencil, then filled with numbers.

What a port's rows differ in stands in their bytes as it does in their text. Where it does not, as where actions differ
in their number, a row is built and packed as any other.
"""
from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from typing import Final, NamedTuple

from controller.switch import packing
from flows.stencil import Printed, Stencil, holes

_HEAD: Final = struct.Struct("!4sIQ")  # of a flow-mod: version, type and length; transaction id; cookie
_HOLE: Final = "%s"
_BYTES: Final = "latin-1"  # each byte a character


class _Template(NamedTuple):
    """A flow-mod with holes."""

    begins: bytes  # version, type and length
    rest: bytes  # behind the cookie, with holes
    pick: Callable[[Sequence[bytes]], object]  # of all numbers, one for each hole

    def add(self, xid: int, cookie: int, octets: Sequence[bytes]) -> bytes:
        return _HEAD.pack(self.begins, xid, cookie) + self.rest % self.pick(octets)


def add(xid: int, cookie: int, row: Printed) -> bytes:
    """The flow-mod that adds a row's flow. packing.TooLarge."""
    templates = _templates(row.print.stencil)
    if templates is None:
        return packing.add(xid, cookie, row.flow)
    return templates[row.index].add(xid, cookie, row.print.octets())


@cache
def _templates(stencil: Stencil) -> tuple[_Template, ...] | None:
    """Of its flows; None if numbers alone do not tell their bytes apart."""
    (first, numbers), (second, others) = stencil.made
    try:
        every = [packing.add(0, 0, flow) for flow in first]
        templates = tuple(_template(message, numbers.octets()) for message in every)
    except packing.TooLarge:
        return None
    made = [template.add(0, 0, others.octets()) for template in templates]
    return templates if made == [packing.add(0, 0, flow) for flow in second] else None


def _template(message: bytes, octets: Sequence[bytes]) -> _Template:
    text = message[_HEAD.size:].replace(b"%", b"%%").decode(_BYTES)
    pieces, places = holes(text, [number.decode(_BYTES) for number in octets])
    return _Template(message[:4], _HOLE.join(pieces).encode(_BYTES), itemgetter(*places) if places else lambda _: ())
