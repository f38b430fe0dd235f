"""`tunbridge apply` where a lab runs: the daemon takes a topology, the lab follows. Nothing is loaded but for that."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from controller.tools import anchors, changes, shortcut
from controller.tools.client import wait_for_status
from controller.tools.errors import NO, Refusal
from controller.tools.handover import Handover
from controller.tools.rundir import Rundir

Say = Callable[[str], None]
_SYNC: Final = 60.0  # seconds for all switches to have what the topology wants


def follow(given: Handover, where: Rundir, say: Say) -> bool:
    """Turn the lab that runs into a topology that the daemon accepts, and wait for its flows; False without a lab.

    Refusal if the daemon refuses it, and then nothing changes; or if the lab cannot follow: then the daemon has the
    topology all the same.
    """
    nodes = shortcut.whole(where.path)  # while the daemon reads the file
    answer = changes.accepted(given)
    if not (nodes or anchors.state(where.path)):
        return False
    assert given.content is not None, "the daemon takes nothing that cannot be read"
    try:
        if not shortcut.follow(answer.get("filters"), given.content, where.path, nodes, say):
            _go_the_long_way(given.content, given.file, where.path, say)
    except Refusal as refusal:
        raise Refusal(f"{given.file} is in force, but the lab does not follow. {refusal}", refusal.code) from refusal
    settle(where, say, "`tunbridge status` says why.")
    return True


def lab_follows(answer: Mapping[str, Any], content: bytes, file: str, rundir: Path) -> None:
    """Turn the lab that runs into the topology of a file that the daemon has accepted with this answer, silently."""
    if not shortcut.follow(answer.get("filters"), content, rundir, shortcut.whole(rundir), _nothing):
        _go_the_long_way(content, file, rundir, _nothing)


def _nothing(sentence: str) -> None:
    pass


def _go_the_long_way(content: bytes, file: str, rundir: Path, say: Say) -> None:
    # Only now: a rule that changes is there sooner than all this is loaded.
    from controller.model import reading
    from controller.tools import lab

    topology = reading.parse(content, file).topology
    assert topology is not None, "the daemon takes no invalid one"
    if lab.follow(topology, content, rundir, say):
        shortcut.remember(content, rundir)


def settle(where: Rundir, say: Say, cure: str) -> None:
    """Wait until the switches have what they shall."""
    status = wait_for_status(where, _SYNC, _whole)
    if not _whole(status):
        names = [f"{one['host']}/{one['bridge']}" for one in status["switches"] if not one["in_sync"]]
        raise Refusal(f"The lab is wired, but the daemon lacks {', '.join(names + _missing(status))}. {cure}", NO)
    say(f"Every VM is wired and {len(status['switches'])} switches are in sync.")


def _whole(status: dict[str, Any]) -> bool:
    return bool(status["ok"] and not _missing(status))


def _missing(status: dict[str, Any]) -> list[str]:
    """Ports of VMs, routers and DHCP servers that the switches do not have."""
    return [name for kind in ("ports", "router_ports", "dhcp_ports") for name in status[kind]["missing"]]
