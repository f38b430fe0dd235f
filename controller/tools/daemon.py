"""`tunbridge run`: the daemon in the foreground. Locks, logs and signals; the rest is `switch.serving`."""
from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import resource
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from controller.model import placement
from controller.model.topology import Topology
from controller.tools import filters, garbage, nodes, topologies, troubles
from controller.tools.errors import BAD_INPUT, MISSING, Refusal
from controller.tools.rundir import Rundir, make

LOG: Final = logging.getLogger("tunbridge")
DEFAULT_LISTEN: Final = "tcp:127.0.0.1:6653"
_ARRIVAL: Final = 60.0  # seconds in which the switches of a cloud come
_PORT: Final = re.compile("[0-9]{1,5}")


@dataclass(frozen=True)
class Options:
    """What `tunbridge run` was asked for."""

    file: str
    where: Rundir
    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    hosts: tuple[str, ...] = ()
    verbose: bool = False
    heal: bool = True


def tcp_addresses(listen: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """`tcp:127.0.0.1:6653` -> ("127.0.0.1", 6653); `none` -> nothing. Refusal for anything else."""
    return tuple(_tcp_address(word) for word in dict.fromkeys(listen) if word != "none")


def _tcp_address(word: str) -> tuple[str, int]:
    scheme, _, rest = word.partition(":")
    name, _, port = rest.rpartition(":")
    if scheme != "tcp" or not name or not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise Refusal(f"--listen {word} is not understood: write tcp:ADDRESS:PORT, such as {DEFAULT_LISTEN}, or none.",
                      BAD_INPUT)
    try:
        found = socket.getaddrinfo(name.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refusal(f"--listen {word}: nothing is known of {name}; write an IP address of this machine, such as "
                      "127.0.0.1.", BAD_INPUT) from None
    return str(found[0][4][0]), int(port)


def run(options: Options) -> None:
    """Serve switches until SIGTERM or SIGINT; SIGHUP reads the file again. The flows stay in place at the end."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it means something it must not end us
    topology, found = topologies.read(options.file)
    tcp = tcp_addresses(options.listen)
    serve = _served(topology, options.hosts)
    make(options.where)
    with _lock(options.where):
        _raise_file_limit()
        errors = _log_to_stderr(options.verbose)
        for problem in found.problems:
            LOG.warning("topology %s:%d code=%s %s", problem.file, problem.line, problem.code, problem.message)
        # os-ken's other hub, native threads, would put our one-thread sessions under locks.
        warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
        os.environ["OSKEN_HUB_TYPE"] = "eventlet"  # read by os-ken when it is imported
        from controller.switch import alarm, caches, serving, sockets
        from controller.switch.fleet import Fleet

        def prepare(app: Any, stop: Callable[[], None]) -> dict[int, Callable[[], None]]:
            errors.tell = app.control.count_error
            app.control.troubles = lambda: troubles.read(options.where.path)
            app.control.applying.filters = filters.changed
            app.control.applying.read_from(found.content)
            alarm.later(_ARRIVAL, garbage.spare)
            app.purge = lambda host: caches.purge(nodes.directory(options.where.path) / host)
            return {signal.SIGTERM: stop, signal.SIGINT: stop,
                    signal.SIGHUP: lambda: _reload(app.control, options.file)}

        listeners = sockets.Listeners(options.where.openflow, options.where.control, tcp)
        garbage.spare()  # what the topology is made of need not be looked through while more is made of it
        placement.prepare(topology, serve)
        garbage.rest()
        try:
            serving.run(Fleet(topology, serve, heal=options.heal), listeners, prepare)
        except sockets.CannotListen as error:
            raise Refusal(str(error), MISSING) from None
        LOG.info("stopped flows=\"stay in place\"")


def _served(topology: Topology, hosts: tuple[str, ...]) -> frozenset[str] | None:
    for name in hosts:
        if name not in topology.hosts:
            raise Refusal(f"--host {name}: the topology has no such host, only {', '.join(topology.hosts)}.", BAD_INPUT)
    return frozenset(hosts) or None


def _reload(control: Any, file: str) -> None:
    answer = control.applying.load(file)
    if not answer["ok"]:
        LOG.warning("reload refused file=%s problems=%d cure=\"tunbridge check\"", file, len(answer["problems"]))


def _raise_file_limit() -> None:
    """Each switch takes a file descriptor; 1024, the usual limit, would end at 512 hosts."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def _lock(where: Rundir) -> Iterator[None]:
    """One daemon per run directory; the kernel releases the lock whatever the daemon's end."""
    try:
        descriptor = os.open(where.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refusal(f"{where.lock} cannot be written: {error.strerror}. Run as the owner of the run directory, or "
                      "name another with --rundir.", MISSING) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise Refusal(f"A daemon (process {pid}) already runs at {where.path}. Stop it, or choose another --rundir.",
                      MISSING) from None
    try:
        os.ftruncate(descriptor, 0)
        with contextlib.suppress(OSError):  # a full disk: the number is only for the words above
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
    logging.captureWarnings(True)
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for chatty in ("os_ken.base.app_manager", "ofp_event", "os_ken"):
        logging.getLogger(chatty).setLevel(logging.DEBUG if verbose else logging.WARNING)
    return errors
