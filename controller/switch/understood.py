"""What a switch has taken without a complaint, so that the like of it need not be asked about again. No I/O.

Whether a switch can read a flow-mod depends on its table, on which fields it compares and on what its actions are, not
on their numbers: another port of a VM is not the first one.
"""
from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from controller.switch.diff import Plan
from flows.actions import Metered
from flows.shapes import doings
from flows.sheet import Row, Spliced
from flows.stencil import Printed

_FEW: Final = 500  # flows of a write; with larger ones, a round trip more is of no weight, and looking at them is
_FLUSH: Final = "empty a zone"
_NEVER: Final = "nothing that is learned"


class Understood:
    """By one switch, over one connection."""

    def __init__(self) -> None:
        self._shapes: set[object] = set()

    def covers(self, plan: Plan) -> bool:
        """Whether every message of a write is like one that the switch has taken."""
        return _simple(plan) and self._shapes.issuperset(_shapes(plan))

    def learn(self, plan: Plan) -> None:
        """It has taken these."""
        if _simple(plan):
            self._shapes.update(shape for shape in _shapes(plan) if shape is not _NEVER)


def _simple(plan: Plan) -> bool:
    """Whether it is small, and of flows and zones alone."""
    return not (plan.meters_add or plan.meters_change or plan.meters_delete) and len(plan.add) <= _FEW


def _shapes(plan: Plan) -> Iterator[object]:
    if plan.flush or plan.flush_again:
        yield _FLUSH
    for _, row in islice(plan.add, _FEW):
        yield _shape(row)


def _shape(row: Row) -> object:
    """Of a flow, what a switch needs to know for reading it. Deletions name cookies or fields that every table has."""
    flow = row.sheet.model if isinstance(row, Spliced) else row.model if isinstance(row, Printed) else row
    compared = tuple([(one.field, one.exact) for one in flow.match.criteria])
    done = doings(flow.actions)
    return _NEVER if Metered in done else (flow.table, compared, done)  # the meter may be gone
