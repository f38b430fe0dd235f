"""What a switch says and what is said to it: the words between `fleet`, which decides, and `app`, which talks."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from controller.switch.diff import Plan
from controller.switch.monitor import Monitor
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


class Installed(NamedTuple):
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
    priority: int = 0


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
    """Send a plan: each of its parts is one atomic bundle, none is committed before the one in front of it."""

    conn: Any
    plan: Plan
    parts: tuple[Plan, ...]


@dataclass(frozen=True)
class Claim:
    """Ask for the master's role with a generation id; the highest wins. None: only ask which role we have."""

    conn: Any
    generation: int | None


@dataclass(frozen=True)
class Quit:
    """Say nothing more of what is under way: another daemon is master there."""

    conn: Any


@dataclass(frozen=True)
class Mastery:
    """What a switch says of our role there.

    `generation`: of the last claim that it granted to anybody, None if it does not say. `stale`: our claim was
    refused, because another daemon has made one with a higher generation id.
    """

    master: bool
    generation: int | None = None
    stale: bool = False


@dataclass(frozen=True)
class Drop:
    """Close a connection: another has replaced it, or the switch does not answer."""

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


@dataclass(frozen=True)
class Watch:
    """Ask for these flow monitors. A switch may not know any."""

    conn: Any
    monitors: tuple[Monitor, ...]


@dataclass(frozen=True)
class Count:
    """Ask how many flows have this cookie, where the mask has bits."""

    conn: Any
    cookie: int
    mask: int


@dataclass(frozen=True)
class Inspect:
    """Ask for the rows with this cookie, where the mask has bits, and for all that they match and do."""

    conn: Any
    cookie: int
    mask: int
    writes: int  # that the switch had got by then


@dataclass(frozen=True)
class Settled:
    """Say that the switch has all it is to have for now, or all it takes: whoever carries our words may wait for it."""

    conn: Any


Command = (ReadFlows | Watch | Count | Inspect | Write | Settled | Claim | Quit | Drop | Log
           | PacketOut | Learn | Unlearn | End)
