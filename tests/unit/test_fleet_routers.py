"""Stories of routers, provider networks and meters that come, change and go, told to the fleet with model switches."""
from __future__ import annotations

import json
from dataclasses import replace

import pytest

from controller.model.names import int_device, phy_device
from controller.model.topology import Topology
from controller.switch.pieces import of_router
from controller.switch.planning import plan
from controller.switch.routers import described
from controller.switch.session import Counters, Session, State
from flows.host import CONTROLLER_METER
from flows.tables import BR_INT, BR_TUN
from tests.clouds import parse
from tests.model_switch import World

HEAD = """
cloud: fleet
underlay: {cidr: 192.0.2.0/24}
hosts:
  compute1: {tunnel_ip: 192.0.2.11}
  network1: {tunnel_ip: 192.0.2.21, role: network}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  green: {tunnel_id: 1002, subnets: {green-subnet: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
  amber: {tunnel_id: 1003, subnets: {amber-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  public: {external: true, subnets: {public-subnet: {cidr: 203.0.113.0/24, gateway: 203.0.113.1}}}
  lab: {physical_network: lab, network_type: vlan, segmentation_id: 70, subnets: {lab-subnet: {cidr: 10.7.0.0/24}}}
"""
R1 = "  r1: {host: network1, driver: simulated, interfaces: [blue-subnet, green-subnet], " \
     "gateway: {network: public, ip: 203.0.113.10}}\n"
R2 = "  r2: {host: network1, driver: simulated, interfaces: [amber-subnet]}\n"
VMS = """
  web: {host: compute1, network: blue, ip: 10.0.1.11}
  db: {host: compute1, network: green, ip: 10.0.2.11}
  lamp: {host: compute1, network: amber, ip: 10.0.1.11}
"""
INT = "network1", BR_INT
Place = tuple[str, str]


def cloud(routers: str = R1 + R2, vms: str = VMS, floating: str = "", head: str = HEAD) -> Topology:
    text = head + (f"routers:\n{routers}" if routers else "") + (f"floating_ips:\n{floating}" if floating else "")
    return parse(f"{text}vms:\n{vms}")


def running(topology: Topology) -> World:
    world = World(topology)
    world.connect()
    world.settle()
    world.check()
    assert all(session.state is State.IN_SYNC for session in sessions(world).values())
    world.writes.clear()
    return world


def sessions(world: World) -> dict[Place, Session]:
    return {(host, bridge): session for host, state in world.fleet.hosts.items()
            for bridge, (_, session) in state.sessions.items()}


def counters(world: World) -> dict[Place, Counters]:
    return {place: replace(session.counters) for place, session in sessions(world).items()}


def compiled_since(world: World, before: dict[Place, Counters]) -> dict[Place, int]:
    """Where anything was computed anew, and how many flows."""
    found = {place: now.compiled - before[place].compiled for place, now in counters(world).items()}
    return {place: number for place, number in found.items() if number}


def size(world: World, place: Place, *pieces: str) -> int:
    return sum(len(sessions(world)[place]._intent.cookies_of(piece)) for piece in pieces)


# ---- what is computed anew

def test_a_change_of_one_router_computes_that_router_anew_and_nothing_else() -> None:
    world = running(cloud())
    before = counters(world)
    world.apply(cloud(R1.replace("gateway:", "routes: [{destination: 198.51.100.0/24, nexthop: 10.0.1.50}], gateway:")
                      + R2))
    world.settle()
    world.check()
    assert compiled_since(world, before) == {INT: size(world, INT, of_router("r1"))}


def test_a_new_vm_behind_a_router_computes_the_ways_of_its_network_and_that_router_anew() -> None:
    world = running(cloud())
    before = counters(world)
    world.apply(cloud(vms=f"{VMS}  web2: {{host: compute1, network: blue, ip: 10.0.1.12}}\n"))
    world.settle()
    world.check()
    blue = {place: size(world, place, "blue") for place, session in sessions(world).items()
            if "blue" in session._intent.names and place[1] == BR_TUN}
    # It is not plugged in yet. What br-int holds of the network is as it was, on its host and where the router is.
    blue[INT] = size(world, INT, of_router("r1"))
    assert compiled_since(world, before) == {place: number for place, number in blue.items() if number}


def test_a_floating_ip_computes_its_router_anew_and_the_network_that_it_is_on() -> None:
    world = running(cloud())
    before = counters(world)
    world.apply(cloud(floating="  203.0.113.50: {vm: web, network: blue}\n"))
    world.settle()
    world.check()
    expected = {place: size(world, place, "public") for place in sessions(world) if place[0] == "network1"}
    expected[INT] = size(world, INT, of_router("r1"))  # br-int's part of the network is as it was
    assert compiled_since(world, before) == {place: number for place, number in expected.items() if number}


def test_lines_that_move_in_the_file_compute_nothing_anew() -> None:
    world = running(cloud())
    before = counters(world)
    world.apply(cloud(head=f"\n\n# said\n{HEAD}"))
    assert compiled_since(world, before) == {}
    assert not world.waiting()


def test_a_router_without_interfaces_has_no_piece_and_no_meters() -> None:
    world = running(cloud())
    world.apply(cloud("  r1: {host: network1, driver: simulated, gateway: {network: public, ip: 203.0.113.10}}\n"))
    world.settle()
    world.check()
    session = sessions(world)[INT]
    assert session._intent.names == {""}
    assert set(world.switches[INT].meters) == {CONTROLLER_METER}
    assert not [row for row in world.switches[INT].rows.values() if "r1" in row[1].why]


# ---- restarts

def test_a_restarted_daemon_writes_no_flow_and_no_meter() -> None:
    world = running(cloud(floating="  203.0.113.50: {vm: web, network: blue}\n"))
    assert len(world.switches[INT].meters) > 3
    world.restart_daemon()
    world.settle()
    world.check()
    assert not world.writes


def test_the_local_vlan_of_a_provider_network_survives_a_restart_while_its_bridge_is_away() -> None:
    world = running(cloud(R2))
    world.apply(cloud())  # public gets the last VLAN, though it sorts before some
    world.plug_all(world.fleet.topology)
    world.restart_daemon()
    world.settle()
    before = world.fleet.hosts["network1"].vlans
    assert before
    world.disconnect()
    world.start_daemon(world.fleet.topology)
    world.writes.clear()
    world.connect(("network1", BR_TUN))
    world.settle()
    assert world.fleet.hosts["network1"].vlans is None  # br-int knows the rest
    world.connect(INT)
    world.settle()
    assert world.fleet.hosts["network1"].vlans == before
    assert not world.writes
    world.connect(("network1", "br-ex"))
    world.settle()
    assert not world.writes


def test_networks_that_swap_their_segments_while_the_daemon_is_away_swap_no_frames() -> None:
    two = HEAD + "  plant: {physical_network: lab, network_type: vlan, segmentation_id: 71, " \
                 "subnets: {plant-subnet: {cidr: 10.8.0.0/24}}}\n"
    vms = "  a: {host: compute1, network: lab, ip: 10.7.0.5}\n  b: {host: compute1, network: plant, ip: 10.8.0.5}\n"
    world = running(cloud("", vms, head=two))
    vlans = world.fleet.hosts["compute1"].vlans
    assert vlans
    world.disconnect()
    swapped = two.replace("segmentation_id: 70", "segmentation_id: 0").replace("71", "70").replace("id: 0,", "id: 71,")
    world.start_daemon(cloud("", vms, head=swapped))
    world.connect()
    world.settle()
    world.check()
    assert world.fleet.hosts["compute1"].vlans == {"lab": vlans["plant"], "plant": vlans["lab"]}


# ---- meters

def test_the_meter_of_a_vm_that_goes_is_deleted_after_the_flows_that_used_it() -> None:
    world = running(cloud())
    before = set(world.switches[INT].meters)
    world.apply(cloud(vms=VMS.replace("  db: {host: compute1, network: green, ip: 10.0.2.11}\n", "")))
    world.settle()
    world.check()
    plans = [plan for host, bridge, plan in world.writes if (host, bridge) == INT]
    assert [bool(plan.meters_delete) for plan in plans] == [False, True]
    assert len(before - set(world.switches[INT].meters)) == 1
    assert not plans[1].add and not plans[1].delete


def test_a_meter_that_somebody_changed_is_set_right_one_that_nobody_wants_is_deleted_a_strangers_stays() -> None:
    world = running(cloud())
    meters = world.switches[INT].meters
    wanted = dict(meters)
    spoilt = next(number for number in meters if number != CONTROLLER_METER)
    meters[spoilt] = replace(meters[spoilt], rate=9)
    stranger = meters[778] = replace(meters[spoilt], id=778)
    meters[777] = replace(wanted[spoilt], id=777)
    world.recompute()
    world.settle()
    assert meters == {**wanted, 778: stranger}
    assert next(plan.meters_change for _, _, plan in world.writes) == (wanted[spoilt],)


def test_a_vm_that_two_routers_serve_keeps_its_meter_until_neither_does() -> None:
    both = R1 + "  r2: {host: network1, driver: simulated, interfaces: [{subnet: blue-subnet, ip: 10.0.1.2}]}\n"
    world = running(cloud(both))
    neighbours = world.fleet.hosts["network1"].routing.placed["r1"].neighbours
    meter = next(one.meter for one in neighbours if one.name == "web")
    world.apply(cloud(R1))
    world.settle()
    world.check()
    assert meter in world.switches[INT].meters
    world.apply(cloud(""))
    world.settle()
    world.check()
    assert set(world.switches[INT].meters) <= {CONTROLLER_METER}


# ---- ports

@pytest.mark.parametrize(("bridge", "port", "touches"), [
    ("br-ex", "uplink", {("network1", "br-ex")}),
    ("br-ex", phy_device("br-ex"), {("network1", "br-ex")}),
    (BR_INT, int_device("br-ex"), {INT}),
])
def test_a_port_of_a_provider_bridge_touches_its_bridge_only(bridge: str, port: str, touches: set[Place]) -> None:
    world = running(cloud())
    number = world.switches["network1", bridge].ports[port]
    for ofport in (None, number):
        world.port("network1", bridge, port, ofport)
        world.settle()
        world.check()
        assert {(host, name) for host, name, _ in world.writes} == touches


def test_a_leg_of_a_namespace_router_that_is_plugged_in_computes_its_network_anew() -> None:
    world = running(cloud(R1.replace("simulated", "namespace") + R2))
    leg = world.fleet.topology.legs_by_router["r1"][0]
    number = world.switches[INT].ports[leg.device]
    world.port("network1", BR_INT, leg.device, None)
    world.settle()
    world.check()
    before = counters(world)
    world.port("network1", BR_INT, leg.device, number)
    world.settle()
    world.check()
    assert compiled_since(world, before) == {INT: size(world, INT, "blue")}


def test_a_host_gets_a_provider_bridge_with_its_first_gateway_and_loses_it_with_the_last() -> None:
    world = running(cloud(R2))
    world.apply(cloud())
    world.plug_all(world.fleet.topology)
    for name, number in list(world.switches[INT].ports.items()):
        world.port("network1", BR_INT, name, number)
    world.connect(("network1", "br-ex"), INT)
    world.settle()
    world.check()
    assert ("network1", "br-ex") in sessions(world)
    world.apply(cloud(R2))
    world.settle()
    assert ("network1", "br-ex") not in sessions(world)
    assert [why for _, why in world.fleet.strangers.values()] == ["no bridge of the topology has this datapath id"]


def test_a_router_that_moves_to_another_host_is_forgotten_where_it_was_learned() -> None:
    head = HEAD.replace("  network1", "  network2: {tunnel_ip: 192.0.2.22, role: network}\n  network1")
    world = running(cloud(R1, head=head))
    leg = world.fleet.topology.legs_by_router["r1"][0]
    switch = world.switches["compute1", BR_TUN]
    vlans = world.fleet.hosts["compute1"].vlans
    assert vlans
    switch.learn(vlans["blue"], leg.mac, 1001, 2)
    world.apply(cloud(R1.replace("network1", "network2"), head=head))
    world.settle()
    assert not switch.learned()


# ---- before an edit, and after

def test_a_plan_shows_what_comes_and_goes_with_a_router() -> None:
    world = running(cloud(R2))
    shown = plan(world.fleet, cloud(R1.replace(", gateway: {network: public, ip: 203.0.113.10}", "")))
    br_int = next(one for one in shown["switches"] if (one["host"], one["bridge"]) == INT)
    assert {flow["origin"] for flow in br_int["delete"]} >= {"routers.r2", "networks.amber"}
    assert {flow["origin"] for flow in br_int["add"]} >= {"routers.r1", "networks.blue", "networks.green"}
    assert not world.waiting()


def test_a_plan_has_the_flows_of_a_port_that_the_edit_itself_plugs_in() -> None:
    world = running(cloud())
    host = INT[0]
    shown = plan(world.fleet, cloud(vms=f"{VMS}  late: {{host: {host}, network: blue, ip: 10.0.1.99}}\n"))
    late, = (one for one in parse(HEAD + f"vms:\n  late: {{host: {host}, network: blue, ip: 10.0.1.99}}\n").ports())
    br_int = next(one for one in shown["switches"] if (one["host"], one["bridge"]) == INT)
    assert br_int["awaited"] == [late.device]
    assert {flow["table"] for flow in br_int["add"] if flow["origin"] == "vms.late"} >= {0, 24, 25, 60}
    assert all(one["awaited"] == [] for one in shown["switches"] if one is not br_int)
    assert not world.waiting()


def test_a_router_is_described_as_it_is() -> None:
    world = running(cloud(floating="  203.0.113.50: {vm: web, network: blue}\n"))
    first, second = described(world.fleet)
    assert (first["name"], first["host"], first["driver"], second["name"]) == ("r1", "network1", "simulated", "r2")
    assert [(one["what"], one["addresses"], one["mtu"]) for one in first["interfaces"]] == [
        ("r1 on blue-subnet", ["10.0.1.1/24"], 1450), ("r1 on green-subnet", ["10.0.2.1/24"], 1450),
        ("r1 on public-subnet", ["203.0.113.10/24"], 1500)]
    assert {"destination": "0.0.0.0/0", "leg": first["gateway"]["leg"], "via": "203.0.113.1",
            "source": "203.0.113.10"} in first["routes"]
    assert first["floating_ips"] == {"203.0.113.50": "10.0.1.11"}
    neighbours = [(one["address"], one["learned"]) for one in first["neighbours"]]
    assert neighbours == [("10.0.1.11", False), ("10.0.2.11", False)]
    assert first["counters"]["refused"] == {}
    json.dumps(first)
