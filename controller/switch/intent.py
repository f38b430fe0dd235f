"""What one bridge shall hold, piece by piece: who wants which flow, and what has changed since it was last asked.

Pure bookkeeping: what the switch holds is the session's to know, and comes in as a set of cookies.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from flows.flow import Flow
from flows.host import Meter
from flows.sheet import Part, Row, flow_of, numbered


@dataclass(frozen=True)
class Piece:
    """A part of what a bridge shall hold: of the base, of a network, of a router."""

    flows: tuple[Part, ...]
    meters: tuple[Meter, ...] = ()


Pieces = Mapping[str, Piece]  # by name


class Intent:
    """All pieces of one bridge."""

    def __init__(self) -> None:
        self._pieces: dict[str, Piece] = {}
        self._rows: dict[str, dict[int, Row]] = {}  # piece -> cookie -> row
        self._wanted: Counter[int] = Counter()  # cookie -> pieces that want it
        self._dirty: set[str] = set()
        self._doomed: set[int] = set()

    @property
    def rows(self) -> dict[int, Row]:
        """Cookie -> row: all that the switch shall hold."""
        return {cookie: row for piece in self._rows.values() for cookie, row in piece.items()}

    @property
    def want(self) -> dict[int, Flow]:
        """The same as flows, all of them built: for people."""
        return {cookie: flow_of(row) for cookie, row in self.rows.items()}

    @property
    def meters(self) -> dict[int, Meter]:
        """Id -> meter: all that the switch shall hold."""
        return {meter.id: meter for piece in self._pieces.values() for meter in piece.meters}

    @property
    def names(self) -> Set[str]:
        """Of the pieces."""
        return self._pieces.keys()

    def find(self, cookie: int) -> Row | None:
        """What wears this cookie; None if nothing shall."""
        return next((rows[cookie] for rows in self._rows.values() if cookie in rows), None)

    def parts(self, name: str | None = None) -> Iterator[Part]:
        """All that shall be held, or one piece of it, unbuilt."""
        pieces = self._pieces.values() if name is None else (self._pieces[name],) if name in self._pieces else ()
        return (part for piece in pieces for part in piece.flows)

    def cookies_of(self, name: str) -> Set[int]:
        """The cookies of a piece."""
        return self._rows[name].keys()

    def holds(self, name: str, have: Set[int]) -> bool:
        """Whether every flow of a piece is among these cookies."""
        return name in self._rows and self._rows[name].keys() <= have

    def renew(self, pieces: Pieces) -> int:
        """These pieces and no others. Returns how many flows were computed for them; nothing counts as changed."""
        self._pieces.clear()
        self._rows.clear()
        self._wanted.clear()
        computed = self.take(pieces)
        self.settle()
        return computed

    def take(self, pieces: Pieces) -> int:
        """These pieces shall be so; others stay. Returns how many of their flows are not the very ones of before."""
        computed = 0
        for name, piece in pieces.items():
            before = self._pieces.get(name)
            known = {id(part) for part in before.flows} if before else set()
            computed += sum(1 if isinstance(part, Flow) else len(part)
                            for part in piece.flows if id(part) not in known)
            self._replace(name, dict(numbered(piece.flows)))
            self._pieces[name] = piece
        return computed

    def drop(self, names: Iterable[str]) -> None:
        """These pieces are gone."""
        for name in names:
            self._replace(name, {})
            del self._rows[name]
            self._pieces.pop(name, None)

    def changed(self, have: Set[int]) -> tuple[dict[int, Row], list[int]]:
        """Of what changed since: the rows that are not among these cookies, and the cookies that nobody wants.

        From now on, that is said.
        """
        add = {cookie: row for name in sorted(self._dirty) for cookie, row in self._rows.get(name, {}).items()
               if cookie not in have}
        delete = sorted(self._doomed & have)
        self.settle()
        return add, delete

    def settle(self) -> None:
        """What has changed so far is said."""
        self._dirty.clear()
        self._doomed.clear()

    def _replace(self, name: str, rows: dict[int, Row]) -> None:
        old = self._rows.get(name, {})
        self._rows[name] = rows
        self._wanted.update(rows.keys())
        self._wanted.subtract(old.keys())
        for cookie in old.keys() - rows.keys():
            # Another piece may want the very same flow: a VLAN that changes its network keeps `dl_vlan=5 -> br-tun`.
            if self._wanted[cookie] <= 0:
                del self._wanted[cookie]
                self._doomed.add(cookie)
        self._doomed -= rows.keys()
        self._dirty.add(name)
