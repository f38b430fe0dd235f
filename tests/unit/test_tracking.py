"""Connection tracking on paper, and walks through the routed hop with it: there and back, translated."""
from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from flows import fields as f
from flows import packet as packets
from flows.evaluate import Pipeline, Walk
from flows.flow import Track, Translation
from flows.packet import Packet
from flows.tables import LEAVE, ROUTE, TRANSLATE_OUT
from flows.tracking import Conntrack
from tests import routed_rows as hop

ZONE = 5
LOOK = Track(ZONE, ROUTE, nat=True)
COMMIT = Track(ZONE, ROUTE, commit=True)
A, B, C, OUTSIDE = "10.0.1.11", "198.51.100.7", "10.0.1.12", "203.0.113.10"
SNAT = Track(ZONE, ROUTE, commit=True, translation=Translation("src", IPv4Address(OUTSIDE)))
DNAT = Track(ZONE, ROUTE, commit=True, translation=Translation("dst", IPv4Address(A)))
MACS = ("fa:16:3e:00:00:0a", "fa:16:3e:00:00:0b")


def datagram(src: str, dst: str, ports: tuple[int, int] = (4000, 53)) -> Packet:
    return packets.udp((MACS[0], src), (MACS[1], dst), ports)


def ping(src: str, dst: str, *, number: int = 1, reply: bool = False) -> Packet:
    return packets.icmp_echo((MACS[0], src), (MACS[1], dst)).with_(icmp_id=number, icmpv4_type=0 if reply else 8)


def state(packet: Packet) -> str:
    return packet.shown(f.CT_STATE)


def ends(packet: Packet) -> tuple[str, str]:
    return packet.shown(f.IPV4_SRC), packet.shown(f.IPV4_DST)


# ---- one zone

def test_a_conversation_is_new_until_it_is_answered_and_established_from_then_on() -> None:
    there, back = datagram(A, B), datagram(B, A, (53, 4000))
    first, tracker = Conntrack().track(COMMIT, there)
    again, tracker = tracker.track(LOOK, there)
    answer, tracker = tracker.track(LOOK, back)
    later, tracker = tracker.track(LOOK, there)
    assert [state(one) for one in (first, again, answer, later)] == ["new|trk", "new|trk", "est|rpl|trk", "est|trk"]


def test_what_is_not_committed_is_not_remembered() -> None:
    _, tracker = Conntrack().track(LOOK, datagram(A, B))
    assert tracker == Conntrack()


def test_zones_know_nothing_of_each_other() -> None:
    _, tracker = Conntrack().track(COMMIT, datagram(A, B))
    seen, _ = tracker.track(Track(ZONE + 1, ROUTE), datagram(B, A, (53, 4000)))
    assert state(seen) == "new|trk"


def test_a_translated_source_is_translated_back_in_answers_and_only_where_asked() -> None:
    out, tracker = Conntrack().track(SNAT, datagram(A, B))
    assert (ends(out), state(out)) == ((OUTSIDE, B), "new|trk|snat")
    back = datagram(B, OUTSIDE, (53, 4000))
    assert ends(tracker.track(LOOK, back)[0]) == (B, A)
    assert ends(tracker.track(Track(ZONE, ROUTE), back)[0]) == (B, OUTSIDE)
    assert ends(tracker.track(LOOK, datagram(A, B))[0]) == (OUTSIDE, B)


def test_a_translated_destination_is_translated_back_in_answers() -> None:
    out, tracker = Conntrack().track(DNAT, datagram(B, OUTSIDE, (4000, 80)))
    assert (ends(out), state(out)) == ((B, A), "new|trk|dnat")
    assert ends(tracker.track(LOOK, datagram(A, B, (80, 4000)))[0]) == (OUTSIDE, B)


def test_two_that_use_one_port_behind_one_address_are_told_apart_by_another_port() -> None:
    _, tracker = Conntrack().track(SNAT, datagram(A, B))
    second, tracker = tracker.track(SNAT, datagram(C, B))
    assert (second.get("udp_src"), ends(second)) == (1024, (OUTSIDE, B))
    assert ends(tracker.track(LOOK, datagram(B, OUTSIDE, (53, 1024)))[0]) == (B, C)


def test_no_id_of_a_ping_is_changed_so_that_the_second_host_with_it_is_not_translated() -> None:
    _, tracker = Conntrack().track(SNAT, ping(A, B))
    second, _ = tracker.track(SNAT, ping(C, B))
    assert (ends(second), state(second)) == ((C, B), "new|trk")
    assert ends(tracker.track(LOOK, ping(B, OUTSIDE, reply=True))[0]) == (B, A)


@pytest.mark.parametrize("packet", [
    ping(B, A, reply=True), ping(A, B).with_(icmpv4_type=3), packets.arp_request(MACS[0], A, B),
], ids=["an answer to nothing", "an error", "not IP"])
def test_what_belongs_to_no_connection_that_could_be_is_invalid(packet: Packet) -> None:
    assert state(Conntrack().track(LOOK, packet)[0]) == "inv|trk"


# ---- through the hop

ROUTER = Pipeline("br-int", hop.rows())
WEB, DB, WORLD = "10.0.1.11", "10.0.2.12", "203.0.113.1"


def sent(source: str, target: str, walk: Walk | None = None, ports: tuple[int, int] = (4000, 80), **more: int) -> Walk:
    """A datagram to the router's leg on the sender's network, after what was tracked in an earlier walk."""
    mac, leg, port = hop.VMS[source]
    packet = packets.udp((mac, source), (hop.LEG_MACS[leg - 1], target), ports).with_(**more)
    return ROUTER.walk(packet, port, walk.conntrack if walk else None)


def arrival(walk: Walk) -> tuple[int, str, str]:
    ((port, packet),) = walk.outputs
    return port, *ends(packet)


def test_between_two_networks_the_packet_wears_the_macs_of_the_next_hop_and_one_less_to_live() -> None:
    ((port, packet),) = sent(WEB, DB).outputs
    assert (port, packet.shown(f.ETH_SRC), packet.shown(f.ETH_DST)) == (12, hop.LEG_MACS[1], hop.VMS[DB][0])
    assert (packet.get(f.IP_TTL), packet.vlan, packet.get(f.REG_ROUTER)) == (63, None, None)


def test_who_has_a_floating_ip_leaves_by_it_and_is_reached_by_it() -> None:
    out = sent(WEB, WORLD)
    assert arrival(out) == (13, hop.FLOATING, WORLD)
    assert arrival(sent(WORLD, hop.FLOATING, out, (80, 4000))) == (11, WORLD, WEB)
    reached = sent(WORLD, hop.FLOATING, None, (5000, 22))
    assert arrival(reached) == (11, WORLD, WEB)
    assert arrival(sent(WEB, WORLD, reached, (22, 5000))) == (13, hop.FLOATING, WORLD)


def test_others_share_the_gateways_address_and_get_their_own_answers() -> None:
    out = sent(DB, WORLD)
    assert arrival(out) == (13, hop.LEG_ADDRESSES[2], WORLD)
    assert arrival(sent(WORLD, hop.LEG_ADDRESSES[2], out, (80, 4000))) == (12, WORLD, DB)


def test_from_inside_to_a_floating_ip_both_ends_are_translated_and_back() -> None:
    out = sent(DB, hop.FLOATING)
    assert arrival(out) == (11, hop.LEG_ADDRESSES[2], WEB)
    assert arrival(sent(WEB, hop.LEG_ADDRESSES[2], out, (80, 4000))) == (12, hop.FLOATING, DB)


@pytest.mark.parametrize(("walk", "leg", "why"), [
    (sent(WEB, DB, nw_ttl=1), 1, "it expires here"),
    (sent(WEB, "10.0.2.99"), 1, "nobody knows the next hop"),
    (sent(WEB, "10.0.2.1"), 1, "it is for the router itself"),
    (sent(WORLD, hop.FLOATING, nw_ttl=1), 3, "it expires here, its destination translated"),
], ids=lambda one: one if isinstance(one, str) else "")
def test_what_the_tables_cannot_do_is_asked_with_the_registers_of_its_way(walk: Walk, leg: int, why: str) -> None:
    (asked,) = walk.asked
    assert (asked.get(f.REG_ROUTER), asked.get(f.REG_CAME_BY), walk.outputs) == (hop.ROUTER, leg, ()), why
    assert asked.get(f.REG_TRANSLATED) in ((1,) if leg == 3 else (None, 0))


def test_a_packet_larger_than_the_mtu_is_asked_about_and_one_as_large_passes() -> None:
    mac, _, port = hop.VMS[WEB]
    packet = packets.udp((mac, WEB), (hop.LEG_MACS[0], DB), (1, 2))
    fits, large = (ROUTER.walk(Packet(packet.items, size=size), port) for size in (1464, 1465))
    assert (len(fits.outputs), len(fits.asked)) == (1, 0)
    assert (len(large.outputs), len(large.asked)) == (0, 1)


def test_arp_for_a_leg_is_answered_out_of_the_port_it_came_by() -> None:
    mac, _, port = hop.VMS[WEB]
    ((out, answer),) = ROUTER.walk(packets.arp_request(mac, WEB, hop.LEG_ADDRESSES[0]), port).outputs
    assert (out, answer) == (port, packets.arp_reply(hop.LEG_MACS[0], hop.LEG_ADDRESSES[0], mac, WEB))


def test_what_the_controller_sends_starts_where_it_says() -> None:
    packet = datagram(DB, WORLD).with_(eth_dst=f.ETH_DST(hop.VMS[WORLD][0]).value, reg0=hop.ROUTER, reg2=3)
    as_routed = ROUTER.walk(packet, 0, entry=TRANSLATE_OUT)
    assert arrival(as_routed) == (13, hop.LEG_ADDRESSES[2], WORLD)
    assert arrival(ROUTER.walk(packet, 0, entry=LEAVE)) == (13, DB, WORLD)
