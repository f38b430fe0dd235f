"""A run directory with a lab in it, of which nothing may be left when the test is over. No daemon is needed."""
from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from controller.host import processes
from controller.model.topology import Topology
from controller.tools import lab


class Site:
    """A run directory, and the lab that may be in it."""

    def __init__(self) -> None:
        self.rundir = Path(tempfile.mkdtemp(prefix="tbl", dir="/tmp"))
        self.said: list[str] = []

    def build(self, cloud: Topology) -> None:
        lab.up(cloud, self.rundir, self.said.append)

    def down(self) -> None:
        lab.down(self.rundir, self.said.append)

    def run(self, node: str, *command: str) -> subprocess.CompletedProcess[str]:
        argv, environment = lab.exec_argv(self.rundir, node, command)
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def switch_by_hand(self) -> None:
        """Bridges of these tests learn and flood by themselves: what is tested is the lab, not the daemon."""
        for host in (name for name, node in lab.state(self.rundir).items() if node.kind == "hypervisor"):
            for bridge in self.run(host, "ovs-vsctl", "list-br").stdout.split():
                assert self.run(host, "ovs-ofctl", "add-flow", bridge, "actions=NORMAL").returncode == 0

    def reaches(self, vm: str, address: str) -> bool:
        return self.run(vm, "ping", "-n", "-c", "1", "-W", "1", address).returncode == 0

    def pids(self) -> dict[int, int]:
        return processes.of_lab(lab.directory(self.rundir))


def kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


_Site = TypeVar("_Site", bound=Site)


@contextlib.contextmanager
def site(made: _Site) -> Iterator[_Site]:
    """Whatever a test does to its lab: afterwards nothing of it may be left."""
    before = set(os.listdir("/sys/class/net"))
    rooms: set[str | None] = set()
    try:
        yield made
        rooms = {processes.namespace(pid) for pid in made.pids()} - {processes.namespace(os.getpid())}
    finally:
        made.down()
        left = made.pids()
        exists = lab.directory(made.rundir).exists()
        shutil.rmtree(made.rundir)
    assert not left
    assert not exists
    assert set(os.listdir("/sys/class/net")) - before == set()
    everyone = {processes.namespace(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    assert not rooms & everyone, "no process holds a namespace of the lab"
