"""`tunbridge run`: the daemon in the foreground. Locks, logs and signals; the rest is `switch.app`."""
from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from controller.model import reading
from controller.model.problems import render
from controller.model.topology import Topology
from controller.tools.errors import BAD_INPUT, MISSING, Refusal
from controller.tools.rundir import Rundir, make

LOG: Final = logging.getLogger("tunbridge")
DEFAULT_LISTEN: Final = "tcp:127.0.0.1:6653"


@dataclass(frozen=True)
class Options:
    """What `tunbridge run` was asked for."""

    file: str
    where: Rundir
    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    hosts: tuple[str, ...] = ()
    verbose: bool = False


def valid(file: str) -> Topology:
    """The topology of a file. Refusal with all its problems if it is not valid."""
    found = reading.load(file)
    if found.topology is None:
        raise Refusal(render(problem for problem in found.problems if problem.severity == "error"), BAD_INPUT)
    return found.topology


def tcp_addresses(listen: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """`tcp:127.0.0.1:6653` -> ("127.0.0.1", 6653); `none` -> nothing. Refusal for anything else."""
    found = []
    for word in listen:
        if word == "none":
            continue
        scheme, _, rest = word.partition(":")
        address, _, port = rest.rpartition(":")
        if scheme != "tcp" or not address or not port.isdecimal() or int(port) > 65535:
            raise Refusal(f"--listen {word} is not understood: write tcp:ADDRESS:PORT, or none.", BAD_INPUT)
        found.append((address.strip("[]"), int(port)))
    return tuple(found)


def run(options: Options) -> None:
    """Serve switches until SIGTERM or SIGINT; SIGHUP reads the file again. The flows stay in place at the end."""
    topology = valid(options.file)
    tcp = tcp_addresses(options.listen)
    serve = _served(topology, options.hosts)
    make(options.where)
    with _lock(options.where):
        errors = _log_to_stderr(options.verbose)
        # os-ken's other hub, native threads, would put our one-thread sessions under locks.
        warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
        os.environ["OSKEN_HUB_TYPE"] = "eventlet"  # read by os-ken when it is imported
        from controller.switch import app as switch_app
        from controller.switch.fleet import Fleet

        def prepare(app: Any, stop: Callable[[], None]) -> dict[int, Callable[[], None]]:
            errors.tell = app.control.count_error
            LOG.info("ready topology=%s hosts=%d listening=%s", options.file, len(topology.hosts),
                     ",".join(app.control.listening))
            return {signal.SIGTERM: stop, signal.SIGINT: stop,
                    signal.SIGHUP: lambda: _reload(app.control, options.file)}

        listeners = switch_app.Listeners(options.where.openflow, options.where.control, tcp)
        try:
            switch_app.run(Fleet(topology, serve), listeners, prepare)
        except switch_app.CannotListen as error:
            raise Refusal(str(error), MISSING) from None
        LOG.info("stopped flows=\"stay in place\"")


def _served(topology: Topology, hosts: tuple[str, ...]) -> frozenset[str] | None:
    for name in hosts:
        if name not in topology.hosts:
            raise Refusal(f"--host {name}: the topology has no such host, only {', '.join(topology.hosts)}.", BAD_INPUT)
    return frozenset(hosts) or None


def _reload(control: Any, file: str) -> None:
    try:
        text = Path(file).read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        LOG.error("reload refused=%s why=%s", file, error.strerror)
        return
    answer = control.apply(text, file)
    if not answer["ok"]:
        LOG.warning("reload refused file=%s problems=%d cure=\"tunbridge check\"", file, len(answer["problems"]))


@contextlib.contextmanager
def _lock(where: Rundir) -> Iterator[None]:
    """One daemon per run directory; the kernel releases the lock whatever the daemon's end."""
    descriptor = os.open(where.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pid = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise Refusal(f"A daemon (process {pid}) already runs at {where.path}. Stop it, or choose another --rundir.",
                      MISSING) from None
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


class _OneLine(logging.Formatter):
    """`2026-11-21T10:00:00.123Z INFO event key=value`; a traceback stays on the line of its event."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", " | ")


class _Errors(logging.Handler):
    """Tells whoever listens of every line logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.tell: Callable[[], None] = lambda: None

    def emit(self, record: logging.LogRecord) -> None:
        self.tell()


def _log_to_stderr(verbose: bool) -> _Errors:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    errors = _Errors()
    root = logging.getLogger()
    root.handlers[:] = [handler, errors]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for chatty in ("os_ken.base.app_manager", "ofp_event", "os_ken"):
        logging.getLogger(chatty).setLevel(logging.DEBUG if verbose else logging.WARNING)
    return errors
