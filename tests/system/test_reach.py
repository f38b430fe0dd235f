"""`tunbridge lab reach` on a real lab: it believes what the VMs' own interfaces saw, and nothing else."""
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from labkit import Cloud, cloud, tunbridge

pytestmark = pytest.mark.system

TWINS = """
cloud: reach
underlay: {cidr: 192.0.2.0/24}
hosts:
  c1: {tunnel_ip: 192.0.2.11}
  c2: {tunnel_ip: 192.0.2.12}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24}}}
  green: {tunnel_id: 1002, subnets: {green-subnet: {cidr: 10.0.1.0/24}}}
vms:
  blue1: {host: c1, network: blue, ip: 10.0.1.11, mac: "fa:16:3e:00:00:11"}
  blue2: {host: c2, network: blue, ip: 10.0.1.12, mac: "fa:16:3e:00:00:12"}
  green1: {host: c1, network: green, ip: 10.0.1.11, mac: "fa:16:3e:00:00:11"}
  green2: {host: c2, network: green, ip: 10.0.1.12, mac: "fa:16:3e:00:00:12"}
"""
ALLOWED = {("blue1", "blue2"), ("blue2", "blue1"), ("green1", "green2"), ("green2", "green1")}
LEAK = "table=60,priority=60000,vlan_tci=0x1000/0x1000"  # everything to everybody on the host


@pytest.fixture(scope="module")
def twins() -> Iterator[Cloud]:
    with cloud(TWINS) as running:
        yield running


def reach(running: Cloud, *options: str, code: int = 0) -> dict[str, Any]:
    done = tunbridge("lab", "reach", "--json", *options, rundir=running.rundir, check=False)
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def reached(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(pair["src"], pair["dst"]) for pair in found["pairs"] if pair["observed"]}


def test_twins_with_equal_addresses_and_macs_are_told_apart(twins: Cloud) -> None:
    found = reach(twins)
    assert found["ok"] is True
    assert found["leaks"] == []
    assert len(found["pairs"]) == 12
    assert {(pair["src"], pair["dst"]) for pair in found["pairs"] if pair["expected"]} == ALLOWED
    assert reached(found) == ALLOWED
    assert {pair["address"] for pair in found["pairs"] if pair["dst"] == "green2"} == {"10.0.1.12"}
    assert found["computed_from"] == "installed"
    assert all(pair["computed"] == pair["expected"] for pair in found["pairs"])


def test_a_switch_that_hands_frames_to_everybody_is_caught(twins: Cloud) -> None:
    twins.run("c1", "ovs-ofctl", "-O", "OpenFlow14", "add-flow", "br-int", f"{LEAK},actions=pop_vlan,all")
    try:
        found = reach(twins, code=1)
    finally:
        twins.run("c1", "ovs-ofctl", "-O", "OpenFlow14", "--strict", "del-flows", "br-int", LEAK)
    assert found["ok"] is False
    assert not any(pair["computed"] for pair in found["pairs"] if (pair["src"], pair["dst"]) not in ALLOWED)
    strangers = {(leak["src"][:-1], leak["seen_at"][:-1]) for leak in found["leaks"]}
    assert strangers >= {("blue", "green"), ("green", "blue")}
    assert reach(twins)["ok"] is True


def test_a_flow_that_somebody_added_is_named_by_the_proof_of_what_is_installed(twins: Cloud) -> None:
    assert "proven for all packets" in twins.tunbridge("verify", str(twins.file), "--live")
    green1 = twins.run("c1", "ovs-vsctl", "get", "Interface", twins.port("green1").device, "ofport").strip()
    rogue = f"table=60,priority=60000,dl_vlan={twins.vlan('c1', 'blue')},dl_dst={twins.port('blue2').mac}"
    twins.run("c1", "ovs-ofctl", "-O", "OpenFlow14", "add-flow", "br-int", f"{rogue},actions=pop_vlan,output:{green1}")
    try:
        done = tunbridge("verify", str(twins.file), "--live", "--json", rundir=twins.rundir, check=False)
    finally:
        twins.run("c1", "ovs-ofctl", "-O", "OpenFlow14", "--strict", "del-flows", "br-int", rogue)
    assert done.returncode == 1, done.stderr
    found = {breach["kind"]: breach for breach in json.loads(done.stdout)["breaches"]}
    assert found.keys() >= {"isolation"}
    leak = found["isolation"]
    assert (leak["src"], leak["dst"], leak["confirmed"]) == ("blue1", "green1", True)
    assert (leak["blame"]["host"], leak["blame"]["table"]) == ("c1", 60)
    assert leak["blame"]["flow"].startswith("table=60,priority=60000,")
    assert "proven for all packets" in twins.tunbridge("verify", "--live")


def test_a_vm_that_does_not_answer_is_missed(twins: Cloud) -> None:
    twins.run("blue2", "ip", "link", "set", "eth0", "down")
    try:
        found = reach(twins, code=1)
    finally:
        twins.run("blue2", "ip", "link", "set", "eth0", "up")
    assert reached(found) == {pair for pair in ALLOWED if "blue2" not in pair}
    assert {pair["reason"] for pair in found["pairs"] if pair["expected"] != pair["observed"]} == {
        "the tables would deliver it; eth0 of blue2 is down"}
    assert found["leaks"] == []


def test_a_sample_says_how_to_ask_the_same_again(twins: Cloud) -> None:
    found = reach(twins, "--sample", "4", "--seed", "7")
    assert found["sample"] == {"size": 4, "of": 12, "seed": 7}
    assert len(reached(found)) == 2
    assert reach(twins, "--sample", "4", "--seed", "7")["pairs"] == found["pairs"]


def test_without_a_lab_there_is_a_sentence_and_exit_code_3(tmp_path: Path) -> None:
    done = tunbridge("lab", "reach", "--json", rundir=tmp_path, check=False)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "lab up" in done.stderr
    assert "Traceback" not in done.stderr
