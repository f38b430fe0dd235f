"""Our commands as a person runs them: in a process of their own, with a run directory of their own."""
from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TUNBRIDGE = (sys.executable, "-m", "controller")
PATIENCE = 60  # seconds; only something that hangs needs them
# A stranger to this machine who may read every file, so that our Python is found wherever it is.
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_read_search",
          "--ambient-caps=+dac_read_search", "--bounding-set=-all,+dac_read_search")


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    arguments: tuple[str, ...]
    code: int
    out: str
    words: str  # on stderr

    def refused(self, code: int, *parts: str) -> None:
        """It ended with this code, said these things on stderr, and showed no traceback."""
        assert self.code == code, self
        assert "Traceback" not in self.out + self.words, self
        missing = [part for part in parts if part not in self.words]
        assert not missing, f"{missing} is not in {self}"


@contextmanager
def place() -> Iterator[Path]:
    """A directory with a short path: a Unix socket's has 107 bytes, and pytest's tmp_path may be long."""
    made = Path(tempfile.mkdtemp(prefix="tb", dir="/tmp"))
    made.chmod(0o755)  # also for nobody
    try:
        yield made
    finally:
        made.chmod(0o755)  # also if a test has taken it from itself
        shutil.rmtree(made)


def start(*arguments: str, rundir: Path, before: tuple[str, ...] = (), **more: Any) -> subprocess.Popen[str]:
    """Begin a command of ours."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TUNBRIDGE_RUNDIR": str(rundir), **streams.pop("env", {})}
    streams.setdefault("cwd", ROOT)
    return subprocess.Popen([*before, *TUNBRIDGE, *arguments], text=True, env=environment, **streams)


def finish(process: subprocess.Popen[str], given: str | None = None) -> Done:
    """Its end."""
    arguments = tuple(process.args[process.args.index("controller") + 1:])
    try:
        out, words = process.communicate(given, timeout=PATIENCE)
    finally:
        process.kill()
    return Done(arguments, process.returncode, out or "", words or "")


def run(*arguments: str, rundir: Path, **more: Any) -> Done:
    """A command of ours, from its start to its end."""
    return finish(start(*arguments, rundir=rundir, **more))


class Daemon:
    """A daemon in the background."""

    def __init__(self, rundir: Path, file: Path, *arguments: str) -> None:
        self.rundir = rundir
        self.log = rundir / "log"
        before = self.words().count(" INFO ready") if self.log.exists() else 0
        with self.log.open("a") as log:
            self.process = start("run", str(file), *(arguments or ("--listen", "none")), rundir=rundir, stderr=log,
                                 stdout=log)
        assert self.waits_for("ready", before + 1), self.words()

    def words(self) -> str:
        return self.log.read_text()

    def waits_for(self, event: str, times: int = 1) -> bool:
        """Whether the log gets so many lines with this event before the daemon ends or patience does."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if sum(f" {event}" in line for line in self.words().splitlines()) >= times:
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.02)
        return False

    def has_closed(self, most: int) -> bool:
        """Whether at most so many files are open before patience ends."""
        deadline = time.monotonic() + PATIENCE
        while self.files() > most and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.files() <= most

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def memory(self) -> int:
        """Its resident set in bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def files(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def asks(self, line: bytes) -> bytes:
        """What its control socket answers."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(self.rundir / "control.sock"))
            sock.sendall(line)
            sock.shutdown(socket.SHUT_WR)
            return sock.makefile("rb").read()


@contextmanager
def daemon(rundir: Path, file: Path, *arguments: str) -> Iterator[Daemon]:
    """A daemon that is gone at the end, and said nothing that is no log line."""
    made = Daemon(rundir, file, *arguments)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.end()
    assert "Traceback" not in made.words(), made.words()
