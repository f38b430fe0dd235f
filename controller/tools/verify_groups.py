"""Security groups in the tables, held against the rules: no way past them, and nothing kept out that they let in.

Of each zone of connection tracking every possible history is asked (`flows.prove_tracking`): a packet that begins a
conversation, one that goes on with it, an answer, an error about it. With `iptables_hybrid`, the rules are on the tap,
out of sight here; of the tables it is proven that they keep out what iptables does not see.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from controller.model.topology import Port
from controller.tools.verify_promise import Promise
from controller.tools.verify_rules import Spoken, free, seen_by_iptables, spoken
from controller.tools.verify_wires import Laid
from flows import fields as f
from flows.headerspace import Literal, Region, both, minus, region, uncovered
from flows.headerspace_rows import Values, asked
from flows.prove_cloud import Path
from flows.prove_tracking import Talk

_TALK = "talk:"
_BITS = 7
_PROMISED = (Talk.NEW, Talk.KNOWN, Talk.ANSWER)


class Groups:
    """Of one cloud. A proof holds for all ports with the same rules and the same ways."""

    def __init__(self, laid: Laid, promise: Promise) -> None:
        self._topology, self._promise = laid.topology, promise
        self._allowed: dict[tuple[object, bool, Talk | None], tuple[Region, ...]] = {}
        self._proven: set[object] = set()

    def holds_for(self, port: Port) -> bool:
        """Whether the groups have a say in what the port sends and hears."""
        return self._topology.is_filtered(port)

    def passing(self, port: Port, ways: Sequence[Region], held: Values, *, outward: bool) -> Iterator[Region]:
        """Of frames that pass, those that nothing allows. `held`: what their fields hold where the groups are asked."""
        key = self._profile(port), outward, tuple(sorted(held.items())) if _is_rewritten(held) else (), _plain(ways)
        if key in self._proven:
            return
        clean = True
        for space in ways:
            allowed = self._allows(port, _talk(space), outward)
            if _is_rewritten(held):
                allowed = tuple(_held(allowed, held))
            if uncovered(space, allowed) is not None:
                clean = False
                yield from self._rest(space, allowed)
        if clean:
            self._proven.add(key)

    def lacking(self, port: Port, ways: Sequence[Region], *, outward: bool) -> Iterator[Region]:
        """Of frames that the groups allow, those of which some do not pass."""
        key = self._profile(port), outward, "lacking", _plain(ways)
        if key in self._proven:
            return
        clean = True
        zones = {var for space in ways for var in space.cube if var.startswith(_TALK)}
        for talk in _PROMISED if self._topology.firewall == "openvswitch" else (None,):
            told = [Literal(zone, talk, _BITS) for zone in zones] if talk is not None else []
            for one in self._allows(port, talk, outward):
                asked = both(one, Region({literal.var: (literal.value, literal.mask) for literal in told}))
                if asked is not None and uncovered(asked, ways) is not None:
                    clean = False
                    yield asked
        if clean:
            self._proven.add(key)

    def _allows(self, port: Port, talk: Talk | None, outward: bool) -> tuple[Region, ...]:
        """What may pass that is this to its conversation; None: nobody has looked."""
        key = self._profile(port), outward, talk
        if key not in self._allowed:
            self._allowed[key] = tuple(self._make(port, talk, outward=outward))
        return self._allowed[key]

    def _make(self, port: Port, talk: Talk | None, *, outward: bool) -> Iterator[Region]:
        if self._topology.firewall != "openvswitch":
            yield from seen_by_iptables()
            return
        if talk is None:
            yield from free(outward=outward)
            return
        profile = self._topology.filters.profile(port)
        if profile is not None and talk is not Talk.INVALID:
            yield from spoken(profile, Spoken(talk, outward))

    def _profile(self, port: Port) -> object:
        profile = self._topology.filters.profile(port)
        return profile.id if profile is not None else None

    @staticmethod
    def _rest(space: Region, allowed: Iterable[Region]) -> Iterator[Region]:
        pieces = [space]
        for one in allowed:
            pieces = [rest for piece in pieces
                      for rest in (minus(piece, one) if both(piece, one) is not None else (piece,))]
        yield from pieces


def _is_rewritten(held: Values) -> bool:
    return f.ETH_SRC.name in held


def _held(spaces_: Iterable[Region], held: Values) -> Iterator[Region]:
    """What is said of frames as they are here, said of them as they came into the cloud."""
    for space in spaces_:
        cube = asked((Literal(var, *bits) for var, bits in space.cube.items()), held)
        if cube is not None:
            clauses = [clause for one in space.nots if (clause := asked(one, held)) is not None]
            found = region(cube, clauses)
            if found is not None:
                yield found


def _talk(space: Region) -> Talk | None:
    """What the frames are to their conversation, if connection tracking has looked."""
    return next((Talk(value) for var, (value, _) in space.cube.items() if var.startswith(_TALK)), None)


def _plain(ways: Sequence[Region]) -> frozenset[object]:
    """Regions without the numbers of zones: of two ports with the same rules they are the same."""
    return frozenset((frozenset((_TALK if var.startswith(_TALK) else var, bits) for var, bits in space.cube.items()),
                      space.nots) for space in ways)


def spaces(paths: Iterable[Path]) -> list[Region]:
    """Of paths, which packets they are of."""
    return [path.space for path in paths]
