"""Whether a switch's rows do what their cookies promise: what was changed while nobody looked, by a few rows at a time.

A cookie digests its flow when we write it. Whoever changes a flow by hand keeps its cookie, so that only the row itself
shows what was done to it.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from typing import Final

from controller.switch import damage, packing
from controller.switch.damage import Damage, Finding, What
from controller.switch.dumps import Content
from flows.cookie import is_compiled
from flows.fields import Criterion
from flows.flow import Match
from flows.sheet import Row, Sheet, Spliced, flow_of

GROUPS: Final = 16  # of cookies, by their lowest bits: a switch that reads out all its rows at once forwards nothing
_PORT: Final = slice(-12, -8)  # where an output action has its port, from its end


class Audit:
    """One look at all rows of a switch. `find`: cookie -> what wears it by right."""

    def __init__(self, find: Callable[[int], Row | None]) -> None:
        self._find = find
        self._promised: dict[int, bytes] = {}  # id of a sheet -> what its model does
        self._seen: set[int] = set()

    def rows(self, rows: Iterable[Content]) -> Iterator[Finding]:
        """Some of its rows."""
        for row in rows:
            if is_compiled(row.cookie):
                yield from self._row(row)

    def promised(self, row: Content) -> bool:
        """Whether a row is one of ours, and as it shall be."""
        return is_compiled(row.cookie) and not any(True for _ in self._row(row))

    def missing(self, expected: Set[int]) -> Iterator[Finding]:
        """Of these cookies, all rows have been seen: those of which there was none."""
        for cookie in expected - self._seen:
            yield Finding(cookie, False, Damage(What.DELETED, cookie))

    def _row(self, row: Content) -> Iterator[Finding]:
        cookie, wanted = row.cookie, self._find(row.cookie)
        if wanted is None:
            yield Finding(cookie, True, Damage(What.SURPLUS, cookie))
        elif not _is_at(row, wanted):
            yield Finding(cookie, True, Damage(What.COPIED, cookie))
        else:
            self._seen.add(cookie)
            if row.timeouts != (0, 0) or damage.plain(row.instructions) != self._promise(wanted):
                yield Finding(cookie, False, Damage(What.ALTERED, cookie))

    def _promise(self, wanted: Row) -> bytes:
        """What it shall do, as bytes."""
        if not isinstance(wanted, Spliced):
            return damage.plain(packing.instructions(flow_of(wanted).actions))
        sheet = wanted.sheet
        if id(sheet) not in self._promised:
            self._promised[id(sheet)] = damage.plain(packing.instructions(sheet.model.actions))
        promised, output = self._promised[id(sheet)], wanted.output
        return promised if output is None else promised[:_PORT.start] + output.to_bytes(4) + promised[_PORT.stop:]


def _is_at(row: Content, wanted: Row) -> bool:
    """Whether it has the table, the priority and the match that it shall have."""
    if (row.table, row.priority) != (wanted.table.id, wanted.priority):
        return False
    match = of_row(wanted.sheet, wanted.index) if isinstance(wanted, Spliced) else flow_of(wanted).match
    return damage.match_of(row.match) == match


def of_row(sheet: Sheet, index: int) -> Match:
    """The match of one row."""
    return Match(tuple(Criterion(one.field, sheet.values[index], one.mask) if one.field is sheet.field else one
                       for one in sheet.model.match.criteria))
