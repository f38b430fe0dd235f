"""A step from one topology to another, in parts that can be sent to who has the first one: only what it brings."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

from controller.model import deriving
from controller.model.differing import Difference
from controller.model.succession import OBJECTS, Succession
from controller.model.topology import Topology

_CHUNK: Final = 200  # objects; a millisecond or two of unpickling


@dataclass(frozen=True)
class Splice:
    """The names from `start` to before `end` give way to others."""

    start: int
    end: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Head:
    """All but the objects themselves."""

    difference: Difference
    rest: Topology  # without objects
    splices: Mapping[str, Splice]  # kind of object -> whose names come, go or move


@dataclass(frozen=True)
class Chunk:
    """Some of the objects that differ, all of one kind."""

    kind: str
    objects: Mapping[str, Any]


Part = Head | Chunk


def parts(step: Succession) -> Iterator[Part]:
    """The whole of a step, in parts that are small enough to be read between two events."""
    splices = {kind: _splice(list(getattr(step.old, kind)), list(getattr(step.new, kind))) for kind in OBJECTS}
    yield Head(step.difference, replace(step.new, hosts={}, networks={}, routers={}, security_groups={}, vms={}),
               {kind: splice for kind, splice in splices.items() if splice is not None})
    for kind in OBJECTS:
        old, new = getattr(step.old, kind), getattr(step.new, kind)
        items = ((name, one) for name, one in new.items() if old.get(name) is not one)
        while chunk := dict(islice(items, _CHUNK)):
            yield Chunk(kind, chunk)


def _splice(old: list[str], new: list[str]) -> Splice | None:
    if old == new:
        return None
    most = min(len(old), len(new))
    start = next((index for index in range(most) if old[index] != new[index]), most)
    back = next((index for index in range(most - start) if old[-1 - index] != new[-1 - index]), most - start)
    return Splice(start, len(old) - back, tuple(new[start:len(new) - back]))


@dataclass
class Assembly:
    """Parts as they arrive."""

    old: Topology
    head: Head | None = None
    came: dict[str, dict[str, Any]] = field(default_factory=lambda: {kind: {} for kind in OBJECTS})

    def take(self, part: Part) -> None:
        """One more, in the order of `parts`."""
        if isinstance(part, Head):
            self.head = part
        else:
            self.came[part.kind].update(part.objects)

    def step(self) -> Succession:
        """The step from `old`, when all parts are there."""
        if self.head is None:
            raise ValueError("a step has no head")
        difference, rest = self.head.difference, self.head.rest
        found = {kind: self._objects(kind, self.head.splices.get(kind)) for kind in OBJECTS}
        new = replace(rest, hosts=found["hosts"], networks=found["networks"], routers=found["routers"],
                      security_groups=found["security_groups"], vms=found["vms"],
                      floating_ips=rest.floating_ips if difference.floating_ips else self.old.floating_ips)
        return Succession(self.old, new, difference, *deriving.derive(self.old, new, difference))

    def _objects(self, kind: str, splice: Splice | None) -> Mapping[str, Any]:
        old, came = getattr(self.old, kind), self.came[kind]
        if splice is None:
            return {**old, **came} if came else old
        names = list(old)
        names[splice.start:splice.end] = splice.names
        return {name: came[name] if name in came else old[name] for name in names}


def assembled(old: Topology, arrived: Iterable[Part]) -> Succession:
    """All of it at once."""
    assembly = Assembly(old)
    for part in arrived:
        assembly.take(part)
    return assembly.step()
