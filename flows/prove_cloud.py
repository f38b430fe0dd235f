"""All packets at once over a whole cloud: the ways through its bridges, joined by wires and tunnels.

From every place the ways onward are found once and kept, so that the work grows with the tables and the pairs that
reach each other, and not with the paths.
"""
from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from flows import fields as f
from flows.flow import Flow
from flows.headerspace import EVERYTHING, Region, both, united
from flows.headerspace_live import Live
from flows.headerspace_rows import Now, Tables
from flows.prove import HUBS, Asked, Bridge, Dropped, Hit, Items, Place, Sent, Taught, Way
from flows.tables import (
    BASE_EGRESS,
    BASE_INGRESS,
    DELIVER,
    LEAVE,
    ROUTE,
    ROUTER,
    TRANSLATE_OUT,
    Table,
    pipeline,
)

JUNCTIONS: Final = HUBS | frozenset({ROUTER, DELIVER, BASE_EGRESS, BASE_INGRESS, ROUTE, TRANSLATE_OUT, LEAVE})

Plug = tuple[str, str, int]  # host, bridge, OpenFlow port


class Wire(NamedTuple):
    """What a frame comes to that leaves by a port. A tunnel takes the tunnel id along."""

    host: str
    bridge: str
    in_port: int
    tunnel: bool = False


class End(NamedTuple):
    """What is no bridge: a VM's card, a namespace's, the world outside. `name` is for whoever laid the wires."""

    name: str


class Arrival(NamedTuple):
    """Packets came to an end. `items`: what their fields hold then; `tags`: the tags below the outermost."""

    end: End
    port: Plug
    items: Items
    tags: tuple[Now, ...]


class Loop(NamedTuple):
    """Packets come back to where they were, as they were."""

    place: Place


class Path(NamedTuple):
    """Packets that fare alike from some place on. `hits` is a rope: see `rows`."""

    space: Region
    hits: object
    end: Arrival | Dropped | Asked | Taught | Loop | Place


@dataclass(frozen=True)
class Wiring:
    """What is behind each port; of one that is absent nothing is known, and what leaves by it goes nowhere."""

    behind: Mapping[Plug, tuple[Wire | End, ...]]


class Cloud:
    """Bridges with their tables, and what is between them. `stops`: tables where paths end, to be followed later."""

    def __init__(self, flows: Mapping[tuple[str, str], Iterable[Flow]], wiring: Wiring,
                 stops: Collection[Table] = (BASE_INGRESS,)) -> None:
        kept = {key: tuple(rows) for key, rows in flows.items()}
        self.bridges = {(host, name): Bridge(host, name, pipeline(name)[0], Tables(own), Live(own), JUNCTIONS)
                        for (host, name), own in kept.items()}
        self._wiring = wiring
        self._stops = frozenset(stops)
        self._ways: dict[Place, tuple[Path, ...]] = {}
        self._paths: dict[Place, tuple[Path, ...]] = {}
        self._open: set[Place] = set()  # whose ways are being followed just now
        self._round: set[Place] = set()  # of these, those that what is followed has come back to

    def entry(self, port: Plug, items: Items = ()) -> Place:
        """Where a frame comes to that enters a bridge by a port."""
        host, bridge, number = port
        return Place(host, bridge, None, number, (), items)

    def ways(self, place: Place) -> tuple[Path, ...]:
        """From a place to the next one: a junction, or the other end of a wire."""
        found = self._ways.get(place)
        if found is None:
            bridge = self.bridges.get((place.host, place.bridge))
            ways = bridge.ways(place, EVERYTHING) if bridge is not None else ()
            wired = (path for way in ways for path in self._wired(place, way))
            found = self._ways[place] = tuple(_joined(_each_once(wired)))
        return found

    def paths(self, place: Place) -> tuple[Path, ...]:
        """From a place to every end but being dropped, and every table of `stops` but the place itself."""
        found = self._paths.get(place)
        if found is None:
            above, self._round = self._round, set()
            self._open.add(place)
            found = tuple(_each_once(self._follow(place)))
            self._open.discard(place)
            self._round.discard(place)
            if not self._round:  # else it is only true of what has come by a place above
                self._paths[place] = found
            self._round |= above
        return found

    def _follow(self, place: Place) -> Iterator[Path]:
        for way in self.ways(place):
            onward = way.end
            if isinstance(onward, Dropped):
                continue
            if not isinstance(onward, Place) or onward.table in self._stops:
                yield way
            elif onward in self._open:
                self._round.add(onward)
                yield Path(way.space, way.hits, Loop(onward))
            elif _is_rewritten(onward):
                yield from self._alone(onward, way, frozenset())
            else:
                for rest in self.paths(onward):
                    space = both(way.space, rest.space)
                    if space is not None:
                        yield Path(space, (way.hits, rest.hits), rest.end)

    def _alone(self, place: Place, before: Path, met: frozenset[Place]) -> Iterator[Path]:
        """The same for frames that a router has sent on: few come to where these are, so these alone are followed."""
        for way in self.ways(place):
            space = None if isinstance(way.end, Dropped) else both(before.space, way.space)
            if space is None:
                continue
            onward = way.end
            path = Path(space, (before.hits, way.hits), onward)
            if not isinstance(onward, Place) or onward.table in self._stops:
                yield path
            elif onward in met:
                yield Path(space, path.hits, Loop(onward))
            else:
                yield from self._alone(onward, path, met | {place})

    def _wired(self, place: Place, way: Way) -> Iterator[Path]:
        end = way.end
        if not isinstance(end, Sent):
            yield Path(way.space, way.hits, end)
            return
        port = place.host, place.bridge, end.port
        ends = self._wiring.behind.get(port, ())
        for one in ends:
            if isinstance(one, End):
                yield Path(way.space, way.hits, Arrival(one, port, end.items, end.tags))
            else:
                items = end.items if one.tunnel else _without_tunnel(end.items)
                yield Path(way.space, way.hits, Place(one.host, one.bridge, None, one.in_port, end.tags, items))
        if not ends:
            yield Path(way.space, way.hits, Dropped("nothing is plugged in there"))


def _is_rewritten(place: Place) -> bool:
    return any(name == f.ETH_SRC.name for name, _ in place.items)


def _each_once(paths: Iterable[Path]) -> Iterator[Path]:
    """Of paths of the same packets to the same end, the first."""
    met = set()
    for path in paths:
        key = path.end, frozenset(path.space.cube.items()), path.space.nots
        if key not in met:
            met.add(key)
            yield path


def _joined(paths: Iterable[Path]) -> Iterator[Path]:
    """Ways to the same place are one where their packets make one set.

    Of an end, the last row may be asked for: it is the same, then.
    """
    found: dict[object, list[Path]] = {}
    for path in paths:
        group = found.setdefault((path.end, _last(path)), [])
        joined: Region | None = path.space
        while joined is not None:
            path = path._replace(space=joined)
            for index, other in enumerate(group):
                joined = united(path.space, other.space)
                if joined is not None:
                    del group[index]
                    break
            else:
                joined = None
        group.append(path)
    for group in found.values():
        yield from group


def _last(path: Path) -> object:
    """The last row of a way that does not lead on through another bridge, or a hub."""
    if isinstance(path.end, Place) and (path.end.table is None or path.end.table in HUBS):
        return None
    return path.hits[-1] if isinstance(path.hits, tuple) else path.hits


def rows(hits: object) -> Iterator[Hit]:
    """The rows of a rope, in order."""
    if isinstance(hits, Hit):
        yield hits
    elif isinstance(hits, tuple):
        for one in hits:
            yield from rows(one)


def _without_tunnel(items: Items) -> Items:
    return tuple([item for item in items if item[0] != f.TUN_ID.name])
