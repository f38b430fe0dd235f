"""`tunbridge apply` and `tunbridge recompute`: asking the daemon for a change, and what came of it."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from controller.model import reading
from controller.model.problems import render
from controller.model.source import MAX_BYTES
from controller.tools.client import ask, wait_for_status
from controller.tools.errors import BAD_INPUT, MISSING, NO, Refusal
from controller.tools.rundir import Rundir

STDIN: Final = "-"
_SYNC: Final = 60.0  # seconds for all switches to be in sync again


def apply(where: Rundir, file: str, stdin: IO[bytes]) -> bytes:
    """Hand the daemon a file, or stdin for `-`; returns its content. Refusal with all problems if it is not valid."""
    content = _content(file, stdin)
    _hand_over(where, "apply", file, content)
    return content


def plan(where: Rundir, file: str, stdin: IO[bytes]) -> dict[str, Any]:
    """What `apply` would change (see switch.planning); nothing changes. Refusal if the topology is not valid."""
    return _hand_over(where, "plan", file, _content(file, stdin))


def _hand_over(where: Rundir, verb: str, file: str, content: bytes) -> dict[str, Any]:
    answer = ask(where, {"do": verb, "text": content.decode("utf-8", "surrogateescape"), "source": file})
    if not answer["ok"]:
        problems = reading.parse(content, file).problems  # once more here, for the lines that they point at
        raise Refusal(f"{render(problems)}\nNothing has changed: the old topology stays in force.", BAD_INPUT)
    return answer


def plan_lines(planned: dict[str, Any]) -> Iterator[str]:
    """A plan as a person reads it, with rich's markup: what comes, what goes, who gains or loses whom."""
    for switch in planned["switches"]:
        if switch["add"] or switch["delete"]:
            yield (f"[bold]{switch['host']}/{switch['bridge']}[/bold]  "
                   f"{len(switch['add'])} flows come, {len(switch['delete'])} go")
            for sign, colour, key in (("+", "green", "add"), ("-", "red", "delete")):
                for flow in switch[key]:
                    yield f"  [{colour}]{sign}[/{colour}] table {flow['table']:>2}  {flow['why']}"
    for name in planned["left_alone"]:
        yield f"[yellow]{name}[/yellow] is not in the file: its switches keep their flows and are left alone"
    for word, colour, key in (("gains", "green", "gain"), ("loses", "red", "lose")):
        for source, target in planned[key]:
            yield f"{source} [{colour}]{word}[/{colour}] {target}"
    if not any(switch["add"] or switch["delete"] for switch in planned["switches"]):
        yield "No flow would change now; ports that are not plugged in yet bring theirs later."


def _content(file: str, stdin: IO[bytes]) -> bytes:
    try:
        if file == STDIN:
            content = stdin.read(MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(MAX_BYTES + 1)
    except (OSError, ValueError):
        raise Refusal(render(reading.load(file).problems), BAD_INPUT) from None
    if len(content) > MAX_BYTES:
        raise Refusal(render(reading.parse(content, file).problems), BAD_INPUT)
    return content


def recompute(where: Rundir) -> int:
    """How many flow-mods were needed to put everything in order.

    Refusal if no switch is connected, or if one does not come in sync.
    """
    before = ask(where, {"do": "status"})
    if not _connected(before):
        raise Refusal("No switch is connected, so there is nothing to read. Look at `tunbridge status`.", MISSING)
    ask(where, {"do": "recompute"})
    after = wait_for_status(where, _SYNC, lambda found: all(one["in_sync"] for one in _connected(found)))
    late = [f"{one['host']}/{one['bridge']}" for one in _connected(after) if not one["in_sync"]]
    if late:
        raise Refusal(f"Not in sync: {', '.join(late)}. `tunbridge status` says why.", NO)
    return _written(after) - _written(before)


def _connected(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [switch for switch in status["switches"] if switch["connected"]]


def _written(status: dict[str, Any]) -> int:
    counters = [switch["counters"] for switch in _connected(status)]
    return sum(one["added"] + one["deleted"] + one["forgotten"] for one in counters)
