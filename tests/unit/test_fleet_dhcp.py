"""DHCP servers' ports and strangers' tunnels come, go and move: only what depends on them is touched."""
from __future__ import annotations

from controller.model.names import STRANGERS
from controller.model.topology import Topology
from flows.cookie import is_compiled
from flows.flow import Flow
from flows.tables import BR_INT, BR_TUN
from tests.clouds import parse
from tests.model_switch import World

CLOUD = """
cloud: dhcp
underlay: {cidr: 192.0.2.0/24}
hosts:
  compute1: {tunnel_ip: 192.0.2.11}
  network1: {tunnel_ip: 192.0.2.21, role: network}
  network2: {tunnel_ip: 192.0.2.22, role: network}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24, dhcp: true}}}
  green: {tunnel_id: 1002, subnets: {green-subnet: {cidr: 10.0.1.0/24}}}
vms:
  web1: {host: compute1, network: blue, ip: 10.0.1.11}
  shop1: {host: compute1, network: green, ip: 10.0.1.11}
  shop2: {host: network1, network: green, ip: 10.0.1.12}
  shop3: {host: network2, network: green, ip: 10.0.1.13}
"""


def running(topology: Topology) -> World:
    world = World(topology)
    world.connect()
    world.settle()
    world.check()
    world.writes.clear()
    return world


def about(world: World, host: str, origin: str) -> list[Flow]:
    """The flows of a host's bridges that this brought about."""
    return [row for (name, _), switch in world.switches.items() if name == host
            for cookie, row in switch.rows.values() if is_compiled(cookie) and row.origin == origin]


def test_a_servers_tap_that_comes_and_goes_touches_its_network_on_its_host_alone() -> None:
    topology = parse(CLOUD)
    world, server = running(topology), topology.dhcp_by_network["blue"]
    number = world.switches[server.host, BR_INT].ports[server.device]
    world.port(server.host, BR_INT, server.device, None)
    world.settle()
    world.check()
    assert {place[:2] for place in world.writes} == {(server.host, BR_INT)}
    assert all(flow.origin == "networks.blue" for _, _, plan in world.writes for _, flow in plan.add)
    world.port(server.host, BR_INT, server.device, number)
    world.settle()
    world.check()


def test_a_server_that_moves_is_served_by_its_new_host_and_what_was_learned_of_it_is_forgotten() -> None:
    topology = parse(CLOUD)
    world, server = running(topology), topology.dhcp_by_network["blue"]
    other = {"network1": "network2", "network2": "network1"}[server.host]
    vlan = (world.fleet.hosts["compute1"].vlans or {})["blue"]
    switch = world.switches["compute1", BR_TUN]
    switch.learn(vlan, server.mac, 1001, next(iter(switch.ports.values())))
    without = parse(CLOUD.replace(f"{server.host}: {{tunnel_ip: 192.0.2.2{server.host[-1]}, role: network}}",
                                  f"{server.host}: {{tunnel_ip: 192.0.2.2{server.host[-1]}}}"))
    assert without.dhcp_by_network["blue"].host == other
    world.plug_all(without)
    for place in world.switches:
        world.fleet.hosts[place[0]].ports[place[1]] = dict(world.switches[place].ports)
    world.apply(without)
    world.settle()
    world.check()
    assert not switch.learned()
    assert not about(world, server.host, "networks.blue")
    assert about(world, other, "networks.blue")


def test_the_strangers_tunnel_touches_no_network() -> None:
    world = running(parse(CLOUD))
    number = world.switches["compute1", BR_TUN].ports[STRANGERS]
    world.port("compute1", BR_TUN, STRANGERS, None)
    world.settle()
    world.check()
    world.port("compute1", BR_TUN, STRANGERS, number)
    world.settle()
    world.check()
    assert [(host, bridge, len(plan.add), len(plan.delete)) for host, bridge, plan in world.writes] == [
        ("compute1", BR_TUN, 0, 1), ("compute1", BR_TUN, 1, 0)]
