"""Who may reach whom through routers, from the topology alone: there and back, through every translation."""
from __future__ import annotations

import pytest

from controller.model.reachability import INTERNET, Target, expected_pairs, expected_targets
from controller.model.topology import Topology
from tests.clouds import parse

HEAD = """
cloud: test
underlay: {cidr: 192.0.2.0/24}
hosts:
  compute1: {tunnel_ip: 192.0.2.11}
  network1: {tunnel_ip: 192.0.2.21, role: network}
networks:
  blue: {tunnel_id: 1, subnets: {blue-a: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  red: {tunnel_id: 2, subnets: {red-a: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}, red-b: {cidr: 10.0.3.0/24}}}
  green: {tunnel_id: 3, subnets: {green-a: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  transit: {tunnel_id: 4, external: true, subnets: {transit-a: {cidr: 172.16.0.0/24, gateway: 172.16.0.1}}}
  public: {external: true, subnets: {public-a: {cidr: 203.0.113.0/24, gateway: 203.0.113.1}}}
vms:
  web1: {host: compute1, network: blue, ip: 10.0.1.11}
  web2: {host: network1, network: blue, ip: 10.0.1.12}
  app1: {host: compute1, network: red, ip: 10.0.2.11}
  app2: {host: compute1, network: red, ip: 10.0.3.11}
  shop1: {host: compute1, network: green, ip: 10.0.1.11}
  out1: {host: compute1, network: public, ip: 203.0.113.77}
"""
BOTH = "routers:\n  r1: {host: network1, interfaces: [blue-a, red-a]%s}\n"
OUT = ", gateway: {network: public, ip: 203.0.113.10}"


def both_ways(*pairs: str) -> set[tuple[str, str]]:
    found = {(one, other) for one, _, other in (pair.partition(" ") for pair in pairs)}
    return found | {(other, one) for one, other in found}


def pairs(text: str) -> frozenset[tuple[str, str]]:
    return expected_pairs(parse(HEAD + text))


def targets(text: str) -> dict[tuple[str, str], Target]:
    return {(one.source, str(one.address)): one for one in expected_targets(parse(HEAD + text))}


ALONE = both_ways("web1 web2")
JOINED = ALONE | both_ways("web1 app1", "web2 app1")


@pytest.mark.parametrize("routers", ["", "routers:\n  r1: {host: network1, gateway: {network: public}}\n",
                                     "routers:\n  r1: {host: network1, interfaces: [blue-a]}\n"])
def test_a_router_that_joins_nothing_changes_nothing(routers: str) -> None:
    assert pairs(routers) == ALONE


@pytest.mark.parametrize("driver", ["", ", driver: namespace"])
def test_a_router_joins_the_subnets_of_its_interfaces(driver: str) -> None:
    assert pairs(BOTH % driver) == JOINED


def test_a_subnet_whose_gateway_is_not_the_routers_leg_finds_no_way() -> None:
    assert pairs("routers:\n  r1: {host: network1, interfaces: [{subnet: blue-a, ip: 10.0.1.2}, red-a]}\n") == ALONE


def test_a_subnet_without_a_gateway_is_not_joined_for_its_answers_find_no_way() -> None:
    assert pairs("routers:\n  r1: {host: network1, interfaces: [red-a, {subnet: red-b, ip: 10.0.3.1}]}\n") == ALONE


def test_two_tenants_with_equal_addresses_each_meet_their_own() -> None:
    text = BOTH % "" + "  r2: {host: network1, interfaces: [green-a]}\n"
    assert pairs(text) == JOINED


def test_inside_reaches_a_vm_outside_by_its_translated_source_and_never_the_other_way() -> None:
    assert pairs(BOTH % OUT) == JOINED | {(one, "out1") for one in ("web1", "web2", "app1")}
    assert pairs(BOTH % OUT.replace("}", ", snat: false}")) == JOINED


def test_a_static_route_by_another_router_needs_its_way_back() -> None:
    there = ("routers:\n  r1: {host: network1, interfaces: [blue-a, {subnet: red-a, ip: 10.0.2.2}], "
             "routes: [{destination: 10.0.3.0/24, nexthop: 10.0.2.1}]}\n"
             "  r2: {host: network1, interfaces: [red-a, {subnet: red-b, ip: 10.0.3.1}]%s}\n")
    text = HEAD.replace("red-b: {cidr: 10.0.3.0/24}", "red-b: {cidr: 10.0.3.0/24, gateway: 10.0.3.1}")
    one_way, both = there % "", there % ", routes: [{destination: 10.0.1.0/24, nexthop: 10.0.2.2}]"
    assert expected_pairs(parse(text + one_way)) == ALONE | both_ways("app1 app2")
    assert expected_pairs(parse(text + both)) == JOINED | both_ways("app1 app2", "web1 app2", "web2 app2")


def test_a_vm_as_next_hop_does_not_forward() -> None:
    text = BOTH % ", routes: [{destination: 203.0.113.0/24, nexthop: 10.0.2.11}]"
    assert pairs(text) == JOINED


def test_routes_that_go_in_circles_lead_nowhere() -> None:
    text = ("routers:\n  r1: {host: network1, interfaces: [blue-a, {subnet: red-a, ip: 10.0.2.2}], "
            "routes: [{destination: 10.0.3.0/24, nexthop: 10.0.2.1}]}\n"
            "  r2: {host: network1, interfaces: [red-a], routes: [{destination: 10.0.3.0/24, nexthop: 10.0.2.2}]}\n")
    assert ("web1", "app2") not in pairs(text)


def test_an_external_network_in_the_overlay_leads_to_whoever_is_its_gateway() -> None:
    text = ("routers:\n  r1: {host: network1, interfaces: [blue-a], gateway: {network: transit, ip: 172.16.0.2}}\n"
            "  r2: {host: network1, interfaces: [red-a, {subnet: transit-a, ip: 172.16.0.1}]}\n")
    assert pairs(text) == ALONE | {("web1", "app1"), ("web2", "app1")}


def test_a_second_card_leads_nowhere_but_answers_by_the_first() -> None:
    text = HEAD + "  fw: {host: compute1, ports: [{network: blue, ip: 10.0.1.50}, {network: red, ip: 10.0.2.50%s}]}\n"
    three = BOTH % "" + "  r2: {host: network1, interfaces: [{subnet: red-b, ip: 10.0.3.1}]}\n"
    secured, free = (expected_pairs(parse(text % security + three)) for security in ("", ", port_security: false"))
    assert ("fw:eth0", "app1") in secured and ("app1", "fw:eth0") not in secured  # it answers by its card on red
    assert ("app1", "fw:eth0") in free
    assert not {pair for pair in free if set(pair) == {"fw:eth0", "fw:eth1"}}
    assert ("fw:eth1", "web1") not in free


def test_ipv6_is_not_routed() -> None:
    text = """
cloud: test
underlay: {cidr: 192.0.2.0/24}
hosts:
  network1: {tunnel_ip: 192.0.2.21, role: network}
networks:
  blue: {tunnel_id: 1, subnets: {blue-a: {cidr: "2001:db8:1::/64", gateway: "2001:db8:1::1"}}}
  red: {tunnel_id: 2, subnets: {red-a: {cidr: "2001:db8:2::/64", gateway: "2001:db8:2::1"}}}
routers:
  r1: {host: network1, interfaces: [blue-a, red-a]}
vms:
  web1: {host: network1, network: blue}
  web2: {host: network1, network: blue}
  app1: {host: network1, network: red}
"""
    cloud = parse(text)
    assert expected_pairs(cloud) == ALONE
    assert cloud.legs_by_router == {}
    assert not list(expected_targets(cloud))


FLOATING = BOTH % OUT + """
  r2: {host: network1, driver: namespace, interfaces: [green-a], gateway: {network: public, ip: 203.0.113.20}}
floating_ips:
  203.0.113.50: {vm: web1}
  203.0.113.51: {vm: shop1}
"""


def test_every_gateway_address_of_the_own_router_answers() -> None:
    found = targets(FLOATING)
    assert {str(one.address) for one in found.values() if one.source == "web1"} == {
        "10.0.1.1", "10.0.2.1", "203.0.113.10", "203.0.113.50", "203.0.113.51", "203.0.113.1"}
    assert all(one.expected for one in found.values() if one.source == "web1")
    assert found["web1", "10.0.2.1"].name == "r1 on red-a"
    assert found["web1", "10.0.2.1"].seen_by is None
    assert {one.name for one in found.values() if one.source == "app2" and not one.expected} == {
        "floating IP of web1", "floating IP of shop1", "internet"}


def test_a_floating_ip_is_reached_by_all_who_lead_outside_itself_included() -> None:
    found = targets(FLOATING)
    sources = {one.source for one in found.values() if str(one.address) == "203.0.113.50" and one.expected}
    assert sources == {"web1", "web2", "app1", "shop1", "out1", INTERNET}
    assert {one.seen_by for one in found.values() if str(one.address) == "203.0.113.51" and one.expected} == {"shop1"}
    assert targets(FLOATING.replace("203.0.113.20", "203.0.113.20, snat: false"))["shop1", "203.0.113.50"].expected


def test_a_floating_ip_that_no_router_translates_is_reached_by_nobody() -> None:
    found = targets("floating_ips: {203.0.113.50: {vm: web1}}\n")
    assert {one.source for one in found.values()} == {"web1", "web2", "app1", "app2", "shop1", "out1", INTERNET}
    assert not any(one.expected for one in found.values() if one.name.startswith("floating"))


def test_the_internet_answers_those_whose_source_it_can_answer() -> None:
    found = {one.source: one.expected for one in targets(FLOATING).values() if one.name == INTERNET}
    assert found == {"web1": True, "web2": True, "app1": True, "app2": False, "shop1": True, "out1": True}
    plain = targets(FLOATING.replace("203.0.113.10}", "203.0.113.10, snat: false}"))
    assert {one.source for one in plain.values() if one.name == INTERNET and one.expected} == {
        "web1", "shop1", "out1"}


def big(networks: int, vms: int) -> Topology:
    text = ["cloud: big", "underlay: {cidr: 192.0.2.0/24}", "hosts:",
            "  n1: {tunnel_ip: 192.0.2.21, role: network}", "networks:",
            "  public: {external: true, subnets: {public: {cidr: 198.18.0.0/15, gateway: 198.18.0.1}}}"]
    text += [f"  net{n}: {{tunnel_id: {n + 1}, subnets: {{sub{n}: {{cidr: 10.{n % 2}.0.0/16, "
             f"gateway: 10.{n % 2}.0.1}}}}}}" for n in range(networks)]
    text += ["routers:"]
    text += [f"  r{n}: {{host: n1, interfaces: [sub{n}, sub{n + 1}], gateway: {{network: public}}}}"
             for n in range(0, networks, 2)]
    text += ["floating_ips:", *(f"  198.19.0.{n + 1}: {{vm: vm{n}}}" for n in range(50)), "vms:"]
    text += [f"  vm{n}: {{host: n1, network: net{n % networks}}}" for n in range(vms)]
    return parse("\n".join(text) + "\n")


def test_a_big_cloud_is_judged_by_its_kinds_of_ports() -> None:
    cloud = big(200, 2000)
    assert len(expected_pairs(cloud)) == 2000 * 19
    assert sum(one.expected for one in expected_targets(cloud)) == 2000 * 54 + 50
