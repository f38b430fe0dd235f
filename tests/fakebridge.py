"""A bridge of the demo that is no switch: it says of itself what a test wants, in the least of OpenFlow 1.4."""
from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path

from controller.model import reading
from tests.commands import PATIENCE, ROOT

DEMO = ROOT / "topology.yaml"
ECHO, FEATURES, MULTIPART, ROLE = 2, 5, 18, 24  # requests (OpenFlow 1.4, 7.1.1); the answers are the next numbers
FLOW, TABLE, PORTS = 1, 3, 13  # multipart types (7.3.5)


class FakeBridge:
    """br-tun of compute1, with these rows, as bytes."""

    def __init__(self, where: Path, rows: bytes = b"") -> None:
        topology = reading.load(DEMO).topology
        assert topology
        self._dpid, self._rows = topology.hosts["compute1"].datapath_ids["br-tun"], rows
        self.replies: dict[int, Callable[[bytes], bytes]] = {
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
        what = {TABLE: struct.pack("!B3xIQQ", 0, 1, 0, 0), FLOW: self._rows}
        return struct.pack("!HH4x", kind, 0) + what.get(kind, b"")

    def answers(self) -> None:
        """Every question, until the daemon closes its side."""
        stream = self.sock.makefile("rb")
        while header := stream.read(8):
            _, kind, length, xid = struct.unpack("!BBHI", header)
            body = stream.read(length - 8)
            if kind in self.replies:
                try:
                    self.say(kind + 1, xid, self.replies[kind](body))
                except BrokenPipeError:
                    continue  # what is there to read is still to be read
