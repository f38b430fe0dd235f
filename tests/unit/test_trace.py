"""The journey of a packet through the demo cloud and others: the exact story, and what each kind of end says.

After a change of words: UPDATE_GOLDEN=1 pytest tests/unit/test_trace.py, and read the difference.
"""
from __future__ import annotations

import json
import os
import random
import re
from dataclasses import replace

import pytest

from controller.model import placement, reading
from controller.model.placement import Seen
from controller.model.reachability import INTERNET, all_pairs, expected_pairs, expected_targets
from controller.model.topology import Topology
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.trace import Journey, story, trace
from tests.clouds import GOLDEN, ROOT, golden, parse

ROUTED = """
cloud: routed
underlay: {cidr: 192.0.2.0/24}
hosts:
  compute1: {tunnel_ip: 192.0.2.11}
  network1: {tunnel_ip: 192.0.2.21, role: network}
networks:
  blue:
    tunnel_id: 1001
    subnets:
      blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}
      blue-second: {cidr: 10.0.3.0/24}
  green: {tunnel_id: 1002, subnets: {green-subnet: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
  alone: {tunnel_id: 1003, subnets: {alone-subnet: {cidr: 10.0.4.0/24, gateway: 10.0.4.1}}}
  wrong: {tunnel_id: 1004, subnets: {wrong-subnet: {cidr: 10.0.5.0/24, gateway: 10.0.5.1}}}
routers:
  r1: {host: network1, driver: DRIVER, interfaces: [blue-subnet, green-subnet, {subnet: wrong-subnet, ip: 10.0.5.2}]}
vms:
  web1: {host: compute1, network: blue, ip: 10.0.1.11}
  db1: {host: compute1, network: green, ip: 10.0.2.11}
  far1: {host: compute1, network: blue, ip: 10.0.3.11}
  alone1: {host: compute1, network: alone, ip: 10.0.4.11}
  wrong1: {host: compute1, network: wrong, ip: 10.0.5.11}
"""
DRIVERS = ("simulated", "namespace")


def demo() -> Topology:
    found = reading.load(ROOT / "topology.yaml").topology
    assert found is not None
    return found


STORIES = {
    "demo-across-hosts": (demo, "web1", "web2"),
    "demo-same-host": (demo, "web1", "db1"),
    "demo-other-tenant": (demo, "web1", "shop2"),
    "demo-nobody": (demo, "web1", "10.0.1.99"),
    "demo-routed-simulated": (demo, "web1", "store1"),
    "demo-routed-namespace": (demo, "shop1", "vault1"),
    "demo-gateway-simulated": (demo, "web1", "10.0.2.1"),
    "demo-gateway-namespace": (demo, "shop1", "10.0.2.1"),
    "demo-internet-simulated": (demo, "db1", "internet"),
    "demo-internet-namespace": (demo, "shop1", "internet"),
    "demo-floating-ip-between-tenants": (demo, "shop1", "203.0.113.50"),
    "demo-broadcast": (demo, "web1", "broadcast"),
    "answered-by-br-tun": (lambda: golden("l2population-arp-responder"), "web1", "web2"),
    "geneve-over-ipv6": (lambda: parse((GOLDEN / "ipv6-underlay.yaml").read_text().replace(
        "hosts:", "tunnel: {type: geneve, port: 6081}\nhosts:", 1)), "web2", "web1"),
    "gre-without-qbr": (lambda: parse((GOLDEN / "gre.yaml").read_text() + "firewall: none\n"), "web1", "web2"),
    "ipv6": (lambda: golden("ipv6"), "six1", "six2"),
}


@pytest.mark.parametrize("name", STORIES)
def test_the_story_of_a_journey(name: str) -> None:
    make, source, target = STORIES[name]
    text = "".join(f"{line}\n" for line in story(trace(make(), source, target)))
    path = GOLDEN / f"{name}.story"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_every_story_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.story")} == set(STORIES)


def verdict(cloud: Topology, source: str, target: str) -> tuple[str, str]:
    journey = trace(cloud, source, target)
    return journey.verdict, journey.reason


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(("source", "target", "reason"), [
    ("web1", "web1", "web1 talks to itself; nothing leaves it"),
    ("web1", "far1", "r1 on network1: no route to its destination, and tells web1; far1 is on blue-second, web1 on "
                     "blue-subnet, and no router joins them"),
    ("web1", "198.51.100.7", "r1 on network1: no route to its destination, and tells web1"),
    ("web1", "10.0.2.99", "r1 on network1: it waits until the next hop answers ARP, and nobody answers"),
    ("web1", "wrong1", "wrong1 got it on compute1, but its answer is lost: nobody in wrong tells wrong1 the MAC of "
                       "10.0.5.1"),
    ("wrong1", "web1", "nobody in wrong is the gateway 10.0.5.1; r1 on wrong-subnet is 10.0.5.2"),
    ("alone1", "10.0.1.11", "nobody in alone is the gateway 10.0.4.1: no router stands there"),
    ("alone1", "web1", "nobody in alone is the gateway 10.0.4.1; web1 is on blue, alone1 on alone, and no router joins "
                       "them"),
    ("far1", "web1", "10.0.1.11 is outside of 10.0.3.0/24, and blue-second has no gateway; web1 is on blue-subnet, "
                     "far1 on blue-second, and no router joins them"),
    ("web1", "2001:db8::1", "web1 has no IPv6 address"),
    ("web1", "10.0.1.99", "nobody in blue has 10.0.1.99"),
])
def test_why_a_packet_goes_no_further(driver: str, source: str, target: str, reason: str) -> None:
    cloud = parse(ROUTED.replace("DRIVER", driver))
    assert verdict(cloud, source, target) == ("delivered" if source == target else "dropped", reason)


@pytest.mark.parametrize("driver", DRIVERS)
def test_both_tunnel_ids_are_told(driver: str) -> None:
    journey = trace(parse(ROUTED.replace("DRIVER", driver)), "web1", "db1")
    assert journey.reason == ("db1 got it on compute1: VLAN 2 on compute1, tunnel id 1001 to network1, r1, tunnel id "
                              "1002 to compute1, VLAN 3 on compute1")
    ids = [hop.tunnel_id for hop in journey.legs[2].hops if hop.kind == "underlay"]
    assert ids == [1001, 1002]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_gateway_answers_for_itself(driver: str) -> None:
    cloud = parse(ROUTED.replace("DRIVER", driver))
    for address, leg in (("10.0.1.1", "blue-subnet"), ("10.0.2.1", "green-subnet")):
        assert verdict(cloud, "web1", address) == (
            "answered", f"r1 on network1 answers as {address}, which is r1 on {leg}")


def test_nothing_outside_is_refused() -> None:
    with pytest.raises(Refusal, match="no network with a gateway outside"):
        trace(parse(ROUTED.replace("DRIVER", "simulated")), "web1", "internet")


def test_an_address_is_found_in_the_network_of_the_source() -> None:
    assert trace(demo(), "shop1", "10.0.1.12").reason.startswith("shop2 got it on compute2: ")
    assert trace(demo(), "web1", "10.0.1.12").reason.startswith("web2 got it on compute2: ")


def test_a_vm_with_several_ports_is_named_by_the_first_or_by_the_port() -> None:
    cloud = golden("several-ports")
    assert trace(cloud, "fw1:eth1", "web1").verdict == "delivered"
    assert trace(cloud, "web1", "fw1").reason.endswith("fw1:eth0 is on blue, web1 on green, and no router joins them")


def test_a_virtual_address_leads_to_a_port_that_may_have_it() -> None:
    journey = trace(golden("allowed-address-pairs"), "nat1", "10.0.1.100")
    assert journey.verdict == "delivered"
    assert journey.legs[1].title == "lb2 answers: 10.0.1.100 is at 00:00:5e:00:01:01"


@pytest.mark.parametrize(("source", "target", "words"), [
    ("wbe1", "web2", "no VM or port named 'wbe1'; did you mean web1?"),
    ("web1", "zzz", "no VM or port named 'zzz'; known: "),
])
def test_an_unknown_name_is_refused_with_the_nearest_one(source: str, target: str, words: str) -> None:
    with pytest.raises(Refusal) as refused:
        trace(demo(), source, target)
    assert words in str(refused.value)
    assert refused.value.code == BAD_INPUT


def numbers(journey: Journey) -> list[tuple[str, int | None, int | None]]:
    """What the frame wears on its way, each time it changes; on a wire there is nothing to wear."""
    found = [(hop.host, hop.vlan, hop.tunnel_id) for hop in journey.legs[2].hops if hop.kind in ("tunnel", "patch")]
    return list(dict.fromkeys(found))


def test_the_numbers_of_the_live_hosts_are_told() -> None:
    seen = {"compute1": replace(placement.imagined(demo(), "compute1"), vlans={"blue": 41, "green": 42}),
            "compute2": Seen(vlans={"blue": 77})}
    assert numbers(trace(demo(), "web1", "web2", seen)) == [
        ("compute1", 41, None), ("compute1", None, 1001), ("compute2", None, 1001), ("compute2", 77, None)]


def test_a_port_that_the_switch_does_not_have_reaches_nobody() -> None:
    whole = placement.imagined(demo(), "compute1")
    device = demo().vms["web1"].ports[0].device
    without = {name: number for name, number in whole.ports["br-int"].items() if name != device}
    seen = {"compute1": Seen({**whole.ports, "br-int": without}, whole.vlans)}
    assert trace(demo(), "web1", "web2", seen).verdict == "dropped"
    assert trace(demo(), "web2", "web1", seen).verdict == "dropped"


def test_json_has_every_hop_with_every_key() -> None:
    document = json.loads(json.dumps(trace(demo(), "web1", "web2").document()))
    assert set(document) == {"verdict", "reason", "source", "target", "service", "legs", "hops", "live"}
    hop_keys, leg_keys = documented("hop"), documented("leg")
    assert {frozenset(hop) for hop in document["hops"]} == {hop_keys}
    assert {frozenset(leg) for leg in document["legs"]} == {leg_keys}
    tables = [hop for hop in document["hops"] if hop["kind"] == "table"]
    assert all(hop["flow"].startswith("table=") for hop in tables)
    assert [hop["packet"] for hop in (document["hops"][0], document["hops"][-1])] == [
        "ARP: who has 10.0.1.12? asks 10.0.1.11", "ICMP echo reply 10.0.1.12 > 10.0.1.11"]
    assert [hop["number"] for hop in document["hops"]] == list(range(len(document["hops"])))
    assert [(leg["part"], leg["sender"], leg["receiver"]) for leg in document["legs"]] == [
        ("question", "web1", "web2"), ("answer", "web2", "web1"), ("request", "web1", "web2"),
        ("reply", "web2", "web1")]


def documented(what: str) -> frozenset[str]:
    """The keys of a hop or a leg, by docs/trace.md."""
    part = (ROOT / "docs" / "trace.md").read_text().partition(f"A **{what}** is")[2].partition("\n\n")[2]
    rows = [line for line in part.partition("\n\n")[0].splitlines() if line.startswith("| `")]
    return frozenset(name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1]))


def test_journeys_of_the_demo_end_as_the_topology_says(seed: int) -> None:
    cloud, dice = demo(), random.Random(seed)
    expected = expected_pairs(cloud)
    for pair in dice.sample(sorted(all_pairs(cloud)), 20):
        assert trace(cloud, *pair).verdict == ("delivered" if pair in expected else "dropped")
    for target in dice.sample(sorted(expected_targets(cloud), key=str), 15):
        if target.source != INTERNET:
            found = trace(cloud, target.source, str(target.address)).verdict
            assert (found != "dropped") == target.expected
            assert found == "delivered" or target.seen_by is None
