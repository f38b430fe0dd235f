"""The two daemons of a hypervisor's own Open vSwitch: whether they run, how they are ended and started again."""
from __future__ import annotations

from pathlib import Path

from controller.host import processes
from controller.host.steps import Step

PROGRAMS = ("ovsdb-server", "ovs-vswitchd")  # in the order in which they start


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
    more = (str(rundir / "conf.db"), f"--remote=punix:{rundir / 'db.sock'}") if program == "ovsdb-server" else ()
    return Step((program, *more, "--detach", "--no-chdir", "--pidfile", "--log-file", "-vconsole:off"),
                f"start {program} again")
