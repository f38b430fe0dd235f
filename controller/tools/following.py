"""`tunbridge apply` where a lab runs: the daemon takes a topology, the lab follows. Nothing is loaded but for that."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from controller.tools import changes, lab, shortcut
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
    if not lab.state(where.path):
        changes.accepted(given)
        return False
    found = changes.read(given)  # while the daemon does the same
    changes.accepted(given, found)
    topology = found.topology
    assert topology is not None and given.content is not None, "the daemon takes no invalid one"
    try:
        if not shortcut.follow(topology, given.content, where.path, say):
            return False
    except Refusal as refusal:
        raise Refusal(f"{given.file} is in force, but the lab does not follow. {refusal}", refusal.code) from refusal
    settle(where, say, "`tunbridge status` says why.")
    return True


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
