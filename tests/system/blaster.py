#!/usr/bin/env python3
"""A hostile process inside a VM: sends frames out of an interface, round and round, so many a second.

    blaster.py INTERFACE RATE    one frame per line of standard input, in hexadecimal

It waits for the interface, goes on as soon as that is back after it was gone, and on SIGTERM says how many it has sent.
"""
from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
import time

_NAP = 0.002  # seconds between bursts
_MOST = 500  # frames of a burst, whatever the delay


class _End(BaseException):
    pass


def _opened(interface: str) -> socket.socket:
    """A socket on the interface, as soon as there is one and it is up."""
    while True:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            made.bind((interface, 0))
            return made
        except OSError:
            made.close()
            time.sleep(0.0005)


def _blast(interface: str, rate: int, frames: list[bytes], sent: list[int]) -> None:
    sock, start, owed, names = _opened(interface), time.monotonic(), 0.0, itertools.cycle(frames)
    while True:
        now = time.monotonic()
        owed, start = min(owed + (now - start) * rate, _MOST), now
        while owed >= 1:
            owed -= 1
            try:
                sock.send(next(names))
                sent[0] += 1
            except BlockingIOError:
                break
            except OSError:  # the interface is down, or gone
                sock.close()
                time.sleep(0.0005)
                sock = _opened(interface)
        time.sleep(_NAP)


def _stop(*_: object) -> None:
    raise _End


def main() -> None:
    interface, rate = sys.argv[1], int(sys.argv[2])
    frames = [bytes.fromhex(line) for line in sys.stdin.read().split()]
    sent = [0]
    signal.signal(signal.SIGTERM, _stop)
    os.write(1, b"ready\n")
    try:
        _blast(interface, rate, frames, sent)
    except _End:
        os.write(1, f"{sent[0]}\n".encode())


if __name__ == "__main__":
    main()
