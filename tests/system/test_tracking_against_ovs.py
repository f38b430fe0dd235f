"""Conversations through the compiled hop, on paper and in Open vSwitch's own connection tracking: equal frames leave.

The dummy datapath asks nothing of the machine, and tracks connections as the userspace datapath does.
"""
from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest
from wires import Wires, wired

from flows import compile as compiler
from flows import fields as f
from flows import packet as packets
from flows.evaluate import Pipeline
from flows.flow import Flow
from flows.packet import Packet
from flows.routed_learned import neighbour
from flows.routing.transport import ECHO_REPLY, ECHO_REQUEST
from flows.routing.wireformat import Datagram, Frame, mac_bytes
from flows.tables import BR_INT
from flows.tracking import Conntrack
from tests import hopcloud
from tests.routerkit import ping, udp_to

pytestmark = [pytest.mark.system, pytest.mark.shared]

PACKETS = 400
OUTSIDE_MAC = "02:00:cb:00:71:01"
FOREIGN = (hopcloud.GATEWAY, hopcloud.FAR, "198.51.100.9")


@dataclass(frozen=True, order=True)
class Said:
    """What a frame says, as far as a router has a part in it."""

    port: int
    macs: tuple[str, str]
    proto: int
    ways: tuple[str, str]
    ports: tuple[int, int]  # of an echo: its type and its id
    ttl: int


def on_paper(port: int, packet: Packet) -> Said:
    ports = (packet.get("icmpv4_type"), packet.get("icmp_id")) if packet.get(f.IP_PROTO) == packets.ICMP \
        else (packet.get(f.UDP_SRC), packet.get(f.UDP_DST))
    return Said(port, (packet.shown(f.ETH_SRC), packet.shown(f.ETH_DST)), packet.get(f.IP_PROTO) or 0,
                (packet.shown(f.IPV4_SRC), packet.shown(f.IPV4_DST)), (ports[0] or 0, ports[1] or 0),
                packet.get(f.IP_TTL) or 0)


def in_the_file(port: int, data: bytes) -> Said:
    if data[12:14] == b"\x81\x00":
        data = data[:12] + data[16:]
    datagram = Datagram.parse(Frame.parse(data).payload)
    body = datagram.payload
    ports = (body[0], struct.unpack_from("!H", body, 4)[0]) if datagram.proto == packets.ICMP \
        else struct.unpack_from("!HH", body)
    return Said(port, (data[6:12].hex(":"), data[:6].hex(":")), datagram.proto,
                (str(IPv4Address(datagram.src)), str(IPv4Address(datagram.dst))), ports, datagram.ttl)


@pytest.fixture
def wires() -> Iterator[Wires]:
    rows = (*compiler.compile_host(hopcloud.host())[BR_INT], *known_outside())
    with wired([*(vm.port for vm in hopcloud.VMS.values()), hopcloud.INT_EX], rows) as found:
        yield found


def known_outside() -> tuple[Flow, ...]:
    """The next hop outside has answered ARP."""
    found = []
    for simulated in hopcloud.routers():
        for leg, numbers in zip(simulated.router.legs, simulated.legs, strict=True):
            if leg == simulated.router.outside:
                found.append(neighbour(numbers, leg, int(IPv4Address(hopcloud.GATEWAY)), OUTSIDE_MAC))
    return tuple(found)


# ---- who says what

@dataclass
class Talk:
    """Random first words, and answers to what has arrived."""

    random: random.Random
    arrived: list[Said] = field(default_factory=list)
    spoken: list[Said] = field(default_factory=list)
    count: int = 0

    def next(self) -> Said:
        kind = self.random.random()
        if self.arrived and kind < 0.5:
            return self._answer(self.random.choice(self.arrived))
        if self.spoken and kind < 0.7:
            return self.random.choice(self.spoken)
        said = self._first()
        self.spoken.append(said)
        return said

    def _first(self) -> Said:
        self.count += 1
        pick = self.random.choice
        inside = {name: vm for name, vm in hopcloud.VMS.items() if vm.secured}
        floating = [str(one.external) for router in hopcloud.routers() for one in router.router.floating_ips]
        targets = [*(vm.address for vm in inside.values()), *floating * 3, *FOREIGN, "203.0.113.10"]
        proto = pick([packets.ICMP, f.UDP])
        # No two use one port or id: which one the switch gives the second is its own affair.
        ports = (ECHO_REQUEST, self.count) if proto == packets.ICMP else (10000 + self.count, pick([53, 80]))
        if self.random.random() < 0.3:
            leg = pick([simulated.router.outside for simulated in hopcloud.routers() if simulated.router.outside])
            target = pick([*floating * 3, "10.0.1.12", "10.0.2.11", "203.0.113.10"])
            return Said(hopcloud.INT_EX, (OUTSIDE_MAC, leg.mac), proto, (pick(FOREIGN), target), ports, 64)
        vm = pick(list(inside.values()))
        (leg,) = (leg for simulated in hopcloud.routers() for leg, numbers
                  in zip(simulated.router.legs, simulated.legs, strict=True)
                  if numbers.network == vm.network and IPv4Address(vm.address) in leg.addresses[0].network)
        return Said(vm.port, (vm.mac, leg.mac), proto, (vm.address, pick(targets)), ports, 64)

    @staticmethod
    def _answer(said: Said) -> Said:
        ports = (ECHO_REPLY, said.ports[1]) if said.proto == packets.ICMP else said.ports[::-1]
        return Said(said.port, said.macs[::-1], said.proto, said.ways[::-1], ports, 64)


def frame_of(said: Said) -> bytes:
    datagram = ping(*said.ways, ident=said.ports[1], kind=said.ports[0]) if said.proto == packets.ICMP \
        else udp_to(*said.ways, said.ports)
    return datagram.framed(mac_bytes(said.macs[0]), mac_bytes(said.macs[1]))


def packet_of(said: Said) -> Packet:
    source, target = zip(said.macs, said.ways, strict=True)
    if said.proto == packets.ICMP:
        return packets.icmp_echo(source, target).with_(icmpv4_type=said.ports[0], icmp_id=said.ports[1])
    return packets.udp(source, target, said.ports)


def test_conversations_are_translated_on_paper_as_in_open_vswitch(wires: Wires, seed: int) -> None:
    paper = Pipeline(BR_INT, (*compiler.compile_host(hopcloud.host())[BR_INT], *known_outside()))
    talk, conntrack, crossed = Talk(random.Random(seed)), Conntrack(), 0
    for number in range(PACKETS):
        said = talk.next()
        walk = paper.walk(packet_of(said), said.port, conntrack)
        left = sorted(in_the_file(*one) for one in wires.pass_on(said.port, frame_of(said), len(walk.outputs)))
        conntrack = walk.conntrack
        assert sorted(on_paper(*output) for output in walk.outputs) == left, f"packet {number}: {said}"
        talk.arrived += [one for one in left if one.proto != packets.ICMP or one.ports[0] == ECHO_REQUEST]
        crossed += len(left)
    assert crossed > PACKETS // 4, "hardly any got through: the test has lost its way"
