"""The two daemons of a hypervisor's own Open vSwitch: whether they run, how they are ended and started again.

An ovs-vswitchd that starts again has forgotten its flows, what it knew of neighbours, and how connections are tracked.
Until it has all that again it waits (`flow-restore-wait`): it makes its bridges and ports, but no packet passes (with
the kernel's datapath: what passed before does) and no controller is called. Who starts it gives it its footing, and has
the daemon fill its bridges. Let go, it calls the daemon, which finds that nothing is to do.
"""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from controller.host import processes
from controller.host.steps import Step

DATABASE: Final = "ovsdb-server"
SWITCH: Final = "ovs-vswitchd"
PROGRAMS: Final = (DATABASE, SWITCH)  # in the order in which they start
_WAITS: Final = "flow-restore-wait"  # ovs-vswitchd.conf.db(5), Open_vSwitch, other_config


def pid(rundir: Path, program: str) -> int | None:
    """The daemon whose pid file lies in a run directory; None if it does not run, whoever has its pid now."""
    try:
        found = int((rundir / f"{program}.pid").read_text())
    except (FileNotFoundError, ValueError):
        return None
    alive = processes.start_time(found) is not None
    return found if alive and processes.environment_has(found, f"OVS_RUNDIR={rundir}") else None


def missing(rundir: Path) -> tuple[str, ...]:
    """The daemons that should run and do not."""
    return tuple(program for program in PROGRAMS if pid(rundir, program) is None)


def end(rundir: Path, program: str, *, hard: bool) -> None:
    """End a daemon and wait until it is gone; fine if it does not run."""
    found = pid(rundir, program)
    if found is not None:
        processes.end((found,), lambda now: processes.environment_has(now, f"OVS_RUNDIR={rundir}"), hard=hard)


def start(rundir: Path, program: str) -> Step:
    """The step that starts a daemon on the database it had; to be run in the hypervisor."""
    database = str(rundir / "conf.db"), f"--remote=punix:{rundir / 'db.sock'}"
    more = database if program == DATABASE else ("--disable-system-route",)  # see underlay.userspace
    return Step((program, *more, "--detach", "--no-chdir", "--pidfile", "--log-file", "-vconsole:off"),
                f"start {program} again")


def waiting(rundir: Path) -> Path:
    """A file that is there while an ovs-vswitchd waits: who was to let it go may have died before."""
    return rundir / _WAITS


def revival(rundir: Path) -> Iterator[Step]:
    """Start what is missing; an ovs-vswitchd then waits until `release` lets it go."""
    gone = missing(rundir)
    if DATABASE in gone:
        yield start(rundir, DATABASE)
    if SWITCH in gone:
        yield hold()
        yield start(rundir, SWITCH)


def hold() -> Step:
    """The step after which an ovs-vswitchd that starts waits; one that runs takes no notice."""
    return Step(("ovs-vsctl", "--timeout=10", "--no-wait", "set", "Open_vSwitch", ".", f"other_config:{_WAITS}=true"),
                "ovs-vswitchd shall forward nothing before it has its footing")


def held() -> Step:
    """The step that prints "true" if ovs-vswitchd waits, or is to."""
    return Step(("ovs-vsctl", "--timeout=10", "--if-exists", "get", "Open_vSwitch", ".", f"other_config:{_WAITS}"),
                "does ovs-vswitchd wait?")


def release() -> Step:
    """The step that lets a waiting ovs-vswitchd go; fine if it does not wait."""
    return Step(("ovs-vsctl", "--timeout=10", "remove", "Open_vSwitch", ".", "other_config", _WAITS),
                "ovs-vswitchd has its footing: let it go")
