"""How an Open vSwitch that has died is started again: in which order, and the same on a real host as in a lab."""
from __future__ import annotations

import os
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from controller.host import daemons, processes
from controller.host.converge import TRACKING
from controller.host.steps import Step

ROOT = Path(__file__).resolve().parents[2]


def unit(key: str) -> list[tuple[str, ...]]:
    """The commands of a key of the systemd unit, by their names instead of their paths."""
    lines = (ROOT / "docs" / "tunbridge-ovs-vswitchd.conf").read_text().splitlines()
    found = (shlex.split(line.partition("=")[2].removeprefix("-")) for line in lines if line.startswith(f"{key}="))
    return [(Path(words[0]).name, *words[1:]) for words in found]


def test_a_switch_waits_from_its_start(tmp_path: Path) -> None:
    steps = list(daemons.revival(tmp_path))
    assert [step.argv[0] for step in steps] == ["ovsdb-server", "ovs-vsctl", "ovs-vswitchd"]
    assert steps[1] == daemons.hold()
    assert "other_config:flow-restore-wait=true" in steps[1].argv
    assert daemons.release().argv[-3:] == (".", "other_config", "flow-restore-wait")


def test_a_switch_that_runs_is_not_held(tmp_path: Path) -> None:
    """Its database alone has died; the switch would not wait, and must not be found waiting at its next start."""
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "OVS_RUNDIR": str(tmp_path)}) as switch:
        try:
            (tmp_path / "ovs-vswitchd.pid").write_text(f"{switch.pid}\n")
            deadline = time.monotonic() + 10
            while not processes.environment_has(switch.pid, f"OVS_RUNDIR={tmp_path}"):  # the kernel shows it late
                assert time.monotonic() < deadline
            assert daemons.missing(tmp_path) == (daemons.DATABASE,)
            assert [step.argv[0] for step in daemons.revival(tmp_path)] == ["ovsdb-server"]
        finally:
            switch.kill()


@pytest.mark.parametrize(("key", "steps"), [
    ("ExecStartPre", (daemons.hold(),)),
    ("ExecStartPost", (*TRACKING, Step(("tunbridge", "fill", "--wait", "10"), "as the lab"), daemons.release()))])
def test_the_unit_of_a_real_host_does_what_the_lab_does(key: str, steps: tuple[Step, ...]) -> None:
    assert unit(key) == [step.argv for step in steps]


def test_the_unit_leaves_no_switch_waiting_whatever_fails() -> None:
    assert unit("ExecStopPost") == [(*daemons.release().argv[:2], "--no-wait", *daemons.release().argv[2:])]
