#!/usr/bin/env python3
"""Inside a hypervisor of a lab: devices are plugged in one by one, and it is seen when the first packet of each comes.

    plug_probe.py DATABASE MANAGEMENT < PLAN.json

PLAN: `{"receivers": [...], "senders": [...], "stay": bool}`, each `{"device", "mac", "ip", "network"}`. Every device is
one end of a veth pair; the other end, from which its VM speaks, is in a namespace for VMs, since Open vSwitch looks at
every interface that it can see whenever a port comes. A sender's device is made just before it is plugged, as a VM's
is, and goes again unless they `stay`. A sender `by_hand` is nobody's but the probe's, which answers the switch's word
with one flow: no controller can be quicker.

Prints `plugged` when the receivers are, waits for a line, and then prints JSON: for each sender the milliseconds from
the database's answer, and from the switch's word that the port is there (OFPT_PORT_STATUS, which the daemon hears at
the same moment), until the first of its packets arrives. A port during which the host of a virtual machine took
processors away comes once more (`whole`): `aside` has its times.
"""
from __future__ import annotations

import ctypes
import itertools
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ovsdb import Ovsdb
from whole import stolen

EVERY = 0.0003  # seconds between two packets of a VM that waits to be heard
PATIENCE = 10.0
TRIES = 5  # of a port during which the machine's host took processors away
REST = 0.15  # seconds between two changes; Open vSwitch looks at what is new again after 0.1
MARK = b"tunbridge-plug"
SO_TIMESTAMPNS, ETH_P_IP = 35, 0x0800
NEW_NETWORK = 0x40000000  # CLONE_NEWNET
VERSION, HELLO, ECHO, SET_CONFIG, PORT_STATUS, FLOW_MOD = 5, 0, 2, 9, 12, 14
ANY, NO_BUFFER, COOKIE = 0xFFFFFFFF, 0xFFFFFFFF, 0xBE


def ethernet(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def frame(source: dict[str, str], target: dict[str, str], number: int) -> bytes:
    """UDP from one VM to another, without checksums."""
    data = MARK + struct.pack("!I", number)
    udp = struct.pack("!HHHH", 7777, 7777, 8 + len(data), 0) + data
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, socket.inet_aton(source["ip"]),
                       socket.inet_aton(target["ip"]))
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    return ethernet(target["mac"]) + ethernet(source["mac"]) + struct.pack("!H", ETH_P_IP) + head + udp


class Switch:
    """Hears when ports come, as a controller does."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path)
        self._heard = b""
        self.numbers: dict[str, int] = {}  # OpenFlow ports by name
        self._send(HELLO)
        self._send(SET_CONFIG, struct.pack("!HH", 0, 0xFFFF))  # who wants packets is told of ports, too

    def _send(self, kind: int, body: bytes = b"", xid: int = 1) -> None:
        self.sock.sendall(struct.pack("!BBHI", VERSION, kind, 8 + len(body), xid) + body)

    def came(self) -> list[str]:
        """The names of ports of which the switch has just spoken, if it has."""
        while select.select([self.sock], [], [], 0)[0]:
            self._heard += self.sock.recv(1 << 16)
        names = []
        while len(self._heard) >= 8 and len(self._heard) >= (length := int.from_bytes(self._heard[2:4], "big")):
            message, self._heard = self._heard[:length], self._heard[length:]
            if message[1] == PORT_STATUS:
                names.append(message[32:48].rstrip(b"\0").decode())
                self.numbers[names[-1]] = int.from_bytes(message[16:20], "big")
            elif message[1] == ECHO:
                self._send(ECHO + 1, message[8:], int.from_bytes(message[4:8], "big"))
        return names

    def lead(self, device: str, to: str) -> None:
        """One flow: all that comes by a port leaves by another."""
        match = struct.pack("!HHIIxxxx", 1, 12, 0x80000004, self.numbers[device])  # in_port
        output = struct.pack("!HHxxxxHHIHxxxxxx", 4, 24, 0, 16, self.numbers[to], 0xFFFF)  # apply: output
        self._send(FLOW_MOD, struct.pack("!QQBBHHHIIIHH", COOKIE, 0, 0, 0, 0, 0, 0xFFFF, NO_BUFFER, ANY, ANY, 0, 0)
                   + match + output)


def far(device: str) -> str:
    """The VM's end of a device."""
    return "x" + device[2:]


class Vms:
    """A network namespace beside the one that the probe runs in; it ends with the probe."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._outside = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._call(self._libc.unshare(NEW_NETWORK))
        self._holder = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        self._inside = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._enter(self._outside)

    def _call(self, status: int) -> None:
        if status:
            raise OSError(ctypes.get_errno(), "no namespace for VMs")

    def _enter(self, namespace: int) -> None:
        self._call(self._libc.setns(namespace, NEW_NETWORK))

    def make(self, device: str) -> socket.socket:
        """Both ends of a device, and an ear at the VM's."""
        subprocess.run(["ip", "link", "add", device, "type", "veth", "peer", "name", far(device), "netns",
                        str(self._holder.pid)], check=True)
        _up(device)
        self._enter(self._inside)
        try:
            _up(far(device))
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
            sock.bind((far(device), ETH_P_IP))
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            return sock
        finally:
            self._enter(self._outside)


def _up(device: str) -> None:
    Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")
    subprocess.run(["ip", "link", "set", device, "up"], check=True)


def plug(database: Ovsdb, bridge: Any, device: str) -> Any:
    """What `ovs-vsctl add-port` writes; returns the port's UUID."""
    return database.transact(
        "Open_vSwitch", {"op": "insert", "table": "Interface", "row": {"name": device}, "uuid-name": "i"},
        {"op": "insert", "table": "Port", "row": {"name": device, "interfaces": ["named-uuid", "i"]}, "uuid-name": "p"},
        {"op": "mutate", "table": "Bridge", "where": [["_uuid", "==", bridge]],
         "mutations": [["ports", "insert", ["named-uuid", "p"]]]})[1]["uuid"]


def unplug(database: Ovsdb, bridge: Any, port: Any) -> None:
    """What `ovs-vsctl del-port` writes."""
    database.transact("Open_vSwitch", {"op": "mutate", "table": "Bridge", "where": [["_uuid", "==", bridge]],
                                       "mutations": [["ports", "delete", port]]})


def arrival(sock: socket.socket, number: int) -> float | None:
    """When this VM's packet came, by the kernel's clock; None if what came is another's."""
    data, about, _, _ = sock.recvmsg(256, 64)
    at = data.find(MARK)
    if at < 0 or int.from_bytes(data[at + len(MARK):at + len(MARK) + 4], "big") != number:
        return None
    seconds, nanoseconds = struct.unpack("qq", about[0][2][:16])
    return float(seconds + nanoseconds / 1e9)


def first(switch: Switch, ears: tuple[socket.socket, socket.socket], data: bytes, number: int,
          plan: tuple[dict[str, str], dict[str, str]]) -> tuple[float, float]:
    """Speak until heard: when the switch has told of the port, and when the first packet came."""
    (one, target), device = plan, plan[0]["device"]
    mouth, ear = ears
    told, deadline = 0.0, time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        mouth.send(data)
        heard, _, _ = select.select([switch.sock, ear], [], [], EVERY)
        if switch.sock in heard and device in switch.came() and not told:
            told = time.time()
            if "by_hand" in one:
                switch.lead(device, target["device"])
        if ear in heard and (at := arrival(ear, number)) is not None:
            return told, at
    sys.exit(f"no packet of {device} comes within {PATIENCE:.0f} s")


def main() -> None:
    """See above."""
    database, management = sys.argv[1:]
    plan = json.loads(sys.stdin.readline())
    server, switch = Ovsdb(Path(database)), Switch(management)
    rows = server.transact("Open_vSwitch", {"op": "select", "table": "Bridge", "where": [["name", "==", "br-int"]],
                                            "columns": ["_uuid"]})[0]["rows"]
    bridge, ears, vms, there = rows[0]["_uuid"], {}, Vms(), []
    for one in plan["receivers"]:
        ears[one["network"]] = one, vms.make(one["device"])
        there.append(plug(server, bridge, one["device"]))
    print("plugged", flush=True)
    sys.stdin.readline()
    switch.came()
    found, numbers = [], itertools.count()
    for one in plan["senders"]:
        target, ear = ears[one["network"]]
        aside: list[float] = []
        while True:
            mouth = vms.make(one["device"])
            time.sleep(REST)
            lost, port = stolen(), plug(server, bridge, one["device"])
            committed = time.time()
            number = next(numbers)
            told, at = first(switch, (mouth, ear), frame(one, target, number), number, (one, target))
            whole = stolen() == lost or len(aside) == TRIES
            if not told:
                sys.exit(f"the switch has not told of {one['device']}")
            if whole and plan["stay"] and "by_hand" not in one:
                there.append(port)
            else:
                unplug(server, bridge, port)
                mouth.close()
                subprocess.run(["ip", "link", "del", one["device"]], check=True)
            time.sleep(REST)
            switch.came()
            if whole:
                break
            aside.append((at - told) * 1e3)
        found.append({"committed": (at - committed) * 1e3, "appeared": (at - told) * 1e3,
                      "switch": (told - committed) * 1e3, "told": told, "at": at, "aside": aside})
    for port in there:
        unplug(server, bridge, port)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
