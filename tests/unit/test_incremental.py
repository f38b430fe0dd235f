"""What an edit or a port costs, counted; and that what is computed for it equals what is computed from scratch."""
from __future__ import annotations

import gc
import os
import random
import weakref
from dataclasses import asdict

import pytest
import yaml

from controller.model import placement
from controller.model.topology import Topology
from controller.switch.backlog import Backlog
from flows.tables import BR_INT
from tests.clouds import parse
from tests.edits import edited
from tests.model_switch import World
from tests.random_clouds import random_cloud
from tests.wideclouds import hosts_of, vm, wide, with_vm, without_vm

SEED = int(os.environ.get("TUNBRIDGE_SEED", random.SystemRandom().randrange(1 << 32)))
Counts = dict[str, int]


def running(topology: Topology, *hosts: str) -> World:
    """A world in sync, of which these hosts (all, if none is named) are connected."""
    world = World(topology, bare=bool(hosts))
    for host in hosts:
        for bridge, ports in placement.imagined(topology, host).ports.items():
            world.switches[host, bridge].ports = dict(ports)
    world.connect(*((host, bridge) for host in hosts for bridge in topology.hosts[host].datapath_ids))
    world.settle()
    return world


def counts(world: World) -> Counts:
    """All work so far: of the fleet, and of all sessions together."""
    found = asdict(world.fleet.counters)
    for state in world.fleet.hosts.values():
        for _, session in state.sessions.values():
            for name, number in (*asdict(session.counters).items(), ("numbered", session.intent.numbered)):
                found[name] = found.get(name, 0) + number
    return found


def cost(world: World, topology: Topology) -> Counts:
    """Of an edit."""
    before = counts(world)
    world.apply(topology)
    world.settle()
    return {name: number - before[name] for name, number in counts(world).items()}


def cost_of_a_vm_more(hosts: int, ports: int, **options: object) -> tuple[Counts, Counts]:
    """And of a VM less; on a network of 20."""
    cloud = wide(hosts, ports, **options)  # type: ignore[arg-type]
    one = vm(99_999, 0, f"compute{hosts - 1}", cloud.vms["vm0"].ports[0].security_groups)
    world = running(cloud, *hosts_of(cloud, "net0"), one.host)
    world.port(one.host, BR_INT, one.ports[0].device, 999)
    more = cost(world, with_vm(world.fleet.topology, one))
    return more, cost(world, without_vm(world.fleet.topology, one.name))


def test_a_vm_more_among_20000_computes_one_network_on_the_hosts_that_carry_it() -> None:
    more, less = cost_of_a_vm_more(1000, 20_000)
    for each in (more, less):
        assert (each["edits"], each["networks"], each["hosts"]) == (1, 1, 21)
        assert each["writes"] == 22  # on every br-tun that has a MAC more, and the br-int that has the VM
        assert 0 < each["numbered"] < 22 * 80  # of the network, before and after; a host has a thousand rows in all
    assert (more, less) == cost_of_a_vm_more(1000, 1000), "it costs the same whatever else there is"


def test_a_topology_of_the_past_is_freed_though_nobody_looks_for_garbage() -> None:
    world = running(wide(10, 40), "compute0", "compute1")
    gc.collect()
    gc.disable()
    try:
        past = []
        for number in range(4):
            past.append(weakref.ref(world.fleet.topology))
            cost(world, with_vm(world.fleet.topology, vm(900 + number, 0, "compute0")))
        assert [one() is None for one in past] == [True, True, True, False], "the last one is what was before"
    finally:
        gc.enable()


def test_the_same_topology_again_looks_at_no_host() -> None:
    world = running(wide(100, 200), "compute0")
    spent = cost(world, wide(100, 200))
    assert spent.pop("edits") == 1
    assert not any(spent.values())


def cost_of_a_port(networks: int) -> Counts:
    """Of a port that goes and comes on a host that carries this many."""
    cloud = wide(2, 2 * networks, 2)
    world = running(cloud, "compute0")
    device = cloud.ports_by_network["net3"][0].device
    before = counts(world)
    for ofport in (None, 7777):
        world.port("compute0", BR_INT, device, ofport)
        world.settle()
    return {name: number - before[name] for name, number in counts(world).items()}


def test_a_port_of_a_host_with_hundreds_of_networks_computes_its_own_alone() -> None:
    spent = cost_of_a_port(200)
    assert (spent["networks"], spent["writes"], spent["hosts"]) == (2, 2, 0)
    assert spent == cost_of_a_port(10), "it costs the same whatever else there is"


def routed(routers: int, *more: str) -> Topology:
    """Networks of two VMs on two hosts, each with a simulated router on a third."""
    names = [f"n{number}" for number in range(routers)]
    lines = ["cloud: routed", "underlay: {cidr: 192.0.2.0/24}", "firewall: openvswitch", "hosts:",
             "  a: {tunnel_ip: 192.0.2.1}", "  b: {tunnel_ip: 192.0.2.2}", "  c: {tunnel_ip: 192.0.2.3, role: network}",
             "networks:",
             *(f"  {name}: {{tunnel_id: {number}, subnets: {{sub-{name}: {{cidr: 10.0.0.0/24, gateway: 10.0.0.1}}}}}}"
               for number, name in enumerate(names, start=1)),
             "security_groups:", "  web: [{direction: ingress, protocol: tcp, port: 80, remote_group: web}]",
             "routers:", *(f"  r-{name}: {{host: c, interfaces: [sub-{name}]}}" for name in names),
             "vms:", *(f"  {host}-{name}: {{host: {host}, network: {name}, ip: 10.0.0.1{at}, security_groups: [web]}}"
                       for name in names for at, host in enumerate("ab")), *more]
    return parse("\n".join(lines))


@pytest.mark.parametrize("line", [
    "  new: {host: b, network: n1, ip: 10.0.0.77, security_groups: [web]}",
    "  new: {host: a, network: n1, ip: 10.0.0.77}"])
def test_a_vm_more_behind_a_router_computes_that_router_and_its_network_alone(line: str) -> None:
    spent = []
    for routers in (3, 10):
        cloud = routed(routers)
        world = running(cloud)
        world.check()
        spent.append(cost(world, routed(routers, line)))
        plug(world)
        world.settle()
        world.check()
    assert spent[0] == spent[1], "it costs the same whatever else there is"
    assert (spent[0]["networks"], spent[0]["hosts"]) == (1, 3)


def test_an_edit_of_everything_is_done_in_portions_and_who_speaks_first_is_reached_first() -> None:
    cloud = wide(6, 40, forwarding="learning")
    world = running(cloud, *cloud.hosts)
    world.fleet.backlog = Backlog(portion=60)
    read = wide(6, 40)
    world.apply(read)
    waiting = {*world.fleet.backlog.hosts}
    assert waiting
    assert waiting < {*cloud.hosts}
    last = sorted(waiting)[-1]
    before = world.fleet.counters.hosts
    world.port(last, BR_INT, cloud.ports_by_host[last][0].device, None)
    assert {*world.fleet.backlog.hosts} == waiting - {last}
    assert world.fleet.counters.hosts == before + 1
    world.apply(with_vm(read, vm(99_999, 0, "compute1")))  # another edit waits for nobody's turn
    assert world.fleet.counters.hosts >= len(cloud.hosts)
    world.settle()
    assert world.fleet.counters.networks == len(cloud.networks) + 1 + 1
    world.check()


@pytest.mark.parametrize("run", range(10))
def test_whatever_is_edited_switches_hold_what_is_computed_from_scratch(run: int) -> None:
    print(f"TUNBRIDGE_SEED={SEED} run {run}")
    pick = random.Random(SEED * 1000 + run)
    document = yaml.safe_load(random_cloud(pick))
    world = running(parse(yaml.safe_dump(document, sort_keys=False)))
    world.check()
    for _ in range(12):
        step = edited(pick, document)
        if step is not None:
            document, read = step
            world.apply(read)
            plug(world)
            world.settle()
            world.check()


def plug(world: World) -> None:
    """What the hosts shall have since the last edit is plugged in."""
    for host in world.fleet.topology.hosts:
        for bridge, wanted in placement.imagined(world.fleet.topology, host).ports.items():
            ports = world.switches[host, bridge].ports
            for number, name in enumerate(wanted.keys() - ports.keys(), start=max(ports.values(), default=0) + 1):
                world.port(host, bridge, name, number)
    world.connect(*(place for place in world.switches if not world.is_connected(place)))
