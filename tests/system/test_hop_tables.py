"""The compiled hop on a real Open vSwitch, packet by packet: routed, translated, answered, dropped, asked about."""
from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import count

import pytest
from hopkit import OUTSIDE, Hop, Seen, hop, learn

from controller.switch import nicira
from flows.conversations import ended
from flows.fields import ARP_REPLY, UDP
from flows.packet import ICMP, TCP
from flows.routing.transport import ACK, ECHO_REPLY, FIN, SYN, TIME_EXCEEDED, icmp, quoted, sound
from flows.routing.wireformat import Arp, Datagram, Frame
from tests.hopcloud import FAR, GATEWAY, MTU_INSIDE
from tests.routerkit import number, ping, summed, tcp_to, udp_to

pytestmark = [pytest.mark.system, pytest.mark.shared]

QG1, FIP_WEB, FIP_DB = "203.0.113.10", "203.0.113.50", "203.0.113.51"
QG2, FIP_TWO = "203.0.113.20", "203.0.113.60"
WEB1, WEB2, DB1 = "10.0.1.11", "10.0.1.12", "10.0.2.11"
_PORTS = count(20000)  # nobody speaks twice from the same port


@pytest.fixture(scope="module")
def there() -> Iterator[Hop]:
    with hop() as made:
        for router in ("r1", "r2"):
            learn(made, router=router)
        yield made


def ports(datagram: Datagram) -> tuple[int, int]:
    return struct.unpack_from("!HH", datagram.payload)


def ident(datagram: Datagram) -> int:
    return int(struct.unpack_from("!H", datagram.payload, 4)[0])


def the_one(seen: list[Seen], where: str) -> Seen:
    (found,) = seen
    assert found.where == where and found.vlan is None
    assert sound(found.datagram)
    return found


# ---- inside

@pytest.mark.parametrize(("source", "target", "address"), [
    ("web1", "db1", DB1), ("db1", "web2", WEB2), ("web2", "left1", "10.0.3.11"),
    ("left1", "right1", "10.0.4.11"), ("right1", "left1", "10.0.3.11")])
def test_a_packet_between_two_legs_changes_macs_and_its_time_to_live(there: Hop, source: str, target: str,
                                                                     address: str) -> None:
    """The last two pairs are on one network: out by the VLAN it came in by."""
    sent = udp_to(there.address(source), address)
    seen = the_one(there.send(source, sent), target)
    assert (seen.frame.src, seen.frame.dst) == (there.gateway(target), there.mac(target))
    assert seen.datagram == Datagram.parse(sent.to_bytes()[:8] + bytes([sent.ttl - 1]) + sent.to_bytes()[9:10]
                                           + seen.frame.payload[10:12] + sent.to_bytes()[12:])


def test_two_routers_with_equal_addresses_do_not_mix(there: Hop) -> None:
    assert the_one(there.send("web1", ping(WEB1, DB1)), "db1").ways == (WEB1, DB1)
    assert the_one(there.send("web2b", ping(WEB1, DB1)), "db2").ways == (WEB1, DB1)


def test_arp_for_a_leg_is_answered_by_the_switch_and_heard_by_nobody_else(there: Hop) -> None:
    for name, address in (("web1", "10.0.1.1"), ("left1", "10.0.3.1"), ("right1", "10.0.4.1"), (OUTSIDE, QG1),
                          (OUTSIDE, FIP_WEB), (OUTSIDE, QG2)):
        router = "r2" if address == QG2 else "r1"
        (seen,) = there.arp(name, address)
        own, mine = there.gateway(name, router), there.mac(name)
        assert (seen.where, seen.frame.src, seen.frame.dst, seen.vlan) == (name, own, mine, None)
        assert Arp.parse(seen.frame.payload) == Arp(ARP_REPLY, own, number(address), mine, number(there.address(name)))


def test_arp_for_a_leg_sent_to_its_own_mac_is_answered_and_to_another_is_not(there: Hop) -> None:
    (seen,) = there.arp("web1", "10.0.1.1", to=there.gateway("web1"))
    assert seen.where == "web1"
    (passed,) = there.arp("web1", "10.0.1.1", to=there.mac("web2"))
    assert passed.where == "web2"


def test_a_probe_for_the_address_of_a_leg_finds_it_taken(there: Hop) -> None:
    (seen,) = there.arp("web1", "10.0.1.1", sender="0.0.0.0")
    assert Arp.parse(seen.frame.payload).target == 0


def test_nobody_else_is_heard_who_claims_the_address_of_a_leg(there: Hop) -> None:
    assert there.arp("fw1", "10.0.1.12", sender="10.0.1.1") == []


def test_what_belongs_on_no_wire_is_dropped(there: Hop) -> None:
    for source, target in (("127.0.0.1", DB1), ("224.0.0.1", DB1), ("0.0.0.1", DB1), ("255.255.255.255", DB1),
                           ("10.0.1.50", "127.0.0.1"), ("10.0.1.50", "224.0.0.9"), ("10.0.1.50", "0.0.0.0"),
                           ("10.0.2.1", DB1), (QG1, DB1), (FIP_DB, DB1), ("10.0.1.50", "10.0.2.255")):
        assert there.send("fw1", udp_to(source, target)) == []


def test_what_is_neither_ipv4_nor_arp_ends_at_a_leg(there: Hop) -> None:
    frame = Frame(there.gateway("fw1"), there.mac("fw1"), 0x86DD, bytes(60))
    assert there.raw("fw1", frame.to_bytes()) == []


# ---- asked of the controller

@pytest.mark.parametrize(("target", "more"), [
    ("10.0.1.1", {}), (DB1, {"ttl": 1}), (DB1, {"ttl": 0}), ("10.0.2.200", {}), ("198.51.100.9", {})])
def test_what_no_row_can_do_is_asked_of_the_controller(there: Hop, target: str, more: dict[str, int]) -> None:
    sent = udp_to(WEB1, target, **more)
    assert there.send("web1", sent) == []
    (asked,) = there.asked()
    assert asked.frame == sent.framed(there.mac("web1"), there.gateway("web1"))
    assert (asked.registers[0], asked.registers[1], asked.registers.get(5, 0)) == (0x8000, 0x11, 0)


def test_without_a_route_the_controller_is_asked(there: Hop) -> None:
    assert there.send("isle1", udp_to("10.0.9.11", FAR)) == []
    (asked,) = there.asked()
    assert (asked.registers[0], asked.registers[1]) == (0x8004, 0x31)


def test_too_large_a_packet_is_asked_of_the_controller_and_one_that_just_fits_is_not(there: Hop) -> None:
    room = MTU_INSIDE - 28
    assert len(the_one(there.send("web1", udp_to(WEB1, DB1, data=bytes(room))), "db1").frame.payload) == MTU_INSIDE
    assert there.send("web1", udp_to(WEB1, DB1, data=bytes(room + 1))) == []
    (asked,) = there.asked()
    assert asked.datagram.size == MTU_INSIDE + 1


def test_a_neighbour_that_answered_arp_is_routed_to_by_its_row(there: Hop) -> None:
    learn(there, address="10.0.1.50", mac="fa:16:3e:00:00:0d", leg="qr-17")
    assert the_one(there.send("db1", udp_to(DB1, "198.51.100.9")), "fw1").ways == (DB1, "198.51.100.9")


def test_an_arp_answer_to_a_leg_is_asked_with_its_leg(there: Hop) -> None:
    answer = Arp(ARP_REPLY, there.mac(OUTSIDE), number(GATEWAY), there.gateway(OUTSIDE, "r2"), number(QG2))
    frame = answer.framed(there.mac(OUTSIDE), there.gateway(OUTSIDE, "r2"))
    assert there.raw(OUTSIDE, frame) == []
    (asked,) = there.asked()
    assert (asked.frame, asked.registers[0], asked.registers[1]) == (frame, 0x8002, 0x23)


# ---- outside and back

Kind = Callable[[str, str, int], Datagram]


def _udp(source: str, target: str, port: int) -> Datagram:
    return udp_to(source, target, (port, 53))


def _tcp(source: str, target: str, port: int) -> Datagram:
    return tcp_to(source, target, (port, 80))


def _ping(source: str, target: str, port: int) -> Datagram:
    return ping(source, target, port)


def answer(datagram: Datagram, **more: int) -> Datagram:
    """What whoever got this sends back."""
    source, target = (f"{one >> 24}.{one >> 16 & 255}.{one >> 8 & 255}.{one & 255}"
                      for one in (datagram.dst, datagram.src))
    if datagram.proto == ICMP:
        return ping(source, target, ident(datagram), kind=ECHO_REPLY, **more)
    back = ports(datagram)[::-1]
    if datagram.proto == UDP:
        return udp_to(source, target, back, data=b"answer", **more)
    return tcp_to(source, target, back, SYN | ACK, **more)


KINDS = pytest.mark.parametrize("kind", [_udp, _tcp, _ping])


@KINDS
def test_without_a_floating_ip_a_vm_shows_the_routers_address_and_hears_the_answer(there: Hop, kind: Kind) -> None:
    sent = kind(WEB2, FAR, next(_PORTS))
    for _ in range(2):  # the first packet, and one of a connection that is known
        out = the_one(there.send("web2", sent), OUTSIDE)
        assert out.ways == (QG1, FAR) and out.datagram.ttl == 63
        assert (out.frame.src, out.frame.dst) == (there.gateway(OUTSIDE), there.mac(OUTSIDE))
        back = the_one(there.send(OUTSIDE, answer(out.datagram)), "web2")
        assert back.ways == (FAR, WEB2)
        assert back.datagram.payload == answer(sent).payload[:2] + back.datagram.payload[2:]


@KINDS
def test_with_a_floating_ip_a_vm_shows_that(there: Hop, kind: Kind) -> None:
    for _ in range(2):
        out = the_one(there.send("web1", kind(WEB1, FAR, next(_PORTS))), OUTSIDE)
        assert out.ways == (FIP_WEB, FAR)
        assert the_one(there.send(OUTSIDE, answer(out.datagram)), "web1").ways == (FAR, WEB1)


@KINDS
def test_from_outside_a_floating_ip_is_its_vm(there: Hop, kind: Kind) -> None:
    sent = kind(FAR, FIP_WEB, next(_PORTS))
    for _ in range(2):
        seen = the_one(there.send(OUTSIDE, sent), "web1")
        assert seen.ways == (FAR, WEB1)
        assert the_one(there.send("web1", answer(seen.datagram)), OUTSIDE).ways == (FIP_WEB, FAR)


def test_two_routers_each_translate_for_their_own(there: Hop) -> None:
    port = next(_PORTS)
    for name, router, floating in (("web1", "r1", FIP_WEB), ("web2b", "r2", FIP_TWO)):
        out = the_one(there.send(name, udp_to(WEB1, FAR, (port, 53))), OUTSIDE)
        assert out.ways == (floating, FAR) and ports(out.datagram) == (port, 53)
        back = the_one(there.send(OUTSIDE, answer(out.datagram), router=router), name)
        assert back.ways == (FAR, WEB1)


def test_from_outside_straight_to_an_inside_address_keeps_it(there: Hop) -> None:
    seen = the_one(there.send(OUTSIDE, _tcp(FAR, WEB1, next(_PORTS))), "web1")
    assert seen.ways == (FAR, WEB1)
    assert the_one(there.send("web1", answer(seen.datagram)), OUTSIDE).ways == (WEB1, FAR)


@KINDS
def test_what_nobody_asked_for_is_the_routers_own(there: Hop, kind: Kind) -> None:
    assert there.send(OUTSIDE, kind(FAR, QG1, next(_PORTS))) == []
    (asked,) = there.asked()
    assert (asked.registers[1], asked.registers[5]) == (0x15, 1)


def test_what_is_part_of_no_conversation_is_dropped(there: Hop) -> None:
    assert there.send(OUTSIDE, tcp_to(FAR, WEB1, (80, next(_PORTS)), SYN | ACK)) == []
    assert there.send("web2", tcp_to(WEB2, FAR, (next(_PORTS), 80), SYN | ACK)) == []
    assert there.hits(42, "+inv+trk,ip,reg0=0x8000,reg5=0x1 actions=drop")
    assert there.hits(47, "+inv+trk,ip,reg0=0x8000 actions=drop")


# ---- hairpin

@KINDS
def test_from_one_floating_ip_to_another_both_ends_show_theirs(there: Hop, kind: Kind) -> None:
    sent = kind(WEB1, FIP_DB, next(_PORTS))
    for _ in range(3):
        seen = the_one(there.send("web1", sent), "db1")
        assert seen.ways == (FIP_WEB, DB1)
        assert the_one(there.send("db1", answer(seen.datagram)), "web1").ways == (FIP_DB, WEB1)


@KINDS
def test_a_vm_without_a_floating_ip_speaks_to_one_as_the_router(there: Hop, kind: Kind) -> None:
    sent = kind(WEB2, FIP_DB, next(_PORTS))
    for _ in range(3):
        seen = the_one(there.send("web2", sent), "db1")
        assert seen.ways == (QG1, DB1)
        assert the_one(there.send("db1", answer(seen.datagram)), "web2").ways == (FIP_DB, WEB2)


@KINDS
def test_a_vm_reaches_itself_by_its_floating_ip(there: Hop, kind: Kind) -> None:
    seen = the_one(there.send("web1", kind(WEB1, FIP_WEB, next(_PORTS))), "web1")
    assert seen.ways == (FIP_WEB, WEB1)
    assert the_one(there.send("web1", answer(seen.datagram)), "web1").ways == (FIP_WEB, WEB1)


@KINDS
def test_tenants_meet_by_their_floating_ips_through_both_routers(there: Hop, kind: Kind) -> None:
    sent = kind(WEB1, FIP_TWO, next(_PORTS))
    for _ in range(2):
        seen = the_one(there.send("web1", sent), "web2b")
        assert seen.ways == (FIP_WEB, WEB1) and seen.datagram.ttl == 62
        assert the_one(there.send("web2b", answer(seen.datagram)), "web1").ways == (FIP_TWO, WEB1)


# ---- ports and ids that two hosts share

@pytest.mark.parametrize("kind", [_udp, _tcp])
def test_two_hosts_with_one_port_are_told_apart(there: Hop, kind: Kind) -> None:
    port = next(_PORTS)
    outs = {name: the_one(there.send(name, kind(there.address(name), FAR, port)), OUTSIDE).datagram
            for name in ("web2", "left1", "right1")}
    assert len({ports(out) for out in outs.values()}) == 3
    for name, out in outs.items():
        back = the_one(there.send(OUTSIDE, answer(out)), name)
        assert back.ways == (FAR, there.address(name)) and ports(back.datagram)[1] == port


def test_of_two_hosts_with_one_id_the_second_gets_another_one_from_the_controller(there: Hop) -> None:
    """Open vSwitch's userspace datapath gives an ICMP query no other id, and would show the host's own address."""
    port = next(_PORTS)
    out = {"web2": the_one(there.send("web2", _ping(WEB2, FAR, port)), OUTSIDE).datagram}
    for name in ("left1", "right1"):
        for _ in range(2):
            seen = the_one(served(there, name, _ping(there.address(name), FAR, port)), OUTSIDE)
            assert seen.ways == (QG1, FAR) and seen.datagram.ttl == 63
            assert (seen.frame.src, seen.frame.dst) == (there.gateway(OUTSIDE), there.mac(OUTSIDE))
            assert out.setdefault(name, seen.datagram) == seen.datagram
    assert len({ident(one) for one in out.values()}) == 3
    assert the_one(there.send(OUTSIDE, answer(out["web2"])), "web2").ways == (FAR, WEB2)
    for name in ("left1", "right1"):
        back = the_one(served(there, OUTSIDE, answer(out[name])), name)
        assert (back.ways, ident(back.datagram)) == ((FAR, there.address(name)), port)
        told = the_one(served(there, OUTSIDE, error("192.0.2.99", out[name])), name)
        assert (told.ways, inner(told)) == (("192.0.2.99", there.address(name)), (there.address(name), FAR))


def test_an_answer_that_nobody_asked_for_reaches_nobody(there: Hop) -> None:
    assert served(there, OUTSIDE, ping(FAR, QG1, 4711, kind=ECHO_REPLY)) == []


# ---- ICMP errors about what is translated

def error(sender: str, about: Datagram, kind: int = 3, code: int = 3) -> Datagram:
    """`sender` says that a packet came to nothing."""
    return Datagram(number(sender), about.src, ICMP, icmp(kind, code, 0, about.to_bytes()[:28]))


def inner(seen: Seen) -> tuple[str, str]:
    told = quoted(seen.datagram)
    assert told
    return str(IPv4Address(told.src)), str(IPv4Address(told.dst))


@KINDS
def test_an_error_from_outside_is_about_the_inside_address(there: Hop, kind: Kind) -> None:
    port = next(_PORTS)
    out = the_one(there.send("web2", kind(WEB2, FAR, port)), OUTSIDE).datagram
    for sender in (FAR, "192.0.2.99"):
        seen = the_one(there.send(OUTSIDE, error(sender, out)), "web2")
        assert (seen.ways, inner(seen)) == ((sender, WEB2), (WEB2, FAR))


@KINDS
def test_an_error_from_a_vm_is_about_its_floating_ip(there: Hop, kind: Kind) -> None:
    seen = the_one(there.send(OUTSIDE, kind(FAR, FIP_WEB, next(_PORTS))), "web1")
    out = the_one(there.send("web1", error(WEB1, seen.datagram)), OUTSIDE)
    assert (out.ways, inner(out)) == ((FIP_WEB, FAR), (FAR, FIP_WEB))


@KINDS
def test_errors_of_a_hairpin_are_translated_at_both_ends(there: Hop, kind: Kind) -> None:
    forth = the_one(there.send("web1", kind(WEB1, FIP_DB, next(_PORTS))), "db1")
    seen = the_one(there.send("db1", error(DB1, forth.datagram)), "web1")
    assert (seen.ways, inner(seen)) == ((FIP_DB, WEB1), (WEB1, FIP_DB))
    back = the_one(there.send("db1", answer(forth.datagram)), "web1")
    seen = the_one(there.send("web1", error(WEB1, back.datagram)), "db1")
    assert (seen.ways, inner(seen)) == ((FIP_WEB, DB1), (DB1, FIP_WEB))


# ---- with a controller that runs flows.qrouter

def served(there: Hop, name: str, datagram: Datagram, router: str = "r1") -> list[Seen]:
    """What arrives after the controller has done its part."""
    before = there.send(name, datagram, router=router)
    there.serve()
    return before + there.settled(name)


def test_the_gateway_answers_echo_requests_inside_and_outside(there: Hop) -> None:
    for name, address, router in (("web1", "10.0.1.1", "r1"), ("web1", "10.0.2.1", "r1"), ("web2b", "10.0.1.1", "r2"),
                                  (OUTSIDE, QG1, "r1"), (OUTSIDE, QG2, "r2"), ("web2", QG1, "r1")):
        seen = the_one(served(there, name, ping(there.address(name), address), router), name)
        assert (seen.ways, seen.datagram.payload[0]) == ((address, there.address(name)), ECHO_REPLY)


def test_who_is_on_the_way_says_so(there: Hop) -> None:
    """A TTL of 1 shows the first router, one of 2 the next host."""
    seen = the_one(served(there, "web2", udp_to(WEB2, FAR, (next(_PORTS), 33434), ttl=1)), "web2")
    assert (seen.ways, seen.datagram.payload[0], inner(seen)) == (("10.0.1.1", WEB2), TIME_EXCEEDED, (WEB2, FAR))
    out = the_one(there.send("web2", udp_to(WEB2, FAR, (next(_PORTS), 33435), ttl=2)), OUTSIDE)
    assert out.datagram.ttl == 1


@KINDS
def test_an_error_of_the_router_to_the_outside_speaks_of_the_floating_ip(there: Hop, kind: Kind) -> None:
    sent = replace(kind(FAR, FIP_WEB, next(_PORTS)), ttl=1)
    seen = the_one(served(there, OUTSIDE, sent), OUTSIDE)
    # Linux, too, shows the floating IP as sender here: the error belongs to that conversation.
    assert (seen.ways, inner(seen), seen.datagram.payload[0]) == ((FIP_WEB, FAR), (FAR, FIP_WEB), TIME_EXCEEDED)


@KINDS
def test_an_error_about_the_answer_from_outside_speaks_of_the_routers_address(there: Hop, kind: Kind) -> None:
    port = next(_PORTS)
    out = the_one(there.send("web2", kind(WEB2, FAR, port)), OUTSIDE)
    seen = the_one(served(there, OUTSIDE, answer(out.datagram, ttl=1)), OUTSIDE)
    assert (seen.ways, inner(seen)) == ((QG1, FAR), (FAR, QG1))
    about = quoted(seen.datagram)
    assert about and about.payload[:8] == answer(out.datagram).payload[:8]


@KINDS
def test_errors_of_the_router_about_a_hairpin_speak_of_floating_ips(there: Hop, kind: Kind) -> None:
    sent = kind(WEB1, FIP_DB, next(_PORTS))
    seen = the_one(served(there, "web1", replace(sent, ttl=1)), "web1")
    assert (seen.ways, inner(seen)) == ((FIP_DB, WEB1), (WEB1, FIP_DB))
    forth = the_one(there.send("web1", sent), "db1")
    seen = the_one(served(there, "db1", answer(forth.datagram, ttl=1)), "db1")
    assert (seen.ways, inner(seen)) == ((FIP_WEB, DB1), (DB1, FIP_WEB))


def test_what_is_too_large_and_may_not_be_cut_is_told_the_next_mtu(there: Hop) -> None:
    seen = the_one(served(there, "web1", udp_to(WEB1, DB1, data=bytes(MTU_INSIDE), dont_fragment=True)), "web1")
    assert (seen.ways, seen.datagram.payload[:2]) == (("10.0.1.1", WEB1), b"\3\4")
    assert int.from_bytes(seen.datagram.payload[6:8], "big") == MTU_INSIDE
    seen = the_one(served(there, OUTSIDE, udp_to(FAR, FIP_WEB, data=bytes(MTU_INSIDE), dont_fragment=True)), OUTSIDE)
    assert (seen.ways, inner(seen), seen.datagram.payload[:2]) == ((FIP_WEB, FAR), (FAR, FIP_WEB), b"\3\4")


def test_what_is_too_large_is_cut_and_translated_all_the_same(there: Hop) -> None:
    data = bytes(range(256)) * 6
    for name, source, target, where, ways in (
            ("web1", WEB1, DB1, "db1", (WEB1, DB1)), (OUTSIDE, FAR, FIP_WEB, "web1", (FAR, WEB1)),
            ("web1", WEB1, FIP_DB, "db1", (FIP_WEB, DB1)), ("web2", WEB2, FAR, OUTSIDE, (QG1, FAR))):
        pieces = served(there, name, udp_to(source, target, (next(_PORTS), 53), data=data, ident=7))
        assert {one.where for one in pieces} == {where} and {one.ways for one in pieces} == {ways}, (source, target)
        assert len(pieces) == 2
        whole = b"".join(one.datagram.payload for one in sorted(pieces, key=lambda one: one.datagram.offset))
        assert whole[8:] == data
        assert sound(replace(pieces[0].datagram, payload=whole, more=False, offset=0))


def test_what_waited_for_arp_goes_on_as_it_came(there: Hop) -> None:
    """The controller keeps a packet to an unknown neighbour until ARP answers; its mark says how it is translated."""
    learned = number("10.0.1.50")
    there.unlearn(f"table=45,priority=1,ip,reg2=0x11,reg3={learned:#x}")
    sent = udp_to("10.0.2.11", "198.51.100.9", (next(_PORTS), 53))
    there.send("db1", sent)
    there.serve()
    there.settled("fw1")
    assert there.raw("fw1", Arp(ARP_REPLY, there.mac("fw1"), learned, there.gateway("fw1"), number("10.0.1.1"))
                     .framed(there.mac("fw1"), there.gateway("fw1"))) == []
    there.serve()
    seen = the_one(there.settled("fw1"), "fw1")
    assert (seen.ways, seen.datagram.ttl) == ((DB1, "198.51.100.9"), 63)


# ---- what comes twice, in pieces, or in a whole conversation

@KINDS
def test_what_is_sent_again_before_an_answer_is_translated_in_the_same_way(there: Hop, kind: Kind) -> None:
    for name, source, target, where, ways in (
            ("web2", WEB2, FAR, OUTSIDE, (QG1, FAR)), ("web1", WEB1, FAR, OUTSIDE, (FIP_WEB, FAR)),
            (OUTSIDE, FAR, FIP_WEB, "web1", (FAR, WEB1)), (OUTSIDE, FAR, WEB2, "web2", (FAR, WEB2)),
            ("web1", WEB1, FIP_DB, "db1", (FIP_WEB, DB1)), ("web2", WEB2, FIP_DB, "db1", (QG1, DB1))):
        sent = kind(source, target, next(_PORTS))
        first, *others = (the_one(there.send(name, sent), where) for _ in range(3))
        assert first.ways == ways
        assert [one.frame for one in others] == [first.frame] * 2


def test_a_packet_in_pieces_is_translated_whole(there: Hop) -> None:
    data = bytes(range(256)) * 9
    for name, source, target, where, ways in (("web1", WEB1, DB1, "db1", (WEB1, DB1)),
                                              ("web2", WEB2, FAR, OUTSIDE, (QG1, FAR)),
                                              (OUTSIDE, FAR, FIP_WEB, "web1", (FAR, WEB1)),
                                              ("web1", WEB1, FIP_DB, "db1", (FIP_WEB, DB1))):
        sent = udp_to(source, target, (next(_PORTS), 53), data=data, ident=9)
        found: list[Seen] = []
        # Conntrack of the userspace datapath takes no pieces (but the last) of less than 1,200 bytes.
        for start in range(0, len(sent.payload), 1400):
            piece = sent.payload[start:start + 1400]
            more = start + 1400 < len(sent.payload)
            found += there.send(name, replace(sent, payload=piece, offset=start, more=more))
        assert {(one.where, one.ways) for one in found} == {(where, ways)}, (source, target)
        whole = b"".join(one.datagram.payload for one in sorted(found, key=lambda one: one.datagram.offset))
        assert whole[8:] == data
        assert sound(replace(found[0].datagram, payload=whole, more=False, offset=0))


@pytest.mark.parametrize(("source", "target", "where", "address"), [
    ("web2", FAR, OUTSIDE, QG1), ("web1", FIP_DB, "db1", FIP_WEB), (OUTSIDE, FIP_WEB, "web1", FAR)])
def test_a_whole_tcp_conversation(there: Hop, source: str, target: str, where: str, address: str) -> None:
    port, own = next(_PORTS), FAR if source == OUTSIDE else there.address(source)
    steps = ((True, SYN, b""), (False, SYN | ACK, b""), (True, ACK, b""), (True, ACK, b"GET /"), (False, ACK, b"200"),
             (True, FIN | ACK, b""), (False, FIN | ACK, b""), (True, ACK, b""))
    at = {True: 1000, False: 5000}
    arrived: Datagram | None = None
    for forth, flags, data in steps:
        body = struct.pack("!HHIIBBHHH", *((port, 80) if forth else (80, port)), at[forth],
                           at[not forth] if flags & ACK else 0, 0x50, flags, 8192, 0, 0) + data
        at[forth] += len(data) + bool(flags & (SYN | FIN))
        if forth:
            seen = the_one(there.send(source, summed(Datagram(number(own), number(target), TCP, body), 16)), where)
            arrived = seen.datagram
            assert seen.ways[0] == address
        else:
            assert arrived
            back = struct.pack("!HH", 80, ports(arrived)[0]) + body[4:]
            seen = the_one(there.send(where, summed(Datagram(arrived.dst, arrived.src, TCP, back), 16)), source)
            assert seen.ways == (target, own)
        assert seen.datagram.payload[20:] == data


def test_who_spoke_to_a_floating_ip_does_not_go_on_when_it_is_taken_away(there: Hop) -> None:
    inward, outward, across = (next(_PORTS) for _ in range(3))
    talks = ((OUTSIDE, _tcp(FAR, FIP_WEB, inward), "web1"), ("web1", _tcp(WEB1, FAR, outward), OUTSIDE),
             ("web1", _tcp(WEB1, FIP_DB, across), "db1"), ("web2", _tcp(WEB2, FAR, outward), OUTSIDE))
    for name, sent, where in talks:
        the_one(there.send(where, answer(the_one(there.send(name, sent), where).datagram)), name)
    one = there.host.routers[0]
    tracked = there.tracked(one)
    assert sum(FIP_WEB in each for each in tracked) >= 3
    other = replace(one, router=replace(one.router, floating_ips=one.router.floating_ips[1:]))
    for each in ended(one, other):
        there.say(nicira.ct_flush(each.zone, each.asked, each.shown))
    assert there.tracked(one) == [each for each in tracked if FIP_WEB not in each]


# ---- other settings

def test_without_source_nat_inside_addresses_are_shown_but_floating_ips_stay() -> None:
    with hop(snat=False) as there:
        learn(there)
        for name, target, where, ways in (("web2", FAR, OUTSIDE, (WEB2, FAR)), ("web1", FAR, OUTSIDE, (FIP_WEB, FAR)),
                                          (OUTSIDE, WEB2, "web2", (FAR, WEB2)), ("web2", FIP_DB, "db1", (QG1, DB1))):
            own = FAR if name == OUTSIDE else there.address(name)
            seen = the_one(there.send(name, _tcp(own, target, next(_PORTS))), where)
            assert seen.ways == ways
            back = the_one(there.send(where, answer(seen.datagram)), name)
            assert back.ways == (target, own)


def test_the_outside_may_be_a_vlan_of_its_physical_network() -> None:
    with hop(flat=False) as there:
        learn(there)
        (seen,) = there.send("web2", _udp(WEB2, FAR, 777))
        assert (seen.where, seen.vlan, seen.ways) == (OUTSIDE, 100, (QG1, FAR))
        back = answer(seen.datagram).framed(there.mac(OUTSIDE), there.gateway(OUTSIDE))
        for tag, expected in ((b"\x81\0\0\x64", ["web2"]), (b"\x81\0\0\x65", []), (b"", [])):
            there.put(OUTSIDE, back[:12] + tag + back[12:])
            there.settled("web2")
            assert [one.where for one in there.settled("web2")] == expected or expected


def test_one_that_asks_too_often_takes_nothing_from_another() -> None:
    with hop(meters=(5, 100, 100)) as there:
        learn(there)
        for _ in range(50):
            there.put("web1", ping(WEB1, "10.0.1.1").framed(there.mac("web1"), there.gateway("web1")))
        there.settled("web1")
        there.send("web2", ping(WEB2, "10.0.1.1"))
        asked = [str(IPv4Address(one.datagram.src)) for one in there.asked_until(WEB2)]
        assert asked.count(WEB2) == 1 and asked.count(WEB1) <= 10
