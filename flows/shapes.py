"""What decides whether a flow may be made at all: the shape of its match and of its actions, without their numbers.

A cloud has a million flows and some hundred shapes. `flow.flow` and `flow.when` check each shape once.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from flows import fields as f
from flows.actions import (
    Action,
    CheckLarger,
    Clone,
    Conjunction,
    Goto,
    Learn,
    LearnPort,
    LookUp,
    Metered,
    Move,
    Output,
    OutputTo,
    Resubmit,
    SetField,
    Track,
)
from flows.fields import Criterion, Field

Condition = Field | Criterion  # a criterion where its value decides what else may be matched or done
_DECISIVE: Final = frozenset((f.ETH_TYPE, f.IP_PROTO, f.CT_STATE))  # fields of which the value does
ZONES: Final = 0xFFFF  # of connection tracking; 0 is none of ours


def conditions(criteria: Iterable[Criterion]) -> tuple[Condition, ...]:
    """Of conditions, what decides; in their order."""
    # A mask of no bits is no condition, and a tag can be removed only where there is one.
    return tuple([one if one.field in _DECISIVE or not one.mask or (not one.value and one.field is f.VLAN_VID)
                  else one.field for one in criteria])


def doings(actions: Iterable[Action]) -> tuple[object, ...]:
    """Of actions, what decides; in their order. Outputs in a row, and copies in a row that do the like, are as one."""
    found: list[object] = []
    before: object = None
    for action in actions:
        made = _DOINGS.get(type(action))
        what: object = type(action) if made is None else made(action)
        if what != before or type(action) not in _IN_A_ROW:
            found.append(what)
        before = what
    return tuple(found)


def _zone(track: Track) -> object:
    return track.zone if isinstance(track.zone, Field) else 0 < track.zone <= ZONES


def _track(action: Track) -> object:
    return Track, _zone(action), action.table, action.nat, action.commit, action.translation is not None


_IN_A_ROW: Final = frozenset((Output, Clone))
# What is not in here has no numbers that decide.
_DOINGS: Final[dict[type, Callable[..., object]]] = {
    SetField: lambda action: action.criterion.field,
    Move: lambda action: (Move, action.source, action.target),
    Goto: lambda action: action.table,
    Resubmit: lambda action: (Resubmit, action.table),
    LookUp: lambda action: (LookUp, action.table),
    Clone: lambda action: (Clone, doings(action.actions)),
    Learn: lambda action: (Learn, action.into),
    LearnPort: lambda action: (LearnPort, action.into),
    Metered: lambda action: Metered,
    CheckLarger: lambda action: (CheckLarger, action.target),
    OutputTo: lambda action: (OutputTo, action.register),
    Conjunction: lambda action: (Conjunction, bool(action.id), action.clause, action.of),
    Track: _track,
}
