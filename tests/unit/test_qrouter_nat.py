"""Stories about translation: source NAT, floating IPs, hairpin, and ICMP errors about what was translated."""
from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from routerkit import FAR, GATEWAY, OWN, A, B, G, World, framed, number, ping, read, router, tcp_to, udp_to, who_has

from flows.packet import ICMP
from flows.qrouter import Refused
from flows.router import Limits
from flows.routing.transport import ACK, ECHO_REPLY, RST, SYN, icmp, sound, way_of
from flows.routing.wireformat import Datagram, Frame

VM, NEIGHBOUR, FLOATING, FIXED = "10.0.1.12", "10.0.1.50", "203.0.113.50", "10.0.1.11"
OTHER_FLOATING, OTHER_FIXED = "203.0.113.51", "10.0.2.11"


def through(world: World, leg: str, packet: Datagram) -> Datagram:
    """The one packet that leaves, still sound."""
    (sent,) = world.send(leg, framed(leg, packet))
    left = read(sent)
    assert sound(left)
    return left


def ends(packet: Datagram) -> tuple[str, int, str, int]:
    way = way_of(packet)
    assert way is not None
    return str(IPv4Address(way.src)), way.src_port, str(IPv4Address(way.dst)), way.dst_port


def answer_to(packet: Datagram, flags: int = SYN | ACK) -> Datagram:
    src, src_port, dst, dst_port = ends(packet)
    if packet.proto == ICMP:
        return ping(dst, src, src_port, kind=ECHO_REPLY)
    made = udp_to(dst, src, (dst_port, src_port)) if packet.proto == 17 else None
    return made or tcp_to(dst, src, (dst_port, src_port), flags)


def test_inside_hosts_look_like_the_gateway_address_and_get_their_answers() -> None:
    for packet in (udp_to(VM, FAR), tcp_to(VM, FAR, (5000, 80)), ping(VM, FAR)):
        world = World()
        out = through(world, A, packet)
        assert ends(out)[0] == OWN[G]
        back = through(world, G, answer_to(out))
        assert (back.dst, ends(back)[3] if packet.proto != ICMP else ends(back)[1]) == (number(VM), ends(packet)[1])


def test_two_hosts_with_one_port_get_two_ports() -> None:
    world = World()
    first, second = (through(world, A, udp_to(host, FAR)) for host in (VM, NEIGHBOUR))
    assert ends(first)[1] != ends(second)[1]
    assert through(world, G, answer_to(first)).dst == number(VM)
    assert through(world, G, answer_to(second)).dst == number(NEIGHBOUR)


def test_one_port_serves_many_hosts_towards_different_servers() -> None:
    world = World()
    assert ends(through(world, A, udp_to(VM, FAR)))[1] == ends(through(world, A, udp_to(NEIGHBOUR, "8.8.8.8")))[1]


def test_privileged_ports_stay_privileged() -> None:
    world = World()
    world.send(A, framed(A, udp_to(VM, FAR, (500, 500))))
    assert ends(through(world, A, udp_to(NEIGHBOUR, FAR, (500, 500))))[1] < 512


def test_a_port_is_used_again_when_its_connection_has_expired() -> None:
    world = World()
    first = through(world, A, udp_to(VM, FAR))
    world.wait(31)
    assert len(world.state.connections) == 0
    assert ends(through(world, A, udp_to(NEIGHBOUR, FAR)))[1] == ends(first)[1]
    assert through(world, G, answer_to(first)).dst == number(NEIGHBOUR)


def test_a_conversation_lives_longer_than_a_question() -> None:
    world = World()
    out = through(world, A, udp_to(VM, FAR))
    world.wait(3)
    through(world, G, answer_to(out))
    world.wait(100)
    assert through(world, G, answer_to(out)).dst == number(VM)


def test_an_established_connection_survives_a_day_and_a_reset_one_does_not() -> None:
    world = World()
    out = through(world, A, tcp_to(VM, FAR, (5000, 80)))
    through(world, G, answer_to(out))
    through(world, A, tcp_to(VM, FAR, (5000, 80), ACK))
    world.wait(86400)
    assert through(world, G, answer_to(out, ACK)).dst == number(VM)
    through(world, A, tcp_to(VM, FAR, (5000, 80), RST | ACK))
    world.wait(11)
    assert len(world.state.connections) == 0


def test_what_nobody_asked_for_does_not_get_in() -> None:
    world = World()
    (sent,) = world.send(G, framed(G, tcp_to(FAR, OWN[G], (80, 5000))))
    assert (sent.leg, read(sent).payload[13] & RST) == (G, RST)


def test_without_snat_addresses_stay() -> None:
    assert ends(through(World(router(snat=False)), A, udp_to(VM, FAR)))[0] == VM


def test_between_inside_networks_nothing_is_translated() -> None:
    assert ends(through(World(), A, udp_to(FIXED, OTHER_FIXED)))[:3:2] == (FIXED, OTHER_FIXED)


def test_a_floating_ip_works_both_ways() -> None:
    world = World()
    inward = through(world, G, tcp_to(FAR, FLOATING, (6000, 22)))
    assert (ends(inward)[0], ends(inward)[2]) == (FAR, FIXED)
    assert ends(through(world, A, answer_to(inward)))[0] == FLOATING
    assert ends(through(world, A, udp_to(FIXED, FAR)))[0] == FLOATING


def test_hairpin_between_two_floating_ips() -> None:
    world = World()
    there = through(world, A, tcp_to(FIXED, OTHER_FLOATING, (6000, 22)))
    assert ends(there)[:3:2] == (FLOATING, OTHER_FIXED)
    assert ends(through(world, B, answer_to(there)))[:3:2] == (OTHER_FLOATING, FIXED)


def test_hairpin_from_a_host_without_a_floating_ip() -> None:
    world = World()
    there = through(world, A, tcp_to(NEIGHBOUR, FLOATING, (6000, 22)))
    assert ends(there)[:3:2] == (OWN[G], FIXED)
    back = through(world, A, answer_to(there))
    assert ends(back)[:3:2] == (FLOATING, NEIGHBOUR)


def test_an_error_from_outside_reaches_the_host_inside_and_quotes_what_it_sent() -> None:
    world = World()
    packet = udp_to(VM, FAR)
    out = through(world, A, packet)
    told = Datagram(number("198.18.0.1"), out.src, ICMP, icmp(11, 0, 0, out.to_bytes()))
    inside = through(world, G, told)
    assert inside.dst == number(VM)
    assert inside.payload[8 + 12:8 + 16] == packet.to_bytes()[12:16]
    assert Datagram.parse(inside.payload[8:]).payload == packet.payload


def test_an_error_about_a_floating_ip_names_the_floating_ip() -> None:
    world = World()
    (sent,) = world.send(G, framed(G, udp_to(FAR, FLOATING, ttl=1)))
    error = read(sent)
    assert (error.src, error.payload[0]) == (number(FLOATING), 11)
    assert Datagram.parse(error.payload[8:]).dst == number(FLOATING)


def test_when_the_gateway_does_not_answer_arp_the_inside_host_is_told_in_its_own_words() -> None:
    world = World()
    world.deaf.add(number(GATEWAY))
    world.send(A, who_has(VM, OWN[A]))
    packet = udp_to(VM, FAR)
    assert world.send(A, framed(A, packet)) == []
    told = read(next(sent for sent in world.wait(4) if sent.leg == A))
    assert (told.payload[0], told.payload[1], told.dst) == (3, 1, number(VM))
    assert Datagram.parse(told.payload[8:]).src == number(VM)


def test_damaged_packets_are_not_translated() -> None:
    packet = udp_to(VM, FAR)
    damaged = framed(A, packet)[:-1] + b"!"
    (sent,) = World().send(A, damaged)
    assert read(sent).src == number(VM)


def test_a_redirect_about_a_translated_connection_is_not_passed_on() -> None:
    world = World()
    out = through(world, A, udp_to(VM, FAR))
    told = Datagram(number(GATEWAY), out.src, ICMP, icmp(5, 1, number("203.0.113.77"), out.to_bytes()))
    assert isinstance(world.give(G, framed(G, told)), Refused)


def test_too_many_connections_are_refused_and_old_ones_go_on() -> None:
    world = World(router(limits=Limits(connections=1)))
    out = through(world, A, udp_to(VM, FAR))
    assert world.give(A, framed(A, udp_to(VM, "8.8.8.8"))) == Refused("too many connections")
    assert through(world, G, answer_to(out)).dst == number(VM)


@pytest.mark.parametrize("leg", [A, B])
def test_every_frame_that_leaves_wears_the_mac_of_its_leg(leg: str) -> None:
    host = {A: VM, B: OTHER_FIXED}[leg]
    (sent,) = World().send(leg, framed(leg, udp_to(host, FAR)))
    assert Frame.parse(sent.frame).src == bytes.fromhex("fa163e00000c")


def test_a_broadcast_to_the_router_takes_the_way_that_its_answers_would_have() -> None:
    """Linux tracks it before it finds that nobody listens; without ports there is no other way left."""
    world, broadcast = World(), "10.0.2.255"
    assert not world.send(A, framed(A, Datagram(number(FIXED), number(broadcast), 253, b"x")))
    assert not world.send(G, framed(G, Datagram(number(broadcast), number(FLOATING), 253, b"x")))
    (sent,) = world.send(G, framed(G, udp_to(broadcast, FLOATING)))
    assert read(sent).dst == number(FIXED)
