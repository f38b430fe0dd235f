"""Routers and physical networks as numbers of a host: legs, zones, meters, neighbours, provider bridges."""
from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from uuid import UUID

import pytest

from controller.model import numbers, placement
from controller.model.placement import Seen, imagined, place
from controller.model.topology import Topology
from flows import host as narrow
from flows import router as hop
from flows.router import FloatingIp, Gateway, Route
from tests.clouds import parse

CLOUD = """
cloud: test
underlay: {cidr: 192.0.2.0/24}
hosts:
  compute1: {tunnel_ip: 192.0.2.11}
  network1: {tunnel_ip: 192.0.2.21, role: network}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-a: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}, blue-b: {cidr: 10.0.2.0/24}}}
  green: {tunnel_id: 1002, subnets: {green-a: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  public: {external: true, subnets: {public-a: {cidr: 203.0.113.0/24, gateway: 203.0.113.1}}}
  dc: {physical_network: dc, segmentation_id: 101, subnets: {dc-a: {cidr: 10.9.0.0/24}}}
routers:
  r1:
    host: network1
    interfaces: [blue-a, {subnet: blue-b, ip: 10.0.2.1}]
    gateway: {network: public, ip: 203.0.113.10}
    routes: [{destination: 198.51.100.0/24, nexthop: 10.0.1.50}]
  r2: {host: network1, driver: namespace, interfaces: [green-a], gateway: {network: public, ip: 203.0.113.20, snat: no}}
  r3: {host: network1, interfaces: [], gateway: {network: public}}
floating_ips:
  203.0.113.50: {vm: web1}
  203.0.113.51: {vm: shop1}
vms:
  web1: {host: compute1, network: blue, ip: 10.0.1.11}
  web2: {host: network1, network: blue, ip: 10.0.2.12}
  lb1: {host: compute1, network: blue, ip: 10.0.1.13, allowed_address_pairs: [{ip: 10.0.1.14}, {ip: 10.0.1.15/32}]}
  lb2: {host: compute1, network: blue, ip: 10.0.1.14}
  fw1: {host: compute1, network: blue, ip: 10.0.1.50, port_security: false}
  shop1: {host: compute1, network: green, ip: 10.0.1.11}
  old1: {host: compute1, network: dc, ip: 10.9.0.11}
"""


def cloud(text: str = CLOUD) -> Topology:
    return parse(text)


def placed(topology: Topology, host: str) -> narrow.Host:
    return place(topology, host, imagined(topology, host))


def only(topology: Topology, name: str) -> narrow.SimulatedRouter:
    return placement.place_router(topology, "network1", name, imagined(topology, "network1"))


def test_a_host_carries_the_networks_of_its_routers_and_of_its_provider_vms() -> None:
    found = cloud()
    assert [each.name for each in placement.carried(found, "network1")] == ["blue", "green", "public"]
    assert [each.name for each in placement.carried(found, "compute1")] == ["blue", "dc", "green"]
    assert placement.carriers(found, "blue") == ["compute1", "network1"]
    assert placement.carriers(found, "public") == ["network1"]


def test_a_host_has_the_provider_bridges_that_it_needs_and_no_others() -> None:
    hosts = cloud().hosts
    assert hosts["network1"].bridge_mappings == {"external": "br-ex"}
    assert list(hosts["network1"].datapath_ids) == ["br-int", "br-tun", "br-ex"]
    assert hosts["compute1"].bridge_mappings == {"dc": "br-dc"}


def test_legs_of_another_host_are_neighbours_and_those_of_a_namespace_are_devices() -> None:
    found = cloud()
    legs = found.legs_by_router
    blue = next(net for net in placed(found, "compute1").networks if net.name == "blue")
    r1 = [one for one in blue.neighbours if one.name.startswith("r1 ")]
    assert [(one.mac, str(one.address), one.remote, one.secured) for one in r1] == [
        (legs["r1"][0].mac, "10.0.1.1", "network1", True), (legs["r1"][1].mac, "10.0.2.1", "network1", True)]
    nets = {net.name: net for net in placed(found, "network1").networks}
    assert [(one.name, one.mac) for one in nets["green"].devices] == [("r2 on green-a", legs["r2"][0].mac)]
    assert [one.name for one in nets["public"].devices] == ["r2 on public-a"]
    assert nets["blue"].devices == ()


def test_a_device_that_the_switch_does_not_have_is_left_out() -> None:
    network = placement.place_network(cloud(), "network1", "green", Seen({}, {"green": 1}))
    assert (network.devices, network.tunnels) == ((), ())


def test_a_provider_network_has_a_segment_and_no_tunnels() -> None:
    found = cloud()
    public = next(net for net in placed(found, "network1").networks if net.name == "public")
    bridge = narrow.ProviderBridge("br-ex", int_port=5, phy_port=1, uplinks=(2,), local=None)
    assert (public.tunnel_id, public.tunnels, public.segment) == (None, (), narrow.Segment(bridge, None))
    dc = next(net for net in placed(found, "compute1").networks if net.name == "dc")
    assert dc.segment is not None and dc.segment.vlan == 101
    assert placed(found, "network1").providers == (bridge,)


def test_all_ports_of_a_provider_bridge_but_the_patch_and_its_own_are_uplinks() -> None:
    seen = Seen({"br-ex": {"br-ex": 0xFFFFFFFE, "phy-br-ex": 4, "eth2": 7, "eth1": 5}})
    assert placement.place_provider("br-ex", seen) == narrow.ProviderBridge("br-ex", None, 4, (5, 7), 0xFFFFFFFE)


def test_a_simulated_router_is_the_hop_and_its_numbers() -> None:
    found = cloud()
    router, legs = only(found, "r1"), found.legs_by_router["r1"]
    assert [leg.device[:3] for leg in legs] == ["qr-", "qr-", "qg-"]
    assert [(leg.name, leg.mac, leg.addresses, leg.mtu) for leg in router.router.legs] == [
        (legs[0].device, legs[0].mac, (IPv4Interface("10.0.1.1/24"),), 1450),
        (legs[1].device, legs[1].mac, (IPv4Interface("10.0.2.1/24"),), 1450),
        (legs[2].device, legs[2].mac, (IPv4Interface("203.0.113.10/24"),), 1500)]
    assert router.router.gateway == Gateway(legs[2].device, IPv4Address("203.0.113.1"), snat=True)
    assert router.router.routes == (Route(IPv4Network("198.51.100.0/24"), IPv4Address("10.0.1.50")),)
    assert router.router.floating_ips == (FloatingIp(IPv4Address("203.0.113.50"), IPv4Address("10.0.1.11")),)
    assert (router.number, router.hairpin_zone) == (router.zone, router.zone + 1)
    assert router.zone >= 0x8000 and router.zone % 2 == 0
    assert [(leg.name, leg.network, leg.what) for leg in router.legs] == [
        (legs[0].device, "blue", "r1 on blue-a"), (legs[1].device, "blue", "r1 on blue-b"),
        (legs[2].device, "public", "r1 on public-a")]
    assert len({leg.number for leg in router.legs} | {0}) == 4


def test_neighbours_are_fixed_where_nobody_else_may_have_their_address() -> None:
    router = only(cloud(), "r1")
    first, second, outside = (leg.name for leg in router.legs)
    assert {(one.name, str(one.address)): one.fixed for one in router.neighbours if one.leg == first} == {
        ("web1", "10.0.1.11"): True, ("web2", "10.0.2.12"): False, ("lb1", "10.0.1.13"): True,
        ("lb2", "10.0.1.14"): False, ("fw1", "10.0.1.50"): False,
        ("lb1", "10.0.1.14"): False, ("lb1", "10.0.1.15"): False}  # what it may use beside its own
    assert [one.name for one in router.neighbours if one.leg == second and one.fixed] == ["web2"]
    assert not [one for one in router.neighbours if one.leg == outside]
    assert set(router.router.known) == {(one.leg, one.address, one.mac) for one in router.neighbours if one.fixed}
    web1 = {one.meter for one in router.neighbours if one.name == "web1"}
    assert len(web1) == 1
    assert not web1 & {leg.meter for leg in router.legs}


def test_other_simulated_routers_of_the_host_are_known_as_nobody_could_ask_them() -> None:
    router = only(cloud(CLOUD.replace("driver: namespace, ", "")), "r1")
    assert [(one.name, str(one.address), one.fixed) for one in router.neighbours
            if one.leg == router.legs[2].name] == [
        ("r2 on public-a", "203.0.113.20", True), ("r2 for shop1", "203.0.113.51", True)]


def test_a_pair_with_another_mac_contests_a_ports_own_address() -> None:
    pairs = 'allowed_address_pairs: [{ip: 10.0.2.12, mac: "00:00:5e:00:01:01"}]'
    text = CLOUD.replace("ip: 10.0.2.12}", f"ip: 10.0.2.12, {pairs}}}")
    assert not [one for one in only(cloud(text), "r1").neighbours if one.name == "web2" and one.fixed]


def test_a_router_without_an_interface_is_nowhere() -> None:
    found = cloud()
    assert "r3" not in found.legs_by_router
    assert placement.simulated(found, "network1") == ["r1"]
    with pytest.raises(ValueError, match="router r3 is not simulated on host network1"):
        only(found, "r3")


def test_a_host_that_has_just_been_built_has_the_devices_of_its_routers_and_bridges() -> None:
    found = cloud()
    ports = imagined(found, "network1").ports
    legs = [leg.device for leg in found.legs_by_router["r2"]]
    assert list(ports["br-int"]) == ["patch-tun", found.vms["web2"].ports[0].device, *sorted(legs), "int-br-ex"]
    assert list(ports["br-ex"]) == ["phy-br-ex", "uplink"]
    assert "br-ex" not in imagined(found, "compute1").ports


def test_who_comes_or_goes_renumbers_no_other_unless_they_collide() -> None:
    ids = [UUID(int=n * 7919) for n in range(2000)]
    before, after = numbers.spread(ids, 65535), numbers.spread([*ids, UUID(int=1)], 65535)
    assert len(set(before.values())) == len(ids)
    assert sum(before[each] != after[each] for each in ids) <= 1
    without = numbers.spread(ids[1:], 65535)
    assert sum(before[each] != without[each] for each in ids[1:]) <= 1


def test_numbers_run_out_without_running_over() -> None:
    assert len(numbers.spread([UUID(int=n) for n in range(20)], 16)) == 16
    legs = [UUID(int=n) for n in range(numbers.LEGS + 1)]
    with pytest.raises(numbers.NumbersExhausted):
        numbers.number([], legs, [])
    few = numbers.number([], legs[:3], [])
    assert all(1 <= each <= 0xFFFF for each in few.legs.values())


def test_all_numbers_of_a_host_differ() -> None:
    text = CLOUD.replace("driver: namespace, ", "")
    one, two = only(cloud(text), "r1"), only(cloud(text), "r2")
    assert len({one.zone, one.hairpin_zone, two.zone, two.hairpin_zone}) == 4
    legs = [leg.number for router in (one, two) for leg in router.legs]
    assert len(set(legs)) == len(legs) == 5
    assert only(cloud(CLOUD), "r1").zone == one.zone
    assert isinstance(two.router, hop.Router) and two.router.gateway is not None and not two.router.gateway.snat
