"""The bytes of a YAML file as plain data in which every key and value knows its line and column.

Built from YAML's events with a stack of our own: no depth of nesting and no size of alias can exhaust us, and
keys that are given twice are seen. Plain scalars follow YAML 1.2 (so 52:54:00:12:34:56 is text, not a number in base
60) plus the yes/no/on/off of YAML 1.1; keys are always text.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.events import AliasEvent, DocumentStartEvent, MappingStartEvent, ScalarEvent, SequenceStartEvent

from controller.model.problems import Finding, Position, quoted

MAX_BYTES: Final = 64 * 1024 * 1024
MAX_DEPTH: Final = 40  # a topology needs 8
MAX_VALUES: Final = 2_000_000  # aliases counted in full; 100,000 VMs need half of it

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LINE_BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # as YAML 1.1 counts lines
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,29})|0x[0-9a-fA-F]{1,16}")  # longer ones stay text
_BROKEN: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]{1,3})?")
_WORDS: Final[dict[str, bool | None]] = {
    **{form(word): value for word, value in {"true": True, "yes": True, "on": True, "false": False, "no": False,
                                             "off": False, "null": None}.items()
       for form in (str.lower, str.upper, str.capitalize)},
    "": None, "~": None,
}
_TEXT_TAGS: Final = (None, "!", "tag:yaml.org,2002:str")
_NOWHERE: Final = Position(1, 1)


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

    def find(self, *path: str | int) -> Position:
        """Where the value at a path inside this one stands; the deepest part that exists, if it does not."""
        node = self
        for step in path:
            child = _child(node, step)
            if child is None:
                return node.place
            node = child
        return node.place if node is self or node.data is None else node.at

    def key_of(self, *path: str | int) -> Position:
        """Where the key of the value at a path stands."""
        node = self
        for step in path:
            node = _child(node, step) or node
        return node.place


@dataclass(frozen=True)
class Document:
    """A file that was read. `root` is None if its YAML cannot be used at all."""

    root: Node | None
    text: str
    findings: tuple[Finding, ...]

    def lines(self) -> list[str]:
        """The file's lines, at least one."""
        return _LINE_BREAK.split(self.text)


def read(content: bytes) -> Document:
    """The file's content as a tree of values, with everything that is wrong with its YAML. Never raises."""
    if len(content) > MAX_BYTES:
        hint = f"a topology may have {MAX_BYTES // 1024 ** 2} MiB; split the cloud"
        return _unusable("", Finding("TB106", _NOWHERE, "the file is too big", hint))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _not_utf8(content, error)
    strange = _UNPRINTABLE.search(text)
    if strange is not None:
        found = f"the character {ascii(strange[0])[1:-1]} must not stand in a YAML file"
        return _unusable(text, Finding("TB115", _position(text, strange.start()), found, "delete it"))
    builder = _Builder()
    try:
        builder.build(text)
    except yaml.YAMLError as error:
        return _unusable(text, *builder.findings, _not_yaml(error, text))
    except ValueError as error:  # such as a %-escape in a tag that is not UTF-8
        return _unusable(text, *builder.findings, Finding("TB102", builder.at, f"not YAML: {error}"))
    if builder.root is None and not builder.findings:
        hint = "start from the topology.yaml that comes with tunbridge"
        return _unusable(text, Finding("TB104", _NOWHERE, "the file is empty", hint))
    return Document(builder.root, text, tuple(builder.findings))


class _Unusable(Exception):
    """Building stopped; the reason is in the findings."""


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is still being read."""

    node: Node
    anchor: str | None
    key: str | None = None
    key_at: Position | None = None  # set between a key and its value
    seen: set[str] = field(default_factory=set)


class _Builder:
    """Turns YAML's events into nodes."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.findings: list[Finding] = []
        self.at = _NOWHERE
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._values = 0
        self._documents = 0

    def build(self, text: str) -> None:
        """Read all of the text. Raises yaml.YAMLError; what is legal YAML but not for us goes to the findings."""
        try:
            for event in yaml.parse(text, _LOADER):
                self._take(event)
        except _Unusable:
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
            raise _Unusable
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
            raise _Unusable

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


def _child(node: Node, step: str | int) -> Node | None:
    if isinstance(node.children, dict):
        return node.children.get(str(step))
    if isinstance(node.children, list) and isinstance(step, int) and step < len(node.children):
        return node.children[step]
    return None


def _unusable(text: str, *findings: Finding) -> Document:
    return Document(None, text, findings)


def _position(text: str, offset: int) -> Position:
    before = _LINE_BREAK.split(text[:offset])
    return Position(len(before), len(before[-1]) + 1)


def _not_utf8(content: bytes, error: UnicodeDecodeError) -> Document:
    good = content[: error.start].decode("utf-8-sig", "replace")
    message = f"the byte 0x{content[error.start]:02x} is not UTF-8"
    # The bad bytes are shown as U+FFFD, so that positions after them need not be exact.
    finding = Finding("TB101", _position(good, len(good)), message, "save the file as UTF-8")
    return _unusable(content.decode("utf-8-sig", "replace"), finding)


def _not_yaml(error: yaml.YAMLError, text: str) -> Finding:
    mark = getattr(error, "problem_mark", None)
    words = str(getattr(error, "problem", None) or "it cannot be read").strip()
    at = Position(mark.line + 1, mark.column + 1) if mark else _NOWHERE
    lines = _LINE_BREAK.split(text)
    line = lines[at.line - 1] if at.line <= len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "\\t" in words or "tab" in words:
        return Finding("TB103", _tab_near(lines, at), "a tab indents this line", "indent with spaces")
    context, start = getattr(error, "context", None), getattr(error, "context_mark", None)
    since = f", {context} that starts in line {start.line + 1}" if context and start else ""
    return Finding("TB102", at, f"not YAML: {words}{since}", "".join(_yaml_hints(words)))


def _tab_near(lines: list[str], at: Position) -> Position:
    for number in (at.line, at.line + 1):
        if number <= len(lines) and "\t" in lines[number - 1]:
            return Position(number, lines[number - 1].index("\t") + 1)
    return at


def _yaml_hints(words: str) -> Iterator[str]:
    if "unexpected ':'" in words:
        yield "an IPv6 address inside { } or [ ] needs quotes"
    elif "mapping values are not allowed" in words:
        yield "a value with a colon and a space needs quotes, or the line is indented wrongly"
    elif "expected ',' or" in words:
        yield "a comma or a closing bracket is missing"
