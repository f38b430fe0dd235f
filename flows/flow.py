"""A flow is a value: a table, a rank in it, a match, actions, and why it is there. Building one never sends it."""
from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import pairwise
from typing import Final

from flows.fields import ETH_TYPE, IPV4, IPV6, NEEDS, ORDER, REGISTERS, VLAN_VID, Criterion, Field
from flows.tables import Table, pipeline


class Undeclared(ValueError):
    """A flow asks of a table what the table did not declare."""


@dataclass(frozen=True)
class Match:
    """Conditions that must all hold, in the order of `fields.FIELDS`; none at all matches every packet."""

    criteria: tuple[Criterion, ...]

    def __getitem__(self, wanted: Field) -> Criterion | None:
        return next((criterion for criterion in self.criteria if criterion.field == wanted), None)

    def covers(self, other: Match) -> bool:
        """Whether every packet that `other` matches is matched here, too."""
        return all((theirs := other[mine.field]) is not None and mine.covers(theirs) for mine in self.criteria)

    def meets(self, other: Match) -> bool:
        """Whether some packet could match both."""
        return all((theirs := other[mine.field]) is None or mine.meets(theirs) for mine in self.criteria)


ANY = Match(())


def when(*criteria: Criterion) -> Match:
    """A match from conditions in any order; a field may be named once, together with what it needs (NEEDS)."""
    # A mask of no bits (0.0.0.0/0) is no condition; a switch would not keep it.
    ordered = tuple(sorted((one for one in criteria if one.mask), key=lambda one: ORDER[one.field.name]))
    for first, second in pairwise(ordered):
        if first.field == second.field:
            raise ValueError(f"{first.field.name} is matched twice")
    for criterion in ordered:
        if missing := [need for need in NEEDS.get(criterion.field, ()) if need not in ordered]:
            raise ValueError(f"{criterion.field.name} can only be matched together with {missing[0].field.name}")
    return Match(ordered)


# ---- actions, in the words of OpenFlow and of ovs-actions(7)

@dataclass(frozen=True)
class PushVlan:
    """Add an 802.1Q tag, to be filled by SetField(VLAN_VID)."""


@dataclass(frozen=True)
class PopVlan:
    """Remove the tag. Only where the match says that there is one: Open vSwitch refuses it elsewhere."""


@dataclass(frozen=True)
class SetField:
    """Write a whole field."""

    criterion: Criterion


@dataclass(frozen=True)
class Move:
    """Copy one field of the packet to another of the same width."""

    source: Field
    target: Field


@dataclass(frozen=True)
class Output:
    """Send a copy out of a port. A packet never leaves by the port it came in by, unless by OutputBack."""

    port: int


@dataclass(frozen=True)
class OutputBack:
    """Send a copy out of the port it came in by (IN_PORT)."""


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Goto:
    """Continue in another table of the bridge."""

    table: Table


# ---- what the routed hop adds

@dataclass(frozen=True)
class DecTtl:
    """Subtract one from the TTL. Only where a flow above has taken out packets with a TTL of 0 and 1."""


@dataclass(frozen=True)
class AnyPort:
    """Forget the port it came in by (in_port becomes 0), so that it may leave by that port, too."""


@dataclass(frozen=True)
class CheckLarger:
    """Write 1 into the lowest bit of a register if the frame is longer than so many bytes, else 0."""

    bytes: int  # with the 14 of an untagged Ethernet header
    target: Field


@dataclass(frozen=True)
class Resubmit:
    """Look the packet up in an earlier table (ovs-actions(7), resubmit): it goes from one router of a host to another.

    It is the last action of its flow.
    """

    table: Table


# ---- what the security groups add

@dataclass(frozen=True)
class LookUp:
    """Ask another table what it notes down in registers, then go on here (ovs-actions(7), resubmit)."""

    table: Table


@dataclass(frozen=True)
class Clone:
    """Do this with a copy of the packet and of all registers; its last action leads on (ovs-actions(7), clone).

    `Resubmit` is the one way onward inside of it, and there it may lead to any table.
    """

    actions: tuple[Action, ...]


@dataclass(frozen=True)
class OutputTo:
    """Send a copy out of the port that a register names."""

    register: Field


@dataclass(frozen=True)
class LearnPort:
    """Add a flow made from this packet: whom its source MAC belongs to is behind the port it came in by.

    The learned flow matches the packet's VLAN and, as destination, its source MAC; it writes the ingress port into
    REG_OUT_PORT. `limit`: no more flows than that with this cookie (ovs-actions(7), learn).
    """

    into: Table
    rank: str
    hard_timeout: int
    cookie: int
    limit: int


@dataclass(frozen=True)
class Conjunction:
    """This flow is clause `clause` of the `of` clauses of a conjunctive match (ovs-fields(7), conj_id)."""

    id: int
    clause: int
    of: int


# ---- and again the routed hop

@dataclass(frozen=True)
class Ask:
    """Send the whole packet to the controller (a packet-in, reason "action")."""


@dataclass(frozen=True)
class Metered:
    """Go on only as often as a meter allows (OpenFlow 1.4, 5.7); the first action of its flow."""

    meter: int


@dataclass(frozen=True)
class Translation:
    """What a new connection shall look like: `nat(src=address)` or `nat(dst=address)`."""

    end: str  # src | dst
    address: IPv4Address


@dataclass(frozen=True)
class Track:
    """Look the packet up in a zone of connection tracking and go on in another table (ovs-actions(7), ct).

    `nat`: translate it as its connection is translated. `commit`: remember a new connection; with a `translation`
    (which needs `commit`) it is translated that way from now on. It is the last action of its flow.
    """

    zone: int | Field  # a register holds it in its lower 16 bits
    table: Table
    nat: bool = False
    commit: bool = False
    translation: Translation | None = None


_ZONES: Final = 0xFFFF

Action = PushVlan | PopVlan | SetField | Move | Output | OutputBack | Learn | Goto \
    | DecTtl | AnyPort | CheckLarger | Resubmit | Ask | Metered | Track \
    | LookUp | Clone | OutputTo | LearnPort | Conjunction


@dataclass(frozen=True)
class Flow:
    """One row of a flow table. No actions means drop. `origin` and `why` do not count in equality."""

    table: Table
    priority: int
    match: Match
    actions: tuple[Action, ...]
    origin: str = field(compare=False)  # path of the causing object in the topology, or `pipeline`
    why: str = field(compare=False)  # a clause for a person


def flow(table: Table, rank: str, match: Match, *actions: Action, origin: str, why: str) -> Flow:
    """A flow of a table. Undeclared if the table knows no such rank, field or way."""
    if rank not in table.ranks:
        raise Undeclared(f"{table.name} has no rank {rank!r}, only {', '.join(table.ranks)}")
    for criterion in match.criteria:
        if criterion.field not in table.matches:
            raise Undeclared(f"{table.name} does not match {criterion.field.name}")
    for place, action in enumerate(actions):
        _check(table, match, action, place=place, last=place == len(actions) - 1)
    return Flow(table, table.ranks[rank], match, actions, origin, why)


def _check(table: Table, match: Match, action: Action, *, place: int, last: bool) -> None:
    match action:
        case Goto(onward):
            _leads(table, onward)
            if onward.id <= table.id:
                raise Undeclared("goto leads onward only")  # OpenFlow 1.4, 5.1
            if not last:
                raise Undeclared("goto is the last thing a flow does")
        case Track(_, onward):
            _leads(table, onward)
            if not last:
                # What follows would see the packet as it was before connection tracking (ovs-actions(7), ct).
                raise Undeclared("connection tracking is the last thing a flow does: the rest is for the next table")
            _tracks(action)
        case Resubmit(onward):
            _leads(table, onward)
            if not last:
                raise Undeclared("resubmit is the last thing a flow does")
        case Learn(into) if into not in pipeline(table.bridge):
            raise Undeclared(f"{table.name} cannot teach a table of another bridge")
        case Metered() if place:
            raise Undeclared("a meter is the first thing a flow asks")
        case CheckLarger(_, target) if target not in REGISTERS:
            raise Undeclared(f"{target.name} is no register")
    _prerequisites(match, action)


def _leads(table: Table, onward: Table) -> None:
    if onward not in pipeline(table.bridge) or onward.name not in table.goes_to:
        raise Undeclared(f"{table.name} does not lead to {onward.name}")


def _tracks(action: Track) -> None:
    if isinstance(action.zone, int) and not 0 < action.zone <= _ZONES:
        raise Undeclared(f"{action.zone} is no zone of connection tracking")
    if action.translation and not action.commit:
        raise Undeclared("only a connection that is remembered can be given another address")
    if action.commit and action.nat:
        raise Undeclared("a new connection is not translated as it was before")


def _prerequisites(match: Match, action: Action) -> None:
    """What the match must say for a switch to take this action."""
    eth_type = match[ETH_TYPE]
    match action:
        case PopVlan():
            vlan = match[VLAN_VID]
            if not vlan or not vlan.value:
                raise Undeclared("a flow that removes a tag must match one")
        case DecTtl() | Track() if eth_type not in (ETH_TYPE(IPV4), ETH_TYPE(IPV6)):
            raise Undeclared(f"{type(action).__name__} is only for IP: the flow must match its EtherType")
        case SetField(criterion):
            _has(match, criterion.field)
        case Move(source, target):
            _has(match, source)
            _has(match, target)


def _has(match: Match, field_: Field) -> None:
    if missing := [need for need in NEEDS.get(field_, ()) if need not in match.criteria]:
        raise Undeclared(f"{field_.name} is only there where the flow matches {missing[0].field.name}")
