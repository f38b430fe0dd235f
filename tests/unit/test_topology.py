"""What a valid file becomes: defaults, ids, names, MACs, addresses."""
from __future__ import annotations

import os
import random
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from uuid import UUID

import pytest

from controller.model import names, reading
from controller.model.problems import render
from controller.model.topology import Topology, tunnel_overhead

ROOT = Path(__file__).parents[2]
HEAD = "cloud: test\nunderlay: {cidr: 192.0.2.0/24}\nhosts:\n  compute1: {tunnel_ip: 192.0.2.11}\n"
NETWORK = "networks:\n  blue: {tunnel_id: 7, subnets: {blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}\n"
WEB = "vms:\n  web1: {host: compute1, network: blue, ip: 10.0.1.11}\n"
# The format as docs and users know it, with every section.
WHOLE = """\
cloud: demo
underlay: {cidr: 192.0.2.0/24, mtu: 1500}
tunnel: {type: vxlan, port: 4789}
forwarding: learning
arp_responder: false
firewall: iptables_hybrid
hosts:
  compute1: {tunnel_ip: 192.0.2.11}
  compute2: {tunnel_ip: 192.0.2.12, datapath_ids: {br-int: "00000000000000a1", br-tun: "0xa2"}}
  network1: {tunnel_ip: 192.0.2.21, role: network}
networks:
  blue:
    tunnel_id: 1001
    subnets:
      blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1, dhcp: true, dns: [9.9.9.9, "2620:fe::fe"]}
  green:
    tunnel_id: 1002
    id: 11111111-2222-4333-8444-555555555555
    subnets:
      green-subnet:
        cidr: 10.0.2.0/24
        gateway: 10.0.2.1
        allocation_pools: [{start: 10.0.2.100, end: 10.0.2.101}]
        host_routes: [{destination: 10.9.0.0/16, nexthop: 10.0.2.50}]
  office: {physical_network: dc, segmentation_id: 42, subnets: {office-subnet: {cidr: 10.4.0.0/16}}}
  public:
    external: true
    subnets:
      public-subnet: {cidr: 203.0.113.0/24, gateway: 203.0.113.1}
routers:
  r1:
    host: network1
    driver: namespace
    interfaces: [blue-subnet, {subnet: green-subnet, ip: 10.0.2.2, mac: "fa:16:3e:00:00:02"}]
    gateway: {network: public, ip: 203.0.113.10, snat: false}
    routes: [{destination: 198.51.100.0/24, nexthop: 10.0.1.50}]
floating_ips:
  203.0.113.50: {vm: web1, network: blue}
  203.0.113.51: {vm: web1}
security_groups:
  web:
    - {direction: ingress, protocol: tcp, port: 80, remote: 0.0.0.0/0}
    - {direction: ingress, protocol: icmp, icmp_type: 8, icmp_code: 0, remote_group: web}
    - {direction: egress, protocol: udp, port: 8000-8010, remote: "fd00::/8"}
    - {direction: ingress, ethertype: IPv6, protocol: icmp}
    - {direction: egress, protocol: any}
  db: {id: 22222222-2222-4333-8444-555555555555, rules: [{direction: ingress, protocol: 132, port: 5}]}
vms:
  web1: {host: compute1, network: blue, ip: 10.0.1.11, security_groups: [web, db]}
  fw1:
    host: compute2
    ports:
      - {network: blue, ip: 10.0.1.50, port_security: false}
      - {network: green, ip: 10.0.2.50, mac: "FA:16:3E:00:00:50", device: tap-fw1}
  lazy1: {host: compute1, network: blue, ip: dhcp}
  pool1:
    host: compute1
    network: green
    allowed_address_pairs: [{ip: 10.7.0.0/16}, {ip: 10.8.0.1, mac: "fa:16:3e:00:00:08"}]
"""


def valid(text: str) -> Topology:
    """The topology of a file without errors."""
    found = reading.parse(text, "topology.yaml")
    assert found.topology is not None, render(found.problems)
    return found.topology


@pytest.fixture(scope="module")
def whole() -> Topology:
    return valid(WHOLE)


def test_defaults_are_those_of_the_documentation() -> None:
    cloud = valid(HEAD + NETWORK + WEB)
    assert (cloud.underlay.mtu, cloud.tunnel.type, cloud.tunnel.port) == (1500, "vxlan", 4789)
    assert (cloud.forwarding, cloud.arp_responder, cloud.firewall) == ("learning", False, "iptables_hybrid")
    assert (cloud.mac_aging_time, cloud.hosts["compute1"].role) == (300, "compute")
    port = cloud.vms["web1"].ports[0]
    assert (port.port_security, port.security_groups, port.allowed_address_pairs, port.dhcp) == (True, (), (), False)


def test_nothing_but_the_required_keys_is_needed() -> None:
    cloud = valid(HEAD + "networks: {}\nvms:\nrouters:\nsecurity_groups:\n")
    assert (cloud.networks, cloud.vms, list(cloud.ports())) == ({}, {}, [])


@pytest.mark.parametrize(("kind", "port"), [("vxlan", 4789), ("geneve", 6081), ("gre", None)])
def test_each_tunnel_type_has_its_own_port(kind: str, port: int | None) -> None:
    assert valid(f"tunnel: {{type: {kind}}}\n{HEAD}{NETWORK}{WEB}").tunnel.port == port


def test_ids_and_device_names_come_from_the_cloud_and_the_path(whole: Topology) -> None:
    port = whole.vms["web1"].ports[0]
    assert port.id == names.object_id("demo", "vms/web1/ports/0")
    assert port.mac == names.mac_of(port.id)
    assert port.device == f"qvo{str(port.id)[:11]}"
    assert whole.networks["blue"].id == names.object_id("demo", "networks/blue")
    assert whole.subnets["blue-subnet"].id == names.object_id("demo", "networks/blue/subnets/blue-subnet")
    assert whole.routers["r1"].id == names.object_id("demo", "routers/r1")
    assert whole.security_groups["web"].id == names.object_id("demo", "security_groups/web")
    assert whole.hosts["compute1"].datapath_ids["br-int"] == names.datapath_id("demo", "compute1", "br-int")


def test_without_a_linux_bridge_the_tap_itself_is_on_br_int() -> None:
    port = valid(f"firewall: none\n{HEAD}{NETWORK}{WEB}").vms["web1"].ports[0]
    assert port.device == f"tap{str(port.id)[:11]}"


def test_what_the_file_pins_is_kept(whole: Topology) -> None:
    assert whole.networks["green"].id == UUID("11111111-2222-4333-8444-555555555555")
    assert whole.security_groups["db"].id == UUID("22222222-2222-4333-8444-555555555555")
    assert dict(whole.hosts["compute2"].datapath_ids) == {"br-int": 0xA1, "br-tun": 0xA2}
    assert whole.bridges[0xA2] == ("compute2", "br-tun")
    fw1 = whole.vms["fw1"].ports[1]
    assert (fw1.mac, fw1.device, fw1.interface) == ("fa:16:3e:00:00:50", "tap-fw1", "eth1")


def test_ports_are_called_by_their_vm_and_interface(whole: Topology) -> None:
    assert [(port.name, port.path) for port in whole.ports()] == [
        ("web1", "vms.web1"), ("fw1:eth0", "vms.fw1.ports[0]"), ("fw1:eth1", "vms.fw1.ports[1]"),
        ("lazy1", "vms.lazy1"), ("pool1", "vms.pool1")]


def test_every_object_knows_its_line(whole: Topology) -> None:
    lines = WHOLE.splitlines()
    for items in (whole.hosts, whole.networks, whole.subnets, whole.routers, whole.security_groups, whole.vms):
        for name, item in items.items():
            assert f"{name}:" in lines[item.line - 1]
    assert "10.0.2.50" in lines[whole.vms["fw1"].ports[1].line - 1]
    assert "udp" in lines[whole.security_groups["web"].rules[2].line - 1]


def test_routers_and_floating_ips_are_resolved(whole: Topology) -> None:
    router = whole.routers["r1"]
    assert [(each.subnet, str(each.ip)) for each in router.interfaces] == [
        ("blue-subnet", "10.0.1.1"), ("green-subnet", "10.0.2.2")]
    assert router.interfaces[1].mac == "fa:16:3e:00:00:02"
    assert router.gateway is not None
    assert (router.gateway.network, str(router.gateway.ip), router.gateway.snat) == ("public", "203.0.113.10", False)
    assert router.routes[0].destination == ip_network("198.51.100.0/24")
    assert [(str(each.address), each.vm, each.network) for each in whole.floating_ips] == [
        ("203.0.113.50", "web1", "blue"), ("203.0.113.51", "web1", "blue")]


def test_rules_say_everything_in_numbers(whole: Topology) -> None:
    rules = whole.security_groups["web"].rules
    assert [(rule.ethertype, rule.protocol, rule.ports) for rule in rules] == [
        ("IPv4", "tcp", (80, 80)), ("IPv4", "icmp", None), ("IPv6", "udp", (8000, 8010)), ("IPv6", "icmpv6", None),
        ("IPv4", None, None)]
    assert (rules[1].icmp_type, rules[1].icmp_code, rules[1].remote_group) == (8, 0, "web")


def test_provider_keys_pools_routes_and_pairs_are_kept(whole: Topology) -> None:
    office = whole.networks["office"]
    assert (office.tunnel_id, office.physical_network, office.network_type, office.segmentation_id) == (
        None, "dc", "vlan", 42)
    green = whole.subnets["green-subnet"]
    assert green.host_routes[0].nexthop == ip_address("10.0.2.50")
    pairs = whole.vms["pool1"].ports[0].allowed_address_pairs
    assert [str(pair.ip) for pair in pairs] == ["10.7.0.0/16", "10.8.0.1/32"]
    assert [pair.mac for pair in pairs] == [whole.vms["pool1"].ports[0].mac, "fa:16:3e:00:00:08"]


def test_an_address_is_chosen_from_the_pool(whole: Topology) -> None:
    assert str(whole.vms["pool1"].ports[0].ip) in ("10.0.2.100", "10.0.2.101")
    lazy = whole.vms["lazy1"].ports[0]
    assert lazy.dhcp
    assert lazy.ip in ip_network("10.0.1.0/24")


def many(count: int, cidr: str = "10.0.0.0/22", without: str = "") -> Topology:
    network = f"networks:\n  blue: {{tunnel_id: 7, subnets: {{s: {{cidr: {cidr}, gateway: 10.0.0.1}}}}}}\n"
    vms = "".join(f"  vm{n}: {{host: compute1, network: blue}}\n" for n in range(count) if f"vm{n}" != without)
    return valid(f"{HEAD}{network}vms:\n  pinned: {{host: compute1, network: blue, ip: 10.0.0.9}}\n{vms}")


def test_chosen_addresses_differ_and_leave_out_what_is_taken() -> None:
    addresses = [port.ip for port in many(1020).ports()]  # all that a /22 with a gateway and a pinned address has
    assert len(set(addresses)) == 1021
    cidr = ip_network("10.0.0.0/22")
    assert set(addresses) == {*cidr.hosts()} - {ip_address("10.0.0.1")}


def test_a_vm_more_or_less_hardly_renumbers_the_others() -> None:
    before = {port.name: port.ip for port in many(100).ports()}
    after = {port.name: port.ip for port in many(100, without="vm50").ports()}
    assert sum(before[name] != address for name, address in after.items()) <= 3


def test_addresses_do_not_depend_on_the_order_of_the_file(seed: int) -> None:
    lines = [f"  vm{n}: {{host: compute1, network: blue}}\n" for n in range(200)]
    first = valid(HEAD + NETWORK + "vms:\n" + "".join(lines))
    random.Random(seed).shuffle(lines)
    second = valid(HEAD + NETWORK + "vms:\n" + "".join(lines))
    assert {port.name: port.ip for port in first.ports()} == {port.name: port.ip for port in second.ports()}


def test_a_full_subnet_hands_over_to_the_next_of_its_kind() -> None:
    network = """networks:
  blue:
    tunnel_id: 7
    subnets: {first: {cidr: 10.0.1.0/30}, six: {cidr: "fd00::/64"}, second: {cidr: 10.0.2.0/29}}
"""
    vms = "".join(f"  vm{n}: {{host: compute1, network: blue}}\n" for n in range(8))
    cloud = valid(f"{HEAD}{network}vms:\n{vms}")
    assert sorted(port.subnet for port in cloud.ports()) == ["first"] * 2 + ["second"] * 6


def test_ipv6_works_everywhere() -> None:
    cloud = valid("""cloud: six
underlay: {cidr: "fd00:ffff::/64", mtu: 1500}
hosts: {compute1: {tunnel_ip: "fd00:ffff::11"}}
networks: {blue: {tunnel_id: 7, subnets: {s: {cidr: "fd00:1::/64", gateway: "fd00:1::1"}}}}
vms: {web1: {host: compute1, network: blue, ip: "fd00:1::11"}, web2: {host: compute1, network: blue}}
""")
    assert cloud.vms["web2"].ports[0].ip in ip_network("fd00:1::/64")
    assert cloud.network_mtu == 1500 - 70


@pytest.mark.parametrize(("kind", "version", "bytes_"), [
    ("vxlan", 4, 50), ("vxlan", 6, 70), ("geneve", 4, 50), ("gre", 4, 42), ("gre", 6, 62)])
def test_a_tunnel_takes_its_headers_from_the_mtu(kind: str, version: int, bytes_: int) -> None:
    assert tunnel_overhead(kind, version) == bytes_


def test_two_networks_may_use_the_same_addresses_and_macs() -> None:
    cloud = valid(HEAD + """networks:
  blue: {tunnel_id: 7, subnets: {b: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  green: {tunnel_id: 8, subnets: {g: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
vms:
  web1: {host: compute1, network: blue, ip: 10.0.1.11, mac: "fa:16:3e:00:00:11"}
  shop1: {host: compute1, network: green, ip: 10.0.1.11, mac: "fa:16:3e:00:00:11"}
""")
    assert [port.subnet for port in cloud.ports()] == ["b", "g"]


def test_yaml_that_looks_like_numbers_is_read_as_people_mean_it() -> None:
    cloud = valid(HEAD + NETWORK + "vms:\n  web1: {host: compute1, network: blue, mac: 52:54:00:12:34:56}\n"
                                   "  no: {host: compute1, network: blue}\n  1e3: {host: compute1, network: blue}\n")
    assert cloud.vms["web1"].ports[0].mac == "52:54:00:12:34:56"
    assert list(cloud.vms) == ["web1", "no", "1e3"]


def test_anchors_and_aliases_are_welcome() -> None:
    cloud = valid(HEAD + NETWORK + "security_groups:\n  web: &rules [{direction: ingress}]\n  db: *rules\n" + WEB)
    assert [len(group.rules) for group in cloud.security_groups.values()] == [1, 1]


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter() -> None:
    text = (HEAD + NETWORK + WEB).replace("\n", "\r\n")
    found = reading.parse(b"\xef\xbb\xbf" + text.encode(), "topology.yaml")
    assert found.topology is not None
    assert found.topology.vms["web1"].line == 8


def test_the_demo_has_two_tenants_with_the_same_addresses() -> None:
    found = reading.load(ROOT / "topology.yaml")
    assert found.problems == ()
    cloud = found.topology
    assert cloud is not None
    blue, green = (cloud.ports_by_network[name] for name in ("blue", "green"))
    assert {port.ip for port in green} < {port.ip for port in blue}
    assert {port.mac for port in blue} & {port.mac for port in green}
    assert {port.host for port in blue} == {port.host for port in green} == {"compute1", "compute2"}
    assert (cloud.vms["web1"].host, cloud.vms["web2"].host) == ("compute1", "compute2")


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_same_file_gives_the_same_values_in_every_process(whole: Topology, hash_seed: str) -> None:
    program = "import sys; from controller.model.reading import parse; print(parse(sys.stdin.read(), 'topology.yaml'))"
    command = [sys.executable, "-c", program]
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(command, input=WHOLE, capture_output=True, text=True, env=env, check=True)
    assert told.stdout == f"{reading.parse(WHOLE, 'topology.yaml')}\n"
