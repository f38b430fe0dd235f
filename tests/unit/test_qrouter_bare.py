"""Stories of a hop whose translation is the switch's business: marks, neighbours known for certain, fragments."""
from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from routerkit import (
    FIXED,
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
    udp_to,
    who_has,
)

from flows.packet import ICMP
from flows.qrouter import Answered, Forwarded, Kept, Refused, announcements, bare, probe, receive, tick
from flows.routing.conntrack import Connections
from flows.routing.fragments import Whole, cut
from flows.routing.wireformat import Arp, Datagram, Frame

VM, OTHER = "10.0.1.11", "10.0.2.12"
MAC = "fa:16:3e:00:00:99"


def hop(**more: object) -> World:
    return World(replace(bare(router()), **more))


def give(world: World, leg: str, frame: bytes, mark: int) -> Answered | Forwarded | Kept | Refused:
    outcome, world.state = receive(world.router, world.state, leg, frame, world.now, mark=mark)
    return outcome


def known(leg: str, address: str, mac: str = MAC) -> tuple[tuple[str, IPv4Address, str], ...]:
    return ((leg, IPv4Address(address), mac),)


# ---- marks

def test_a_packet_keeps_its_mark_while_it_waits_for_arp() -> None:
    world = hop()
    asked = give(world, A, framed(A, udp_to(VM, OTHER)), 2)
    assert [(sent.forwarded, sent.mark) for sent in asked.sent] == [(False, 0)]
    question = arp_in(asked.sent[0].frame)
    assert question
    (sent,) = give(world, B, is_at(B, question), 1).sent
    assert (sent.leg, sent.forwarded, sent.mark) == (B, True, 2)


def test_every_fragment_of_a_packet_wears_its_mark() -> None:
    world = World(replace(bare(router(mtus=(1500, 600, 1500))), known=known(B, OTHER)))
    sent = give(world, A, framed(A, udp_to(VM, OTHER, data=bytes(1400))), 3).sent
    assert len(sent) == 3
    assert {(one.forwarded, one.mark) for one in sent} == {(True, 3)}


def test_an_error_wears_the_mark_of_the_packet_that_it_is_about_also_when_it_comes_late() -> None:
    world = hop(known=known(A, VM))
    (sent,) = give(world, A, framed(A, udp_to(VM, OTHER, ttl=1)), 2).sent
    assert (read(sent).proto, sent.forwarded, sent.mark) == (ICMP, False, 2)
    give(world, A, framed(A, udp_to(VM, OTHER)), 3)
    late = [one for one in world.wait(5) if arp_in(one.frame) is None]
    assert [(read(one).proto, one.forwarded, one.mark) for one in late] == [(ICMP, False, 3)]


def test_an_answer_wears_the_mark_of_its_question() -> None:
    world = hop(known=known(A, VM))
    for question in (ping(VM, OWN[A]), udp_to(VM, OWN[A])):
        (sent,) = give(world, A, framed(A, question), 1).sent
        assert (sent.forwarded, sent.mark) == (False, 1)


# ---- no translation

def test_nothing_is_translated_and_no_connection_is_kept() -> None:
    world = hop()
    for packet in (udp_to(VM, "198.18.0.7"), udp_to("10.0.2.11", OTHER), ping(VM, OTHER)):
        for sent in world.send(A, framed(A, packet)):
            assert (read(sent).src, read(sent).dst) == (packet.src, packet.dst)
    assert world.state.connections == Connections()


def test_floating_ips_stay_its_own_for_arp_and_nobody_may_claim_them() -> None:
    world, (floating, _) = hop(), FIXED
    assert isinstance(world.give(G, who_has("203.0.113.1", floating)), Answered)
    assert announcements(world.router) == announcements(router())
    assert world.give(A, framed(A, udp_to(floating, OTHER))) == Refused("it claims to come from the router itself")


def test_fragments_for_others_go_on_one_by_one_and_fragments_for_the_router_wait_for_each_other() -> None:
    world = hop(known=(*known(A, VM), *known(B, OTHER)))
    first, second = cut(Whole(udp_to(VM, OTHER, data=bytes(1400), ident=7)), 1000)
    for piece in (second, first):
        (sent,) = world.give(A, framed(A, piece)).sent
        assert read(sent) == replace(piece, ttl=63)
    first, second = cut(Whole(ping(VM, OWN[A], data=bytes(1400), ident=0)), 1000)
    assert isinstance(world.give(A, framed(A, first)), Kept)
    assert isinstance(world.give(A, framed(A, second)), Answered)


def test_a_fragment_that_is_too_long_is_cut_where_it_stands() -> None:
    whole = udp_to(VM, OTHER, data=bytes(range(256)) * 9, ident=7)
    world = World(replace(bare(router(mtus=(1500, 600, 1500))), known=known(B, OTHER)))
    pieces = [read(sent) for piece in cut(Whole(whole), 1500) for sent in world.give(A, framed(A, piece)).sent]
    assert all(piece.size <= 600 for piece in pieces)
    assert [piece.more for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert b"".join(piece.payload for piece in sorted(pieces, key=lambda one: one.offset)) == whole.payload


# ---- neighbours

def test_a_neighbour_that_is_known_for_certain_is_never_asked() -> None:
    world = hop(known=known(B, OTHER))
    outcome = world.give(A, framed(A, udp_to(VM, OTHER)))
    assert isinstance(outcome, Forwarded)
    assert Frame.parse(outcome.sent[0].frame).dst == bytes.fromhex(MAC.replace(":", ""))
    assert not len(world.state.neighbours)


def test_nobody_changes_the_mac_of_a_neighbour_that_is_known_for_certain() -> None:
    world = hop(known=known(B, OTHER))
    claim = Arp(2, mac_of(OTHER), number(OTHER), own_mac(B), number(OWN[B])).framed(mac_of(OTHER), own_mac(B))
    assert world.give(B, claim) == Refused("ARP of a host whose MAC is known for certain")
    assert isinstance(world.give(B, who_has(OTHER, OWN[B])), Answered)
    (sent,) = world.give(A, framed(A, udp_to(VM, OTHER))).sent
    assert Frame.parse(sent.frame).dst == bytes.fromhex(MAC.replace(":", ""))


def test_an_old_neighbour_is_asked_by_its_mac_though_no_packet_is_for_it() -> None:
    world = hop()
    world.send(A, framed(A, udp_to(VM, OTHER)))
    key = B, number(OTHER)
    assert probe(world.router, world.state, [key, (B, 1)], world.now) == ((), world.state)
    world.wait(40)
    sent, world.state = probe(world.router, world.state, [key], world.now)
    assert [Frame.parse(one.frame).dst for one in sent] == [mac_of(OTHER)]
    question = arp_in(sent[0].frame)
    assert question
    world.give(B, is_at(B, question))
    assert probe(world.router, world.state, [key], world.now)[0] == ()
    assert tick(world.router, world.state, world.now)[0] == ()


def test_what_is_cut_has_the_payload_that_it_had() -> None:
    piece = Datagram(1, 2, 17, bytes(range(200)), offset=800, more=True)
    parts = list(cut(Whole(piece), 120))
    assert [(one.offset, one.more) for one in parts] == [(800, True), (896, True), (992, True)]
    assert b"".join(one.payload for one in parts) == piece.payload
