"""Raw frames out of one network interface, and who sees them: sockets in many namespaces, one process."""
from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from controller.host import netns
from controller.host.forging import Token, found

_ETH_P_ALL: Final = 3  # linux/if_ether.h
_OUTGOING: Final = 4  # linux/if_packet.h, PACKET_OUTGOING
_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h
_BUFFER: Final = 4 << 20  # bytes: a burst of a flood, should it get through
_LONGEST: Final = 65535
_CLOSERS: Final = 32  # threads
_TICK: Final = 0.01  # seconds between two bursts
_FULL: Final = (errno.ENOBUFS, errno.EAGAIN)


class HostileError(Exception):
    """A place cannot be watched or sent from; `str(error)` says which, why and what cures it."""


@dataclass(frozen=True)
class Place:
    """A network interface: of a VM, of a router, or outside."""

    name: str  # for people: `web1`, `r2 on green-subnet`, `internet`
    kind: str  # vm | router | dhcp | outside
    network: str
    namespace: str  # the path of a network namespace
    interface: str  # empty: all that are there


@dataclass(frozen=True)
class Sight:
    """A frame of ours, or an answer to one, that came to a place."""

    place: Place
    frame: bytes
    token: Token | None


@dataclass
class Ears:
    """Everything that arrives at some places; what they send themselves is left out."""

    run: int
    is_answer: Callable[[bytes, int], bool]
    _open: list[tuple[Place, socket.socket]] = field(default_factory=list)

    def listen(self, places: Iterable[Place]) -> None:
        """Hear these, too, from now on."""
        for place in places:
            self._open.append((place, _socket(place, _ETH_P_ALL)))

    def heard(self) -> Iterator[Sight]:
        """What has come since the last call, of this run alone."""
        for place, sock in self._open:
            for frame in _arrived(place, sock):
                token = found(frame, self.run)
                if token is not None or self.is_answer(frame, self.run):
                    yield Sight(place, frame, token)

    def close(self) -> None:
        """The kernel lets 10 ms pass before it gives up a packet socket; many at once wait together."""
        with ThreadPoolExecutor(_CLOSERS) as pool:
            list(pool.map(socket.socket.close, [sock for _, sock in self._open]))


@contextmanager
def ears(run: int, is_answer: Callable[[bytes, int], bool]) -> Iterator[Ears]:
    """Ears that are closed whatever comes. Raises HostileError or netns.NamespaceError where they listen."""
    made = Ears(run, is_answer)
    try:
        yield made
    finally:
        made.close()


@dataclass(frozen=True)
class Mouth:
    """Sends whole frames out of one interface."""

    place: Place
    socket: socket.socket

    def say(self, frames: Sequence[bytes], rate: float, more: Callable[[int], bool]) -> int:
        """Send the frames in turn, `rate` a second, as long as `more(sent)`; how many were sent.

        HostileError if the interface has gone.
        """
        sent, began = 0, time.monotonic()
        while frames and more(sent):
            due = int((time.monotonic() - began) * rate) + 1
            while sent < due and more(sent):
                sent += self._send(frames[sent % len(frames)])
            time.sleep(_TICK)
        return sent

    def _send(self, frame: bytes) -> int:
        try:
            self.socket.send(frame)
        except OSError as error:
            if error.errno not in _FULL:
                raise HostileError(_cannot(self.place, error)) from error
            time.sleep(_TICK)
            return 0
        return 1


@contextmanager
def mouth(place: Place) -> Iterator[Mouth]:
    """A way to send from a place. Raises HostileError or netns.NamespaceError if there is none."""
    sock = _socket(place, 0)
    try:
        yield Mouth(place, sock)
    finally:
        sock.close()


def _socket(place: Place, protocol: int) -> socket.socket:
    try:
        with netns.inside(place.namespace):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # deaf until it is bound
            try:
                sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
                if place.interface:
                    sock.bind((place.interface, protocol))
                else:
                    _bind_everywhere(sock, protocol)
            except OSError:
                sock.close()
                raise
    except OSError as error:
        raise HostileError(_cannot(place, error)) from error
    sock.setblocking(not protocol)
    return sock


def _bind_everywhere(sock: socket.socket, protocol: int) -> None:
    """To all interfaces (packet(7): index 0), which Python's own bind knows no way to say."""
    where = struct.pack("=HHiHBB8x", socket.AF_PACKET, socket.htons(protocol), 0, 0, 0, 0)
    if ctypes.CDLL(None, use_errno=True).bind(sock.fileno(), where, len(where)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _arrived(place: Place, sock: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            frame, (_, _, kind, *_) = sock.recvfrom(_LONGEST)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENETDOWN:  # said once by an interface that is down, which then just hears nothing
                raise HostileError(_cannot(place, error)) from error
            return
        if kind != _OUTGOING:
            yield frame


def _cannot(place: Place, error: OSError) -> str:
    where = f"{place.interface} in {place.namespace}" if place.interface else place.namespace
    return (f"{place.name}: cannot use {where}: {error.strerror}; "
            "take the lab down and up again (tunbridge lab down, tunbridge lab up).")
