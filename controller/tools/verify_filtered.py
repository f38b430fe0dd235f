"""Security groups on a frame's way: what leaves a filtered port, what enters one, and that nothing enters past them."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

from controller.model import names
from controller.model.topology import Port
from controller.tools import verify_findings as kinds
from controller.tools.verify_arrivals import Wrong
from controller.tools.verify_groups import Groups
from controller.tools.verify_search import COMES, LOST, STOPPED, TAKEN, Chain, Search, Suspect, by_place, first
from flows import fields as f
from flows.headerspace import both, uncovered
from flows.prove import VLAN, Dropped, Place, Taught
from flows.prove_cloud import Arrival, Path, Plug, rows
from flows.tables import BASE_EGRESS


class Filtered:
    """Of one cloud."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._groups = Groups(search.laid, search.promise)
        self._into: dict[str, dict[Place, list[Path]]] = {}  # VM's port -> where its groups are asked -> ways in

    def entering(self) -> Iterator[Suspect]:
        """Breaches on the way into ports, as far as `past` has seen the ways there."""
        for name, places in self._into.items():
            target = self._search.laid.ends[name]
            if isinstance(target, Port):
                for place, ways in places.items():
                    yield from self.enters(target, place, ways)

    def leaves(self, port: Port, plug: Plug, arms: Sequence[Path]) -> Iterator[Suspect]:
        """What leaves a filtered port is what its groups let leave."""
        if not self._groups.holds_for(port):
            return
        passing: list[tuple[Path, Chain]] = [
            (way, (group,)) for place, group in by_place(arms) if place.table is BASE_EGRESS
            for way in self._search.cloud.ways(place) if not isinstance(way.end, Dropped | Taught)]
        if self._search.laid.topology.firewall == "openvswitch" or passing:
            passing += [(arm, ()) for arm in arms if not isinstance(arm.end, Dropped | Taught)
                        and not (isinstance(arm.end, Place) and arm.end.table is BASE_EGRESS)]
        ways = [way.space for way, _ in passing]
        for space in self._groups.passing(port, ways, {}, outward=True):
            wrong = Wrong(kinds.GROUPS, f"{port.name} begins or goes on with what no group of it allows", space)
            for way, chain in passing:
                yield from self._search.wrong(port.name, plug, chain, way, wrong, "", TAKEN)
        for space in self._groups.lacking(port, ways, outward=True) if passing else ():
            for said in self._search.promise.says_of_itself(port):
                common = both(space, said)
                values = None if common is None else self._search.found(port.name, uncovered, common, ways)
                if values is not None:
                    yield Suspect(kinds.BLACK_HOLE, port.name, "", f"what the groups of {port.name} let it say is kept "
                                  "in", plug, values, STOPPED, ())
                    break

    def enters(self, port: Port, place: Place, ways: Sequence[Path]) -> Iterator[Suspect]:
        """What enters a filtered port is what its groups let enter."""
        spaces = [way.space for way in ways]
        plug, values = self._in_front(port, place)
        for space in self._groups.passing(port, spaces, dict(place.items), outward=False):
            for way in ways:
                common = both(way.space, space)
                found = None if common is None else self._search.found(port.name, first, common, ())
                if found is not None:
                    yield Suspect(kinds.GROUPS, "", port.name, f"{port.name} hears what no group of it allows", plug,
                                  {**found, **values}, COMES, tuple(rows(way.hits)))
                    break
        if f.ETH_SRC.name in dict(place.items):
            return  # by a router: what it lets in is the same as without one
        for space in self._groups.lacking(port, spaces, outward=False):
            found = self._search.found(port.name, uncovered, space, spaces)
            if found is not None:
                yield Suspect(kinds.BLACK_HOLE, "", port.name, f"what the groups of {port.name} let it hear is kept "
                              "out", plug, {**found, **values}, LOST, ())

    def _in_front(self, port: Port, place: Place) -> tuple[Plug, dict[str, int]]:
        """Where a frame for a port comes in from another host, and what it wears there."""
        held = dict(place.items)
        vlan = held.get(VLAN, 0)
        patch = self._search.laid.port(place.host, place.bridge, names.PATCH_TUN)
        wears = {VLAN: vlan if isinstance(vlan, int) else 0, f.ETH_DST.name: f.ETH_DST(port.mac).value}
        return patch or (place.host, place.bridge, place.in_port), wears

    def past(self, name: str, plug: Plug, chain: Chain, path: Path, arrival: Arrival, way: Path | None
             ) -> Iterator[Suspect]:
        """Nothing comes to a filtered port by another way than through the tables of the groups."""
        target = self._search.laid.ends[arrival.end.name]
        if not isinstance(target, Port) or not self._groups.holds_for(target):
            return
        if way is not None and isinstance(path.end, Place):
            if path.end not in self._into.setdefault(target.name, {}):
                self._into[target.name][path.end] = [one for one in self._search.cloud.ways(path.end)
                                                     if isinstance(one.end, Arrival) and one.end.end == arrival.end]
            return
        for space in self._groups.passing(target, [path.space], dict(arrival.items), outward=False):
            wrong = Wrong(kinds.GROUPS, f"a frame of {name} comes to {target.name} past its groups", space)
            yield from self._search.wrong(name, plug, chain, path, wrong, target.name, COMES)
