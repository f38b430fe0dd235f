"""Walk a packet through one bridge's tables as Open vSwitch would, on paper.

What the switch would learn comes back as flows, for the next walk; nothing is kept here.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from flows import fields as f
from flows.fields import tagged
from flows.flow import (
    Action,
    AnyPort,
    Ask,
    CheckLarger,
    Clone,
    DecTtl,
    Flow,
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
    flow,
    when,
)
from flows.lookup import Rows
from flows.packet import Packet
from flows.sheet import Part
from flows.tables import Table, pipeline
from flows.tracking import Conntrack
from flows.walks import Step, Walk, Way

__all__ = ("Pipeline", "Step", "Walk", "Way", "evaluate")

_TRACKED: Final = 6  # as often Open vSwitch's own datapath does so (lib/dpif-netdev.c, MAX_RECIRC_DEPTH); then, too
_DEPTH: Final = 64  # as often Open vSwitch lets a packet go back (ofproto-dpif-xlate.c, MAX_DEPTH); then it drops it


class Pipeline:
    """A bridge's flows, sorted once for many walks."""

    def __init__(self, bridge: str, flows: Iterable[Part]) -> None:
        self.entry = pipeline(bridge)[0]
        self._rows = Rows(flows)

    def with_(self, learned: Iterable[Flow]) -> Pipeline:
        """The same bridge after it has learned; a flow replaces the one with its priority and match."""
        new = Pipeline(self.entry.bridge, ())
        new._rows = self._rows.with_(learned)
        return new

    def hit(self, table: Table, packet: Packet, in_port: int) -> Flow | None:
        """The flow of a table that takes a packet: the first in order of priority."""
        return self._rows.look(table, packet, in_port)[0]

    def walk(self, packet: Packet, in_port: int, conntrack: Conntrack | None = None,
             entry: Table | None = None) -> Walk:
        """From the first table (or from `entry`, for what the controller sends) until no flow leads on.

        Without `conntrack`, no connection is known and every packet is a new one's. What the packet teaches a table
        holds for itself, too, once connection tracking has led it on: a translation sees the tables as they were when
        it began (ofproto-dpif-xlate.c, tables_version), and that is where another one begins.
        """
        state = _State(packet, in_port, conntrack or Conntrack(), self._rows)
        try:
            self._run(state, entry or self.entry)
        except _TooDeep:
            return Walk(tuple(state.steps), (), (), (), state.conntrack)
        return Walk(tuple(state.steps), tuple(state.outputs), tuple(state.learned), tuple(state.asked),
                    state.conntrack, tuple(state.own), tuple(_copies(state)))

    def _run(self, state: _State, table: Table | None) -> None:
        while table is not None:
            row, clauses = state.rows.look(table, state.packet, state.in_port)
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
                    copy = replace(state, steps=[], outputs=[], own=[], learned=[], asked=[], copies=[])
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


class _TooDeep(Exception):
    """It was led back to tables more often than Open vSwitch lets it."""


@dataclass
class _State:
    packet: Packet
    in_port: int
    conntrack: Conntrack
    rows: Rows
    steps: list[Step] = field(default_factory=list)
    outputs: list[tuple[int, Packet]] = field(default_factory=list)
    own: list[tuple[int, Packet]] = field(default_factory=list)
    learned: list[Flow] = field(default_factory=list)
    asked: list[Packet] = field(default_factory=list)
    copies: list[tuple[int, _State]] = field(default_factory=list)  # (place of the step that made it, the copy)
    depth: int = 0  # how often it has gone back to an earlier table
    tracked: int = 0  # how often connection tracking has led it on
    fresh: tuple[Flow, ...] = ()  # what it has learned since, or since it came in

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEPTH:
            raise _TooDeep

    def output(self, port: int) -> None:
        self.own.append((port, self.packet.emitted()))
        self.outputs.append(self.own[-1])

    def learn(self, row: Flow) -> None:
        self.learned.append(row)
        self.fresh = (*self.fresh, row)

    def recirculate(self) -> None:
        self.tracked += 1
        if self.fresh:
            self.rows, self.fresh = self.rows.with_(self.fresh), ()

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
            if onward is not None:
                state.recirculate()
            return onward if state.tracked <= _TRACKED else None
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
            state.learn(_learned(action, state.packet, state.in_port))
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
