"""A text with dumps in it: which lines are flows, and of which bridge each dump is.

A dump begins with its header (`NXST_FLOW reply (xid=0x4):`), with `# host/bridge` as our own `flows --ofctl` prints, or
with the prompt of a shell (`$ ovs-ofctl dump-flows br-int`), and also where the tables start again from the first.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from controller.tools.ofctl import Damaged, Row, read

_HEADER: Final = re.compile(r"(?:NXST|OFPST)_FLOW reply|flow_reply")
_COMMAND: Final = re.compile(r"(?:dump-flows|bridge/dump-flows)\s+(?P<rest>.+)$")
_OURS: Final = re.compile(r"#\s*(?P<host>[^\s/]+)/(?P<bridge>[^\s/]+)\s*$")
_FLOW: Final = re.compile(r"actions=|cookie=|n_packets=|priority=")


@dataclass(frozen=True)
class Line:
    """A line that is a flow, or was meant to be: then `row` is missing, and `damage` says what is known of it."""

    number: int  # in the text, from 1
    text: str
    row: Row | None
    damage: str = ""


@dataclass
class Dump:
    """The flows of one bridge; the name is empty if the text does not tell it."""

    bridge: str = ""
    host: str = ""
    lines: list[Line] = field(default_factory=list)
    _last: int = 0

    def begins_anew(self, line: Line) -> bool:
        """Whether the tables start again: so this is of another bridge."""
        return bool(line.row and self.lines and line.row.table < self._last)

    def add(self, line: Line) -> None:
        self.lines.append(line)
        self._last = line.row.table if line.row else self._last


def dumps(text: str, bridge: str = "") -> list[Dump]:
    """All dumps of a text, those without flows left out. `bridge` names those that do not tell."""
    found = [Dump(bridge)]
    headed = False
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        named = _named(line)
        if named is not None:
            found.append(Dump(named[1] or bridge, named[0]))
        elif _HEADER.search(line):
            headed = True  # large dumps come in several parts, each with a header
        elif _FLOW.search(line):
            one = _line(number, line)
            if headed and found[-1].begins_anew(one):
                found.append(Dump(bridge))
            headed = False
            found[-1].add(one)
        elif line.strip() and not line.lstrip().startswith(("#", "--")):
            found[-1].add(Line(number, line.strip(), None, "this is no flow"))
    return [one for one in found if one.lines]


def _named(line: str) -> tuple[str, str] | None:
    if found := _OURS.match(line.strip()):
        return found["host"], found["bridge"]
    if (found := _COMMAND.search(line)) and "actions=" not in line:
        words = [word for word in found["rest"].split() if not word.startswith("-") and "=" not in word]
        name = words[0].rpartition("/")[2].removeprefix("unix:").removesuffix(".mgmt") if words else ""
        return "", name
    return None


def _line(number: int, text: str) -> Line:
    try:
        return Line(number, text.strip(), read(text))
    except Damaged as damage:
        return Line(number, text.strip(), None, str(damage))


def rows(lines: Iterable[Line]) -> Iterator[Row]:
    return (line.row for line in lines if line.row)
