"""Where the daemon listens, and how it goes on listening whatever arrives."""
from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import eventlet

LOG: Final = logging.getLogger("tunbridge")
_BREATH: Final = 0.2  # seconds to wait when a connection cannot be accepted, as when file descriptors have run out
_BACKLOG: Final = 1024  # connections that wait to be accepted, as when all hosts come back at once
_CURES: Final = {
    errno.EADDRINUSE: "End what uses it, or choose another --listen (`--listen none`: the Unix socket alone)",
    errno.EADDRNOTAVAIL: "No interface of this machine has that address; choose another --listen",
    errno.EACCES: "Ports below 1024 need root; choose another --listen",
}


@dataclass(frozen=True)
class Listeners:
    """Where the daemon listens: Unix sockets for switches and for people, and (address, port) pairs."""

    openflow: Path
    control: Path
    tcp: tuple[tuple[str, int], ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """Where switches may connect, as Open vSwitch writes it."""
        return f"unix:{self.openflow}", *(f"tcp:{_in_brackets(host)}:{port}" for host, port in self.tcp)


_ROOM: Final = 1 << 20  # bytes that may wait in a socket: all bundles that `sending` has staged ahead
_SO_SNDBUFFORCE: Final = 32  # socket(7): above what the system allows to others; only root may


def widen(sock: Any) -> None:
    """Let so much wait for a switch that it has work while the daemon does something else."""
    with contextlib.suppress(OSError):  # then it is as large as the system has it
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _ROOM)


class CannotListen(Exception):
    """A socket cannot be had; str() is the sentence."""


class UnixSocket:
    """A Unix socket for os-ken, which sets TCP_NODELAY on whatever it is given."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def setsockopt(self, *_: object) -> None:
        """There is no delay to switch off."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@contextlib.contextmanager
def listening(where: Listeners) -> Iterator[tuple[list[Any], Any]]:
    """The sockets for switches, and the one for people; closed and removed at the end. CannotListen if one fails."""
    with contextlib.ExitStack() as stack:
        switches = [stack.enter_context(_unix_server(where.openflow))]
        people = stack.enter_context(_unix_server(where.control))
        switches += [stack.enter_context(contextlib.closing(_tcp_server(*pair))) for pair in where.tcp]
        yield switches, people


@contextlib.contextmanager
def _unix_server(path: Path) -> Iterator[Any]:
    """A listening Unix socket, for its owner only. The caller holds the lock, so what is there is stale."""
    old = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        server = eventlet.listen(str(path), family=socket.AF_UNIX, backlog=_BACKLOG)
    except OSError as error:
        raise CannotListen(f"Cannot listen on {path}: {error.strerror or error}. Remove what is there, or choose "
                           "another --rundir.") from None
    finally:
        os.umask(old)
    with contextlib.closing(server):
        try:
            yield server
        finally:
            path.unlink(missing_ok=True)


def _tcp_server(address: str, port: int) -> Any:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return eventlet.listen((address, port), family=family, backlog=_BACKLOG, reuse_port=False)
    except OSError as error:
        cure = _CURES.get(error.errno or 0, "Choose another --listen")
        raise CannotListen(f"Cannot listen on tcp:{_in_brackets(address)}:{port}: {error.strerror or error}. "
                           f"{cure}.") from None


def _in_brackets(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def accept(server: Any, handle: Callable[[Any, str], None]) -> None:
    """Hand each connection, with its peer's name, to a greenlet of its own, forever."""
    while True:
        try:
            sock, address = server.accept()
        except OSError as error:
            LOG.error("cannot accept a connection: %s", error.strerror or error)
            eventlet.sleep(_BREATH)
            continue
        peer = f"tcp:{_in_brackets(address[0])}:{address[1]}" if isinstance(address, tuple) else "unix"
        eventlet.spawn(_guarded, handle, sock, peer)


def _guarded(handle: Callable[[Any, str], None], sock: Any, peer: str) -> None:
    with contextlib.closing(sock):
        guarded(f"connection failed peer={peer}", lambda: handle(sock, peer))


def guarded(what: str, act: Callable[[], None]) -> None:
    """Run the whole work of a greenlet: its failure is logged as one event and ends nothing else."""
    try:
        act()
    except Exception:  # the last frame of a greenlet: whatever it is must reach the log
        LOG.exception("%s", what)
