"""The rows of port security and security groups: what there is, and how many."""
from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.compile import compile_groups, compile_host, compile_network
from flows.fields import GROUP_BIT, ICMP, SCTP, TCP, UDP
from flows.flow import Clone, Flow, Output
from flows.host import Host
from flows.lint import lint
from flows.rules import masks
from flows.tables import BR_INT, BR_TUN, DELIVER, FROM, MAC_SPOOF, RULES, Table
from flows.text import line
from tests import groupcloud
from tests.groupcloud import DB, VMS, WEB, rule


def rows(host: Host, table: Table, words: str = "") -> list[Flow]:
    return [flow for flow in compile_host(host)[table.bridge] if flow.table == table and words in line(flow)]


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_masks_cover_a_range_and_nothing_else(one: int, two: int) -> None:
    first, last = sorted((one, two))
    ranges = [(value, value | ~mask & 0xFFFF) for value, mask in masks(first, last)]
    assert ranges[0][0] == first and ranges[-1][1] == last
    assert all(end + 1 == start for (_, end), (start, _) in pairwise(ranges))
    assert len(ranges) <= 30


def test_ranges_that_are_one_mask_are_one_row() -> None:
    assert list(masks(80, 95)) == [(80, 0xFFF0)]
    assert list(masks(0, 65535)) == [(0, 0)]
    assert list(masks(65535, 65535)) == [(65535, 0xFFFF)]


@pytest.mark.parametrize("firewall", ["openvswitch", "iptables_hybrid", "none"])
def test_nothing_is_shadowed_ambiguous_or_leads_nowhere(firewall: str) -> None:
    flows = compile_host(groupcloud.host(firewall=firewall))
    assert not lint(row for bridge in flows.values() for row in bridge)


def test_rows_grow_with_rules_plus_members_and_not_with_their_product() -> None:
    def count(rules: int, members: int) -> int:
        made = groupcloud.network(web=tuple(
            rule(f"web: tcp {port}", protocol=TCP, ports=(port, port), group=groupcloud.WEB_BEGINS_4)
            for port in range(1, rules + 1)))
        group = replace(made.remote_groups[0], members=tuple(
            ip_network(f"10.1.{number >> 8}.{number & 255}") for number in range(members)))
        return len(compile_groups(groupcloud.host(), replace(made, remote_groups=(group,))))

    least = count(1, 0)
    assert count(20, 500) == least + 19 + 500
    assert count(40, 500) == least + 39 + 500


def test_a_member_is_one_row_for_each_direction_whatever_its_groups() -> None:
    net = groupcloud.network()
    twice = replace(net.remote_groups[0], number=7, name="other")
    net = replace(net, remote_groups=(*net.remote_groups, twice))
    (row,) = [one for one in compile_groups(groupcloud.host(), net) if "ct_nw_src=10.0.1.11," in line(one)]
    assert line(row).endswith(f"conjunction(7,1/2),conjunction({groupcloud.WEB_BEGINS_4},1/2)")
    assert row.why == "begun by 10.0.1.11, a member of other, web"


def test_rules_that_differ_in_their_group_alone_share_a_row() -> None:
    group = replace(groupcloud.network().remote_groups[0], number=7)
    both = tuple(rule(f"db: tcp 22 from {number}", protocol=TCP, ports=(22, 22), group=number)
                 for number in (groupcloud.WEB_BEGINS_4, 7))
    net = groupcloud.network(db=both)
    net = replace(net, remote_groups=(*net.remote_groups, group))
    found = [one for one in compile_groups(groupcloud.host(), net) if "ct_tp_dst=22," in line(one)]
    assert [line(one).partition("actions=")[2] for one in found] == [
        f"conjunction(7,2/2),conjunction({groupcloud.WEB_BEGINS_4},2/2)"]


@pytest.mark.parametrize(("plain", "covered"), [
    ({}, True), ({"protocol": TCP}, True), ({"protocol": TCP, "ports": (16, 31)}, True),
    ({"protocol": TCP, "ports": (22, 22)}, True), ({"protocol": TCP, "ports": (23, 40)}, False),
    ({"protocol": UDP}, False), ({"version": 6}, False), ({"by_vm": True}, False),
    ({"protocol": TCP, "remote": "10.0.0.0/8"}, False)])
def test_a_rule_with_a_group_that_a_rule_without_one_covers_needs_no_row(plain: dict[str, Any], covered: bool) -> None:
    rules = (rule("web: plain", **plain),
             rule("web: tcp 22 from web", protocol=TCP, ports=(22, 22), group=groupcloud.WEB_BEGINS_4))
    host = groupcloud.host(groupcloud.network(web=rules))
    assert any(row.why == "web: tcp 22 from web" for row in rows(host, RULES)) is not covered
    assert not lint(compile_host(host)[BR_INT])


@pytest.mark.parametrize("plain", [{"protocol": ICMP}, {"protocol": ICMP, "icmp": (8, None)}, {}])
def test_a_ping_that_a_wider_rule_lets_in_needs_no_group(plain: dict[str, Any]) -> None:
    rules = (rule("web: plain", **plain),
             rule("web: ping", protocol=ICMP, icmp=(8, 0), group=groupcloud.WEB_BEGINS_4))
    host = groupcloud.host(groupcloud.network(web=rules))
    assert not [row for row in rows(host, RULES) if row.why == "web: ping"]


def test_a_protocol_whose_ports_open_vswitch_does_not_see_is_let_through_by_no_rule_with_ports() -> None:
    dccp = 33
    host = groupcloud.host(groupcloud.network(web=(rule("web: dccp", protocol=dccp, ports=(0, 65535)),)))
    assert not rows(host, RULES, f"ct_nw_proto={dccp}")
    host = groupcloud.host(groupcloud.network(web=(rule("web: dccp", protocol=dccp),)))
    assert len(rows(host, RULES, f"ct_nw_proto={dccp}")) == 1


def test_fragments_without_ports_have_one_row_for_each_protocol_and_other_end() -> None:
    rules = tuple(rule(f"web: tcp {port} from {remote}", protocol=TCP, ports=(port, port), remote=remote)
                  for port in (80, 443) for remote in ("10.0.0.0/8", "192.0.2.0/24"))
    host = groupcloud.host(groupcloud.network(web=rules))
    found = [line(row) for row in rows(host, RULES, "nw_frag=later")]
    assert sum("reg7=0x80000101" in row and "ct_nw_src" in row for row in found) == 2


def test_ports_of_sctp_are_compared_in_both_directions() -> None:
    host = groupcloud.host(groupcloud.network(web=(rule("web: sctp 5000", protocol=SCTP, ports=(5000, 5000)),)))
    found = " ".join(line(row) for row in rows(host, RULES, "sctp"))
    assert "ct_state=-rpl" in found and "tp_dst=5000" in found
    assert "ct_state=+rpl" in found and "tp_src=5000" in found


def test_who_may_begin_anything_has_one_row_for_it() -> None:
    assert [line(row) for row in rows(groupcloud.host(), RULES, f"reg7={WEB:#x},reg10=0x1")] == [
        f"table=83,priority=4,reg7={WEB:#x},reg10=0x1 actions=goto_table:84"]
    assert all("ct_nw_proto" in line(row) for row in rows(groupcloud.host(), RULES, f"reg7={DB:#x},reg10=0x1"))


def test_rules_are_rows_of_their_own_so_that_a_port_may_come_without_touching_them() -> None:
    host, net = groupcloud.host(), groupcloud.network()
    fewer = replace(net, ports=net.ports[1:])
    assert compile_groups(host, fewer) == compile_groups(host, net)
    assert all(row.table == RULES for row in compile_groups(host, net))
    assert {row.match for row in compile_network(host, net) if row.table == RULES} == {
        row.match for row in rows(host, RULES) if "drop" in line(row)} - {rows(host, RULES)[-1].match}


@pytest.mark.parametrize("firewall", ["iptables_hybrid", "none"])
def test_without_the_openvswitch_firewall_there_is_no_rule(firewall: str) -> None:
    host = groupcloud.host(firewall=firewall)
    assert not compile_groups(host, host.networks[0])
    assert [line(row) for row in rows(host, RULES)] == ["table=83,priority=0 actions=drop"]


def test_without_a_firewall_no_port_is_filtered() -> None:
    plain = groupcloud.network()
    plain = replace(plain, ports=tuple(replace(port, filter=None) for port in plain.ports), profiles=(),
                    remote_groups=())
    with_groups, without = (compile_host(groupcloud.host(net, firewall="none")) for net in (None, plain))
    assert with_groups == without


def test_broadcast_is_copied_for_each_filtered_port_and_once_for_all_others() -> None:
    (row,) = rows(groupcloud.host(), DELIVER, GROUP_BIT)
    filtered = [vm.port for vm in VMS.values() if vm.profile]
    assert len([action for action in row.actions if isinstance(action, Clone)]) == len(filtered)
    outputs = [action.port for action in row.actions if isinstance(action, Output)]
    assert outputs == [groupcloud.PATCH_TUN, *sorted({vm.port for vm in VMS.values()} - {*filtered}),
                       groupcloud.DHCP_PORT]


def test_port_security_has_a_row_for_each_offence_of_each_port() -> None:
    refused = [row for row in rows(groupcloud.host(), MAC_SPOOF, "in_port=13") if not row.actions]
    assert [row.why for row in refused] == [
        "db1 advertises itself as a router", "db1 redirects others as a router", "db1 answers as a DHCP server",
        "db1 answers as a DHCPv6 server",
        "db1 wears an IP address that is not its own, or speaks neither IP nor ARP",
        "db1 wears a MAC that is not its own"]
    assert {row.origin for row in refused} == {"vms.db1"}


def test_an_unsecured_port_is_refused_nothing_by_port_security() -> None:
    assert not rows(groupcloud.host(), MAC_SPOOF, "in_port=15")


def test_tunnel_packets_of_strangers_are_dropped_by_a_row_of_their_own() -> None:
    host = groupcloud.host()
    (row,) = rows(host, FROM, f"in_port={groupcloud.STRANGERS} ")
    assert not row.actions and row.table.bridge == BR_TUN
    assert not rows(replace(host, strangers=None), FROM, f"in_port={groupcloud.STRANGERS} ")
