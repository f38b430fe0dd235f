"""Conversations through the firewall's rows, on paper and in Open vSwitch's own connection tracking: the same passes.

What a trace cannot tell: how a conversation began (the ct_ fields), conjunctions over it, zones by register, learned
ports.
"""
from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

import pytest
from wires import Left, wired

from controller.model import names, placement
from flows import fields as f
from flows.evaluate import Pipeline
from flows.flow import Flow, Match
from flows.packet import ICMP, Packet, frame
from flows.port_security import link_local
from flows.routing.transport import ACK, SYN
from flows.routing.wireformat import checksum
from flows.tables import BR_INT, RULES
from flows.text import line
from flows.tracking import Conntrack
from tests import filter_rows
from tests.clouds import golden, tables

pytestmark = [pytest.mark.system, pytest.mark.shared]

PACKETS = 800  # for each scene
GRE = 47
ANSWERS = {8: 0, 13: 14, 15: 16, 17: 18, 128: 129}
SERVICES = (22, 53, 80, 81, 95, 96, 9, 0x1F, 443, 1024, 2047, 2048, 5000, 5001, 5432)


@dataclass(frozen=True)
class Speaker:
    """Somebody behind a port of the switch."""

    port: int
    vlan: int  # that its frames wear there; 0: none
    mac: str
    addresses: dict[int, str]  # IP version -> address


@dataclass(frozen=True)
class Scene:
    """Flows, who speaks, and what shall be said first: speakers' places, IP version, protocol, service (ICMP: type)."""

    rows: tuple[Flow, ...]
    ports: tuple[int, ...]
    speakers: tuple[Speaker, ...]
    wanted: tuple[tuple[int, int, int, int, int], ...] = ()


def by_hand() -> Scene:
    """Every row of the rules is met."""
    mac, vm, other, unsecured, away = "fa:16:3e:00:00:0{}".format, 0, 1, 2, 3
    speakers = (Speaker(5, 0, mac(5), {4: "10.0.0.5", 6: "2001:db8::5"}),
                Speaker(6, 0, mac(6), {4: "10.0.0.6", 6: "2001:db8::6"}),
                Speaker(filter_rows.UNSECURED, 0, mac(9), {4: "10.0.1.3", 6: "2001:db8:9::9"}),
                Speaker(filter_rows.AWAY, filter_rows.VLAN, mac(1), {4: "198.51.100.7", 6: "2001:db8::7"}))
    wanted = ((unsecured, vm, 4, f.TCP, 80), (unsecured, vm, 4, f.UDP, 95), (unsecured, vm, 6, f.UDP, 53),
              (away, vm, 4, ICMP, 8), (unsecured, vm, 6, f.ICMPV6, 128), (other, away, 4, GRE, 0),
              (other, away, 6, f.TCP, 1500), (unsecured, other, 4, f.SCTP, 0x1F), (other, away, 4, f.SCTP, 5),
              (unsecured, other, 4, f.TCP, 22), (vm, other, 4, f.UDP, 7), (unsecured, other, 4, GRE, 0),
              (vm, other, 6, f.TCP, 7))
    return Scene(filter_rows.rows(), tuple(speaker.port for speaker in speakers), speakers, wanted)


def compiled(case: str, host: str) -> Scene:
    """A host's br-int as it is compiled; who lives elsewhere speaks by the patch port, some through a router."""
    cloud = golden(case)
    seen = placement.imagined(cloud, host)
    away = seen.ofport(BR_INT, names.PATCH_TUN)
    speakers = []
    for port in cloud.ports():
        vlan = seen.vlans.get(port.network)
        here = seen.ofport(BR_INT, port.device) if port.host == host else None
        if here is None and (vlan is None or away is None):
            continue
        addresses = {6: str(link_local(port.mac)), port.ip.version: str(port.ip)}
        for pair in port.allowed_address_pairs:
            addresses[pair.ip.version] = str(pair.ip.network_address)
        speakers.append(Speaker(here or away or 0, 0 if here else vlan or 0, port.mac, addresses))
    for leg in itertools.chain.from_iterable(cloud.legs_by_router.values()):
        if away is not None and leg.network in seen.vlans:
            speakers.append(Speaker(away, seen.vlans[leg.network], leg.mac, {4: "10.0.2.77", 6: "2001:db8:2::77"}))
    return Scene(tables(cloud, host)[BR_INT], tuple(sorted(seen.ports[BR_INT].values())), tuple(speakers))


@dataclass(frozen=True, order=True)
class Said:
    """What a frame says, as far as a firewall has a part in it."""

    port: int
    vlan: int  # 0: none
    macs: tuple[str, str]
    version: int
    proto: int
    ways: tuple[str, str]
    ports: tuple[int, int]  # of an ICMP message: its type (and 256 times its code) and its id
    reply: bool = field(default=False, compare=False)  # of TCP: it carries ACK
    about: Said | None = field(default=None, compare=False)  # what an ICMP error quotes


NAMES: dict[int, tuple[str, str]] = {
    f.TCP: ("tcp_src", "tcp_dst"), f.UDP: ("udp_src", "udp_dst"), f.SCTP: ("sctp_src", "sctp_dst"),
    ICMP: ("icmpv4_type", "icmp_id"), f.ICMPV6: ("icmpv6_type", "icmp_id")}
KINDS = {ICMP: (8, 8, 13, 15, 17, 42, 0, 256 + 8), f.ICMPV6: (128, 128, 129, 200, 256 + 128)}


def is_icmp(said: Said) -> bool:
    return said.proto in (ICMP, f.ICMPV6)


def packet_of(said: Said) -> Packet:
    kind, source, target = (f.IPV4, f.IPV4_SRC, f.IPV4_DST) if said.version == 4 else (f.IPV6, f.IPV6_SRC, f.IPV6_DST)
    packet = frame(*said.macs, kind, {source: said.ways[0], target: said.ways[1], f.IP_PROTO: said.proto})
    names = NAMES.get(said.proto, ())
    packet = packet.with_(**dict(zip(names, said.ports, strict=False)))
    if is_icmp(said):
        code, kind = divmod(said.ports[0], 256)
        packet = packet.with_(**{names[0]: kind, names[0].replace("type", "code"): code})
    packet = replace(packet, quoted=packet_of(said.about)) if said.about else packet
    return packet.set(f.tagged(said.vlan)) if said.vlan else packet


def on_paper(port: int, packet: Packet) -> Said:
    version = 4 if packet.get(f.ETH_TYPE) == f.IPV4 else 6
    source, target = (f.IPV4_SRC, f.IPV4_DST) if version == 4 else (f.IPV6_SRC, f.IPV6_DST)
    names = NAMES.get(packet.get(f.IP_PROTO) or 0, ())
    ports = [packet.get(name) or 0 for name in names] or [0, 0]
    ports[0] += (packet.get("icmpv4_code") or packet.get("icmpv6_code") or 0) << 8
    return Said(port, packet.vlan or 0, (packet.shown(f.ETH_SRC), packet.shown(f.ETH_DST)), version,
                packet.get(f.IP_PROTO) or 0, (packet.shown(source), packet.shown(target)), (ports[0], ports[1]))


def frame_of(said: Said) -> bytes:
    """With right checksums: connection tracking looks at them."""
    addresses = [ip_address(way).packed for way in said.ways]
    body = _body(said, b"".join(addresses))
    if said.version == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, said.proto, 0) + b"".join(addresses)
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    else:
        header = struct.pack("!IHBB", 6 << 28, len(body), said.proto, 64) + b"".join(addresses)
    tag = struct.pack("!HH", f.DOT1Q, said.vlan) if said.vlan else b""
    kind = struct.pack("!H", f.IPV4 if said.version == 4 else f.IPV6)
    return b"".join(bytes.fromhex(mac.replace(":", "")) for mac in said.macs[::-1]) + tag + kind + header + body


def quote(said: Said) -> bytes:
    """Its packet as errors have it: in IPv4 the beginning (RFC 792), in IPv6 what has room (RFC 4443, 2.4 c)."""
    return frame_of(replace(said, vlan=0))[14:][:None if said.version == 6 else 28]


def _body(said: Said, addresses: bytes) -> bytes:
    match said.proto:
        case f.UDP:
            place, body = 6, struct.pack("!HHHH", *said.ports, 12, 0) + b"data"
        case f.TCP:
            flags = SYN | ACK if said.reply else SYN
            place, body = 16, struct.pack("!HHIIBBHHH", *said.ports, 1000, 1001 if said.reply else 0, 0x50, flags,
                                          8192, 0, 0)
        case f.SCTP:
            return struct.pack("!HHII", *said.ports, 1, 0) + bytes(16)
        case f.ICMPV6 | f.ICMP:
            place, body = 2, struct.pack("!BBHHH", *divmod(said.ports[0], 256)[::-1], 0,
                                         said.ports[1], 1) + (quote(said.about) if said.about else b"ping" * 4)
        case _:
            return struct.pack("!HH", 0, f.IPV4) + b"inside"
    pseudo = b"" if said.proto == ICMP else addresses + struct.pack("!IxxxB", len(body), said.proto)
    return body[:place] + struct.pack("!H", checksum(pseudo + body)) + body[place + 2:]


def in_the_file(port: int, data: bytes) -> Said:
    vlan, at = (struct.unpack_from("!H", data, 14)[0] & 0xFFF, 16) if data[12:14] == b"\x81\x00" else (0, 12)
    macs, packet = (data[6:12].hex(":"), data[:6].hex(":")), data[at + 2:]
    version = packet[0] >> 4
    size, start, proto = (4, 12, packet[9]) if version == 4 else (16, 8, packet[6])
    ways = tuple(str(ip_address(packet[one:one + size])) for one in (start, start + size))
    body = packet[start + 2 * size:]
    ports = (0, 0)
    if proto in (f.TCP, f.UDP, f.SCTP):
        ports = struct.unpack_from("!HH", body)
    elif proto in (ICMP, f.ICMPV6):
        ports = (body[1] << 8 | body[0], struct.unpack_from("!H", body, 4)[0])
    return Said(port, vlan, macs, version, proto, (ways[0], ways[1]), (ports[0], ports[1]))


@dataclass
class Talk:
    """What is wanted, then random first words, the same again, and answers to what has arrived."""

    scene: Scene
    random: random.Random
    arrived: list[Said] = field(default_factory=list)
    spoken: list[Said] = field(default_factory=list)
    count: int = 0

    def next(self) -> Said:
        kind = self.random.random() if self.count >= len(self.scene.wanted) else 1
        if self.arrived and kind < 0.4:
            return self.random.choice((self.answer, self.answer, self.refusal))(self.random.choice(self.arrived))
        if self.spoken and kind < 0.6:
            return self.random.choice(self.spoken)
        said = self._first()
        if said.proto != f.TCP:  # whose second SYN is another matter
            self.spoken.append(said)
        return said

    def _first(self) -> Said:
        pick, wanted = self.random.choice, self.scene.wanted
        speaker, listener = self.random.sample(self.scene.speakers, 2)
        version = pick((4, 4, 6))
        icmp = ICMP if version == 4 else f.ICMPV6
        proto = pick((icmp, icmp, f.TCP, f.TCP, f.UDP, f.UDP, f.UDP, f.SCTP, GRE))
        service = pick(KINDS.get(proto, SERVICES))
        first = self.count < len(wanted)
        if first or (wanted and self.random.random() < 0.5):
            one, two, version, proto, service = wanted[self.count] if first else pick(wanted)
            speaker, listener = self.scene.speakers[one], self.scene.speakers[two]
        self.count += 1
        # No two use one port or id, but for what is tracked by addresses alone.
        ports = (0, 0) if proto == GRE else (9, service) if proto == f.SCTP else (10000 + self.count, service)
        ports = (service, self.count) if proto in (ICMP, f.ICMPV6) else ports
        macs = speaker.mac, listener.mac if first else pick((*[listener.mac] * 4, f.BROADCAST, "fa:16:3e:00:00:77"))
        return Said(speaker.port, speaker.vlan, macs, version, proto,
                    tuple(one.addresses.get(version, "10.0.1.99") for one in (speaker, listener)), ports)

    def answer(self, said: Said) -> Said:
        """From the port where it arrived; also to what came by a flood."""
        ports = (ANSWERS.get(said.ports[0], said.ports[0]), said.ports[1]) if is_icmp(said) else said.ports[::-1]
        return Said(said.port, said.vlan, (self._receiver(said).mac, said.macs[0]), said.version, said.proto,
                    said.ways[::-1], ports, reply=True)

    def refusal(self, said: Said) -> Said:
        """Its receiver, or another on the way, says that there is nobody."""
        proto, kind = (ICMP, 0x300 + 3) if said.version == 4 else (f.ICMPV6, 0x400 + 1)
        receiver = self._receiver(said)
        return Said(said.port, said.vlan, (receiver.mac, said.macs[0]), said.version, proto,
                    (receiver.addresses.get(said.version, said.ways[1]), said.ways[0]), (kind, 0), reply=True,
                    about=said)

    def _receiver(self, said: Said) -> Speaker:
        there = [one for one in self.scene.speakers if (one.port, one.vlan) == (said.port, said.vlan)]
        silent = Speaker(said.port, said.vlan, "fa:16:3e:00:00:99", {})  # a device of the host's own
        return next((one for one in there if one.mac == said.macs[1]), next(iter(there), silent))


SCENES = {"by hand": by_hand, "compute1": lambda: compiled("groups-openvswitch", "compute1"),
          "network1": lambda: compiled("groups-openvswitch", "network1")}


@pytest.mark.parametrize("scene", SCENES)
def test_conversations_are_filtered_on_paper_as_in_open_vswitch(scene: str, seed: int) -> None:
    what = SCENES[scene]()
    paper, talk, conntrack = Pipeline(BR_INT, what.rows), Talk(what, random.Random(seed)), Conntrack()
    seen, crossed = set[Match](), 0
    with wired(what.ports, what.rows) as wires:
        for number in range(PACKETS):
            said = talk.next()
            walk = paper.walk(packet_of(said), said.port, conntrack)
            left = sorted(_read(wires.pass_on(said.port, frame_of(said), len(walk.outputs))))
            assert sorted(on_paper(*output) for output in walk.outputs) == left, f"packet {number}: {said}"
            conntrack, paper = walk.conntrack, paper.with_(walk.learned)
            # Nobody answers an answer, and TCP only once.
            talk.arrived += [one for one in left if not said.reply]
            seen |= {step.flow.match for way in walk.ways for step in way.steps if step.flow}
            crossed += len(left)
    rules = [row for row in what.rows if row.table == RULES and not row.is_clause]
    missed = [line(row) for row in rules if row.match not in seen and not row.match[f.IP_FRAG]]
    assert (missed == [] if what.wanted else len(missed) < len(rules)) and crossed > PACKETS // 8, \
        f"the test has lost its way: {missed}, {crossed}"


@pytest.mark.parametrize("times", [6, 7])
def test_connection_tracking_leads_a_packet_on_six_times_and_no_more(times: int) -> None:
    rows, said = filter_rows.tracked(times), Said(5, 0, ("fa:16:3e:00:00:05", "fa:16:3e:00:00:06"), 4, f.UDP,
                                                  ("10.0.0.5", "10.0.0.6"), (4000, 53))
    expected = [on_paper(*output) for output in Pipeline(BR_INT, rows).walk(packet_of(said), 5).outputs]
    with wired((5, 6), rows) as wires:
        assert [*_read(wires.pass_on(5, frame_of(said), len(expected)))] == expected
        assert bool(expected) is (times == 6)


def _read(left: list[Left]) -> Iterator[Said]:
    return (in_the_file(*one) for one in left)
