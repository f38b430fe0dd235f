"""Unicast for MACs that are not simply one port's own: virtual routers, and what lives behind open ports."""
from __future__ import annotations

from flows.flow import Flow
from flows.tables import BR_INT, BR_TUN, CLASSIFY, DELIVER, UNICAST, UNKNOWN, Table
from flows.text import line
from tests.clouds import golden, tables

VIRTUAL = "00:00:5e:00:01:01"


def lines(flows: tuple[Flow, ...], table: Table, words: str) -> list[str]:
    return [line(flow) for flow in flows if flow.table == table and words in line(flow)]


def test_a_virtual_routers_mac_is_delivered_to_every_port_that_may_wear_it() -> None:
    rows = tables(golden("allowed-address-pairs"), "compute1")[BR_INT]
    assert lines(rows, DELIVER, VIRTUAL) == [
        f"table=60,priority=3,dl_vlan=1,dl_dst={VIRTUAL} actions=output:1,pop_vlan,output:2"]


def test_l2population_knows_where_a_virtual_routers_mac_may_live() -> None:
    rows = tables(golden("allowed-address-pairs-l2population"), "compute1")[BR_TUN]
    assert lines(rows, UNICAST, VIRTUAL) == [
        f"table=20,priority=3,dl_vlan=1,dl_dst={VIRTUAL} actions=pop_vlan,set_field:0x3e9->tun_id,output:2"]


def test_an_unknown_mac_may_live_behind_a_port_without_port_security_and_only_there() -> None:
    rows = tables(golden("port-security-off"), "compute1")[BR_INT]
    assert lines(rows, DELIVER, "priority=1,") == ["table=60,priority=1,dl_vlan=1 actions=resubmit(,61),goto_table:62"]
    assert lines(rows, UNKNOWN, "dl_vlan=1") == [
        "table=62,priority=2,reg6=0x1,dl_vlan=1 actions=output:1",
        "table=62,priority=2,reg6=0x3,dl_vlan=1 actions=pop_vlan,output:3",
        "table=62,priority=1,dl_vlan=1 actions=output:1,pop_vlan,output:3"]


def test_only_where_a_port_has_no_port_security_it_is_learned_who_came_from_elsewhere() -> None:
    cloud = golden("port-security-off")
    here, there = (lines(tables(cloud, host)[BR_INT], CLASSIFY, "in_port=1,dl_vlan=1") for host in cloud.hosts)
    named, relearn = here
    assert f"dl_src={cloud.vms['web2'].ports[0].mac} actions=goto_table:40" in named
    assert "learn(" in relearn and relearn.endswith(",goto_table:40")
    assert there == []


def test_an_open_port_gets_no_copy_of_what_is_known_to_live_elsewhere() -> None:
    cloud = golden("port-security-off")
    elsewhere = cloud.vms["web2"].ports[0].mac
    rows = tables(cloud, "compute1")[BR_INT]
    assert lines(rows, DELIVER, elsewhere) == [f"table=60,priority=3,dl_vlan=1,dl_dst={elsewhere} actions=output:1"]


def test_an_address_pair_that_spells_out_the_link_local_address_adds_no_second_flow() -> None:
    rows = tables(golden("ipv6"), "compute2")[BR_INT]
    assert len({line(row) for row in rows}) == len(rows)
