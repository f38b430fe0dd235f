"""What a flow does, in the words of OpenFlow and of ovs-actions(7): actions as values."""
from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from flows.fields import Criterion, Field
from flows.tables import Table


@dataclass(frozen=True, slots=True)
class PushVlan:
    """Add an 802.1Q tag, to be filled by SetField(VLAN_VID)."""


@dataclass(frozen=True, slots=True)
class PopVlan:
    """Remove the tag. Only where the match says that there is one: Open vSwitch refuses it elsewhere."""


@dataclass(frozen=True, slots=True)
class SetField:
    """Write a whole field."""

    criterion: Criterion


@dataclass(frozen=True, slots=True)
class Move:
    """Copy one field of the packet to another of the same width."""

    source: Field
    target: Field


@dataclass(frozen=True, slots=True)
class Output:
    """Send a copy out of a port. A packet never leaves by the port it came in by, unless by OutputBack."""

    port: int


@dataclass(frozen=True, slots=True)
class OutputBack:
    """Send a copy out of the port it came in by (IN_PORT)."""


@dataclass(frozen=True, slots=True)
class Learn:
    """Add a flow made from this packet (ovs-actions(7), learn): what comes later for its source MAC goes back this way.

    The learned flow matches the packet's VLAN and, as destination, its source MAC; it removes the tag, sets the
    packet's tunnel id and outputs to the packet's ingress port. It expires `hard_timeout` seconds after the last
    packet that taught it.
    """

    into: Table
    rank: str
    hard_timeout: int
    cookie: int


@dataclass(frozen=True, slots=True)
class Goto:
    """Continue in another table of the bridge."""

    table: Table


# ---- what the routed hop adds

@dataclass(frozen=True, slots=True)
class DecTtl:
    """Subtract one from the TTL. Only where a flow above has taken out packets with a TTL of 0 and 1."""


@dataclass(frozen=True, slots=True)
class AnyPort:
    """Forget the port it came in by (in_port becomes 0), so that it may leave by that port, too."""


@dataclass(frozen=True, slots=True)
class CheckLarger:
    """Write 1 into the lowest bit of a register if the frame is longer than so many bytes, else 0."""

    bytes: int  # with the 14 of an untagged Ethernet header
    target: Field


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Look the packet up in an earlier table (ovs-actions(7), resubmit): it goes from one router of a host to another.

    It is the last action of its flow.
    """

    table: Table


# ---- what the security groups add

@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask another table what it notes down in registers, then go on here (ovs-actions(7), resubmit).

    That table leads nowhere itself.
    """

    table: Table


@dataclass(frozen=True, slots=True)
class Clone:
    """Do this with a copy of the packet and of all registers; its last action leads on (ovs-actions(7), clone).

    `Resubmit` is the one way onward inside of it, and there it may lead to any table.
    """

    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class OutputTo:
    """Send a copy out of the port that a register names."""

    register: Field


@dataclass(frozen=True, slots=True)
class LearnPort:
    """Add a flow made from this packet: whom its source MAC belongs to is behind the port it came in by.

    The learned flow matches the packet's VLAN and, as destination, its source MAC; it writes the ingress port into
    REG_OUT_PORT. `limit`: no more flows than that with this cookie (ovs-actions(7), learn); others wait until one of
    them has expired.
    """

    into: Table
    rank: str
    hard_timeout: int
    cookie: int
    limit: int


@dataclass(frozen=True, slots=True)
class Conjunction:
    """This flow is one of those of clause `clause` (1 to `of`) of a conjunctive match (ovs-fields(7), conj_id).

    A packet that matches one flow of each clause is looked up once more, with CONJ_ID. Such a flow does nothing else,
    and no switch counts what it matches.
    """

    id: int
    clause: int
    of: int


# ---- and again the routed hop

@dataclass(frozen=True, slots=True)
class Ask:
    """Send the whole packet to the controller (a packet-in, reason "action")."""


@dataclass(frozen=True, slots=True)
class Metered:
    """Go on only as often as a meter allows (OpenFlow 1.4, 5.7); the first action of its flow."""

    meter: int


@dataclass(frozen=True, slots=True)
class Translation:
    """What a new connection shall look like: `nat(src=address)` or `nat(dst=address)`."""

    end: str  # src | dst
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class Track:
    """Look the packet up in a zone of connection tracking and go on in another table (ovs-actions(7), ct).

    `nat`: translate it as its connection is translated. `commit`: remember a new connection; with a `translation`
    (which needs `commit`) it is translated that way from now on. With a table, it is the last action of its flow.
    Without one, which only a `commit` can do, the flow goes on, and nothing is known of the connection any more:
    CT_STATE and the CT_ fields are as in an untracked packet. Open vSwitch's own datapath drops what is led to a table
    by connection tracking more than 6 times; without a table, it does not count (lib/dpif-netdev.c, MAX_RECIRC_DEPTH).
    """

    zone: int | Field  # a register holds it in its lower 16 bits
    table: Table | None
    nat: bool = False
    commit: bool = False
    translation: Translation | None = None


Action = PushVlan | PopVlan | SetField | Move | Output | OutputBack | Learn | Goto \
    | DecTtl | AnyPort | CheckLarger | Resubmit | Ask | Metered | Track \
    | LookUp | Clone | OutputTo | LearnPort | Conjunction
