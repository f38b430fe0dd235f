#!/usr/bin/env python3
"""Switches that are only sockets: OpenFlow 1.4 as Open vSwitch speaks it, as far as the daemon asks.

    fakes.py SOCKET < SWITCHES.json

connects all of them at once to a Unix socket, again if the daemon goes, and obeys: flow-mods alone and in bundles,
dumps, counts, port lists, meters, barriers, echo, roles. It prints `ready` when all have connected the first time, and
at each further line of its input, one line of JSON: for each switch what it has been sent and what it holds. It ends
with its input. SWITCHES.json: one line, `[{"dpid": 1, "ports": {"patch-tun": 1}}, ...]`.

There is no packet, no match is understood (a delete goes by its cookie, a strict one by the bytes of its match), and
every message is believed. It is for load and for tests of connections, not for tests of flows.
"""
from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

HEADER = struct.Struct("!BBHI")
VERSION = 5
(HELLO, ECHO, ECHO_REPLY, FEATURES, FEATURES_REPLY, CONFIG, CONFIG_REPLY) = (0, 2, 3, 5, 6, 7, 8)
(FLOW_MOD, MULTIPART, MULTIPART_REPLY, BARRIER, BARRIER_REPLY, ROLE, ROLE_REPLY) = (14, 18, 19, 20, 21, 24, 25)
METER_MOD, BUNDLE_CONTROL, BUNDLE_ADD = 29, 33, 34
DESCRIPTION, FLOWS, AGGREGATE, TABLES, PORTS = 0, 1, 2, 3, 13  # of multipart; the others have nothing to tell
OPEN, CLOSE, COMMIT, DISCARD = 0, 2, 4, 6
ADD, MODIFY, MODIFY_STRICT, DELETE, DELETE_STRICT = range(5)
ALL_TABLES, EXACT = 255, (1 << 64) - 1
MORE = 1
PART = 60_000  # bytes of a reply's part
FLOW_STATS = struct.Struct("!HBxIIHHHHHxxQQQ")
AGAIN = 0.2  # seconds until a switch that was refused connects again
Key = tuple[int, int, bytes]


@dataclass
class Switch:
    """One of them: what it holds, and what it has been sent since it connected."""

    dpid: int
    ports: dict[str, int]
    flows: dict[Key, tuple[int, bytes]] = field(default_factory=dict)  # -> cookie, match and instructions
    by_cookie: dict[int, Key] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)
    bundles: dict[int, list[bytes]] = field(default_factory=dict)
    role: int = 1
    sock: socket.socket | None = None
    heard: bytes = b""
    owed: bytearray = field(default_factory=bytearray)

    def told(self, data: bytes) -> None:
        """Bytes have come: obey every whole message."""
        data = self.heard + data if self.heard else data
        start, end = 0, len(data)
        while end - start >= 8:
            _, kind, length, xid = HEADER.unpack_from(data, start)
            if length < 8:
                raise ValueError(f"a message of type {kind} says that it has {length} bytes")
            if start + length > end:
                break
            self.obey(kind, xid, data[start:start + length])
            start += length
        self.heard = data[start:]

    def reply(self, kind: int, xid: int, body: bytes = b"") -> None:
        """A message back."""
        self.owed += HEADER.pack(VERSION, kind, 8 + len(body), xid) + body

    def obey(self, kind: int, xid: int, message: bytes) -> None:
        """One message."""
        if kind == BUNDLE_ADD:
            self.bundles[int.from_bytes(message[8:12], "big")].append(message[16:])
        elif kind == BUNDLE_CONTROL:
            self.control(xid, message)
        elif kind == FLOW_MOD:
            self.flow_mod(message)
        elif kind == MULTIPART:
            self.multipart(xid, int.from_bytes(message[8:10], "big"), message[16:])
        elif kind == FEATURES:
            self.reply(FEATURES_REPLY, xid, struct.pack("!QIBBxxII", self.dpid, 0, 254, 0, 0x4F, 0))
        elif kind == CONFIG:
            self.reply(CONFIG_REPLY, xid, struct.pack("!HH", 0, 0xFFFF))
        elif kind == ROLE:
            role = int.from_bytes(message[8:12], "big")
            self.role = role or self.role
            self.reply(ROLE_REPLY, xid, struct.pack("!I", self.role) + message[12:])
        elif kind in (ECHO, BARRIER):
            self.reply(kind + 1, xid, message[8:])
        elif kind == METER_MOD:
            self.sent["meters"] += 1

    def control(self, xid: int, message: bytes) -> None:
        """A bundle opens, closes, is in, or is forgotten."""
        number, kind, flags = struct.unpack_from("!IHH", message, 8)
        if kind == OPEN:
            self.bundles[number] = []
        elif kind == COMMIT:
            for inner in self.bundles.pop(number):
                self.flow_mod(inner)
            self.sent["bundles"] += 1
        elif kind == DISCARD:
            self.bundles.pop(number, None)
        self.reply(BUNDLE_CONTROL, xid, struct.pack("!IHH", number, kind + 1, flags))

    def flow_mod(self, message: bytes) -> None:
        """A flow comes, or goes."""
        cookie, mask, table, command, _, _, priority = struct.unpack_from("!QQBBHHH", message, 8)
        length = int.from_bytes(message[50:52], "big")
        key = table, priority, message[52:48 + length]
        if command == ADD:
            self.sent["added"] += 1
            self.flows[key] = cookie, message[48:]
            self.by_cookie[cookie] = key
            return
        self.sent["deleted" if command in (DELETE, DELETE_STRICT) else "modified"] += 1
        if command == DELETE_STRICT:
            self.flows.pop(key, None)
        elif command == DELETE and mask == EXACT:
            found = self.by_cookie.pop(cookie, None)
            if found is not None and self.flows.get(found, (None,))[0] == cookie:
                del self.flows[found]
        elif command == DELETE:
            for found in [one for one, (has, _) in self.flows.items()
                          if has & mask == cookie & mask and table in (one[0], ALL_TABLES)]:
                del self.flows[found]

    def multipart(self, xid: int, kind: int, body: bytes) -> None:
        """A question about it, in as many parts as the answer needs."""
        self.sent[f"asked {kind}"] += 1
        parts = [b""]
        if kind == FLOWS:
            parts = _parts(FLOW_STATS.pack(48 + len(tail), key[0], 1, 0, key[1], 0, 0, 0, 0, cookie, 0, 0) + tail
                           for key, cookie, tail in self.asked(body))
        elif kind == AGGREGATE:
            parts = [struct.pack("!QQIxxxx", 0, 0, sum(1 for _ in self.asked(body)))]
        elif kind == TABLES:
            held = Counter(table for table, *_ in self.flows)
            parts = [b"".join(struct.pack("!BxxxIQQ", table, held[table], 0, 0) for table in range(254))]
        elif kind == PORTS:
            parts = _parts(struct.pack("!IHxx6sxx16sII", number, 40, number.to_bytes(6, "big"), name.encode(), 0, 0)
                           for name, number in self.ports.items())
        elif kind == DESCRIPTION:
            parts = [bytes(1056)]
        for index, part in enumerate(parts):
            more = MORE if index + 1 < len(parts) else 0
            self.reply(MULTIPART_REPLY, xid, struct.pack("!HHxxxx", kind, more) + part)

    def asked(self, body: bytes) -> Iterator[tuple[Key, int, bytes]]:
        """The flows that a request is about."""
        table, = struct.unpack_from("!B", body)
        cookie, mask = struct.unpack_from("!QQ", body, 16)
        for key, (has, tail) in self.flows.items():
            if table in (key[0], ALL_TABLES) and has & mask == cookie & mask:
                yield key, has, tail

    def forget_connection(self) -> None:
        """It is gone: bundles are, flows stay."""
        assert self.sock is not None
        self.sock.close()
        self.sock, self.heard, self.role = None, b"", 1
        self.owed.clear()
        self.bundles.clear()
        self.sent.clear()


def _parts(entries: Iterable[bytes]) -> list[bytes]:
    found = [bytearray()]
    for entry in entries:
        if len(found[-1]) + len(entry) > PART:
            found.append(bytearray())
        found[-1] += entry
    return [bytes(one) for one in found]


class Rack:
    """All of them, in one process."""

    def __init__(self, path: str, switches: list[Switch]) -> None:
        self._path = path
        self._selector = selectors.DefaultSelector()
        self._away = list(switches)
        self._switches = switches
        self._again = 0.0
        self._said = False

    def run(self) -> None:
        """Until the input ends."""
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            self._connect()
            for key, _ in self._selector.select(AGAIN):
                if key.fileobj is sys.stdin:
                    if not sys.stdin.readline():
                        return
                    self._tell()
                else:
                    self._serve(key.data)

    def _connect(self) -> None:
        if time.monotonic() < self._again:
            return
        while self._away:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(self._path)
            except OSError:
                sock.close()
                self._again = time.monotonic() + AGAIN
                return
            switch = self._away.pop()
            sock.setblocking(False)
            switch.sock = sock
            switch.reply(HELLO, 0)
            self._selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, switch)
        if not self._said:
            self._said = True
            print("ready", flush=True)

    def _serve(self, switch: Switch) -> None:
        assert switch.sock is not None
        try:
            try:
                data = switch.sock.recv(1 << 18)
                if not data:
                    raise ConnectionResetError
                switch.told(data)
            except BlockingIOError:
                pass
            self._pay(switch)
        except (ConnectionError, OSError):
            self._selector.unregister(switch.sock)
            switch.forget_connection()
            self._away.append(switch)

    def _pay(self, switch: Switch) -> None:
        """Send what is owed, and ask to be woken only if something is left."""
        assert switch.sock is not None
        while switch.owed:
            try:
                del switch.owed[:switch.sock.send(switch.owed)]
            except BlockingIOError:
                break
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if switch.owed else 0)
        if self._selector.get_key(switch.sock).events != wanted:
            self._selector.modify(switch.sock, wanted, switch)

    def _tell(self) -> None:
        print(json.dumps([{"dpid": one.dpid, "flows": len(one.flows), "role": one.role, **one.sent}
                          for one in self._switches]), flush=True)


def main() -> None:
    """See above."""
    switches = [Switch(one["dpid"], one["ports"]) for one in json.loads(sys.stdin.readline())]
    Rack(sys.argv[1], switches).run()


if __name__ == "__main__":
    main()
