"""What decides whether a flow may be made at all: the shape of its match and of its actions, without their numbers.

A cloud has a million flows and some hundred shapes. `flow.flow` and `flow.when` check each shape once.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

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
ZONES: Final = 0xFFFF  # of connection tracking; 0 is none of ours


def conditions(criteria: Iterable[Criterion]) -> tuple[Condition, ...]:
    """Of conditions, what decides; in their order."""
    # A mask of no bits is no condition, and a tag can be removed only where there is one (its value is not 0).
    return tuple([one if one.field.decides or not one.mask or not one.value else one.field for one in criteria])


def doings(actions: Iterable[Action]) -> tuple[object, ...]:
    """Of actions, what decides; in their order. Many outputs in a row are as one, and copies that do the like."""
    found = [type(action) if (made := _DOINGS.get(type(action))) is None else made(action) for action in actions]
    if len(found) < _MANY:
        return tuple(found)
    # Else there would be as many shapes of broadcast flows as there are numbers of ports on a network.
    return tuple([what for place, what in enumerate(found) if place == 0 or what != found[place - 1]
                  or not _repeats(what)])


def _repeats(what: object) -> bool:
    return what is Output or (isinstance(what, tuple) and what[0] is Clone)


def _zone(track: Track) -> object:
    return track.zone if isinstance(track.zone, Field) else 0 < track.zone <= ZONES


def _track(action: Track) -> object:
    return Track, _zone(action), action.table, action.nat, action.commit, action.translation is not None


_MANY: Final = 8
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
