"""Traces of TCP and UDP: through groups, routers of both drivers and address translation, there and back."""
from __future__ import annotations

from dataclasses import replace

import pytest

from controller.model import reading
from controller.tools.trace import service, trace
from tests.commands import ROOT

DEMO = (ROOT / "topology.yaml").read_text()


@pytest.mark.parametrize("firewall", ["iptables_hybrid", "openvswitch"])
@pytest.mark.parametrize(("source", "target", "tcp", "udp", "verdict", "reason"), [
    ("web1", "db1", 5432, None, "delivered", "db1 got it on compute1"),
    ("web1", "db1", 5433, None, "dropped", "compute1's"),
    ("web1", "db1", None, 5432, "dropped", "compute1's"),
    ("store1", "web1", 80, None, "delivered", "r1, tunnel id 1001"),
    ("web1", "store1", None, 53, "delivered", "r1, tunnel id 1003"),
    ("shop1", "vault1", 80, None, "delivered", "r2, tunnel id 1004"),
    ("shop1", "203.0.113.50", 80, None, "delivered", "web1 got it on compute1 from 203.0.113.20"),
    ("shop1", "203.0.113.50", 81, None, "dropped", "compute1's"),
    ("web1", "internet", 443, None, "delivered", "the world outside got it from 203.0.113.50"),
    ("shop1", "internet", None, 53, "delivered", "the world outside got it from 203.0.113.20"),
    ("web1", "10.0.1.1", 22, None, "answered", "r1 on network1 itself refuses as 10.0.1.1"),
])
def test_a_port_is_traced_as_a_ping_is(firewall: str, source: str, target: str, tcp: int | None, udp: int | None,
                                       verdict: str, reason: str) -> None:
    cloud = reading.parse(DEMO, "topology.yaml").topology
    assert cloud is not None
    journey = trace(replace(cloud, firewall=firewall), source, target, service=service(tcp, udp))
    assert journey.verdict == verdict, journey.reason
    assert reason in journey.reason


@pytest.mark.parametrize("firewall", ["iptables_hybrid", "openvswitch"])
def test_the_rule_that_lets_a_connection_in_is_named_with_its_line(firewall: str) -> None:
    cloud = reading.parse(DEMO.replace("iptables_hybrid", firewall, 1), "topology.yaml").topology
    assert cloud is not None
    line = next(number for number, text in enumerate(DEMO.splitlines(), start=1) if "5432" in text)
    whys = " / ".join(hop.why for hop in trace(cloud, "web1", "db1", service=service(5432, None)).hops)
    assert f"db: tcp 5432 IPv4 from group web (line {line})" in whys
