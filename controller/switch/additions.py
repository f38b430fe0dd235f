"""What a write adds: rows with their cookies, in order. The rows of a sheet stay together, and those of a print.

A hundred thousand rows are a hundred runs: who cuts, packs and counts them looks at runs, and the cookies of a sheet
are computed when it is packed, while the switch is already at work on those before it.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Generic, Self, TypeVar, overload

from flows.cookie import cookie_of
from flows.flow import Flow
from flows.sheet import Part, Row, Sheet, Spliced, cookies_of, numbered
from flows.stencil import Print, Printed

Pair = tuple[int, Row]  # cookie, row


Many = TypeVar("Many", Sheet, Print)


@dataclass(slots=True)
class _Some(Generic[Many]):
    """Some rows of one part, by their indices, each once and in order.

    `known`: their cookies, where these have been looked at already.
    """

    part: Many
    indices: range | tuple[int, ...]
    known: Sequence[int] | None = None

    @property
    def cookies(self) -> Sequence[int]:
        """Of its rows; else computed with the first look at any row of the part."""
        if self.known is not None:
            return self.known
        every = self.part.cookies()
        return every if len(self.indices) == len(every) else [every[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, some: slice) -> Self:
        return type(self)(self.part, self.indices[some], None if self.known is None else self.known[some])


class Run(_Some[Sheet]):
    """Some rows of one sheet."""

    __slots__ = ()

    @property
    def sheet(self) -> Sheet:
        return self.part

    def __iter__(self) -> Iterator[Pair]:
        return ((cookie, Spliced(self.part, index)) for cookie, index in zip(self.cookies, self.indices, strict=True))


class Imprint(_Some[Print]):
    """Some rows of one print, as a rule all of them."""

    __slots__ = ()

    def only(self, indices: tuple[int, ...]) -> Imprint:
        """Those of its rows that have these indices."""
        if self.known is None:
            return Imprint(self.part, indices)
        known = dict(zip(self.indices, self.known, strict=True))
        return Imprint(self.part, indices, [known[index] for index in indices])

    def __iter__(self) -> Iterator[Pair]:
        return ((cookie, Printed(self.part, index)) for cookie, index in zip(self.cookies, self.indices, strict=True))


Batch = Run | Imprint | tuple[Pair, ...]  # or flows one by one


class Additions(Sequence[Pair]):
    """All that a write adds. Equal to the tuple of its pairs."""

    def __init__(self, batches: Iterable[Batch] = ()) -> None:
        self.batches = tuple(batches)
        self._rows = sum(map(len, self.batches))

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[Pair]:
        return (pair for batch in self.batches for pair in batch)

    @overload
    def __getitem__(self, at: int) -> Pair: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Pair, ...]: ...

    def __getitem__(self, at: int | slice) -> Pair | tuple[Pair, ...]:
        if isinstance(at, slice):
            return tuple(self)[at]
        at = range(self._rows)[at]
        for batch in self.batches:
            if at < len(batch):
                return next(iter(batch[at:at + 1]))
            at -= len(batch)
        raise IndexError(at)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == (tuple(other) if isinstance(other, Additions) else other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Additions({self.batches!r})"


def of(pairs: Iterable[Pair]) -> Additions:
    """These rows, run by run."""
    if isinstance(pairs, Additions):
        return pairs
    return Additions(_batches(pairs))


def _batches(pairs: Iterable[Pair]) -> Iterator[Batch]:
    for part, some in groupby(pairs, _part_of):
        if part is None:
            yield tuple(some)
            continue
        cookies, rows = zip(*some, strict=True)
        indices = tuple([row.index for row in rows])
        yield Run(part, indices, cookies) if isinstance(part, Sheet) else Imprint(part, indices, cookies)


def _part_of(pair: Pair) -> Sheet | Print | None:
    """What its row is one of many of."""
    row = pair[1]
    return None if isinstance(row, Flow) else row[0]


def everything(parts: Iterable[Part]) -> Additions:
    """Every row of these, each once; no two sheets have a row in common (one network's, and its MACs)."""
    others: list[Flow | Print] = []
    runs: list[Batch] = []
    for part in parts:
        if isinstance(part, Sheet):
            runs.append(Run(part, range(len(part))))
        else:
            others.append(part)
    cookies = list(chain.from_iterable(map(cookies_of, others)))
    unique = len(set(cookies)) == len(cookies)  # as a rule
    return Additions([*runs, *(_whole(others) if unique else _batches(numbered(others).items()))])


def _whole(parts: Iterable[Flow | Print]) -> Iterator[Batch]:
    for kind, some in groupby(parts, type):
        if kind is Print:
            yield from (Imprint(part, range(len(part))) for part in some if isinstance(part, Print))
        else:
            yield tuple([(cookie_of(part), part) for part in some if isinstance(part, Flow)])


def cut(batches: Iterable[Batch], limit: int) -> Iterator[Additions]:
    """The same rows in the same order, so many at a time."""
    here: list[Batch] = []
    room = limit
    for batch in batches:
        at, rows = 0, len(batch)
        while at < rows:
            some = batch if rows <= room and not at else batch[at:at + room]
            here.append(some)
            at, room = at + len(some), room - len(some)
            if not room:
                yield Additions(here)
                here, room = [], limit
    if here:
        yield Additions(here)
