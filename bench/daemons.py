"""A daemon that the measurements start and kill at will, and what it says in its log."""
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from labs import ROOT, environment

SERVED = str(ROOT / "bench" / "served.py")
PATIENCE = 600.0  # seconds
_LINE = re.compile(r"(\S+)Z ([A-Z]+) (.*?)((?: \w+=(?:\"(?:[^\"\\]|\\.)*\"|\S*))*)$")
_WORD = re.compile(r"(\w+)=(\"(?:[^\"\\]|\\.)*\"|\S*)")


@dataclass(frozen=True)
class Event:
    """A line of the daemon's log."""

    at: float  # seconds of the clock on the wall
    event: str
    about: dict[str, str]


def events(text: str) -> Iterator[Event]:
    """The lines of a log that are events."""
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found:
            about = {key: json.loads(value) if value.startswith('"') else value
                     for key, value in _WORD.findall(found[4])}
            yield Event(datetime.fromisoformat(found[1] + "+00:00").timestamp(), found[3], about)


class Daemon:
    """At most one process at a time, in a run directory."""

    def __init__(self, where: Path, hosts: Iterable[str] = ()) -> None:
        self.where = where
        self._hosts = tuple(hosts)
        self._running: subprocess.Popen[bytes] | None = None
        self._log = where / "daemon.log"
        self._read = 0  # bytes of it
        self._events: list[Event] = []

    def start(self, topology: Path) -> float:
        """With a pickled topology. When, by the clock on the wall."""
        assert self._running is None
        at = time.time()
        self._read, self._events = 0, []
        with self._log.open("wb") as log:
            self._running = subprocess.Popen([sys.executable, SERVED, str(topology), str(self.where), *self._hosts],
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                                             env=environment(self.where))
        return at

    def kill(self, number: int = signal.SIGKILL) -> None:
        """It ends, and the flows stay."""
        if self._running is not None:
            self._running.send_signal(number)
            self._running.wait(30)
            self._running = None

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    def events(self) -> list[Event]:
        """All so far, of this process."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            whole, end, _ = log.read().rpartition(b"\n")
        self._read += len(whole + end)
        self._events += events(whole.decode())
        return self._events

    def first(self, event: str, **about: str) -> Event:
        """The first such event; waits for it."""
        return self.wait(1, event, **about)[0]

    def wait(self, count: int, event: str, **about: str) -> list[Event]:
        """Such events, as soon as there are so many."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = [one for one in self.events() if one.event == event and about.items() <= one.about.items()]
            if len(found) >= count:
                return found
            if time.monotonic() > deadline or self._running is None or self._running.poll() is not None:
                sys.exit(f"no {event} {about}; the daemon's log ends with {self._log.read_text()[-2000:]}")
            time.sleep(0.02)

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        return cpu(self.pid)

    def memory(self) -> float:
        """The most that it has held so far, in MiB (proc(5): VmHWM)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def cpu(pid: int) -> float:
    """Seconds of processor time of a process so far (proc(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cache() -> Path:
    """Where what is costly to make is kept from run to run."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunbridge-bench"
    path.mkdir(parents=True, exist_ok=True)
    return path
