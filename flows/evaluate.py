"""Walk a packet through one bridge's tables as Open vSwitch would, on paper.

What the switch would learn comes back as flows, for the next walk; nothing is kept here.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final

from flows import fields as f
from flows.fields import tagged
from flows.flow import (
    Action,
    AnyPort,
    Ask,
    CheckLarger,
    Clone,
    Conjunction,
    DecTtl,
    Flow,
    Goto,
    Learn,
    LearnPort,
    LookUp,
    Match,
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
    flow,
    when,
)
from flows.packet import Packet
from flows.tables import Table, pipeline
from flows.tracking import Conntrack

_UNSET: Final = frozenset({f.CT_STATE, f.TUN_ID, *f.TRACKED, *f.REGISTERS})  # a packet without these has 0 there
_DEPTH: Final = 64  # as often Open vSwitch lets a packet go back (ofproto-dpif-xlate.c, MAX_DEPTH); then it drops it


@dataclass(frozen=True)
class Step:
    """One table's word. `flow` is None if nothing matched, which drops the packet.

    `clauses` are the flows of a conjunction that led to `flow`: at least one of each of its clauses.
    """

    table: Table
    flow: Flow | None
    before: Packet
    after: Packet
    clauses: tuple[Flow, ...] = ()


Outputs = tuple[tuple[int, Packet], ...]  # (OpenFlow port, the copy that left by it)


@dataclass(frozen=True)
class Way:
    """The way of the packet, or of one of the copies that flows made of it (Clone), from the first table on."""

    steps: tuple[Step, ...]
    outputs: Outputs  # its own, not those of copies made of it
    shared: int = 0  # so many of its first steps are those of the packet that it was copied from

    @property
    def last(self) -> Step:
        """Where it was decided."""
        return self.steps[-1]


@dataclass(frozen=True)
class Walk:
    """A packet's way through a bridge: the tables it saw, what left by which port in order, what was learned.

    `steps` is the packet's own way, `copies` are those of its copies. `outputs` are all of them together. `asked` is
    what the controller got, with the registers it had then; `conntrack` is what connection tracking knows after the
    walk.
    """

    steps: tuple[Step, ...]
    outputs: Outputs
    learned: tuple[Flow, ...]
    asked: tuple[Packet, ...] = ()
    conntrack: Conntrack = field(default_factory=Conntrack)
    own: Outputs = ()  # those of the packet itself
    copies: tuple[Way, ...] = ()

    @property
    def last(self) -> Step:
        """Where it was decided: if only copies went on, where the last of them ended."""
        return self.copies[-1].last if self.copies and not self.own else self.steps[-1]

    @property
    def ways(self) -> tuple[Way, ...]:
        """The packet's own way and those of its copies."""
        return Way(self.steps, self.own), *self.copies

    def way_to(self, port: int) -> tuple[Step, ...]:
        """The steps of what left by a port; of the packet itself if nothing did."""
        return next((way.steps for way in self.ways if any(port == out for out, _ in way.outputs)), self.steps)


class Pipeline:
    """A bridge's flows, sorted once for many walks."""

    def __init__(self, bridge: str, flows: Iterable[Flow]) -> None:
        self.entry = pipeline(bridge)[0]
        self._tables: dict[Table, list[Flow]] = {}
        for row in flows:
            self._tables.setdefault(row.table, []).append(row)
        for rows in self._tables.values():
            rows.sort(key=_priority, reverse=True)

    def with_(self, learned: Iterable[Flow]) -> Pipeline:
        """The same bridge after it has learned; a flow replaces the one with its priority and match."""
        new = Pipeline(self.entry.bridge, ())
        new._tables = dict(self._tables)
        for flow_ in learned:
            rows = [row for row in new._tables.get(flow_.table, ())
                    if (row.priority, row.match) != (flow_.priority, flow_.match)]
            new._tables[flow_.table] = sorted([*rows, flow_], key=_priority, reverse=True)
        return new

    def hit(self, table: Table, packet: Packet, in_port: int) -> Flow | None:
        """The flow of a table that takes a packet: the first in order of priority."""
        return self._look(table, packet, in_port)[0]

    def _look(self, table: Table, packet: Packet, in_port: int) -> tuple[Flow | None, tuple[Flow, ...]]:
        """The flow that takes a packet, and the clauses that led to it."""
        clauses: list[Flow] = []
        found = None
        for row in self._tables.get(table, ()):
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
        return next((row for row in self._tables.get(table, ())
                     if not row.is_clause and matches(row.match, packet, in_port)), None)

    def walk(self, packet: Packet, in_port: int, conntrack: Conntrack | None = None,
             entry: Table | None = None) -> Walk:
        """From the first table (or from `entry`, for what the controller sends) until no flow leads on.

        Without `conntrack`, no connection is known and every packet is a new one's.
        """
        state = _State(packet, in_port, conntrack or Conntrack())
        try:
            self._run(state, entry or self.entry)
        except _TooDeep:
            return Walk(tuple(state.steps), (), (), (), state.conntrack)
        return Walk(tuple(state.steps), tuple(state.outputs), tuple(state.learned), tuple(state.asked),
                    state.conntrack, tuple(state.own), tuple(_copies(state)))

    def _run(self, state: _State, table: Table | None) -> None:
        while table is not None:
            row, clauses = self._look(table, state.packet, state.in_port)
            step, place = Step(table, row, state.packet, state.packet, clauses), len(state.steps)
            state.steps.append(step)
            table = self._obey(state, row.actions if row else (), place)
            state.steps[place] = replace(step, after=state.packet)

    def _obey(self, state: _State, actions: tuple[Action, ...], place: int) -> Table | None:
        """Carry out actions of the flow of a step. Returns the table to go on in, if they lead to one."""
        onward: Table | None = None
        for action in actions:
            match action:
                case LookUp(table):
                    state.deeper()
                    self._run(state, table)
                    state.depth -= 1
                case Clone(inner):
                    copy = _State(state.packet, state.in_port, state.conntrack, depth=state.depth)
                    self._run(copy, self._obey(copy, inner, place))
                    state.take(place, copy)
                case _:
                    onward = _act(state, action)
        return onward


def evaluate(flows: Iterable[Flow], packet: Packet, in_port: int, learned: Iterable[Flow] = (),
             conntrack: Conntrack | None = None) -> Walk:
    """Walk a packet through the flows of one bridge (and what it has learned and tracked before)."""
    rows = tuple(flows)
    if not rows:
        raise ValueError("a bridge without flows has no table to start in")
    return Pipeline(rows[0].table.bridge, rows).with_(learned).walk(packet, in_port, conntrack)


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


def _priority(row: Flow) -> int:
    return row.priority


def matches(match: Match, packet: Packet, in_port: int) -> bool:
    """Whether a packet fulfils all conditions; a field that it does not have fulfils none."""
    for criterion in match.criteria:
        value = in_port if criterion.field == f.IN_PORT else packet.get(criterion.field)
        if value is None and criterion.field in _UNSET:
            value = 0
        if value is None or value & criterion.mask != criterion.value:
            return False
    return True


class _TooDeep(Exception):
    """It was led back to tables more often than Open vSwitch lets it."""


@dataclass
class _State:
    packet: Packet
    in_port: int
    conntrack: Conntrack
    steps: list[Step] = field(default_factory=list)
    outputs: list[tuple[int, Packet]] = field(default_factory=list)
    own: list[tuple[int, Packet]] = field(default_factory=list)
    learned: list[Flow] = field(default_factory=list)
    asked: list[Packet] = field(default_factory=list)
    copies: list[tuple[int, _State]] = field(default_factory=list)  # (place of the step that made it, the copy)
    depth: int = 0  # how often it has gone back to an earlier table

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEPTH:
            raise _TooDeep

    def output(self, port: int) -> None:
        self.own.append((port, self.packet.emitted()))
        self.outputs.append(self.own[-1])

    def take(self, place: int, copy: _State) -> None:
        """What has become of a copy."""
        self.outputs += copy.outputs
        self.learned += copy.learned
        self.asked += copy.asked
        self.conntrack = copy.conntrack
        self.copies.append((place, copy))


def _copies(state: _State, before: tuple[Step, ...] = ()) -> Iterator[Way]:
    for place, copy in state.copies:
        common = (*before, *state.steps[:place + 1])
        yield Way((*common, *copy.steps), tuple(copy.own), len(common))
        yield from _copies(copy, common)


def _act(state: _State, action: Action) -> Table | None:
    """Carry out one action. Returns the table to go on in, if it leads to one."""
    match action:
        case Goto(table):
            return table
        case Resubmit(table):
            state.deeper()
            return table
        case Track(_, onward):
            state.packet, state.conntrack = state.conntrack.track(action, state.packet)
            return onward
        case Output(port):
            # A packet does not leave by the port it came in by (OpenFlow 1.4, 5.8), and nothing says so.
            if port != state.in_port:
                state.output(port)
        case OutputTo(register):
            if (port := state.packet.get(register) or 0) not in (0, state.in_port):
                state.output(port)
        case OutputBack():
            state.output(state.in_port)
        case Learn() | LearnPort():
            state.learned.append(_learned(action, state.packet, state.in_port))
        case Ask():
            state.asked.append(state.packet)
        case AnyPort():
            state.in_port = 0
        case Metered():
            pass  # on paper nobody is in a hurry
        case _:
            state.packet = _rewritten(state.packet, action)
    return None


def _rewritten(packet: Packet, action: Action) -> Packet:
    match action:
        case PushVlan():
            return packet.pushed()
        case PopVlan():
            return packet.popped()
        case SetField(criterion):
            return packet.set(criterion)
        case Move(source, target):
            value = packet.get(source)
            return packet if value is None else packet.with_(**{target.name: value})
        case DecTtl():
            return packet.with_(**{f.IP_TTL.name: (packet.get(f.IP_TTL) or 1) - 1})
        case CheckLarger(size, target):
            return packet.with_(**{target.name: int(packet.length > size)})
        case _:
            raise TypeError(f"not an action that rewrites: {action!r}")


def _learned(action: Learn | LearnPort, packet: Packet, in_port: int) -> Flow:
    """The flow that the switch adds (see flows.actions); on paper there is room for all of them."""
    mac = f.ETH_DST(packet.get(f.ETH_SRC) or 0)
    shown, match = f.ETH_DST.show(mac.value), when(tagged(packet.vlan or 0), mac)
    if isinstance(action, LearnPort):
        return flow(action.into, action.rank, match, SetField(f.REG_OUT_PORT(in_port)),
                    origin="learned", why=f"{shown} came by port {in_port} last")
    return flow(action.into, action.rank, match, PopVlan(), SetField(f.TUN_ID(packet.tunnel_id)), Output(in_port),
                origin="learned", why=f"{shown} was last seen behind this tunnel")
