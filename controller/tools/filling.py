"""Filling the bridges of an ovs-vswitchd before it forwards.

One that waits (`flow-restore-wait`) has its bridges and ports, but calls no controller. So somebody calls in its place:
a bridge's management socket (BRIDGE.mgmt, ovs-vswitchd(8)) speaks OpenFlow with whoever connects, and what it and its
controller say is carried to and fro. To the daemon that is a switch as any other, wherever the daemon runs and whatever
its rights are. It has said all when the switch answers a barrier (`events.Settled`). Let go, the switch calls by
itself, and nothing is left to do.
"""
from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final
from urllib.parse import urlsplit

from controller.host import daemons, execute, observe
from controller.tools.errors import MISSING, NO, Refusal

_PORT: Final = 6653  # of OpenFlow, where a target names none
_LEAST: Final = 0.1  # seconds for a daemon elsewhere to answer a call, also when another has used up the time
_MOST: Final = 3600.0  # seconds; for longer no queue waits
_PIECE: Final = 1 << 16  # bytes that are carried at once
_HEADER: Final = 8  # bytes; the second is the kind of message, the third and fourth its length (OpenFlow 1.4, 7.1.1)
_BARRIER_REPLY: Final = 21
Heard = SimpleQueue[tuple[str, bool]]  # a bridge; whether its controller has said all, or else a call has ended


def fill_here(ovs: Path, seconds: float, say: Callable[[str], None]) -> None:
    """Have the bridges of this host filled by those whom they would call. Refusal if that cannot be, or is not done."""
    began = time.monotonic()
    try:
        if "true" not in execute.output(daemons.held()):
            say("ovs-vswitchd does not wait: it calls its controllers by itself.")
            return
        controllers, flushed = observe.controllers(execute.output), observe.flushed(execute.output)
    except execute.StepFailed as error:
        raise Refusal(f"{error}. Does Open vSwitch run here?", MISSING) from error
    if not controllers:
        raise Refusal("No bridge here has a controller. `tunbridge plumb --host NAME` makes the bridges.", MISSING)
    for bridge in flushed:
        say(f"{bridge} is flushed all the same when it is let go, as its controller is a primary one. To change that, "
            f"which flushes it once: ovs-vsctl set-controller {bridge} {controllers[bridge][0]} "
            f"-- set Controller {bridge} type=service")
    if empty := fill(ovs, controllers, seconds):
        targets = ", ".join(dict.fromkeys(target for bridge in empty for target in controllers[bridge]))
        raise Refusal(f"Not filled: {', '.join(empty)}. Does a daemon that serves this host run at {targets}, and has "
                      f"Open vSwitch its sockets in {ovs}?", NO)
    say(f"Filled in {time.monotonic() - began:.2f} s: {', '.join(controllers)}.")


def fill(ovs: Path, controllers: Mapping[str, Iterable[str]], seconds: float) -> list[str]:
    """Have controllers fill the bridges of an Open vSwitch that has its sockets in `ovs`.

    `controllers`: bridge -> targets, as `tcp:192.0.2.1:6653` or `unix:PATH`. Returns, when all is settled or the time
    is up, the bridges of whose controllers none has said all, be it that none is there.
    """
    deadline = time.monotonic() + min(seconds, _MOST)
    heard: Heard = SimpleQueue()
    empty = list(controllers)
    with contextlib.ExitStack() as stack:
        calls = Counter(bridge for bridge, targets in controllers.items() for target in targets
                        if stack.enter_context(_call(ovs, bridge, target, heard, deadline)))
        while any(calls[bridge] for bridge in empty):
            try:
                bridge, settled = heard.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                break
            if not settled:
                calls[bridge] -= 1
            elif bridge in empty:
                empty.remove(bridge)
    return empty


@contextlib.contextmanager
def _call(ovs: Path, bridge: str, target: str, heard: Heard, deadline: float) -> Iterator[bool]:
    """Carry what a bridge and a controller say to each other, and tell what was heard; says whether both are there."""
    with contextlib.ExitStack() as stack:
        try:
            switch = stack.enter_context(_connected(f"unix:{ovs / bridge}.mgmt", deadline))
            controller = stack.enter_context(_connected(target, deadline))
        except (OSError, ValueError):  # nobody is there, or it is no target
            yield False
            return
        # A thread for each way: while the one waits until somebody takes something, the other goes on reading.
        carriers = [threading.Thread(target=_carry_words, args=(controller, switch)),
                    threading.Thread(target=_carry_answers, args=(switch, controller, bridge, heard))]
        for carrier in carriers:
            carrier.start()
        try:
            yield True
        finally:
            _end(switch, controller)
            for carrier in carriers:
                carrier.join()


def _connected(target: str, deadline: float) -> socket.socket:
    """OSError if nobody is there in time. ValueError if it is no target, or of a kind that is not spoken here."""
    kind, _, rest = target.partition(":")
    address = urlsplit(f"//{rest}")
    if kind == "tcp" and address.hostname:
        patience = max(_LEAST, deadline - time.monotonic())
        sock = socket.create_connection((address.hostname, address.port or _PORT), timeout=patience)
        sock.settimeout(None)
        return sock
    if kind != "unix":
        raise ValueError(f"{target} is neither tcp:HOST:PORT nor unix:PATH")
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(rest)
    except OSError:
        sock.close()
        raise
    return sock


def _carry_words(source: socket.socket, sink: socket.socket) -> None:
    """All that comes, until either end closes; then the other hears of it."""
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            sink.sendall(piece)
    _end(source, sink)


def _carry_answers(source: socket.socket, sink: socket.socket, bridge: str, heard: Heard) -> None:
    """The same, message by message."""
    with contextlib.suppress(OSError), source.makefile("rb") as stream:
        while len(header := stream.read(_HEADER)) == _HEADER:
            sink.sendall(header + stream.read(max(0, int.from_bytes(header[2:4]) - _HEADER)))
            if header[1] == _BARRIER_REPLY:
                heard.put((bridge, True))
    _end(source, sink)
    heard.put((bridge, False))


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):  # the other way has ended it already
            end.shutdown(socket.SHUT_RDWR)
