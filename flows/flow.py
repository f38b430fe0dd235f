"""A flow is a value: a table, a rank in it, a match, actions, and why it is there. Building one never sends it."""
from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from flows import fields as f
from flows.actions import (
    Action,
    AnyPort,
    Ask,
    CheckLarger,
    Clone,
    Conjunction,
    DecTtl,
    Goto,
    Learn,
    LearnPort,
    LookUp,
    Metered,
    Move,
    Output,
    OutputBack,
    OutputTo,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    Track,
    Translation,
)
from flows.fields import Criterion, Field
from flows.shapes import ZONES, Condition, conditions, doings
from flows.tables import Table, pipeline

__all__ = ("ANY", "Action", "AnyPort", "Ask", "CheckLarger", "Clone", "Conjunction", "DecTtl", "Flow", "Goto", "Learn",
           "LearnPort", "LookUp", "Match", "Metered", "Move", "Output", "OutputBack", "OutputTo", "PopVlan",
           "PushVlan", "Resubmit", "SetField", "Shape", "Track", "Translation", "Undeclared", "flow", "when")


class Undeclared(ValueError):
    """A flow asks of a table what the table did not declare."""


@dataclass(frozen=True, eq=False)
class Shape:
    """What all matches with conditions of the same kind have in common; one object for each, so compared as such."""

    order: tuple[int, ...]  # where each condition, in the order of `fields.FIELDS`, stands among those that were given
    straight: bool  # they were given in that order, and all count


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions that must all hold, in the order of `fields.FIELDS`; none at all matches every packet."""

    criteria: tuple[Criterion, ...]
    shape: Shape | None = field(default=None, compare=False, repr=False)  # None: `when` did not make it

    def __getitem__(self, wanted: Field) -> Criterion | None:
        for criterion in self.criteria:
            if criterion.field is wanted:
                return criterion
        return None

    def covers(self, other: Match) -> bool:
        """Whether every packet that `other` matches is matched here, too."""
        return all((theirs := other[mine.field]) is not None and mine.covers(theirs) for mine in self.criteria)

    def meets(self, other: Match) -> bool:
        """Whether some packet could match both."""
        return all((theirs := other[mine.field]) is None or mine.meets(theirs) for mine in self.criteria)


ANY = Match(())


_SHAPES: Final[dict[tuple[Condition, ...], Shape]] = {}  # of conditions as they were given


def when(*criteria: Criterion) -> Match:
    """A match from conditions in any order; a field may be named once, together with what it needs (fields.NEEDS)."""
    key = conditions(criteria)
    shape = _SHAPES.get(key)
    if shape is None:
        shape = _SHAPES[key] = _shape(criteria)
    return Match(criteria if shape.straight else tuple([criteria[place] for place in shape.order]), shape)


def _shape(criteria: tuple[Criterion, ...]) -> Shape:
    # A mask of no bits (0.0.0.0/0) is no condition; a switch would not keep it.
    places = [place for place, one in enumerate(criteria) if one.mask]
    places.sort(key=lambda place: f.ORDER[criteria[place].field.name])
    ordered = [criteria[place] for place in places]
    for first, second in pairwise(ordered):
        if first.field == second.field:
            raise ValueError(f"{first.field.name} is matched twice")
    for criterion in ordered:
        if missing := [need for need in f.NEEDS.get(criterion.field, ()) if need not in ordered]:
            raise ValueError(f"{criterion.field.name} can only be matched together with {missing[0].field.name}")
    _conversation(Match(tuple(ordered)))
    return Shape(tuple(places), places == list(range(len(criteria))))


_KNOWN: Final = f.CT_FLAGS["trk"] | f.CT_FLAGS["inv"]


def _conversation(match: Match) -> None:
    """Only what is tracked and not invalid has CT_ fields, and it has ports only with its protocol.

    Of the last, Open vSwitch 3.1 says nothing: it leaves the port out, and matches all of them.
    """
    state = match[f.CT_STATE]
    for criterion in match.criteria:
        if criterion.field not in f.TRACKED:
            continue
        if not state or state.mask & _KNOWN != _KNOWN or state.value & _KNOWN != f.CT_FLAGS["trk"]:
            raise ValueError(f"{criterion.field.name} can only be matched together with ct_state=+trk-inv")
        if criterion.field in (f.CT_TP_SRC, f.CT_TP_DST) and not match[f.CT_NW_PROTO]:
            raise ValueError(f"{criterion.field.name} can only be matched together with ct_nw_proto")


@dataclass(frozen=True, slots=True)
class Flow:
    """One row of a flow table. No actions means drop. `origin` and `why` do not count in equality."""

    table: Table
    priority: int
    match: Match
    actions: tuple[Action, ...]
    origin: str = field(compare=False)  # path of the causing object in the topology, or `pipeline`
    why: str = field(compare=False)  # a clause for a person
    known_cookie: int = field(default=0, init=False, compare=False, repr=False)  # `cookie.cookie_of` keeps it here

    @property
    def is_clause(self) -> bool:
        """Whether it only counts together with others (Conjunction)."""
        return bool(self.actions) and isinstance(self.actions[0], Conjunction)


def flow(table: Table, rank: str, match: Match, *actions: Action, origin: str, why: str) -> Flow:
    """A flow of a table. Undeclared if the table knows no such rank, field or way."""
    key = table, rank, match.shape, doings(actions)
    if key not in _FINE:
        _check_all(table, rank, match, actions)
        if match.shape is not None:
            _FINE.add(key)
    return Flow(table, table.ranks[rank], match, actions, origin, why)


_FINE: Final[set[tuple[Table, str, Shape | None, tuple[object, ...]]]] = set()  # flows of these shapes may be made


def _check_all(table: Table, rank: str, match: Match, actions: tuple[Action, ...]) -> None:
    if rank not in table.ranks:
        raise Undeclared(f"{table.name} has no rank {rank!r}, only {', '.join(table.ranks)}")
    for criterion in match.criteria:
        if criterion.field not in table.matches:
            raise Undeclared(f"{table.name} does not match {criterion.field.name}")
    for place, action in enumerate(actions):
        _check(table, match, action, place=place, last=place == len(actions) - 1)
    kinds = {isinstance(action, Conjunction) for action in actions}
    if len(kinds) > 1:
        raise Undeclared("a clause of a conjunction does nothing else")


def _check(table: Table, match: Match, action: Action, *, place: int, last: bool) -> None:
    match action:
        case Goto(onward):
            _leads(table, onward)
            if onward.id <= table.id:
                raise Undeclared("goto leads onward only")  # OpenFlow 1.4, 5.1
            if not last:
                raise Undeclared("goto is the last thing a flow does")
        case Track():
            _tracks(table, action, last=last)
        case Resubmit(onward):
            _leads(table, onward)
            if not last:
                raise Undeclared("resubmit is the last thing a flow does")
        case LookUp(onward):
            _leads(table, onward)
            if onward.goes_to:
                raise Undeclared(f"{onward.name} leads onward, so it is not only looked up")
        case Clone(actions):
            _copies(table, match, actions)
        case Learn(into) | LearnPort(into) if into not in pipeline(table.bridge):
            raise Undeclared(f"{table.name} cannot teach a table of another bridge")
        case Metered() if place:
            raise Undeclared("a meter is the first thing a flow asks")
        case CheckLarger(_, target) | OutputTo(target) if target not in f.REGISTERS:
            raise Undeclared(f"{target.name} is no register")
        case Conjunction(number, clause, of) if not (number and 1 <= clause <= of and of > 1):
            raise Undeclared(f"{clause} of {of} is no clause of a conjunction, or {number} is none")
    _prerequisites(match, action)


def _leads(table: Table, onward: Table) -> None:
    if onward not in pipeline(table.bridge) or onward.name not in table.goes_to:
        raise Undeclared(f"{table.name} does not lead to {onward.name}")


def _copies(table: Table, match: Match, actions: tuple[Action, ...]) -> None:
    """What is done with a copy."""
    for place, action in enumerate(actions):
        if isinstance(action, Goto | Metered | Conjunction):
            raise Undeclared(f"{type(action).__name__} is nothing that a copy can do")
        _check(table, match, action, place=place, last=place == len(actions) - 1)


def _tracks(table: Table, action: Track, *, last: bool) -> None:
    if action.table:
        _leads(table, action.table)
        if not last:
            # What follows would see the packet as it was before connection tracking (ovs-actions(7), ct).
            raise Undeclared("connection tracking is the last thing a flow does: the rest is for the next table")
    elif not action.commit:
        raise Undeclared("connection tracking without a table is for what it remembers")
    if isinstance(action.zone, Field):
        if action.zone not in f.REGISTERS:
            raise Undeclared(f"{action.zone.name} is no register")
    elif not 0 < action.zone <= ZONES:
        raise Undeclared(f"{action.zone} is no zone of connection tracking")
    if action.translation and not action.commit:
        raise Undeclared("only a connection that is remembered can be given another address")
    if action.commit and action.nat:
        raise Undeclared("a new connection is not translated as it was before")


def _prerequisites(match: Match, action: Action) -> None:
    """What the match must say for a switch to take this action."""
    eth_type = match[f.ETH_TYPE]
    match action:
        case PopVlan():
            vlan = match[f.VLAN_VID]
            if not vlan or not vlan.value:
                raise Undeclared("a flow that removes a tag must match one")
        case DecTtl() | Track() if eth_type not in (f.ETH_TYPE(f.IPV4), f.ETH_TYPE(f.IPV6)):
            raise Undeclared(f"{type(action).__name__} is only for IP: the flow must match its EtherType")
        case SetField(criterion):
            _has(match, criterion.field)
        case Move(source, target):
            _has(match, source)
            _has(match, target)


def _has(match: Match, field_: Field) -> None:
    if missing := [need for need in f.NEEDS.get(field_, ()) if need not in match.criteria]:
        raise Undeclared(f"{field_.name} is only there where the flow matches {missing[0].field.name}")
