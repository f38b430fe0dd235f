"""A bridge of the topology whose answers make no sense, and one that says what nobody has asked for."""
from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path

from controller.model import reading
from tests.commands import PATIENCE, ROOT, daemon, place

DEMO = ROOT / "topology.yaml"
ECHO, FEATURES, MULTIPART, ROLE = 2, 5, 18, 24  # requests (OpenFlow 1.4, 7.1.1); the answers are the next numbers
FLOW, AGGREGATE, PORTS = 1, 2, 13  # multipart types (7.3.5)
SHORT = struct.pack("!H", 8) + bytes(64)  # a row that ends before its cookie
LONG = struct.pack("!H", 900) + bytes(64)  # and one that ends after the message


class Liar:
    """br-tun of compute1, as far as what it says of its rows."""

    def __init__(self, where: Path, rows: bytes) -> None:
        topology = reading.load(DEMO).topology
        assert topology
        self._dpid, self._rows = topology.hosts["compute1"].datapath_ids["br-tun"], rows
        self._answers: dict[int, Callable[[bytes], bytes]] = {
            ECHO: lambda body: body, ROLE: lambda body: body, MULTIPART: self._multipart,
            FEATURES: lambda body: struct.pack("!QIBB2xII", self._dpid, 0, 254, 0, 0, 0)}
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(where / "openflow.sock"))
        self.say(0, 1, b"")
        self.asked_for_rows = False

    def say(self, kind: int, xid: int, body: bytes) -> None:
        self.sock.sendall(struct.pack("!BBHI", 5, kind, 8 + len(body), xid) + body)

    def _multipart(self, body: bytes) -> bytes:
        kind = int.from_bytes(body[:2])
        self.asked_for_rows |= kind == FLOW
        what = {AGGREGATE: struct.pack("!QQI4x", 0, 0, 1), FLOW: self._rows}
        return struct.pack("!HH4x", kind, 0) + what.get(kind, b"")

    def answers(self) -> None:
        """Every question, until the daemon closes its side."""
        stream = self.sock.makefile("rb")
        while header := stream.read(8):
            _, kind, length, xid = struct.unpack("!BBHI", header)
            body = stream.read(length - 8)
            if kind in self._answers:
                try:
                    self.say(kind + 1, xid, self._answers[kind](body))
                except BrokenPipeError:
                    continue  # what is there to read is still to be read


def test_a_dump_that_makes_no_sense_ends_the_connection_with_one_warning() -> None:
    with place() as rundir, daemon(rundir, DEMO, "--listen", "none") as running:
        for times, (rows, why) in enumerate(((SHORT, "an item of 8 bytes"), (LONG, "an item of 900 bytes")), 1):
            liar = Liar(rundir, rows)
            liar.answers()
            assert liar.asked_for_rows
            assert running.waits_for("WARNING not OpenFlow", times)
            assert running.waits_for("WARNING disconnected switch=compute1/br-tun", times)
            assert why in running.words()
        assert "ERROR" not in running.words()


def test_a_dump_that_nobody_has_asked_for_is_not_looked_at() -> None:
    with place() as rundir, daemon(rundir, DEMO, "--listen", "none") as running:
        liar = Liar(rundir, LONG)
        liar.say(MULTIPART + 1, 77, struct.pack("!HH4x", FLOW, 0) + SHORT)
        liar.answers()
        assert running.waits_for("INFO connected switch=compute1/br-tun")
        assert liar.asked_for_rows
        assert "an item of 8 bytes" not in running.words()
