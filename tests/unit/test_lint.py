"""One planted fault per kind, each found with the flow to look at; and none in what we compile."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from flows import fields as f
from flows.compile import compile_host
from flows.cookie import cookie_of
from flows.fields import tagged
from flows.flow import ANY, Action, Flow, Goto, Match, Output, PopVlan, Track, flow, when
from flows.host import Host, Network, Port, Tunnels
from flows.lint import Finding, Kind, lint
from flows.tables import (
    ARP_SPOOF,
    ASK,
    BR_INT,
    CANARY,
    CLASSIFY,
    DELIVER,
    FLOOD,
    FROM,
    LEARN,
    MAC_SPOOF,
    ROUTER,
    TO_TUNNEL,
    TRANSLATE_IN,
    TRANSLATED_IN,
    UNICAST,
    Table,
)
from tests.clouds import CASES, golden, tables

MAC = "fa:16:3e:00:00:0b"
HERE = (PopVlan(), Output(5))


def row(table: Table, rank: str, match: Match, *actions: Action) -> Flow:
    return flow(table, rank, match, *actions, origin="networks.blue", why=f"test {rank}")


SOUND_BR_INT = (
    row(CLASSIFY, "admit", when(f.IN_PORT(1)), Goto(ROUTER)),
    row(CLASSIFY, "miss", ANY),
    row(ROUTER, "miss", ANY, Goto(DELIVER)),
    row(DELIVER, "known", when(tagged(1), f.ETH_DST(MAC)), *HERE),
    row(DELIVER, "flood", when(tagged(1), f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), *HERE),
    row(DELIVER, "miss", ANY),
)
SOUND_BR_TUN = (
    row(FROM, "known", when(f.IN_PORT(1)), Goto(TO_TUNNEL)),
    row(FROM, "miss", ANY),
    row(TO_TUNNEL, "group", when(f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), Goto(FLOOD)),
    row(TO_TUNNEL, "miss", ANY, Goto(UNICAST)),
    row(UNICAST, "miss", ANY),
    row(FLOOD, "miss", ANY),
)
SOUND = SOUND_BR_INT + SOUND_BR_TUN


def kinds(findings: Iterable[Finding]) -> list[Kind]:
    return [finding.kind for finding in findings]


def the_one(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_a_sound_pipeline_has_no_fault() -> None:
    assert lint(SOUND) == ()


@pytest.mark.parametrize("case", CASES)
def test_what_we_compile_has_no_fault(case: str) -> None:
    cloud = golden(case)
    for host in cloud.hosts:
        assert lint(row for rows in tables(cloud, host).values() for row in rows) == ()


def test_flows_of_one_priority_that_share_packets_and_disagree_overlap() -> None:
    everything = row(FROM, "known", when(f.IN_PORT(7)), Goto(TO_TUNNEL))
    rival = row(FROM, "known", ANY)  # as if a miss had the rank of a port
    finding = the_one(lint([*SOUND_BR_TUN[0:0], everything, rival, *SOUND_BR_TUN[1:]])[:1])
    assert (finding.kind, {finding.flow, finding.other}) == (Kind.OVERLAP, {everything, rival})


def test_an_overlap_is_seen_through_masks() -> None:
    group = row(DELIVER, "flood", when(tagged(2), f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), *HERE)
    broadcast = row(DELIVER, "flood", when(tagged(2), f.ETH_DST(f.BROADCAST)), PopVlan(), Output(6))
    finding = the_one(lint([*SOUND, group, broadcast]))
    assert (finding.kind, {finding.flow, finding.other}) == (Kind.OVERLAP, {group, broadcast})


def test_flows_that_share_packets_and_agree_do_not_overlap() -> None:
    group = row(DELIVER, "flood", when(tagged(2), f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), *HERE)
    broadcast = row(DELIVER, "flood", when(tagged(2), f.ETH_DST(f.BROADCAST)), *HERE)
    assert lint([*SOUND, group, broadcast]) == ()


def test_flows_that_share_no_packet_do_not_overlap() -> None:
    one = row(DELIVER, "flood", when(tagged(2), f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), *HERE)
    two = row(DELIVER, "flood", when(tagged(3), f.ETH_DST(f.BROADCAST)), PopVlan(), Output(6))
    assert lint([*SOUND, one, two]) == ()


def test_one_match_with_two_lists_of_actions_is_an_overlap() -> None:
    one = row(DELIVER, "unknown", when(tagged(2)), Output(1))
    two = row(DELIVER, "unknown", when(tagged(2)), Output(2))
    finding = the_one(lint([*SOUND, one, two]))
    assert (finding.kind, {finding.flow, finding.other}) == (Kind.OVERLAP, {one, two})


def test_an_overlap_is_found_among_many_that_agree() -> None:
    many = [row(DELIVER, "flood", when(tagged(2), f.ETH_DST(f"01:00:5e:00:00:{n:02x}")), *HERE) for n in range(50)]
    odd = row(DELIVER, "flood", when(tagged(2), f.ETH_DST("01:00:5e:00:01:00")), PopVlan(), Output(6))
    cover = row(DELIVER, "flood", when(tagged(2), f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), *HERE)
    finding = the_one(lint([*SOUND, *many, cover, odd]))
    assert (finding.kind, {finding.flow, finding.other}) == (Kind.OVERLAP, {odd, cover})


def test_a_flow_below_one_that_takes_all_its_packets_is_shadowed() -> None:
    network = row(UNICAST, "populated", when(tagged(1)), *HERE)
    never = row(UNICAST, "learned", when(tagged(1), f.ETH_DST(MAC)), PopVlan(), Output(6))
    finding = the_one(lint([*SOUND, network, never]))
    assert (finding.kind, finding.flow, finding.other) == (Kind.SHADOWED, never, network)


def test_shadow_falls_through_prefixes() -> None:
    wide = row(ARP_SPOOF, "own", when(f.IN_PORT(5), f.ETH_TYPE(f.ARP), f.ARP_SPA("10.0.0.0/8")))
    never = row(ARP_SPOOF, "foreign", when(f.IN_PORT(5), f.ETH_TYPE(f.ARP), f.ARP_SPA("10.1.0.0/16")))
    elsewhere = row(ARP_SPOOF, "foreign", when(f.IN_PORT(5), f.ETH_TYPE(f.ARP), f.ARP_SPA("11.1.0.0/16")))
    wider = row(ARP_SPOOF, "foreign", when(f.IN_PORT(5), f.ETH_TYPE(f.ARP), f.ARP_SPA("10.0.0.0/7")))
    rest = [row(ARP_SPOOF, "miss", ANY), row(CLASSIFY, "admit", when(f.IN_PORT(5)), Goto(ARP_SPOOF))]
    finding = the_one(lint([*SOUND, wide, never, elsewhere, wider, *rest]))
    assert (finding.kind, finding.flow, finding.other) == (Kind.SHADOWED, never, wide)


def test_a_table_that_nothing_leads_to_is_unreachable() -> None:
    lost = row(LEARN, "announcement", when(f.ETH_TYPE(f.ARP)), Output(1))
    finding = the_one(lint([*SOUND, lost, row(LEARN, "miss", ANY)]))
    assert (finding.kind, finding.flow) == (Kind.UNREACHABLE, lost)


def test_what_the_pipeline_keeps_ready_may_wait_for_a_network() -> None:
    ready = flow(LEARN, "miss", ANY, Output(1), origin="pipeline", why="waits")
    assert lint([*SOUND, ready]) == ()


def test_the_canary_is_meant_to_be_alone() -> None:
    assert lint([*SOUND, row(CANARY, "miss", ANY)]) == ()


def test_a_way_into_an_empty_table_is_found() -> None:
    blind = row(CLASSIFY, "admit", when(f.IN_PORT(5)), Goto(ARP_SPOOF))
    finding = the_one(lint([*SOUND, blind]))
    assert (finding.kind, finding.flow) == (Kind.EMPTY, blind)


@pytest.mark.parametrize("blind", [
    row(ROUTER, "arp", when(f.ETH_TYPE(f.ARP)), Goto(ASK)),
    row(TRANSLATE_IN, "own", when(f.ETH_TYPE(f.IPV4)), Track(5, TRANSLATED_IN)),
], ids=["goto", "ct"])
def test_a_way_through_connection_tracking_is_a_way_like_others(blind: Flow) -> None:
    ways = [row(ROUTER, "ip", when(f.ETH_TYPE(f.IPV4)), Goto(TRANSLATE_IN)), row(TRANSLATE_IN, "miss", ANY)]
    finding = the_one(lint([*SOUND, *ways, blind]))
    assert (finding.kind, finding.flow) == (Kind.EMPTY, blind)


def test_a_reachable_table_needs_a_flow_for_everything_else() -> None:
    rows = [row(CLASSIFY, "admit", when(f.IN_PORT(5)), Goto(ARP_SPOOF)), row(ARP_SPOOF, "miss", ANY, Goto(MAC_SPOOF))]
    half = row(MAC_SPOOF, "own", when(f.IN_PORT(5)), Goto(ROUTER))
    finding = the_one(lint([*SOUND, *rows, half]))
    assert (finding.kind, finding.flow) == (Kind.NO_MISS, half)


def test_two_flows_with_one_cookie_are_twins() -> None:
    finding = the_one(lint(SOUND_BR_INT, cookie=lambda flow: cookie_of(flow) if flow.table == CLASSIFY
                           or flow.priority == 3 else 7)[:1])
    assert finding.kind is Kind.TWINS
    assert finding.other is not None
    assert finding.flow != finding.other


def test_bridges_do_not_share_cookies() -> None:
    assert lint([row(CLASSIFY, "miss", ANY), row(FROM, "miss", ANY)], cookie=lambda flow: 7) == ()


def test_the_same_flow_for_two_reasons_is_a_duplicate() -> None:
    again = replace(SOUND[2], why="another reason")
    finding = the_one(lint([*SOUND, again]))
    assert (finding.kind, finding.flow, finding.other) == (Kind.DUPLICATE, SOUND[2], again)
    assert {SOUND[2].why, again.why} <= set(finding.words.replace("(", "|").replace(")", "|").split("|"))


def test_a_finding_says_where_what_and_why() -> None:
    blind = row(CLASSIFY, "admit", when(f.IN_PORT(5)), Goto(ARP_SPOOF))
    assert str(the_one(lint([*SOUND, blind]))) == (
        "br-int classify: it leads to a table without flows: table=0,priority=2,in_port=5 actions=goto_table:24 "
        "(test admit)")


def test_five_thousand_open_ports_are_looked_through() -> None:
    """Comparing each flow with each would be a hundred million comparisons."""
    ports = tuple(Port(f"vm{n}", f"vms.vm{n}", n + 2, f"fa:16:3e:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}", ())
                  for n in range(5000))
    net = Network("blue", "networks.blue", 1, 1001, ports, Tunnels(), ())
    host = Host("compute1", 1, 1, "vxlan", Tunnels(), (net,), False, False, 300)
    rows = compile_host(host)[BR_INT]
    assert len(rows) > 15000
    assert lint(rows) == ()


def test_every_kind_has_its_test() -> None:
    planted = {Kind.OVERLAP, Kind.SHADOWED, Kind.UNREACHABLE, Kind.EMPTY, Kind.NO_MISS, Kind.TWINS, Kind.DUPLICATE}
    assert planted == set(Kind)
