"""Topologies that follow each other: what is equal is shared, and what is derived equals what is found anew."""
from __future__ import annotations

import os
import pickle
import random
from dataclasses import replace

import pytest
import yaml

from controller.model.delta import Chunk, Head, Splice, assembled, parts
from controller.model.succession import succeed
from controller.model.topology import Topology
from tests.clouds import golden, parse
from tests.edits import edited
from tests.random_clouds import random_cloud

LOOKUPS = ("ports_by_network", "ports_by_host", "legs_by_router", "legs_by_network", "legs_by_host", "dhcp_by_network",
           "dhcp_by_host", "floating_ips_by_router", "contested_by_network", "numbers_by_host", "subnets", "bridges")
SEED = int(os.environ.get("TUNBRIDGE_SEED", random.SystemRandom().randrange(1 << 32)))


def everything(topology: Topology) -> dict[str, object]:
    """All that a topology can be asked for."""
    where, filters = topology.whereabouts, topology.filters
    return {
        **{name: getattr(topology, name) for name in LOOKUPS},
        "carried": {host: where.carried(host) for host in topology.hosts},
        "carriers": {network: where.carriers(network) for network in topology.networks},
        "plugs": {host: where.plugs(host) for host in topology.hosts},
        "unsecured": {host: where.unsecured(host) for host in topology.hosts},
        "neighbours": {network: topology.neighbours.of(network) for network in topology.networks},
        "ends": topology.neighbours.ends,
        "tunnels": (where.tunnels, where.tunnel_to),
        "joined": {network: filters.joined(network) for network in topology.networks},
        "numbers": {host: filters.numbers(host) for host in topology.hosts},
        "faces": {network: filters.face(network) for network in topology.networks},
    }


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
            sent = pickle.loads(pickle.dumps([*parts(succeed(topology, read))]))
            topology = assembled(topology, sent).new
            assert topology == read
            assert [*topology.vms] == [*read.vms]
            assert everything(topology) == everything(read)


def test_an_edit_is_sent_as_what_it_brings() -> None:
    old = golden("routed")
    name, vm = next(iter(old.vms.items()))
    new = replace(old, vms={"first": replace(vm, name="first"), **old.vms})
    head, chunk = parts(succeed(old, new))
    assert isinstance(head, Head)
    assert isinstance(chunk, Chunk)
    assert head.splices == {"vms": Splice(0, 0, ("first",))}
    assert chunk.objects.keys() == {"first"}
    assert [*assembled(old, [head, chunk]).new.vms] == ["first", *old.vms]
    assert assembled(old, [head, chunk]).new.vms[name] is vm


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
