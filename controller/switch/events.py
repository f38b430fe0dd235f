"""What a switch says and what is said to it: the words between `fleet`, which decides, and `app`, which talks."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.switch.diff import Plan
from flows.conversations import Ended
from flows.fields import Criterion
from flows.flow import Flow
from flows.tables import Table


@dataclass(frozen=True)
class NextHop:
    """A learned neighbour of a simulated router, as its row in br-int says it."""

    leg: int  # number of the leg
    address: int
    mac: str
    source: str  # the leg's MAC


@dataclass(frozen=True)
class Asked:
    """A packet that the tables of a simulated router could not handle: untagged, and what its registers say.

    Router 0: gratuitous ARP, tagged, which all routers with a leg in that VLAN overhear.
    """

    router: int  # number of the router
    leg: int  # number of the leg that it came in by
    translated: int  # how it was translated on its way in
    data: bytes


@dataclass(frozen=True)
class Removed:
    """A switch has dropped the row of a learned neighbour."""

    leg: int  # number of the leg
    address: int
    idle: bool  # because nobody used it; else because it was told to


@dataclass(frozen=True)
class Installed:
    """One row of a dump: enough to reconcile, and what is kept nowhere but in the switch.

    A row that gives frames a local VLAN says which, and what it knows them by: their tunnel id, or the port that they
    come in by and the VLAN that they wear there (None: no tag). The row of a neighbour that was learned says all.
    `zone`: of connection tracking, where a row puts packets into one.
    """

    cookie: int
    table: int
    tunnel_id: int | None = None
    vlan: int | None = None
    in_port: int | None = None
    segment: int | None = None
    neighbour: NextHop | None = None
    zone: int | None = None


@dataclass(frozen=True)
class Row:
    """A row of a dump for people: the text is as near to ovs-ofctl's as os-ken's decoding allows."""

    cookie: int
    table: int
    priority: int
    match: str
    actions: str
    packets: int
    bytes: int
    seconds: int  # since it was added
    mac: str = ""  # dl_dst, of a learned row
    vlan: int = 0  # of a learned row
    out_port: int = 0  # where a learned row leads


@dataclass(frozen=True)
class Counted:
    """What a row has seen since it was added."""

    packets: int
    bytes: int


@dataclass(frozen=True)
class ReadFlows:
    """Ask the switch `conn` for all its flows, and for its meters if it has any of ours."""

    conn: Any
    meters: bool = False


@dataclass(frozen=True)
class Write:
    """Send the plan in one atomic bundle."""

    conn: Any
    plan: Plan


@dataclass(frozen=True)
class Drop:
    """Close a connection that another has replaced."""

    conn: Any


@dataclass(frozen=True)
class Log:
    """One line for the log: `event key=value ...`."""

    level: str  # debug | info | warning | error
    event: str
    about: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class PacketOut:
    """Let a packet run through the switch's tables from this one on, with these values in its registers."""

    conn: Any
    data: bytes
    registers: tuple[Criterion, ...]
    table: Table


@dataclass(frozen=True)
class Learn:
    """Add the row of a learned neighbour: not in a bundle, gone when nobody has used it for a while."""

    conn: Any
    flow: Flow


@dataclass(frozen=True)
class Unlearn:
    """Delete the row of a learned neighbour that has this flow's match."""

    conn: Any
    flow: Flow


@dataclass(frozen=True)
class End:
    """Let connection tracking forget conversations. A switch that does not know how keeps them."""

    conn: Any
    ended: Ended


Command = ReadFlows | Write | Drop | Log | PacketOut | Learn | Unlearn | End
