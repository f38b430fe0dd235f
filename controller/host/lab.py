"""The lab as a value.

A lab is hypervisors, VMs, the underlay between them and, where a network lives on a physical one, the world outside:
each a node in a namespace of its own. `lab_plan` says what a topology wants; `stages` how to get there.
"""
from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controller.host import (
    bridges,
    clients,
    devices,
    dhcp,
    guarding,
    namespaces,
    outside,
    refilter,
    routers,
    underlay,
    wires,
)
from controller.host.devices import Devices, FarEnd, Link, Namespace
from controller.host.firewall import UNKNOWN, Guarded
from controller.host.outside import Outside
from controller.host.plain import plain
from controller.model.topology import Address, Host, Port, Topology

UPLINK = "underlay0"  # a hypervisor's network card
INTERNET = "internet"  # the node outside
FIREWALL = "firewall"  # stands for the packet filter of a host where a job names its namespace


@dataclass(frozen=True)
class Card:
    """A VM's network interface as it is set up inside the VM."""

    interface: str
    mac: str
    address: str  # with its prefix length
    gateway: str | None  # set on the first card of a family alone: a VM has one default route
    mtu: int
    dhcp: bool = False  # the VM asks for all of this, and is given what is said here


@dataclass(frozen=True)
class LabVm:
    host: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class LabRouter:
    """A router, whatever drives it."""

    host: str
    driver: str
    shown: Namespace  # what it is, or would be, as a namespace; without legs if it has no interface


@dataclass(frozen=True)
class LabPlan:
    """All nodes of a lab, and its routers. Names of nodes are distinct."""

    cloud: str
    underlay: str  # the name of the node that joins the hypervisors
    underlay_mtu: int
    hypervisors: Mapping[str, Devices] = field(default_factory=dict)
    vms: Mapping[str, LabVm] = field(default_factory=dict)
    routers: Mapping[str, LabRouter] = field(default_factory=dict)
    outside: Outside | None = None


def lab_plan(topology: Topology, *, datapath: str, controllers: Mapping[str, str]) -> LabPlan:
    """The lab of a topology. `controllers`: host name -> the controller its bridges connect to."""
    taken = set(topology.hosts) | set(topology.vms)
    joint = next(name for name in _candidates("underlay") if name not in taken)
    hosts = {host.name: _hypervisor(topology, host, joint, (datapath, controllers[host.name]))
             for host in topology.hosts.values()}
    vms = {vm.name: LabVm(vm.host, tuple(_cards(topology, vm.ports))) for vm in topology.vms.values()}
    shown = {router.name: LabRouter(router.host, router.driver, routers.namespace(topology, router))
             for router in topology.routers.values()}
    return LabPlan(topology.cloud, joint, topology.underlay.mtu, hosts, vms, shown,
                   outside.outside(topology, INTERNET))


def _candidates(name: str) -> Iterator[str]:
    while True:
        yield name
        name += "_"


def _hypervisor(topology: Topology, host: Host, joint: str, how: tuple[str, str]) -> Devices:
    datapath, controller = how
    ports = wires.ports_of(topology, host.name)
    uplink = Link(UPLINK, "veth", topology.underlay.mtu, far=FarEnd(joint, joint_port(host.tunnel_ip)))
    if datapath == "netdev":
        feet = underlay.userspace(topology, host, UPLINK, neighbours=True)
    else:
        feet = underlay.kernel(topology, host, UPLINK)
    own = (*(bridges.uplink(topology, bridge, outside.card(topology, physical))
             for physical, bridge in host.bridge_mappings.items()),
           *(wires.ovs_port(topology, port) for port in ports))
    return Devices(
        cloud=topology.cloud,
        bridges=(*feet.bridges, *bridges.bridges(topology, host, datapath, controller)),
        ports=(*feet.ports, *bridges.ports(topology, host, datapath), *own),
        links=(_marked(uplink, topology), *outside.cards(topology, host, INTERNET),
               *(link for port in ports for link in wires.links(topology, port, lab=True))),
        underlay=feet.underlay,
        namespaces=(*routers.namespaces(topology, host.name, software_checksums=datapath == "netdev"),
                    *dhcp.namespaces(topology, host.name)),
        firewall=guarding.firewall(topology, host.name),
    )


def _marked(link: Link, topology: Topology) -> Link:
    return Link(link.name, link.kind, link.mtu, far=link.far, alias=f"{devices.MARK}:{topology.cloud}")


def joint_port(tunnel_ip: Address) -> str:
    """The name of a hypervisor's port on the underlay: `to-c000020b` leads to 192.0.2.11."""
    return f"to-{int(tunnel_ip) & 0xFFFFFFFFFFFF:08x}"


def _cards(topology: Topology, ports: Iterable[Port]) -> Iterator[Card]:
    routed: set[int] = set()
    for port in ports:
        subnet = topology.subnets[port.subnet]
        first = subnet.gateway is not None and port.ip.version not in routed
        if first:
            routed.add(port.ip.version)
        yield Card(port.interface, port.mac, f"{port.ip}/{subnet.cidr.prefixlen}",
                   str(subnet.gateway) if first else None, topology.mtu_of(port.network), clients.asks(port))


def kinds(plan: LabPlan) -> dict[str, str]:
    """What each node is: underlay, hypervisor, vm or internet."""
    return {plan.underlay: "underlay", **dict.fromkeys(plan.hypervisors, "hypervisor"), **dict.fromkeys(plan.vms, "vm"),
            **({plan.outside.name: "internet"} if plan.outside else {})}


def without(plan: LabPlan, dead: Container[str]) -> LabPlan:
    """A plan as it stands after some of its VMs have died and taken their ends of their wires with them."""
    hosts = {name: replace(have, links=tuple(link for link in have.links if not link.far or link.far.node not in dead))
             for name, have in plan.hypervisors.items()}
    return replace(plan, hypervisors=hosts, vms={name: vm for name, vm in plan.vms.items() if name not in dead})


def damaged(plan: LabPlan, failed: Container[tuple[str, str]], old: LabPlan | None) -> LabPlan:
    """A plan as it stands after the jobs of some namespaces, or of FIREWALL, given as (host, name), have failed."""
    had = {(host, one.name): one for host, have in (old.hypervisors if old else {}).items() for one in have.namespaces}

    def standing(host: str, one: Namespace) -> Namespace:
        return namespaces.failed(one, had.get((host, one.name))) if (host, one.name) in failed else one

    def links(host: str, have: Devices) -> tuple[Link, ...]:
        ports = changing(plan, old, host) if (host, FIREWALL) in failed else ()
        closed = {end for one in ports for end in one.plugs}
        return tuple(replace(link, master="") if link.name in closed else link for link in have.links)

    hosts = {host: replace(devices_, namespaces=tuple(standing(host, one) for one in devices_.namespaces),
                           links=links(host, devices_),
                           firewall=UNKNOWN if (host, FIREWALL) in failed else devices_.firewall)
             for host, devices_ in plan.hypervisors.items()}
    return replace(plan, hypervisors=hosts)


def changing(new: LabPlan, old: LabPlan | None, host: str) -> tuple[Guarded, ...]:
    """The ports of a host whose rules change from one plan to the next, or come."""
    had = old.hypervisors.get(host) if old is not None else None
    return refilter.change(new.hypervisors[host].firewall, had.firewall if had is not None else None).touched


def unserved(plan: LabPlan, silent: Container[tuple[str, str]]) -> LabPlan:
    """A plan as it stands after the dnsmasq of some namespaces, given as (host, name), have died."""
    hosts = {host: replace(have, namespaces=tuple(replace(one, dnsmasq=None) if (host, one.name) in silent else one
                                                  for one in have.namespaces))
             for host, have in plan.hypervisors.items()}
    return replace(plan, hypervisors=hosts)


def to_json(plan: LabPlan) -> dict[str, Any]:
    """The plan as JSON values; `from_json` reads them back."""
    bare: dict[str, Any] = plain(replace(plan, hypervisors={}))
    return {**bare, "hypervisors": {name: devices.to_json(have) for name, have in plan.hypervisors.items()}}


def from_json(value: Mapping[str, Any]) -> LabPlan:
    """A plan from what `to_json` wrote. KeyError, TypeError or ValueError if it is none."""
    world = value["outside"]
    return LabPlan(
        value["cloud"], value["underlay"], value["underlay_mtu"],
        {name: devices.from_json(host) for name, host in value["hypervisors"].items()},
        {name: LabVm(vm["host"], tuple(Card(**card) for card in vm["cards"])) for name, vm in value["vms"].items()},
        {name: LabRouter(one["host"], one["driver"], devices.namespace_from_json(one["shown"]))
         for name, one in value["routers"].items()},
        None if world is None else outside.from_json(world))
