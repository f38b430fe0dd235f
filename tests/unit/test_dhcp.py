"""What a topology wants of DHCP, and the steps to get there from what a host has; the script of the VMs' clients."""
from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from controller.host import clients, dhcp, dnsmasq, lab, namespaces
from controller.host.devices import Devices, Dnsmasq, Namespace
from controller.host.stages import stages
from controller.host.steps import Step
from controller.model import reading
from controller.model.topology import Topology

BLUE = "10.0.1.0/24, gateway: 10.0.1.1, dhcp: true, dns: [9.9.9.9, '2620:fe::fe']"
ROUTES = ", host_routes: [{destination: 198.51.100.0/24, nexthop: 10.0.1.7}]"
VMS = ["a: {host: c1, network: blue, ip: dhcp}", "b: {host: c1, network: blue, ip: 10.0.1.20}"]


def topology(blue: str = BLUE, vms: list[str] = VMS, more: str = "", mtu: int = 1500) -> Topology:
    lines = "".join(f"  {vm}\n" for vm in vms)
    found = reading.parse(f"""
cloud: served
underlay: {{cidr: 192.0.2.0/24, mtu: {mtu}}}
firewall: none
hosts:
  c1: {{tunnel_ip: 192.0.2.11}}
  n1: {{tunnel_ip: 192.0.2.21, role: network}}
networks:
  blue: {{tunnel_id: 7, subnets: {{blue-s: {{cidr: {blue}}}{more}}}}}
  plain: {{tunnel_id: 8, subnets: {{plain-s: {{cidr: 10.0.1.0/24}}}}}}
vms:
{lines}""", "dhcp.yaml")
    assert found.topology, found.problems
    return found.topology


def served(*args: Any, **more: Any) -> tuple[Namespace, Dnsmasq]:
    (one,) = dhcp.namespaces(topology(*args, **more), "n1")
    assert one.dnsmasq
    return one, one.dnsmasq


def words(one: Namespace, now: Namespace) -> list[str]:
    """The commands for a namespace that is there."""
    jobs = namespaces.additions(Devices(namespaces=(one,)), Devices(namespaces=(now,)))
    return [step.argv[0] if step.argv[0] != "pkill" else step.argv[1] for job in jobs for step in job.steps]


def test_a_network_is_served_where_a_subnet_wants_it_and_nowhere_else() -> None:
    one, _ = served()
    assert one.name == f"qdhcp-{topology().networks['blue'].id}"
    assert one.owner == "DHCP of blue"
    assert dhcp.namespaces(topology(), "c1") == ()
    assert dhcp.namespaces(topology(BLUE.replace("true", "false"), VMS[1:]), "n1") == ()


def test_every_port_of_its_subnets_gets_its_own_address_and_nobody_else_any() -> None:
    cloud = topology(vms=[*VMS, "c: {host: c1, network: plain, ip: 10.0.1.30}"])
    (one,) = dhcp.namespaces(cloud, "n1")
    ports = {port.name: port for port in cloud.ports()}
    assert one.dnsmasq
    assert set(one.dnsmasq.hosts) == {
        f"{ports[name].mac},host-{str(ports[name].ip).replace('.', '-')},{ports[name].ip}" for name in "ab"}
    assert [line for line in one.dnsmasq.config if line.startswith("dhcp-range")] == [
        f"dhcp-range=set:subnet-{cloud.subnets['blue-s'].id},10.0.1.0,static,255.255.255.0,86400s"]


def options(*args: Any, **more: Any) -> list[str]:
    return [line.partition(",")[2] for line in served(*args, **more)[1].options]


def test_options_are_those_of_the_file() -> None:
    assert options() == ["option:router,10.0.1.1", "option:dns-server,9.9.9.9"]
    assert options("10.0.1.0/24, dhcp: true") == ["option:router"], "else dnsmasq would name itself"


def test_classless_routes_hold_the_default_route_too_as_their_readers_ignore_the_router() -> None:
    both = ["198.51.100.0/24,10.0.1.7", "0.0.0.0/0,10.0.1.1"]
    assert options(BLUE + ROUTES)[2:] == [",".join((name, *both)) for name in ("option:classless-static-route", "249")]
    bare = "10.0.1.0/24, dhcp: true" + ROUTES
    assert options(bare)[1:] == [f"{name},{both[0]}" for name in ("option:classless-static-route", "249")]


def test_the_mtu_is_what_the_tunnel_leaves() -> None:
    assert "dhcp-option-force=option:mtu,1450" in served()[1].config
    one, server = served(mtu=9000)
    assert "dhcp-option-force=option:mtu,8950" in server.config
    assert [leg.mtu for leg in one.legs] == [8950]


def test_ipv6_is_served_with_advertisements_of_no_router() -> None:
    one, server = served(more=", blue-6: {cidr: '2001:db8::/64', dhcp: true}",
                         vms=[*VMS, "six: {host: c1, network: blue, ip: '2001:db8::5'}"])
    assert any(line.endswith(",[2001:db8::5]") for line in server.hosts)
    assert f"ra-param={one.legs[0].name},mtu:1450,60,0" in server.config
    assert len(one.legs[0].addresses) == 2
    assert not any("[" in line for line in _leases(one)), "leases of DHCPv6 are known by more than a MAC"
    assert not any("disable_ipv6=1" in setting for setting in one.sysctls)


def _leases(one: Namespace) -> tuple[str, ...]:
    return next(step.lines for step in dnsmasq.serve(one, replace(one, dnsmasq=None)) if "leases" in step.argv[-1])


def test_a_server_that_is_as_it_shall_be_is_left_alone() -> None:
    one, _ = served()
    assert words(one, one) == []


def test_who_is_added_is_read_who_is_removed_is_forgotten_by_a_new_start() -> None:
    both, alone = served()[0], served(vms=VMS[:1])[0]
    assert words(both, alone) == ["install", "install", "-HUP"]
    start = ["-TERM", "timeout", "-KILL", "install", "install", "install", "install", "ip", "ip"]
    assert words(alone, both) == start
    assert words(both, replace(both, dnsmasq=None)) == start, "it has died"
    assert words(served(BLUE + ROUTES)[0], both) == ["install", "install", "-HUP"]


def test_it_starts_on_what_it_listens_on_anew() -> None:
    one, _ = served()
    other = replace(one, legs=(replace(one.legs[0], addresses=("10.0.1.253/24",)),))
    assert words(other, one)[-3:] == ["ip", "ip", "ip"], "guarded, started, and announced"
    assert any("dnsmasq" in step.argv for step in dnsmasq.serve(other, one))


def test_a_namespace_that_goes_takes_its_server_and_its_files_along() -> None:
    one, _ = served()
    (job,) = namespaces.removals(Devices(), Devices(namespaces=(one,)))
    commands = [" ".join(step.argv) for step in job.steps]
    ended = next(index for index, command in enumerate(commands) if command.startswith("pkill -TERM"))
    assert ended < commands.index(f"ip netns del {one.name}")
    assert f"rm -r -f {dnsmasq.directory(one.name)}" in commands


def test_a_host_is_read_as_it_was_written() -> None:
    one, server = served(BLUE + ROUTES)
    files = {f"{dnsmasq.directory(one.name)}/{name}": lines for name, lines in
             (("conf", server.config), ("host", server.hosts), ("opts", server.options))}

    def read(step: Step) -> str:
        said = {"pgrep": ["17"], "ip": ["*filter", ":INPUT ACCEPT [1:2]", *server.guard, "COMMIT"]}
        return "".join(f"{line}\n" for line in said.get(step.argv[0]) or files[step.argv[1]])

    assert dnsmasq.observe(one, read) == server
    assert dnsmasq.observe(one, lambda step: "") is None


# The lab's VMs.

def plan(*args: Any, **more: Any) -> lab.LabPlan:
    found = lab.lab_plan(topology(*args, **more), datapath="netdev", controllers={"c1": "x", "n1": "x"})
    assert lab.from_json(json.loads(json.dumps(lab.to_json(found)))) == found
    return found


def commands(old: lab.LabPlan | None, new: lab.LabPlan, vm: str) -> list[tuple[str, str]]:
    """(stage, command) of a VM, those of its client alone."""
    return [(stage["what"], " ".join(step["argv"])) for stage in stages(old, new) for job in stage["jobs"]
            if job["node"] == vm for step in job.get("steps", ()) if "udhcpc" in " ".join(step["argv"])]


def test_a_vm_asks_when_its_server_knows_the_answer() -> None:
    names = [stage["what"] for stage in stages(None, plan())]
    assert names.index("routers") < names.index("clients")
    ((stage, command),) = commands(None, plan(), "a")
    assert stage == "clients"
    assert command.startswith("busybox udhcpc -f -i eth0 ")
    assert not commands(None, plan(), "b")
    assert stages(plan(), plan()) == []


def test_a_vm_asks_again_when_its_address_is_another_and_stops_when_it_is_given() -> None:
    pinned = ["a: {host: c1, network: blue, ip: 10.0.1.11}"]
    narrow = BLUE + ", allocation_pools: [{start: 10.0.1.100, end: 10.0.1.101}]"
    ended = [("addresses", word) for word in ("pkill -TERM", "timeout 5", "pkill -KILL")]

    def shortened(old: lab.LabPlan, new: lab.LabPlan) -> list[tuple[str, str]]:
        return [(stage, " ".join(command.split()[:2])) for stage, command in commands(old, new, "a")]

    assert shortened(plan(), plan(narrow)) == [*ended, ("clients", "busybox udhcpc")]
    assert shortened(plan(), plan(vms=pinned)) == ended
    assert shortened(plan(vms=pinned), plan()) == [("clients", "busybox udhcpc")]


def test_only_cards_of_ipv4_ask_in_the_lab() -> None:
    cloud = topology(more=", blue-6: {cidr: '2001:db8::/64', dhcp: true}")
    assert [port.name for port in cloud.ports() if clients.asks(port)] == ["a"]


def script() -> dict[str, Any]:
    return runpy.run_path(str(clients.SCRIPT), run_name="script")


@pytest.mark.parametrize(("lease", "expected"), [
    ({"router": "10.0.1.1 10.0.1.2"}, {"default": "via 10.0.1.1"}),
    ({"router": "10.0.1.1", "staticroutes": "198.51.100.0/24 10.0.1.7 0.0.0.0/0 10.0.1.9"},
     {"198.51.100.0/24": "via 10.0.1.7", "default": "via 10.0.1.9"}),
    ({"router": "10.0.1.1", "staticroutes": "192.0.2.7/32 0.0.0.0"}, {"192.0.2.7": ""}),
    ({"msstaticroutes": "192.0.2.0/24 10.0.1.3"}, {"192.0.2.0/24": "via 10.0.1.3"}),
    ({}, {}),
])
def test_routes_of_a_lease(lease: dict[str, str], expected: dict[str, str]) -> None:
    routes: Callable[[dict[str, str]], dict[str, str]] = script()["routes"]
    assert routes(lease) == expected


def test_the_first_card_has_the_best_default_route() -> None:
    assert [script()["metric"](card) for card in ("eth0", "eth1", "eth12")] == [0, 1, 12]
