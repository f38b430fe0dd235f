"""The proof: what the tables let come from whom to whom, held against what the topology promises.

Frames are followed in sections, each proven once for all that pass it: out of a card, through security groups, over
the network, into a card. Where sections alone do not exclude a breach, what they have in common is asked.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from controller.model.topology import Port
from controller.tools import verify_findings as kinds
from controller.tools.verify_arrivals import Arrivals, Wrong
from controller.tools.verify_filtered import Filtered
from controller.tools.verify_promise import Card, Promise
from controller.tools.verify_search import COMES, LOST, ROUND, TAKEN, Chain, Search, Suspect, by_place
from controller.tools.verify_wires import Flows, Laid, Outside
from flows import fields as f
from flows.headerspace import EVERYTHING, Region, both, uncovered
from flows.prove import ANY_TTL, VLAN, Asked, Dropped, Place, Taught
from flows.prove_cloud import Arrival, Cloud, Loop, Path, Plug, rows
from flows.tables import BASE_EGRESS


class Prover:
    """Proves one cloud's tables."""

    def __init__(self, laid: Laid, flows: Flows) -> None:
        self.laid, self.promise = laid, Promise(laid.topology)
        self.cloud = Cloud(flows, laid.wiring)
        self.reaching: set[tuple[str, str]] = set()
        self._search = Search(laid, self.promise, self.cloud)
        self._arrivals = Arrivals(laid, self.promise)
        self._filtered = Filtered(self._search)

    @property
    def undecided(self) -> tuple[str, ...]:
        """What was not proven, and why."""
        return tuple(self._search.undecided)

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
        yield from self._filtered.entering()

    # ---- one source

    def _source(self, name: str, source: Card | Outside, plug: Plug) -> Iterator[Suspect]:
        arms = self.cloud.ways(self.cloud.entry(plug))
        if isinstance(source, Port):
            yield from self._speech(source, plug, arms)
        to_ends = [arm for arm in arms if not isinstance(arm.end, Place)]
        for arm in to_ends:
            yield from self._path(name, source, plug, (), arm)
        reached: dict[str, list[Region]] = {}
        if isinstance(source, Port):
            yield from self._filtered.leaves(source, plug, arms)
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
        for place, group in by_place(arms):
            if place.table is BASE_EGRESS:
                for onward, passed in by_place(self.cloud.ways(place)):
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
            values = self._search.found(f"what {port.name} may say", uncovered, arm.space, may)
            if values is not None:
                tag = values.get(VLAN, 0)
                what = f"{port.name} sends frames with a tag of its own" if tag else \
                    f"{port.name} says what is not its own to say"
                yield Suspect(kinds.TAG if tag else kinds.SPOOFING, port.name, "", what, plug, values, TAKEN,
                              tuple(rows(arm.hits)))
        for one in may:
            values = self._search.found(f"what {port.name} may say", uncovered, one, [arm.space for arm in passing])
            if values is not None:
                yield Suspect(kinds.BLACK_HOLE, port.name, "", f"{port.name} may not say what is its own to say", plug,
                              values, LOST, ())

    # ---- where it comes

    def _path(self, name: str, source: Card | Outside | None, plug: Plug, chain: Chain, path: Path
              ) -> Iterator[Suspect]:
        if isinstance(path.end, Loop) and ANY_TTL not in dict(path.end.place.items).values():
            wrong = Wrong(kinds.LOOP, f"a frame of {name} goes round for ever", EVERYTHING)
            yield from self._search.wrong(name, plug, chain, path, wrong, "", ROUND)
        elif isinstance(path.end, Taught):
            for wrong in self._arrivals.taught(path.end):
                yield from self._search.wrong(name, plug, chain, path, wrong, "", TAKEN)
        for arrival, way in self._arriving(path):
            yield from self._filtered.past(name, plug, chain, path, arrival, way)
            for wrong in self._arrivals.wrong(name, source, arrival, path.space):
                after = Path(path.space, path.hits, path.end)
                if way is not None:
                    space = both(path.space, way.space)
                    if space is None:
                        continue
                    after = Path(space, (path.hits, way.hits), way.end)
                yield from self._search.wrong(name, plug, chain, after, wrong, arrival.end.name, COMES)

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
            values = self._search.missing(port, region, heard)
            if values is not None:
                yield Suspect(kinds.BLACK_HOLE, port.name, target.name,
                              f"what {port.name} sends to {target.name} by its router does not come there", plug,
                              values, LOST, ())

    def _missed(self, port: Port, card: Card, reached: dict[str, list[Region]]) -> dict[str, int] | None:
        """A packet that must come to a card and does not."""
        came = reached.get(card.name, [])
        asked = self.promise.asked(port.network, card)
        promised = [(one, came) for one in self.promise.must(port.network, card)]
        if asked is not None:
            promised.append((asked, [*came, *reached.get(port.name, ())]))  # or it is answered on the way
        found = (self._search.missing(port, one, heard) for one, heard in promised)
        return next((values for values in found if values is not None), None)
