"""What one bridge shall hold, piece by piece: who wants which flow, and what has changed since it was last asked.

Pure bookkeeping: what the switch holds is the session's to know, and comes in as a set of cookies.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import chain
from operator import is_
from typing import Final, NamedTuple

from flows.flow import Flow
from flows.host import Meter
from flows.sheet import Part, Row, cookies_of, flow_of, numbered, within


@dataclass(frozen=True)
class Piece:
    """A part of what a bridge shall hold: of the base, of a network, of a router."""

    flows: tuple[Part, ...]
    meters: tuple[Meter, ...] = ()


Pieces = Mapping[str, Piece]  # by name


class Changed(NamedTuple):
    """What has to be said of an intent that has changed."""

    add: dict[int, Row]  # cookie -> row
    delete: list[int]  # cookies
    compared: int  # rows that were looked up among those that are there


class Intent:
    """All pieces of one bridge. A change costs as much as the pieces that it is made of, however many there are."""

    def __init__(self) -> None:
        self._pieces: dict[str, Piece] = {}
        self._numbers: dict[str, dict[int, Row]] = {}  # piece -> cookie -> row, where somebody has asked
        self._together: _Together | None = None  # the rows of all pieces; None as long as nobody has asked
        self.numbered = 0  # rows so far; equal inputs give equal counts
        self._dirty: set[str] = set()
        self._doomed: set[int] = set()
        self._meters: dict[int, Meter] | None = {}

    @property
    def names(self) -> Set[str]:
        """Of the pieces."""
        return self._pieces.keys()

    @property
    def rows(self) -> Mapping[int, Row]:
        """Cookie -> row: all that the switch shall hold."""
        if self._together is None:
            self._together = _Together()
            for name in self._pieces:
                self._together.put({}, self._rows_of(name))
        return self._together.rows

    @property
    def want(self) -> dict[int, Flow]:
        """The same as flows, all of them built: for people."""
        return {cookie: flow_of(row) for cookie, row in self.rows.items()}

    @property
    def meters(self) -> Mapping[int, Meter]:
        """Id -> meter: all that the switch shall hold. The very same mapping as long as none comes or goes."""
        if self._meters is None:
            self._meters = {meter.id: meter for piece in self._pieces.values() for meter in piece.meters}
        return self._meters

    def find(self, cookie: int) -> Row | None:
        """The flow with this cookie, unbuilt; None if none shall wear it."""
        return self.rows.get(cookie)

    def parts(self, name: str | None = None) -> Iterator[Part]:
        """All that shall be held, or one piece of it, unbuilt."""
        pieces = self._pieces.values() if name is None else (self._pieces[name],) if name in self._pieces else ()
        return (part for piece in pieces for part in piece.flows)

    def cookies_of(self, name: str) -> Set[int]:
        """The cookies of a piece."""
        return self._rows_of(name).keys()

    def holds(self, name: str, have: Set[int]) -> bool:
        """Whether every flow of a piece is among these cookies."""
        return name in self._pieces and self.cookies_of(name) <= have

    def renew(self, pieces: Pieces) -> int:
        """These pieces and no others. Returns how many flows they have; nothing counts as changed.

        Their cookies are computed when somebody asks for one.
        """
        self._pieces, self._numbers, self._together, self._meters = dict(pieces), {}, None, None
        self.settle()
        return sum([1 if isinstance(part, Flow) else len(part) for part in self.parts()])

    def _rows_of(self, name: str) -> dict[int, Row]:
        """The rows of a piece; none of what is no piece any more."""
        if name not in self._numbers and name in self._pieces:
            self._numbers[name] = self._number(self._pieces[name])
        return self._numbers.get(name, {})

    def _number(self, piece: Piece) -> dict[int, Row]:
        rows = numbered(piece.flows)
        self.numbered += len(rows)
        return rows

    def take(self, pieces: Pieces) -> int:
        """These pieces shall be so; others stay. Returns how many of their flows are not the very ones of before."""
        computed = 0
        for name, piece in pieces.items():
            before = self._pieces.get(name, _NOTHING)
            if name in self._pieces and _same(before, piece):
                continue
            known = {id(part) for part in before.flows}
            computed += sum([1 if isinstance(part, Flow) else len(part)
                             for part in piece.flows if id(part) not in known])
            self._replace(name, piece, self._number(piece))
        return computed

    def drop(self, names: Iterable[str]) -> None:
        """These pieces are gone, if they were there."""
        for name in self._pieces.keys() & set(names):
            self._replace(name, _NOTHING, {})
            del self._numbers[name], self._pieces[name]

    @property
    def dirty(self) -> bool:
        """Whether anything has changed since the last time that was asked."""
        return bool(self._dirty)

    def changed(self, have: Set[int]) -> Changed:
        """Of what changed since: the rows that are not among these cookies, and the cookies that nobody wants.

        From now on, that is said.
        """
        if not self._dirty:
            return Changed({}, [], 0)
        pieces = [self._rows_of(name) for name in sorted(self._dirty)]
        add = {cookie: row for rows in pieces for cookie, row in rows.items() if cookie not in have}
        delete = sorted(self._doomed & have)
        self.settle()
        return Changed(add, delete, sum(map(len, pieces)))

    def settle(self) -> None:
        """What has changed so far is said."""
        self._dirty.clear()
        self._doomed.clear()

    def _replace(self, name: str, piece: Piece, rows: dict[int, Row]) -> None:
        before = self._rows_of(name)
        self._doomed |= (self._unwanted(before, rows, name) if self._together is None
                         else self._together.put(before, rows))
        self._doomed -= rows.keys()
        self._dirty.add(name)
        if piece.meters != self._pieces.get(name, _NOTHING).meters:
            self._meters = None
        self._pieces[name], self._numbers[name] = piece, rows

    def _unwanted(self, before: dict[int, Row], rows: dict[int, Row], name: str) -> set[int]:
        """The cookies that are gone from this piece and that no other wants. No row of others is numbered for it."""
        gone = before.keys() - rows.keys()
        if not gone:
            return gone
        tables = frozenset([before[cookie].table for cookie in gone])
        others = chain.from_iterable([piece.flows for other, piece in self._pieces.items() if other != name])
        return gone.difference(*map(cookies_of, within(others, tables)))


class _Together:
    """The rows of all pieces by their cookies."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self._again: Counter[int] = Counter()  # cookie -> pieces that want it, beside a first one

    def put(self, old: dict[int, Row], rows: dict[int, Row]) -> set[int]:
        """A piece has other rows than before. Returns the cookies that no piece wants any more."""
        doomed = set()
        came = rows.keys() - old.keys() if old else rows.keys()
        self._again.update(came & self.rows.keys())
        self.rows.update(rows)
        for cookie in old.keys() - rows.keys():
            # Another piece may want the very same flow: a VLAN that changes its network keeps `dl_vlan=5 -> br-tun`.
            if self._again[cookie]:
                self._again[cookie] -= 1
            else:
                del self.rows[cookie]
                doomed.add(cookie)
        return doomed


_NOTHING: Final = Piece(())


def _same(before: Piece, after: Piece) -> bool:
    """Whether they are made of the very same flows."""
    return (len(before.flows) == len(after.flows) and all(map(is_, before.flows, after.flows))
            and before.meters == after.meters)
