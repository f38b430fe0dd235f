"""What a switch says and what is said to it: the words between `fleet`, which decides, and `app`, which talks."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.switch.diff import Plan


@dataclass(frozen=True)
class Installed:
    """One row of a dump: enough to reconcile, and the local VLAN if the row maps a tunnel id to one."""

    cookie: int
    table: int
    tunnel_id: int | None = None
    vlan: int | None = None


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
class ReadFlows:
    """Ask the switch `conn` for all its flows."""

    conn: Any


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


Command = ReadFlows | Write | Drop | Log
