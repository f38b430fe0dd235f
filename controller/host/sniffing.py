"""Hear every frame at many devices at once, each in the network namespace where it is: one thread, no process."""
from __future__ import annotations

import errno
import fcntl
import os
import selectors
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from controller.host import netns

_ETH_P_ALL: Final = 3  # linux/if_ether.h
_SOL_PACKET, _PACKET_AUXDATA = 263, 8  # linux/if_packet.h
_AUXDATA: Final = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
_VLAN_VALID: Final = 0x10
_SO_RCVBUFFORCE: Final = 33
_BUFFER: Final = 4 << 20  # bytes: for a burst of others' traffic
_LONGEST: Final = 65535
_SIOCGIFFLAGS: Final = 0x8913  # linux/sockios.h
_UP, _RUNNING = 0x1, 0x40  # linux/if.h
_VID: Final = 0x0FFF
_CLOSERS: Final = 32  # threads


@dataclass(frozen=True)
class Spot:
    """A device to listen at."""

    namespace: str  # a path, see `netns`
    device: str


@dataclass(frozen=True)
class Frame:
    """A frame as it passed a device."""

    spot: Spot
    data: bytes
    vlan: int | None  # of a tag that the kernel took off
    seconds: float  # by the clock of time.monotonic


@dataclass(frozen=True)
class Silent:
    """A device where nothing can be heard."""

    spot: Spot
    why: str  # a clause


class Sniffers:
    """Ears at many devices. A context manager; what cannot be listened at is in `silent`."""

    def __init__(self, spots: Iterable[Spot]) -> None:
        self._spots = list(dict.fromkeys(spots))
        self._selector = selectors.DefaultSelector()
        self._ears: list[socket.socket] = []
        self.silent: list[Silent] = []

    def __enter__(self) -> Self:
        for spot in self._spots:
            try:
                self._open(spot)
            except (OSError, netns.NamespaceError) as error:
                self.silent.append(Silent(spot, _reason(error)))
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        # The kernel lets 10 ms pass before it gives up a packet socket; many at once wait together.
        with ThreadPoolExecutor(_CLOSERS) as pool:
            list(pool.map(socket.socket.close, self._ears))

    def listen(self, seconds: float) -> Iterator[Frame]:
        """What is heard from now on, for so long; whoever has heard enough stops asking."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                yield from _received(key.fileobj, key.data)  # type: ignore[arg-type]  # a socket

    def _open(self, spot: Spot) -> None:
        with netns.inside(spot.namespace):
            ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # deaf until it is bound
        self._ears.append(ear)
        ear.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        ear.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        ear.bind((spot.device, _ETH_P_ALL))
        ear.setblocking(False)
        _check_up(ear, spot.device)
        self._selector.register(ear, selectors.EVENT_READ, spot)


def send(spot: Spot, frame: bytes) -> None:
    """Put a frame on a device's wire. OSError or NamespaceError, if it cannot be."""
    with netns.inside(spot.namespace):
        mouth = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with mouth:
        mouth.bind((spot.device, 0))
        mouth.send(frame)


def _check_up(ear: socket.socket, device: str) -> None:
    answer = fcntl.ioctl(ear.fileno(), _SIOCGIFFLAGS, struct.pack("16sh14x", device.encode(), 0))
    (flags,) = struct.unpack_from("H", answer, 16)
    if not flags & _UP or not flags & _RUNNING:
        raise OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENODEV:
        return "is not there"
    if isinstance(error, OSError) and error.errno == errno.ENETDOWN:
        return "is down"
    return f"cannot be listened at: {error.strerror if isinstance(error, OSError) else error}"


def _received(ear: socket.socket, spot: Spot) -> Iterator[Frame]:
    with suppress(BlockingIOError):
        while True:
            data, extra, _, _ = ear.recvmsg(_LONGEST, 128)
            yield Frame(spot, data, _vlan(extra), time.monotonic())


def _vlan(extra: Iterable[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in extra:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA) and len(data) >= _AUXDATA.size:
            status, *_, tci, _ = _AUXDATA.unpack_from(data)
            if status & _VLAN_VALID:
                return int(tci & _VID)
    return None
