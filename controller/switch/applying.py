"""A file becomes the topology in force, or shows what it would change: `apply`, `plan`, and SIGHUP.

Files are read, and plans made, aside: a topology of 20,000 VMs takes seconds, and switches do not wait.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import sha256
from typing import Any, Protocol, TypeVar

from controller.model import delta, reading
from controller.model.problems import ERROR, to_json
from controller.model.reading import Reading
from controller.model.succession import Succession, succeed
from controller.model.topology import Topology
from controller.switch.events import Command
from controller.switch.fleet import Fleet
from controller.switch.planning import plan

Json = dict[str, Any]
_T = TypeVar("_T")


class Failed(Exception):
    """Work that was done elsewhere came to no end; str() is the sentence."""


class Aside(Protocol):
    """Does work elsewhere and yields what it yields, or does it here."""

    def __call__(self, work: Callable[[], Iterable[_T]]) -> Iterator[_T]: ...


def here(work: Callable[[], Iterable[_T]]) -> Iterator[_T]:
    """Does work here: for who has nobody else to serve."""
    yield from work()


class Applying:
    """Requests for another topology, one after the other."""

    def __init__(self, fleet: Fleet, obey: Callable[[Iterable[Command]], None]) -> None:
        self._fleet = fleet
        self._obey = obey
        self.aside: Aside = here
        self.last: Json | None = None  # what came of the last one
        self.filters: Callable[[Succession], Json | None] = lambda step: None  # for others to say
        self._from: tuple[Topology, str] | None = None  # the one in force, and what its file had in it

    def apply(self, content: bytes, source: str, *, filters: bool = False) -> Json:
        """Put the topology of a file's content in force, if it is valid; the old one stays in force if not.

        `filters`: say what that comes to in packet filters of hypervisors, too, if it comes to nothing else there, as
        "filters": {"from": SHA-256 of the file that was in force, "hosts": by name, see host.orders}.
        """
        old, known = self._fleet.topology, self._from
        answer = self._follow(source, partial(reading.parse, content, source), content,
                              self.filters if filters else None)
        found = answer.pop("filters", None)
        if found is not None and known is not None and known[0] is old:
            answer["filters"] = {"from": known[1], "hosts": found}
        return answer

    def read_from(self, content: bytes) -> None:
        """The topology in force is that of a file with this content."""
        self._from = self._fleet.topology, sha256(content).hexdigest()

    def load(self, file: str) -> Json:
        """The same with a file that is here."""
        return self._follow(file, partial(reading.load, file))

    def plan(self, content: bytes, source: str) -> Json:
        """What would change; nothing changes."""
        return next(self.aside(lambda: [_planned(self._fleet, reading.parse(content, source), source)]))

    def _follow(self, source: str, read: Callable[[], Reading], content: bytes | None = None,
                filters: Callable[[Succession], Json | None] | None = None) -> Json:
        old = self._fleet.topology
        assembly, problems, more = delta.Assembly(old), [], {}
        for part in self.aside(partial(_steps, old, read, source, filters)):
            if isinstance(part, list):
                problems = part
            elif isinstance(part, dict):
                more = part
            else:
                assembly.take(part)
        if assembly.head is None:
            errors = sum(problem["severity"] == ERROR for problem in problems)
            self.last = {"ok": False, "file": source, "problems": errors, "in_force": self._fleet.topology.source}
            return {"ok": False, "problems": problems}
        commands = self._fleet.follow(assembly.step())
        if content is not None:
            self.read_from(content)
        self.last = {"ok": True, "file": source, "problems": 0, "in_force": source}
        self._obey(commands)
        return {"ok": True, "problems": problems, **more}


def _steps(old: Topology, read: Callable[[], Reading], source: str,
           filters: Callable[[Succession], Json | None] | None) -> Iterator[list[Json] | delta.Part | Json]:
    """The problems of a file; then, if it is valid, what its topology brings, and what that is in packet filters."""
    found = read()
    yield to_json(found.problems, source)["problems"]
    if found.topology is not None:
        step = succeed(old, found.topology)
        yield from delta.parts(step)
        if filters is not None and (changed := filters(step)) is not None:
            yield {"filters": changed}


def _planned(fleet: Fleet, found: Reading, source: str) -> Json:
    problems = to_json(found.problems, source)["problems"]
    if found.topology is None:
        return {"ok": False, "problems": problems}
    return {"ok": True, "problems": problems, **plan(fleet, found.topology)}
