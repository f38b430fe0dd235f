"""The bytes of a file as a tree of values, or what is wrong with them as YAML."""
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml

from controller.model.bounds import MAX_BYTES
from controller.model.problems import Finding, Position
from controller.model.tree import START, Builder, Node

_LINE_BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # as YAML 1.1 counts lines
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


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
        return _unusable("", Finding("TB106", START, "the file is too big", hint))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _not_utf8(content, error)
    strange = _UNPRINTABLE.search(text)
    if strange is not None:
        found = f"the character {ascii(strange[0])[1:-1]} must not stand in a YAML file"
        return _unusable(text, Finding("TB115", _position(text, strange.start()), found, "delete it"))
    builder = Builder()
    try:
        builder.build(text)
    except yaml.YAMLError as error:
        return _unusable(text, *builder.findings, _not_yaml(error, text))
    except ValueError as error:  # such as a %-escape in a tag that is not UTF-8
        return _unusable(text, *builder.findings, Finding("TB102", builder.at, f"not YAML: {error}"))
    if builder.root is None and not builder.findings:
        hint = "start from the topology.yaml that comes with tunbridge"
        return _unusable(text, Finding("TB104", START, "the file is empty", hint))
    return Document(builder.root, text, tuple(builder.findings))


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
    at = Position(mark.line + 1, mark.column + 1) if mark else START
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
