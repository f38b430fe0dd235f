"""Which rows a write replaces by adding others: their old cookies need not be deleted, as nothing wears them any more.

A flow-mod that adds a flow with the table, the priority and the match of another overwrites it (OpenFlow 1.4, 6.4).
That it will is known of a row that has just been read, match and all. Of what was written hours ago it is only
believed, so there a deletion of the old cookie follows, which finds nothing as a rule.
"""
from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import replace
from typing import Final

from controller.switch import additions, dumps
from controller.switch.additions import Run
from controller.switch.audit import of_row
from controller.switch.damage import Key, match_of
from controller.switch.diff import Plan
from controller.switch.found import Found
from flows.sheet import flow_of

_MANY: Final = 5000  # rows: of more, telling it takes us longer than the deletions take a switch


def told(plan: Plan, found: Found, twins: Set[int]) -> Plan:
    """The plan without such deletions. `twins`: cookies that more than one row wears."""
    gone = set(plan.delete) - twins
    if not plan.add or not gone or max(len(plan.add), len(gone)) > _MANY:
        return plan
    came = set(_keys(plan))
    replaced = {row.cookie for row in dumps.contents_of(found, gone)
                if (match := match_of(row.match)) is not None and (row.table, row.priority, match) in came}
    return replace(plan, delete=tuple(cookie for cookie in plan.delete if cookie not in replaced),
                   replaced=tuple(sorted(replaced)))


def _keys(plan: Plan) -> Iterator[Key]:
    for batch in additions.of(plan.add).batches:
        if isinstance(batch, Run):
            model = batch.sheet.model
            yield from ((model.table.id, model.priority, of_row(batch.sheet, index)) for index in batch.indices)
        else:
            yield from ((row.table.id, row.priority, flow_of(row).match) for _, row in batch)
