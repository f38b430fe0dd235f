"""Packets walked through small tables: what Open vSwitch does, step by step."""
from __future__ import annotations

import pytest

from flows import fields as f
from flows import packet as packets
from flows.evaluate import Pipeline, Walk, evaluate
from flows.fields import tagged
from flows.flow import (
    ANY,
    Action,
    Ask,
    Flow,
    Goto,
    LearnPort,
    LookUp,
    Match,
    Output,
    OutputBack,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    Track,
    flow,
    when,
)
from flows.packet import Packet
from flows.tables import (
    ACCEPTED,
    ARP_SPOOF,
    BASE_EGRESS,
    BEHIND,
    BR_TUN,
    CLASSIFY,
    CONVERSATION,
    DELIVER,
    MAC_SPOOF,
    ONWARD,
    ROUTER,
    RULES,
    UNICAST,
    UNKNOWN,
    Table,
)
from tests import filter_rows
from tests.clouds import golden, tables

A, B = "fa:16:3e:00:00:0a", "fa:16:3e:00:00:0b"
PING = packets.icmp_echo((A, "10.0.1.11"), (B, "10.0.1.12"))


def row(table: Table, rank: str, match: Match, *actions: Action) -> Flow:
    return flow(table, rank, match, *actions, origin="test", why=rank)


def way(walk: Walk) -> list[str]:
    return [step.table.name for step in walk.steps]


def test_the_highest_priority_wins_whatever_the_order_of_the_flows() -> None:
    low, high = row(CLASSIFY, "tagged", when(f.IN_PORT(5))), row(CLASSIFY, "admit", when(f.IN_PORT(5)), Output(7))
    for flows in ((low, high), (high, low)):
        assert evaluate(flows, PING, 5).last.flow == high


def test_what_no_flow_matches_is_dropped_and_the_step_says_so() -> None:
    walk = evaluate([row(CLASSIFY, "admit", when(f.IN_PORT(5)), Output(7))], PING, 6)
    assert (walk.last.flow, walk.outputs, walk.last.after) == (None, (), PING)


def test_actions_are_carried_out_in_order_and_each_output_sends_the_packet_of_its_moment() -> None:
    walk = evaluate([row(CLASSIFY, "admit", ANY, PushVlan(), SetField(tagged(9)), Output(1), Goto(ROUTER)),
                     row(ROUTER, "miss", ANY, Goto(DELIVER)),
                     row(DELIVER, "unknown", when(tagged(9)), PopVlan(), Output(2), Output(3))], PING, 5)
    assert [(port, copy.vlan) for port, copy in walk.outputs] == [(1, 9), (2, None), (3, None)]
    assert way(walk) == ["classify", "router", "deliver"]


def test_nothing_leaves_by_the_port_it_came_in_by_unless_it_is_sent_back() -> None:
    assert evaluate([row(CLASSIFY, "admit", ANY, Output(5), Output(6))], PING, 5).outputs == ((6, PING),)
    assert evaluate([row(CLASSIFY, "admit", ANY, OutputBack())], PING, 5).outputs == ((5, PING),)


def test_what_goes_in_circles_is_dropped_like_in_open_vswitch() -> None:
    flows = [row(CLASSIFY, "admit", ANY, PushVlan(), SetField(tagged(9)), Goto(ROUTER)),
             row(ROUTER, "miss", ANY, Output(7), Goto(DELIVER)), row(DELIVER, "known", ANY, Resubmit(ROUTER))]
    assert evaluate(flows, PING, 5).outputs == ()


def test_what_is_said_of_a_packet_inside_a_switch_does_not_leave_it() -> None:
    flows = [row(CLASSIFY, "admit", ANY, SetField(f.REG_ROUTER(7)), Output(7), OutputBack(), Ask())]
    walk = evaluate(flows, PING, 5)
    assert walk.outputs == ((7, PING), (5, PING))
    assert walk.asked == (PING.with_(reg0=7),)


def test_tags_are_pushed_above_others_and_popped_from_above() -> None:
    tagged_once = PING.with_(vlan_vid=f.VLAN_PRESENT | 7)
    twice = tagged_once.pushed().set(tagged(9))
    assert (twice.vlan, twice.popped(), twice.popped().popped()) == (9, tagged_once, PING)
    assert PING.popped() == PING


def test_an_untagged_frame_and_one_with_vlan_0_are_told_apart() -> None:
    flows = [row(CLASSIFY, "admit", when(f.IN_PORT(5), f.UNTAGGED), Output(1)), row(CLASSIFY, "miss", ANY)]
    assert evaluate(flows, PING, 5).outputs
    assert not evaluate(flows, PING.with_(vlan_vid=f.VLAN_PRESENT), 5).outputs


@pytest.mark.parametrize(("criterion", "matched"), [
    (f.IPV4_SRC("10.0.1.0/24"), True), (f.IPV4_SRC("10.0.2.0/24"), False), (f.IPV4_SRC("10.0.1.11"), True),
    (f.IPV4_DST("10.0.1.11"), False), (f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT), False), (f.ETH_SRC(A), True),
])
def test_masks_and_prefixes_compare_their_bits(criterion: f.Criterion, matched: bool) -> None:
    needs = f.NEEDS.get(criterion.field, ())
    walk = evaluate([Flow(MAC_SPOOF, 1, when(criterion, *needs), (Output(1),), "", ""),
                     row(CLASSIFY, "admit", ANY, Goto(ARP_SPOOF)), row(ARP_SPOOF, "miss", ANY, Goto(MAC_SPOOF))],
                    PING, 5)
    assert bool(walk.outputs) is matched


def test_a_field_that_a_packet_does_not_have_matches_nothing() -> None:
    arp = packets.arp_request(A, "10.0.1.11", "10.0.1.12")
    flows = [Flow(CLASSIFY, 2, Match((f.IPV4_SRC("10.0.1.11"),)), (Output(1),), "", "")]
    assert not evaluate(flows, arp, 5).outputs


def br_tun(case: str, host: str = "compute1") -> Pipeline:
    return Pipeline(BR_TUN, tables(golden(case), host)[BR_TUN])


def test_an_arp_request_is_turned_into_its_answer_and_sent_back() -> None:
    cloud = golden("l2population-arp-responder")
    web1, web2 = (cloud.vms[name].ports[0] for name in ("web1", "web2"))
    question = packets.arp_request(web1.mac, web1.ip, web2.ip).set(tagged(1))
    walk = br_tun("l2population-arp-responder").walk(question, 1)
    assert way(walk) == ["from", "to-tunnel", "arp-responder"]
    assert walk.outputs == ((1, packets.arp_reply(web2.mac, web2.ip, web1.mac, web1.ip).set(tagged(1))),)


def test_what_came_out_of_a_tunnel_is_learned_and_the_answer_goes_back_that_way() -> None:
    pipeline = br_tun("one-network-two-hosts")
    walk = pipeline.walk(PING.with_(tunnel_id=1001), 2)
    assert [(port, copy.vlan) for port, copy in walk.outputs] == [(1, 1)]
    (learned,) = walk.learned
    assert (learned.table, learned.match) == (UNICAST, when(tagged(1), f.ETH_DST(A)))
    answer = packets.icmp_echo((B, "10.0.1.12"), (A, "10.0.1.11")).set(tagged(1))
    before, after = pipeline.walk(answer, 1), pipeline.with_(walk.learned).walk(answer, 1)
    assert (way(before)[-1], way(after)[-1]) == ("flood", "unicast")
    assert [(port, copy.vlan, copy.tunnel_id) for port, copy in after.outputs] == [(2, None, 1001)]


def test_what_is_learned_anew_replaces_what_was_learned_before() -> None:
    pipeline = br_tun("idle-host", "network1")
    first = br_tun("one-network-two-hosts").walk(PING.with_(tunnel_id=1001), 2).learned
    moved = tuple(Flow(row.table, row.priority, row.match, (*row.actions[:-1], Output(3)), "", "") for row in first)
    known = pipeline.with_(first).with_(moved)
    assert known.hit(UNICAST, PING.set(tagged(1)).with_(eth_dst=f.ETH_DST(A).value), 1) == moved[0]


def test_evaluate_takes_what_was_learned_along() -> None:
    flows = tables(golden("one-network-two-hosts"), "compute1")[BR_TUN]
    learned = evaluate(flows, PING.with_(tunnel_id=1001), 2).learned
    back = packets.icmp_echo((B, "10.0.1.12"), (A, "10.0.1.11")).set(tagged(1))
    assert way(evaluate(flows, back, 1, learned))[-1] == "unicast"
    with pytest.raises(ValueError, match="without flows"):
        evaluate([], PING, 1)


@pytest.mark.parametrize(("packet", "words"), [
    (packets.arp_request(A, "10.0.1.11", "10.0.1.12"), "ARP: who has 10.0.1.12? asks 10.0.1.11"),
    (packets.arp_reply(A, "10.0.1.11", B, "10.0.1.12"), f"ARP: 10.0.1.11 is at {A}"),
    (packets.neighbour_solicitation(A, "2001:db8::1", "2001:db8::2"), "ND: who has 2001:db8::2? asks 2001:db8::1"),
    (packets.neighbour_advertisement(A, "2001:db8::1", B, "2001:db8::2"), f"ND: 2001:db8::1 is at {A}"),
    (PING, "ICMP echo request 10.0.1.11 > 10.0.1.12"),
    (packets.icmp_echo((A, "2001:db8::1"), (B, "2001:db8::2")), "ICMP echo request 2001:db8::1 > 2001:db8::2"),
    (packets.udp((A, "10.0.1.11"), (B, "10.0.1.12"), (4000, 53)), "UDP port 53 10.0.1.11 > 10.0.1.12"),
    (packets.tcp((A, "10.0.1.11"), (B, "10.0.1.12"), (4000, 80)), "TCP port 80 10.0.1.11 > 10.0.1.12"),
    (packets.frame(A, B, f.RARP), f"frame {A} > {B}"),
])
def test_a_packet_says_what_it_is(packet: Packet, words: str) -> None:
    assert str(packet) == words


def test_a_solicitation_goes_to_the_group_of_its_target() -> None:
    packet = packets.neighbour_solicitation(A, "2001:db8::1", "2001:db8::aabb:ccdd")
    assert packet.shown(f.ETH_DST) == "33:33:ff:bb:cc:dd"
    assert packet.shown(f.IPV6_DST) == "ff02::1:ffbb:ccdd"


@pytest.mark.parametrize("times", [6, 7])
def test_connection_tracking_leads_a_packet_on_six_times_and_no_more(times: int) -> None:
    assert bool(evaluate(filter_rows.tracked(times), PING, 5).outputs) is (times == 6)


@pytest.mark.parametrize("tracked", [True, False])
def test_what_a_packet_teaches_a_table_it_finds_there_itself_once_it_is_tracked(tracked: bool) -> None:
    to_itself = packets.udp((A, "10.0.1.11"), (A, "10.0.1.11"), (4000, 53))
    learn = LearnPort(BEHIND, "learned", hard_timeout=300, cookie=1, limit=0)
    onward: Action = Track(f.REG_ZONE, CONVERSATION) if tracked else Resubmit(ROUTER)
    flows = [row(CLASSIFY, "admit", ANY, PushVlan(), SetField(tagged(9)), learn, Goto(BASE_EGRESS)),
             row(BASE_EGRESS, "ip", when(f.ETH_TYPE(f.IPV4)), onward), row(CONVERSATION, "leaves", ANY, Goto(RULES)),
             row(RULES, "rule", ANY, Goto(ACCEPTED)), row(ACCEPTED, "miss", ANY, Goto(ONWARD)),
             row(ONWARD, "leaves", ANY, Resubmit(ROUTER)), row(ROUTER, "miss", ANY, Goto(DELIVER)),
             row(DELIVER, "unknown", ANY, LookUp(BEHIND), Goto(UNKNOWN)),
             row(UNKNOWN, "anywhere", ANY, Output(7)),
             row(UNKNOWN, "behind", when(f.REG_OUT_PORT(5)), Output(8))]
    walk = evaluate(flows, to_itself, 5)
    assert [port for port, _ in walk.outputs] == [8 if tracked else 7]
    assert [port for port, _ in evaluate(flows, to_itself, 5, walk.learned).outputs] == [8]
