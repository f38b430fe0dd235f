"""The hybrid firewall's chains, read as iptables reads them, and held against what the topology means."""
from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from controller.host import guarding, guards, iptables
from controller.host.guards import Guard, Rule
from controller.model import reading
from controller.model.protocols import Datagram
from controller.model.topology import Topology
from tests.chains import Chains, Frame
from tests.edge_cases import Cases
from tests.edge_clouds import sketch
from tests.unit.test_edge_oracle import datagram

CLOUDS, CONVERSATIONS = 3, 60
GUARD = Guard("port web", "0123456789abcdef", ip_address("10.0.0.11"),
              (("fa:16:3e:00:00:01", (ip_network("10.0.0.11"),)),), 7)
TEN = ip_network("10.0.0.0/8")
HTTP = Rule(False, 4, 6, (80, 80), None, None, None, None)


def allowing(*rules: Rule, version: int = 4) -> list[str]:
    """What of a port's chains comes from its rules."""
    plain = dict(guards.chains(replace(GUARD, rules=()), version))
    found = dict(guards.chains(replace(GUARD, rules=rules), version))
    return [line for chain, lines in found.items() for line in lines if line not in plain[chain]]


def test_the_chains_say_what_the_topology_means_of_thousands_of_packets(seed: int) -> None:
    pick = random.Random(seed)
    for _ in range(CLOUDS):
        made = sketch(pick, "iptables_hybrid")
        topology = made.topology()
        assert topology is not None
        assert disagreements(topology, pick) == [], made.text()


def disagreements(topology: Topology, pick: random.Random) -> list[str]:
    chains = {host: Chains(found) for host in topology.hosts if (found := guarding.firewall(topology, host))}
    ports, filters, found = {port.name: port for port in topology.ports()}, topology.filters, []
    for case in Cases(topology, pick).some(CONVERSATIONS):
        for step in case.steps:
            packet = datagram(step.packet)
            for name, out in ((step.source, True), *((target, False) for target in step.targets)):
                port = ports.get(name)
                if port is None or (out and not owns(topology, name, packet)):
                    continue
                mine = chains[port.host].passes(f"tap{str(port.id)[:11]}", Frame(packet, port.mac), out=out)
                theirs = (filters.leaves if out else filters.enters)(port, packet)
                if mine != theirs.passes:
                    found.append(f"{step.packet} {'out of' if out else 'into'} {name}: {theirs}, chains: {mine}")
    return found


def owns(topology: Topology, name: str, packet: Datagram) -> bool:
    """Whether port security lets a VM send this, or there is none: that comes before any group."""
    port = next(port for port in topology.ports() if port.name == name)
    forbidden = (packet.source_port, packet.port) in ((67, 68), (547, 546)) or packet.icmp_type in (134, 137)
    return not port.port_security or (packet.source == port.ip and not forbidden)


@pytest.mark.parametrize(("rule", "words"), [
    (HTTP, "-p tcp -m tcp --dport 80 -j RETURN"),
    (replace(HTTP, ports=(80, 90), remote=TEN), "-s 10.0.0.0/8 -p tcp -m tcp --dport 80:90 -j RETURN"),
    (replace(HTTP, by_vm=True, remote=TEN), "-d 10.0.0.0/8 -p tcp -m tcp --dport 80 -j RETURN"),
    (replace(HTTP, group="NIPv4x"), "-p tcp -m tcp --dport 80 -m set --match-set NIPv4x src -j RETURN"),
    (replace(HTTP, protocol=136, ports=(5, 9)), "-p udplite -m multiport --dports 5:9 -j RETURN"),
    (replace(HTTP, protocol=89, ports=None), "-p 89 -j RETURN"),
    (replace(HTTP, protocol=1, ports=None, icmp_type=8, icmp_code=0), "-p icmp -m icmp --icmp-type 8/0 -j RETURN"),
    (replace(HTTP, protocol=0, ports=None), "-m u32 --u32 \"0x6&0xff=0x0\" -j RETURN"),
    (replace(HTTP, protocol=None, ports=None, remote=ip_network("0.0.0.0/0")), "-j RETURN"),
], ids=str)
def test_a_rule_becomes_the_words_that_iptables_itself_uses(rule: Rule, words: str) -> None:
    assert allowing(rule) == [words]


def test_what_iptables_takes_for_any_allows_nothing() -> None:
    """To iptables, ICMP type 255 is any type, and protocol 0 any protocol."""
    assert allowing(replace(HTTP, protocol=1, ports=None, icmp_type=255)) == []
    assert allowing(replace(HTTP, version=6, protocol=0, ports=None), version=6) == []


def test_equal_rules_of_two_groups_are_one() -> None:
    assert len(allowing(HTTP, HTTP)) == 1


def test_a_port_that_is_neither_filtered_nor_secured_has_no_chain_and_is_not_tracked() -> None:
    text = iptables.rules([replace(GUARD, identities=(), zone=None)], 4)
    assert not any(guards.PREFIX + which + GUARD.key in line for line in text for which in "ios")
    targets = [line.rpartition("-j ")[2] for line in text if "PREROUTING" in line and GUARD.key in line]
    assert targets == ["CT --notrack"] * 3


def test_names_of_sets_are_neutrons_and_differ_where_tenants_are_not_joined() -> None:
    cloud = """
cloud: sets
underlay: {cidr: 192.0.2.0/24}
firewall: iptables_hybrid
hosts: {c1: {tunnel_ip: 192.0.2.11}}
networks:
  blue: {tunnel_id: 1, subnets: {b: {cidr: 10.0.0.0/24}}}
  green: {tunnel_id: 2, subnets: {g: {cidr: 10.0.0.0/24}}}
security_groups: {web: [{direction: ingress, protocol: tcp, port: 80, remote_group: web}]}
vms:
  one: {host: c1, network: blue, ip: 10.0.0.11, security_groups: [web]}
  two: {host: c1, network: green, ip: 10.0.0.12, security_groups: [web]}
"""
    topology = reading.parse(cloud, "sets.yaml").topology
    assert topology is not None
    firewall = guarding.firewall(topology, "c1")
    assert firewall is not None
    group = topology.security_groups["web"].id
    assert {one.members: one.name == f"NIPv4{group}"[:31] for one in firewall.sets} == {
        ("10.0.0.11/32",): True, ("10.0.0.12/32",): False}
