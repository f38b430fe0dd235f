"""What our flows say as text is read back as the same flows."""
from __future__ import annotations

import pytest

from controller.switch.rows import flow_json
from controller.tools.verify_text import Unreadable, flow
from flows.flow import Flow, Learn, LearnPort
from tests.clouds import CASES, golden, tables


@pytest.mark.parametrize("case", [case for case in CASES if case in (
    "groups-openvswitch", "routed", "provider", "l2population-arp-responder", "port-security-off", "ipv6")])
def test_every_flow_is_read_back_as_it_was(case: str) -> None:
    cloud = golden(case)
    for host in cloud.hosts:
        for bridge, rows in tables(cloud, host).items():
            for row in rows:
                found = flow(bridge, flow_json(row))
                assert (found.table, found.priority, found.actions) == (row.table, row.priority, _forwarding(row))
                assert {*found.match.criteria} == {*row.match.criteria}


def _forwarding(row: Flow) -> tuple[object, ...]:
    """What a flow teaches is left out: it is no part of a frame's way."""
    return tuple(one for one in row.actions if not isinstance(one, Learn | LearnPort))


def test_a_learned_row_is_read_as_the_switch_shows_it() -> None:
    row = {"table": 20, "priority": 2, "match": "vlan_tci=0x0003/0x0fff,dl_dst=fa:16:3e:00:00:01", "status": "learned",
           "actions": "load:0x0->NXM_OF_VLAN_TCI[],load:0x3e9->NXM_NX_TUN_ID[],output:2", "origin": "", "why": ""}
    found = flow("br-tun", row)
    assert [type(one).__name__ for one in found.actions] == ["PopVlan", "SetField", "Output"]
    assert found.origin == "learned"


@pytest.mark.parametrize("actions", ["output:4294967290", "group:1", "nicira(99)", "resubmit(,99)", "(not understood)"])
def test_what_our_tables_have_no_word_for_is_said_to_be_unreadable(actions: str) -> None:
    row = {"table": 0, "priority": 9, "match": "in_port=1", "actions": actions, "origin": "", "why": ""}
    with pytest.raises(Unreadable):
        flow("br-int", row)
