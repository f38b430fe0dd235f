"""Faults, and what they are made of: daemons that hurry, two of them, one that lives again and again, a small disk."""
from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from labkit import ROOT, Cloud, service_controllers, until

from controller.tools import client

HASTY = (sys.executable, str(Path(__file__).with_name("hasty_daemon.py")))
HOSTS = "c1", "c2"


def obey(running: Cloud, text: str) -> None:
    """The daemon alone has another topology; the lab stays as it is."""
    assert client.ask(running.where, {"do": "apply", "text": text, "source": str(running.file)})["ok"]


def switch(running: Cloud, name: str) -> dict[str, Any]:
    return next(one for one in running.status()["switches"] if f"{one['host']}/{one['bridge']}" == name)


def all_in_sync(running: Cloud) -> bool:
    """Never mind the ports that nobody has plugged in."""
    return bool(running.status()["ok"])


def log(running: Cloud) -> list[str]:
    return running.log.read_text().splitlines()


@contextlib.contextmanager
def later(running: Cloud, *words: str) -> Iterator[Callable[[], bool]]:
    """Whether the daemon's log has any of these since."""
    lines = len(log(running))
    yield lambda: any(word in line for line in log(running)[lines:] for word in words)


def rows(running: Cloud) -> int:
    """Flows of br-tun on c1."""
    words = running.run("c1", "ovs-ofctl", "-O", "OpenFlow14", "dump-aggregate", "br-tun")
    return int(words.rpartition("flow_count=")[2].split()[0])


@contextlib.contextmanager
def small_disk() -> Iterator[Path]:
    """A directory on a disk of 256 KiB, to be there before the lab is: its hosts see no disk that comes later."""
    made = Path(tempfile.mkdtemp(prefix="tb", dir="/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tunbridge", made], check=True)
    try:
        yield made
    finally:
        subprocess.run(["umount", made], check=True)
        made.rmdir()


@contextlib.contextmanager
def another_daemon(running: Cloud, rundir: Path) -> Iterator[Cloud]:
    """A daemon elsewhere, with the same topology."""
    made = Cloud(running.file.read_text(), daemon=HASTY, rundir=rundir)
    try:
        yield made
    finally:
        if made.daemon:
            made.kill_daemon()
        print(made.log.read_text())
        for path in rundir.iterdir():
            path.unlink()


def controllers(running: Cloud, *names: str, hosts: Iterable[str] = HOSTS) -> None:
    """Both bridges of these hosts have these controllers: links in their own run directories. A new one is called at
    once, where one that was lost would be called again after a second.
    """
    for host in hosts:
        targets = [f"unix:{running.rundir}/lab/{host}/{name}.sock" for name in names]
        running.run(host, "ovs-vsctl", "--timeout=10", "--no-wait", *(
            word for bridge in ("br-int", "br-tun") for word in service_controllers(bridge, *targets)))


@contextlib.contextmanager
def switches_know(running: Cloud, other: Cloud) -> Iterator[None]:
    """The switches find another daemon by a link named `other` meanwhile."""
    links = [running.rundir / "lab" / host / "other.sock" for host in HOSTS]
    for link in links:
        link.symlink_to(other.where.openflow)
    try:
        yield
    finally:
        controllers(running, "tunbridge")
        for link in links:
            link.unlink()


class Nursery:
    """Daemons that begin as they would be after a second or two of reading; see hasty_daemon.py."""

    def __init__(self, running: Cloud, crowd: int) -> None:
        self._where, self._latest = running.where, 0
        command = [*HASTY, "lives", str(running.rundir), str(running.file), str(crowd)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=running.log.open("a"), env={**os.environ, "PYTHONPATH": str(ROOT)})

    def start(self, topology: str) -> None:
        """A daemon; returns when switches may come."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{topology}\n".encode())
        self._process.stdin.flush()
        assert select.select([self._process.stdout], [], [], 60)[0], "the nursery does not answer"
        self._latest = int(self._process.stdout.readline())
        until(self._listens, "it listens")

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(str(self._where.control)) == 0

    def kill(self) -> None:
        """End the daemon that was started last."""
        if self._latest:
            os.kill(self._latest, signal.SIGKILL)
            until(lambda: not Path(f"/proc/{self._latest}").exists(), "it is gone")
        self._latest = 0

    def close(self) -> None:
        self.kill()
        self._process.kill()
        self._process.communicate()
