"""Why one does not reach another, and which edits would help: believed because a trace, and the topology, say so."""
from __future__ import annotations

import json
import random

import pytest

from controller.model import reading, source
from controller.model.amending import amended
from controller.model.reachability import all_pairs, expected_pairs
from controller.tools import whynot_lines
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.trace import service
from controller.tools.whynot import WhyNot, why_not
from tests.clouds import ROOT, parse
from tests.edge_clouds import sketch
from tests.random_clouds import random_cloud

DEMO = (ROOT / "topology.yaml").read_text()
ROUTED = """
cloud: routed
underlay: {cidr: 192.0.2.0/24}
firewall: FIREWALL
hosts:
  compute1: {tunnel_ip: 192.0.2.11}
  network1: {tunnel_ip: 192.0.2.21, role: network}
networks:
  blue:
    tunnel_id: 1001
    subnets:
      blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}
      blue-second: {cidr: 10.0.3.0/24}    # nobody's gateway
  green: {tunnel_id: 1002, subnets: {green-subnet: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
  alone: {tunnel_id: 1003, subnets: {alone-subnet: {cidr: 10.0.4.0/24, gateway: 10.0.4.1}}}
  wrong: {tunnel_id: 1004, subnets: {wrong-subnet: {cidr: 10.0.5.0/24, gateway: 10.0.5.1}}}
  lone: {tunnel_id: 1005, subnets: {lone-subnet: {cidr: 10.0.6.0/24}}}
  transit: {tunnel_id: 1006, subnets: {transit-subnet: {cidr: 10.0.7.0/24}}}
  far: {tunnel_id: 1007, subnets: {far-subnet: {cidr: 10.0.8.0/24, gateway: 10.0.8.1}}}
  public: {external: true, subnets: {public-subnet: {cidr: 203.0.113.0/24, gateway: 203.0.113.1}}}
routers:
  r1:
    host: network1
    driver: DRIVER
    interfaces:
      - blue-subnet
      - green-subnet
      - {subnet: wrong-subnet, ip: 10.0.5.2}
      - {subnet: transit-subnet, ip: 10.0.7.1}
  r2: {host: network1, driver: DRIVER, interfaces: [far-subnet, {subnet: transit-subnet, ip: 10.0.7.2}]}
security_groups:
  closed: []
  strict: [{direction: egress, protocol: udp, port: 53}]
  friends: {rules: [{direction: ingress, protocol: tcp, remote_group: closed}]}
vms:
  web1: {host: compute1, network: blue, ip: 10.0.1.11}
  db1: {host: compute1, network: green, ip: 10.0.2.11}
  far1: {host: compute1, network: blue, ip: 10.0.3.11}
  alone1: {host: compute1, network: alone, ip: 10.0.4.11}
  wrong1: {host: compute1, network: wrong, ip: 10.0.5.11}
  lone1: {host: compute1, network: lone, ip: 10.0.6.11}
  lone2: {host: compute1, network: lone, ip: 10.0.6.12, security_groups: [strict]}
  lone3: {host: compute1, network: lone, ip: 10.0.6.13, security_groups: [friends]}
  away1: {host: compute1, network: far, ip: 10.0.8.11, security_groups: [closed]}
  two1:
    host: compute1
    ports:
      - {network: blue, ip: 10.0.1.50}
      - {network: green, ip: 10.0.2.50}
  two2:
    host: compute1
    ports:
      - {network: green, ip: 10.0.2.60}
      - {network: blue, ip: 10.0.1.60}
"""
KINDS = (("simulated", "iptables_hybrid"), ("namespace", "openvswitch"))


def routed(driver: str = "simulated", firewall: str = "iptables_hybrid") -> str:
    return ROUTED.replace("DRIVER", driver).replace("FIREWALL", firewall)


def asked(text: str, source_: str, target: str, tcp: int | None = None) -> WhyNot:
    return why_not(text.encode(), "topology.yaml", (source_, target), service(tcp, None))


def best(found: WhyNot) -> list[str]:
    return [one.what for one in found.answers[0].remedies]


@pytest.mark.parametrize(("driver", "firewall"), KINDS)
@pytest.mark.parametrize(("one", "other", "tcp", "what"), [
    ("lone2", "lone1", None, ["let group strict begin icmp with 10.0.6.11"]),
    ("lone1", "lone2", 80, ["let tcp 80 from 10.0.6.11 into group strict"]),
    ("lone1", "lone3", 80, ["let tcp 80 from 10.0.6.11 into group friends"]),
    ("web1", "wrong1", None, ["make 10.0.5.2, which is r1 on wrong-subnet, the gateway of wrong-subnet"]),
    ("wrong1", "web1", None, ["make 10.0.5.2, which is r1 on wrong-subnet, the gateway of wrong-subnet"]),
    ("web1", "far1", None, ["give r1 an interface on blue-second as 10.0.3.1",
                            "make 10.0.3.1, which is r1 on blue-second, the gateway of blue-second"]),
    ("alone1", "web1", None, ["give r1 an interface on alone-subnet"]),
    ("web1", "internet", None, ["give r1 a gateway on public"]),
    ("web1", "two2", None, ["let two2:eth1, by which two2 answers, say that it is 10.0.2.60"]),
])
def test_the_smallest_edit_is_found(driver: str, firewall: str, one: str, other: str, tcp: int | None,
                                    what: list[str]) -> None:
    found = asked(routed(driver, firewall), one, other, tcp)
    assert best(found) == what
    for answer in found.answers:
        assert answer.journey.verdict == "delivered"
        edits = [edit for remedy in answer.remedies for edit in remedy.edits]
        assert amended(found.text, edits) == answer.text


def test_three_things_that_lack_are_found_together() -> None:
    assert best(asked(routed(), "web1", "away1", 80)) == [
        "give r1 a route to 10.0.8.0/24 by 10.0.7.2, which is r2 on transit-subnet",
        "let tcp 80 from 10.0.1.11 into group closed",
        "give r2 a route to 10.0.1.0/24 by 10.0.7.1, which is r1 on transit-subnet"]


def test_a_group_that_is_let_in_may_be_joined() -> None:
    found = asked(routed(), "lone1", "lone3", 80)
    assert [one.what for one in found.answers[1].remedies] == [
        "put lone1 into group closed, which friends lets in (from then on only what closed allows reaches it)"]
    assert ("lone2", "lone1") not in (found.answers[1].lose or ()), "lone2 could not ping it before"


def test_another_tenant_is_apart_by_design_and_can_be_met_outside() -> None:
    found = asked(DEMO, "web1", "shop2")
    assert found.by_design == ("blue and green are different tenants, as far as the file says: no router joins them, "
                               "nor could one: blue-subnet and green-subnet overlap")
    answer, = found.answers
    assert best(found) == ["give shop2 the floating IP 203.0.113.2, and ask that"]
    assert (answer.case.target, answer.journey.routers) == ("203.0.113.2", ("r1", "r2"))


def test_who_has_a_floating_ip_can_be_asked_by_it_without_an_edit() -> None:
    found = asked(DEMO, "shop1", "web1")
    assert best(found) == ["ask 203.0.113.50, the floating IP of web1"]
    assert found.answers[0].text == found.text
    assert "Nothing is to be edited for that." in "\n".join(whynot_lines.lines(found))
    closed = asked(DEMO, "shop1", "web1", 22)
    assert best(closed) == ["ask 203.0.113.50, the floating IP of web1", "let tcp 22 from 203.0.113.20 into group web"]


def test_a_translation_that_is_off_is_found() -> None:
    text = DEMO.replace("ip: 203.0.113.20}", "ip: 203.0.113.20, snat: false}")
    assert best(asked(text, "shop1", "internet")) == [
        "let r2 translate addresses, so that answers find their way back"]


def test_an_edit_that_joins_tenants_says_so_and_tells_who_else_gains() -> None:
    found = asked(DEMO, "web1", "monitor1")
    answer = found.answers[0]
    assert best(found) == ["give r1 an interface on admin-subnet"]
    assert answer.remedies[0].joins
    assert ("store1", "monitor1") in (answer.gain or ())
    assert answer.lose == ()
    words = "\n".join(whynot_lines.lines(found))
    assert "This joins what the file keeps apart." in words
    assert "store1" in words


@pytest.mark.parametrize(("target", "nobody"), [
    ("10.0.1.99", "no port, router or floating IP of the file has 10.0.1.99, an address of blue-subnet"),
    ("10.0.2.99", "no port, router or floating IP of the file has 10.0.2.99, an address of green-subnet"),
    ("2001:db8::1", ""),
])
def test_an_address_that_nobody_has_is_told(target: str, nobody: str) -> None:
    found = asked(routed(), "web1", target)
    assert (found.answers, found.nobody) == ((), nobody)
    assert "No small edit" in "\n".join(whynot_lines.lines(found))


def test_comments_and_layout_stay_in_the_difference() -> None:
    found = asked(DEMO, "store1", "db1", 5432)
    lines = list(whynot_lines.diff(found, found.answers[0]))
    assert [line for line in lines[2:] if line[0] in "+-"] == [
        "+    - {direction: ingress, protocol: tcp, port: 5432, remote: 10.0.2.11}"]
    assert [line for line in whynot_lines.diff(found, found.answers[1]) if line[0] == "+"][1:] == [
        "+  store1: {host: compute2, network: blue-data, ip: 10.0.2.11, security_groups: [web]}"]


def test_the_document_has_every_answer() -> None:
    document = json.loads(json.dumps(whynot_lines.document(asked(DEMO, "web1", "db1", 5433))))
    assert (document["delivered"], document["verdict"], document["by_design"]) == (False, "dropped", None)
    assert document["where"]["kind"] == "tap"
    edit = document["answers"][0]["edits"][0]
    assert edit == {"kind": "rule", "what": "let tcp 5433 from 10.0.1.11 into group db", "joins_networks": False,
                    "changes": [{"path": ["security_groups", "db"], "append": {
                        "direction": "ingress", "protocol": "tcp", "port": 5433, "remote": "10.0.1.11"}}]}
    assert document["answers"][0]["diff"].startswith("--- topology.yaml\n+++ topology.yaml\n@@")


def test_what_is_delivered_needs_nothing() -> None:
    found = asked(DEMO, "web1", "db1", 5432)
    assert found.delivered
    assert not found.answers
    assert next(iter(whynot_lines.lines(found))).startswith("[green]web1 reaches db1[/green]: ")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(Refusal, match="did you mean web1") as refused:
        asked(DEMO, "wbe1", "db1")
    assert refused.value.code == BAD_INPUT


def test_what_an_answer_promises_the_topology_says_too(seed: int) -> None:
    """Of random clouds: after the edit, who knows only addresses expects the ping to be answered."""
    pick, judged = random.Random(seed), 0
    while judged < 2:
        text = random_cloud(pick, ("simulated", "namespace"), outside=True) if pick.random() < 0.5 else \
            sketch(pick, pick.choice(("iptables_hybrid", "openvswitch"))).text()
        cloud = reading.parse(text, "topology.yaml").topology
        if cloud is None or not (apart := sorted(set(all_pairs(cloud)) - expected_pairs(cloud))):
            continue
        judged += 1
        found = asked(text, *pick.choice(apart))
        for answer in found.answers:
            root = source.read(answer.text.encode()).root
            assert root is not None
            after, target = parse(answer.text), answer.case.target
            if target in {port.name for port in after.ports()}:
                assert (answer.case.source.name, target) in expected_pairs(after), (text, answer.text)
