#!/usr/bin/env python3
"""What the switch itself can take: the bytes of 100,000 flows of br-tun, packed beforehand, from a plain socket.

They are the daemon's own bytes, in bundles of several sizes; the time is from the first byte until the switch has
answered a barrier, and beside it stands the processor time of ovs-vswitchd. No program that sends these flows in any
way can be quicker than that. `reconcile.py` has the daemon's time. Needs root.
"""
from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from argparse import Namespace
from collections.abc import Iterator

import clouds
from daemons import cpu
from one_vm import Connection
from reports import Report, finish, parser, say
from stage import Stage, stage

from controller.model import placement
from controller.switch import bundles
from controller.switch.events import Write
from controller.switch.fleet import Fleet

VERSION, HELLO, BARRIER, ANSWER, CONTROL, ADD = 5, 0, 20, 21, 33, 34
OPEN, CLOSE, COMMIT, FLAGS, LAST = 0, 2, 4, 3, 777
SIZES = (200, 1000, 2000, 5000, 20_000)


def messages(flows: int) -> list[bytes]:
    """What the daemon puts into bundles for an empty br-tun."""
    topology = clouds.crowd(flows)
    fleet, seen = Fleet(topology, frozenset(("hv1",))), placement.imagined(topology, "hv1")
    conns = {bridge: (Connection(), dpid) for dpid, (host, bridge) in topology.bridges.items() if host == "hv1"}
    for bridge, (conn, dpid) in conns.items():
        fleet.connected(conn, dpid, seen.ports[bridge])
    commands = [command for conn, _ in conns.values() for command in fleet.flows_read(conn, [])]
    tunnels = conns["br-tun"][0]
    parts = [part for one in commands if isinstance(one, Write) and one.conn is tunnels for part in one.parts]
    data = b"".join(piece for part in parts for piece in bundles.bundle(tunnels, 1, part).staged)
    return [message[16:] for message in _split(data) if message[1] == ADD]


def _split(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 2:at + 4], "big")
        yield data[at:at + length]
        at += length


def bundled(mods: list[bytes], size: int) -> bytes:
    """The same in bundles of so many."""
    out = []
    for number, at in enumerate(range(0, len(mods), size), 1):
        out.append(_control(number, OPEN))
        out += [struct.pack("!BBH4sIHH", VERSION, ADD, 16 + len(mod), mod[4:8], number, 0, FLAGS) + mod
                for mod in mods[at:at + size]]
        out += [_control(number, CLOSE), _control(number, COMMIT)]
    return b"".join(out)


def _control(number: int, kind: int) -> bytes:
    return struct.pack("!BBHIIHH", VERSION, CONTROL, 16, 1, number, kind, FLAGS)


def sent(here: Stage, data: bytes) -> float:
    """Seconds until all of it is in."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.connect(str(here.where / "lab" / "hv1" / "br-tun.mgmt"))
        sock.sendall(struct.pack("!BBHI", VERSION, HELLO, 8, 1))
        sock.recv(64)
        start = time.monotonic()
        speaks = threading.Thread(target=sock.sendall, args=(data + struct.pack("!BBHI", VERSION, BARRIER, 8, LAST),))
        speaks.start()
        heard, end = b"", struct.pack("!BBHI", VERSION, ANSWER, 8, LAST)
        while end not in heard:
            heard = heard[-len(end):] + sock.recv(1 << 16)
        took = time.monotonic() - start
        speaks.join()
    return took


def report(asked: Namespace) -> Report:
    """Figures alone."""
    mods = messages(asked.flows)
    made = Report(f"the switch alone: {len(mods):,} flows of br-tun, packed beforehand")
    all_bytes = {size: bundled(mods, size) for size in SIZES}
    took: dict[int, list[float]] = {size: [] for size in SIZES}
    busy: dict[int, list[float]] = {size: [] for size in SIZES}
    with stage() as here:
        switch = int((here.where / "lab" / "hv1" / "ovs-vswitchd.pid").read_text())
        for number in range(asked.runs):
            for size, data in all_bytes.items():
                here.ofctl("del-flows", "br-tun")
                before = cpu(switch)
                took[size].append(sent(here, data))
                busy[size].append(cpu(switch) - before)
                assert here.count() == len(mods)
            say(f"  run {number + 1} of {asked.runs}: " + ", ".join(f"{took[size][-1]:.2f}" for size in SIZES))
    for size in SIZES:
        made.add(f"bundles of {size:,}", "s", took[size])
        made.add("  processor time of ovs-vswitchd", "s", busy[size])
    return made


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--flows", type=int, default=100_000)
    finish(report, options.parse_args())
