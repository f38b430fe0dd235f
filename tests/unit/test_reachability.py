"""Who may reach whom, from the topology alone."""
from __future__ import annotations

from controller.model import reading
from controller.model.reachability import all_pairs, expected_pairs
from controller.model.topology import Topology

TWINS = """
cloud: test
underlay: {cidr: 192.0.2.0/24}
hosts:
  compute1: {tunnel_ip: 192.0.2.11}
networks:
  blue:
    tunnel_id: 1
    subnets:
      blue-subnet: {cidr: 10.0.1.0/24}
      blue-second: {cidr: 10.0.2.0/24}
  green:
    tunnel_id: 2
    subnets: {green-subnet: {cidr: 10.0.1.0/24}}
vms:
  web1: {host: compute1, network: blue, ip: 10.0.1.11}
  web2: {host: compute1, network: blue, ip: 10.0.1.12}
  far: {host: compute1, network: blue, ip: 10.0.2.11}
  shop1: {host: compute1, network: green, ip: 10.0.1.11}
  firewall:
    host: compute1
    ports:
      - {network: blue, ip: 10.0.1.50}
      - {network: green, ip: 10.0.1.50}
"""


def topology(text: str = TWINS) -> Topology:
    read = reading.parse(text, "topology.yaml")
    assert read.topology is not None, read.problems
    return read.topology


def test_every_ordered_pair_of_ports_is_asked_once_and_none_asks_itself() -> None:
    pairs = all_pairs(topology())
    assert len(pairs) == len(set(pairs)) == 6 * 5
    assert not [pair for pair in pairs if pair[0] == pair[1]]


def test_ports_of_a_subnet_reach_each_other_both_ways_and_nobody_else() -> None:
    assert expected_pairs(topology()) == {
        ("web1", "web2"), ("web2", "web1"),
        ("web1", "firewall:eth0"), ("firewall:eth0", "web1"),
        ("web2", "firewall:eth0"), ("firewall:eth0", "web2"),
        ("shop1", "firewall:eth1"), ("firewall:eth1", "shop1"),
    }
