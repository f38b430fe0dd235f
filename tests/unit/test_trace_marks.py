"""A marked packet is known again: in tunnels of all kinds, with tags, translated, and answered; nothing else is."""
from __future__ import annotations

import random
import struct
from ipaddress import ip_address

import pytest

from controller.model.topology import Topology
from controller.tools import frames, unwrapping
from controller.tools.beside import Beside
from controller.tools.headers import headers
from controller.tools.lookouts import Lookouts
from controller.tools.marked import Mark
from controller.tools.services import Service
from controller.tools.shooting import Record
from controller.tools.trace import trace
from flows import fields as f
from flows import packet as packets
from flows.packet import Packet
from tests.clouds import golden

A, B = "fa:16:3e:00:00:0a", "fa:16:3e:00:00:0b"
PING, HTTP, DNS = Service(), Service(f.TCP, 80), Service(f.UDP, 53)


def mark(service: Service = PING, case: str = "one-network-two-hosts", *, is_broadcast: bool = False) -> Mark:
    source = next(golden(case).ports())
    asked = ip_address("10.0.1.12" if source.ip.version == 4 else "2001:db8:1::12")
    return Mark(0x12345678, source, asked, service, is_broadcast)


def vxlan(frame: bytes, number: int) -> bytes:
    return bytes((8, 0, 0, 0)) + number.to_bytes(3, "big") + b"\0" + frame


def geneve(frame: bytes, number: int) -> bytes:
    return bytes((1, 0)) + b"\x65\x58" + number.to_bytes(3, "big") + b"\0" + bytes(4) + frame


def gre(frame: bytes, number: int) -> bytes:
    return struct.pack("!HHI", 0x2000, 0x6558, number) + frame


def outer(payload: bytes, protocol: int) -> bytes:
    if protocol == 17:
        payload = struct.pack("!HHHH", 50000, 4789, 8 + len(payload), 0) + payload
    ends = ip_address("192.0.2.11").packed + ip_address("192.0.2.12").packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0) + ends
    return bytes(12) + b"\x08\x00" + head + payload


WRAPS = {"vxlan": (vxlan, 17), "geneve": (geneve, 17), "gre": (gre, 47)}


def sent(service: Service, there: bool = True) -> Packet:
    ends = ((A, "10.0.1.11"), (B, "10.0.1.12"))
    request = service.request(*ends)
    return request if there else service.reply(*ends[::-1], request)


@pytest.mark.parametrize("kind", WRAPS)
@pytest.mark.parametrize("service", [PING, HTTP, DNS], ids=["ping", "tcp", "udp"])
def test_a_request_is_known_in_a_tunnel_with_all_its_headers(kind: str, service: Service) -> None:
    wrap, protocol = WRAPS[kind]
    one, packet = mark(service), sent(service)
    found = one.find(outer(wrap(one.bytes_of(packet), 1001), protocol), None)
    assert found is not None
    assert found.part == "request"
    assert headers(found.packet) == {**headers(packet), "tunnel_id": "1001"}
    assert tuple(map(str, found.ends or ())) == ("192.0.2.11", "192.0.2.12")


@pytest.mark.parametrize("inside", [True, False])
def test_a_tag_is_read_from_the_frame_or_from_the_kernel(inside: bool) -> None:
    one = mark()
    frame = one.bytes_of(sent(PING))
    tagged = frame[:12] + b"\x81\x00\x00\x2a" + frame[12:]
    found = one.find(tagged, None) if inside else one.find(frame, 42)
    assert found is not None and found.packet.vlan == 42


def test_translated_packets_and_answers_are_known() -> None:
    one = mark()
    translated = sent(PING).set(f.IPV4_SRC("203.0.113.10"))
    found = one.find(one.bytes_of(translated), None)
    assert found is not None and str(found.packet) == "ICMP echo request 203.0.113.10 > 10.0.1.12"
    reply = one.find(one.bytes_of(sent(PING, there=False)), None)
    assert reply is not None and reply.part == "reply"
    tcp = mark(HTTP)
    syn_ack = frames.encode(sent(HTTP, there=False), number=9)
    answer = tcp.find(syn_ack.replace(struct.pack("!I", 2), struct.pack("!I", tcp.run + 1)), None)
    assert answer is not None and answer.part == "reply"


def test_arp_is_known_by_its_padding_and_its_answer_by_whom_it_is_for() -> None:
    one = mark()
    question = packets.arp_request(one.source.mac, one.source.ip, one.asked)
    found = one.find(one.bytes_of(question), None)
    assert found is not None and found.part == "question"
    assert one.find(frames.encode(question), None) is None, "somebody else's, who asks the same"
    answer = packets.arp_reply(B, one.asked, one.source.mac, one.source.ip)
    told = one.find(frames.encode(answer), None)
    assert told is not None and told.part == "answer"
    other = packets.arp_reply(B, "10.0.1.77", one.source.mac, one.source.ip)
    assert one.find(frames.encode(other), None) is None


def test_ipv6_is_known() -> None:
    one = mark(case="ipv6")
    question = packets.neighbour_solicitation(A, "2001:db8:1::11", "2001:db8:1::12")
    found = one.find(one.bytes_of(question), None)
    assert found is not None and (found.part, headers(found.packet)) == ("question", headers(question))
    echo = packets.icmp_echo((A, "2001:db8:1::11"), (B, "2001:db8:1::12"))
    request = one.find(one.bytes_of(echo), None)
    assert request is not None and (request.part, headers(request.packet)) == ("request", headers(echo))


def test_others_frames_are_nobodys(seed: int) -> None:
    dice, one = random.Random(seed), mark()
    other = Mark(0x99, one.source, one.asked, one.service)
    assert one.find(other.bytes_of(sent(PING)), None) is None
    for _ in range(2000):
        data = dice.randbytes(dice.randrange(0, 120))
        kind = dice.choice([b"\x08\x00\x45", b"\x08\x06", b"\x86\xdd\x60", b"\x81\x00", data[12:14]])
        frame = data[:12] + kind + data[12 + len(kind):]
        assert one.find(frame, None) is None
        unwrapping.unwrapped(frame)


def test_a_hop_that_was_not_heard_is_told_once_with_the_last_that_was() -> None:
    cloud: Topology = golden("one-network-two-hosts")
    one, other = (port.name for port in list(cloud.ports())[:2])
    journey = trace(cloud, one, other)
    beside = Beside(cloud, Lookouts(cloud, {}, {}, ""), journey, Record())
    legs = [beside.leg(leg) for leg in journey.legs]
    assert {hop.observed.how for leg in legs for hop in leg.hops if hop.observed} == {"hidden"}
    assert beside.sentences() == (f"{journey.legs[0].title}: nothing was heard of it.",)
