#!/usr/bin/env python3
"""Packets at an even beat over ways that carry them already: what was lost, and how long the longest silence was.

    pulse.py RATE FROM,TO,ADDRESS,PORT ...    FROM and TO: pids in whose network namespaces the ways begin and end

One process sends and hears, so that one clock times both; arrivals are stamped by the kernel, so that it does not
matter when they are read. It writes a dot for every 100 beats, and on SIGTERM, when nothing more comes, one line of
JSON: for each way `sent`, `lost`, `doubled`, `gap` (seconds between two arrivals at most), `late` (seconds from
sending to arrival at most) and `outages`, each [seconds since the first beat, packets lost in a row].
"""
from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import signal
import socket
import struct
import sys
import time

_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35  # socket(7)
_CLONE_NEWNET = 0x40000000  # sched.h
_NUMBER = struct.Struct("!Q")
_STAMP = struct.Struct("=qq")  # timespec
_CATCH_UP = 20  # beats sent at once at most
_QUIET = 0.5  # seconds without an arrival after which what is missing is lost
_ROOM = socket.CMSG_SPACE(_STAMP.size)
_LIBC = ctypes.CDLL(None, use_errno=True)


def _socket(pid: int) -> socket.socket:
    """A UDP socket in the network namespace of a process, in which this process then is, too."""
    with open(f"/proc/{pid}/ns/net", "rb") as there:
        if _LIBC.setns(there.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace of process {pid}")
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


class Way:
    """One way through the network, one direction."""

    def __init__(self, begin: int, end: int, address: str, port: int) -> None:
        self._ear = _socket(end)
        self._ear.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        self._ear.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._ear.bind((address, port))
        self._mouth = _socket(begin)
        self._mouth.connect((address, port))
        self._sent: list[float] = []
        self._heard: dict[int, float] = {}
        self._doubled = 0
        self._last = 0.0

    def beat(self) -> None:
        """Send the next packet; one that is refused here is lost like any other."""
        self._sent.append(time.time())
        with contextlib.suppress(OSError):
            self._mouth.send(_NUMBER.pack(len(self._sent) - 1))

    def hear(self) -> None:
        """Note all that has arrived."""
        while True:
            try:
                data, notes, _, _ = self._ear.recvmsg(_NUMBER.size, _ROOM)
            except OSError:
                return
            seconds, nanoseconds = _STAMP.unpack(notes[0][2])
            number = _NUMBER.unpack(data)[0]
            self._doubled += number in self._heard
            self._heard.setdefault(number, seconds + nanoseconds / 1e9)
            self._last = time.monotonic()

    @property
    def waits(self) -> bool:
        """Whether something is missing that may still come."""
        return len(self._heard) < len(self._sent) and time.monotonic() - self._last < _QUIET

    def closed(self) -> None:
        """Nothing more is sent."""
        self._last = time.monotonic()

    def told(self) -> dict[str, object]:
        """What has become of it all."""
        arrivals = sorted(self._heard.values())
        gaps = (later - earlier for earlier, later in itertools.pairwise(arrivals))
        late = (at - self._sent[number] for number, at in self._heard.items())
        return {"sent": len(self._sent), "lost": len(self._sent) - len(self._heard), "doubled": self._doubled,
                "gap": round(max(gaps, default=0.0), 4), "late": round(max(late, default=0.0), 4),
                "outages": self._outages()}

    def _outages(self) -> list[tuple[float, int]]:
        lost = ((number, number not in self._heard) for number in range(len(self._sent)))
        runs = (list(run) for is_lost, run in itertools.groupby(lost, key=lambda one: one[1]) if is_lost)
        return [(round(self._sent[run[0][0]] - self._sent[0], 3), len(run)) for run in runs]


def _pulse(ways: list[Way], rate: int) -> None:
    """Until SIGTERM, which may come at any moment and must not come between the arrival of a packet and its note."""
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: over.append(number))
    start, beats = time.monotonic(), 0
    while not over:
        due = int((time.monotonic() - start) * rate) - beats
        if due > _CATCH_UP:  # this process was not let run; a burst of all that it missed would be lost in any queue
            start += (due - _CATCH_UP) / rate
            due = _CATCH_UP
        for _ in range(due):
            for way in ways:
                way.beat()
            beats += 1
            if beats % 100 == 0:
                os.write(1, b".")
        for way in ways:
            way.hear()
        time.sleep(max(0.0, start + (beats + 1) / rate - time.monotonic()))


def main() -> None:
    rate, words = int(sys.argv[1]), [word.split(",") for word in sys.argv[2:]]
    ways = [Way(int(begin), int(end), address, int(port)) for begin, end, address, port in words]
    _pulse(ways, rate)
    for way in ways:
        way.closed()
    while any(way.waits for way in ways):
        for way in ways:
            way.hear()
        time.sleep(0.001)
    os.write(1, b"\n" + json.dumps([way.told() for way in ways]).encode() + b"\n")


if __name__ == "__main__":
    main()
