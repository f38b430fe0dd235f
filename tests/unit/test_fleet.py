"""Stories of switches and topologies that come, change and go, told to the fleet with model switches."""
from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.model.names import PATCH_INT, PATCH_TUN, STRANGERS, int_device
from controller.model.placement import tunnel_device
from controller.model.topology import Topology
from controller.switch import cutting
from controller.switch.diff import Forget
from controller.switch.events import Asked, Drop, ReadFlows, Removed, Write
from controller.switch.session import Session, State
from flows import fields as f
from flows.fields import tagged
from flows.flow import Output, flow, when
from flows.routing.wireformat import Arp, Datagram
from flows.tables import BR_INT, BR_TUN, DELIVER, UNICAST
from tests.clouds import golden, parse
from tests.model_switch import STRANGER_COOKIE, World

HEAD = """
cloud: fleet
underlay: {cidr: 192.0.2.0/24}
hosts:
  compute1: {tunnel_ip: 192.0.2.11}
  compute2: {tunnel_ip: 192.0.2.12}
  compute3: {tunnel_ip: 192.0.2.13}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24}}}
  green: {tunnel_id: 1002, subnets: {green-subnet: {cidr: 10.0.1.0/24}}}
  amber: {tunnel_id: 1003, subnets: {amber-subnet: {cidr: 10.0.1.0/24}}}
vms:
"""
BLUE = """
  web1: {host: compute1, network: blue, ip: 10.0.1.11}
  web2: {host: compute2, network: blue, ip: 10.0.1.12}
"""
GREEN = """
  shop1: {host: compute1, network: green, ip: 10.0.1.11}
  shop2: {host: compute2, network: green, ip: 10.0.1.12}
"""
AMBER = """
  lamp1: {host: compute1, network: amber, ip: 10.0.1.11}
  lamp2: {host: compute2, network: amber, ip: 10.0.1.12}
"""
Place = tuple[str, str]
MAC = "fa:16:3e:00:00:99"


def cloud(*vms: str, head: str = HEAD) -> Topology:
    return parse(head + "".join(vms))


def running(topology: Topology) -> World:
    """A world in sync."""
    world = World(topology)
    world.plug_all(topology)
    world.connect()
    world.settle()
    world.check()
    assert all(session.state is State.IN_SYNC for session in sessions(world).values())
    world.writes.clear()
    return world


def sessions(world: World) -> dict[Place, Session]:
    return {(host, bridge): session for host, state in world.fleet.hosts.items()
            for bridge, (_, session) in state.sessions.items()}


def vlan(world: World, host: str, network: str) -> int:
    vlans = world.fleet.hosts[host].vlans
    assert vlans is not None
    return vlans[network]


def device(world: World, vm: str) -> str:
    return world.fleet.topology.vms[vm].ports[0].device


def tunnel(world: World, to: str) -> str:
    return tunnel_device(world.fleet.topology, world.fleet.topology.hosts[to])


def learn(world: World, host: str, network: str, mac: str, to: str) -> None:
    """Traffic of a network has come to a host through a tunnel."""
    switch = world.switches[host, BR_TUN]
    tunnel_id = world.fleet.topology.networks[network].tunnel_id
    assert tunnel_id is not None
    switch.learn(vlan(world, host, network), mac, tunnel_id, switch.ports[tunnel(world, to)])


def touched(world: World) -> set[Place]:
    return {(host, bridge) for host, bridge, _ in world.writes}


# ---- the first sync

def test_nothing_is_written_before_both_bridges_have_been_read() -> None:
    world = World(cloud(BLUE))
    world.connect(("compute1", BR_INT))
    assert [type(command) for command in world.waiting()] == [ReadFlows]
    world.settle()
    assert not world.writes  # its VLANs stand in br-tun
    world.connect(("compute1", BR_TUN))
    assert [type(command) for command in world.waiting()] == [ReadFlows]
    world.settle()
    assert touched(world) == {("compute1", BR_INT), ("compute1", BR_TUN)}
    world.check()


def test_each_bridge_is_written_in_one_bundle() -> None:
    world = World(cloud(BLUE, GREEN))
    world.connect()
    world.settle()
    assert sorted(one[:2] for one in world.writes) == sorted(world.switches)


def test_a_restarted_daemon_writes_nothing() -> None:
    world = running(cloud(BLUE, GREEN))
    learn(world, "compute1", "blue", MAC, to="compute2")
    world.restart_daemon()
    world.settle()
    world.check()
    assert not world.writes
    assert world.switches["compute1", BR_TUN].learned()


def test_local_vlans_are_recovered_from_br_tun() -> None:
    world = running(cloud(GREEN))
    world.apply(cloud(BLUE, GREEN))  # blue sorts first, but green has VLAN 1
    world.settle()
    before = {network: vlan(world, "compute1", network) for network in ("blue", "green")}
    assert before == {"green": 1, "blue": 2}
    world.restart_daemon()
    world.settle()
    assert {network: vlan(world, "compute1", network) for network in ("blue", "green")} == before


def test_strangers_flows_are_counted_and_left_alone() -> None:
    world = World(cloud(BLUE))
    stranger = flow(DELIVER, "unknown", when(tagged(9)), Output(7), origin="somebody", why="somebody's")
    world.switches["compute1", BR_INT].put(STRANGER_COOKIE, stranger)
    world.connect()
    world.settle()
    world.check()
    assert world.switches["compute1", BR_INT].strangers() == [stranger]
    assert sessions(world)["compute1", BR_INT].strangers == 1


def test_a_strangers_complaint_is_no_refusal_of_ours() -> None:
    world = running(cloud(BLUE))
    conn = object()
    world.fleet.connected(conn, 0xDEAD, {})
    assert [command.level for command in world.fleet.complained(conn, "bad request")] == ["warning"]
    assert world.fleet.refusals == 0


def test_a_switch_that_restarted_empty_is_filled_again_and_no_other_is_touched() -> None:
    world = running(cloud(BLUE, GREEN))
    for bridge in (BR_INT, BR_TUN):
        world.disconnect(("compute2", bridge))
        world.switches["compute2", bridge].rows.clear()
        world.connect(("compute2", bridge))
    world.settle()
    world.check()
    assert touched(world) == {("compute2", BR_INT), ("compute2", BR_TUN)}


def test_a_switch_that_returns_as_it_left_gets_no_write() -> None:
    world = running(cloud(BLUE))
    for _ in range(3):
        world.disconnect(("compute1", BR_INT))
        world.connect(("compute1", BR_INT))
        world.settle()
    assert not world.writes


# ---- ports

def test_a_port_that_goes_and_comes_touches_its_network_on_its_bridge_only() -> None:
    world = running(cloud(BLUE, GREEN))
    at_start = {place: replace(session.counters) for place, session in sessions(world).items()}
    name = device(world, "web1")
    number = world.switches["compute1", BR_INT].ports[name]
    whole = len(world.switches["compute1", BR_INT].rows)
    world.port("compute1", BR_INT, name, None)
    world.settle()
    world.check()
    assert touched(world) == {("compute1", BR_INT)}
    gone = whole - len(world.switches["compute1", BR_INT].rows)
    world.port("compute1", BR_INT, name, number)
    world.settle()
    world.check()
    assert len(world.switches["compute1", BR_INT].rows) == whole
    now = sessions(world)
    of_blue = sum("blue" in row.origin or row.origin == "vms.web1" for row in
                  now["compute1", BR_INT].want.values())
    counted = now["compute1", BR_INT].counters
    assert counted.compiled - at_start["compute1", BR_INT].compiled == of_blue + (of_blue - gone)
    # The flood flow of the network changes, too: its old self is deleted, its new self added, each way.
    assert (counted.deleted - at_start["compute1", BR_INT].deleted) == gone + 2
    assert {place: session.counters for place, session in now.items() if place != ("compute1", BR_INT)} == {
        place: counters for place, counters in at_start.items() if place != ("compute1", BR_INT)}


def test_a_port_that_comes_under_another_number_is_followed() -> None:
    world = running(cloud(BLUE))
    name = device(world, "web1")
    world.port("compute1", BR_INT, name, None)
    world.port("compute1", BR_INT, name, 77)
    world.settle()
    world.check()
    assert any(Output(77) in row.actions for _, row in world.switches["compute1", BR_INT].rows.values())


def test_a_port_that_the_topology_does_not_know_changes_nothing() -> None:
    world = running(cloud(BLUE))
    world.port("compute1", BR_INT, "tap-of-somebody", 50)
    world.port("compute1", BR_TUN, "eth7", 51)
    world.settle()
    assert not world.writes


def test_a_tunnel_that_goes_takes_its_learned_flows_along() -> None:
    world = running(cloud(BLUE, "  web3: {host: compute3, network: blue, ip: 10.0.1.13}\n"))
    learn(world, "compute1", "blue", MAC, to="compute2")
    learn(world, "compute1", "blue", "fa:16:3e:00:00:98", to="compute3")
    world.port("compute1", BR_TUN, tunnel(world, "compute2"), None)
    world.settle()
    world.check()
    assert [row.match[f.ETH_DST] for row in world.switches["compute1", BR_TUN].learned()] == [
        f.ETH_DST("fa:16:3e:00:00:98")]


@pytest.mark.parametrize(("bridge", "name"), [(BR_INT, PATCH_TUN), (BR_TUN, PATCH_INT)])
def test_without_its_patch_port_a_host_keeps_to_itself_and_comes_back(bridge: str, name: str) -> None:
    world = running(cloud(BLUE, GREEN))
    number = world.switches["compute1", bridge].ports[name]
    for ofport in (None, number):
        world.port("compute1", bridge, name, ofport)
        world.settle()
        world.check()


def test_port_events_during_reading_are_not_lost_and_cause_no_partial_write() -> None:
    world = World(cloud(BLUE, GREEN), bare=True)
    world.connect(("compute1", BR_INT), ("compute1", BR_TUN))
    world.port("compute1", BR_TUN, PATCH_INT, 1)
    world.step(("compute1", BR_TUN))  # br-tun is read; br-int is not
    world.port("compute1", BR_INT, PATCH_TUN, 1)
    for number, vm in enumerate(("web1", "shop1"), start=2):
        world.port("compute1", BR_INT, device(world, vm), number)
    assert not [command for command in world.waiting()
                if isinstance(command, Write) and world.fleet._sessions[command.conn][1].bridge == BR_INT]
    world.settle()
    world.check()
    assert [one[:2] for one in world.writes].count(("compute1", BR_INT)) == 1


def test_a_tunnel_that_goes_while_br_tun_is_read_takes_its_learned_flows_along() -> None:
    world = running(cloud(BLUE))
    learn(world, "compute1", "blue", MAC, to="compute2")
    world.recompute()
    world.port("compute1", BR_TUN, tunnel(world, "compute2"), None)
    world.settle()
    world.check()
    assert not world.switches["compute1", BR_TUN].learned()


def test_a_tunnel_that_goes_while_br_tun_is_away_takes_its_learned_flows_along() -> None:
    world = running(cloud(BLUE))
    learn(world, "compute1", "blue", MAC, to="compute2")
    world.disconnect(("compute1", BR_TUN))
    world.port("compute1", BR_TUN, tunnel(world, "compute2"), 66)
    world.connect(("compute1", BR_TUN))
    world.settle()
    world.check()
    assert not world.switches["compute1", BR_TUN].learned()


# ---- topologies

def test_an_edit_touches_the_networks_that_differ_and_no_others() -> None:
    world = running(cloud(BLUE, GREEN))
    compiled = {place: session.counters.compiled for place, session in sessions(world).items()}
    world.apply(cloud(BLUE.replace("10.0.1.12", "10.0.1.77"), GREEN))
    world.settle()
    world.check()
    green = [row for _, _, plan in world.writes for _, row in plan.add if "green" in row.origin or "shop" in row.origin]
    assert not green
    assert {place for place, session in sessions(world).items()
            if session.counters.compiled == compiled[place]} == {
                ("compute3", BR_INT), ("compute3", BR_TUN),
                ("compute1", BR_INT)}, "where the MAC of web2 lives is br-tun's business elsewhere"


def test_the_same_topology_again_computes_and_writes_nothing() -> None:
    world = running(cloud(BLUE, GREEN))
    compiled = {place: session.counters.compiled for place, session in sessions(world).items()}
    world.apply(cloud(BLUE, GREEN))
    assert not world.waiting()
    assert {place: session.counters.compiled for place, session in sessions(world).items()} == compiled


def test_a_vm_that_moves_is_forgotten_where_it_was_learned() -> None:
    third = "  web3: {host: compute3, network: blue, ip: 10.0.1.13}\n"
    world = running(cloud(BLUE, third))
    mac = world.fleet.topology.vms["web2"].ports[0].mac
    for host in ("compute1", "compute3"):
        learn(world, host, "blue", mac, to="compute2")
    learn(world, "compute3", "blue", MAC, to="compute1")
    world.apply(cloud(BLUE.replace("web2: {host: compute2", "web2: {host: compute1"), third))
    world.plug_all(world.fleet.topology)
    world.restart_daemon()
    world.settle()
    world.check()
    world = running(cloud(BLUE, third))
    for host in ("compute1", "compute3"):
        learn(world, host, "blue", mac, to="compute2")
    learn(world, "compute3", "blue", MAC, to="compute1")
    world.apply(cloud(BLUE.replace("web2: {host: compute2", "web2: {host: compute1"), third))
    world.settle()
    assert [row.match[f.ETH_DST] for row in world.switches["compute3", BR_TUN].learned()] == [f.ETH_DST(MAC)]


def test_a_vm_that_moves_while_br_tun_is_away_is_forgotten_when_it_returns() -> None:
    third = "  web3: {host: compute3, network: blue, ip: 10.0.1.13}\n"
    world = running(cloud(BLUE, third))
    learn(world, "compute3", "blue", world.fleet.topology.vms["web2"].ports[0].mac, to="compute2")
    world.disconnect(("compute3", BR_TUN))
    world.apply(cloud(BLUE.replace("web2: {host: compute2", "web2: {host: compute1"), third))
    world.connect(("compute3", BR_TUN))
    world.settle()
    assert not world.switches["compute3", BR_TUN].learned()


def test_a_vlan_that_changes_hands_takes_nothing_learned_along() -> None:
    world = running(cloud(BLUE, GREEN))
    number = vlan(world, "compute1", "blue")
    learn(world, "compute1", "blue", MAC, to="compute2")
    world.apply(cloud(GREEN))
    world.settle()
    world.apply(cloud(GREEN, AMBER))
    assert vlan(world, "compute1", "amber") == number
    world.plug_all(world.fleet.topology)
    world.restart_daemon()
    world.settle()
    world.check()
    assert not world.switches["compute1", BR_TUN].learned()


def test_a_vlan_does_not_change_hands_in_the_edit_that_frees_it() -> None:
    """A host's bridges are not written in one instant: what one still calls blue, the other would call amber."""
    world = running(cloud(BLUE, GREEN))
    before = {vlan(world, "compute1", network) for network in ("blue", "green")}
    world.apply(cloud(GREEN, AMBER))
    assert vlan(world, "compute1", "amber") not in before


def test_nor_in_the_first_write_of_a_daemon_that_was_away_when_it_came_free() -> None:
    world = running(cloud(BLUE, GREEN))
    before = {vlan(world, "compute1", network) for network in ("blue", "green")}
    world.start_daemon(cloud(GREEN, AMBER))
    world.connect()
    world.settle()
    world.check()
    assert vlan(world, "compute1", "amber") not in before


def test_a_vlan_that_changed_hands_while_the_daemon_was_away_is_forgotten() -> None:
    world = running(cloud(BLUE, GREEN))
    learn(world, "compute1", "blue", MAC, to="compute2")
    world.start_daemon(cloud(GREEN, AMBER))
    world.connect()
    world.settle()
    assert not world.switches["compute1", BR_TUN].learned()


def test_networks_that_swap_their_tunnel_ids_forget_where_these_led() -> None:
    world = running(cloud(BLUE, GREEN))
    for network in ("blue", "green"):
        learn(world, "compute1", network, MAC, to="compute2")
    swapped = HEAD.replace("1001", "0").replace("1002", "1001").replace("tunnel_id: 0,", "tunnel_id: 1002,")
    world.apply(cloud(BLUE, GREEN, head=swapped))
    world.settle()
    world.check()
    assert not world.switches["compute1", BR_TUN].learned()


def test_going_over_to_l2population_forgets_all_that_was_learned() -> None:
    world = running(cloud(BLUE))
    learn(world, "compute1", "blue", MAC, to="compute2")
    world.apply(cloud(BLUE, head=HEAD.replace("hosts:", "forwarding: l2population\nhosts:")))
    world.settle()
    world.check()
    assert not world.switches["compute1", BR_TUN].learned()


def test_a_host_that_leaves_the_topology_is_let_go_and_one_that_returns_is_taken_back() -> None:
    without = HEAD.replace("  compute3: {tunnel_ip: 192.0.2.13}\n", "")
    world = running(cloud(BLUE))
    rows = dict(world.switches["compute3", BR_TUN].rows)
    world.apply(cloud(BLUE, head=without))
    world.settle()
    world.check()
    assert world.switches["compute3", BR_TUN].rows == rows
    assert len(world.fleet.strangers) == 2
    world.apply(cloud(BLUE))
    world.settle()
    world.check()
    assert not world.fleet.strangers
    assert set(sessions(world)) == set(world.switches)


def test_a_datapath_id_that_moves_to_another_bridge_makes_the_switch_introduce_itself_again() -> None:
    world = running(cloud(BLUE))
    theirs = world.switches["compute1", BR_INT].dpid
    pinned = HEAD.replace("compute3: {tunnel_ip: 192.0.2.13}",
                          f"compute3: {{tunnel_ip: 192.0.2.13, datapath_ids: {{br-int: \"{theirs:016x}\"}}}}")
    pinned = pinned.replace("compute1: {tunnel_ip: 192.0.2.11}",
                            'compute1: {tunnel_ip: 192.0.2.11, datapath_ids: {br-int: "00000000000000a1"}}')
    world.apply(cloud(BLUE, head=pinned))
    assert ("compute1", BR_INT) not in sessions(world)
    switch = world.fleet.hosts["compute3"].sessions[BR_INT]
    assert switch[1].host == "compute3"


# ---- connections

def test_a_second_connection_with_one_datapath_id_replaces_the_first() -> None:
    world = running(cloud(BLUE))
    switch = world.switches["compute1", BR_INT]
    commands = world.fleet.connected("second", switch.dpid, switch.ports)
    assert [type(command) for command in commands if isinstance(command, Drop | ReadFlows)] == [Drop, ReadFlows]
    assert "replaced" in [getattr(command, "event", "") for command in commands]
    assert world.fleet.disconnected("the first, by any name") == []
    assert world.fleet.hosts["compute1"].sessions[BR_INT][0] == "second"


def test_an_unknown_datapath_is_reported_left_alone_and_adopted_by_an_edit() -> None:
    world = running(cloud(BLUE))
    commands = world.fleet.connected("strange", 0xABC, {"eth0": 1})
    assert [getattr(command, "event", "") for command in commands] == ["stranger"]
    assert world.fleet.ports_changed("strange", {"eth0": None}) == []
    assert world.fleet.flows_read("strange", []) == []
    head = HEAD.replace("compute3: {tunnel_ip: 192.0.2.13}",
                        'compute3: {tunnel_ip: 192.0.2.13, datapath_ids: {br-int: "0000000000000abc"}}')
    assert Drop("strange") in world.fleet.apply(cloud(BLUE, head=head))


def test_a_daemon_of_one_host_leaves_the_others_alone() -> None:
    world = World(cloud(BLUE))
    world.start_daemon(cloud(BLUE), frozenset({"compute1"}))
    world.connect()
    world.settle()
    assert touched(world) == {("compute1", BR_INT), ("compute1", BR_TUN)}
    assert set(world.fleet.expected()) == touched(world)
    assert len(world.fleet.strangers) == 4


def test_a_refused_write_is_said_and_retried_on_the_next_change_with_all_that_is_due() -> None:
    world = running(cloud(BLUE))
    world.apply(cloud(BLUE, GREEN))
    place = ("compute1", BR_TUN)
    world.step(place, refuse="TABLE_FULL: add table=4")
    world.settle()
    session = sessions(world)[place]
    assert (session.state, session.reason) == (State.REFUSED, "TABLE_FULL: add table=4")
    assert world.fleet.refusals == 1
    assert world.switches[place].compiled() != world.wanted(*place)
    world.apply(cloud(BLUE.replace("10.0.1.12", "10.0.1.77"), GREEN))
    world.settle()
    world.check()
    assert sessions(world)[place].state is State.IN_SYNC


def test_a_write_whose_answer_was_lost_is_found_done() -> None:
    world = running(cloud(BLUE))
    world.apply(cloud(BLUE, GREEN))
    world.lose_write(("compute1", BR_TUN))
    world.connect(("compute1", BR_TUN))
    world.settle()
    world.check()
    assert ("compute1", BR_TUN) not in touched(world)


@pytest.mark.parametrize("lose", [World.disconnect, World.lose_write])
def test_what_shall_be_forgotten_survives_a_lost_connection(lose: Callable[[World, Place], None]) -> None:
    world = running(cloud(BLUE))
    learn(world, "compute1", "blue", MAC, to="compute2")
    world.port("compute1", BR_TUN, tunnel(world, "compute2"), None)
    lose(world, ("compute1", BR_TUN))
    world.connect(("compute1", BR_TUN))
    world.settle()
    world.check()
    assert not world.switches["compute1", BR_TUN].learned()


def test_a_recompute_of_what_is_right_writes_nothing() -> None:
    world = running(golden("equal-tenants"))
    world.recompute()
    world.settle()
    assert not world.writes
    assert all(session.state is State.IN_SYNC for session in sessions(world).values())


def test_a_recompute_repairs_what_somebody_broke() -> None:
    world = running(golden("equal-tenants"))
    switch = world.switches["compute1", BR_INT]
    del switch.rows[next(iter(switch.rows))]
    world.recompute()
    world.settle()
    world.check()
    assert touched(world) == {("compute1", BR_INT)}


def test_a_forget_of_everything_reaches_learned_flows_alone() -> None:
    world = running(cloud(BLUE))
    learn(world, "compute1", "blue", MAC, to="compute2")
    switch = world.switches["compute1", BR_TUN]
    switch.put(STRANGER_COOKIE, flow(UNICAST, "learned", when(tagged(1)), Output(9), origin="x", why="x"))
    rows = len(switch.rows)
    world.fleet.hosts["compute1"].forget.append(Forget())
    world.port("compute1", BR_TUN, tunnel(world, "compute2"), None)
    world.settle()
    assert not switch.learned()
    assert len(switch.strangers()) == 1
    assert len(switch.rows) < rows


# ---- anything, in any order

class Chaos:
    """Random events, each as a switch, a person or the kernel could cause them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World(self.topology())
        self.world.connect()
        self.deeds: list[str] = []

    def topology(self) -> Topology:
        pick = self.random
        hosts = ["compute1", "compute2", *(["compute3"] if pick.random() < 0.8 else [])]
        ids = pick.sample(range(1001, 1007), 4)
        text = ["cloud: chaos", "underlay: {cidr: 192.0.2.0/24}",
                f"forwarding: {pick.choice(['learning', 'learning', 'l2population'])}",
                f"arp_responder: {pick.choice(['true', 'false'])}", "hosts:"]
        text += [f"  {host}: {{tunnel_ip: 192.0.2.1{host[-1]}, role: network}}" for host in hosts]
        text += ["networks:"]
        text += [f"  net{n}: {{tunnel_id: {number}, subnets: {{sub{n}: {{cidr: 10.0.{n}.0/24}}}}}}"
                 for n, number in enumerate(ids)]
        text += ["  net4: {physical_network: lab, segmentation_id: 70, subnets: {sub4: {cidr: 10.0.4.0/24}}}",
                 "  net5: {external: true, subnets: {sub5: {cidr: 10.0.5.0/24, gateway: 10.0.5.1}}}"]
        text += [*self.routers(hosts), "vms:"]
        for n in pick.sample(range(10, 20), pick.randint(1, 7)):
            security = f", port_security: {pick.choice(['true', 'true', 'false'])}"
            net = pick.randrange(5)
            text.append(f"  vm{n}: {{host: {pick.choice(hosts)}, network: net{net}, ip: 10.0.{net}.{n}{security}}}")
        return parse("\n".join(text))

    def routers(self, hosts: list[str]) -> list[str]:
        pick, text = self.random, ["routers:"]
        for n in pick.sample(range(4), pick.randint(1, 3)):
            nets = pick.sample(range(5), pick.randint(0, 3))
            legs = ", ".join(f"{{subnet: sub{net}, ip: 10.0.{net}.{30 + n}}}" for net in nets)
            driver = pick.choice(["simulated", "simulated", "namespace"])
            outside = f", gateway: {{network: net5, ip: 10.0.5.{30 + n}}}" if pick.random() < 0.6 else ""
            text.append(f"  r{n}: {{host: {pick.choice(hosts)}, driver: {driver}, interfaces: [{legs}]{outside}}}")
        return text

    def step(self) -> None:
        deed = self.random.choice([self.port, self.port, self.port, self.apply, self.disconnect, self.reconnect,
                                   self.restart_switch, self.restart_daemon, self.traffic, self.traffic, self.answer,
                                   self.answer, self.answer, self.lose, self.refuse, self.recompute, self.again,
                                   self.neighbour, self.neighbour, self.neighbour, self.expire, self.wait, self.rival])
        self.deeds.append(deed.__name__)
        deed()

    def place(self) -> Place:
        return self.random.choice([place for place in sorted(self.world.switches)
                                   if place[0] in self.world.fleet.topology.hosts])

    def port(self) -> None:
        host, bridge = self.place()
        topology = self.world.fleet.topology
        names = [PATCH_TUN, *(port.device for port in topology.ports_by_host.get(host, ()))]
        if bridge == BR_TUN:
            names = [PATCH_INT, STRANGERS, *(tunnel_device(topology, other)
                                             for name, other in topology.hosts.items() if name != host)]
        elif bridge == BR_INT:
            names += [leg.device for leg in topology.legs_by_host.get(host, ())] + ["int-br-ex", "int-br-lab"]
        else:
            names = [f"phy-{bridge}", bridge, "eth1", "eth2"]
        taken = set(self.world.switches[host, bridge].ports.values())
        free = self.random.choice([number for number in range(1, 20) if number not in taken])
        self.world.port(host, bridge, self.random.choice(names), free if self.random.random() < 0.7 else None)

    def apply(self) -> None:
        self.world.apply(self.topology())

    def disconnect(self) -> None:
        self.world.disconnect(self.place())

    def reconnect(self) -> None:
        place = self.place()
        if not self.world.is_connected(place):
            self.world.connect(place)

    def again(self) -> None:
        """A second connection before the first is known to be dead."""
        self.world.connect(self.place())

    def restart_switch(self) -> None:
        place = self.place()
        self.world.disconnect(place)
        self.world.switches[place].rows.clear()

    def restart_daemon(self) -> None:
        self.world.restart_daemon()

    def traffic(self) -> None:
        """A host with a whole way in has learned a MAC, if it is in sync: else the row would be of no network."""
        host = self.place()[0]
        state, switch = self.world.fleet.hosts[host], self.world.switches[host, BR_TUN]
        ways = [row for _, row in switch.rows.values() if row.match[f.TUN_ID]]
        tunnels = [number for name, number in switch.ports.items() if name != PATCH_INT]
        if ways and tunnels and BR_TUN in state.sessions:
            way = self.random.choice(ways)
            tunnel_id = way.match[f.TUN_ID]
            assert tunnel_id is not None
            number = next(action.criterion.value for action in way.actions if hasattr(action, "criterion"))
            switch.learn(number & ~f.VLAN_PRESENT, f"fa:16:3e:00:00:{self.random.randrange(99):02d}",
                         tunnel_id.value, self.random.choice(tunnels))

    def neighbour(self) -> None:
        """A router needs the MAC of a host that the topology does not know, and that host answers."""
        host = self.place()[0]
        hops = list(self.world.fleet.hosts[host].routing.hops.values())
        if hops and self.world.is_connected((host, BR_INT)):
            hop = self.random.choice(hops)
            leg, address = self.random.choice(hop.router.legs), self.random.randrange(200, 203)
            target = int(leg.addresses[0].network.network_address) + address
            answer = Arp(f.ARP_REPLY, bytes((2, 0, 0, 0, 0, address)), target, leg.hardware, int(leg.addresses[0].ip))
            numbers = next(one for one in hop.placed.legs if one.name == leg.name)
            for data in (Datagram(0x08080808, target, 99, b"data").framed(bytes(6), leg.hardware),
                         answer.framed(answer.sender_mac, leg.hardware)):
                self.world.ask(host, Asked(hop.placed.number, numbers.number, 0, data))

    def expire(self) -> None:
        host = self.place()[0]
        rows = sorted(self.world.switches[host, BR_INT].neighbours())
        if rows and self.world.is_connected((host, BR_INT)):
            self.world.drop_row(host, Removed(*self.random.choice(rows), idle=True))

    def wait(self) -> None:
        self.world.pass_time(self.random.choice([0.1, 3, 20, 50]))

    def answer(self) -> None:
        for _ in range(self.random.randrange(1, 6)):
            self.world.step()

    def lose(self) -> None:
        self.world.lose_write(self.place(), self.random.choice([0, 1, 2, None]))

    def refuse(self) -> None:
        self.world.step(self.place(), refuse="chaos", bundles=self.random.choice([0, 1, 2]))

    def rival(self) -> None:
        """Another daemon takes a switch away, or gives it back."""
        place = self.place()
        self.world.rival(place, there=not self.world.switches[place].rival)

    def recompute(self) -> None:
        self.world.recompute()

    def end(self) -> None:
        """Everybody connects, every question is answered, and what was refused is asked for once more.

        Provider bridges are joined to br-int: a network that nothing comes in from has no VLAN to keep over a restart.
        """
        for number, (host, item) in enumerate(self.world.fleet.topology.hosts.items(), start=100):
            for place, bridge in enumerate(item.bridge_mappings.values()):
                self.world.port(host, BR_INT, int_device(bridge), number + 100 * place)
        for place in sorted(self.world.switches):
            self.world.rival(place, there=False)
            if not self.world.is_connected(place):
                self.world.connect(place)
        self.world.settle()
        self.world.pass_time(200)
        self.world.settle()
        self.world.recompute()
        self.world.settle()


@pytest.mark.parametrize("run", range(14))
def test_whatever_happens_the_switches_end_up_with_what_is_computed_from_scratch(
        seed: int, run: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chaos = Chaos(seed * 1000 + run)
    monkeypatch.setattr(cutting, "LIMIT", chaos.random.choice([2, 10, cutting.LIMIT]))
    try:
        for _ in range(60):
            chaos.step()
        chaos.end()
        chaos.world.check()
        chaos.world.writes.clear()
        chaos.world.recompute()
        chaos.world.settle()
        assert not chaos.world.writes
        chaos.world.restart_daemon()
        chaos.world.settle()
        chaos.world.check()
        assert not chaos.world.writes
    except BaseException:
        print(f"seed {seed * 1000 + run}: {' '.join(chaos.deeds)}")
        raise
