"""Walk a packet through one bridge's tables as Open vSwitch would, on paper.

What the switch would learn comes back as flows, for the next walk; nothing is kept here.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from flows import fields as f
from flows.fields import tagged
from flows.flow import (
    Action,
    AnyPort,
    Ask,
    CheckLarger,
    DecTtl,
    Flow,
    Goto,
    Learn,
    Match,
    Metered,
    Move,
    Output,
    OutputBack,
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

_UNSET: Final = frozenset({f.CT_STATE, f.TUN_ID, *f.REGISTERS})  # a packet without these has 0 there
_DEPTH: Final = 64  # as often Open vSwitch lets a packet go back (ofproto-dpif-xlate.c, MAX_DEPTH); then it drops it


@dataclass(frozen=True)
class Step:
    """One table's word. `flow` is None if nothing matched, which drops the packet."""

    table: Table
    flow: Flow | None
    before: Packet
    after: Packet


@dataclass(frozen=True)
class Walk:
    """A packet's way through a bridge: the tables it saw, what left by which port in order, what was learned.

    `asked` is what the controller got, with the registers it had then; `conntrack` is what connection tracking knows
    after the walk.
    """

    steps: tuple[Step, ...]
    outputs: tuple[tuple[int, Packet], ...]  # (OpenFlow port, the copy that left by it)
    learned: tuple[Flow, ...]
    asked: tuple[Packet, ...] = ()
    conntrack: Conntrack = field(default_factory=Conntrack)

    @property
    def last(self) -> Step:
        """Where it was decided."""
        return self.steps[-1]


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
        return next((row for row in self._tables.get(table, ()) if matches(row.match, packet, in_port)), None)

    def walk(self, packet: Packet, in_port: int, conntrack: Conntrack | None = None,
             entry: Table | None = None) -> Walk:
        """From the first table (or from `entry`, for what the controller sends) until no flow leads on.

        Without `conntrack`, no connection is known and every packet is a new one's.
        """
        state = _State(packet, in_port, conntrack or Conntrack())
        steps: list[Step] = []
        table: Table | None = entry or self.entry
        while table is not None:
            before, row = state.packet, self.hit(table, state.packet, state.in_port)
            onward: Table | None = None
            for action in row.actions if row else ():
                onward = _act(state, action)
            steps.append(Step(table, row, before, state.packet))
            table = onward
            if state.depth > _DEPTH:
                return Walk(tuple(steps), (), (), (), state.conntrack)
        return Walk(tuple(steps), tuple(state.outputs), tuple(state.learned), tuple(state.asked), state.conntrack)


def evaluate(flows: Iterable[Flow], packet: Packet, in_port: int, learned: Iterable[Flow] = (),
             conntrack: Conntrack | None = None) -> Walk:
    """Walk a packet through the flows of one bridge (and what it has learned and tracked before)."""
    rows = tuple(flows)
    if not rows:
        raise ValueError("a bridge without flows has no table to start in")
    return Pipeline(rows[0].table.bridge, rows).with_(learned).walk(packet, in_port, conntrack)


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


@dataclass
class _State:
    packet: Packet
    in_port: int
    conntrack: Conntrack
    outputs: list[tuple[int, Packet]] = field(default_factory=list)
    learned: list[Flow] = field(default_factory=list)
    asked: list[Packet] = field(default_factory=list)
    depth: int = 0  # how often it has gone back to an earlier table


def _act(state: _State, action: Action) -> Table | None:
    """Carry out one action. Returns the table to go on in, if it leads to one."""
    match action:
        case Goto(table):
            return table
        case Resubmit(table):
            state.depth += 1
            return table
        case Track(_, table):
            state.packet, state.conntrack = state.conntrack.track(action, state.packet)
            return table
        case Output(port):
            # A packet does not leave by the port it came in by (OpenFlow 1.4, 5.8), and nothing says so.
            if port != state.in_port:
                state.outputs.append((port, state.packet.emitted()))
        case OutputBack():
            state.outputs.append((state.in_port, state.packet.emitted()))
        case Learn():
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


def _learned(action: Learn, packet: Packet, in_port: int) -> Flow:
    """The flow that the switch adds (see flows.flow.Learn)."""
    mac = f.ETH_DST(packet.get(f.ETH_SRC) or 0)
    return flow(action.into, action.rank, when(tagged(packet.vlan or 0), mac),
                PopVlan(), SetField(f.TUN_ID(packet.tunnel_id)), Output(in_port),
                origin="learned", why=f"{f.ETH_DST.show(mac.value)} was last seen behind this tunnel")
