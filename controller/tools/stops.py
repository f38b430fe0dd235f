"""Where a frame has been and where it ends: a bridge, a router, a tap that refuses it. Values, made by `simulate`."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from controller.model import names
from controller.model.topology import DhcpPort, Port
from controller.tools.crossing import DAEMON, Passage
from flows.evaluate import Step, Walk
from flows.flow import Ask
from flows.packet import Packet


@dataclass(frozen=True)
class Visit:
    """A frame's way through one bridge of one host."""

    host: str
    bridge: str
    device: str  # the port it came in by
    walk: Walk
    before: Stop | None  # where it came from
    by: int | None = None  # the OpenFlow port by which it left that, if that is a Visit

    @property
    def packet(self) -> Packet:
        """As it came in."""
        return self.walk.steps[0].before

    @cached_property
    def way(self) -> tuple[Stop, ...]:
        """All stops from the sender to here."""
        return (*(self.before.way if self.before else ()), self)

    def steps_to(self, by: int | None) -> tuple[Step, ...]:
        """The tables that led out of a port; without one, to where the controller is asked, or where it ended."""
        if by is not None:
            return self.walk.way_to(by)
        asks = (way.steps for way in self.walk.ways
                if way.last.flow and any(isinstance(one, Ask) for one in way.last.flow.actions))
        return next(asks, self.walk.steps if self.walk.own or not self.walk.copies else self.walk.copies[-1].steps)


@dataclass(frozen=True)
class Crossing:
    """A frame in a router."""

    host: str
    passage: Passage
    packet: Packet  # as it came in
    before: Stop | None
    by: int | None = None  # see Visit; None for what the controller was asked

    @property
    def is_namespace(self) -> bool:
        """Whether it left the switch for it; else a table of the same switch asked the daemon."""
        return self.passage.place != DAEMON

    @cached_property
    def way(self) -> tuple[Stop, ...]:
        """All stops from the sender to here."""
        return (*(self.before.way if self.before else ()), self)


@dataclass(frozen=True)
class Gate:
    """The tap of a VM whose security groups refuse a frame: nothing comes behind it."""

    port: Port
    outward: bool  # whether the VM sent it
    why: str
    packet: Packet
    before: Stop | None
    by: int | None = None  # see Visit

    @property
    def host(self) -> str:
        """Where it is."""
        return self.port.host

    @property
    def device(self) -> str:
        """Its name."""
        return names.device(names.TAP, self.port.id)

    @cached_property
    def way(self) -> tuple[Stop, ...]:
        """All stops from the sender to here."""
        return (*(self.before.way if self.before else ()), self)


Stop = Visit | Crossing | Gate


@dataclass(frozen=True)
class Ending:
    """Where one copy of a frame ends: at a VM's port, at a DHCP server's, in the world outside, or in the last stop."""

    stop: Stop
    port: Port | None
    packet: Packet
    outside: str | None = None  # the network that it came to outside
    allowed: str = ""  # why the groups of `port` let it in, where they look at it before
    by: int | None = None  # the OpenFlow port by which it left `stop`, if it did
    server: DhcpPort | None = None
