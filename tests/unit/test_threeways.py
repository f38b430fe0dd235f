"""The third opinion of `lab reach`: what the tables make of a question, and which of them is to blame."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.model import placement
from controller.model.reachability import all_pairs, expected_pairs, expected_targets
from controller.model.topology import Topology
from controller.switch.rows import flow_json
from controller.tools.reach import Answer, Reach
from controller.tools.rundir import Rundir
from controller.tools.threeways import INSTALLED, MOST, TOPOLOGY, Judge, with_computed
from flows.flow import Flow
from tests.clouds import ROOT, golden, parse, tables

DEMO = parse((ROOT / "topology.yaml").read_text())


def shown(cloud: Topology, status: Callable[[Flow], str] = lambda flow: "installed") -> list[dict[str, Any]]:
    """Every bridge as the daemon shows it."""
    return [{"host": host, "bridge": bridge, "connected": True, "ports": placement.imagined(cloud, host).ports[bridge],
             "vlans": placement.imagined(cloud, host).vlans,
             "flows": [{**flow_json(flow), "status": status(flow)} for flow in flows]}
            for host in cloud.hosts for bridge, flows in tables(cloud, host).items()]


def judge(cloud: Topology, tmp_path: Path, status: Callable[[Flow], str] = lambda flow: "installed") -> Judge:
    return Judge(cloud, Rundir(tmp_path), shown(cloud, status))


def answered(cloud: Topology, source: str, target: str, observed: bool) -> Answer:
    address = next(str(port.ip) for port in cloud.ports() if port.name == target)
    return Answer(source, target, address, (source, target) in expected_pairs(cloud), observed)


def test_whole_tables_compute_what_the_topology_says(tmp_path: Path) -> None:
    for cloud in (DEMO, golden("groups-openvswitch"), golden("l2population-arp-responder")):
        asked, expected = judge(cloud, tmp_path), expected_pairs(cloud)
        for pair in all_pairs(cloud)[:40]:
            found = asked.pair(answered(cloud, *pair, pair in expected))
            assert (found.computed, found.reason) == (pair in expected, "")


def test_a_flow_that_is_missing_is_blamed(tmp_path: Path) -> None:
    lives = "web2 lives on this host"
    asked = judge(DEMO, tmp_path, lambda flow: "missing" if flow.why == lives else "installed")
    found = asked.pair(answered(DEMO, "web1", "web2", observed=False))
    assert (found.computed, found.ok) == (False, False)
    assert found.reason.startswith("the tables do so: compute2's br-int drops it in deliver: not on this host: ")
    assert found.reason.endswith(f"; compute2/br-int lacks: table 60 ({lives})")
    assert asked.pair(answered(DEMO, "web1", "web3", observed=True)).ok


def test_what_tables_would_deliver_is_lost_beside_them(tmp_path: Path) -> None:
    found = judge(DEMO, tmp_path).pair(answered(DEMO, "web1", "web2", observed=False))
    assert (found.computed, found.ok) == (True, False)
    assert found.reason == ("the tables would deliver it; web1 does not run; web2 does not run"), \
        "no lab is there"


def test_a_foreign_flow_that_can_be_read_is_computed(tmp_path: Path) -> None:
    asked = judge(DEMO, tmp_path)
    drop = {"table": 60, "priority": 60000, "match": "dl_dst=fa:16:3e:00:00:12", "actions": "drop", "cookie": "0x0",
            "status": "stranger", "origin": "", "why": "not ours; left alone"}
    next(one for one in asked.bridges if (one["host"], one["bridge"]) == ("compute2", "br-int"))["flows"].append(drop)
    found = asked.pair(answered(DEMO, "web1", "web2", observed=False))
    assert found.computed is False
    assert found.reason.startswith("the tables do so: compute2's br-int drops it in deliver: not ours; left alone")


def test_an_altered_flow_does_what_it_does_now(tmp_path: Path) -> None:
    asked = judge(DEMO, tmp_path, lambda flow: "altered" if flow.why == "web2 lives on this host" else "installed")
    for bridge in asked.bridges:
        for row in bridge["flows"]:
            row.update({"actions": "drop", "wanted_actions": row["actions"]} if row["status"] == "altered" else {})
    assert asked.pair(answered(DEMO, "web1", "web2", observed=False)).computed is False


def test_a_foreign_flow_is_told_where_more_arrives_than_should(tmp_path: Path) -> None:
    asked = judge(DEMO, tmp_path)
    foreign = {"table": 60, "priority": 60000, "match": "vlan_tci=0x1000/0x1000", "actions": "pop_vlan,ALL",
               "status": "stranger", "origin": "", "why": "not ours; left alone", "cookie": "0x0"}
    next(one for one in asked.bridges if one["bridge"] == "br-int")["flows"].append(foreign)
    found = asked.pair(answered(DEMO, "web1", "shop1", observed=True))
    assert found.computed is False
    assert ("compute1/br-int also has: table 60 priority=60000,vlan_tci=0x1000/0x1000 actions=pop_vlan,ALL "
            "(not ours; left alone)") in found.reason


def test_without_a_daemon_the_topology_is_computed(tmp_path: Path) -> None:
    aims = [aim for aim in expected_targets(DEMO) if aim.source in ("web1", "internet")]
    targets = tuple(Answer(aim.source, aim.name, str(aim.address), aim.expected, aim.expected) for aim in aims)
    found = with_computed(Reach((answered(DEMO, "web1", "web2", True),), (), {}, None, targets), DEMO, Rundir(tmp_path))
    assert (found.ok, found.computed_from) == (True, TOPOLOGY)
    assert {one.computed for one in found.targets if one.source == "internet"} == {None}
    assert [one.computed for one in found.targets if one.source == "web1"] == [
        aim.expected for aim in aims if aim.source == "web1"]
    assert found.document()["pairs"] == [{"src": "web1", "dst": "web2", "address": "10.0.1.12", "expected": True,
                                          "observed": True, "computed": True}]
    assert INSTALLED not in str(found.document())


def test_too_many_questions_are_not_computed(tmp_path: Path) -> None:
    many = Reach((answered(DEMO, "web1", "web2", True),) * (MOST + 1), (), {})
    assert with_computed(many, DEMO, Rundir(tmp_path)) is many
