"""Routers and physical networks as values: what a valid file says of them, with every default filled in."""
from __future__ import annotations

import hashlib
from ipaddress import ip_address

import pytest

from controller.model import names
from controller.model.topology import Topology
from tests.clouds import parse

HEAD = """
cloud: test
underlay: {cidr: 192.0.2.0/24}
hosts:
  compute1: {tunnel_ip: 192.0.2.11, bridge_mappings: {dc: br-data}, datapath_ids: {br-data: "d1", br-int: "a1"}}
  network1: {tunnel_ip: 192.0.2.21, role: network, bridge_mappings: {dc: br-data, external: br-out}}
  spare1: {tunnel_ip: 192.0.2.31, role: network}
networks:
  blue: {tunnel_id: 1, subnets: {blue-a: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  dc: {physical_network: dc, segmentation_id: 7, subnets: {dc-a: {cidr: 10.9.0.0/24}}}
  flat: {physical_network: lan, subnets: {flat-a: {cidr: 10.8.0.0/24}}}
  public:
    external: true
    subnets: {public-6: {cidr: "2001:db8::/64"}, public-a: {cidr: 203.0.113.0/24, gateway: 203.0.113.1}}
  both: {external: true, tunnel_id: 9, physical_network: dc, subnets: {both-a: {cidr: 10.7.0.0/24}}}
vms:
  web1: {host: compute1, network: blue, ip: 10.0.1.11}
  db1: {host: compute1, network: dc, ip: 10.9.0.11}
  lan1: {host: spare1, network: flat, ip: 10.8.0.11}
"""
ROUTERS = """
routers:
  r1: {host: network1, interfaces: [{subnet: blue-a, ip: 10.0.1.2}], gateway: {network: public}}
  r2: {host: network1, driver: namespace, interfaces: [blue-a], gateway: {network: public, ip: 203.0.113.20}}
floating_ips:
  203.0.113.50: {vm: web1}
"""


def cloud(text: str = ROUTERS) -> Topology:
    return parse(HEAD + text)


def test_a_host_has_the_bridges_it_needs_under_their_names_and_ids() -> None:
    hosts = cloud().hosts
    assert hosts["compute1"].bridge_mappings == {"dc": "br-data"}
    assert {name: hosts["compute1"].datapath_ids[name] for name in ("br-int", "br-data")} == {
        "br-int": 0xA1, "br-data": 0xD1}
    assert hosts["network1"].bridge_mappings == {"external": "br-out"}  # nothing there is on dc
    assert hosts["network1"].datapath_ids["br-out"] == names.datapath_id("test", "network1", "br-out")
    assert hosts["spare1"].bridge_mappings == {"lan": "br-lan"}
    assert list(hosts["spare1"].datapath_ids) == ["br-int", "br-tun", "br-lan"]


def test_without_a_router_on_it_an_external_network_needs_no_bridge() -> None:
    assert cloud("").hosts["network1"].bridge_mappings == {}
    alone = "routers:\n  r1: {host: network1, gateway: {network: public}}\n"
    assert cloud(alone).hosts["network1"].bridge_mappings == {}
    assert cloud(alone).legs_by_network == {}


def test_a_network_lives_on_a_segment_or_in_the_overlay() -> None:
    found = {name: (network.physical_network, network.network_type, network.segmentation_id)
             for name, network in cloud().networks.items()}
    assert found == {"blue": (None, None, None), "dc": ("dc", "vlan", 7), "flat": ("lan", "flat", None),
                     "public": ("external", "flat", None), "both": (None, None, None)}


def test_only_a_network_in_the_overlay_leaves_room_for_a_tunnels_header() -> None:
    assert [cloud().mtu_of(name) for name in ("blue", "both", "dc", "public")] == [1450, 1450, 1500, 1500]


def test_a_gateway_without_an_address_gets_an_ipv4_one() -> None:
    (inside, outside) = cloud().legs_by_router["r1"]
    assert (str(inside.ip), inside.subnet, inside.outside) == ("10.0.1.2", "blue-a", False)
    assert (outside.ip.version, outside.subnet, outside.outside) == (4, "public-a", True)
    assert (inside.device, outside.device) == (f"qr-{str(inside.id)[:11]}", f"qg-{str(outside.id)[:11]}")


def test_a_floating_ip_is_that_of_the_router_by_which_its_vm_answers() -> None:
    assert list(cloud().floating_ips_by_router) == ["r2"]
    without = ROUTERS.replace("interfaces: [blue-a]", "interfaces: []")
    assert list(cloud(without).floating_ips_by_router) == ["r1"]


def test_of_two_external_networks_with_one_prefix_a_router_tells_which_is_meant() -> None:
    decoy = "  aside: {external: true, physical_network: x, subnets: {aside-a: {cidr: 203.0.113.0/24}}}\n"
    found = parse(HEAD.replace("  public:\n", decoy + "  public:\n") + ROUTERS)
    assert [one.outside for one in found.floating_ips] == ["public"]


@pytest.mark.parametrize(("bridge", "device"), [
    ("br-ex", "int-br-ex"), ("br-physnet1", "int-br-physnet1"),
    ("br-physnet-12", "int-br-ph" + hashlib.sha1(b"br-physnet-12").hexdigest()[:6])])
def test_patch_ports_are_named_as_neutron_names_them(bridge: str, device: str) -> None:
    assert names.int_device(bridge) == device
    assert names.phy_device(bridge) == device.replace("int-", "phy-", 1)
    assert len(device) <= 15


def test_an_address_is_in_one_subnet_of_a_network() -> None:
    assert cloud().subnet_of("public", ip_address("203.0.113.9")).name == "public-a"
    with pytest.raises(KeyError, match=r"203\.0\.114\.9 is in no subnet of public"):
        cloud().subnet_of("public", ip_address("203.0.114.9"))
