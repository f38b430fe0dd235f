"""What a trace says of each packet beside its way: changes, tracking, what it teaches, who else got it; and trees."""
from __future__ import annotations

import random

import pytest

from controller.model import reading
from controller.model.reachability import all_pairs
from controller.model.topology import Topology
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.journey import Hop, Journey, Leg
from controller.tools.lookups import line_of
from controller.tools.simulate import Cloud
from controller.tools.trace import service, story, trace
from flows import packet as packets
from tests.clouds import ROOT, golden
from tests.edge_clouds import sketch
from tests.random_clouds import random_cloud
from tests.wideclouds import wide

DEMO = (ROOT / "topology.yaml").read_text()


@pytest.fixture(scope="module")
def demo() -> Topology:
    found = reading.parse(DEMO, "topology.yaml").topology
    assert found is not None
    return found


def changed(leg: Leg, header: str) -> list[tuple[str | None, str | None]]:
    return [(one.before, one.after) for _, changes in leg.changed() for one in changes if one.header == header]


def table(leg: Leg, name: str) -> Hop:
    return next(hop for hop in leg.hops if hop.table == name)


def test_each_header_that_changes_is_said_where_it_changes(demo: Topology) -> None:
    request = trace(demo, "db1", "internet").legs[2]
    assert changed(request, "vlan") == [(None, "1"), ("1", None), (None, "1"), ("1", None), (None, "5"), ("5", None)]
    assert changed(request, "tunnel_id") == [(None, "1001"), ("1001", None)]
    assert changed(request, "ttl") == [("64", "63")]
    assert changed(request, "ip_src") == [("10.0.1.13", "203.0.113.10")]
    assert [before for before, _ in changed(request, "eth_src")] == [demo.vms["db1"].ports[0].mac]


def test_connection_tracking_and_translation_are_told(demo: Topology) -> None:
    _, _, request, reply = trace(demo, "db1", "internet").legs
    there = [hop.said.tracked for hop in request.hops if hop.said and hop.said.tracked]
    assert [(one.state, one.commit) for one in there] == [(("new", "trk"), False), (("new", "trk", "snat"), True)]
    assert there[1].translation == "source 10.0.1.13 becomes 203.0.113.10"
    (back,) = [hop.said.tracked for hop in reply.hops if hop.said and hop.said.tracked]
    assert "rpl" in back.state
    assert back.translation == "destination 203.0.113.10 becomes 10.0.1.13"


def test_the_answer_goes_the_same_way_back(demo: Topology) -> None:
    _, _, request, reply = trace(demo, "web1", "web2").legs
    there, back = ([(hop.host, hop.device) for hop in leg.hops if hop.owner] for leg in (request, reply))
    assert len(there) == 10
    assert back == there[::-1]
    assert (reply.sender, reply.receiver, reply.outcome) == ("web2", "web1", "arrived")


def test_an_answer_that_is_lost_is_followed_to_where_it_is(demo: Topology) -> None:
    text = DEMO.replace("    interfaces: [blue-subnet, blue-data-subnet]", "    interfaces: [blue-subnet]")
    cloud = reading.parse(text, "topology.yaml").topology
    assert cloud is not None
    journey = trace(cloud, "store1", "web1")
    assert journey.verdict == "dropped"
    assert journey.legs[-1].outcome == "dropped"


def test_what_switches_learn_is_said_of_the_packet_and_of_the_table(demo: Topology) -> None:
    question, answer, *_ = trace(demo, "web1", "web2").legs
    assert sorted({one.host for one in question.learned}) == ["compute2", "network1"]
    assert {one.host for one in answer.learned} == {"compute1"}
    said = table(question, "learn").said
    assert said and [flow.why for flow in said.learned] == [
        f"{demo.vms['web1'].ports[0].mac} was last seen behind this tunnel"]
    assert said.outputs == ("patch-int",)


def test_the_first_frame_floods_and_the_second_goes_to_one_host(demo: Topology) -> None:
    journey = trace(demo, "shop1", "203.0.113.50", packets=2)
    first, second = (leg for leg in journey.legs if leg.part == "request")
    assert first.aside == "It was flooded to 2 hosts: compute1, compute2."
    assert second.aside == ""
    assert second.title == "shop1 pings 203.0.113.50 again"
    assert [leg.round for leg in journey.legs] == [1, 1, 1, 1, 2, 2]
    assert not any(hop.table == "flood" for hop in second.hops)


def test_a_second_packet_belongs_to_a_known_connection() -> None:
    cloud = reading.parse(DEMO.replace("iptables_hybrid", "openvswitch", 1), "topology.yaml").topology
    assert cloud is not None
    journey = trace(cloud, "web1", "db1", service=service(5432, None), packets=2)
    first, second = ([one.state for hop in leg.hops if hop.said and (one := hop.said.tracked) and one.state]
                     for leg in journey.legs if leg.part == "request")
    assert all("new" in state for state in first)
    assert all("est" in state for state in second)


# ---- broadcasts

def test_a_broadcast_is_a_tree_whose_leaves_are_all_of_its_network(demo: Topology) -> None:
    journey = trace(demo, "web1", "broadcast")
    (leg,) = journey.legs
    ends = {hop.owner for place, hop in enumerate(leg.hops)
            if hop.kind == "vm" and not any(other.after == place for other in leg.hops)}
    assert ends == {"db1", "web2", "web3"}
    assert set(leg.reached) == {"DHCP of blue", *ends}
    assert any(hop.kind == "dhcp" and hop.device.startswith("qdhcp-") for hop in leg.hops)
    assert leg.is_tree
    assert all(hop.after is None or hop.after < place for place, hop in enumerate(leg.hops))
    assert sum(hop.table == "flood" for hop in leg.hops) == 1, "what copies have in common is there once"
    assert journey.reason == "DHCP of blue, db1, web2, web3 got it; 2 copies between hosts, and on blue alone"
    assert any("├─ " in line for line in story(journey))


def test_broadcasts_of_other_kinds(demo: Topology) -> None:
    ping = trace(demo, "web1", "broadcast", service=service(None, None))
    assert str(ping.legs[0].hops[0].wears) == "ICMP echo request 10.0.1.11 > 255.255.255.255"
    assert trace(demo, "web1", "broadcast", service=service(None, 67)).service == "udp 67"
    with pytest.raises(Refusal, match="TCP has no broadcast") as refused:
        trace(demo, "web1", "broadcast", service=service(80, None))
    assert refused.value.code == BAD_INPUT
    six = trace(golden("ipv6"), "six1", "broadcast")
    assert set(six.legs[0].reached) == {"six2", "dual1"}


@pytest.mark.parametrize("seed_", range(3))
def test_a_broadcast_reaches_its_network_and_nobody_else(seed: int, seed_: int) -> None:
    pick = random.Random(f"{seed} {seed_}")
    cloud = None
    while cloud is None or not any(cloud.ports()):
        cloud = reading.parse(random_cloud(pick, ("simulated", "namespace"), outside=True), "topology.yaml").topology
    for source in pick.sample(sorted(cloud.ports(), key=lambda port: port.name), min(3, len(list(cloud.ports())))):
        mates = {port.name for port in cloud.ports_by_network[source.network]} - {source.name}
        assert {name for leg in trace(cloud, source.name, "broadcast").legs for name in leg.reached
                if name in {port.name for port in cloud.ports()}} == mates


# ---- where a flow comes from, and how much is computed

def test_the_cause_of_each_flow_is_named_with_its_line(demo: Topology) -> None:
    lines = DEMO.splitlines()
    said = table(trace(demo, "web1", "web2").legs[0], "classify").said
    assert said and said.row and said.row.flow.origin == "vms.web1"
    assert said.row.line is not None and lines[said.row.line - 1].lstrip().startswith("web1:")
    assert line_of(demo, "pipeline") is None
    for origin, begins in (("networks.blue", "blue:"), ("routers.r1.gateway", "r1:"), ("hosts.compute1", "compute1:")):
        line = line_of(demo, origin)
        assert line is not None and lines[line - 1].lstrip().startswith(begins)


def answers(cloud: Topology, pairs: list[tuple[str, str]], *, whole: bool) -> list[object]:
    ports, simulated = {port.name: port for port in cloud.ports()}, Cloud(cloud, whole=whole)
    found: list[object] = []
    for source, target in pairs:
        one, other = ports[source], ports[target]
        if one.ip.version == other.ip.version == 4:
            for packet in (packets.arp_request(one.mac, one.ip, other.ip),
                           packets.icmp_echo((one.mac, one.ip), (other.mac, other.ip))):
                found.append([(end.port and end.port.name, end.outside, str(end.packet), end.stop.host)
                              for end in simulated.send(one, packet)])
    return found


@pytest.mark.parametrize("firewall", ["iptables_hybrid", "openvswitch"])
def test_what_a_packet_does_not_meet_need_not_be_compiled(seed: int, firewall: str) -> None:
    pick = random.Random(seed)
    cloud = None
    while cloud is None:
        cloud = sketch(pick, firewall).topology()
    pairs = list(all_pairs(cloud))
    chosen = pick.sample(pairs, min(12, len(pairs)))
    assert answers(cloud, chosen, whole=False) == answers(cloud, chosen, whole=True)


def test_in_a_large_cloud_each_host_on_the_way_compiles_one_network() -> None:
    cloud = wide(200, 2000, forwarding="l2population", firewall="iptables_hybrid")
    simulated = Cloud(cloud)
    port = cloud.vms["vm1"].ports[0]
    simulated.send(port, packets.arp_request(port.mac, port.ip, cloud.vms["vm2"].ports[0].ip))
    assert simulated.compiled() == dict.fromkeys({one.host for one in cloud.ports_by_network[port.network]}, 1)


def test_of_many_names_some_are_said() -> None:
    cloud = wide(30, 60, size=30, forwarding="learning", firewall="none")
    question = trace(cloud, "vm1", "vm2").legs[0]
    assert question.aside.count("and 20 more") == 1
    assert question.aside.count("and 21 more") == 1
    with pytest.raises(Refusal, match="known: vm0, vm1, vm10, vm11, vm12, vm13, vm14, vm15 and 52 more"):
        trace(cloud, "vm1", "???")


def test_journeys_are_plain_values(demo: Topology) -> None:
    one, other = (trace(demo, "web1", "store1", packets=2).document() for _ in range(2))
    assert one == other
    assert Journey("dropped", "", ()).document()["hops"] == []
