"""The words that security groups need: what they look like, what cannot be said with them, what they do on paper."""
from __future__ import annotations

from dataclasses import replace

import pytest

from flows import fields as f
from flows import packet as packets
from flows import tables as t
from flows.evaluate import Pipeline, Walk
from flows.fields import Criterion, ct_state, tagged
from flows.flow import (
    ANY,
    Action,
    Clone,
    Conjunction,
    Flow,
    Goto,
    LearnPort,
    LookUp,
    Match,
    Output,
    OutputTo,
    Resubmit,
    SetField,
    Track,
    Undeclared,
    flow,
    when,
)
from flows.lint import Kind, lint
from flows.packet import Packet
from flows.text import actions_text, match_words
from flows.tracking import Conntrack
from tests import filter_rows as rows

KNOWN, IP, IP6 = ct_state("-inv"), f.ETH_TYPE(f.IPV4), f.ETH_TYPE(f.IPV6)
LEARN = LearnPort(t.BEHIND, "learned", 300, 0x5402 << 48 | 9, 64)
A, B, C = ((rows.VMS[5][0], "10.0.0.5"), (rows.VMS[6][0], "10.0.0.6"), ("fa:16:3e:00:00:09", "10.0.1.3"))
BRIDGE = Pipeline(t.BR_INT, rows.rows())


# ---- in the words of ovs-ofctl

@pytest.mark.parametrize(("criteria", "words"), [
    ((KNOWN, IP, f.REG_PROFILE(7), f.REG_BEGAN(1), f.CT_NW_SRC("10.0.0.0/8"), f.CT_NW_PROTO(6), f.CT_TP_DST(80)),
     ["ct_state=-inv+trk", "ct_nw_src=10.0.0.0/8", "ct_nw_proto=6", "ct_tp_dst=80", "ip", "reg7=0x7", "reg10=0x1"]),
    ((KNOWN, IP6, f.CT_IPV6_DST("2001:db8::1"), f.CT_NW_PROTO(17), f.CT_TP_SRC(0, 0xFF00), f.CT_TP_DST(80, 0xFFF0)),
     ["ct_state=-inv+trk", "ct_ipv6_dst=2001:db8::1", "ct_nw_proto=17", "ct_tp_src=0x0/0xff00",
      "ct_tp_dst=0x50/0xfff0", "ipv6"]),
    ((f.CONJ_ID(7), KNOWN, IP), ["conj_id=7", "ct_state=-inv+trk", "ip"]),
    ((IP6, f.IP_PROTO(f.SCTP), f.SCTP_SRC(0x400, 0xFC00)), ["sctp6", "tp_src=0x400/0xfc00"]),
    ((IP6, f.IP_PROTO(f.TCP)), ["tcp6"]),
    ((f.REG_OUT_PORT(0), f.ANY_TAG), ["reg6=0", "vlan_tci=0x1000/0x1000"]),
])
def test_conditions_are_in_the_words_and_order_of_ovs_ofctl(criteria: tuple[Criterion, ...], words: list[str]) -> None:
    assert match_words(when(*reversed(criteria))) == words


@pytest.mark.parametrize(("actions", "text"), [
    ((LookUp(t.BEHIND), Goto(t.UNKNOWN)), "resubmit(,61),goto_table:62"),
    ((Clone((SetField(f.REG_OUT_PORT(5)), Resubmit(t.BASE_INGRESS))), Output(1)),
     "clone(set_field:0x5->reg6,resubmit(,81)),output:1"),
    ((OutputTo(f.REG_OUT_PORT),), "output:NXM_NX_REG6[]"),
    ((Conjunction(3, 1, 2), Conjunction(0xFFFFFFFF, 2, 3)), "conjunction(3,1/2),conjunction(4294967295,2/3)"),
    ((Track(f.REG_ZONE, t.CONVERSATION),), "ct(table=82,zone=NXM_NX_REG9[0..15])"),
    ((Track(f.REG_ZONE, None, commit=True), Goto(t.ONWARD)), "ct(commit,zone=NXM_NX_REG9[0..15]),goto_table:85"),
    ((LEARN,), "learn(table=61,hard_timeout=300,priority=1,cookie=0x5402000000000009,limit=64,NXM_OF_VLAN_TCI[0..11],"
               "NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG6[0..15])"),
])
def test_actions_are_in_the_words_of_ovs_ofctl(actions: tuple[Action, ...], text: str) -> None:
    assert actions_text(actions) == text


# ---- what cannot be said

@pytest.mark.parametrize(("criteria", "words"), [
    ((IP, f.CT_NW_SRC("10.0.0.1")), r"together with ct_state=\+trk-inv"),
    ((ct_state("+new"), IP, f.CT_NW_SRC("10.0.0.1")), r"together with ct_state=\+trk-inv"),
    ((ct_state("+inv"), IP, f.CT_NW_PROTO(6)), r"together with ct_state=\+trk-inv"),
    ((KNOWN, f.CT_IPV6_SRC("2001:db8::1"), IP), "together with eth_type"),
    ((KNOWN, IP, f.CT_TP_DST(80)), "together with ct_nw_proto"),
])
def test_a_match_that_a_switch_would_refuse_or_widen_cannot_be_made(criteria: tuple[Criterion, ...],
                                                                    words: str) -> None:
    with pytest.raises(ValueError, match=words):
        when(*criteria)


@pytest.mark.parametrize(("where", "match", "actions", "words"), [
    (t.DELIVER, ANY, (LookUp(t.ROUTE),), "does not lead to route"),
    (t.DELIVER, ANY, (LookUp(t.UNKNOWN),), "not only looked up"),
    (t.DELIVER, ANY, (Clone((Goto(t.BASE_INGRESS),)),), "nothing that a copy can do"),
    (t.DELIVER, ANY, (Clone((Resubmit(t.BASE_INGRESS), Output(1))),), "last thing"),
    (t.DELIVER, ANY, (Clone((Resubmit(t.RULES),)),), "does not lead to rules"),
    (t.ONWARD, ANY, (OutputTo(f.TUN_ID),), "no register"),
    (t.RULES, ANY, (Conjunction(0, 1, 2),), "no clause"),
    (t.RULES, ANY, (Conjunction(1, 3, 2),), "no clause"),
    (t.RULES, ANY, (Conjunction(1, 1, 1),), "no clause"),
    (t.RULES, ANY, (Conjunction(1, 1, 2), Goto(t.ACCEPTED)), "does nothing else"),
    (t.FLOOD, ANY, (LEARN,), "another bridge"),
    (t.BASE_EGRESS, when(IP), (Track(f.REG_ZONE, None),), "without a table"),
    (t.BASE_EGRESS, when(IP), (Track(f.TUN_ID, t.CONVERSATION),), "no register"),
])
def test_what_a_switch_would_not_do_as_meant_cannot_be_said(where: t.Table, match: Match, actions: tuple[Action, ...],
                                                            words: str) -> None:
    with pytest.raises(Undeclared, match=words):
        flow(where, "miss", match, *actions, origin="x", why="y")


# ---- what it does

def left(walk: Walk) -> dict[int, int | None]:
    return {port: packet.vlan for port, packet in walk.outputs}


def to_port(port: int) -> Packet:
    return packets.tcp(C, B, (4000, port))


def test_a_broadcast_reaches_those_who_may_hear_it_each_by_its_own_rules() -> None:
    shout = packets.udp(C, (f.BROADCAST, "10.0.0.255"), (4000, 0x50))
    walk = BRIDGE.walk(shout, 9)
    assert left(walk) == {1: 4, 5: None, 6: None}
    assert [way.last.table.name for way in walk.ways] == ["deliver", "onward", "onward"]
    assert [step.table.name for step in walk.way_to(6)][2:4] == ["deliver", "base-ingress"]
    ping = BRIDGE.walk(packets.icmp_echo(C, (f.BROADCAST, "10.0.0.255")), 9)
    assert left(ping) == {1: 4, 5: None}
    assert [way.last.table.name for way in ping.ways] == ["deliver", "onward", "rules"]


def test_copies_know_nothing_of_what_the_others_noted_down() -> None:
    walk = BRIDGE.walk(packets.arp_request(C[0], C[1], B[1]), 9)
    noted = [way.last.before.get(f.REG_PROFILE) for way in walk.copies]
    assert noted == [profile for _, _, profile in rows.VMS.values()]
    assert walk.steps[-1].after.get(f.REG_PROFILE) is None


def test_who_is_unknown_is_looked_up_and_sent_where_it_came_from_last() -> None:
    stranger = "fa:16:3e:00:00:77"
    ask = packets.udp(A, (stranger, "10.0.0.77"), (1, 2))
    before = BRIDGE.walk(ask, 5)
    assert left(before) == {1: 4, 9: None}
    learned = BRIDGE.walk(packets.udp((stranger, "10.0.0.77"), A, (2, 1)), 9).learned
    assert [row.why for row in learned] == [f"{stranger} came by port 9 last"]
    after = BRIDGE.with_(learned).walk(ask, 5)
    assert left(after) == {9: None}
    assert [step.table.name for step in after.steps[-3:]] == ["deliver", "behind", "unknown"]


def test_a_conjunction_takes_what_meets_a_flow_of_each_clause_and_names_these() -> None:
    walk = BRIDGE.walk(to_port(22), 9)
    assert left(walk) == {6: None}
    (step,) = (step for step in walk.steps if step.clauses)
    assert [row.actions[0] for row in step.clauses] == [Conjunction(rows.MEMBERS, clause, 2) for clause in (1, 2)]
    assert left(BRIDGE.walk(to_port(23), 9)) == {}
    assert left(BRIDGE.walk(packets.tcp((C[0], "10.0.2.3"), B, (4000, 22)), 9)) == {}


def test_answers_and_errors_pass_though_no_rule_lets_them_begin() -> None:
    ask = packets.udp(A, C, (4000, 5000))
    walk = BRIDGE.walk(ask, 5)
    assert left(walk) == {1: 4, 9: None}
    answer = packets.udp(C, A, (5000, 4000))
    refusal = replace(packets.icmp_echo(C, A).with_(icmpv4_type=3, icmpv4_code=3), quoted=ask)
    for packet in (answer, refusal):
        assert left(BRIDGE.walk(packet, 9, walk.conntrack)) == {5: None}
        assert left(BRIDGE.walk(packet, 9)) == {}
    elsewhere = replace(refusal, quoted=packets.udp(A, C, (4000, 5001)))
    assert left(BRIDGE.walk(elsewhere, 9, walk.conntrack)) == {}


def test_a_rule_that_goes_takes_its_conversation_with_it() -> None:
    began = BRIDGE.walk(to_port(22), 9)
    without = Pipeline(t.BR_INT, (row for row in rows.rows() if Conjunction(rows.MEMBERS, 2, 2) not in row.actions))
    for packet, port in ((to_port(22), 9), (packets.tcp(B, C, (22, 4000)), 6)):
        assert left(BRIDGE.walk(packet, port, began.conntrack))
        assert not left(without.walk(packet, port, began.conntrack))


def track(packet: Packet, zone: int = 5, known: Conntrack | None = None) -> Packet:
    return (known or Conntrack()).track(Track(f.REG_ZONE, t.RULES, commit=True), packet.set(f.REG_ZONE(zone)))[0]


def test_the_first_packet_of_a_conversation_is_remembered_in_all_of_them() -> None:
    asked, known = Conntrack().track(Track(5, t.RULES, commit=True), to_port(80))
    answered, _ = known.track(Track(5, t.RULES), packets.tcp(B, C, (80, 4000)))
    for one in (asked, answered):
        assert [one.shown(field) for field in (f.CT_NW_SRC, f.CT_NW_DST, f.CT_NW_PROTO, f.CT_TP_SRC, f.CT_TP_DST)] == [
            C[1], B[1], "6", "4000", "80"]
    ping = track(packets.icmp_echo((A[0], "2001:db8::5"), (B[0], "2001:db8::6")))
    assert [ping.shown(field) for field in (f.CT_IPV6_SRC, f.CT_IPV6_DST, f.CT_TP_SRC, f.CT_TP_DST)] == [
        "2001:db8::5", "2001:db8::6", "128", "0"]
    assert ping.get(f.CT_NW_SRC) is None


def test_what_is_invalid_has_no_first_packet_and_nothing_of_it_leaves_the_switch() -> None:
    odd = track(packets.icmp_echo(A, B).with_(icmpv4_type=42))
    assert (odd.shown(f.CT_STATE), odd.get(f.CT_NW_SRC)) == ("inv|trk", None)
    assert track(packets.icmp_echo(A, B).with_(icmpv4_code=1)).shown(f.CT_STATE) == "inv|trk"
    assert to_port(80) == Packet(tuple(item for item in track(to_port(80)).emitted().items if item[0] != "ct_zone"))


def test_the_zone_of_a_register_is_its_own() -> None:
    _, known = Conntrack().track(Track(f.REG_ZONE, t.RULES, commit=True), to_port(80).set(f.REG_ZONE(0x10005)))
    back = packets.tcp(B, C, (80, 4000))
    assert [track(back, zone, known).shown(f.CT_STATE) for zone in (5, 6)] == ["est|rpl|trk", "new|trk"]


# ---- faults

def test_a_sound_firewall_has_no_findings() -> None:
    assert [finding for finding in lint(rows.rows()) if finding.kind not in (Kind.UNREACHABLE, Kind.NO_MISS)] == []


def test_two_clauses_with_one_match_are_a_fault_and_others_share_packets_rightly() -> None:
    sound = rows.rows()
    clause = next(row for row in sound if row.is_clause)
    twin = replace(clause, actions=(Conjunction(99, 1, 2),))
    assert {finding.kind for finding in lint((*sound, twin))} - {finding.kind for finding in lint(sound)} == {
        Kind.OVERLAP}


def test_a_look_up_and_a_copy_lead_to_tables() -> None:
    empty: list[Flow] = [row for row in rows.rows() if row.table not in (t.BEHIND, t.BASE_INGRESS)]
    found = {finding.flow.table for finding in lint(empty) if finding.kind is Kind.EMPTY}
    assert found == {t.DELIVER}
    assert len([finding for finding in lint(empty) if finding.kind is Kind.EMPTY]) == 4
    assert tagged(rows.VLAN) in next(row for row in empty if row.table == t.DELIVER).match.criteria
