"""Where the objects of a topology stand in its file, and which object a line belongs to.

A topology keeps the lines of the file that it was read from, but of a value that an edit left as it was, those of an
older file (see `succession`); who wants to point at the file that is there now asks here. Of a large file only what is
asked for is read as YAML: its outline is enough to find it.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from controller.model import source
from controller.model.tree import Node

_SECTION: Final = re.compile(r"([A-Za-z_]\w*):")  # at the beginning of a line
_ENTRY: Final = re.compile(r"( +)(\"[^\"]+\"|'[^']+'|[^\s#:\"'{\[&*-][^\s:]*):(?:\s|$)")
_STEP: Final = re.compile(r"\[(\d+)\]$")
Step = str | int


@dataclass
class Places:
    """Of one file, as it is when it is first looked at."""

    file: str
    _blocks: dict[tuple[str, str], Node | None] = field(default_factory=dict)
    _known: dict[str, int | None] = field(default_factory=dict)

    def line_of(self, path: str) -> int | None:
        """The line of `vms.fw1.ports[1]`, or of the nearest thing around it; None if the file does not have it."""
        if path not in self._known:
            self._known[path] = self._find(path)
        return self._known[path]

    def _find(self, path: str) -> int | None:
        section, _, rest = path.partition(".")
        first, name, steps = self._entry(section, rest)
        if not first:
            return self._whole_line(section, rest)
        block = self._block(section, name) if steps else None
        return first if block is None else first - 1 + block.deepest(name, *steps).place.line

    def path_at(self, line: int) -> str | None:
        """What stands at a line: `vms.fw1.ports[1].ip`; None where there is nothing, or a comment."""
        if not 0 < line <= len(self._lines):
            return None
        text = self._lines[line - 1].strip()
        if not text or text.startswith("#") or self._root is None:
            return None
        return _deepest(self._root, line, "")

    @property
    def last(self) -> int:
        """The number of the last line; 0 if the file cannot be read."""
        return len(self._lines)

    # ---- the outline of the file: its sections, and the entries of each

    @cached_property
    def _text(self) -> str:
        try:
            return Path(self.file).read_text("utf-8", "replace")
        except OSError:
            return ""

    @cached_property
    def _lines(self) -> list[str]:
        return self._text.splitlines()

    @cached_property
    def _outline(self) -> dict[tuple[str, str], int]:
        """(section, entry) -> line, of a file that is laid out in lines."""
        found: dict[tuple[str, str], int] = {}
        section, indent = "", ""
        for number, line in enumerate(self._lines, 1):
            if head := _SECTION.match(line):
                section, indent = head[1], ""
                found[section, ""] = number
            elif section and (entry := _ENTRY.match(line)) and entry[1] == (indent := indent or entry[1]):
                found.setdefault((section, entry[2].strip("\"'")), number)
        return found

    def _entry(self, section: str, rest: str) -> tuple[int, str, list[Step]]:
        """(line, name, further steps) of the entry that a path begins with; names may have dots: the longest wins."""
        words = rest.split(".") if rest else []
        for count in range(len(words), 0, -1):
            last = _STEP.search(words[count - 1])
            name = ".".join(words[:count]).removesuffix(last[0] if last else "")
            if (section, name) in self._outline:
                steps = ([int(last[1])] if last else []) + _steps(words[count:])
                return self._outline[section, name], name, steps
        return (0, "", []) if rest else (self._outline.get((section, ""), 0), section, [])

    def _block(self, section: str, name: str) -> Node | None:
        """An entry as YAML, in lines of its own; None if it does not stand alone."""
        if (section, name) not in self._blocks:
            first = self._outline[section, name]
            indent = len(self._lines[first - 1]) - len(self._lines[first - 1].lstrip())
            stop = first
            while stop < len(self._lines) and _is_within(self._lines[stop], indent):
                stop += 1
            self._blocks[section, name] = source.read("\n".join(self._lines[first - 1:stop]).encode()).root
        return self._blocks[section, name]

    # ---- all of it, where the outline is not enough

    @cached_property
    def _root(self) -> Node | None:
        return source.read(self._text.encode()).root if self._text else None

    def _whole_line(self, section: str, rest: str) -> int | None:
        if self._root is None or self._root.child(section) is None:
            return None
        node = self._root.deepest(section, *_steps(rest.split(".")))
        return node.place.line


def _is_within(line: str, indent: int) -> bool:
    return not line.strip() or len(line) - len(line.lstrip()) > indent


def _steps(words: list[str]) -> list[Step]:
    """`ports[1]` -> ports, 1."""
    found: list[Step] = []
    for word in words:
        place = _STEP.search(word)
        found += [_STEP.sub("", word), int(place[1])] if place else [word]
    return [step for step in found if step != ""]


def _deepest(node: Node, line: int, path: str) -> str | None:
    """The path of the last value that begins at a line or before it, and whose parent does so, too."""
    children = node.children.items() if isinstance(node.children, dict) else enumerate(node.children or ())
    best: tuple[Step, Node] | None = None
    for step, child in children:
        if child.place.line <= line and (best is None or best[1].place.line < child.place.line):
            best = step, child
    if best is None:
        return path or None
    onward = f"{path}[{best[0]}]" if isinstance(best[0], int) else f"{path}.{best[0]}" if path else str(best[0])
    return onward if best[1].place.line == line else _deepest(best[1], line, onward)
