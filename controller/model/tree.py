"""YAML's events as a tree of plain data in which every key and value knows its line and column.

Built with a stack of our own: no depth of nesting and no size of alias can exhaust us, and keys that are given twice
are seen. Plain scalars follow YAML 1.2 (so 52:54:00:12:34:56 is text, not a number in base 60) plus the yes/no/on/off
of YAML 1.1; keys are always text.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.events import AliasEvent, DocumentStartEvent, MappingStartEvent, ScalarEvent, SequenceStartEvent

from controller.model.problems import Finding, Position, quoted

MAX_DEPTH: Final = 40  # a topology needs 8
MAX_VALUES: Final = 2_000_000  # aliases counted in full; 100,000 VMs need half of it
START: Final = Position(1, 1)

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,29})|0x[0-9a-fA-F]{1,16}")  # longer ones stay text
_BROKEN: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]{1,3})?")
_WORDS: Final[dict[str, bool | None]] = {
    **{form(word): value for word, value in {"true": True, "yes": True, "on": True, "false": False, "no": False,
                                             "off": False, "null": None}.items()
       for form in (str.lower, str.upper, str.capitalize)},
    "": None, "~": None,
}
_TEXT_TAGS: Final = (None, "!", "tag:yaml.org,2002:str")


@dataclass(slots=True)
class Node:
    """One value of the file: its data, and where it and its key stand."""

    at: Position
    data: Any = None  # str, int, float, bool, None, list or dict, nested
    children: dict[str, Node] | list[Node] | None = None
    key_at: Position | None = None  # of the key it is the value of
    values: int = 1  # how many values it holds, itself included, aliases in full

    @property
    def place(self) -> Position:
        """Where to point when this object as a whole is meant: at its key, if it has one."""
        return self.key_at or self.at

    def child(self, step: str | int) -> Node | None:
        """The value behind a key, or at a place of a list."""
        if isinstance(self.children, dict):
            return self.children.get(str(step))
        if isinstance(self.children, list) and isinstance(step, int) and step < len(self.children):
            return self.children[step]
        return None

    def deepest(self, *path: str | int) -> Node:
        """The value at a path inside this one, or as far down the path as the file goes."""
        node = self
        for step in path:
            node = node.child(step) or node
        return node

    def find(self, *path: str | int) -> Position:
        """Where the value at a path inside this one stands; the deepest part that exists, if it does not."""
        node = self
        for step in path:
            child = node.child(step)
            if child is None:
                return node.place
            node = child
        return node.place if node is self or node.data is None else node.at

    def key_of(self, *path: str | int) -> Position:
        """Where the key of the value at a path stands."""
        return self.deepest(*path).place


class _Stop(Exception):
    """Building stopped; the reason is in the findings."""


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is still being read."""

    node: Node
    anchor: str | None
    key: str | None = None
    key_at: Position | None = None  # set between a key and its value
    seen: set[str] = field(default_factory=set)


class Builder:
    """Turns YAML's events into nodes."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.findings: list[Finding] = []
        self.at = START
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._values = 0
        self._documents = 0

    def build(self, text: str) -> None:
        """Read all of the text. Raises yaml.YAMLError; what is legal YAML but not for us goes to the findings."""
        try:
            for event in yaml.parse(text, _LOADER):
                self._take(event)
        except _Stop:
            self.root = None

    def _take(self, event: Any) -> None:
        self.at = Position(event.start_mark.line + 1, event.start_mark.column + 1)
        kind = type(event)
        if kind is ScalarEvent:
            self._count(1, "TB106", "the file holds too many values")
            self._done(self._scalar(event), event.anchor, event.value)
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            self._open(event, mapping=kind is MappingStartEvent)
        elif kind is AliasEvent:
            self._done(self._alias(event.anchor), None)
        elif kind is DocumentStartEvent:
            self._document()
        elif self._stack and kind.__name__ in ("MappingEndEvent", "SequenceEndEvent"):
            frame = self._stack.pop()
            self._done(frame.node, frame.anchor)

    def _document(self) -> None:
        self._documents += 1
        if self._documents == 2:
            self._find("TB105", "a second YAML document starts here", "one file is one topology; remove the line ---")

    def _open(self, event: Any, *, mapping: bool) -> None:
        self._count(1, "TB106", "the file holds too many values")
        self._check_tag(event.tag, "map" if mapping else "seq")
        if len(self._stack) >= MAX_DEPTH:
            self._find("TB107", f"more than {MAX_DEPTH} levels of nesting")
            raise _Stop
        node = Node(self.at, {}, {}) if mapping else Node(self.at, [], [])
        self._stack.append(_Frame(node, event.anchor))

    def _scalar(self, event: Any) -> Node:
        if event.style in (None, "") and event.implicit[0]:
            return Node(self.at, plain_value(event.value))
        if event.tag not in _TEXT_TAGS:
            self._check_tag(event.tag, "str")
        return Node(self.at, event.value)

    def _alias(self, name: str) -> Node:
        if any(frame.anchor == name for frame in self._stack):
            self._find("TB108", f"the alias {quoted('*' + name)} stands inside its own anchor", "write the value out")
            return Node(self.at)
        meant = self._anchors.get(name)
        if meant is None:
            self._find("TB102", f"the alias {quoted('*' + name)} has no anchor before it")
            return Node(self.at)
        self._count(meant.values, "TB108", f"with the alias {quoted('*' + name)} the file holds too many values")
        return Node(meant.at, meant.data, meant.children, None, meant.values)

    def _done(self, node: Node, anchor: str | None, text: str | None = None) -> None:
        """A value is complete: remember its anchor, and give it to the list or mapping it stands in."""
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._stack:
            if self.root is None and self._documents == 1:
                self.root = node if node.children is not None or node.data is not None else None
            return
        frame = self._stack[-1]
        if isinstance(frame.node.children, list):
            frame.node.children.append(node)
            frame.node.data.append(node.data)
            frame.node.values += node.values
        elif frame.key_at is None:
            frame.key, frame.key_at = self._key(frame, node, text), node.at
        else:
            self._put(frame, node)

    def _put(self, frame: _Frame, node: Node) -> None:
        node.key_at, frame.key_at = frame.key_at, None
        if node.data is None:
            node.at = node.place  # an absent value has no place of its own
        if frame.key is not None and isinstance(frame.node.children, dict):
            frame.node.children[frame.key] = node
            frame.node.data[frame.key] = node.data
            frame.node.values += node.values

    def _key(self, frame: _Frame, node: Node, text: str | None) -> str | None:
        """The key's text; None if its value is not to be kept."""
        if text is None:
            self.findings.append(Finding("TB109", node.at, "a key must be plain text"))
            return None
        if text == "<<":
            self.findings.append(Finding("TB109", node.at, "merge keys (<<) are not supported", "write the keys out"))
            return None
        if text in frame.seen:
            first = frame.node.children[text].place.line if isinstance(frame.node.children, dict) else 0
            hint = f"the first is in line {first}; remove one of them"
            self.findings.append(Finding("TB110", node.at, f"the key {quoted(text)} is given twice", hint))
            return None
        frame.seen.add(text)
        return text

    def _check_tag(self, tag: str | None, usual: str) -> None:
        if tag not in (None, "!", f"tag:yaml.org,2002:{usual}"):
            self._find("TB109", f"the tag {quoted(tag)} is not supported", "remove it")

    def _count(self, more: int, code: str, message: str) -> None:
        self._values += more
        if self._values > MAX_VALUES:
            self._find(code, message, f"the limit is {MAX_VALUES:,}")
            raise _Stop

    def _find(self, code: str, message: str, hint: str = "") -> None:
        self.findings.append(Finding(code, self.at, message, hint))


def plain_value(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means. Numbers with a leading zero stay text: they are ids more often than numbers."""
    if text in _WORDS:
        return _WORDS[text]
    if not (text[0].isdigit() or text[0] in "+-."):
        return text
    if _WHOLE.fullmatch(text):
        return int(text, 16 if text.startswith("0x") else 10)
    return float(text) if _BROKEN.fullmatch(text) else text
