"""What security groups and DHCP servers come to: the words of the file, one after the other, and their numbers."""
from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from uuid import UUID

import pytest

from controller.model import numbers, placement, reading
from controller.model.filtering import Filters
from controller.model.likeness import Kinds
from controller.model.protocols import Datagram, echo
from controller.model.topology import Port, Topology
from tests.clouds import parse

CLOUD = """cloud: test
underlay: {cidr: 192.0.2.0/24}
firewall: openvswitch
hosts:
  compute1: {tunnel_ip: 192.0.2.11}
  compute2: {tunnel_ip: 192.0.2.12}
  network1: {tunnel_ip: 192.0.2.21, role: network}
  network2: {tunnel_ip: 192.0.2.22, role: network}
networks:
  blue:
    tunnel_id: 1001
    subnets:
      blue4: {cidr: 10.0.1.0/24, gateway: 10.0.1.1, dhcp: true, allocation_pools: [{start: 10.0.1.10, end: 10.0.1.99}]}
      blue6: {cidr: "2001:db8:1::/64"}
  green: {tunnel_id: 1002, subnets: {green4: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
  twin: {tunnel_id: 1003, subnets: {twin4: {cidr: 10.0.1.0/24, dhcp: true}}}
routers:
  r1: {host: network1, interfaces: [blue4, green4]}
security_groups:
  web:
    - {direction: ingress, protocol: tcp, port: 80-90, remote: 10.0.0.0/8}
    - {direction: ingress, protocol: icmp, remote_group: db}
    - {direction: ingress, ethertype: IPv6, protocol: icmp, icmp_type: 128}
  db:
    - {direction: ingress, protocol: udplite, port: 7}
    - {direction: egress, protocol: udp, port: 53}
  empty: []
vms:
  web1: {host: compute1, network: blue, ip: 10.0.1.11, security_groups: [web]}
  web2: {host: compute2, network: blue, ip: 10.0.1.12, security_groups: [web, empty]}
  web6: {host: compute1, network: blue, ip: "2001:db8:1::11", security_groups: [web]}
  db1:
    host: compute2
    network: green
    ip: 10.0.2.21
    security_groups: [db]
    allowed_address_pairs: [{ip: 10.0.2.64/26}, {ip: 0.0.0.0/0}]
  db2: {host: compute2, network: twin, ip: 10.0.1.22, security_groups: [db]}
  shut1: {host: compute1, network: blue, ip: 10.0.1.99, security_groups: [empty]}
  open1: {host: compute1, network: blue, ip: 10.0.1.44}
"""


@pytest.fixture(scope="module")
def cloud() -> Topology:
    return parse(CLOUD)


def port(cloud: Topology, name: str) -> Port:
    return cloud.vms[name].ports[0]


def udp(source: str, target: str, ports: tuple[int, int], protocol: int = 17) -> Datagram:
    one, other = ip_address(source), ip_address(target)
    return Datagram(one.version, protocol, one, other, port=ports[1], source_port=ports[0])


def tcp(source: str, target: str, number: int) -> Datagram:
    return udp(source, target, (40000, number), protocol=6)


@pytest.mark.parametrize(("source", "number", "passes"), [
    ("10.9.9.9", 80, True), ("10.9.9.9", 90, True), ("10.9.9.9", 91, False), ("10.9.9.9", 79, False),
    ("192.0.2.1", 80, False)])
def test_a_rule_is_for_its_ports_and_its_remote(cloud: Topology, source: str, number: int, passes: bool) -> None:
    verdict = cloud.filters.enters(port(cloud, "web1"), tcp(source, "10.0.1.11", number))
    assert verdict.passes == passes
    assert (verdict.rule is not None) == passes
    assert ("web: tcp 80-90 from 10.0.0.0/8 (line 21)" in verdict.why) == passes


@pytest.mark.parametrize(("source", "passes"), [
    ("10.0.2.21", True), ("10.0.2.64", True), ("10.0.2.127", True), ("10.0.2.128", False),
    ("10.0.1.22", False),  # the member of another tenant's twin
    ("8.8.8.8", False)])  # the pair of everybody makes nobody a member
def test_a_remote_group_is_its_ports_and_their_pairs_where_routers_join(cloud: Topology, source: str,
                                                                        passes: bool) -> None:
    ping = echo(ip_address(source), ip_address("10.0.1.11"))
    assert cloud.filters.enters(port(cloud, "web1"), ping).passes == passes


def test_members_are_told_in_order_and_per_component(cloud: Topology) -> None:
    filters = cloud.filters
    assert filters.members("db", "blue") == filters.members("db", "green") == (
        ip_network("10.0.2.21"), ip_network("10.0.2.64/26"))
    assert filters.members("db", "twin") == (ip_network("10.0.1.22"),)
    assert filters.members("web", "twin") == ()
    assert filters.joined("green") == ("blue", "green")
    assert filters.joined("twin") == ("twin",)


def test_a_vm_may_begin_anything_until_one_of_its_groups_has_an_egress_rule(cloud: Topology) -> None:
    filters = cloud.filters
    assert filters.leaves(port(cloud, "web1"), tcp("10.0.1.11", "8.8.8.8", 1)).passes
    assert filters.leaves(port(cloud, "shut1"), tcp("10.0.1.99", "8.8.8.8", 1)).passes
    assert filters.leaves(port(cloud, "db1"), udp("10.0.2.21", "8.8.8.8", (5, 53))).passes
    refused = filters.leaves(port(cloud, "db1"), udp("10.0.2.21", "8.8.8.8", (5, 54)))
    assert (refused.passes, refused.why) == (False, "no egress rule of db lets db1 begin this")


def test_a_group_without_rules_lets_nothing_in_and_no_group_everything(cloud: Topology) -> None:
    knock = tcp("10.0.1.11", "10.0.1.99", 80)
    assert not cloud.filters.enters(port(cloud, "shut1"), knock).passes
    assert cloud.filters.enters(port(cloud, "open1"), knock).why == "open1 lists no security group"
    assert Filters(replace(cloud, firewall="none")).enters(port(cloud, "shut1"), knock).passes


def test_of_several_groups_one_is_enough(cloud: Topology) -> None:
    assert cloud.filters.enters(port(cloud, "web2"), tcp("10.0.1.99", "10.0.1.12", 80)).passes


def test_a_host_gets_its_address_and_finds_its_neighbours_whatever_the_rules(cloud: Topology) -> None:
    filters, db, shut, six = cloud.filters, port(cloud, "db1"), port(cloud, "shut1"), port(cloud, "web6")
    assert filters.leaves(db, udp("0.0.0.0", "255.255.255.255", (68, 67))).passes
    assert not filters.leaves(db, udp("10.0.2.21", "10.0.2.22", (67, 68))).passes
    assert filters.enters(shut, udp("10.0.1.2", "10.0.1.99", (67, 68))).passes
    assert filters.enters(shut, udp("10.0.1.2", "255.255.255.255", (67, 68))).passes
    assert not filters.enters(shut, udp("10.0.1.2", "10.0.1.98", (67, 68))).passes
    neighbour = echo(ip_address("2001:db8:1::5"), six.ip)
    assert filters.enters(six, replace(neighbour, icmp_type=135)).passes
    assert not filters.enters(six, replace(neighbour, icmp_type=133)).passes


def test_icmp_in_a_rule_for_ipv6_is_icmpv6(cloud: Topology) -> None:
    six = port(cloud, "web6")
    assert cloud.filters.enters(six, echo(ip_address("2001:db8:1::5"), six.ip)).passes


@pytest.mark.parametrize(("kind", "code"), [(0, 0), (3, 3), (8, 1), (17, 0)])
def test_what_begins_no_conversation_passes_no_group(cloud: Topology, kind: int, code: int) -> None:
    strange = replace(echo(ip_address("10.0.1.11"), ip_address("10.0.2.21")), icmp_type=kind, icmp_code=code)
    assert not cloud.filters.leaves(port(cloud, "web1"), strange).passes
    assert cloud.filters.leaves(port(cloud, "open1"), strange).passes


def test_a_rule_that_a_driver_cannot_do_allows_nothing_there(cloud: Topology) -> None:
    light = udp("10.0.2.5", "10.0.2.21", (5, 7), protocol=136)
    assert not cloud.filters.enters(port(cloud, "db1"), light).passes
    assert Filters(replace(cloud, firewall="iptables_hybrid")).enters(port(cloud, "db1"), light).passes


# ---- numbers and placement

def test_every_filtered_port_has_a_zone_of_its_own_below_those_of_routers(cloud: Topology) -> None:
    own = cloud.filters.numbers("compute1")
    assert own.zones.keys() == {port(cloud, name).id for name in ("web1", "web6", "shut1")}
    assert len(set(own.zones.values())) == 3
    assert all(0 < zone < numbers.FIRST_ZONE for zone in own.zones.values())
    assert not any(zone == 0 for zone in (*own.profiles.values(), *own.remotes.values()))


def test_more_ports_than_zones_are_refused() -> None:
    with pytest.raises(numbers.NumbersExhausted):
        numbers.number_filters([UUID(int=n) for n in range(numbers.PORT_ZONES + 1)], [], [])


def test_ports_with_the_same_groups_share_a_profile_with_each_rule_once(cloud: Topology) -> None:
    text = CLOUD.replace("  empty: []", "  empty: [{direction: ingress, protocol: icmp, remote_group: db}]")
    twice = parse(text.replace("security_groups: [empty]", "security_groups: [web, empty]"))
    host = placement.place(twice, "compute1", placement.imagined(twice, "compute1"))
    (blue,) = (network for network in host.networks if network.name == "blue")
    filters = {each.name: each.filter for each in blue.ports}
    assert filters["open1"] is None
    assert filters["web1"] and filters["web6"] and filters["web1"].profile == filters["web6"].profile
    counts = {profile.what: len(profile.rules) for profile in blue.profiles}
    assert counts == {"web on blue": 3, "empty, web on blue": 3}
    (remote,) = blue.remote_groups
    assert (remote.name, remote.version, remote.by_vm) == ("db", 4, False)
    assert (host.firewall, host.strangers) == ("openvswitch", 5)


def test_the_hybrid_driver_needs_no_rules_in_br_int(cloud: Topology) -> None:
    hybrid = replace(cloud, firewall="iptables_hybrid")
    host = placement.place(hybrid, "compute1", placement.imagined(hybrid, "compute1"))
    assert [(network.profiles, network.remote_groups) for network in host.networks] == [((), ())]
    assert sum(each.filter is not None for each in host.networks[0].ports) == 3


def touched(before: Topology, text: str) -> set[str]:
    after = parse(text)
    return {name for name in before.networks if before.filters.face(name) != after.filters.face(name)}


def test_a_member_more_touches_its_network_and_those_whose_rules_name_its_group(cloud: Topology) -> None:
    one = "  db3: {host: compute1, network: %s, ip: %s, security_groups: [%s]}\n"
    assert touched(cloud, CLOUD + one % ("green", "10.0.2.33", "db")) == {"blue", "green"}
    assert touched(cloud, CLOUD + one % ("twin", "10.0.1.33", "db")) == {"twin"}
    assert touched(cloud, CLOUD + one % ("green", "10.0.2.33", "web")) == {"green"}
    assert touched(cloud, CLOUD.replace("port: 53}", "port: 54}")) == {"green", "twin"}
    assert touched(cloud, CLOUD.replace("underlay", "\n\nunderlay")) == set()  # lines are not among what counts


# ---- DHCP

def test_a_network_with_dhcp_has_one_server_on_a_network_host_with_the_highest_free_address(cloud: Topology) -> None:
    server = cloud.dhcp_by_network["blue"]
    assert (server.name, server.addresses) == ("DHCP of blue", (("blue4", ip_address("10.0.1.98")),))
    assert cloud.hosts[server.host].role == "network"
    assert server.device == f"tap{str(server.id)[:11]}"
    assert cloud.dhcp_by_network.keys() == {"blue", "twin"}
    assert cloud.dhcp_by_network["twin"].addresses == (("twin4", ip_address("10.0.1.254")),)
    assert sum(len(servers) for servers in cloud.dhcp_by_host.values()) == 2


def test_a_server_is_trusted_where_it_lives_and_a_neighbour_elsewhere(cloud: Topology) -> None:
    server = cloud.dhcp_by_network["blue"]
    for name in ("compute1", server.host):
        host = placement.place(cloud, name, placement.imagined(cloud, name))
        (blue,) = (network for network in host.networks if network.name == "blue")
        assert (server.mac in {device.mac for device in blue.devices}) == (name == server.host)
        assert (server.mac in {one.mac for one in blue.neighbours}) == (name != server.host)
    assert server.host in placement.carriers(cloud, "blue")
    assert cloud.networks["blue"] in placement.carried(cloud, server.host)


def test_another_network_host_takes_over_no_more_than_its_share() -> None:
    def hosts(count: int) -> dict[str, str]:
        lines = ["cloud: test", "underlay: {cidr: 192.0.2.0/24}", "hosts:"]
        lines += [f"  n{n}: {{tunnel_ip: 192.0.2.{n + 1}, role: network}}" for n in range(count)]
        lines += ["networks:"]
        lines += [f"  net{n}: {{tunnel_id: {n + 1}, subnets: {{s{n}: {{cidr: 10.0.0.0/24, dhcp: true}}}}}}"
                  for n in range(60)]
        return {name: each.host for name, each in parse("\n".join([*lines, "vms: {}"])).dhcp_by_network.items()}
    before, after = hosts(3), hosts(4)
    assert set(before.values()) == {"n0", "n1", "n2"}
    assert {after[name] for name in before if after[name] != before[name]} == {"n3"}


def test_an_address_that_vms_share_is_given_to_no_server() -> None:
    text = CLOUD.replace("{ip: 10.0.2.64/26}", "{ip: 10.0.2.65}").replace(
        "network: blue, ip: 10.0.1.44}", "network: blue, ip: 10.0.1.44, allowed_address_pairs: [{ip: 10.0.1.98}]}")
    assert reading.parse(text, "f").ok
    assert parse(text).dhcp_by_network["blue"].addresses[0][1] == ip_address("10.0.1.97")


def test_rules_tell_apart_as_few_kinds_of_ports_as_they_can() -> None:
    vms = "".join(f"  v{n}: {{host: compute1, network: green, ip: 10.0.2.{n}, security_groups: [{group}]}}\n"
                  for n, group in zip(range(2, 20), ["web", "db"] * 9, strict=True))
    cloud = parse(CLOUD.replace("remote_group: db", "remote: 10.0.2.8/31").partition("vms:")[0] + f"vms:\n{vms}")
    tell_apart = Kinds(cloud)
    assert len({tell_apart(each) for each in cloud.ports()}) == 4  # two groups, inside and outside of the prefix
