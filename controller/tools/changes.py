"""`tunbridge apply` and `tunbridge recompute`: asking the daemon for a change, and what came of it."""
from __future__ import annotations

from typing import IO, Any, Final

from controller.tools.client import ask, wait_for_status
from controller.tools.errors import BAD_INPUT, MISSING, NO, Refusal
from controller.tools.handover import Handover, hand_over
from controller.tools.rundir import Rundir

_SYNC: Final = 60.0  # seconds for all switches to be in sync again


def plan(where: Rundir, file: str, stdin: IO[bytes]) -> dict[str, Any]:
    """What `apply` would change (see switch.planning); nothing changes. Refusal if the topology is not valid."""
    return accepted(hand_over(where, "plan", file, stdin))


def accepted(given: Handover) -> dict[str, Any]:
    """The daemon's answer, when it has come. Refusal with all problems if the topology is not valid."""
    answer = given.answer()
    if not answer["ok"]:
        words = _problems(given)  # the daemon does not send the lines that they point at
        unchanged = "" if given.content is None else "\nNothing has changed: the old topology stays in force."
        raise Refusal(f"{words}{unchanged}", BAD_INPUT)
    return answer


def _problems(given: Handover) -> str:
    """What is wrong with a file. One that is not there, or too large, has that as its problem."""
    # Only here: what reads a topology takes longer to load than the daemon to answer.
    from controller.model import problems, reading

    found = reading.load(given.file) if given.content is None else reading.parse(given.content, given.file)
    return problems.render(found.problems)


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
