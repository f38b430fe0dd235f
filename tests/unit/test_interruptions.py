"""What a plan calls hitless is: at no moment of it, whichever hosts have changed over, is a packet lost on paper."""
from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, combinations
from typing import Any

import pytest
import yaml

from controller.model.placement import Seen
from controller.model.reachability import expected_pairs
from controller.model.succession import Succession, succeed
from controller.model.topology import Port, Topology
from controller.model.walking import World
from controller.switch.interruptions import document, ends, gaps, opened
from controller.tools.hosttables import HostTables
from controller.tools.simulate import Cloud
from flows import packet as packets
from tests.clouds import ROOT, parse
from tests.edits import edited
from tests.random_clouds import random_cloud

DEMO = (ROOT / "topology.yaml").read_text()


def step(*changes: tuple[str, str], text: str = DEMO) -> Succession:
    """From a file to the same with other words in it."""
    after = text
    for old, new in changes:
        assert old in after
        after = after.replace(old, new)
    return succeed(parse(text), parse(after))


@pytest.mark.parametrize(("old", "new", "what", "ports"), [
    ("db1: {host: compute1", "db1: {host: compute2", "db1", ("db1",)),
    ("tunnel_id: 1001", "tunnel_id: 2001", "network blue", ("web1", "db1", "web2", "web3")),
    ("port: 4789", "port: 4790", "all hosts", None),
    ("firewall: iptables_hybrid", "firewall: openvswitch", "all VMs", None),
    ("cloud: demo", "cloud: show", "all hosts", None),
    ("192.0.2.11", "192.0.2.31", "host compute1", ("web1", "db1", "shop1")),
    ("ip: 10.0.1.13, security", "ip: 10.0.1.14, security", "db1", ("db1",)),
    ("driver: namespace", "driver: simulated", "router r2", ("shop1", "cache1", "shop2", "vault1")),
    ("ip: 203.0.113.20", "ip: 203.0.113.21", "router r2", ("shop1", "cache1", "shop2", "vault1")),
    ("gateway: 10.0.9.1", "gateway: 10.0.9.2", "subnet admin-subnet", ("monitor1",)),
])
def test_what_is_interrupted_is_named_with_who_feels_it(
        old: str, new: str, what: str, ports: tuple[str, ...] | None) -> None:
    assert [(one.what, one.ports) for one in gaps(step((old, new)))] == [(what, ports)]


@pytest.mark.parametrize(("old", "new"), [
    ("  monitor1:", "  late1: {host: compute1, network: admin}\n  monitor1:"),
    ("  cache1: {host: compute2, network: green, ip: 10.0.1.13}\n", ""),
    ("forwarding: learning", "forwarding: l2population"),
    ("dhcp: true", "dhcp: true, dns: [10.0.1.13]"),
    ("interfaces: [blue-subnet, blue-data-subnet]", "interfaces: [blue-subnet, blue-data-subnet, admin-subnet]"),
    ("port: 80}", "port: 80}\n    - {direction: ingress, protocol: tcp, port: 443}"),
    ("demo", "demo"),
])
def test_an_edit_that_touches_nobody_else_is_hitless(old: str, new: str) -> None:
    assert document(step((old, new))) == {"ok": True, "interrupted": [], "ended": []}


@pytest.mark.parametrize(("old", "new", "what", "why"), [
    ("    - {direction: ingress, protocol: tcp, port: 80}\n", "", "group web", "tcp 80 IPv4 from anybody"),
    ("203.0.113.50: {vm: web1, network: blue}", "203.0.113.50: {vm: db1, network: blue}", "floating IP 203.0.113.50",
     "taken from web1"),
    ("network: blue, ip: 10.0.1.11, security_groups: [web]", "network: blue, ip: 10.0.1.11, security_groups: [db]",
     "web1", "what only web let it begin or hear is cut"),
    ("network: blue-data, ip: 10.0.2.11}", "network: blue-data, ip: 10.0.2.11, security_groups: [web]}", "store1",
     "it was not filtered"),
])
def test_what_ends_because_it_may_not_go_on_is_named_and_interrupts_nobody(
        old: str, new: str, what: str, why: str) -> None:
    found = step((old, new))
    assert gaps(found) == []
    one, = ends(found)
    assert one.what == what
    assert why in one.why


def test_a_rule_that_comes_is_told_with_who_obeys_it() -> None:
    one, = opened(step(("port: 80}", "port: 80}\n    - {direction: ingress, protocol: tcp, port: 443}")))
    assert (one.what, one.why, one.ports) == (
        "group web", "these rules come: tcp 443 IPv4 from anybody", ("web1", "web2", "web3"))


class _Mixed(HostTables):
    """Some hosts as they were, some as they will be; those keep their local VLANs. A new host is as it will be."""

    def __init__(self, old: Topology, new: Topology, renewed: Collection[str]) -> None:
        before = HostTables(old, whole=True)
        vlans = {host: Seen(vlans=before.seen(host).vlans) for host in old.hosts if host in new.hosts}
        after = HostTables(new, vlans, whole=True)
        self._of = {host: before if host in old.hosts and host not in renewed else after for host in new.hosts}

    def __getattribute__(self, name: str) -> Any:
        if name == "_of" or name.startswith("__"):
            return super().__getattribute__(name)
        return lambda host, *rest: getattr(self._of[host], name)(host, *rest)


def mixed(move: Succession, renewed: Collection[str]) -> Cloud:
    cloud = Cloud(move.new)
    cloud._tables = _Mixed(move.old, move.new, renewed)
    return cloud


def arrives(cloud: Cloud, world: World, one: Port, other: Port) -> bool:
    """Whether the first packet of a ping comes to a port, of the same network or by the sender's gateway."""
    near = other.ip in world.topology.subnets[one.subnet].cidr
    leg = None if near else world.gateway_of(one)
    mac = other.mac if near else leg.mac if leg else ""
    ping = packets.icmp_echo((one.mac, one.ip), (mac, other.ip))
    return any(ending.port == other for ending in cloud.send(one, ping))


def subsets(hosts: Iterable[str]) -> Iterator[tuple[str, ...]]:
    every = sorted(hosts)
    return chain.from_iterable(combinations(every, size) for size in range(len(every) + 1))


def test_a_tunnel_id_that_changes_does_interrupt_and_the_check_sees_it() -> None:
    move = step(("tunnel_id: 1001", "tunnel_id: 2001"))
    web1, web2 = (move.new.vms[name].ports[0] for name in ("web1", "web2"))
    world = World(move.new)
    assert [arrives(mixed(move, some), world, web1, web2)
            for some in ((), ("compute1",), ("compute2",), ("compute1", "compute2"))] == [True, False, False, True]


def test_whichever_hosts_have_changed_over_nobody_who_is_not_named_loses_a_packet(seed: int) -> None:
    pick, judged = random.Random(seed), 0
    while judged < 60:
        text = random_cloud(pick, ("simulated", "namespace"), outside=True)
        after = edited(pick, yaml.safe_load(text))
        if after is None:
            continue
        move, new = succeed(parse(text), after[1]), after[1]
        found = gaps(move)
        if any(one.ports is None for one in found):
            continue
        named = {name for one in found for name in one.ports or ()}
        both = sorted(expected_pairs(move.old) & expected_pairs(new))
        ports = {port.name: port for port in new.ports()}
        before = {port.name: port for port in move.old.ports()}
        pairs = [(one, other) for one, other in both if not {one, other} & named]
        world = World(new)
        for one, other in pick.sample(pairs, min(3, len(pairs))):
            assert (before[one].host, before[other].host) == (ports[one].host, ports[other].host)
            hosts = {ports[one].host, ports[other].host, *(router.host for router in new.routers.values())}
            for some in subsets(hosts & move.old.hosts.keys()):
                assert arrives(mixed(move, some), world, ports[one], ports[other]), (text, one, other, some)
                judged += 1
