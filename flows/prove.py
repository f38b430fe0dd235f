"""Walk all packets at once through one bridge, as `evaluate` walks one: every way that some packet takes.

A way ends where the packet leaves the bridge, is dropped, goes to the controller, or comes to a table that others
come to as well (`Junction`): from there on the ways are the same for all, and found once.
"""
from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from flows import fields as f
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
    Move,
    Output,
    OutputBack,
    OutputTo,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    Track,
)
from flows.headerspace import Region
from flows.headerspace_live import Live
from flows.headerspace_rows import INSIDE, Now, Tables
from flows.prove_tracking import tracks
from flows.tables import FLOOD, TUNNEL_TO_VLAN, Table

VLAN: Final = f.VLAN_VID.name
INNER: Final = "inner_vlan"  # the tag below the outermost, as VLAN_VID; only where there is an outermost
LARGE: Final = "larger"  # whether the frame is longer than what a router asks
ANY_TTL: Final = "ttl behind a router"  # any: so a way round through routers, which a TTL ends, is known to be one
_DEPTH: Final = 40  # tables in a row

HUBS: Final = frozenset({FLOOD, *TUNNEL_TO_VLAN.values()})  # where many ports' packets may come to be alike

Items = tuple[tuple[str, Now], ...]  # what fields hold, sorted by name


class Place(NamedTuple):
    """Where packets are, and what is known of all of them; equal places lead on equally."""

    host: str
    bridge: str
    table: Table | None  # None: the first one
    in_port: int
    tags: tuple[Now, ...]  # below the outermost, the outer ones first
    items: Items


class Hit(NamedTuple):
    """A row that took packets, where. `row` is None where no row did."""

    host: str
    table: Table
    row: Flow | None


class Sent(NamedTuple):
    """Out of a port, as the frame is then."""

    port: int
    tags: tuple[Now, ...]
    items: Items


class Dropped(NamedTuple):
    """Nothing became of it."""

    why: str


class Asked(NamedTuple):
    """The controller has it."""


class Taught(NamedTuple):
    """A row that a host's switch adds: for this VLAN, what comes for the sender goes back by where it came from."""

    host: str
    action: Learn | LearnPort
    items: Items


End = Sent | Dropped | Asked | Taught | Place


class Way(NamedTuple):
    """Packets that fare alike: which they are (of those that came in), the rows they hit, and what became of them."""

    space: Region
    hits: tuple[Hit, ...]
    end: End


@dataclass(frozen=True)
class _At:
    """Packets on their way."""

    space: Region
    now: dict[str, Now]
    tags: tuple[Now, ...]
    in_port: int
    hits: tuple[Hit, ...] = ()
    depth: int = 0

    def with_(self, **values: Now) -> _At:
        return replace(self, now={**self.now, **values})

    def holding(self, name: str) -> Now:
        """What a field holds."""
        return self.now.get(name, 0 if name in INSIDE else name)


@dataclass(frozen=True)
class Bridge:
    """One bridge of one host. `junctions`: tables where ways end."""

    host: str
    name: str
    entry: Table
    tables: Tables
    live: Live
    junctions: Collection[Table] = field(default=())

    def ways(self, place: Place, space: Region) -> Iterator[Way]:
        """Every way from a place on."""
        at = _At(space, dict(place.items), place.tags, place.in_port)
        yield from self._look(at, place.table or self.entry)

    def _look(self, at: _At, table: Table) -> Iterator[Way]:
        if at.depth > _DEPTH:
            yield Way(at.space, at.hits, Dropped("it passes more tables than a switch follows"))
            return
        for candidate, space in self.tables.split(table, at.space, {**at.now, f.IN_PORT.name: at.in_port}):
            hits = (*at.hits, Hit(self.host, table, candidate.row if candidate else None))
            then = replace(at, space=space, hits=hits, depth=at.depth + 1)
            if candidate is None:
                yield Way(space, hits, Dropped("no flow matches"))
            else:
                yield from self._obey(then, candidate.row.actions)

    def _obey(self, at: _At, actions: tuple[Action, ...]) -> Iterator[Way]:
        """Carry out the actions of a row; what does nothing at all with a packet drops it."""
        idle = True
        for place, action in enumerate(actions):
            match action:
                case Goto(table) | Resubmit(table):
                    yield from self._onward(at, table)
                    return
                case LookUp(table):
                    for noted in self._noted(at, table):
                        yield from self._obey(noted, actions[place + 1:])
                    return
                case Clone(inner):
                    yield from self._obey(at, inner)
                    idle = False
                case Track(_, table):
                    for space, now in tracks(self.host, at.space, at.now, action, self._read(action)):
                        tracked = replace(at, space=space, now=now)
                        if table is None:
                            yield from self._obey(tracked, actions[place + 1:])
                        else:
                            yield from self._onward(tracked, table)
                    return
                case Output() | OutputBack() | OutputTo():
                    port = _port(at, action)
                    if port is not None:
                        yield Way(at.space, at.hits, _sent(at, port))
                        idle = False
                case Learn() | LearnPort():
                    yield Way(at.space, at.hits, Taught(self.host, action, _items(at)))
                case Ask():
                    yield Way(at.space, at.hits, Asked())
                    idle = False
                case AnyPort():
                    at = replace(at, in_port=0)
                case CheckLarger(_, target):
                    at = at.with_(**{target.name: LARGE})
                case _:
                    at = _rewritten(at, action)
        if idle:
            yield Way(at.space, at.hits, Dropped("the flow drops it"))

    def _read(self, action: Track) -> frozenset[str]:
        return self.live.at(action.table) if action.table is not None else frozenset()

    def _onward(self, at: _At, table: Table) -> Iterator[Way]:
        if table in self.junctions:
            read = self.live.at(table)
            items = tuple([(name, value) for name, value in _items(at) if name not in _NOTES or name in read])
            in_port = 0 if table in HUBS and self.live.blind(table, at.in_port) else at.in_port
            yield Way(at.space, at.hits, Place(self.host, self.name, table, in_port, at.tags, items))
        else:
            yield from self._look(at, table)

    def _noted(self, at: _At, table: Table) -> Iterator[_At]:
        """What a table that leads nowhere notes down."""
        for candidate, space in self.tables.split(table, at.space, {**at.now, f.IN_PORT.name: at.in_port}):
            row = candidate.row if candidate else None
            then = replace(at, space=space, hits=(*at.hits, Hit(self.host, table, row)))
            for action in row.actions if row else ():
                then = _rewritten(then, action)
            yield then


def _port(at: _At, action: Output | OutputBack | OutputTo) -> int | None:
    """The port that it leaves by; None if it does not."""
    if isinstance(action, OutputBack):
        return at.in_port
    port = action.port if isinstance(action, Output) else at.holding(action.register.name)
    return port if isinstance(port, int) and port and port != at.in_port else None


def _items(at: _At) -> Items:
    return tuple(sorted((name, value) for name, value in at.now.items()
                        if value != (0 if name in INSIDE else name)))


def _sent(at: _At, port: int) -> Sent:
    kept = {name: value for name, value in at.now.items() if name not in _NOTES}
    return Sent(port, at.tags, _items(replace(at, now=kept)))


_NOTES: Final = INSIDE - {f.TUN_ID.name}


def _rewritten(at: _At, action: Action) -> _At:
    match action:
        case PushVlan():
            outer = at.holding(VLAN)
            if outer == f.NO_VLAN:
                return at.with_(**{VLAN: f.VLAN_PRESENT})
            untagged = isinstance(outer, str) and at.space.cube.get(outer) == (f.NO_VLAN, f.VLAN_VID.full)
            if untagged:
                return at.with_(**{VLAN: f.VLAN_PRESENT})
            return replace(at, tags=(outer, *at.tags))
        case PopVlan():
            if at.tags:
                return replace(at.with_(**{VLAN: at.tags[0]}), tags=at.tags[1:])
            return at.with_(**{VLAN: INNER if at.holding(VLAN) == VLAN else f.NO_VLAN})
        case SetField(criterion):
            return at.with_(**{criterion.field.name: criterion.value})
        case Move(source, target):
            return at.with_(**{target.name: at.holding(source.name)})
        case DecTtl():
            return at.with_(**{f.IP_TTL.name: ANY_TTL})
        case _:
            return at  # a meter: on paper nobody is in a hurry
