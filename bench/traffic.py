#!/usr/bin/env python3
"""One end of a stream inside a node of the lab; `routing.py` starts both ends.

A receiver says `ready` as soon as it can be called. At the end, each end says what it counted per second: bits of TCP,
packets of UDP.
"""
from __future__ import annotations

import contextlib
import socket
import sys
import time
from pathlib import Path

PORT = 5201
WARM_SECONDS = 0.7
SECONDS = {"tcp": 3.0, "udp": 2.0}  # that are measured, unless others are asked for
PATIENCE_SECONDS = 20
PAYLOAD = bytes(18)  # with the headers of UDP, IPv4 and Ethernet and the frame's checksum: a frame of 64 bytes


def receive_tcp(seconds: float) -> float:
    """Bits per second of the payload of one connection, after its slow start."""
    with socket.create_server(("", PORT)) as listener:
        listener.settimeout(PATIENCE_SECONDS)
        print("ready", flush=True)
        caller, _ = listener.accept()
    buffer = bytearray(1 << 20)
    with caller:
        caller.settimeout(PATIENCE_SECONDS)
        _read(caller, buffer, WARM_SECONDS)
        return _read(caller, buffer, seconds) * 8


def _read(caller: socket.socket, buffer: bytearray, seconds: float) -> float:
    """Bytes per second that were read for this long."""
    start, total = time.monotonic(), 0
    while (now := time.monotonic()) < start + seconds:
        total += caller.recv_into(buffer)
    return total / (now - start)


def send_tcp(address: str, _: float) -> float:
    """Send until the receiver hangs up; bits per second, with all that nobody read."""
    sent, start, data = 0, time.monotonic(), bytes(1 << 18)
    with contextlib.suppress(ConnectionError), socket.create_connection((address, PORT), PATIENCE_SECONDS) as caller:
        while True:
            caller.sendall(data)
            sent += len(data)
    return sent * 8 / (time.monotonic() - start)


def receive_udp(seconds: float) -> float:
    """Packets per second that reach the socket. Only the kernel counts them, so that no reader slows them down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        sock.bind(("", PORT))
        sock.settimeout(PATIENCE_SECONDS)
        print("ready", flush=True)
        sock.recv(64)
        time.sleep(WARM_SECONDS)
        start, before = time.monotonic(), _arrived()
        time.sleep(seconds)
        end, after = time.monotonic(), _arrived()
    return (after - before) / (end - start)


def _arrived() -> int:
    """Datagrams with a right checksum that came to sockets of this namespace, read or dropped there (RFC 4113)."""
    names, values = (line.split()[1:] for line in Path("/proc/self/net/snmp").read_text().splitlines()
                     if line.startswith("Udp:"))
    counted = dict(zip(names, map(int, values), strict=True))
    return counted["InDatagrams"] + counted["RcvbufErrors"]


def send_udp(address: str, seconds: float) -> float:
    """Send as fast as the machine can, until the receiver is gone or has had the time to count; packets per second."""
    sent, start = 0, time.monotonic()
    with contextlib.suppress(ConnectionError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, PORT))
        send, now, end = sock.send, time.monotonic, start + 2 * WARM_SECONDS + seconds
        while now() < end:
            for _ in range(100):
                send(PAYLOAD)
            sent += 100
    return sent / (time.monotonic() - start)


def main() -> None:
    """`traffic.py SECONDS receive tcp|udp` or `traffic.py SECONDS send tcp|udp ADDRESS`; 0: as long as usual."""
    asked, what, how, *address = sys.argv[1:]
    seconds = float(asked) or SECONDS[how]
    if what == "send":
        print((send_tcp if how == "tcp" else send_udp)(*address, seconds))
    else:
        print((receive_tcp if how == "tcp" else receive_udp)(seconds))


if __name__ == "__main__":
    main()
