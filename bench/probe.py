#!/usr/bin/env python3
"""One end of a probe: a numbered packet every millisecond, and who came when.

    probe.py receive             until its standard input ends; then prints what it has heard, as JSON
    probe.py send ADDRESS RATE   until its standard input ends; then prints what it has sent, as JSON

Both print `ready` first.
The kernel notes when a packet arrives, so a receiver that is not scheduled for a while makes no gap. The sender wants
the processor before everybody else, for some microseconds each time; its own longest pause is told, too.
"""
from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import socket
import struct
import sys
import time

PORT = 7777
SO_TIMESTAMPNS = 35
LINGER = 0.5  # seconds in which the last packets may still arrive
WORST = 5  # gaps that are told


def receive() -> dict[str, object]:
    """Packets that came, how often one came twice, and the longest gaps between two (ms, and when each began)."""
    came: dict[int, float] = {}
    twice = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sock.bind(("", PORT))
        print("ready", flush=True)
        end = float("inf")
        while time.monotonic() < end:
            heard, _, _ = select.select([sock, *([] if end < float("inf") else [sys.stdin])], [], [], LINGER)
            if sys.stdin in heard:
                end = time.monotonic() + LINGER
            if sock in heard:
                data, about, _, _ = sock.recvmsg(64, 64)
                seconds, nanoseconds = struct.unpack("qq", about[0][2][:16])
                number = int.from_bytes(data, "big")
                twice += number in came
                came.setdefault(number, seconds + nanoseconds / 1e9)
    times = sorted(came.values())
    gaps = sorted(((after - before) * 1e3, before) for before, after in itertools.pairwise(times))
    return {"received": len(came), "twice": twice, "gaps": gaps[-WORST:][::-1]}


def send(address: str, rate: int) -> dict[str, object]:
    """Packets that were sent, and the longest time between two (ms)."""
    with contextlib.suppress(OSError):  # not everywhere may root do this
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    sent, refused, pause, start = 0, 0, 0.0, time.monotonic()
    before = start
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, PORT))
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            while (now := time.monotonic()) < start + sent / rate:
                time.sleep(start + sent / rate - now)
            try:
                sock.send(sent.to_bytes(8, "big"))
            except OSError:
                refused += 1
            pause, before = max(pause, now - before), now
            sent += 1
    return {"sent": sent, "refused": refused, "pause": pause * 1e3}


def main() -> None:
    """See above."""
    what, *rest = sys.argv[1:]
    print(json.dumps(receive() if what == "receive" else send(rest[0], int(rest[1]))), flush=True)


if __name__ == "__main__":
    main()
