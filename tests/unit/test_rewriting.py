"""Other groups and nothing else: what that comes to, computed from what differs, is what whole packet filters say."""
from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from controller.host import guarding, lab, orders, refilter
from controller.host.refilter import Change
from controller.host.rewriting import rewriting
from controller.model.succession import succeed
from controller.model.topology import Topology
from controller.tools import filters
from tests.clouds import parse
from tests.edge_clouds import changed, sketch

CLOUD = """
cloud: rules
underlay: {cidr: 192.0.2.0/24}
firewall: %(firewall)s
hosts: {c1: {tunnel_ip: 192.0.2.1}, c2: {tunnel_ip: 192.0.2.2}}
networks: {blue: {tunnel_id: 7, subnets: {s: {cidr: 10.0.0.0/24}}}}
security_groups:
  web: [{direction: ingress, protocol: tcp, port: %(port)s, remote: 0.0.0.0/0}]
  db: [{direction: ingress, protocol: tcp, port: 5432, remote_group: web}]
vms:
  web1: {host: c1, network: blue, ip: 10.0.0.11, security_groups: [web]}
  web2: {host: %(host)s, network: blue, ip: 10.0.0.12, security_groups: [%(groups)s]}
  db1: {host: c1, network: blue, ip: 10.0.0.21, security_groups: [db]}
  free: {host: c2, network: blue, ip: 10.0.0.31}
"""
_ENOUGH = 2  # pairs of clouds
BASE = {"firewall": "iptables_hybrid", "port": "80", "host": "c2", "groups": "web"}


def cloud(**other: str) -> Topology:
    return parse(CLOUD % {**BASE, **other})


def whole(old: Topology, new: Topology) -> dict[str, Change]:
    """What the packet filters of all hosts say, made anew."""
    found = {host: refilter.change(guarding.firewall(new, host), guarding.firewall(old, host)) for host in new.hosts}
    return {host: one for host, one in found.items() if one.steps}


def said(changes: Mapping[str, Change]) -> dict[str, tuple[object, ...]]:
    """Without the order in which ports are named."""
    return {host: ([(step.argv, sorted(step.lines)) for step in one.rules], json.loads(one.judging or "{}"),
                   {each.key: each for each in one.touched}) for host, one in changes.items()}


def planned(topology: Topology) -> lab.LabPlan:
    return lab.lab_plan(topology, datapath="netdev", controllers=dict.fromkeys(topology.hosts, "unix:x"))


def test_of_random_clouds_it_is_what_whole_packet_filters_say(seed: int) -> None:
    pick, compared = random.Random(seed), 0
    for _ in range(12):
        if compared == _ENOUGH:
            break
        before = sketch(pick, "iptables_hybrid")
        after = changed(pick, before)
        old, new = before.topology(), after.topology()
        if old is None or new is None:
            continue
        found = rewriting(succeed(old, new))
        if found is not None:
            compared += bool(found)
            assert said(found) == said(whole(old, new)), f"{before.text()}\n---\n{after.text()}"
            assert planned(old) == planned(new), "nothing else of the lab differs"
            sent = json.loads(json.dumps(filters.changed(succeed(old, new))))
            assert all(orders.from_json(sent[host]).steps == tuple(
                replace(step, why="the rules that the daemon has sent") for step in one.rules)
                for host, one in found.items())
    assert compared, "no pair of clouds differed in groups alone"


@pytest.mark.parametrize("other", [{"port": "81"}, {"groups": "db"}, {"groups": "web, db"}])
def test_a_rule_or_a_group_touches_the_ports_that_mean_it(other: dict[str, str]) -> None:
    old, new = cloud(), cloud(**other)
    found = rewriting(succeed(old, new))
    assert found is not None
    assert said(found) == said(whole(old, new))


@pytest.mark.parametrize("other", [{"host": "c1"}, {"groups": ""}, {"firewall": "openvswitch"}])
def test_where_a_port_moves_or_comes_under_rules_or_leaves_them_it_is_nobodys_short_way(other: dict[str, str]) -> None:
    assert rewriting(succeed(cloud(), cloud(**other))) is None
    assert rewriting(succeed(cloud(**other), cloud())) is None


def test_nothing_is_said_where_nothing_changes() -> None:
    assert rewriting(succeed(cloud(), cloud())) == {}


@pytest.mark.parametrize("steps", [
    [["sh", ["-c true"]]],
    [["iptables-restore", ["*nat"]]],
    [["iptables-restore", ["-A INPUT -j ACCEPT"]]],
    [["iptables-restore", ["-A neutron-openvswi-i00000001-1 -j RETURN --modprobe=/tmp/x"]]],
    [["iptables-restore", ["-A neutron-openvswi-i00000001-1 -j RETURN -M /tmp/x"]]],
    [["iptables-restore", ["-A neutron-openvswi-i00000001-1 -j RETURN -vM/tmp/x"]]],
    [["iptables-restore", ["-A neutron-openvswi-i00000001-1 -j RETURN\n-P INPUT DROP"]]],
    [["ipset", ["flush docker"]]],
    [["ipset", ["add NIPv498a6650c-6825-52af-8f07-6e 10.0.0.1 comment x"]]],
])
def test_root_takes_rules_from_the_daemon_and_nothing_else(steps: list[object]) -> None:
    with pytest.raises(orders.Strange):
        orders.from_json({"steps": steps, "judging": "", "ports": 1})
