"""Networks without tunnels: VLANs and flat segments of physical networks, by provider bridges, and routers on them."""
from __future__ import annotations

from collections.abc import Iterator

import pytest
from labkit import Cloud, Sniffer, cloud
from routedkit import DRIVERS, FAR, MTU_INSIDE, MTU_OUTSIDE, IcmpError, carried, icmp_error, say, traceroute

pytestmark = pytest.mark.system

# Two VLANs on one physical network, one of them the outside; a flat segment on another; a tenant's overlay network.
TOPOLOGY = """
cloud: provider
underlay: {cidr: 192.0.2.0/24}
hosts:
  c1: {tunnel_ip: 192.0.2.11}
  c2: {tunnel_ip: 192.0.2.12, bridge_mappings: {wires: br-wires2}}
  n1: {tunnel_ip: 192.0.2.21, role: network}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  campus:
    physical_network: wires
    network_type: vlan
    segmentation_id: 100
    subnets: {campus-subnet: {cidr: 10.1.0.0/24, gateway: 10.1.0.1}}
  garden:
    physical_network: wires
    network_type: vlan
    segmentation_id: 200
    subnets: {garden-subnet: {cidr: 10.1.0.0/24, gateway: 10.1.0.1}}
  plant:
    physical_network: floor
    network_type: flat
    subnets: {plant-subnet: {cidr: 10.2.0.0/24, gateway: 10.2.0.1}}
  public:
    external: true
    physical_network: wires
    network_type: vlan
    segmentation_id: 300
    subnets: {public-subnet: {cidr: 203.0.113.0/24, gateway: 203.0.113.1}}
routers:
  r1:
    host: n1
    driver: %s
    interfaces: [blue-subnet, campus-subnet]
    gateway: {network: public, ip: 203.0.113.10}
vms:
  blue1: {host: c1, network: blue, ip: 10.0.1.11}
  campus1: {host: c1, network: campus, ip: 10.1.0.11}
  campus2: {host: c2, network: campus, ip: 10.1.0.12}
  campus3: {host: n1, network: campus, ip: 10.1.0.13}
  garden1: {host: c1, network: garden, ip: 10.1.0.11}
  garden2: {host: c2, network: garden, ip: 10.1.0.12}
  plant1: {host: c1, network: plant, ip: 10.2.0.11}
  plant2: {host: c2, network: plant, ip: 10.2.0.12}
floating_ips:
  203.0.113.50: {vm: blue1, network: blue}
"""


@pytest.fixture(scope="module", params=DRIVERS)
def provider(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    with cloud(TOPOLOGY % request.param) as running:
        yield running


def uplink(provider: Cloud, host: str, bridge: str) -> Sniffer:
    """The network card of a provider bridge."""
    ports = provider.run(host, "ovs-vsctl", "list-ports", bridge).split()
    (card,) = (port for port in ports if not port.startswith("phy-"))
    return provider.sniff(host, card)


def tag(frame: bytes) -> int | None:
    """The VLAN that a frame wears."""
    return int.from_bytes(frame[14:16], "big") & 0xFFF if frame[12:14] == b"\x81\x00" else None


def test_a_vlan_network_leaves_the_host_with_its_segment_as_its_tag_and_in_no_tunnel(provider: Cloud) -> None:
    wire, tunnels = uplink(provider, "c1", "br-wires"), provider.sniff_underlay("c1")
    assert say(provider, "campus1", "campus2", "10.1.0.12", b"of-campus") == ("10.1.0.11", "10.1.0.12")
    assert say(provider, "garden1", "garden2", "10.1.0.12", b"of-garden") == ("10.1.0.11", "10.1.0.12")
    # The kernel takes the tag off what comes in; what goes out still wears it.
    assert {tag(frame) for frame in wire.with_token(b"of-campus")} - {None} == {100}
    assert {tag(frame) for frame in wire.with_token(b"of-garden")} - {None} == {200}
    assert not tunnels.with_token(b"of-campus")
    assert provider.vlan("c1", "campus") != 100 or provider.vlan("c2", "campus") != 100, "the local VLAN is another"


def test_a_flat_network_leaves_the_host_untagged(provider: Cloud) -> None:
    wire = uplink(provider, "c1", "br-floor")
    assert say(provider, "plant1", "plant2", "10.2.0.12", b"of-plant") == ("10.2.0.11", "10.2.0.12")
    found = wire.with_token(b"of-plant")
    assert len(found) == 2
    assert {tag(frame) for frame in found} == {None}


def test_two_vlans_of_one_wire_never_meet(provider: Cloud) -> None:
    seen = {vm: provider.sniff(vm) for vm in ("campus2", "garden2", "plant2")}
    assert say(provider, "campus1", "campus2", "10.1.0.12", b"for-campus") == ("10.1.0.11", "10.1.0.12")
    provider.run("garden1", "ping", "-n", "-c", "1", "-W", "1", "-p", "6761726465", "10.1.0.12")
    assert seen["garden2"].with_token(b"garde")
    assert not seen["garden2"].with_token(b"for-campus")
    assert not seen["campus2"].with_token(b"garde")
    assert not seen["plant2"].with_token(b"garde") + seen["plant2"].with_token(b"for-campus")


def test_a_router_joins_the_overlay_and_a_vlan(provider: Cloud) -> None:
    tunnels = provider.sniff_underlay("c1")
    for vm, address in (("campus1", "10.1.0.11"), ("campus2", "10.1.0.12"), ("campus3", "10.1.0.13")):
        token = f"blue-to-{vm}".encode()
        assert say(provider, "blue1", vm, address, token) == ("10.0.1.11", address)
        assert {one.tunnel_id for one in carried(tunnels, token)} == {1001}
        assert traceroute(provider, vm, "10.0.1.11") == ["10.1.0.1", "10.0.1.11"]


def test_who_sends_too_large_a_packet_into_the_overlay_is_told_its_mtu_by_the_own_gateway(provider: Cloud) -> None:
    assert f"mtu {MTU_OUTSIDE} " in provider.run("campus2", "ip", "link", "show", "eth0")
    assert icmp_error(provider, "campus2", "10.0.1.11", size=MTU_OUTSIDE, fragment=False) == IcmpError(
        "10.1.0.1", 3, 4, MTU_INSIDE)
    assert icmp_error(provider, "campus2", "10.0.1.11", size=MTU_INSIDE, fragment=False) == IcmpError(
        "10.0.1.11", 3, 3, 0)


def test_the_outside_may_be_a_vlan_too(provider: Cloud) -> None:
    wire = uplink(provider, "n1", "br-wires")
    assert say(provider, "campus1", "internet", FAR, b"by-a-vlan") == ("203.0.113.10", FAR)
    assert say(provider, "blue1", "internet", FAR, b"by-a-floating") == ("203.0.113.50", FAR)
    assert provider.pings("internet", "203.0.113.50", count=2)
    assert 300 in {tag(frame) for frame in wire.with_token(b"by-a-vlan")}


def test_a_host_has_the_bridges_of_the_physical_networks_that_it_carries(provider: Cloud) -> None:
    bridges = {host: set(provider.run(host, "ovs-vsctl", "list-br").split()) - {"br-phy"}
               for host in provider.topology.hosts}
    assert bridges == {"c1": {"br-int", "br-tun", "br-wires", "br-floor"},
                       "c2": {"br-int", "br-tun", "br-wires2", "br-floor"},
                       "n1": {"br-int", "br-tun", "br-wires"}}


def test_the_host_outside_of_the_router_answers_on_a_flat_network(provider: Cloud) -> None:
    """Nobody routes for it but the outside, which has the gateway's address there."""
    assert provider.pings("plant1", "10.2.0.1", count=2)
