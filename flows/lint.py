"""Faults of a whole pipeline that no single flow shows: what can never be hit, what is ambiguous, what leads nowhere.

Faults are values, so that a test may demand that there are none and a tool may print them. Work grows with the number
of flows, not with its square: flows are compared by the shape of their match (which bits of which fields) first.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import combinations, groupby

from flows.compile import by_bridge
from flows.cookie import cookie_of
from flows.flow import Action, Clone, Flow, Goto, LookUp, Match, Resubmit, Track
from flows.tables import CANARY, Table, pipeline
from flows.text import line

Shape = tuple[tuple[str, int], ...]  # (field name, mask) of each condition, in the order of fields.FIELDS
Key = tuple[int, ...]


class Kind(Enum):
    """What is wrong."""

    OVERLAP = "two flows of one priority match the same packet and treat it differently"
    SHADOWED = "a flow of higher priority takes all of its packets"
    UNREACHABLE = "no flow leads to its table"
    EMPTY = "it leads to a table without flows"
    NO_MISS = "its table has no flow for what nothing else matches"
    TWINS = "two different flows wear one cookie"
    DUPLICATE = "the same flow is there twice"


@dataclass(frozen=True)
class Finding:
    """One fault. `flow` is the one to look at first, `other` the one it quarrels with."""

    kind: Kind
    flow: Flow
    other: Flow | None
    words: str

    def __str__(self) -> str:
        return self.words


def lint(flows: Iterable[Flow], cookie: Callable[[Flow], int] = cookie_of) -> tuple[Finding, ...]:
    """The faults of one host's flows, of any of its bridges or of all; none at all is what we want.

    Shadowing by several flows together is not looked for.
    """
    found: list[Finding] = []
    for bridge, mine in by_bridge(flows).items():
        found += _twins(mine, cookie)
        tables = {table: tuple(group) for table, group in groupby(mine, key=lambda flow: flow.table)}
        for rows in tables.values():
            found += _overlaps(rows)
            found += _shadowed(rows)
        found += _ways(bridge, tables)
    return tuple(found)


def _finding(kind: Kind, flow: Flow, other: Flow | None = None) -> Finding:
    words = f"{flow.table.bridge} {flow.table.name}: {kind.value}: {line(flow)} ({flow.why})"
    return Finding(kind, flow, other, words if other is None else f"{words}; the other: {line(other)} ({other.why})")


def _twins(flows: Iterable[Flow], cookie: Callable[[Flow], int]) -> Iterator[Finding]:
    wearers: dict[int, Flow] = {}
    for flow in flows:
        first = wearers.setdefault(cookie(flow), flow)
        if first is not flow:
            yield _finding(Kind.DUPLICATE if first == flow else Kind.TWINS, flow, first)


# ---- inside one table

def _overlaps(rows: Iterable[Flow]) -> Iterator[Finding]:
    """`rows` is sorted by priority. Each flow is reported with one other, not with all.

    Clauses of conjunctions are there to match the same packets; only of those with one match all but one get lost.
    """
    for _, rivals in groupby(rows, key=lambda flow: flow.priority):
        shapes: dict[Shape, list[Flow]] = {}
        clauses: list[Flow] = []
        for flow in rivals:
            (clauses if flow.is_clause else shapes.setdefault(_shape(flow.match), [])).append(flow)
        for same in (clauses, *shapes.values()):
            yield from _equal_matches(same)
        for (one, ours), (two, theirs) in combinations(shapes.items(), 2):
            yield from _meetings(_common(one, two), ours, theirs)


def _equal_matches(flows: Iterable[Flow]) -> Iterator[Finding]:
    """A switch keeps only the last of these."""
    first: dict[Match, Flow] = {}
    for flow in flows:
        other = first.setdefault(flow.match, flow)
        if other.actions != flow.actions:
            yield _finding(Kind.OVERLAP, flow, other)


def _meetings(common: Shape, ours: Iterable[Flow], theirs: Iterable[Flow]) -> Iterator[Finding]:
    """Flows that agree in all bits that both compare, and so share packets."""
    different: dict[Key, list[Flow]] = {}  # at most two by key: whatever a flow does, one of them does otherwise
    for flow in theirs:
        rows = different.setdefault(_key(flow.match, common), [])
        if not rows or (len(rows) == 1 and rows[0].actions != flow.actions):
            rows.append(flow)
    for flow in ours:
        for other in different.get(_key(flow.match, common), ()):
            if other.actions != flow.actions:
                yield _finding(Kind.OVERLAP, flow, other)
                break


def _shadowed(rows: Iterable[Flow]) -> Iterator[Finding]:
    """`rows` is sorted by priority, highest first."""
    above: dict[Shape, dict[Key, Flow]] = {}
    for _, group in groupby(rows, key=lambda flow: flow.priority):
        equals = list(group)
        for flow in equals:
            if cover := _cover(flow, above):
                yield _finding(Kind.SHADOWED, flow, cover)
        for flow in equals:
            if flow.is_clause:
                continue  # alone it takes nothing
            shape = _shape(flow.match)
            above.setdefault(shape, {}).setdefault(_key(flow.match, shape), flow)


def _cover(flow: Flow, above: dict[Shape, dict[Key, Flow]]) -> Flow | None:
    """A flow that matches every packet that this one matches."""
    masks = dict(_shape(flow.match))
    for shape, flows in above.items():
        comparable = all(mask & ~masks.get(name, 0) == 0 for name, mask in shape)
        if comparable and (found := flows.get(_key(flow.match, shape))):
            return found
    return None


def _shape(match: Match) -> Shape:
    return tuple((criterion.field.name, criterion.mask) for criterion in match.criteria)


def _common(one: Shape, two: Shape) -> Shape:
    masks = dict(two)
    return tuple((name, mask & masks[name]) for name, mask in one if mask & masks.get(name, 0))


def _key(match: Match, shape: Shape) -> Key:
    values = {criterion.field.name: criterion.value for criterion in match.criteria}
    return tuple(values[name] & mask for name, mask in shape)


# ---- between tables

def _ways(bridge: str, tables: dict[Table, tuple[Flow, ...]]) -> Iterator[Finding]:
    reached = _reached(bridge, tables)
    for rows in tables.values():
        for flow in rows:
            if any(table not in tables for table in _next(flow)):
                yield _finding(Kind.EMPTY, flow)
    for table, rows in tables.items():
        # Only what the pipeline itself put there may wait for a network that this host does not carry.
        waiting = next((flow for flow in rows if flow.origin != "pipeline"), None)
        if table not in reached and waiting:
            yield _finding(Kind.UNREACHABLE, waiting)
        if table in reached and rows[-1].match.criteria:
            yield _finding(Kind.NO_MISS, rows[-1])


def _reached(bridge: str, tables: dict[Table, tuple[Flow, ...]]) -> set[Table]:
    """The tables that a packet may get to.

    Those that only the first table leads to count, too: whether its flows do depends on which ports there are, and a
    host without tunnels still holds its VLANs in br-tun.
    """
    entry, *others = pipeline(bridge)
    by_name = {table.name: table for table in others}
    later = {name for table in others for name in table.goes_to}
    reached: set[Table] = {CANARY} & set(others)
    frontier = [entry, *(by_name[name] for name in entry.goes_to if name not in later)]
    while frontier:
        table = frontier.pop()
        if table not in reached:
            reached.add(table)
            frontier += [onward for flow in tables.get(table, ()) for onward in _next(flow)]
    return reached


def _next(flow: Flow) -> Iterator[Table]:
    return _leading(flow.actions)


def _leading(actions: Iterable[Action]) -> Iterator[Table]:
    for action in actions:
        match action:
            case Goto(table) | Resubmit(table) | LookUp(table):
                yield table
            case Track(_, table) if table:
                yield table
            case Clone(inner):
                yield from _leading(inner)
