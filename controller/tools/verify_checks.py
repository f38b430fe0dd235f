"""The proof: what the tables let come from whom to whom, held against what the topology promises.

Frames are followed in sections, each proven once for all that pass it: out of a card, through security groups, over
the network, into a card. Where sections alone do not exclude a breach, what they have in common is asked.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from controller.model import names
from controller.model.topology import Port
from controller.tools import verify_findings as kinds
from controller.tools.verify_arrivals import Arrivals, Wrong
from controller.tools.verify_groups import Groups
from controller.tools.verify_promise import Card, Promise
from controller.tools.verify_wires import Flows, Laid, Outside
from flows import fields as f
from flows.headerspace import EVERYTHING, Region, TooHard, both, solve, uncovered
from flows.prove import ANY_TTL, VLAN, Asked, Dropped, Hit, Place, Taught
from flows.prove_cloud import Arrival, Cloud, Loop, Path, Plug, rows
from flows.tables import BASE_EGRESS

# What sending the packet on paper shall show.
COMES, LOST, STOPPED, TAKEN, ROUND = "comes", "lost", "stopped", "taken", "round"


@dataclass(frozen=True)
class Suspect:
    """A breach as the proof sees it."""

    kind: str
    source: str
    target: str
    what: str
    plug: Plug
    values: dict[str, int]  # of a packet
    shows: str  # COMES to or LOST for `target`; STOPPED before the router's table; TAKEN by a row; goes ROUND
    hits: tuple[Hit, ...]


_T = TypeVar("_T")
Chain = Sequence[Sequence[Path]]  # sections before: of each, some path


class Prover:
    """Proves one cloud's tables."""

    def __init__(self, laid: Laid, flows: Flows) -> None:
        self.laid, self.promise = laid, Promise(laid.topology)
        self.cloud = Cloud(flows, laid.wiring)
        self.reaching: set[tuple[str, str]] = set()
        self.undecided: list[str] = []
        self._arrivals = Arrivals(laid, self.promise)
        self._groups = Groups(laid, self.promise)
        self._into: dict[str, dict[Place, list[Path]]] = {}  # VM's port -> where its groups are asked -> ways in

    def suspects(self) -> Iterator[Suspect]:
        """Every breach, those of one source together."""
        for name, plug in self.laid.plugs.items():
            source = self.laid.ends.get(name) or self.laid.ends[name.rpartition(" at ")[0]]
            yield from self._source(name, source, plug)
        for name, plug in self.laid.strange():
            items = ((f.TUN_ID.name, f.TUN_ID.name),) if "tunnel" in name else ()
            place = self.cloud.entry(plug, items)
            for path in self.cloud.paths(place):
                yield from self._path(name, None, plug, (), path)
        for name, places in self._into.items():
            target = self.laid.ends[name]
            if isinstance(target, Port) and self._groups.holds_for(target):
                for place, ways in places.items():
                    yield from self._enters(target, place, ways)

    # ---- one source

    def _source(self, name: str, source: Card | Outside, plug: Plug) -> Iterator[Suspect]:
        arms = self.cloud.ways(self.cloud.entry(plug))
        if isinstance(source, Port):
            yield from self._speech(source, plug, arms)
        to_ends = [arm for arm in arms if not isinstance(arm.end, Place)]
        for arm in to_ends:
            yield from self._path(name, source, plug, (), arm)
        reached: dict[str, list[Region]] = {}
        if isinstance(source, Port) and self._groups.holds_for(source):
            yield from self._leaves(source, plug, arms)
        for place, chain in self._fronts(arms):
            for path in self.cloud.paths(place):
                self._note(reached, path)
                yield from self._path(name, source, plug, chain, path)
        if isinstance(source, Port):
            for arm in to_ends:
                self._note(reached, arm)
            self.reaching.update((name, target) for target in reached if isinstance(self.laid.ends.get(target), Port))
            yield from self._must(source, plug, reached)

    def _fronts(self, arms: Iterable[Path]) -> Iterator[tuple[Place, Chain]]:
        """Where frames begin to be followed together, and what they have passed before."""
        for place, group in _by_place(arms):
            if place.table is BASE_EGRESS:
                for onward, passed in _by_place(self.cloud.ways(place)):
                    yield onward, (group, passed)
            else:
                yield place, (group,)

    def _note(self, reached: dict[str, list[Region]], path: Path) -> None:
        """Remember which frames come to whom; to "" those that the controller has."""
        if isinstance(path.end, Asked):
            reached.setdefault("", []).append(path.space)
        for arrival, _ in self._arriving(path):
            reached.setdefault(arrival.end.name, []).append(path.space)

    def _arriving(self, path: Path) -> Iterator[tuple[Arrival, Path | None]]:
        """Where a path ends, or the section after it; of this each end once."""
        if isinstance(path.end, Arrival):
            yield path.end, None
        elif isinstance(path.end, Place):
            met = set()
            for way in self.cloud.ways(path.end):
                if isinstance(way.end, Arrival) and way.end not in met:
                    met.add(way.end)
                    yield way.end, way

    # ---- what a card may say

    def _speech(self, port: Port, plug: Plug, arms: Sequence[Path]) -> Iterator[Suspect]:
        may = self.promise.says(port)
        passing = [arm for arm in arms if not isinstance(arm.end, Dropped | Taught)]
        for arm in passing:
            values = self._found(f"what {port.name} may say", uncovered, arm.space, may)
            if values is not None:
                tag = values.get(VLAN, 0)
                what = f"{port.name} sends frames with a tag of its own" if tag else \
                    f"{port.name} says what is not its own to say"
                yield Suspect(kinds.TAG if tag else kinds.SPOOFING, port.name, "", what, plug, values, TAKEN,
                              tuple(rows(arm.hits)))
        for one in may:
            values = self._found(f"what {port.name} may say", uncovered, one, [arm.space for arm in passing])
            if values is not None:
                yield Suspect(kinds.BLACK_HOLE, port.name, "", f"{port.name} may not say what is its own to say", plug,
                              values, LOST, ())

    # ---- where it comes

    def _path(self, name: str, source: Card | Outside | None, plug: Plug, chain: Chain, path: Path
              ) -> Iterator[Suspect]:
        hits = path.hits
        if isinstance(path.end, Loop) and ANY_TTL not in dict(path.end.place.items).values():
            yield from self._wrong(name, plug, chain, path, Wrong(kinds.LOOP, f"a frame of {name} goes round for ever",
                                                                  EVERYTHING), "", ROUND)
        elif isinstance(path.end, Taught):
            for wrong in self._arrivals.taught(path.end, hits):
                yield from self._wrong(name, plug, chain, path, wrong, "", TAKEN)
        for arrival, way in self._arriving(path):
            yield from self._past_groups(name, plug, chain, path, arrival, way)
            for wrong in self._arrivals.wrong(name, source, arrival, path.space):
                after = Path(path.space, path.hits, path.end)
                if way is not None:
                    space = both(path.space, way.space)
                    if space is None:
                        continue
                    after = Path(space, (path.hits, way.hits), way.end)
                yield from self._wrong(name, plug, chain, after, wrong, arrival.end.name, COMES)

    def _wrong(self, name: str, plug: Plug, chain: Chain, path: Path, wrong: Wrong, target: str, shows: str
               ) -> Iterator[Suspect]:
        """A breach if some frame that has passed everything before is wrong at the end."""
        space = both(path.space, wrong.space)
        if space is None:
            return
        found = self._found(wrong.what, _first, space, chain)
        if found is not None:
            yield Suspect(wrong.kind, name, target, wrong.what, plug, found, shows, tuple(rows(path.hits)))

    def _found(self, what: str, search: Callable[[Region, Sequence[_T]], dict[str, int] | None], space: Region,
               others: Sequence[_T]) -> dict[str, int] | None:
        """What a search comes to; that it came to nothing in time is said, not hidden."""
        try:
            return search(space, others)
        except TooHard as error:
            self.undecided.append(f"{what}: {error}")
            return None

    # ---- security groups

    def _leaves(self, port: Port, plug: Plug, arms: Sequence[Path]) -> Iterator[Suspect]:
        """What leaves a filtered port is what its groups let leave."""
        passing: list[tuple[Path, Chain]] = [
            (way, (group,)) for place, group in _by_place(arms) if place.table is BASE_EGRESS
            for way in self.cloud.ways(place) if not isinstance(way.end, Dropped | Taught)]
        if self.laid.topology.firewall == "openvswitch" or passing:
            passing += [(arm, ()) for arm in arms if not isinstance(arm.end, Dropped | Taught)
                        and not (isinstance(arm.end, Place) and arm.end.table is BASE_EGRESS)]
        ways = [way.space for way, _ in passing]
        for space in self._groups.passing(port, ways, {}, outward=True):
            wrong = Wrong(kinds.GROUPS, f"{port.name} begins or goes on with what no group of it allows", space)
            for way, chain in passing:
                yield from self._wrong(port.name, plug, chain, way, wrong, "", TAKEN)
        for space in self._groups.lacking(port, ways, outward=True) if passing else ():
            for said in self.promise.says_of_itself(port):
                common = both(space, said)
                values = None if common is None else self._found(port.name, uncovered, common, ways)
                if values is not None:
                    yield Suspect(kinds.BLACK_HOLE, port.name, "", f"what the groups of {port.name} let it say is kept "
                                  "in", plug, values, STOPPED, ())
                    break

    def _enters(self, port: Port, place: Place, ways: Sequence[Path]) -> Iterator[Suspect]:
        """What enters a filtered port is what its groups let enter."""
        spaces = [way.space for way in ways]
        plug, values = self._in_front(port, place)
        for space in self._groups.passing(port, spaces, dict(place.items), outward=False):
            for way in ways:
                common = both(way.space, space)
                found = None if common is None else self._found(port.name, _first, common, ())
                if found is not None:
                    yield Suspect(kinds.GROUPS, "", port.name, f"{port.name} hears what no group of it allows", plug,
                                  {**found, **values}, COMES, tuple(rows(way.hits)))
                    break
        if f.ETH_SRC.name in dict(place.items):
            return  # by a router: what it lets in is the same as without one
        for space in self._groups.lacking(port, spaces, outward=False):
            found = self._found(port.name, uncovered, space, spaces)
            if found is not None:
                yield Suspect(kinds.BLACK_HOLE, "", port.name, f"what the groups of {port.name} let it hear is kept "
                              "out", plug, {**found, **values}, LOST, ())

    def _in_front(self, port: Port, place: Place) -> tuple[Plug, dict[str, int]]:
        """Where a frame for a port comes in from another host, and what it wears there."""
        held = dict(place.items)
        vlan = held.get(VLAN, 0)
        patch = self.laid.port(place.host, place.bridge, names.PATCH_TUN) or (place.host, place.bridge, place.in_port)
        return patch, {VLAN: vlan if isinstance(vlan, int) else 0, f.ETH_DST.name: f.ETH_DST(port.mac).value}

    def _past_groups(self, name: str, plug: Plug, chain: Chain, path: Path, arrival: Arrival, way: Path | None
                     ) -> Iterator[Suspect]:
        """Nothing comes to a filtered port by another way than through the tables of the groups."""
        target = self.laid.ends[arrival.end.name]
        if not isinstance(target, Port) or not self._groups.holds_for(target):
            return
        if way is not None and isinstance(path.end, Place):
            if path.end not in self._into.setdefault(target.name, {}):
                self._into[target.name][path.end] = [one for one in self.cloud.ways(path.end)
                                                     if isinstance(one.end, Arrival) and one.end.end == arrival.end]
            return
        for space in self._groups.passing(target, [path.space], dict(arrival.items), outward=False):
            wrong = Wrong(kinds.GROUPS, f"a frame of {name} comes to {target.name} past its groups", space)
            yield from self._wrong(name, plug, chain, path, wrong, target.name, COMES)

    # ---- what must come

    def _must(self, port: Port, plug: Plug, reached: dict[str, list[Region]]) -> Iterator[Suspect]:
        for card in self.promise.cards(port.network):
            if card.name not in self.laid.plugs or card is port:
                continue
            values = self._missed(port, card, reached)
            if values is not None:
                yield Suspect(kinds.BLACK_HOLE, port.name, card.name,
                              f"what {port.name} sends to {card.name} does not come there", plug, values, LOST, ())
        for target, region in self.promise.routed(port):
            heard = [*reached.get(target.name, ()), *reached.get("", ())]
            values = self._missing(port, region, heard)
            if values is not None:
                yield Suspect(kinds.BLACK_HOLE, port.name, target.name,
                              f"what {port.name} sends to {target.name} by its router does not come there", plug,
                              values, LOST, ())

    def _missing(self, port: Port, promised: Region, heard: Sequence[Region]) -> dict[str, int] | None:
        """Of what is promised, a packet that nobody heard, and that the port may send as itself."""
        if self._found(port.name, uncovered, promised, heard) is None:
            return None
        for said in self.promise.says_of_itself(port):
            space = both(promised, said)
            values = None if space is None else self._found(port.name, uncovered, space, heard)
            if values is not None:
                return values
        return None

    def _missed(self, port: Port, card: Card, reached: dict[str, list[Region]]) -> dict[str, int] | None:
        """A packet that must come to a card and does not."""
        came = reached.get(card.name, [])
        asked = self.promise.asked(port.network, card)
        promised = [(one, came) for one in self.promise.must(port.network, card)]
        if asked is not None:
            promised.append((asked, [*came, *reached.get(port.name, ())]))  # or it is answered on the way
        found = (self._missing(port, one, heard) for one, heard in promised)
        return next((values for values in found if values is not None), None)


def _by_place(paths: Iterable[Path]) -> Iterator[tuple[Place, list[Path]]]:
    found: dict[Place, list[Path]] = {}
    for path in paths:
        if isinstance(path.end, Place):
            found.setdefault(path.end, []).append(path)
    yield from found.items()


def _first(space: Region, chain: Sequence[Sequence[Path]]) -> dict[str, int] | None:
    """A packet that is in a path of every section before, too."""
    if not chain:
        return solve(space)
    for path in chain[-1]:
        narrowed = both(space, path.space)
        if narrowed is not None and (found := _first(narrowed, chain[:-1])) is not None:
            return found
    return None
