"""The tables against the topology: for random clouds, frames reach exactly those whom the oracle names."""
from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations

import pytest

from controller.model.topology import Port, Topology
from controller.tools.simulate import Cloud, Ending
from controller.tools.trace import trace
from flows import fields as f
from flows import packet as packets
from flows.packet import Packet, frame
from tests import oracle
from tests.clouds import CASES, golden, parse
from tests.random_clouds import random_cloud

RUNS = range(18)
DRIVERS = ((), ("simulated",), ("simulated", "namespace"))  # of the routers, in turn; with them come physical networks


@pytest.fixture
def pick(seed: int, request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
def cloud(pick: random.Random, run: int) -> Topology:
    drivers = DRIVERS[run % len(DRIVERS)]
    text = random_cloud(pick, drivers, outside=bool(drivers))
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


@pytest.mark.parametrize("run", RUNS)
def test_a_broadcast_reaches_each_of_its_network_once_and_nobody_else(cloud: Topology, run: int) -> None:
    paper = Cloud(cloud)
    for port in cloud.ports():
        endings = paper.send(port, broadcast(port))
        assert hearers(endings) == sorted(oracle.peers(cloud, port)), port.name
        assert visited(endings) <= oracle.carriers(cloud, port.network)


@pytest.mark.parametrize("run", RUNS)
def test_unicast_reaches_the_wearers_of_the_mac_though_nothing_is_learned(cloud: Topology, run: int) -> None:
    known = {mac for port in cloud.ports() for mac in oracle.macs(port)} | {"fa:16:3e:ff:ff:ff"}
    paper = Cloud(cloud)
    for port in cloud.ports():
        for mac in sorted(known):
            paper.forget()
            endings = paper.send(port, unicast(port, mac))
            assert hearers(endings) == sorted(oracle.hears_unicast(cloud, port, mac)), f"{port.name} to {mac}"
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
            paper.send(other, question if run % 2 else broadcast(other))
            endings = paper.send(one, unicast(one, other.mac))
            assert hearers(endings) == [other.name]
            if cloud.networks[one.network].physical_network is None:
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
            speech = packets.udp((mac, address), (f.BROADCAST, "ff02::1" if ":" in address else "255.255.255.255"),
                                 (4000, 4000))
            expected = sorted(oracle.peers(cloud, port)) if oracle.may_send(port, mac, address) else []
            assert hearers(paper.send(port, speech)) == expected, f"{port.name} as {mac} {address}"
            assert hearers(paper.send(port, claim)) == expected, f"{port.name} claims {mac} {address}"


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
