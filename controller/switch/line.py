"""The way to one switch: a greenlet sends what is to be said, so that a switch that takes nothing holds up nobody else.

A write goes out bundle by bundle as `sending` says, packed as it is sent; a small one of a kind that the switch has
taken before goes out in one piece, with the request to commit it. What is said beside it, packets and learned
neighbours, waits until the write is in: a router's first words need the router's flows.
"""
from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import eventlet
from eventlet.queue import LightQueue

from controller.switch import bundles, outbox, packing
from controller.switch.diff import Plan
from controller.switch.events import PacketOut
from controller.switch.sending import Commit, Discard, Finished, Sending, Stage, Step
from controller.switch.understood import Understood

_FULL: Final = 16  # pieces that wait to be sent; packets are lost then, as a network card would lose them
_TOO_MUCH: Final = 4096  # and here the switch is given up
_HELD: Final = 1000  # commands that wait for a write, before packets among them are lost

Over = Callable[[Sending, Finished], None]


class Line:
    """One connection. `over` is told of the end of each write that is not overtaken by a new reading."""

    def __init__(self, conn: Any, over: Over) -> None:
        self.conn = conn
        # Whether flows may have changed since the switch's cache was emptied: also before this connection, for whoever
        # changed them may not have lived to do it.
        self.unsettled = True
        self.sending: Sending | None = None  # the write under way, or the last one
        self._over = over
        self._numbers = itertools.count(1)
        self._bundles: dict[int, bundles.Bundle] = {}  # of this write; those that are in are not kept
        self._failed: list[bundles.Bundle] = []  # of the last one that failed
        self._held: list[outbox.Said] = []
        self._parts: tuple[Plan, ...] = ()
        self._understood = Understood()
        self._queue: Any = LightQueue()

    def run(self) -> None:
        """Send, as long as the switch takes it."""
        try:
            while all(map(self._send, self._pieces(*self._queue.get()))):
                pass
        finally:
            drop(self.conn)  # whatever happened: a switch that is told nothing more comes back, and is read again

    def _send(self, piece: bytes) -> bool:
        taken = bool(self.conn.send(piece))
        eventlet.sleep(0)  # packing the next piece takes a moment, and others want something, too
        return taken

    def _pieces(self, pieces: Iterator[bytes], sending: Sending | None) -> Iterator[bytes]:
        """`sending`: of a bundle to stage; when it has failed, the rest is not packed any more."""
        try:
            for piece in pieces:
                if sending is not None and sending.finished:
                    return
                yield piece
        except packing.TooLarge as error:
            self._fail(sending, str(error))

    # ---- what is to be said

    def put(self, data: bytes) -> None:
        """Say this next."""
        self._queue.put((iter((data,)), None))
        if self._queue.qsize() > _TOO_MUCH:
            drop(self.conn)

    def say(self, said: list[outbox.Said]) -> int:
        """Say this when the write under way is in. Packets may get lost; returns how many did."""
        crowded = len(self._held) > _HELD if self._busy else self._queue.qsize() > _FULL
        if self.conn.send_q is None or (crowded and all(isinstance(one, PacketOut) for one in said)):
            return len(said)
        if self._busy:
            self._held += said
        else:
            self.put(outbox.packed(self.conn, said))
        return 0

    @property
    def failed(self) -> bool:
        """Whether the last write was not taken whole."""
        return bool(self._failed)

    @property
    def _busy(self) -> bool:
        return self.sending is not None and not self.sending.finished

    def write(self, parts: tuple[Plan, ...]) -> None:
        """Send these bundles, and `over` when they are in or one is refused."""
        self.overtake()
        self._parts = parts
        self.sending = Sending(parts, self._numbers, sure=len(parts) == 1 and self._understood.covers(parts[0]))
        self._do(self.sending.start())

    def overtake(self) -> None:
        """The switch is read anew: what of a write is not in by then never will be, and nobody is told."""
        sending, self.sending = self.sending, None
        if sending is not None:
            self._do(sending.failed("overtaken")[:-1])
            self._clear(failed=True)

    def quit(self) -> None:
        """Another daemon writes there now: what waits is not said."""
        self._held.clear()
        self.overtake()

    # ---- what the switch says

    def closed(self, number: int) -> None:
        """It has understood a bundle."""
        if self.sending:
            self._do(self.sending.closed(number))

    def committed(self, number: int) -> None:
        """A bundle is in."""
        if self.sending:
            self._bundles.pop(number, None)
            self._do(self.sending.committed(number))

    def complained(self, xid: int, reason: str) -> bool:
        """It has refused a message. Whether that belongs to a write, and so has been dealt with."""
        for bundle in self._bundles.values():
            if xid in bundle.blame:
                self._fail(self.sending, f"{reason}: {bundle.blame[xid]}")
                return True
        return any(xid in bundle.blame for bundle in self._failed)

    def _fail(self, sending: Sending | None, reason: str) -> None:
        if sending is not None and sending is self.sending:
            self._do(sending.failed(reason))

    def _do(self, steps: list[Step]) -> None:
        for step in steps:
            match step:
                case Stage(number, plan, sure):
                    bundle = self._bundles[number] = bundles.bundle(self.conn, number, plan)
                    self.unsettled = self.unsettled or sure
                    self._queue.put((_whole(bundle) if sure else bundle.staged, self.sending))
                case Commit(number):
                    self.unsettled = True
                    self.put(self._bundles[number].final)
                case Discard(number):
                    self.put(bundles.discard(self.conn, number))
                case Finished():
                    self._end(step)

    def _end(self, finished: Finished) -> None:
        self._clear(failed=bool(finished.reason))
        if finished.reason:
            self._understood = Understood()  # and the next one is said with care
        elif len(self._parts) == 1:
            self._understood.learn(self._parts[0])
        if self.sending is not None:
            self._over(self.sending, finished)

    def _clear(self, *, failed: bool) -> None:
        """A write has ended: what waited for that is said."""
        self._failed = list(self._bundles.values()) if failed else []
        self._bundles.clear()
        held, self._held = self._held, []
        if held:
            self.put(outbox.packed(self.conn, held))


def _whole(bundle: bundles.Bundle) -> Iterator[bytes]:
    """All of it in one piece."""
    yield b"".join((*bundle.staged, bundle.final))


def drop(conn: Any) -> None:
    """End a connection at once, whatever waits to be sent or read."""
    conn.close()
    with contextlib.suppress(OSError):
        conn.socket.shutdown(socket.SHUT_RDWR)
