"""What a change of security groups touches: flow-mods and flows computed, counted; and zones that start empty."""
from __future__ import annotations

import random
from dataclasses import replace

import pytest

from controller.model.names import PATCH_TUN
from controller.model.topology import Topology
from controller.switch.diff import Forget
from controller.switch.events import Counted
from controller.switch.refusals import refused
from controller.switch.session import Counters, Session
from flows import fields as f
from flows.cookie import LEARNED_COOKIE
from flows.fields import tagged
from flows.flow import Flow, SetField, flow, when
from flows.tables import BEHIND, BR_INT, BR_TUN, RULES
from tests.clouds import parse
from tests.model_switch import World

HEAD = """
cloud: groups
firewall: {firewall}
underlay: {{cidr: 192.0.2.0/24}}
hosts:
  compute1: {{tunnel_ip: 192.0.2.11}}
  compute2: {{tunnel_ip: 192.0.2.12}}
  network1: {{tunnel_ip: 192.0.2.21, role: network}}
networks:
  blue: {{tunnel_id: 1001, subnets: {{blue-subnet: {{cidr: 10.0.0.0/16, gateway: 10.0.0.1}}}}}}
  green: {{tunnel_id: 1002, subnets: {{green-subnet: {{cidr: 10.1.0.0/16, gateway: 10.1.0.1}}}}}}
  twin: {{tunnel_id: 1003, subnets: {{twin-subnet: {{cidr: 10.0.0.0/16}}}}}}
routers:
  r1: {{host: network1, interfaces: [blue-subnet, green-subnet]}}
security_groups:
"""
GROUPS = """
  web:
    - {direction: ingress, protocol: tcp, port: 80, remote: 0.0.0.0/0}
    - {direction: ingress, protocol: icmp, remote_group: web}
  db:
    - {direction: ingress, protocol: tcp, port: 5432, remote_group: web}
  lone:
    - {direction: ingress, protocol: tcp, port: 22, remote: 10.0.0.0/8}
"""
VMS = """
vms:
  web1: {host: compute1, network: blue, ip: 10.0.0.11, security_groups: [web]}
  web2: {host: compute2, network: blue, ip: 10.0.0.12, security_groups: [web]}
  db1: {host: compute2, network: green, ip: 10.1.0.21, security_groups: [db]}
  free1: {host: compute2, network: green, ip: 10.1.0.31}
  twin1: {host: compute1, network: twin, ip: 10.0.0.11, security_groups: [db]}
  twin2: {host: compute2, network: twin, ip: 10.0.0.12, security_groups: [web]}
"""
Place = tuple[str, str]


def cloud(groups: str = GROUPS, vms: str = VMS, firewall: str = "openvswitch") -> Topology:
    return parse(HEAD.format(firewall=firewall) + groups + vms)


def running(topology: Topology) -> World:
    world = World(topology)
    world.connect()
    world.settle()
    world.writes.clear()
    return world


def session(world: World, host: str, bridge: str = BR_INT) -> Session:
    return world.fleet.hosts[host].sessions[bridge][1]


def change(world: World, topology: Topology, *, check: bool = True) -> dict[Place, Counters]:
    """Put another topology in force; what that was on every switch that it was something on."""
    for host in topology.hosts:  # what is to be plugged in is there before
        for port in topology.ports_by_host.get(host, ()):
            ports = world.switches[host, BR_INT].ports
            ports.setdefault(port.device, 1 + max(ports.values()))
            world.fleet.hosts[host].ports[BR_INT] = dict(ports)
    before = {(host, bridge): replace(one.counters) for host, state in world.fleet.hosts.items()
              for bridge, (_, one) in state.sessions.items()}
    world.apply(topology)
    world.settle()
    if check:
        world.check()
    found = {}
    for (host, bridge), old in before.items():
        new = vars(session(world, host, bridge).counters)
        counters = Counters(**{name: new[name] - value for name, value in vars(old).items()})
        if counters != Counters():
            found[host, bridge] = counters
    return found


def members(world: World, host: str, version: int = 4) -> set[str]:
    """Prefixes that conjunctions on a host's br-int name."""
    fields = (f.CT_NW_SRC, f.CT_NW_DST) if version == 4 else (f.CT_IPV6_SRC, f.CT_IPV6_DST)
    rows = [row for _, row in world.switches[host, BR_INT].rows.values()
            if row.table == RULES and row.priority == RULES.ranks["group"]]
    return {field.show(found.value) for row in rows for field in fields if (found := row.match[field])}


# ---- one rule, one member

def test_a_rule_that_changes_touches_the_rows_of_its_groups_ports_and_nothing_else() -> None:
    world = running(cloud())
    found = change(world, cloud(GROUPS.replace("port: 80", "port: 8080")))
    # On each host, the rows of the groups of web's networks there: computed anew; one of them is another.
    assert found.keys() == {("compute1", BR_INT), ("compute2", BR_INT)}
    for counters in found.values():
        assert (counters.added, counters.deleted, counters.flushed, counters.forgotten) == (
            (1, 1, 0, 0) if counters is found["compute1", BR_INT] else (2, 2, 0, 0))  # web2 of blue, twin2 of twin


def test_a_group_that_nobody_is_in_touches_nothing() -> None:
    world = running(cloud())
    assert not change(world, cloud(GROUPS.replace("port: 22", "port: 23")))
    assert not change(world, cloud(GROUPS.replace("  lone:\n    - {direction: ingress, protocol: tcp, port: 22, "
                                                  "remote: 10.0.0.0/8}\n", "")))


def test_the_same_rules_in_another_order_touch_nothing() -> None:
    world = running(cloud())
    lines = GROUPS.splitlines()
    lines[2], lines[3] = lines[3], lines[2]
    assert not any(counters.added for counters in change(world, cloud("\n".join(lines) + "\n")).values())


def test_a_vm_that_joins_a_group_is_a_member_where_its_network_is_joined_and_no_twin_hears_of_it() -> None:
    world = running(cloud())
    found = change(world, cloud(vms=VMS + "  web3: {host: compute1, network: blue, ip: 10.0.0.13, "
                                          "security_groups: [web]}\n"))
    assert "10.0.0.13" in members(world, "compute1") & members(world, "compute2")
    # compute2: web's row of a member on blue, db's of one on green; twin's rows are nobody's business.
    assert found["compute2", BR_INT].added == 2
    assert found["compute2", BR_INT].deleted == 0
    assert ("network1", BR_INT) in found  # the simulated router has a neighbour more
    assert all(counters.flushed == (place == ("compute1", BR_INT)) for place, counters in found.items())


def test_a_vm_that_leaves_takes_its_rows_along_and_only_these() -> None:
    more = VMS + "  web3: {host: compute1, network: blue, ip: 10.0.0.13, security_groups: [web]}\n"
    world = running(cloud(vms=more))
    found = change(world, cloud())
    assert "10.0.0.13" not in members(world, "compute1") | members(world, "compute2")
    assert (found["compute2", BR_INT].added, found["compute2", BR_INT].deleted) == (0, 2)
    assert not any(counters.flushed for counters in found.values())


def test_a_vm_without_groups_that_comes_touches_no_group() -> None:
    world = running(cloud())
    groups = {host: [row for _, row in world.switches[host, BR_INT].rows.values() if row.table == RULES]
              for host in ("compute1", "compute2")}
    found = change(world, cloud(vms=VMS + "  free2: {host: compute2, network: green, ip: 10.1.0.32}\n"))
    assert ("compute1", BR_INT) not in found
    assert groups == {host: [row for _, row in world.switches[host, BR_INT].rows.values() if row.table == RULES]
                      for host in ("compute1", "compute2")}


def test_a_port_that_gets_groups_has_an_empty_zone_and_nobody_elses_is_touched() -> None:
    world = running(cloud())
    found = change(world, cloud(vms=VMS.replace("10.1.0.31}", "10.1.0.31, security_groups: [db]}")))
    assert {place: counters.flushed for place, counters in found.items() if counters.writes} == {
        ("compute2", BR_INT): 1}


def test_a_port_that_changes_its_groups_keeps_its_conversations() -> None:
    world = running(cloud())
    found = change(world, cloud(vms=VMS.replace("10.0.0.11, security_groups: [web]", "10.0.0.11, security_groups: "
                                                                                     "[web, lone]", 1)))
    assert {place: counters.flushed for place, counters in found.items() if counters.writes} == {
        ("compute1", BR_INT): 0}


def test_going_over_to_another_firewall_empties_every_zone_that_comes_into_use() -> None:
    world = running(cloud(firewall="none"))
    found = change(world, cloud())
    assert {place: counters.flushed for place, counters in found.items() if counters.flushed} == {
        ("compute1", BR_INT): 2, ("compute2", BR_INT): 3}
    found = change(world, cloud(firewall="none"))
    assert not any(counters.flushed for counters in found.values())


# ---- many

def many(size: int, *, port: int = 80, secured: bool = False) -> Topology:
    """A group of this many members on two hosts, every one of them named by a rule of it.

    Without port security they have few rows of their own, and a test is quick.
    """
    groups = GROUPS.replace("port: 80", f"port: {port}")
    vms = "\n".join(f"  m{n}: {{host: compute{1 + n % 2}, network: blue, ip: 10.0.{2 + n // 200}.{1 + n % 200}, "
                    f"security_groups: [web], port_security: {str(secured).lower()}}}" for n in range(size))
    return cloud(groups, "vms:\n" + vms + "\n")


@pytest.mark.parametrize("size", [50, 500])
def test_a_rule_costs_the_same_few_flow_mods_however_many_members_its_group_has(size: int) -> None:
    world = running(many(size))
    found = change(world, many(size, port=8080), check=False)
    assert found.keys() == {("compute1", BR_INT), ("compute2", BR_INT)}
    for counters in found.values():
        assert (counters.added, counters.deleted, counters.writes, counters.flushed) == (1, 1, 1, 0)
        assert counters.compiled < 20  # those of the rules, none of members and none of ports


def test_a_member_more_costs_a_row_on_other_hosts_and_computes_no_port_but_its_own() -> None:
    world = running(many(40, secured=True))
    found = change(world, many(41, secured=True))
    own, other = found["compute1", BR_INT], found["compute2", BR_INT]
    assert (other.added, other.deleted, other.flushed) == (1, 0, 0)
    assert own.flushed == 1
    assert own.added < 30  # rows of one port, and the one for broadcasts
    assert max(own.compiled, other.compiled) < 41 + 30 + 30  # members, one port, who is known on the network


def test_flows_grow_with_members_plus_rules() -> None:
    few, more = ([row for _, row in running(many(size)).switches["compute1", BR_INT].rows.values()]
                 for size in (20, 40))
    assert len(more) < 2 * len(few)
    # A row for each member, two for what each port here is denied, few for the rules.
    assert sum(row.table == RULES for row in more) < 40 + 2 * 20 + 20


# ---- restarts

def test_a_restarted_daemon_writes_nothing_and_empties_no_zone() -> None:
    world = running(cloud())
    world.restart_daemon()
    world.settle()
    world.check()
    assert not world.writes
    assert all(one.counters.added == one.counters.flushed == 0 for state in world.fleet.hosts.values()
               for _, one in state.sessions.values())


def test_a_daemon_that_restarts_with_another_topology_empties_the_zones_of_newcomers_alone() -> None:
    world = running(cloud())
    new = cloud(GROUPS.replace("port: 80", "port: 81"), VMS.replace("10.1.0.31}", "10.1.0.31, security_groups: [web]}"))
    world.fleet.topology = new
    world.restart_daemon()
    world.settle()
    world.check()
    assert session(world, "compute2").counters.flushed == 1
    assert session(world, "compute1").counters.flushed == 0


def test_a_switch_that_restarted_empty_gets_empty_zones() -> None:
    world = running(cloud())
    world.disconnect(("compute1", BR_INT))
    world.switches["compute1", BR_INT].rows.clear()
    world.connect(("compute1", BR_INT))
    world.settle()
    world.check()
    assert session(world, "compute1").counters.flushed == 2


# ---- what br-int has learned

FREE = VMS + "  nat1: {host: compute1, network: blue, ip: 10.0.0.41, port_security: false}\n"


def taught(world: World, host: str, source: int, network: str = "blue") -> None:
    """Somebody behind a port has spoken; see Forget.source."""
    vlans = world.fleet.hosts[host].vlans
    assert vlans is not None
    row = flow(BEHIND, "learned", when(tagged(vlans[network]), f.ETH_DST("02:00:00:00:00:01")),
               SetField(f.REG_OUT_PORT(source & 0xFFFF)), origin="learned", why="learned")
    world.switches[host, BR_INT].put(LEARNED_COOKIE | source, row)


def learned(world: World) -> list[Flow]:
    return world.switches["compute1", BR_INT].learned()


@pytest.mark.parametrize("vms", [
    FREE.replace("port_security: false", "port_security: true"), VMS,
    FREE.replace("nat1: {host: compute1", "nat1: {host: compute2"),
    FREE.replace("network: blue, ip: 10.0.0.41", "network: twin, ip: 10.0.0.41")])
def test_what_a_port_taught_goes_when_it_has_port_security_or_is_no_more(vms: str) -> None:
    world = running(cloud(vms=FREE))
    port = world.fleet.topology.vms["nat1"].ports[0]
    taught(world, "compute1", world.switches["compute1", BR_INT].ports[port.device])
    change(world, cloud(vms=vms))
    assert not learned(world)


def test_what_a_port_taught_goes_when_it_is_pulled_and_stays_over_other_changes_and_restarts() -> None:
    world = running(cloud(vms=FREE))
    device = world.fleet.topology.vms["nat1"].ports[0].device
    number = world.switches["compute1", BR_INT].ports[device]
    taught(world, "compute1", number)
    change(world, cloud(GROUPS.replace("port: 80", "port: 81"), FREE))
    world.restart_daemon()
    world.settle()
    assert learned(world)
    world.port("compute1", BR_INT, device, None)
    world.settle()
    world.check()
    assert not learned(world)


def test_what_a_port_taught_that_went_while_the_daemon_was_away_goes_when_it_is_back() -> None:
    world = running(cloud(vms=FREE))
    device = world.fleet.topology.vms["nat1"].ports[0].device
    number = world.switches["compute1", BR_INT].ports[device]
    taught(world, "compute1", number)
    world.switches["compute1", BR_INT].ports[device] = 99
    world.restart_daemon()
    world.settle()
    world.check()
    assert not learned(world)
    assert any(Forget(source=number) in plan.forget for _, _, plan in world.writes)


def test_what_came_from_other_hosts_stays_over_a_restart_and_goes_with_the_last_port_that_needs_it() -> None:
    world = running(cloud(vms=FREE))
    patch, vlans = world.switches["compute1", BR_INT].ports[PATCH_TUN], world.fleet.hosts["compute1"].vlans or {}
    taught(world, "compute1", vlans["blue"] << 32 | patch)
    world.restart_daemon()
    world.settle()
    assert learned(world)
    change(world, cloud(vms=VMS))
    assert not learned(world)
    taught(world, "compute1", vlans["twin"] << 32 | patch, "twin")
    world.restart_daemon()
    world.settle()
    assert not learned(world)


# ---- who was refused what

def test_every_row_that_refuses_says_whom_and_what() -> None:
    world = running(cloud(vms=FREE))
    found = {}
    for bridge in (BR_INT, BR_TUN):
        want = session(world, "compute1", bridge).want
        counted = {cookie: Counted(n, 100 * n) for n, cookie in enumerate(want, start=1)}
        found[bridge] = list(refused(world.fleet.topology, "compute1", want, counted))
    mine = {one["offence"]: one for one in found[BR_INT] if one["port"] == "web1"}
    assert mine.keys() == {"vlan", "arp", "nd", "mac", "address", "dhcp-server", "router-advertisement", "redirect",
                           "groups"}
    assert all(one["network"] == "blue" and one["packets"] > 0 and "web1" in one["why"] for one in mine.values())
    assert {one["offence"] for one in found[BR_INT] if one["port"] == "nat1"} == {"vlan"}
    assert {"ethertype", "invalid", "unknown-port"} <= {one["offence"] for one in found[BR_INT] if not one["port"]}
    assert {one["offence"] for one in found[BR_TUN]} == {"tunnel", "tunnel-id", "unknown-port"}
    dropping = {row.why for one in (BR_INT, BR_TUN) for row in session(world, "compute1", one).want.values()
                if not row.actions and row.origin.startswith("vms.")}
    assert dropping == {one["why"] for rows in found.values() for one in rows if one["port"]}


# ---- anything, in any order

def draw(pick: random.Random) -> Topology:
    """A cloud of few VMs in which everything about groups may be another the next time."""
    names = ["web", "db", "lone"]
    text = []
    for name in names:
        rules = [f"    - {_rule(pick, names)}" for _ in range(pick.randint(1, 3))]
        text += [f"  {name}:", *(rules if pick.random() < 0.9 else ["    []"])]
    vms = ["vms:"]
    for n in range(11, 11 + pick.randint(1, 8)):
        groups = ", ".join(pick.sample(names, pick.randint(0, 2)))
        network, base = pick.choice([("blue", "10.0.0"), ("green", "10.1.0"), ("twin", "10.0.0")])
        security = pick.choice(["true", "true", "true", "false"])
        vms.append(f"  vm{n}: {{host: {pick.choice(['compute1', 'compute2'])}, network: {network}, ip: {base}.{n}, "
                   f"security_groups: [{groups}], port_security: {security}}}")
    firewall = pick.choice(["openvswitch"] * 4 + ["none", "iptables_hybrid"])
    return cloud("\n".join(text) + "\n", "\n".join(vms) + "\n", firewall)


def _rule(pick: random.Random, names: list[str]) -> str:
    protocol = pick.choice(["protocol: tcp, port: 80", "protocol: tcp, port: 80-90", "protocol: icmp", "protocol: udp"])
    remote = pick.choice(["remote: 10.0.0.0/8", "remote: 0.0.0.0/0", f"remote_group: {pick.choice(names)}",
                          f"remote_group: {pick.choice(names)}"])
    return f"{{direction: {pick.choice(['ingress', 'ingress', 'egress'])}, {protocol}, {remote}}}"


@pytest.mark.parametrize("run", range(3))
def test_whatever_changes_switches_hold_what_is_computed_from_scratch_and_no_zone_is_inherited(
        seed: int, run: int) -> None:
    pick = random.Random(seed * 100 + run)
    print(f"seed {seed * 100 + run}")
    world = World(draw(pick))
    world.connect()
    world.settle()
    for _ in range(6):
        topology = draw(pick)
        for host in topology.hosts:
            ports = world.switches[host, BR_INT].ports
            for port in topology.ports_by_host.get(host, ()):
                if port.device not in ports and pick.random() < 0.9:
                    world.port(host, BR_INT, port.device, 1 + max(ports.values(), default=0))
        world.apply(topology)
        if pick.random() < 0.3:
            world.apply(draw(pick))  # before the first is in
        world.settle()
        world.check()
    world.writes.clear()
    world.restart_daemon()
    world.settle()
    world.check()
    assert not world.writes
