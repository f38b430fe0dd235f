"""What a write adds: rows with their cookies, in order. The rows of a sheet stay together, as a run.

A hundred thousand rows are a hundred runs: who cuts, packs and counts them looks at runs, and the cookies of a sheet
are computed when it is packed, while the switch is already at work on those before it.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import overload

from flows.sheet import Part, Row, Sheet, Spliced, numbered

Pair = tuple[int, Row]  # cookie, row


@dataclass(frozen=True)
class Run:
    """Some rows of one sheet, by their indices. `known`: their cookies, where these have been looked at already."""

    sheet: Sheet
    indices: Sequence[int]
    known: Sequence[int] | None = None

    @property
    def cookies(self) -> Sequence[int]:
        """Of its rows; else computed with the first look at any row of the sheet."""
        if self.known is not None:
            return self.known
        every = self.sheet.cookies()
        return every if self.indices == range(len(every)) else [every[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, some: slice) -> Run:
        return Run(self.sheet, self.indices[some], None if self.known is None else self.known[some])

    def __iter__(self) -> Iterator[Pair]:
        return ((cookie, Spliced(self.sheet, index))
                for cookie, index in zip(self.cookies, self.indices, strict=True))


Batch = Run | tuple[Pair, ...]  # a run, or other rows one by one


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
    for sheet, some in groupby(pairs, _sheet_of):
        if sheet is None:
            yield tuple(some)
        else:
            cookies, rows = zip(*some, strict=True)
            yield Run(sheet, [row.index for row in rows], cookies)


def _sheet_of(pair: Pair) -> Sheet | None:
    row = pair[1]
    return row.sheet if isinstance(row, Spliced) else None


def everything(parts: Iterable[Part]) -> Additions:
    """Every row of these, each once; no two sheets have a row in common (one network's, and its MACs)."""
    others: list[Part] = []
    runs: list[Batch] = []
    for part in parts:
        if isinstance(part, Sheet):
            runs.append(Run(part, range(len(part))))
        else:
            others.append(part)
    return Additions([*runs, tuple(numbered(others).items())])


def cut(batches: Iterable[Batch], limit: int) -> Iterator[Additions]:
    """The same rows in the same order, so many at a time."""
    here: list[Batch] = []
    room = limit
    for batch in batches:
        at = 0
        while at < len(batch):
            some = batch[at:at + room]
            here.append(some)
            at, room = at + len(some), room - len(some)
            if not room:
                yield Additions(here)
                here, room = [], limit
    if here:
        yield Additions(here)
