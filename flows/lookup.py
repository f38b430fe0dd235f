"""Which flow of a table takes a packet, as Open vSwitch's classifier decides it: by priority, and by conjunctions."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from flows import fields as f
from flows.fields import Field
from flows.flow import Conjunction, Flow, Match
from flows.packet import Packet
from flows.sheet import Part, Sheet
from flows.tables import Table

# A packet without these has 0 there.
_UNSET: Final = frozenset({f.CT_STATE, f.TUN_ID, f.IP_FRAG, *f.TRACKED, *f.REGISTERS})


class _Spread:
    """A sheet, of which the one row that a packet may hit is found by its value; no other is built."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.priority = sheet.model.priority
        self._places = {value: place for place, value in enumerate(sheet.values)}

    def row(self, packet: Packet, in_port: int) -> Flow | None:
        """The row with the packet's value."""
        value = _value(self.sheet.field, packet, in_port)
        place = None if value is None else self._places.get(value)
        return None if place is None else self.sheet.flow(place)


class Rows:
    """Flows by table, sorted once for many packets."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._tables: dict[Table, list[Flow | _Spread]] = {}
        for part in parts:
            rows = self._tables.setdefault(part.table, [])
            if isinstance(part, Flow):
                rows.append(part)
            elif isinstance(part, Sheet):
                rows.append(_Spread(part))
            else:
                for row in part:
                    self._tables.setdefault(row.table, []).append(row)
        for rows in self._tables.values():
            rows.sort(key=_priority, reverse=True)

    def with_(self, learned: Iterable[Flow]) -> Rows:
        """These and others; a flow replaces the one with its priority and match."""
        new = Rows(())
        new._tables = dict(self._tables)
        for flow in learned:
            rows = [row for row in new._tables.get(flow.table, ()) if isinstance(row, _Spread)
                    or (row.priority, row.match) != (flow.priority, flow.match)]
            new._tables[flow.table] = sorted([flow, *rows], key=_priority, reverse=True)
        return new

    def look(self, table: Table, packet: Packet, in_port: int) -> tuple[Flow | None, tuple[Flow, ...]]:
        """The flow that takes a packet, and the clauses that led to it."""
        clauses: list[Flow] = []
        found = None
        for row in self._candidates(table, packet, in_port):
            if not matches(row.match, packet, in_port):
                continue
            if not row.is_clause:
                found = row
                break
            clauses.append(row)
        for number, together in _complete(row for row in clauses if not found or row.priority > found.priority):
            # Open vSwitch takes any of several; flows that make a difference between them are nobody's wish.
            if (both := self._plain(table, packet.set(f.CONJ_ID(number)), in_port)) is not None:
                return both, together
        return found, ()

    def _plain(self, table: Table, packet: Packet, in_port: int) -> Flow | None:
        return next((row for row in self._candidates(table, packet, in_port)
                     if not row.is_clause and matches(row.match, packet, in_port)), None)

    def _candidates(self, table: Table, packet: Packet, in_port: int) -> Iterator[Flow]:
        for row in self._tables.get(table, ()):
            if isinstance(row, Flow):
                yield row
            elif (found := row.row(packet, in_port)) is not None:
                yield found


def _complete(clauses: Iterable[Flow]) -> Iterator[tuple[int, tuple[Flow, ...]]]:
    """Conjunctions of which every clause is among these: their numbers and flows, by priority, then by number."""
    for _, group in groupby(clauses, key=_priority):
        met: dict[int, dict[int, Flow]] = {}
        size: dict[int, int] = {}
        for row in group:
            for one in row.actions:
                if isinstance(one, Conjunction):
                    met.setdefault(one.id, {})[one.clause] = row
                    size[one.id] = one.of
        for number in sorted(met):
            if len(met[number]) == size[number]:
                yield number, tuple(met[number][clause] for clause in sorted(met[number]))


def _priority(row: Flow | _Spread) -> int:
    return row.priority


def _value(field: Field, packet: Packet, in_port: int) -> int | None:
    """What a packet has to be compared with; None, which fulfils no condition, without the field."""
    value = in_port if field == f.IN_PORT else packet.get(field)
    return 0 if value is None and field in _UNSET else value


def matches(match: Match, packet: Packet, in_port: int) -> bool:
    """Whether a packet fulfils all conditions; a field that it does not have fulfils none."""
    for criterion in match.criteria:
        value = _value(criterion.field, packet, in_port)
        if value is None or value & criterion.mask != criterion.value:
            return False
    return True
