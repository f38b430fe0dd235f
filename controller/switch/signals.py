"""Signals of the daemon, as one more thing that arrives on a socket."""
from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import eventlet
from eventlet.greenio import GreenSocket

from controller.switch import sockets

Signals = Mapping[int, Callable[[], None]]  # what to do on which


def caught(signals: Iterable[int]) -> Any:
    """The green socket on which these signals arrive from now on, a byte each.

    A Python signal handler alone would not wake eventlet's poll.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach())
    for number in signals:
        signal.signal(number, lambda *_: None)
    return GreenSocket(reader)


def heed(arriving: Any, actions: Signals) -> None:
    """Do what belongs to each signal that arrives, forever."""
    while True:
        for number in arriving.recv(16):
            if number in actions:
                # A greenlet of its own: who reads a large file does not keep the daemon from ending.
                eventlet.spawn(sockets.guarded, f"signal {number} failed", actions[number])
