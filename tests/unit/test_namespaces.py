"""Routers as namespaces, the bridges to physical networks and what is behind them: as plans."""
from __future__ import annotations

import json
from dataclasses import replace

import pytest

from controller.host import lab, namespaces, nat, outside, routers, steps
from controller.host.devices import Devices, Namespace, from_json, to_json
from controller.host.stages import stages
from controller.model import names
from controller.model.topology import Topology
from tests.clouds import parse

CLOUD = """
cloud: plans
underlay: {cidr: 192.0.2.0/24, mtu: 1500}
firewall: none
hosts:
  c1: {tunnel_ip: 192.0.2.11}
  n1: {tunnel_ip: 192.0.2.21, role: network}
networks:
  blue: {tunnel_id: 7, subnets: {blue-s: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  green: {tunnel_id: 8, subnets: {green-s: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
  public: {external: true, subnets: {public-s: {cidr: 203.0.113.0/24, gateway: 203.0.113.1}}}
  lan: {physical_network: office, segmentation_id: 77, subnets: {lan-s: {cidr: 10.7.0.0/24, gateway: 10.7.0.1}}}
vms:
  a: {host: c1, network: blue, ip: 10.0.1.11}
  b: {host: c1, network: blue, ip: 10.0.1.12}
  l: {host: c1, network: lan, ip: 10.7.0.11}
"""
FLOATING = "floating_ips: {203.0.113.50: {vm: a, network: blue}}\n"
MOVED = "floating_ips: {203.0.113.50: {vm: b, network: blue}}\n"
GATEWAY = "gateway: {network: public, ip: 203.0.113.10}"


def cloud(*subnets: str, more: str = GATEWAY, floating: str = "", driver: str = "namespace",
          also: str = "") -> Topology:
    return parse(f"{CLOUD}{floating}routers:\n  r1: {{host: n1, driver: {driver}, interfaces: [{', '.join(subnets)}], "
                 f"{more}}}\n{also}")


def devices(topology: Topology) -> Devices:
    return Devices("plans", namespaces=routers.namespaces(topology, "n1", software_checksums=True))


NOTHING = Devices("plans")


def commands(*jobs: namespaces.Job) -> list[str]:
    return [line for job in jobs for step in job.steps for line in steps.as_commands(step)]


def changes(old: Devices, new: Devices) -> list[str]:
    return commands(*namespaces.removals(new, old), *namespaces.additions(new, old))


def position(lines: list[str], *parts: str) -> int:
    found = [number for number, line in enumerate(lines) if all(part in line for part in parts)]
    assert len(found) == 1, (parts, lines)
    return found[0]


def test_a_new_router_translates_before_it_has_an_address_and_speaks_last() -> None:
    todo = changes(NOTHING, devices(cloud("blue-s", "green-s", floating=FLOATING)))
    order = [position(todo, "ip netns add qrouter-"), position(todo, "iptables-restore"),
             position(todo, "ip_forward=1"), position(todo, "link add name qg-"), position(todo, "add-port br-int"),
             position(todo, "address replace 203.0.113.10/24 brd +"), position(todo, "address replace 203.0.113.50/32"),
             position(todo, "route replace default via 203.0.113.1"), position(todo, "announce.py")]
    assert order == sorted(order)
    assert todo[-1].endswith("&")
    assert not any(" del" in line for line in todo)


def test_a_leg_has_one_name_at_both_ends_and_labels_as_neutron_gives_them() -> None:
    topology = cloud("blue-s")
    (leg, _) = topology.legs_by_router["r1"]
    todo = changes(NOTHING, devices(topology))
    wire = todo[position(todo, "link add name qr-")]
    assert wire == (f"ip link add name {leg.device} mtu 1450 type veth peer name {leg.device} address {leg.mac} "
                    f"mtu 1450 netns {names.qrouter(topology.routers['r1'].id)}")
    plugged = todo[position(todo, "add-port")]
    for label in (f'iface-id="{leg.id}"', f'attached-mac="{leg.mac}"', 'tunbridge="plans"'):
        assert label in plugged


def test_a_router_that_is_right_needs_no_command() -> None:
    have = devices(cloud("blue-s", floating=FLOATING))
    assert changes(have, have) == []
    shuffled = replace(have.namespaces[0], routes=have.namespaces[0].routes[::-1], legs=have.namespaces[0].legs[::-1])
    assert changes(replace(have, namespaces=(shuffled,)), have) == []


def test_a_floating_ip_comes_by_one_iptables_restore_and_one_address() -> None:
    todo = changes(devices(cloud("blue-s")), devices(cloud("blue-s", floating=FLOATING)))
    assert [line.split()[0] for line in todo if not line.startswith((":", "-A", "*", "COMMIT", "EOF"))] == ["ip"] * 3
    assert position(todo, "iptables-restore") < position(todo, "address replace 203.0.113.50/32 dev qg-")
    assert "203.0.113.50" in todo[-1] and "203.0.113.10" not in todo[-1]


@pytest.mark.parametrize("after", ["", MOVED])
def test_connections_by_a_floating_ip_that_goes_or_moves_end(after: str) -> None:
    todo = changes(devices(cloud("blue-s", floating=FLOATING)), devices(cloud("blue-s", floating=after)))
    forget = [line.partition("conntrack")[2] for line in todo if "conntrack -D" in line]
    assert forget == [" -D --orig-dst 203.0.113.50", " -D --reply-dst 203.0.113.50"]
    assert any("address del 203.0.113.50/32" in line for line in todo) is not bool(after)


def test_a_leg_that_goes_takes_nothing_along() -> None:
    topology = cloud("blue-s", "green-s")
    green = topology.legs_by_router["r1"][1].device
    todo = changes(devices(topology), devices(cloud("blue-s")))
    assert position(todo, f"del-port br-int {green}") < position(todo, f"link del dev {green}")
    assert not any("link add" in line or "netns del" in line for line in todo)


def test_the_last_interface_takes_the_namespace_along() -> None:
    todo = changes(devices(cloud("blue-s")), devices(cloud()))
    assert devices(cloud()).namespaces == ()
    assert todo[-1].startswith("ip netns del qrouter-")
    assert sum("link del dev q" in line for line in todo) == 2


def test_what_failed_before_is_removed_and_built_anew() -> None:
    want = devices(cloud("blue-s"))
    had = devices(cloud("green-s")).namespaces[0]
    broken = namespaces.failed(want.namespaces[0], had)
    assert {leg.name[:3] for leg in broken.legs} == {"qr-", "qg-"} and len(broken.legs) == 3
    todo = changes(replace(want, namespaces=(broken,)), want)
    assert position(todo, "netns del") < position(todo, "netns add")


def test_another_mac_is_a_new_leg_and_another_mtu_is_not() -> None:
    want = devices(cloud("blue-s"))
    (router,) = want.namespaces

    def having(**changed: object) -> Devices:
        legs = (replace(router.legs[0], **changed), *router.legs[1:])  # type: ignore[arg-type]
        return replace(want, namespaces=(replace(router, legs=legs),))
    assert any("link add" in line for line in changes(having(mac="fa:16:3e:00:00:01"), want))
    assert changes(having(mtu=1400), want) == [f"ip link set dev {router.legs[0].name} mtu 1450",
                                               f"ip -netns {router.name} link set dev {router.legs[0].name} mtu 1450"]


def test_each_router_is_a_job_of_its_own() -> None:
    second = "  r2: {host: n1, driver: namespace, interfaces: [green-s]}\n"
    jobs = namespaces.additions(devices(cloud("blue-s", also=second)), NOTHING)
    assert [job.namespace.owner for job in jobs] == ["router r1", "router r2"]
    one, other = (" ".join(commands(job)) for job in jobs)
    assert jobs[1].namespace.name not in one and jobs[0].namespace.name not in other


def test_a_simulated_router_has_no_device() -> None:
    assert devices(cloud("blue-s", driver="simulated")).namespaces == ()


def test_rules_survive_the_journey_through_iptables() -> None:
    rules = devices(cloud("blue-s", floating=FLOATING)).namespaces[0].rules
    fed = nat.restore(rules)
    assert fed.count("COMMIT") == 2
    saved = ["# Generated by iptables-save", *(line.replace("- [0:0]", "- [12:345]") for line in fed), "# Completed",
             "*filter", ":INPUT ACCEPT [0:0]", "-A INPUT -j DROP", "COMMIT"]
    assert nat.canonical(saved) == rules
    assert nat.floating(rules) == {"203.0.113.50": "10.0.1.11"}


def test_the_order_of_rules_within_a_chain_is_part_of_them() -> None:
    rules = ("*nat", "-A POSTROUTING -j one", "-A POSTROUTING -j two")
    assert nat.canonical(rules) != nat.canonical((rules[0], rules[2], rules[1]))


def test_without_snat_only_floating_ips_are_translated() -> None:
    rules = devices(cloud("blue-s", more=GATEWAY.replace("}", ", snat: false}"), floating=FLOATING)).namespaces[0].rules
    assert not any("-o qg-" in line and "-j SNAT" in line for line in rules)
    assert any("--to-source 203.0.113.50" in line for line in rules)


def test_a_router_without_a_gateway_has_empty_chains() -> None:
    (router,) = devices(cloud("blue-s", more="routes: []")).namespaces
    assert not any("NAT --to" in line or "MARK" in line for line in router.rules)
    assert ":neutron-l3-agent-float-snat" in router.rules
    assert router.routes == ()


def test_a_static_default_route_is_written_as_ip_writes_it() -> None:
    (router,) = devices(cloud("blue-s", more="routes: [{destination: 0.0.0.0/0, nexthop: 10.0.1.9}]")).namespaces
    assert router.routes == (f"default via 10.0.1.9 dev {router.legs[0].name} proto static",)


def test_ip_route_is_in_the_order_of_the_kernels_table() -> None:
    more = ("routes: [{destination: 10.0.0.0/8, nexthop: 10.0.1.50}, {destination: 10.0.0.0/16, nexthop: 10.0.1.50}, "
            "{destination: 198.51.100.7/32, nexthop: 10.0.1.50}], ")
    (router,) = devices(cloud("green-s", "blue-s", more=more + GATEWAY)).namespaces
    assert [line.split()[0] for line in routers.ip_route(router).splitlines()] == [
        "default", "10.0.0.0/16", "10.0.0.0/8", "10.0.1.0/24", "10.0.2.0/24", "198.51.100.7", "203.0.113.0/24"]


def test_devices_with_routers_survive_a_journey_through_a_file() -> None:
    want = devices(cloud("blue-s", floating=FLOATING))
    assert from_json(json.loads(json.dumps(to_json(want)))) == want


# The lab around them.

def plan(topology: Topology) -> lab.LabPlan:
    return lab.lab_plan(topology, datapath="netdev", controllers=dict.fromkeys(topology.hosts, "unix:/run/x.sock"))


def test_a_lab_with_routers_survives_a_journey_through_a_file() -> None:
    made = plan(cloud("blue-s", floating=FLOATING))
    assert lab.from_json(json.loads(json.dumps(lab.to_json(made)))) == made


def test_attaching_a_subnet_touches_the_network_host_alone() -> None:
    todo = stages(plan(cloud("blue-s")), plan(cloud("blue-s", "green-s")))
    assert [(stage["what"], job["node"]) for stage in todo for job in stage["jobs"]] == [("routers", "n1")]
    assert stages(plan(cloud("blue-s")), plan(cloud("blue-s"))) == []


def test_a_router_of_another_driver_is_removed_before_bridges_and_wires_change() -> None:
    todo = stages(plan(cloud("blue-s")), plan(cloud("blue-s", driver="simulated")))
    assert [stage["what"] for stage in todo] == ["routers that go"]
    (job,) = todo[0]["jobs"]
    assert job["namespace"].startswith("qrouter-")


def test_a_damaged_router_is_the_only_thing_that_is_done_again() -> None:
    made = plan(cloud("blue-s"))
    name = made.hypervisors["n1"].namespaces[0].name
    todo = stages(lab.damaged(made, {("n1", name)}, None), made)
    assert [stage["what"] for stage in todo] == ["routers that go", "routers"]


def test_a_bridge_to_a_physical_network_is_born_with_its_patch_and_without_flows() -> None:
    made = plan(cloud("blue-s"))
    want = made.hypervisors["n1"]
    (bridge,) = (one for one in want.bridges if one.name == "br-ex")
    assert bridge.fail_mode == "secure" and bridge.controller and bridge.datapath_id
    peers = {port.name: dict(port.options)["peer"] for port in want.ports if port.type == "patch"}
    assert peers["int-br-ex"] == "phy-br-ex" and peers["phy-br-ex"] == "int-br-ex"
    assert {port.name for port in want.ports if port.bridge == "br-ex"} == {"phy-br-ex", "nic-external"}
    assert "br-office" in {one.name for one in made.hypervisors["c1"].bridges}
    assert "br-ex" not in {one.name for one in made.hypervisors["c1"].bridges}


def test_the_world_outside_has_a_plug_in_each_network_that_is_used() -> None:
    world = plan(cloud("blue-s")).outside
    assert world
    assert {port.name: port.tag for port in world.devices.ports if port.name.startswith("pt-")} == {
        "pt-public": 0, "pt-lan": 77}
    assert {plug.interface: plug.addresses for plug in world.plugs} == {
        "gw-public": ("203.0.113.1/24",), "gw-lan": ("10.7.0.1/24",)}
    without = plan(cloud()).outside
    assert without and {plug.interface for plug in without.plugs} == {"gw-lan"}


def test_a_cloud_without_physical_networks_has_no_outside() -> None:
    topology = parse(CLOUD.replace("  l: {host: c1, network: lan, ip: 10.7.0.11}\n", ""))
    assert outside.outside(topology, "internet") is None


def test_the_world_outside_is_no_gateway_where_a_router_of_the_cloud_is() -> None:
    world = plan(cloud("blue-s", "lan-s")).outside
    assert world and {plug.interface: plug.addresses for plug in world.plugs}["gw-lan"] == ()


def test_a_vm_on_a_physical_network_needs_no_room_for_a_tunnel() -> None:
    made = plan(cloud("blue-s"))
    assert {name: vm.cards[0].mtu for name, vm in made.vms.items()} == {"a": 1450, "b": 1450, "l": 1500}


def test_a_namespace_of_another_cloud_is_never_ours() -> None:
    """The mark is on its own interface, so that whatever stands can be told apart."""
    todo = changes(NOTHING, devices(cloud("blue-s")))
    assert any("link set dev lo alias tunbridge:plans up" in line for line in todo)


def test_every_step_of_a_router_says_why() -> None:
    jobs = namespaces.additions(devices(cloud("blue-s", floating=FLOATING)), NOTHING)
    assert all(step.why for job in jobs for step in job.steps)
    assert isinstance(jobs[0].namespace, Namespace)
