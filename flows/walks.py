"""What has become of a packet in a bridge, as values: step by step, way by way."""
from __future__ import annotations

from dataclasses import dataclass, field

from flows.flow import Flow
from flows.packet import Packet
from flows.tables import Table
from flows.tracking import Conntrack


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
