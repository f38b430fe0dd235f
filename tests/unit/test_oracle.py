"""The tables against the topology: for random clouds, frames reach exactly those whom the oracle names."""
from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from itertools import permutations

import pytest

from controller.model.topology import Port, Topology
from controller.tools.simulate import Cloud
from controller.tools.stops import Ending
from controller.tools.trace import trace
from flows import fields as f
from flows import packet as packets
from flows.packet import Packet, frame
from tests import edge_packets, oracle
from tests.clouds import CASES, golden, parse
from tests.random_clouds import random_cloud

RUNS = range(8)
DRIVERS = ((), ("simulated",), ("simulated", "namespace"))  # of the routers, in turn; with them come physical networks
FIREWALLS = ("", "openvswitch", "iptables_hybrid")  # with groups and DHCP, but for the first


@pytest.fixture
def pick(seed: int, request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
def cloud(pick: random.Random, run: int) -> Topology:
    drivers = DRIVERS[run % len(DRIVERS)]
    text = random_cloud(pick, drivers, outside=bool(drivers), edge=FIREWALLS[run // len(DRIVERS) % len(FIREWALLS)])
    print(text)  # shown only if the test fails
    return parse(text)


def hearers(endings: Iterable[Ending]) -> list[str]:
    return sorted(ending.port.name for ending in endings if ending.port)


def visited(endings: Iterable[Ending]) -> set[str]:
    return {stop.host for ending in endings for stop in ending.stop.way}


def broadcast(port: Port) -> Packet:
    """A datagram to all: no ARP, so that no responder answers it."""
    return packets.udp((port.mac, port.ip), (f.BROADCAST, "255.255.255.255"), (4000, 4000))


def unicast(port: Port, mac: str) -> Packet:
    return packets.icmp_echo((port.mac, port.ip), (mac, "10.0.1.250"))


def datagram(source: Port | str, target: str) -> edge_packets.Packet:
    """The same datagram to all for the oracle."""
    one = source.ip if isinstance(source, Port) else ip_address(source)
    return edge_packets.Packet(edge_packets.UDP, one, ip_address(target), 4000, 4000)


def echo(port: Port) -> edge_packets.Packet:
    return edge_packets.Packet(edge_packets.ICMP, port.ip, ip_address("10.0.1.250"), icmp_type=8)


@pytest.mark.parametrize("run", RUNS)
def test_a_broadcast_reaches_each_of_its_network_once_and_nobody_else(cloud: Topology, run: int) -> None:
    paper = Cloud(cloud)
    for port in cloud.ports():
        endings = paper.send(port, broadcast(port))
        heard = oracle.peers(cloud, port, datagram(port, "255.255.255.255"))
        assert hearers(endings) == sorted(heard), port.name
        assert visited(endings) <= oracle.carriers(cloud, port.network)


@pytest.mark.parametrize("run", RUNS)
def test_unicast_reaches_the_wearers_of_the_mac_though_nothing_is_learned(cloud: Topology, run: int) -> None:
    known = {mac for port in cloud.ports() for mac in oracle.macs(port)} | {"fa:16:3e:ff:ff:ff"}
    paper = Cloud(cloud)
    for port in cloud.ports():
        for mac in sorted(known):
            paper.forget()
            endings = paper.send(port, unicast(port, mac))
            heard = oracle.hears_unicast(cloud, port, mac, echo(port))
            assert hearers(endings) == sorted(heard), f"{port.name} to {mac}"
            assert visited(endings) <= oracle.carriers(cloud, port.network)


@pytest.mark.parametrize("run", RUNS)
def test_after_a_first_exchange_unicast_visits_two_hosts_and_no_third(cloud: Topology, run: int) -> None:
    paper = Cloud(cloud)
    for one in cloud.ports():
        for other in (port for port in cloud.ports() if port.network == one.network and port != one):
            shared = [port.name for port in cloud.ports() if port.network == one.network
                      and other.mac in oracle.macs(port)]
            assert shared == [other.name]  # the random clouds share virtual MACs only
            paper.forget()
            question = packets.arp_request(other.mac, other.ip, "10.0.1.250")  # nobody's address: no responder knows it
            paper.send(other, question if run % 2 or cloud.firewall != "none" else broadcast(other))
            endings = paper.send(one, unicast(one, other.mac))
            heard = oracle.pass_groups(cloud, one, {other.name}, echo(one))
            assert hearers(endings) == sorted(heard)
            if heard and cloud.networks[one.network].physical_network is None:
                assert visited(endings) == {one.host, other.host}


@pytest.mark.parametrize("run", RUNS)
def test_a_ping_arrives_exactly_where_the_topology_lets_it(cloud: Topology, pick: random.Random, run: int) -> None:
    pairs = list(permutations(cloud.ports(), 2))
    for one, other in pick.sample(pairs, min(12, len(pairs))):
        assert (trace(cloud, one.name, other.name).verdict == "delivered") == oracle.reaches(cloud, one, other)


@pytest.mark.parametrize("run", RUNS)
def test_a_port_speaks_with_its_own_addresses_only(cloud: Topology, pick: random.Random, run: int) -> None:
    paper = Cloud(cloud)
    macs = sorted({mac for port in cloud.ports() for mac in oracle.macs(port)} | {"fa:16:3e:ff:ff:ff"})
    addresses = [*(str(port.ip) for port in cloud.ports()), "10.0.1.200", "10.0.1.201", "10.0.1.202", "198.51.100.7",
                 "203.0.113.1", "2001:db8::7", "2001:db9::7"]
    for port in cloud.ports():
        for _ in range(12):
            mac, address = pick.choice([port.mac, *macs]), pick.choice([str(port.ip), *addresses])
            claim = _claim(mac, address)
            everybody = "ff02::1" if ":" in address else "255.255.255.255"
            speech = packets.udp((mac, address), (f.BROADCAST, everybody), (4000, 4000))
            may = oracle.may_send(port, mac, address)
            heard = oracle.peers(cloud, port, datagram(address, everybody))
            assert hearers(paper.send(port, speech)) == sorted(heard if may else ()), f"{port.name} as {mac} {address}"
            assert hearers(paper.send(port, claim)) == sorted(oracle.peers(cloud, port) if may else ()), \
                f"{port.name} claims {mac} {address}"


def _claim(mac: str, address: str) -> Packet:
    """An announcement of an address to all, as an answer that nobody asked for; no responder answers it."""
    if ":" not in address:
        return packets.arp_reply(mac, address, f.BROADCAST, address)
    return packets.neighbour_advertisement(mac, address, "33:33:00:00:00:01", "ff02::1")


@pytest.mark.parametrize("run", RUNS)
def test_a_tagged_frame_reaches_nobody(cloud: Topology, pick: random.Random, run: int) -> None:
    paper = Cloud(cloud)
    for port in cloud.ports():
        for vlan in (0, 1, 2, 3, 4095):
            packet = broadcast(port).with_(vlan_vid=f.VLAN_PRESENT | vlan)
            assert paper.send(port, packet)[0].port is None
            assert hearers(paper.send(port, packet.pushed())) == []


@pytest.mark.parametrize("run", RUNS)
def test_a_port_that_the_topology_does_not_know_reaches_nobody(cloud: Topology, run: int) -> None:
    """A port of the same name on another host, which does not have it."""
    for port in cloud.ports():
        for host in set(cloud.hosts) - {port.host}:
            stray = replace(port, host=host)
            assert hearers(Cloud(cloud).send(stray, broadcast(port))) == []


@pytest.mark.parametrize("case", CASES)
def test_in_the_golden_clouds_too_a_broadcast_stays_in_its_network(case: str) -> None:
    cloud = golden(case)
    paper = Cloud(cloud)
    for port in cloud.ports():
        packet = frame(port.mac, f.BROADCAST, f.RARP)
        endings = paper.send(port, packet)
        assert hearers(endings) == sorted(oracle.peers(cloud, port))
        assert visited(endings) <= oracle.carriers(cloud, port.network)
