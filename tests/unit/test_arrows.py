"""The layers of the house: arrows point down only, and each library has its one room."""
from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BANNED_IN_FLOWS = {"os", "socket", "subprocess", "time", "random", "logging", "threading"}
OURS_BELOW = {  # what of ours a room may import
    "flows": {"flows"},
    "controller/model": {"flows", "controller.model"},
    "controller/switch": {"flows", "controller.model", "controller.switch"},
    "controller/host": {"flows", "controller.model", "controller.host"},
    "controller/tools": {"flows", "controller.model", "controller.switch", "controller.host", "controller.tools"},
    "controller": {"controller.tools"},
    "mininet": set(),
}
THEIRS = {  # library -> the places that may import it
    "pydantic": ("controller/",),
    "pydantic_core": ("controller/",),
    "yaml": ("controller/model/",),
    "os_ken": ("controller/switch/wire.py", "controller/switch/answers.py", "controller/switch/listing.py",
               "controller/switch/nicira.py", "controller/switch/inquiries.py", "controller/switch/app.py",
               "controller/switch/serving.py"),
    "eventlet": ("controller/switch/sockets.py", "controller/switch/alarm.py", "controller/switch/app.py",
                 "controller/switch/signals.py", "controller/switch/caches.py", "controller/switch/line.py",
                 "controller/switch/inquiries.py", "controller/switch/aside.py",
                 "controller/switch/watching.py", "controller/switch/serving.py"),
    "ovs": ("controller/tools/",),
    "rich": ("controller/tools/",),
    "typer": ("controller/tools/",),
    "mininet": ("mininet/",),
}


def modules(*rooms: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for room in rooms for path in (ROOT / room).rglob("*.py"))


@cache
def nodes(path: str) -> tuple[ast.AST, ...]:
    """Imports and calls, anywhere in a file."""
    every = ast.walk(ast.parse((ROOT / path).read_text()))
    return tuple(node for node in every if isinstance(node, ast.Import | ast.ImportFrom | ast.Call))


def imported(path: str) -> Iterator[str]:
    """The dotted names of the modules a file imports, at its top or anywhere in it."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


@pytest.mark.parametrize("path", modules("flows", "controller", "mininet"))
def test_arrows_point_down(path: str) -> None:
    room = next(str(above) for above in Path(path).parents if str(above) in OURS_BELOW)
    upward = {name for name in imported(path) if is_within(name, {"flows", "controller", "tests"})}
    assert not {name for name in upward if not is_within(name, OURS_BELOW[room])}


@pytest.mark.parametrize("path", modules("flows", "controller", "mininet"))
def test_each_library_is_imported_in_its_room_only(path: str) -> None:
    strangers = {name.split(".")[0] for name in imported(path)} - sys.stdlib_module_names - {"flows", "controller"}
    if path.startswith("mininet/"):  # run by path, so that a neighbour is imported by its bare name
        strangers -= {neighbour.stem for neighbour in (ROOT / "mininet").glob("*.py")}
    assert not {name for name in strangers if not path.startswith(THEIRS.get(name, ()))}


@pytest.mark.parametrize("path", modules("flows"))
def test_flows_know_no_machine(path: str) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & BANNED_IN_FLOWS
    assert not set(called(path)) & {"open", "print", "input", "exec", "eval"}


@pytest.mark.parametrize("path", modules("controller"))
def test_only_the_command_line_prints(path: str) -> None:
    assert path.startswith("controller/tools/commands/") or "print" not in called(path)


@pytest.mark.parametrize("path", [path for path in modules("flows", "controller") if path.endswith("__init__.py")])
def test_a_package_file_holds_a_docstring_and_nothing_else(path: str) -> None:
    assert [type(node) for node in ast.parse((ROOT / path).read_text()).body] in ([], [ast.Expr])


def test_our_testbed_does_not_shadow_the_mininet_package() -> None:
    assert not (ROOT / "mininet/__init__.py").exists()
    assert not {Path(path).stem for path in modules("mininet")} & sys.stdlib_module_names


@pytest.mark.parametrize("path", modules("controller/tools"))
def test_what_a_command_does_knows_nothing_of_the_command_line(path: str) -> None:
    above = path == "controller/tools/cli.py" or path.startswith("controller/tools/commands/")
    assert above or not {name for name in imported(path) if is_within(name, {"controller.tools.commands"})}


def called(path: str) -> list[str]:
    """The names of the plain functions a file calls."""
    calls = (node for node in nodes(path) if isinstance(node, ast.Call))
    return [call.func.id for call in calls if isinstance(call.func, ast.Name)]
