"""A write whose end comes late: the switch has been read anew meanwhile, and written to again."""
from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.commands import PATIENCE, Daemon, daemon, place
from tests.fakebridge import DEMO, FakeBridge

BUNDLE, CLOSE, COMMIT = 33, 2, 4  # OpenFlow 1.4, 7.3.9.1; the answers to close and commit are the next numbers


class SlowBridge(FakeBridge):
    """It has no rows whatever it is told, and takes the first write at once and the second when it may."""

    def __init__(self, where: Path) -> None:
        super().__init__(where)
        self.writes, self.second, self.may_go_on = 0, threading.Event(), threading.Event()
        self.replies[BUNDLE] = self._bundle

    def say(self, kind: int, xid: int, body: bytes) -> None:
        super().say(kind - 1 if kind == BUNDLE + 1 else kind, xid, body)  # here the answer has the question's number

    def _bundle(self, body: bytes) -> bytes:
        number, kind, flags = struct.unpack_from("!IHH", body)
        self.writes += kind == CLOSE
        if kind == CLOSE and self.writes > 1:
            self.second.set()
            assert self.may_go_on.wait(PATIENCE)
        return struct.pack("!IHH", number, kind + 1, flags)


class Cache:
    """The socket where an ovs-vswitchd is asked to empty its cache; it answers one question after the other."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        (directory / "ovs-vswitchd.pid").write_text(f"{os.getpid()}\n")
        self._server = socket.socket(socket.AF_UNIX)
        self._server.settimeout(PATIENCE)
        self._server.bind(str(directory / f"ovs-vswitchd.{os.getpid()}.ctl"))
        self._server.listen()

    def asked(self) -> socket.socket:
        channel, _ = self._server.accept()
        assert b"revalidator/purge" in channel.recv(4096)
        return channel

    @staticmethod
    def empties(channel: socket.socket) -> None:
        with channel:
            channel.sendall(b'{"id":0,"result":"","error":null}')

    def close(self) -> None:
        self._server.close()


@contextmanager
def answering(bridge: SlowBridge) -> Iterator[None]:
    thread = threading.Thread(target=bridge.answers)
    thread.start()
    try:
        yield
    finally:
        bridge.may_go_on.set()
        bridge.sock.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


def in_sync(running: Daemon) -> bool:
    switches = json.loads(running.asks(b'{"do": "status"}\n'))["switches"]
    return next(bool(one["in_sync"]) for one in switches if (one["host"], one["bridge"]) == ("compute1", "br-tun"))


def test_a_write_that_a_new_reading_has_overtaken_is_not_taken_for_the_one_that_followed_it() -> None:
    with place() as rundir, daemon(rundir, DEMO, "--listen", "none") as running:
        cache = Cache(rundir / "lab" / "compute1")
        bridge = SlowBridge(rundir)
        with answering(bridge):
            cache.empties(cache.asked())  # before the first reading is believed
            late = cache.asked()  # the first write is in
            running.asks(b'{"do": "recompute"}\n')
            assert bridge.second.wait(PATIENCE), "read anew, and written to again"
            cache.empties(late)
            assert not any(in_sync(running) for _ in range(20)), "the second write is not in"
            bridge.may_go_on.set()
            cache.empties(cache.asked())
            assert running.waits_for("INFO in sync switch=compute1/br-tun")
        cache.close()
