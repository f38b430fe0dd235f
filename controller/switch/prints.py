"""Messages that add rows of prints (`flows.stencil`): packed once for each stencil, then filled with numbers.

What a port's rows differ in stands in their bytes as it does in their text, and so do the numbers of a message: all
rows of a print are one text with holes. Where that does not hold, as where actions differ in their number, each row is
built and packed as any other.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final, NamedTuple

from controller.switch import packing
from controller.switch.additions import Imprint
from flows.flow import Flow
from flows.stencil import Stencil, holes

_SELECTIONS: Final = 1000  # of a stencil's rows: of those that are packed together, there are few
_HOLE: Final = "%s"
_BYTES: Final = "latin-1"  # each byte a character
# Numbers of two bundles, transaction ids and cookies, such as are in no other place of messages: see Stencil.
_BEGIN: Final = ((0xB5C97A31, 0xD3A9E600, 0xE1F7C6B98D5A3400), (0xCBC97A4E, 0xADA9E700, 0x9FF7C6B98D5A4B00))
Pack = Callable[[int, int, int, Flow], bytes]  # number of a bundle, transaction id, cookie, flow -> message


class _Form(NamedTuple):
    """Messages with holes, one behind the other."""

    text: bytes
    pick: Callable[[Sequence[bytes]], object]  # of all numbers, one for each hole


def adds(pack: Pack, bundle: int, xid: int, imprint: Imprint) -> bytes:
    """The messages for these rows, as `pack` makes them one by one; `xid`: of the first. packing.TooLarge."""
    made, cookies = imprint.part, imprint.cookies
    form = _form(pack, made.stencil, imprint.indices)
    if form is None:
        return _packed(pack, bundle, xid, cookies, [made.flow(index) for index in imprint.indices])
    return form.text % form.pick(_octets(bundle, xid, cookies, made.octets()))


def _packed(pack: Pack, bundle: int, first: int, cookies: Sequence[int], flows: Iterable[Flow]) -> bytes:
    return b"".join([pack(bundle, xid, cookie, flow)
                     for xid, (cookie, flow) in enumerate(zip(cookies, flows, strict=True), first)])


def _octets(bundle: int, xid: int, cookies: Sequence[int], others: Iterable[bytes]) -> list[bytes]:
    """All numbers as they are written in messages. `others`: those of the print."""
    return [bundle.to_bytes(4), *[each.to_bytes(4) for each in range(xid, xid + len(cookies))],
            *[cookie.to_bytes(8) for cookie in cookies], *others]


@lru_cache(_SELECTIONS)
def _form(pack: Pack, stencil: Stencil, indices: range | tuple[int, ...]) -> _Form | None:
    """Of some rows of any print; None if numbers alone do not tell their bytes apart."""
    (first, numbers), (second, others) = stencil.made
    these, those = (_model(*begin, len(indices)) for begin in _BEGIN)
    try:
        text = _packed(pack, *these, [first[index] for index in indices])
        expected = _packed(pack, *those, [second[index] for index in indices])
    except packing.TooLarge:
        return None
    pieces, places = holes(text.decode(_BYTES), [one.decode(_BYTES) for one in _octets(*these, numbers.octets())])
    whole = _HOLE.join(piece.replace("%", "%%") for piece in pieces).encode(_BYTES)
    form = _Form(whole, itemgetter(*places))
    return form if whole % form.pick(_octets(*those, others.octets())) == expected else None


def _model(bundle: int, xid: int, cookie: int, rows: int) -> tuple[int, int, Sequence[int]]:
    return bundle, xid, range(cookie, cookie + rows)
