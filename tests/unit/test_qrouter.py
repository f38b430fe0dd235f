"""Stories about one routed hop: ARP, echo, routes, errors."""
from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from routerkit import (
    FAR,
    GATEWAY,
    OWN,
    A,
    B,
    G,
    World,
    arp_in,
    framed,
    is_at,
    mac_of,
    number,
    own_mac,
    ping,
    read,
    router,
    tcp_to,
    udp_to,
    who_has,
)

from flows.packet import ICMP
from flows.qrouter import Answered, Forwarded, Kept, Refused, State, announcements, receive
from flows.router import Limits, Route
from flows.routing.transport import RST, SYN
from flows.routing.wireformat import BROADCAST_MAC, NO_MAC, Arp, Datagram, Frame, checksum

VM, OTHER = "10.0.1.11", "10.0.2.12"


@pytest.fixture
def world() -> World:
    return World()


def error_in(packet: Datagram) -> tuple[int, int, int]:
    """Type, code and the four bytes after the checksum of an ICMP message, whose checksum is right."""
    assert packet.proto == ICMP
    assert checksum(packet.payload) == 0
    return packet.payload[0], packet.payload[1], int.from_bytes(packet.payload[4:8], "big")


def test_it_answers_arp_for_the_address_of_a_leg_on_that_leg(world: World) -> None:
    outcome = world.give(A, who_has(VM, OWN[A]))
    assert isinstance(outcome, Answered)
    (sent,) = outcome.sent
    assert sent.leg == A
    assert arp_in(sent.frame) == Arp(2, own_mac(A), number(OWN[A]), mac_of(VM), number(VM))


def test_it_does_not_answer_arp_for_the_address_of_another_leg(world: World) -> None:
    assert world.give(A, who_has(VM, OWN[B])) == Refused("it asks for an address that is on another leg")


def test_it_answers_the_probe_of_a_host_that_looks_for_duplicates(world: World) -> None:
    assert len(world.send(A, who_has("0.0.0.0", OWN[A], mac_of(VM)))) == 1


def test_it_answers_arp_for_a_floating_ip_outside_only(world: World) -> None:
    assert isinstance(world.give(G, who_has(GATEWAY, "203.0.113.50")), Answered)
    assert isinstance(world.give(A, who_has(VM, "203.0.113.50")), Refused)


def test_it_does_not_learn_from_strangers(world: World) -> None:
    world.give(A, who_has(VM, "10.0.1.99"))
    assert len(world.state.neighbours) == 0


def test_a_packet_waits_until_its_next_hop_answers_and_then_leaves(world: World) -> None:
    outcome = world.give(A, framed(A, ping(VM, OTHER)))
    assert isinstance(outcome, Kept)
    question = arp_in(outcome.sent[0].frame)
    assert question == Arp(1, own_mac(B), number(OWN[B]), NO_MAC, number(OTHER))
    answered = world.give(B, is_at(B, question))
    assert isinstance(answered, Forwarded)
    assert Frame.parse(answered.sent[0].frame).dst == mac_of(OTHER)


def test_of_many_waiting_packets_the_newest_are_kept() -> None:
    world = World(router(limits=Limits(waiting=2)))
    asked = [world.give(A, framed(A, ping(VM, OTHER, ident))).sent for ident in range(3)]
    assert [len(sent) for sent in asked] == [1, 0, 0]
    question = arp_in(asked[0][0].frame)
    assert question is not None
    left = world.give(B, is_at(B, question)).sent
    assert [int.from_bytes(read(sent).payload[4:6], "big") for sent in left] == [1, 2]


def test_who_never_answers_arp_is_asked_thrice(world: World) -> None:
    world.deaf.add(number(OTHER))
    first = world.give(A, framed(A, ping(VM, OTHER))).sent
    later = [sent for sent in world.wait(4) if sent.leg == B]
    assert [arp.target for sent in (*first, *later) if (arp := arp_in(sent.frame))] == [number(OTHER)] * 3


def test_the_host_that_waited_hears_host_unreachable_from_its_own_gateway(world: World) -> None:
    world.deaf.add(number(OTHER))
    world.send(A, who_has(VM, OWN[A]))
    world.send(A, framed(A, ping(VM, OTHER)))
    told = [sent for sent in world.wait(4) if sent.leg == A]
    packet = read(told[0])
    assert error_in(packet) == (3, 1, 0)
    assert packet.src == number(OWN[A])


def test_a_host_that_moves_to_another_mac_is_found_again(world: World) -> None:
    world.send(A, framed(A, ping(VM, OTHER)))
    world.wait(2)
    world.send(B, who_has(OTHER, OWN[B], mac=b"\x02moved"))
    (sent,) = world.send(A, framed(A, ping(VM, OTHER)))
    assert Frame.parse(sent.frame).dst == b"\x02moved"


def test_the_first_of_two_quick_answers_counts(world: World) -> None:
    question = arp_in(world.give(A, framed(A, ping(VM, OTHER))).sent[0].frame)
    assert question is not None
    world.give(B, is_at(B, question))
    world.give(B, is_at(B, question, mac=b"\x02thief"))
    (sent,) = world.send(A, framed(A, ping(VM, OTHER)))
    assert Frame.parse(sent.frame).dst == mac_of(OTHER)


def test_a_neighbour_in_use_is_checked_after_a_while_and_keeps_its_traffic(world: World) -> None:
    world.send(A, framed(A, ping(VM, OTHER)))
    world.wait(40)
    assert len(world.send(A, framed(A, ping(VM, OTHER)))) == 1
    checks = world.wait(6)
    assert [Frame.parse(sent.frame).dst for sent in checks] == [mac_of(OTHER)] * len(checks)
    assert checks


@pytest.mark.parametrize(("leg", "src"), [(A, VM), (B, OTHER), (G, GATEWAY)])
@pytest.mark.parametrize("own", OWN.values())
def test_every_own_address_answers_echo_requests_from_every_side(world: World, leg: str, src: str, own: str) -> None:
    (sent,) = world.send(leg, framed(leg, ping(src, own, data=b"hello")))
    reply = read(sent)
    assert (reply.src, reply.dst, reply.ttl) == (number(own), number(src), 64)
    assert error_in(reply) == (0, 0, 77 << 16 | 1)
    assert reply.payload[8:] == b"hello"


def test_nobody_listens_on_the_router(world: World) -> None:
    assert error_in(read(world.send(A, framed(A, udp_to(VM, OWN[A])))[0])) == (3, 3, 0)
    assert error_in(read(world.send(A, framed(A, Datagram(number(VM), number(OWN[A]), 253, b"?")))[0])) == (3, 2, 0)
    reset = read(world.send(A, framed(A, tcp_to(VM, OWN[A], (5000, 80), SYN)))[0])
    assert reset.payload[13] & RST
    assert int.from_bytes(reset.payload[8:12], "big") == 1001


def test_the_longest_prefix_wins() -> None:
    inner = router()
    routes = (*inner.routes, Route(IPv4Network("198.51.100.128/25"), IPv4Address("10.0.2.12")))
    world = World(replace(inner, routes=routes))
    for target, leg in (("198.51.100.9", A), ("198.51.100.200", B), ("10.0.2.99", B), ("8.8.8.8", G)):
        (sent,) = world.send(A, framed(A, udp_to("10.0.1.12", target)))
        assert sent.leg == leg


def test_a_route_over_a_next_hop_that_is_nowhere_does_not_exist() -> None:
    world = World(replace(router(outside=False), routes=(Route(IPv4Network("0.0.0.0/0"), IPv4Address("192.0.2.1")),)))
    assert error_in(read(world.send(A, framed(A, ping(VM, FAR)))[0])) == (3, 0, 0)


def test_traceroute_names_the_gateway(world: World) -> None:
    (sent,) = world.send(A, framed(A, udp_to(VM, OTHER, ttl=1)))
    packet = read(sent)
    assert error_in(packet) == (11, 0, 0)
    assert packet.src == number(OWN[A])
    assert packet.payload[8:] == udp_to(VM, OTHER, ttl=1).to_bytes()


def test_a_packet_that_is_too_long_is_answered_with_the_next_mtu() -> None:
    world = World(router(mtus=(1500, 1400, 1500)))
    (sent,) = world.send(A, framed(A, udp_to(VM, OTHER, data=bytes(1400), dont_fragment=True)))
    assert error_in(read(sent)) == (3, 4, 1400)


def test_a_packet_that_is_too_long_is_fragmented_where_it_may_be() -> None:
    world = World(router(mtus=(1500, 600, 1500)))
    packet = udp_to(VM, OTHER, data=bytes(range(256)) * 5)
    pieces = [read(sent) for sent in world.send(A, framed(A, packet))]
    assert all(piece.size <= 600 for piece in pieces)
    assert [piece.more for piece in pieces] == [True, True, False]
    assert b"".join(piece.payload for piece in pieces) == packet.payload


def test_fragments_are_put_together_in_any_order_and_leave_as_they_came(world: World) -> None:
    packet = udp_to(VM, OTHER, data=bytes(100), ident=5)
    first = replace(packet, payload=packet.payload[:64], more=True)
    last = replace(packet, payload=packet.payload[64:], offset=64)
    assert isinstance(world.give(A, framed(A, last)), Kept)
    left = [read(sent) for sent in world.send(A, framed(A, first))]
    assert [(piece.offset, piece.payload) for piece in left] == [(0, first.payload), (64, last.payload)]


def test_overlapping_fragments_are_thrown_away(world: World) -> None:
    packet = udp_to(VM, OTHER, data=bytes(100), ident=5)
    world.give(A, framed(A, replace(packet, payload=packet.payload[:64], more=True)))
    overlap = replace(packet, payload=packet.payload[56:], offset=56)
    assert world.give(A, framed(A, overlap)) == Refused("fragments overlap")
    assert len(world.state.fragments) == 0


def test_fragments_whose_rest_never_comes_are_forgotten(world: World) -> None:
    world.give(A, framed(A, replace(udp_to(VM, OTHER, data=bytes(56)), more=True)))
    world.wait(31)
    assert len(world.state.fragments) == 0


@pytest.mark.parametrize(("src", "dst"), [
    ("127.0.0.1", OTHER), ("224.0.0.1", OTHER), ("255.255.255.255", OTHER), ("0.1.2.3", OTHER), (OWN[A], OTHER),
    (OWN[G], OTHER), (VM, "127.0.0.1"), (VM, "224.0.0.5"), (VM, "255.255.255.255"), (VM, "10.0.2.255")])
def test_addresses_that_do_not_belong_on_the_wire_are_dropped_in_silence(world: World, src: str, dst: str) -> None:
    outcome = world.give(A, framed(A, udp_to(src, dst), via=VM))
    assert isinstance(outcome, Refused)
    assert outcome.sent == ()


def test_a_spoofed_source_that_could_exist_is_forwarded(world: World) -> None:
    """Neutron's namespaces have no reverse path filter; port security has looked at the source before."""
    assert len(world.send(A, framed(A, udp_to("10.0.2.77", "10.0.2.12"), via=VM))) == 1


def test_frames_for_other_macs_and_damaged_headers_are_ignored(world: World) -> None:
    frame = framed(A, ping(VM, OTHER))
    assert world.give(A, b"\x02other" + frame[6:]) == Refused("the frame is for another MAC")
    assert isinstance(world.give(A, frame[:24] + b"\0\0" + frame[26:]), Refused)
    assert isinstance(world.give(A, frame[:30]), Refused)
    assert isinstance(world.give(A, b""), Refused)


def test_a_packet_for_one_host_in_a_broadcast_frame_is_not_forwarded(world: World) -> None:
    assert isinstance(world.give(A, BROADCAST_MAC + framed(A, ping(VM, OTHER))[6:]), Refused)


def test_the_record_of_the_route_is_signed_and_source_routes_are_refused(world: World) -> None:
    record = replace(ping(VM, OTHER), options=b"\x07\x07\x04\0\0\0\0\0")
    (sent,) = world.send(A, framed(A, record))
    assert read(sent).options == b"\x07\x07\x08" + bytes([10, 0, 2, 1]) + b"\0"
    loose = replace(ping(VM, OTHER), options=b"\x83\x07\x04\1\2\3\4\0")
    assert world.give(A, framed(A, loose)) == Refused("source routes are not accepted")


def test_a_malformed_option_is_pointed_at(world: World) -> None:
    (sent,) = world.send(A, framed(A, replace(ping(VM, OTHER), options=b"\x01\x07\x02\x00")))
    assert error_in(read(sent)) == (12, 0, 22 << 24)


def test_no_error_about_an_error_nor_about_a_later_fragment(world: World) -> None:
    (error,) = world.send(A, framed(A, udp_to(VM, OTHER, ttl=1)))
    about = replace(read(error), src=number(VM), dst=number(OTHER), ttl=1)
    assert world.give(A, framed(A, about)) == Refused("its time to live ends here")


def test_errors_to_one_host_are_limited_and_others_still_get_theirs() -> None:
    world = World(router(limits=Limits()))
    count = [len(world.send(A, framed(A, udp_to(VM, OTHER, ttl=1)))) for _ in range(10)]
    assert count == [1] * 6 + [0] * 4
    assert len(world.send(A, framed(A, udp_to("10.0.1.12", OTHER, ttl=1)))) == 1
    world.wait(1)
    assert [len(world.send(A, framed(A, udp_to(VM, OTHER, ttl=1)))) for _ in range(2)] == [1, 0]


def test_path_mtu_discovery_is_never_limited() -> None:
    world = World(router(mtus=(1500, 1400, 1500), limits=Limits()))
    long = framed(A, udp_to(VM, OTHER, data=bytes(1400), dont_fragment=True))
    assert all(len(world.send(A, long)) == 1 for _ in range(20))


def test_a_host_that_takes_a_detour_is_told_so_once_in_a_while(world: World) -> None:
    packet = framed(A, udp_to("10.0.1.12", "198.51.100.9"))
    world.send(A, who_has("10.0.1.12", OWN[A]))
    world.send(A, packet)  # the first packet of a connection: Linux cannot place the redirect yet
    world.wait(1)
    left = [read(sent) for sent in world.send(A, packet)]
    assert error_in(left[0]) == (5, 1, number("10.0.1.50"))
    assert left[1].dst == number("198.51.100.9")
    assert len(world.send(A, packet)) == 1


def test_it_announces_every_address_as_request_and_as_reply() -> None:
    told = [(sent.leg, arp.op, arp.sender) for sent in announcements(router()) if (arp := arp_in(sent.frame))]
    addresses = [(A, OWN[A]), (B, OWN[B]), (G, OWN[G]), (G, "203.0.113.50"), (G, "203.0.113.51")]
    assert told == [(leg, op, number(address)) for leg, address in addresses for op in (1, 2)]


def test_two_routers_with_the_same_addresses_share_nothing() -> None:
    one, two = World(), World()
    one.send(A, framed(A, udp_to(VM, FAR)))
    assert two.state == State()
    before = one.state
    receive(one.router, before, A, framed(A, udp_to(VM, FAR, (4001, 53))), one.now)
    assert one.state == before
