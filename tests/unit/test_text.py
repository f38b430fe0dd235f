"""The canonical line of a flow. That Open vSwitch prints the same is for tests/system/test_wire.py."""
from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from flows import fields as f
from flows.fields import Criterion, tagged
from flows.flow import (
    ANY,
    Action,
    AnyPort,
    Ask,
    CheckLarger,
    DecTtl,
    Goto,
    Learn,
    Match,
    Metered,
    Move,
    Output,
    OutputBack,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    Track,
    Translation,
    Undeclared,
    flow,
    when,
)
from flows.tables import (
    ARP_SPOOF,
    ASK,
    BR_INT,
    BR_TUN,
    CLASSIFY,
    DELIVER,
    LEARN,
    MAC_SPOOF,
    NEXT_HOP,
    PIPELINES,
    ROUTE,
    ROUTER,
    TO_TUNNEL,
    TRANSLATE_IN,
    TRANSLATED_IN,
    UNICAST,
    Table,
    table,
)
from flows.text import actions_text, line, match_words

MAC = "fa:16:3e:00:00:0a"


@pytest.mark.parametrize(("criteria", "words"), [
    ((), []),
    ((f.IN_PORT(5), f.UNTAGGED), ["in_port=5", "vlan_tci=0x0000/0x1fff"]),
    ((tagged(7), f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), ["dl_vlan=7", "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00"]),
    ((f.ETH_TYPE(f.ARP), f.ARP_OP(1), f.ARP_SPA("10.0.0.0/8"), f.ARP_SHA(MAC)),
     ["arp", "arp_spa=10.0.0.0/8", "arp_op=1", f"arp_sha={MAC}"]),
    ((f.ETH_TYPE(f.IPV4), f.IP_PROTO(f.UDP), f.UDP_SRC(68), f.UDP_DST(67)), ["udp", "tp_src=68", "tp_dst=67"]),
    ((f.ETH_TYPE(f.IPV6), f.IP_PROTO(f.UDP), f.UDP_DST(547)), ["udp6", "tp_dst=547"]),
    ((f.ETH_TYPE(f.IPV6), f.IP_PROTO(f.ICMPV6), f.ICMPV6_TYPE(136), f.ND_TARGET("2001:db8::/64")),
     ["icmp6", "icmp_type=136", "nd_target=2001:db8::/64"]),
    ((f.ETH_TYPE(f.IPV4), f.IP_PROTO(6)), ["tcp"]),
    ((f.ETH_TYPE(0x88CC),), ["dl_type=0x88cc"]),
    ((f.TUN_ID(1001),), ["tun_id=0x3e9"]),
    ((f.ETH_TYPE(f.IPV4), f.IPV4_SRC("0.0.0.0/0")), ["ip"]),
    ((f.ETH_TYPE(f.IPV4), f.IPV4_SRC("10.0.0.1/32")), ["ip", "nw_src=10.0.0.1"]),
    ((f.ct_state("+new-inv"), f.ETH_TYPE(f.IPV4), f.REG_ROUTER(7), f.REG_TRANSLATED(0), f.IPV4_DST("10.0.0.1")),
     ["ct_state=+new-inv+trk", "ip", "reg0=0x7", "reg5=0", "nw_dst=10.0.0.1"]),
    ((f.REG_LEAVES_BY(5), f.REG_TOO_LARGE(1), f.IN_PORT(2)), ["reg2=0x5", "reg8=0x1", "in_port=2"]),
    ((f.ETH_TYPE(f.IPV4), f.IP_TTL(1), f.IPV4_DST("10.0.0.0/8")), ["ip", "nw_dst=10.0.0.0/8", "nw_ttl=1"]),
])
def test_conditions_in_the_words_and_order_of_ovs_ofctl(criteria: tuple[Criterion, ...], words: list[str]) -> None:
    assert match_words(when(*reversed(criteria))) == words


@pytest.mark.parametrize(("actions", "text"), [
    ((), "drop"),
    ((PushVlan(), SetField(tagged(5)), Goto(DELIVER)), "push_vlan:0x8100,set_field:4101->vlan_vid,goto_table:60"),
    ((PopVlan(), SetField(f.TUN_ID(1001)), Output(2)), "pop_vlan,set_field:0x3e9->tun_id,output:2"),
    ((Move(f.ARP_SHA, f.ARP_THA), SetField(f.ARP_SPA("10.0.0.1")), OutputBack()),
     "move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],set_field:10.0.0.1->arp_spa,IN_PORT"),
    ((AnyPort(), SetField(f.REG_ROUTER(7)), SetField(f.REG_TRANSLATED(0)), Track(0x8000, TRANSLATED_IN, nat=True)),
     "set_field:0->in_port,set_field:0x7->reg0,set_field:0->reg5,ct(table=42,zone=32768,nat)"),
    ((Track(5, ROUTE, commit=True, translation=Translation("dst", IPv4Address("10.0.0.7"))),),
     "ct(commit,table=43,zone=5,nat(dst=10.0.0.7))"),
    ((Track(5, ROUTE, commit=True),), "ct(commit,table=43,zone=5)"),
    ((Move(f.IPV4_DST, f.REG_NEXT_HOP), CheckLarger(1514, f.REG_TOO_LARGE), Goto(NEXT_HOP)),
     "move:NXM_OF_IP_DST[]->NXM_NX_REG3[],check_pkt_larger(1514)->NXM_NX_REG8[0],goto_table:45"),
    ((DecTtl(), Resubmit(ROUTER)), "dec_ttl,resubmit(,40)"),
    ((Metered(5), Ask()), "meter:5,CONTROLLER:65535"),
])
def test_actions_in_the_words_of_ovs_ofctl(actions: tuple[Action, ...], text: str) -> None:
    assert actions_text(actions) == text


def test_a_line_is_table_priority_match_and_actions() -> None:
    row = flow(LEARN, "miss", ANY, Learn(UNICAST, "learned", 300, 0x5402 << 48), Output(1), origin="x", why="y")
    assert line(row) == (
        "table=10,priority=0 actions=learn(table=20,hard_timeout=300,priority=2,cookie=0x5402000000000000,"
        "NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:0->NXM_OF_VLAN_TCI[],"
        "load:NXM_NX_TUN_ID[]->NXM_NX_TUN_ID[],output:NXM_OF_IN_PORT[]),output:1")


# ---- what a flow may not say

@pytest.mark.parametrize(("criteria", "words"), [
    ((f.ARP_SPA("10.0.0.1"),), "arp_spa can only be matched together with eth_type"),
    ((f.UDP_DST(53), f.ETH_TYPE(f.IPV4)), "udp_dst can only be matched together with ip_proto"),
    ((f.IN_PORT(1), f.IN_PORT(2)), "in_port is matched twice"),
])
def test_a_match_that_a_switch_would_refuse_cannot_be_made(criteria: tuple[Criterion, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        when(*criteria)


@pytest.mark.parametrize("make", [
    lambda: f.IPV4_SRC("2001:db8::1"), lambda: f.IN_PORT(1, 1), lambda: f.ETH_TYPE(1 << 16),
    lambda: f.ETH_DST(MAC, f.GROUP_BIT),
])
def test_a_value_that_does_not_fit_its_field_cannot_be_made(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"other IP version|has no mask|does not fit"):
        make()


@pytest.mark.parametrize(("rank", "match", "actions", "words"), [
    ("nothing", ANY, (), "has no rank 'nothing', only known, flood, unknown, miss"),
    ("miss", when(f.IN_PORT(1)), (), "deliver does not match in_port"),
    ("miss", ANY, (Goto(CLASSIFY),), "does not lead to classify"),
    ("miss", ANY, (PopVlan(),), "must match one"),
    ("miss", when(f.UNTAGGED), (PopVlan(),), "must match one"),
    ("miss", ANY, (Learn(UNICAST, "learned", 1, 1),), "another bridge"),
])
def test_a_table_refuses_what_it_did_not_declare(rank: str, match: Match, actions: tuple[Action, ...],
                                                 words: str) -> None:
    with pytest.raises(Undeclared, match=words):
        flow(DELIVER, rank, match, *actions, origin="x", why="y")


IP = when(f.ETH_TYPE(f.IPV4))
SOURCE = Translation("src", IPv4Address("10.0.0.1"))


@pytest.mark.parametrize(("where", "match", "actions", "words"), [
    (TRANSLATE_IN, ANY, (Track(5, TRANSLATED_IN),), "only for IP"),
    (TRANSLATE_IN, IP, (Track(5, DELIVER),), "does not lead to deliver"),
    (TRANSLATE_IN, IP, (Track(5, TRANSLATED_IN), Output(1)), "last thing"),
    (TRANSLATE_IN, IP, (Track(0, TRANSLATED_IN),), "no zone"),
    (TRANSLATE_IN, IP, (Track(5, TRANSLATED_IN, translation=SOURCE),), "only a connection that is remembered"),
    (TRANSLATED_IN, IP, (Goto(TRANSLATED_IN),), "onward only"),
    (NEXT_HOP, ANY, (DecTtl(),), "only for IP"),
    (ROUTE, ANY, (Move(f.IPV4_DST, f.REG_NEXT_HOP),), "ipv4_dst is only there where the flow matches eth_type"),
    (ROUTE, IP, (CheckLarger(1, f.IPV4_DST),), "no register"),
    (ASK, ANY, (Ask(), Metered(5)), "first thing"),
    (DELIVER, ANY, (Resubmit(ROUTER), Output(1)), "last thing"),
])
def test_what_a_switch_would_not_do_as_meant_cannot_be_said(where: Table, match: Match, actions: tuple[Action, ...],
                                                            words: str) -> None:
    with pytest.raises(Undeclared, match=words):
        flow(where, "miss", match, *actions, origin="x", why="y")


def test_a_goto_is_the_last_thing_a_flow_does() -> None:
    with pytest.raises(Undeclared, match="last thing"):
        flow(ARP_SPOOF, "miss", ANY, Goto(MAC_SPOOF), Output(1), origin="x", why="y")


def test_tables_are_declared_once_and_have_a_miss() -> None:
    for bridge, tables in PIPELINES.items():
        by_name = {one.name: one for one in tables}
        assert len(by_name) == len({one.id for one in tables}) == len(tables)
        for one in tables:
            assert set(one.goes_to) <= by_name.keys()
            assert one.ranks["miss"] == 0
            assert len(set(one.ranks.values())) == len(one.ranks)
            assert table(bridge, one.id) == one


def test_a_table_that_we_do_not_use_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="br-int has no table 99"):
        table(BR_INT, 99)
    assert table(BR_TUN, 2) == TO_TUNNEL


# ---- matches compared

def test_a_match_covers_what_it_admits_and_meets_what_it_shares() -> None:
    wide, narrow = when(f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), when(tagged(1), f.ETH_DST(f.BROADCAST))
    other = when(tagged(2))
    assert ANY.covers(wide)
    assert wide.covers(narrow)
    assert not narrow.covers(wide)
    assert wide.meets(other)
    assert not narrow.meets(other)
