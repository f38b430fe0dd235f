"""Flows that every port has, alike but for its own numbers: `flow.flow`, with less to look at for each."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flows.actions import Action
from flows.fields import Criterion
from flows.flow import Flow, Match, Shape, flow, when
from flows.shapes import Condition, conditions
from flows.tables import Table


@dataclass(frozen=True, eq=False)
class Fixed:
    """Conditions that are the same for every port. One object for each set: being the same is being equal."""

    criteria: tuple[Criterion, ...] = ()


_NOTHING: Final = Fixed()


class Form:
    """Flows of one rank of one table that do the same."""

    def __init__(self, table: Table, rank: str, *actions: Action) -> None:
        self._table, self._rank, self._actions = table, rank, actions
        self._shapes: dict[tuple[Condition | Fixed, ...], Shape] = {}  # of what has been checked with the rest

    def __call__(self, own: tuple[Criterion, ...], origin: str, why: str, fixed: Fixed = _NOTHING) -> Flow:
        """The flow with these conditions, in any order. Undeclared or ValueError as `flow` and `when` say."""
        criteria = own + fixed.criteria
        key = (fixed, *conditions(own))
        shape = self._shapes.get(key)
        if shape is None:
            made = flow(self._table, self._rank, when(*criteria), *self._actions, origin=origin, why=why)
            assert made.match.shape is not None
            self._shapes[key] = made.match.shape
            return made
        if not shape.straight:
            criteria = tuple([criteria[place] for place in shape.order])
        return Flow(self._table, self._table.ranks[self._rank], Match(criteria, shape), self._actions, origin, why)
