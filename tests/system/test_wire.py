"""Plans as bytes, sent to a real Open vSwitch over its own socket: what it then holds is what our text says."""
from __future__ import annotations

from collections.abc import Iterator

import pytest
from os_ken.ofproto import ofproto_v1_4 as ofp

from controller.switch.diff import Forget, Plan, diff
from flows import fields as f
from flows.cookie import LEARNED_COOKIE, cookie_of
from flows.fields import tagged
from flows.flow import Flow, Output, PopVlan, flow, when
from flows.tables import DELIVER
from tests.clouds import CASES, golden, tables
from tests.private_ovs import PrivateOvs
from tests.wirekit import BRIDGE, doubtful, held, plan_for, send, texts

pytestmark = [pytest.mark.system, pytest.mark.shared]

TABLE_FULL = (ofp.OFPET_FLOW_MOD_FAILED, ofp.OFPFMFC_TABLE_FULL)
MACS = ("fa:16:3e:00:00:01", "fa:16:3e:00:00:02")


@pytest.fixture(scope="module")
def ovs() -> Iterator[PrivateOvs]:
    with PrivateOvs() as running:
        yield running


@pytest.fixture
def bridge(ovs: PrivateOvs) -> Iterator[PrivateOvs]:
    ovs.add_bridge(BRIDGE)
    yield ovs
    ovs.del_bridge(BRIDGE)


@pytest.mark.parametrize("case", CASES)
def test_the_switch_holds_what_our_text_says_byte_for_byte(ovs: PrivateOvs, case: str) -> None:
    cloud = golden(case)
    for host in cloud.hosts:
        for flows in tables(cloud, host).values():
            ovs.add_bridge(BRIDGE)
            try:
                assert send(ovs, plan_for(flows)) == {}
                assert held(ovs) == texts(flows)
                assert doubtful(ovs, flows) == []
            finally:
                ovs.del_bridge(BRIDGE)


def test_a_delete_takes_the_flow_with_its_cookie_and_no_other(bridge: PrivateOvs) -> None:
    flows = tables(golden("equal-tenants"), "compute2")["br-int"]
    send(bridge, plan_for(flows))
    assert send(bridge, Plan(delete=(cookie_of(flows[3]),))) == {}
    assert held(bridge) == texts(flows[:3] + flows[4:])


def test_a_changed_flow_replaces_its_old_self_though_the_old_cookie_is_deleted_after_it(bridge: PrivateOvs) -> None:
    def variant(port: int) -> Flow:
        return flow(DELIVER, "known", when(tagged(1), f.ETH_DST(MACS[0])), PopVlan(), Output(port),
                    origin="test", why="test")

    old, new = variant(5), variant(6)
    send(bridge, plan_for((old,)))
    assert send(bridge, diff({cookie_of(new): new}, [cookie_of(old)])) == {}
    assert held(bridge) == texts((new,))


def learn(ovs: PrivateOvs, vlan: int, mac: str, port: int) -> str:
    """A row as the switch itself makes it by our learn action; its canonical line."""
    ovs.add_flow(BRIDGE, f"table=20,priority=2,cookie={LEARNED_COOKIE:#x},vlan_tci={vlan:#06x}/0x0fff,dl_dst={mac} "
                         f"actions=load:0->NXM_OF_VLAN_TCI[],load:0x3e9->NXM_NX_TUN_ID[],output:{port}")
    (row,) = (row for row in held(ovs) if f"{vlan:#06x}/0x0fff,dl_dst={mac} " in row)
    return row


@pytest.mark.parametrize(("forget", "gone"), [
    (Forget(vlan=5), ["5a", "5b"]),
    (Forget(vlan=5, mac=MACS[0]), ["5a"]),
    (Forget(ofport=8), ["5b", "6a"]),
    (Forget(vlan=6, ofport=8), ["6a"]),
    (Forget(vlan=7), []),
], ids=repr)
def test_learned_flows_are_forgotten_by_vlan_mac_and_port(bridge: PrivateOvs, forget: Forget, gone: list[str]) -> None:
    compiled = tables(golden("one-network-two-hosts"), "compute1")["br-tun"]
    send(bridge, plan_for(compiled))
    bridge.add_flow(BRIDGE, "table=20,cookie=0x77,priority=9,dl_vlan=5 actions=output:8")
    stranger = next(row for row in held(bridge) if "cookie=0x77," in row)
    rows = {"5a": (5, MACS[0], 7), "5b": (5, MACS[1], 8), "6a": (6, MACS[0], 8)}
    learned = {name: learn(bridge, *row) for name, row in rows.items()}
    assert send(bridge, Plan(forget=(forget,))) == {}
    stay = [row for name, row in learned.items() if name not in gone]
    assert held(bridge) == sorted([*texts(compiled), stranger, *stay])


def test_an_unreadable_flow_is_blamed_by_name_and_the_switch_takes_the_rest(bridge: PrivateOvs) -> None:
    """Open vSwitch leaves such a message out and commits the others, so a commit reply alone is no success."""
    good = tables(golden("one-network-two-hosts"), "compute1")["br-int"]
    bad = Flow(DELIVER, 3, when(f.ETH_DST(MACS[0])), (PopVlan(), Output(1)), "vms.bad", "it pops what is not there")
    assert list(send(bridge, plan_for((*good, bad)))) == ["add table=60 (it pops what is not there)"]
    assert held(bridge) == texts(good)


def test_a_table_without_room_stops_the_whole_bundle(bridge: PrivateOvs) -> None:
    flows = tables(golden("one-network-two-hosts"), "compute1")["br-int"]
    send(bridge, plan_for(flows[:2]))
    bridge.vsctl("--", "--id=@few", "create", "flow_table", "flow_limit=3", "--", "set", "bridge", BRIDGE,
                 f"flow_tables:{DELIVER.id}=@few")
    refused = send(bridge, plan_for(flows))
    assert {error for blamed, error in refused.items() if blamed.startswith("add table=60")} == {TABLE_FULL}
    assert "commit" in refused
    assert held(bridge) == texts(flows[:2])
