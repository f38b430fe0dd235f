"""Looking for packets that fare as nobody promised: what the parts of the proof share."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from controller.model.topology import Port
from controller.tools.verify_arrivals import Wrong
from controller.tools.verify_promise import Promise
from controller.tools.verify_wires import Laid
from flows.headerspace import Region, TooHard, both, solve, uncovered
from flows.prove import Hit, Place
from flows.prove_cloud import Cloud, Path, Plug, rows

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


class Search:
    """Of one cloud. `undecided`: sentences about what was not proven."""

    def __init__(self, laid: Laid, promise: Promise, cloud: Cloud) -> None:
        self.laid, self.promise, self.cloud = laid, promise, cloud
        self.undecided: list[str] = []

    def wrong(self, name: str, plug: Plug, chain: Chain, path: Path, wrong: Wrong, target: str, shows: str
              ) -> Iterator[Suspect]:
        """A breach if some frame that has passed everything before is wrong at the end."""
        space = both(path.space, wrong.space)
        if space is None:
            return
        found = self.found(wrong.what, first, space, chain)
        if found is not None:
            yield Suspect(wrong.kind, name, target, wrong.what, plug, found, shows, tuple(rows(path.hits)))

    def found(self, what: str, search: Callable[[Region, Sequence[_T]], dict[str, int] | None], space: Region,
              others: Sequence[_T]) -> dict[str, int] | None:
        """What a search comes to; that it came to nothing in time is said, not hidden."""
        try:
            return search(space, others)
        except TooHard as error:
            self.undecided.append(f"{what}: {error}")
            return None

    def missing(self, port: Port, promised: Region, heard: Sequence[Region]) -> dict[str, int] | None:
        """Of what is promised, a packet that nobody heard, and that the port may send as itself."""
        if self.found(port.name, uncovered, promised, heard) is None:
            return None
        for said in self.promise.says_of_itself(port):
            space = both(promised, said)
            values = None if space is None else self.found(port.name, uncovered, space, heard)
            if values is not None:
                return values
        return None


def by_place(paths: Iterable[Path]) -> Iterator[tuple[Place, list[Path]]]:
    found: dict[Place, list[Path]] = {}
    for path in paths:
        if isinstance(path.end, Place):
            found.setdefault(path.end, []).append(path)
    yield from found.items()


def first(space: Region, chain: Sequence[Sequence[Path]]) -> dict[str, int] | None:
    """A packet that is in a path of every section before, too."""
    if not chain:
        return solve(space)
    for path in chain[-1]:
        narrowed = both(space, path.space)
        if narrowed is not None and (found := first(narrowed, chain[:-1])) is not None:
            return found
    return None
