#!/usr/bin/env python3
"""One end of a probe: a numbered packet every millisecond, and who came when.

    probe.py receive             until its standard input ends; then prints what it has heard, as JSON
    probe.py send ADDRESS RATE   until its standard input ends; then prints what it has sent, as JSON

Both print `ready` first.

The kernel notes when a packet arrives, so a receiver that is not scheduled for a while makes no gap. Each packet says
when it was sent, so a sender that is held up makes none either: a gap is how long nothing came although something was
on its way, or would have been a millisecond later. The sender's own longest pause is told.
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
SO_TIMESTAMPNS, SO_RCVBUFFORCE = 35, 33
OFTEN = 0.05  # seconds between two looks at what has come
BEAT = 0.001  # seconds, at the usual rate
CATCH_UP = 20  # packets that a sender who was held up sends at once; the others are left out, unsent
LINGER = 0.5  # seconds in which the last packets may still arrive
WORST = 5  # gaps that are told


def receive() -> dict[str, object]:
    """Packets that came, how often one came twice, and the longest gaps between two (ms, and when each began)."""
    came: dict[int, tuple[float, float]] = {}  # number -> when it came, when it was sent
    twice = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        sock.bind(("", PORT))
        print("ready", flush=True)
        ended = False
        while not ended:
            ended = bool(select.select([sys.stdin], [], [], OFTEN)[0])
            if ended:
                time.sleep(LINGER)
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, about, _, _ = sock.recvmsg(64, 64, socket.MSG_DONTWAIT)
                    seconds, nanoseconds = struct.unpack("qq", about[0][2][:16])
                    number, sent = struct.unpack("!QQ", data)
                    twice += number in came
                    came.setdefault(number, (seconds + nanoseconds / 1e9, sent / 1e9))
    times = sorted(came.values())
    gaps = sorted(((after - max(before, sent - BEAT)) * 1e3, before)
                  for (before, _), (after, sent) in itertools.pairwise(times))
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
        while sent % CATCH_UP or not select.select([sys.stdin], [], [], 0)[0]:
            while (now := time.monotonic()) < start + sent / rate:
                time.sleep(start + sent / rate - now)
            start = max(start, now - (sent + CATCH_UP) / rate)
            try:
                sock.send(struct.pack("!QQ", sent, time.time_ns()))
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
