"""Every command of README's "Seven things to try" does what it says, in its order."""
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from labkit import PATIENCE, ROOT

from controller.tools import client
from controller.tools.rundir import Rundir

pytestmark = pytest.mark.system


def commands() -> Iterator[tuple[str, int]]:
    """(command, exit code) of each line of the section; `# exit code 1` behind a command says which it is."""
    section = (ROOT / "README.md").read_text().split("## Seven things to try")[1].split("\n## ")[0]
    for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL):
        for line in block.splitlines():
            command, _, remark = line.partition(" # ")
            code = re.search(r"exit code (\d)", remark)
            yield command.strip(), int(code[1]) if code else 0


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory with a `tunbridge` to call, and room for a run directory."""
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        script = Path(name) / "tunbridge"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m controller "$@"\n')
        script.chmod(0o755)
        yield Path(name)


def test_the_seven_things_of_the_readme_work_in_their_order(home: Path) -> None:
    found = list(commands())
    assert len(found) >= 15
    environment = {**os.environ, "TUNBRIDGE_RUNDIR": str(home / "run"), "PATH": f"{home}:{os.environ['PATH']}"}
    daemon: subprocess.Popen[bytes] | None = None
    try:
        for command, code in found:
            command = command.replace("/tmp/", f"{home}/")
            if command == "tunbridge run":
                daemon = subprocess.Popen(["tunbridge", "run", "--listen", "none"], cwd=ROOT, env=environment,
                                          stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                client.wait_for_status(Rundir(home / "run"), PATIENCE, lambda _: True)
            elif not command.startswith("export "):
                done = subprocess.run(["sh", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True,
                                      stdin=subprocess.DEVNULL, timeout=120)
                assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    finally:
        subprocess.run(["tunbridge", "lab", "down"], cwd=ROOT, env=environment, timeout=60, check=True)
        if daemon:
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(PATIENCE) == 0


def test_the_demo_shows_what_it_promises_and_leaves_nothing_running(home: Path) -> None:
    environment = {**os.environ, "TUNBRIDGE_RUNDIR": str(home / "run"), "PATH": f"{home}:{os.environ['PATH']}"}
    done = subprocess.run(["tunbridge", "demo"], cwd=ROOT, env=environment, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for promise in ("all as the topology says", "One packet's way", "tunnel id 1001 between them",
                    "Another's, to another network", "tunnel id 1001 to network1, r1, tunnel id 1003 to compute2",
                    "Look further"):
        assert promise in done.stdout
    assert sorted(path.name for path in (home / "run").iterdir()) == ["daemon.lock", "daemon.log"]
    assert "Traceback" not in (home / "run" / "daemon.log").read_text()
    assert subprocess.run(["tunbridge", "status"], cwd=ROOT, env=environment, capture_output=True,
                          timeout=60).returncode == 3
