"""The tools on a running cloud with routers of both drivers: reach, routers, flows, apply that takes the lab along."""
from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from labkit import ROOT, TUNBRIDGE, Cloud, cloud, until

from controller.tools import client

pytestmark = pytest.mark.system
SHADOW = "table=42,priority=1000"

DEMO = (ROOT / "topology.yaml").read_text()


def attempt(running: Cloud, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A command of ours, with words on its stdin, that may fail."""
    return subprocess.run([*TUNBRIDGE, *words], cwd=ROOT, env={**os.environ, "TUNBRIDGE_RUNDIR": str(running.rundir)},
                          input=stdin, text=True, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(DEMO) as found:
        yield found


def test_everything_is_reached_as_the_topology_says(running: Cloud) -> None:
    found = json.loads(running.tunbridge("lab", "reach", "--json"))
    assert found["ok"], [one for one in found["pairs"] + found["targets"] if one["expected"] != one["observed"]]
    assert {(one["src"], one["dst"]) for one in found["targets"]} >= {
        ("web1", "r1 on blue-subnet"), ("shop1", "r2 on public-subnet"), ("shop1", "floating IP of web1"),
        ("monitor1", "internet"), ("internet", "floating IP of web1")}
    assert len(found["pairs"]) == 10 * 9


def test_a_floating_ip_without_its_way_is_missed(running: Cloud) -> None:
    """A stranger's flow shadows the translation: it stays, where a flow of ours that is gone would be back."""
    running.run("network1", "ovs-ofctl", "-O", "OpenFlow14", "add-flow", "br-int", f"{SHADOW},actions=drop")
    assert json.loads(attempt(running, "lab", "reach", "--json").stdout)["ok"] is False
    assert running.status()["ok"]
    running.run("network1", "ovs-ofctl", "-O", "OpenFlow14", "--strict", "del-flows", "br-int", SHADOW)
    assert json.loads(running.tunbridge("lab", "reach", "--json"))["ok"] is True


@pytest.mark.parametrize(("vm", "router", "shown_as"), [("db1", "r1", "203.0.113.10"), ("shop1", "r2", "203.0.113.20")])
def test_a_routers_sessions_and_counters_are_told(running: Cloud, vm: str, router: str, shown_as: str) -> None:
    [before] = json.loads(running.tunbridge("routers", router, "--json"))["routers"]
    assert running.pings(vm, "198.51.100.7", count=3)
    own = str(running.port(vm).ip)

    def session() -> bool:
        [after] = json.loads(running.tunbridge("routers", router, "--json"))["routers"]
        assert after["state"] == "at work"
        counted = [sum(leg["received"] for leg in one["counters"]["interfaces"].values()) for one in (before, after)]
        return counted[1] > counted[0] and any(
            one["source"].startswith(f"{own}:") and one["destination"].startswith("198.51.100.7:")
            and one["shown_as"].startswith(f"{shown_as}:") for one in after["sessions"])

    until(session, "the session and the packets are told")
    assert any(one["address"] == "203.0.113.1" and one["mac"] for one in
               json.loads(running.tunbridge("routers", router, "--json"))["routers"][0]["neighbours"])


def test_the_flows_of_a_provider_bridge_and_of_a_router_say_why(running: Cloud) -> None:
    assert "public, here VLAN 5, is untagged outside" in running.tunbridge("flows", "network1/br-ex")
    assert "r1 on blue-subnet shall route it" in running.tunbridge("flows", "network1/br-int")


def test_apply_from_stdin_takes_the_lab_along_and_the_namespace_goes_with_its_last_interface(running: Cloud) -> None:
    alone = DEMO.replace("interfaces: [green-subnet, green-data-subnet]", "interfaces: []")
    assert attempt(running, "apply", "-", stdin=alone).returncode == 0
    assert not [one for one in running.run("network1", "ip", "netns").split() if one.startswith("qrouter")]
    assert client.ask(running.where, {"do": "status"})["router_ports"]["expected"] == 0
    [found] = json.loads(running.tunbridge("routers", "r2", "--json"))["routers"]
    assert found["state"] == "no interface, so nothing of it is there"
    assert not running.pings("shop1", "10.0.2.11")
    assert running.pings("web1", "10.0.2.11"), "the other tenant notices nothing"
    assert attempt(running, "apply", "-", stdin=DEMO).returncode == 0
    assert running.pings("shop1", "10.0.2.11")


def test_an_invalid_topology_changes_neither_daemon_nor_lab(running: Cloud) -> None:
    done = attempt(running, "apply", "-", stdin=DEMO.replace("network: blue-data", "network: blue-dada"))
    assert done.returncode == 2
    assert "blue-data" in done.stderr
    assert running.pings("web1", "10.0.2.11")
