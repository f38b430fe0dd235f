"""Topologies that follow each other: what is equal is shared, and what is derived equals what is found anew."""
from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from controller.model import reading
from controller.model.succession import succeed
from controller.model.topology import Topology
from tests.clouds import golden, parse
from tests.random_clouds import random_cloud

LOOKUPS = ("ports_by_network", "ports_by_host", "legs_by_router", "legs_by_network", "legs_by_host", "dhcp_by_network",
           "dhcp_by_host", "floating_ips_by_router", "contested_by_network", "numbers_by_host", "subnets", "bridges")
SEED = int(os.environ.get("TUNBRIDGE_SEED", random.SystemRandom().randrange(1 << 32)))
Document = dict[str, Any]


def everything(topology: Topology) -> dict[str, object]:
    """All that a topology can be asked for."""
    where, filters = topology.whereabouts, topology.filters
    return {
        **{name: getattr(topology, name) for name in LOOKUPS},
        "carried": {host: where.carried(host) for host in topology.hosts},
        "carriers": {network: where.carriers(network) for network in topology.networks},
        "plugs": {host: where.plugs(host) for host in topology.hosts},
        "unsecured": {host: where.unsecured(host) for host in topology.hosts},
        "tunnels": (where.tunnels, where.tunnel_to),
        "joined": {network: filters.joined(network) for network in topology.networks},
        "numbers": {host: filters.numbers(host) for host in topology.hosts},
        "faces": {network: filters.face(network) for network in topology.networks},
    }


# ---- edits of a file as people make them; what makes no valid topology is left out

def _vm_goes(pick: random.Random, cloud: Document) -> None:
    cloud["vms"].pop(pick.choice(list(cloud["vms"])))


def _vm_comes(pick: random.Random, cloud: Document) -> None:
    name = pick.choice(list(cloud["vms"]))
    model = cloud["vms"][name]
    one = {key: model[key] for key in ("host", "network", "security_groups") if key in model}
    items = list(cloud["vms"].items())
    items.insert(pick.randrange(len(items) + 1), (f"new{pick.randrange(1000)}", one))
    cloud["vms"] = dict(items)


def _vm_moves(pick: random.Random, cloud: Document) -> None:
    cloud["vms"][pick.choice(list(cloud["vms"]))]["host"] = pick.choice(list(cloud["hosts"]))


def _vm_is_otherwise(pick: random.Random, cloud: Document) -> None:
    vm = cloud["vms"][pick.choice(list(cloud["vms"]))]
    port = pick.choice(vm["ports"]) if "ports" in vm else vm
    groups = list(cloud.get("security_groups") or {})
    if pick.random() < 0.5 and groups:
        port["security_groups"] = pick.sample(groups, pick.randrange(len(groups) + 1))
    else:
        port["port_security"] = not port.get("port_security", True)
        port.pop("allowed_address_pairs", None)


def _one_of_a_section_goes(pick: random.Random, cloud: Document) -> None:
    section = pick.choice(["routers", "floating_ips", "security_groups", "networks", "hosts"])
    if cloud.get(section):
        cloud[section].pop(pick.choice(list(cloud[section])))


def _router_is_otherwise(pick: random.Random, cloud: Document) -> None:
    if cloud.get("routers"):
        router = cloud["routers"][pick.choice(list(cloud["routers"]))]
        router["driver"] = pick.choice(["simulated", "namespace"])
        if router.get("interfaces") and pick.random() < 0.5:
            router["interfaces"].pop()


def _rule_goes(pick: random.Random, cloud: Document) -> None:
    for group in (cloud.get("security_groups") or {}).values():
        if isinstance(group, list) and group and pick.random() < 0.3:
            group.pop(pick.randrange(len(group)))


def _network_is_otherwise(pick: random.Random, cloud: Document) -> None:
    network = cloud["networks"][pick.choice(list(cloud["networks"]))]
    if "tunnel_id" in network and pick.random() < 0.5:
        network["tunnel_id"] = pick.randrange(5000, 6000)
    for subnet in (network.get("subnets") or {}).values():
        subnet["dhcp"] = pick.random() < 0.5


def _host_is_otherwise(pick: random.Random, cloud: Document) -> None:
    host = cloud["hosts"][pick.choice(list(cloud["hosts"]))]
    if pick.random() < 0.5:
        host["role"] = pick.choice(["compute", "network"])
    else:
        cloud["hosts"][f"late{pick.randrange(100)}"] = {**host, "tunnel_ip": f"192.0.2.{pick.randrange(100, 250)}"}


def _another_order(pick: random.Random, cloud: Document) -> None:
    items = list(cloud["vms"].items())
    pick.shuffle(items)
    cloud["vms"] = dict(items)


def _a_setting(pick: random.Random, cloud: Document) -> None:
    cloud["forwarding"] = pick.choice(["learning", "l2population"])
    cloud["firewall"] = pick.choice(["openvswitch", "iptables_hybrid", "none"])


EDITS: list[Callable[[random.Random, Document], None]] = [
    _vm_goes, _vm_comes, _vm_comes, _vm_comes, _vm_moves, _vm_is_otherwise, _vm_is_otherwise, _one_of_a_section_goes,
    _router_is_otherwise, _rule_goes, _network_is_otherwise, _host_is_otherwise, _another_order, _a_setting]


def edited(pick: random.Random, cloud: Document) -> tuple[Document, Topology] | None:
    """The cloud after one to three edits; None if that is no valid one."""
    other = copy.deepcopy(cloud)
    try:
        for edit in pick.choices(EDITS, k=pick.randint(1, 3)):
            edit(pick, other)
    except (IndexError, KeyError):  # nothing left to edit
        return None
    found = reading.parse(yaml.safe_dump(other, sort_keys=False), "topology.yaml").topology
    return None if found is None else (other, found)


@pytest.mark.parametrize("run", range(12))
def test_whatever_is_edited_what_is_derived_equals_what_is_found_anew(run: int) -> None:
    print(f"TUNBRIDGE_SEED={SEED} run {run}")
    pick = random.Random(SEED * 1000 + run)
    document = yaml.safe_load(random_cloud(pick))
    topology = parse(yaml.safe_dump(document, sort_keys=False))
    everything(topology)
    for _ in range(25):
        step = edited(pick, document)
        if step is not None:
            document, read = step
            topology = succeed(topology, read).new
            assert topology == read
            assert [*topology.vms] == [*read.vms]
            assert everything(topology) == everything(read)


def test_what_is_equal_is_the_same_value() -> None:
    old, read = golden("routed"), golden("routed")
    new = succeed(old, read).new
    assert all(new.vms[name] is vm for name, vm in old.vms.items())
    assert all(new.networks[name] is network for name, network in old.networks.items())


def test_a_vm_more_leaves_every_look_up_but_its_own_as_it_is() -> None:
    old = golden("routed")
    everything(old)
    name, vm = next(iter(old.vms.items()))
    port = replace(vm.ports[0], name="new", vm="new", id=old.networks[vm.ports[0].network].id)
    step = succeed(old, replace(old, vms={**old.vms, "new": replace(vm, name="new", ports=(port,))}))
    assert step.difference.vms == {"new"}
    assert (step.ports.gone, step.ports.come) == ((), (port,))
    assert not step.legs
    assert not step.servers
    assert name in step.new.vms
    for look_up in ("legs_by_router", "legs_by_network", "legs_by_host", "dhcp_by_network", "subnets", "bridges"):
        assert getattr(step.new, look_up) is getattr(old, look_up)
    for network, ports in old.ports_by_network.items():
        assert (step.new.ports_by_network[network] is ports) == (network != port.network)


def test_lines_that_move_are_no_difference() -> None:
    text = """
cloud: moved
underlay: {cidr: 192.0.2.0/24}
hosts: {compute1: {tunnel_ip: 192.0.2.11}}
networks: {blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24}}}}
vms: {web1: {host: compute1, network: blue, ip: 10.0.1.11}}
"""
    old, new = parse(text), parse("# a line more\n" + text)
    assert new.vms["web1"].line == old.vms["web1"].line + 1
    step = succeed(old, new)
    assert step.new.vms["web1"] is old.vms["web1"]
    assert not step.difference.vms
