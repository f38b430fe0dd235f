"""Simulated routers of a running cloud whose legs all end in sockets of the test: frames go in and come out.

One network host holds three routers with the same addresses. Leg A of each is on an overlay network, behind a VM that
wears every MAC; B and G are VLANs of a provider bridge, behind a network card of the test's own.
"""
from __future__ import annotations

import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from labkit import Cloud
from routerkit import FIXED, GATEWAY, MACS, OWN, SUBNETS, A, B, G, arp_in, is_at, mac_of, number, ping, router

from controller.host import netns
from flows.fields import ARP_REQUEST
from flows.qrouter import Sent
from flows.router import Router
from flows.routing.wireformat import BROADCAST_MAC, NO_MAC, Arp, Frame

DAEMON = (sys.executable, str(Path(__file__).with_name("unlimited_daemon.py")))
NAMES = ("snat", "no-snat", "no-outside")
MTUS = (1450, 1500, 1500)  # an overlay network, and two without tunnels
ROUTERS: dict[str, Router] = {
    "snat": router(mtus=MTUS),
    "no-snat": replace(router(mtus=MTUS, snat=False), floating_ips=()),
    "no-outside": router(mtus=MTUS, outside=False),
}
_MARKERS = {A: "10.0.1.250", B: "10.0.2.250", G: "203.0.113.250"}  # nobody has these addresses
# Whoever speaks or is spoken to behind leg A; a frame from anybody else was passed on by 10.0.1.50.
_WORN = ["10.0.1.12", "10.0.1.50", "10.0.1.0", "0.0.0.0", OWN[A], "10.9.9.9", _MARKERS[A],
         *(f"10.0.1.{last}" for last in range(200, 240))]
_PATIENCE = 5.0  # seconds to wait for a marker, which takes milliseconds
_ETH_P_ALL, _SOL_PACKET, _PACKET_AUXDATA, _PACKET_IGNORE_OUTGOING = 3, 263, 8, 23
_AUXDATA, _VLAN_VALID = struct.Struct("=IIIHHHH"), 0x10  # struct tpacket_auxdata
_VLANS = {B: 100, G: 200}  # and the number of the router is added


def topology() -> str:
    """The cloud's text."""
    lines = ["cloud: live", "firewall: none", "underlay: {cidr: 192.0.2.0/24}",
             "hosts: {n1: {tunnel_ip: 192.0.2.21, role: network}}", "networks:"]
    for n, name in enumerate(NAMES):
        lines.append(f"  a{n}: {{tunnel_id: {1000 + n}, {_subnet('a', n, SUBNETS[A], OWN[A])}}}")
        lines.append(f"  b{n}: {{{_segment(B, n)}, {_subnet('b', n, SUBNETS[B], OWN[B])}}}")
        if ROUTERS[name].outside:
            lines.append(f"  g{n}: {{external: true, {_segment(G, n)}, {_subnet('g', n, SUBNETS[G], GATEWAY)}}}")
    lines.append("routers:")
    for n, name in enumerate(NAMES):
        lines += _router(n, ROUTERS[name])
    lines.append("vms:")
    pairs = ", ".join(f'{{ip: 0.0.0.0/0, mac: "{mac_of(one).hex(":")}"}}' for one in _WORN)
    for n in range(len(NAMES)):
        lines.append(f'  va{n}: {{host: n1, network: a{n}, ip: 10.0.1.11, mac: "{mac_of("10.0.1.11").hex(":")}", '
                     f'allowed_address_pairs: [{{ip: 0.0.0.0/0}}, {pairs}]}}')
        lines.append(f'  vb{n}: {{host: n1, network: b{n}, ip: 10.0.2.11, mac: "{mac_of("10.0.2.11").hex(":")}"}}')
    lines.append("floating_ips:")
    lines += [f"  {external}: {{vm: v{'a' if fixed.startswith('10.0.1.') else 'b'}0}}"
              for external, fixed in FIXED.items()]
    return "\n".join(lines) + "\n"


def _subnet(letter: str, n: int, cidr: str, gateway: str) -> str:
    return f"subnets: {{{letter}{n}-subnet: {{cidr: {cidr}, gateway: {gateway}}}}}"


def _segment(leg: str, n: int) -> str:
    return f"physical_network: wires, network_type: vlan, segmentation_id: {_VLANS[leg] + n}"


def _router(n: int, made: Router) -> Iterator[str]:
    legs = ", ".join(f'{{subnet: {letter}{n}-subnet, ip: {OWN[leg]}, mac: "{MACS[leg]}"}}'
                     for letter, leg in (("a", A), ("b", B)))
    yield f"  r{n}:"
    yield f"    {{host: n1, interfaces: [{legs}],"
    if made.gateway:
        snat = str(made.gateway.snat).lower()
        yield f'     gateway: {{network: g{n}, ip: {OWN[G]}, mac: "{MACS[G]}", snat: {snat}}},'
    routes = ", ".join(f"{{destination: {one.destination}, nexthop: {one.nexthop}}}" for one in made.routes)
    yield f"     routes: [{routes}]}}"


@dataclass(frozen=True)
class Ear:
    """A socket, and what is heard there: the leg of a router, by VLAN where there are several."""

    opened: socket.socket
    legs: dict[int | None, tuple[int, str]]  # VLAN -> number of the router, leg


class Wires:
    """All ends of all legs, in this process."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._ears: list[Ear] = []
        self._asked = self._answered = self._settled = 0
        for n in range(len(NAMES)):
            self._ears.append(Ear(self._vm(f"va{n}"), {None: (n, A)}))
            self._ears.append(Ear(self._vm(f"vb{n}"), {None: (n, B)}))
        legs = {vlan + n: (n, leg) for leg, vlan in _VLANS.items() for n, name in enumerate(NAMES)
                if leg in ROUTERS[name].by_name}
        self._card = self._uplink()
        self._ears.append(Ear(self._card, {**legs}))

    def _vm(self, vm: str) -> socket.socket:
        """A VM whose kernel takes no part any more."""
        self._cloud.run(vm, "ip", "address", "flush", "dev", "eth0")
        self._cloud.run(vm, "ip", "link", "set", "eth0", "arp", "off")
        return self._open(vm, "eth0")

    def _uplink(self) -> socket.socket:
        """The only network card of the provider bridge: the world outside of the lab is cut off."""
        for port in self._cloud.run("n1", "ovs-vsctl", "list-ports", "br-wires").split():
            if not port.startswith("phy-"):
                self._cloud.run("n1", "ip", "link", "set", port, "down")
        self._cloud.run("n1", "ip", "link", "add", "card", "type", "veth", "peer", "name", "far")
        for device in ("card", "far"):
            self._cloud.run("n1", "ethtool", "-K", device, "tx", "off", "gro", "off")
            self._cloud.run("n1", "ip", "link", "set", device, "mtu", "9000", "arp", "off", "up")
        self._cloud.run("n1", "ovs-vsctl", "add-port", "br-wires", "card")
        return self._open("n1", "far")

    def _open(self, node: str, device: str) -> socket.socket:
        with netns.inside(netns.of_process(self._cloud.pid(node))):
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        opened.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        opened.bind((device, _ETH_P_ALL))
        opened.setblocking(False)
        return opened

    def close(self) -> None:
        """The sockets; the lab goes as a whole."""
        for ear in self._ears:
            ear.opened.close()

    def put(self, n: int, leg: str, frame: bytes) -> None:
        """A frame to the leg of a router."""
        if leg == A:
            self._ears[2 * n].opened.send(frame)
        else:
            self._card.send(frame[:12] + struct.pack("!HH", 0x8100, _VLANS[leg] + n) + frame[12:])

    def heard(self, seconds: float) -> list[tuple[int, Sent]]:
        """What routers have sent meanwhile, as (number of the router, leg and frame); waits so long for the first."""
        ears = {ear.opened.fileno(): ear for ear in self._ears}
        found = []
        for number_ in select.select(list(ears), [], [], seconds)[0]:
            ear = ears[number_]
            with suppress(BlockingIOError):
                while True:
                    frame, vlan = _received(ear.opened)
                    n, leg = ear.legs.get(vlan, (0, ""))
                    # What is for many is heard at the card, too.
                    copied = leg == B and vlan is None and frame[0] & 1
                    if leg and not copied and frame[6:12].hex(":") == MACS[leg]:
                        found.append((n, Sent(leg, frame)))
        return found

    def glance(self, n: int, leg: str) -> list[Sent]:
        """All that the switch has sent alone: what its controller does may come later."""
        return [*self._until_answered(n, leg, self._arp(leg)), *self._others(n, 0)]

    def settle(self, n: int, leg: str) -> list[Sent]:
        """All that the router has sent until it has done what came before; hosts answer its questions meanwhile.

        A switch works on what comes in together in any order: the controller is asked once the switch has answered.
        """
        found: list[Sent] = []
        again = True
        while again or self._settled != self._answered:  # what waited for a host's answer leaves after it
            again, self._settled = False, self._answered
            found += self._until_answered(n, leg, self._arp(leg))
            found += self._until_answered(n, leg, self._echo(leg))
            found += self._others(n, 0)
        return found

    @staticmethod
    def _arp(leg: str) -> tuple[bytes, bytes]:
        """A question that the switch answers alone, and what its answer begins with."""
        own = mac_of(_MARKERS[leg])
        return Arp(ARP_REQUEST, own, number(_MARKERS[leg]), NO_MAC, number(OWN[leg])).framed(own, BROADCAST_MAC), own

    def _echo(self, leg: str) -> tuple[bytes, bytes]:
        """A question that the controller answers."""
        self._asked += 1
        own = mac_of(_MARKERS[leg])
        asked = ping(_MARKERS[leg], OWN[leg], 0xFFFF, struct.pack("!Q", self._asked))
        return asked.framed(own, bytes.fromhex(MACS[leg].replace(":", ""))), own

    def _until_answered(self, n: int, leg: str, question: tuple[bytes, bytes]) -> list[Sent]:
        frame, own = question
        self.put(n, leg, frame)
        found, deadline = [], time.monotonic() + _PATIENCE
        while True:
            more = self._others(n, 0.2)
            found += [one for one in more if one.frame[:6] != own]
            if any(_answers(one.frame, frame) for one in more if one.frame[:6] == own):
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"router {n} does not answer on {leg}")

    def _others(self, n: int, seconds: float) -> list[Sent]:
        """What it sent but for ARP questions, which the hosts answer."""
        found = []
        for who, sent in self.heard(seconds):
            question = arp_in(sent.frame)
            if question is None or question.op != ARP_REQUEST:
                found += [sent] if who == n and not _announces(question) else []
            elif not _announces(question):
                self._answered += 1
                self.put(who, sent.leg, is_at(sent.leg, question))
        return found


def _announces(arp: Arp | None) -> bool:
    return arp is not None and arp.sender == arp.target


def _answers(frame: bytes, question: bytes) -> bool:
    if Frame.parse(frame).kind != Frame.parse(question).kind:
        return False
    return frame[12:14] == b"\x08\x06" or frame[-8:] == question[-8:]


def _received(opened: socket.socket) -> tuple[bytes, int | None]:
    """A frame, and the VLAN that the kernel took off it."""
    frame, extra, _, _ = opened.recvmsg(65536, 128)
    for level, kind, data in extra:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, *_, tci, _ = _AUXDATA.unpack_from(data)
            if status & _VLAN_VALID:
                return frame, tci & 0xFFF
    return frame, None


def worn(leg: str, frame: bytes) -> bytes:
    """The frame from somebody whom the VM behind leg A may be."""
    if leg != A or frame[6:12] in _SOURCES:
        return frame
    return frame[:6] + mac_of("10.0.1.50") + frame[12:]


_SOURCES = {mac_of(one) for one in ("10.0.1.11", *_WORN)}


@contextmanager
def wires() -> Iterator[Wires]:
    """A cloud with an unlimited daemon, and the wires of its routers."""
    made = Cloud(topology(), daemon=DAEMON)
    failed, ends = True, None
    try:
        made.start_daemon()
        made.up()
        made.in_sync()
        ends = Wires(made)
        made.in_sync()
        yield ends
        failed = False
    finally:
        if ends:
            ends.close()
        made.finish(failed=failed)
