"""A file with a small edit: it says what it shall, and everything else stands as it stood."""
from __future__ import annotations

import random
from typing import Any

import pytest

from controller.model import source
from controller.model.amending import Append, Edit, Put, amended, text_of, written
from tests.clouds import CASES, GOLDEN, ROOT


@pytest.mark.parametrize(("before", "edit", "after"), [
    ("a: [1, 2]  # two\n", Append(("a",), 3), "a: [1, 2, 3]  # two\n"),
    ("a: []\n", Append(("a",), {"x": "z"}), "a: [{x: z}]\n"),
    ("a: [\n  1,  # one\n  2,  # two\n]\n", Append(("a",), 3), "a: [\n  1,  # one\n  2, 3,  # two\n]\n"),
    ("a:\n  - 1  # one\n\n# next\nb: 2\n", Append(("a",), 3), "a:\n  - 1  # one\n  - 3\n\n# next\nb: 2\n"),
    ("a:\n- x: 1\n  y: 2\nb: 2\n", Append(("a",), 3), "a:\n- x: 1\n  y: 2\n- 3\nb: 2\n"),
    ("a:\n  b:  # none\n  c: 1\n", Append(("a", "b"), "x"), "a:\n  b: [x]  # none\n  c: 1\n"),
    ("a: {b: 1}\n", Append(("a", "c"), 2), "a: {b: 1, c: [2]}\n"),
    ("a: {b: 1}  # b\n", Put(("a", "b"), "x"), "a: {b: x}  # b\n"),
    ("a: {b: 1}\n", Put(("a", "c"), "10.0.0.1"), "a: {b: 1, c: 10.0.0.1}\n"),
    ("a: {}\n", Put(("a", "c"), True), "a: {c: true}\n"),
    ("a:\n  b: 1  # one\n\nc: 2\n", Put(("a", "d"), 3), "a:\n  b: 1  # one\n  d: 3\n\nc: 2\n"),
    ("a: 1", Put(("b", "c"), {"x": 1}), "a: 1\nb:\n  c: {x: 1}\n"),
    ("a: 1\nb:\n", Put(("b", "c"), {"x": 1}), "a: 1\nb:\n  c: {x: 1}\n"),
    ("a: ~\n", Append(("a",), 1), "a: [1]\n"),
    ("a: [x, {y: 1}]\n", Put(("a", 0), {"z": "x"}), "a: [{z: x}, {y: 1}]\n"),
    ("a:\r\n  - 1\r\nb: 2\r\n", Append(("a",), 3), "a:\r\n  - 1\r\n  - 3\r\nb: 2\r\n"),
])
def test_an_edit_is_written_in_the_style_of_its_place(before: str, edit: Edit, after: str) -> None:
    assert amended(before, [edit]) == after


@pytest.mark.parametrize(("before", "edit"), [
    ("a: &x [1]\nb: *x\n", Append(("b",), 2)),  # it would change a, too
    ("a: 1\n", Append(("a", "b"), 2)),
    ("a: [1]\n", Put(("a", 5), 2)),
    ("- 1\n", Put(("a",), 2)),
])
def test_what_cannot_be_written_is_not_written(before: str, edit: Edit) -> None:
    assert amended(before, [edit]) is None


@pytest.mark.parametrize("value", ["yes", "No", "null", "~", "1", "0x1f", "1.5", "5.", "", "a b", "fa:16:3e:00:00:01",
                                   "2001:db8::/64", "10.0.0.0/8", "it's", '"', "é", "- a", "#", 7, -1, True, None,
                                   [1, "x"], {"a": [], "yes": {"b": "no"}}])
def test_a_value_is_read_as_it_was_meant(value: Any) -> None:
    root = source.read(f"x: {written(value)}\n".encode()).root
    assert root is not None
    assert root.data == {"x": value}


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert text_of("\ufeffa: 1\n".encode()) == "a: 1\n"


def test_any_place_of_any_topology_can_be_edited_and_all_else_stays(seed: int) -> None:
    pick = random.Random(seed)
    files = [ROOT / "topology.yaml", *(GOLDEN / f"{case}.yaml" for case in CASES)]
    for file in pick.sample(files, 12):
        text = file.read_text()
        root = source.read(text.encode()).root
        assert root is not None
        for path in pick.sample(list(_containers(root.data, ())), 3):
            old = _at(root.data, path)
            edit: Edit = Append(path, {"new": "x"}) if isinstance(old, list) else Put((*path, "new"), ["x", 1])
            made = amended(text, [edit])
            assert made is not None, (file, path)
            kept = [line for line in text.splitlines() if line in made.splitlines()]
            assert len(kept) >= len(text.splitlines()) - 1, (file, path)


def _containers(data: Any, path: tuple[str | int, ...]) -> Any:
    """The paths of all lists and mappings but the whole."""
    if path and isinstance(data, list | dict):
        yield path
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for step, one in inner:
        yield from _containers(one, (*path, step))


def _at(data: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        data = data[step]
    return data
