"""Which notes of a packet (registers, what connection tracking said) any row may still read.

What nobody reads does not tell two packets apart, so that their ways onward are found once.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator

from flows import fields as f
from flows.actions import (
    Action,
    Clone,
    Goto,
    LearnPort,
    LookUp,
    Move,
    Output,
    OutputBack,
    OutputTo,
    Resubmit,
    SetField,
    Track,
)
from flows.fields import Field
from flows.flow import Flow
from flows.headerspace_rows import INSIDE
from flows.tables import Table

_CT = frozenset({f.CT_STATE.name, *(one.name for one in f.TRACKED)})
_TOLD = INSIDE | {f.IN_PORT.name}
_READ, _WRITE, _LEAD, _COPY, _LEAVE = "reads", "writes", "leads", "copies", "leaves"
_Deed = tuple[str, "int | str | Table | tuple[_Deed, ...]"]


class Live:
    """The notes that rows of one bridge read."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        self._shapes: dict[Table, set[tuple[_Deed, ...]]] = {}
        known: dict[tuple[tuple[Field, ...], tuple[Action, ...]], tuple[_Deed, ...]] = {}
        for row in flows:
            key = tuple([one.field for one in row.match.criteria]), row.actions
            deeds = known.get(key)
            if deeds is None:
                reads = [(_READ, one.name) for one in key[0] if one.name in _TOLD]
                deeds = known[key] = (*reads, *_deeds(row.actions))
            self._shapes.setdefault(row.table, set()).add(deeds)
        self._known: dict[Table, frozenset[str]] = {}
        self._leaves: dict[Table, frozenset[int] | None] = {}

    def at(self, table: Table) -> frozenset[str]:
        """Those that count for what comes to a table."""
        if table not in self._known:
            self._known[table] = frozenset(name for name in INSIDE if self._reads(name, table, set()))
        return self._known[table]

    def blind(self, table: Table, in_port: int) -> bool:
        """Whether what comes to a table fares alike whichever port it came in by, and so as if by none."""
        if table not in self._leaves:
            deeds = self._onward(table, {table})
            seen = any(kind == _READ and what == f.IN_PORT.name for kind, what in deeds)
            self._leaves[table] = None if seen else frozenset(
                what for kind, what in deeds if kind == _LEAVE and isinstance(what, int))
        leaves = self._leaves[table]
        return leaves is not None and in_port not in leaves

    def _onward(self, table: Table, met: set[Table]) -> set[_Deed]:
        """All that rows of a table do, and of those that it leads to."""
        found: set[_Deed] = set()
        waiting = [*self._shapes.get(table, ())]
        while waiting:
            for deed in waiting.pop():
                kind, what = deed
                if kind == _COPY and isinstance(what, tuple):
                    waiting.append(what)
                elif kind == _LEAD and isinstance(what, Table) and what not in met:
                    met.add(what)
                    waiting += self._shapes.get(what, ())
                found.add(deed)
        return found

    def _reads(self, name: str, table: Table, met: set[Table]) -> bool:
        met.add(table)
        return any(self._is_read(name, deeds, met) for deeds in self._shapes.get(table, ()))

    def _is_read(self, name: str, deeds: Iterable[_Deed], met: set[Table]) -> bool:
        for kind, what in deeds:
            if kind == _WRITE and what == name:
                return False
            if kind == _READ and what == name:
                return True
            if kind == _LEAD and isinstance(what, Table) and what not in met and self._reads(name, what, met):
                return True
            if kind == _COPY and isinstance(what, tuple) and self._is_read(name, what, met):
                return True
        return False


def _deeds(actions: Iterable[Action]) -> Iterator[_Deed]:
    for action in actions:
        match action:
            case Goto(table) | Resubmit(table) | LookUp(table):
                yield _LEAD, table
            case Clone(inner):
                yield _COPY, tuple(_deeds(inner))
            case SetField(criterion):
                yield _WRITE, criterion.field.name
            case Move(source, target):
                yield _READ, source.name
                yield _WRITE, target.name
            case Output(port):
                yield _LEAVE, port
            case OutputTo(register):
                yield _READ, register.name
                yield _READ, f.IN_PORT.name
            case OutputBack() | LearnPort():
                yield _READ, f.IN_PORT.name
            case Track(zone, table):
                if isinstance(zone, Field):
                    yield _READ, zone.name
                yield from ((_WRITE, name) for name in sorted(_CT))
                if table is not None:
                    yield _LEAD, table
            case _:
                pass
