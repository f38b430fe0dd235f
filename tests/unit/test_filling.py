"""Who carries the words of a bridge that waits and of its controller: what arrives, and when it is over."""
from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.tools.filling import fill

HELLO, BARRIER, REPLY = 0, 20, 21
PATIENCE = 10.0


def message(kind: int, body: bytes = b"") -> bytes:
    return struct.pack("!BBHI", 5, kind, 8 + len(body), 7) + body


@contextlib.contextmanager
def listening(path: Path | None) -> Iterator[socket.socket]:
    """A server; without a path on a port of loopback."""
    with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as server:
        server.settimeout(PATIENCE)
        server.bind(str(path) if path else ("127.0.0.1", 0))
        server.listen()
        yield server


@contextlib.contextmanager
def filled(ovs: Path, controllers: dict[str, list[str]], seconds: float = PATIENCE) -> Iterator[list[str]]:
    """What `fill` returns, at the end of this; it works meanwhile."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.extend(fill(ovs, controllers, seconds)))
    thread.start()
    try:
        yield found
    finally:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def heard(sock: socket.socket, count: int) -> bytes:
    sock.settimeout(PATIENCE)
    with sock.makefile("rb") as stream:
        return stream.read(count)


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_words_are_carried_both_ways_until_the_switch_answers_a_barrier(tmp_path: Path, tcp: bool) -> None:
    with listening(tmp_path / "br0.mgmt") as bridges, listening(None if tcp else tmp_path / "daemon") as daemons:
        target = f"tcp:127.0.0.1:{daemons.getsockname()[1]}" if tcp else f"unix:{tmp_path}/daemon"
        with filled(tmp_path, {"br0": [target]}) as empty:
            switch, daemon = bridges.accept()[0], daemons.accept()[0]
            with switch, daemon:
                words = message(HELLO) + message(14, bytes(60_000)) + message(BARRIER)
                sender = threading.Thread(target=daemon.sendall, args=(words,))
                sender.start()
                assert heard(switch, len(words)) == words
                sender.join()
                answers = message(HELLO, b"x" * 30) + message(REPLY)
                switch.sendall(answers)
                assert heard(daemon, len(answers)) == answers
                assert heard(daemon, 1) == heard(switch, 1) == b"", "both are told that it is over"
    assert empty == []


def test_one_of_two_controllers_is_enough(tmp_path: Path) -> None:
    targets = [f"unix:{tmp_path}/{name}" for name in ("old", "new")]
    with (listening(tmp_path / "br0.mgmt") as bridges, listening(tmp_path / "old") as old,
          listening(tmp_path / "new") as new, filled(tmp_path, {"br0": targets}, float("inf")) as empty):
        first, second = (bridges.accept()[0] for _ in targets)
        with first, second, new.accept()[0]:
            old.accept()[0].close()
            assert heard(first, 1) == b""
            second.sendall(message(REPLY))
            assert heard(second, 1) == b""
    assert empty == []


def test_a_bridge_that_is_not_filled_is_told_at_once_or_when_the_time_is_up(tmp_path: Path) -> None:
    with listening(tmp_path / "br0.mgmt") as bridges, listening(tmp_path / "daemon") as daemons:
        nobody = {"br0": [f"unix:{tmp_path}/none", "ssl:127.0.0.1", "tcp:", "tcp:[::1", "tcp:127.0.0.1:port"],
                  "br1": [f"unix:{tmp_path}/daemon"], "br2": []}
        assert fill(tmp_path, nobody, 60.0) == ["br0", "br1", "br2"]
        for _ in nobody["br0"]:
            bridges.accept()[0].close()
        with filled(tmp_path, {"br0": [f"unix:{tmp_path}/daemon"]}, seconds=60.0) as hung_up:
            bridges.accept()[0].sendall(b"\5\0\0\1")  # half a header, and shorter than one
            daemons.accept()[0].close()
        assert hung_up == ["br0"]
        assert fill(tmp_path, {"br0": [f"unix:{tmp_path}/daemon"]}, 0.05) == ["br0"]
