"""`tunbridge routers` without a lab and a daemon, and what it makes of connection tracking."""
from __future__ import annotations

from pathlib import Path

import pytest

from controller.tools import routers, sessions
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.rundir import Rundir
from tests.clouds import ROOT

OVS = (
    "icmp,orig=(src=10.0.1.13,dst=198.51.100.7,id=27,type=8,code=0),"
    "reply=(src=198.51.100.7,dst=203.0.113.10,id=27,type=0,code=0),zone=39152\n"
    "tcp,orig=(src=198.51.100.9,dst=203.0.113.50,sport=4711,dport=80),"
    "reply=(src=10.0.1.11,dst=198.51.100.9,sport=80,dport=4711),zone=39152,protoinfo=(state=ESTABLISHED)\n"
    "nothing of this kind\n")
LINUX = (
    "tcp      6 116 TIME_WAIT src=10.0.1.12 dst=198.51.100.9 sport=46390 dport=80 "
    "src=198.51.100.9 dst=203.0.113.20 sport=80 dport=46391 [ASSURED] mark=0 use=1\n"
    "ipv4     2 udp      17 28 src=10.0.1.11 dst=10.0.2.11 sport=5 dport=53 [UNREPLIED] "
    "src=10.0.2.11 dst=10.0.1.11 sport=53 dport=5 mark=0 zone=0 use=2\n"
    "conntrack v1.4.7 (conntrack-tools): 2 flow entries have been shown.\n")


@pytest.fixture
def nowhere(tmp_path: Path) -> routers.Sources:
    return routers.sources(Rundir(tmp_path), str(ROOT / "topology.yaml"))


def test_sessions_of_open_vswitch_say_what_was_translated() -> None:
    assert [sessions.line(one) for one in sessions.of_ovs(OVS)] == [
        "icmp 10.0.1.13:27 > 198.51.100.7:27, shown as 203.0.113.10:27",
        "tcp 198.51.100.9:4711 > 203.0.113.50:80, leads to 10.0.1.11:80  ESTABLISHED"]


def test_sessions_of_linux_say_the_same_in_the_same_words() -> None:
    assert [sessions.line(one) for one in sessions.of_linux(LINUX)] == [
        "tcp 10.0.1.12:46390 > 198.51.100.9:80, shown as 203.0.113.20:46391  TIME_WAIT",
        "udp 10.0.1.11:5 > 10.0.2.11:53"]


def test_without_a_lab_and_a_daemon_the_topology_tells_what_shall_be(nowhere: routers.Sources) -> None:
    one, two = routers.described(nowhere)
    assert (one["name"], one["driver"], two["name"], two["driver"]) == ("r1", "simulated", "r2", "namespace")
    assert set(one) == set(two)
    for router in (one, two):
        assert [leg["addresses"][0] for leg in router["interfaces"]][:2] == ["10.0.1.1/24", "10.0.2.1/24"]
        assert [(route["destination"], route["via"]) for route in router["routes"]] == [
            ("10.0.1.0/24", None), ("10.0.2.0/24", None), ("203.0.113.0/24", None), ("0.0.0.0/0", "203.0.113.1")]
        assert router["sessions"] is None
        assert router["sessions_unknown"] == "unknown: no lab runs here"
    assert one["floating_ips"] == {"203.0.113.50": "10.0.1.11"}
    text = "\n".join(routers.lines([one, two]))
    assert "default         via 203.0.113.1  qg-9f919f36-ed" in text
    assert "[bold]r2[/bold]  namespace on network1: unknown: no lab runs here" in text


def test_one_router_by_its_name_and_a_wrong_one_with_those_that_there_are(nowhere: routers.Sources) -> None:
    assert [one["name"] for one in routers.described(nowhere, "r2")] == ["r2"]
    with pytest.raises(Refusal, match="no router named 'router1'; known: r1, r2") as refused:
        routers.described(nowhere, "router1")
    assert refused.value.code == BAD_INPUT


def test_a_router_without_an_interface_is_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text("cloud: one\nunderlay: {cidr: 192.0.2.0/24}\nhosts: {n: {tunnel_ip: 192.0.2.1, role: network}}\n"
                    "networks: {}\nrouters: {r: {host: n}}\nvms: {}\n")
    [found] = routers.described(routers.sources(Rundir(tmp_path), str(file)))
    assert found["state"] == "no interface, so nothing of it is there"
    assert found["interfaces"] == found["routes"] == []
    assert "no interface" in "\n".join(routers.lines([found]))


def test_a_long_list_is_cut() -> None:
    router = {"name": "r", "driver": "simulated", "host": "n", "state": "", "interfaces": [], "routes": [],
              "floating_ips": {}, "neighbours": [], "counters": {}, "sessions_unknown": "",
              "sessions": sessions.of_ovs(OVS)[:1] * 50}
    assert "    and 30 more" in list(routers.lines([router]))
