"""A topology's file with a small edit, as text: comments, layout and order stay. For tools that propose a change.

An edit is written at the one place that it is about, in the style that it finds there. Then the text is read again, and
must say what the old one says with just this edit; where an alias or a strange layout makes that fail, there is no
text at all rather than a wrong one.
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from controller.model import source

Step = str | int
Value = str | int | bool | None | Sequence[Any] | dict[str, Any]

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN: Final = re.compile(r"(?=.*[A-Za-z./])(?!0x)[A-Za-z0-9][A-Za-z0-9._/-]*")
_FRACTION: Final = re.compile(r"[0-9]*\.[0-9]*")
_WORDS: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_INDENT: Final = 2  # of what begins a section of its own


@dataclass(frozen=True)
class Put:
    """Give what stands at a path this value: a new key of a mapping, or another value of one that is there."""

    path: tuple[Step, ...]
    value: Value


@dataclass(frozen=True)
class Append:
    """Put a value at the end of the list at a path, which may not be there yet."""

    path: tuple[Step, ...]
    value: Value


Edit = Put | Append


def amended(text: str, edits: Sequence[Edit]) -> str | None:
    """The text of a file with edits, one after the other; None where one of them cannot be written."""
    for edit in edits:
        found = _amended(text, edit)
        if found is None:
            return None
        text = found
    return text


def text_of(content: bytes) -> str:
    """A file's content as text; a byte order mark is no part of it."""
    return content.decode("utf-8-sig")


def written(value: Value) -> str:
    """A value on one line of YAML."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and not _FRACTION.fullmatch(value) and value.lower() not in _WORDS
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(key)}: {written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return json.dumps(value)
    return "[" + ", ".join(map(written, value)) + "]"


def _amended(text: str, edit: Edit) -> str | None:
    data = data_of(text)
    wanted = _with(data, edit.path, edit)
    root = yaml.compose(text, Loader=_LOADER)
    if wanted is None or not isinstance(root, MappingNode):
        return None
    newline = "\r\n" if "\r\n" in text else "\n"
    for place, end, words in _tries(_File(text, newline), root, edit):
        made = text[:place] + words + text[end:]
        if data_of(made) == wanted:
            return made
    return None


@lru_cache(maxsize=8)
def data_of(text: str) -> Any:
    """What a file says, as plain data that nobody may change; None if it cannot be read. Kept for who asks again."""
    root = source.read(text.encode()).root
    return root.data if root is not None else None


def _with(data: Any, path: tuple[Step, ...], edit: Edit) -> Any:
    """The data of a file after an edit; None if its path leads nowhere."""
    if not path:
        return [*(data or []), edit.value] if isinstance(edit, Append) else edit.value
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        if not isinstance(data, list) or step >= len(data):
            return None
        inner = _with(data[step], rest, edit)
        return None if inner is None else [*data[:step], inner, *data[step + 1:]]
    if data is not None and not isinstance(data, dict):
        return None
    inner = _with((data or {}).get(step), rest, edit)
    return None if inner is None else {**(data or {}), step: inner}


# ---- places in the text

@dataclass(frozen=True)
class _File:
    text: str
    newline: str

    def after_line(self, place: int) -> int:
        """Where the next line begins; the end of the file if there is none."""
        found = self.text.find("\n", place)
        return len(self.text) if found < 0 else found + 1

    def line(self, place: int, indent: int, words: str) -> tuple[int, int, str]:
        """A line of its own, at a place where a line begins or the file ends."""
        before = "" if place == 0 or self.text[place - 1] == "\n" else self.newline
        return place, place, f"{before}{' ' * indent}{words}{self.newline}"


Try = tuple[int, int, str]  # from, to, and what to put there


def _tries(file: _File, root: Node, edit: Edit) -> Iterator[Try]:
    """Ways to write an edit; the first that reads as it shall is taken."""
    node, rest, value = root, list(edit.path), edit.value
    while rest and (found := _child(node, rest[0])) is not None and not _is_nothing(found):
        node = found
        del rest[0]
    if not rest:
        if isinstance(edit, Append):
            yield from _appended(file, node, value)
        else:
            yield node.start_mark.index, _end(node), written(value)
        return
    # From here on nothing is there: it is made with all that is in it.
    if isinstance(edit, Append):
        value = [value]
    for step in reversed(rest[1:]):
        value = {str(step): value}
    if isinstance(node, MappingNode):
        yield from _added(file, node, str(rest[0]), value, top=node is root)


def _child(node: Node, step: Step) -> Node | None:
    if isinstance(node, MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        found: Node = node.value[step]
        return found
    return None


def _is_nothing(node: Node) -> bool:
    return isinstance(node, ScalarNode) and not node.style and node.value in ("", "~", "null", "Null", "NULL")


def _end(node: Node) -> int:
    """Where the last word of a value ends: a block collection's own mark is at whatever follows it."""
    if not isinstance(node, MappingNode | SequenceNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    if not isinstance(last, tuple):
        return _end(last)
    key, value = last
    return max(_end(key) + 1, _end(value)) if not _is_nothing(value) else _end(key) + 1  # and its colon


def _appended(file: _File, node: Node, value: Value) -> Iterator[Try]:
    if not isinstance(node, SequenceNode):
        return
    if node.flow_style:
        yield from _into_flow(file, node, written(value))
    elif node.value:
        yield file.line(file.after_line(_end(node) - 1), node.start_mark.column, f"- {written(value)}")


def _into_flow(file: _File, node: MappingNode | SequenceNode, words: str) -> Iterator[Try]:
    """Between brackets: after the last one, or as the only one."""
    if node.value:
        last = node.value[-1]
        place = max(map(_end, last)) if isinstance(last, tuple) else _end(last)
        yield place, place, f", {words}"
    close = node.end_mark.index - 1
    yield close, close, f"{', ' if node.value else ''}{words}"


def _added(file: _File, node: MappingNode, key: str, value: Value, *, top: bool) -> Iterator[Try]:
    """A key that a mapping does not have, or has with nothing behind it."""
    own = next((own for own, _ in node.value if own.value == key), None)
    if own is not None:
        yield from _filled(file, node, own, value, top=top)
        return
    words = f"{written(key)}: {written(value)}"
    if node.flow_style:
        yield from _into_flow(file, node, words)
        return
    indent, place = node.start_mark.column, file.after_line(_end(node) - 1)
    if top and isinstance(value, dict):
        lines = [f"{written(key)}:", *_block(value)]
        yield file.line(place, indent, file.newline.join(lines))
    else:
        yield file.line(place, indent, words)


def _filled(file: _File, node: MappingNode, own: Node, value: Value, *, top: bool) -> Iterator[Try]:
    """A value for a key that stands there alone."""
    given = next(one for key, one in node.value if key is own)
    if given.value:
        yield given.start_mark.index, _end(given), written(value)
        return
    colon = file.text.find(":", _end(own)) + 1
    if top and isinstance(value, dict):
        yield file.line(file.after_line(colon), 0, file.newline.join(_block(value)))
    yield colon, colon, f" {written(value)}"


def _block(value: dict[str, Any]) -> list[str]:
    return [f"{' ' * _INDENT}{written(key)}: {written(one)}" for key, one in value.items()]
