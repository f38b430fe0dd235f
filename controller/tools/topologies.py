"""A file that must be a valid topology, or the command is refused with all that is wrong with it."""
from __future__ import annotations

from collections.abc import Callable

from controller.model import reading
from controller.model.problems import render
from controller.model.reading import Reading
from controller.model.topology import Topology
from controller.tools.errors import BAD_INPUT, Refusal


def read(file: str) -> tuple[Topology, Reading]:
    """The topology of a file, and the reading with its warnings. Refusal with all its problems if it is not valid."""
    found = reading.load(file)
    if found.topology is None:
        raise Refusal(render(found.problems), BAD_INPUT)
    return found.topology, found


def valid(file: str, say: Callable[[str], None] = lambda words: None) -> Topology:
    """The topology of a file; its warnings are said. Refusal as in `read`."""
    topology, found = read(file)
    if found.problems:
        say(render(found.problems))
    return topology


def content(file: str, say: Callable[[str], None] = lambda words: None) -> bytes:
    """What a file with a valid topology says, as bytes. Refusal, and words, as in `valid`."""
    _, found = read(file)
    if found.problems:
        say(render(found.problems))
    return found.content
