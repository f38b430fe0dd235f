"""The rows of simulated routers, of devices and of provider bridges: whose packets they take, what changes when."""
from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import pytest

from flows import compile as compiler
from flows import fields as f
from flows.flow import Flow, Output, Track
from flows.host import Device, Network, ProviderBridge, Segment, SimulatedRouter, Tunnels
from flows.lint import lint
from flows.sheet import whole
from flows.tables import BR_INT, BR_TUN, CLASSIFY, DELIVER, ROUTER, TRANSLATED_OUT, Table
from flows.text import line
from tests import hopcloud
from tests.clouds import golden, tables

HOST = hopcloud.host()
R1, R2, R3 = HOST.routers
WHOSE = (f.REG_ROUTER, f.REG_CAME_BY, f.REG_LEAVES_BY, f.VLAN_VID)


def rows(simulated: SimulatedRouter) -> tuple[Flow, ...]:
    return compiler.compile_router(HOST, simulated)


def lines(flows: tuple[Flow, ...], table: Table | None = None, words: str = "") -> list[str]:
    return [line(one) for one in flows if table in (None, one.table) and words in line(one)]


def zones(flows: tuple[Flow, ...]) -> set[int]:
    return {action.zone for one in flows for action in one.actions if isinstance(action, Track)}


def with_(simulated: SimulatedRouter, **changes: object) -> SimulatedRouter:
    return replace(simulated, router=replace(simulated.router, **changes))


# ---- whose packets

@pytest.mark.parametrize("simulated", HOST.routers, ids=lambda one: one.router.name)
def test_every_row_of_a_router_names_it_or_a_leg_of_it(simulated: SimulatedRouter) -> None:
    assert all(any(one.match[field] for field in WHOSE) for one in rows(simulated))


def test_no_row_takes_a_packet_of_another_router() -> None:
    """But for ARP of impostors, who claim the address of one router and ask another."""
    for one, other in combinations([rows(simulated) for simulated in HOST.routers], 2):
        for mine, theirs in product(one, other):
            impostors = mine.match[f.ARP_SPA] or theirs.match[f.ARP_SPA]
            assert mine.table != theirs.table or impostors or not mine.match.meets(theirs.match), (mine.why, theirs.why)


def test_a_whole_host_has_no_fault() -> None:
    assert lint(one for flows in compiler.compile_host(HOST).values() for one in flows) == ()


def test_a_host_without_routers_has_only_what_every_host_has() -> None:
    bare = replace(HOST, routers=())
    assert not [one for one in compiler.compile_host(bare)[BR_INT] if one.match[f.REG_ROUTER]]


def test_every_reason_is_a_clause() -> None:
    for one in (row for simulated in HOST.routers for row in rows(simulated)):
        assert one.why and not one.why.endswith((".", ",")) and "  " not in one.why
        assert one.origin.split(".")[0] in ("routers", "vms")


# ---- what is translated

def test_a_router_without_an_outside_tracks_nothing() -> None:
    assert zones(rows(R3)) == set()


def test_a_router_that_hides_nobody_and_has_no_floating_ip_tracks_nothing() -> None:
    assert R1.router.gateway
    open_ = with_(R1, gateway=replace(R1.router.gateway, snat=False), floating_ips=())
    assert zones(rows(open_)) == set()
    assert lines(rows(open_), words="nw_src=203.0.113.10 actions=drop")


def test_without_a_floating_ip_there_is_no_second_zone() -> None:
    assert zones(rows(with_(R1, floating_ips=()))) == {R1.zone}
    assert zones(rows(R1)) == {R1.zone, R1.hairpin_zone}


def test_a_floating_ip_more_changes_no_row() -> None:
    floating = R1.router.floating_ips
    none, one, two = (set(lines(rows(with_(R1, floating_ips=floating[:count])))) for count in range(3))
    assert none < one < two


def test_a_route_more_changes_no_row() -> None:
    assert set(lines(rows(with_(R1, routes=())))) < set(lines(rows(R1)))


def test_what_finds_no_free_port_outside_does_not_leave_but_a_query_may_get_an_id_of_the_controller() -> None:
    found = [one for one in compiler.compile_base(HOST) if one.table == TRANSLATED_OUT and one.match[f.REG_TRANSLATED]]
    assert [line(one).split(",", 2)[2] for one in sorted(found, key=compiler.reading_order)] == [
        "ct_state=+trk+snat,ip,reg5=0x10 actions=goto_table:48",
        "icmp,reg5=0x10 actions=goto_table:58", "reg5=0x10 actions=drop"]


def test_a_new_conversation_leaves_only_if_a_row_says_which_address_it_shows() -> None:
    """While the rows of a router come or go, none leaves as it is."""
    found = [one for one in compiler.compile_base(HOST) if one.table == TRANSLATED_OUT]
    assert lines(tuple(found), words="priority=0") == ["table=47,priority=0 actions=drop"]
    assert sorted(lines(tuple(found), words="priority=1,")) == [
        "table=47,priority=1,ct_state=+trk+snat,ip actions=goto_table:48",
        "table=47,priority=1,ct_state=-new+trk,ip actions=goto_table:48"]


# ---- routes and neighbours

def test_of_two_ways_to_one_prefix_only_the_first_has_a_row() -> None:
    route = replace(R1.router.routes[0], destination=R1.router.legs[0].addresses[0].network)
    found = lines(rows(with_(R1, routes=(route,))), words=f"nw_dst={route.destination}")
    assert len([one for one in found if one.startswith("table=43")]) == 1


def test_only_neighbours_for_certain_have_a_row_but_all_have_an_allowance() -> None:
    assert not lines(rows(R1), words="reg3=0xa000132 ")  # fw1, whose port security is off
    assert lines(rows(R1), words=f"dl_src={hopcloud.VMS['fw1'].mac} actions=meter:2,CONTROLLER")


def test_a_sender_with_two_addresses_has_one_allowance() -> None:
    twin = replace(R1.neighbours[0], address=R1.neighbours[1].address)
    found = lines(rows(replace(R1, neighbours=(*R1.neighbours, twin))), words=f"dl_src={twin.mac} ")
    assert len(found) == 1


# ---- devices and segments

def _net(**changes: object) -> Network:
    return replace(Network("blue", "networks.blue", 7, 1001, (), Tunnels(), ()), **changes)


def test_a_device_is_trusted_but_may_not_choose_a_vlan() -> None:
    net = _net(devices=(Device("r1 on blue-subnet", "routers.r1", 5, "fa:16:3e:00:00:05"),))
    found = tuple(whole(compiler.compile_network(replace(HOST, patch_tun=1), net)))
    assert lines(found, CLASSIFY) == [
        "table=0,priority=2,in_port=5,vlan_tci=0x0000/0x1fff actions=push_vlan:0x8100,set_field:4103->vlan_vid,"
        "goto_table:40",
        "table=0,priority=1,in_port=5 actions=drop"]
    assert lines(found, DELIVER) == [
        "table=60,priority=3,dl_vlan=7,dl_dst=fa:16:3e:00:00:05 actions=pop_vlan,output:5",
        "table=60,priority=2,dl_vlan=7,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 actions=output:1,pop_vlan,output:5",
        "table=60,priority=1,dl_vlan=7 actions=output:1"]


BRIDGE = ProviderBridge("br-ex", 30, 1, (2, 3), f.LOCAL_PORT)


@pytest.mark.parametrize(("vlan", "came", "left"), [
    (100, "in_port=30,dl_vlan=100 actions=set_field:4103->vlan_vid,goto_table:40", "set_field:4196->vlan_vid"),
    (None, "in_port=30,vlan_tci=0x0000/0x1fff actions=push_vlan:0x8100,set_field:4103->vlan_vid,goto_table:40",
     "pop_vlan")])
def test_a_network_on_a_segment_is_in_no_tunnel(vlan: int | None, came: str, left: str) -> None:
    net = _net(tunnel_id=None, segment=Segment(BRIDGE, vlan))
    found = compiler.by_bridge(compiler.compile_network(replace(HOST, patch_tun=1), net))
    assert not found[BR_TUN]
    assert lines(found[BR_INT], CLASSIFY) == [f"table=0,priority=2,{came}"]
    assert {one.actions for one in found[BR_INT] if one.table == DELIVER} == {(Output(30),)}
    assert lines(found["br-ex"]) == [
        f"table=0,priority=2,in_port=1,dl_vlan=7 actions={left},output:2,output:3,LOCAL"]


def test_a_provider_bridge_passes_on_what_comes_in_and_nothing_from_card_to_card() -> None:
    found = compiler.by_bridge(compiler.compile_base(replace(HOST, providers=(BRIDGE,))))["br-ex"]
    assert lines(found) == ["table=0,priority=1,in_port=2 actions=output:1,LOCAL",
                            "table=0,priority=1,in_port=3 actions=output:1,LOCAL",
                            "table=0,priority=1,in_port=LOCAL actions=output:2,output:3,output:1",
                            "table=0,priority=0 actions=drop"]


def test_what_the_physical_network_brings_untold_is_dropped_in_br_int() -> None:
    assert "table=0,priority=1,in_port=30 actions=drop" in lines(compiler.compile_base(HOST), CLASSIFY)


def test_while_a_patch_port_is_missing_nothing_speaks_of_it() -> None:
    bridge = replace(BRIDGE, int_port=None, phy_port=None, uplinks=(), local=None)
    net = _net(tunnel_id=None, segment=Segment(bridge, None))
    assert {one.table for one in compiler.compile_network(HOST, net)} == {DELIVER}
    assert len(compiler.by_bridge(compiler.compile_base(replace(HOST, providers=(bridge,))))["br-ex"]) == 1


def test_every_bridge_of_a_host_is_there_even_if_it_holds_nothing() -> None:
    assert list(compiler.by_bridge((), compiler.bridges(HOST))) == ["br-int", "br-tun", "br-ex"]


# ---- from a topology

def test_a_namespace_router_is_devices_and_a_simulated_one_is_rows() -> None:
    for case, simulated in (("routed", True), ("routed-namespace", False)):
        found = tables(golden(case), "network1")[BR_INT]
        assert any(one.match[f.REG_ROUTER] for one in found) == simulated
    assert not any(one.match[f.REG_ROUTER] for one in tables(golden("routed"), "compute1")[BR_INT])


def test_a_router_without_a_leg_has_no_row() -> None:
    found = [one for flows in tables(golden("routed"), "network1").values() for one in flows]
    assert {one.origin for one in found if one.origin.startswith("routers.")} >= {"routers.r1", "routers.r3"}
    assert not [one for one in found if one.origin.startswith("routers.r4")]


def test_what_another_router_of_the_host_sends_to_a_leg_passes_the_routers_once_more() -> None:
    found = lines(compiler.compile_host(HOST)[BR_INT], DELIVER, f"resubmit(,{ROUTER.id})")
    legs = [leg for one in HOST.routers for leg in one.router.legs]
    assert len(found) == len(legs) and all(one.endswith(f"resubmit(,{ROUTER.id})") for one in found)
