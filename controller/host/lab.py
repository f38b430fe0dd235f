"""The lab as a value, and what to do to get from one lab to the next.

A lab is hypervisors, VMs and the underlay between them, each a node in a namespace of its own. `lab_plan` says
what a topology wants; `stages` says, as JSON that mininet/lab.py obeys, how to get there from an older plan or
from nothing. A stage is a list of jobs that may run side by side; stages run in order.

Routers, DHCP, br-ex and the `internet` host are nodes and jobs of this kind, too, when their time comes.
"""
from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from controller.host import bridges, converge, devices, steps, underlay, wires
from controller.host.devices import Devices, FarEnd, Link
from controller.host.steps import Step
from controller.model.topology import Address, Host, Port, Topology

Job = dict[str, Any]
Stage = dict[str, Any]

UPLINK = "underlay0"  # a hypervisor's network card


@dataclass(frozen=True)
class Card:
    """A VM's network interface as it is set up inside the VM."""

    interface: str
    mac: str
    address: str  # with its prefix length
    gateway: str | None  # set on the first card of a family alone: a VM has one default route
    mtu: int


@dataclass(frozen=True)
class LabVm:
    host: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class LabPlan:
    """All nodes of a lab. Names of hypervisors, VMs and the underlay are distinct."""

    cloud: str
    underlay: str  # the name of the node that joins the hypervisors
    underlay_mtu: int
    hypervisors: Mapping[str, Devices] = field(default_factory=dict)
    vms: Mapping[str, LabVm] = field(default_factory=dict)


def lab_plan(topology: Topology, *, datapath: str, controllers: Mapping[str, str]) -> LabPlan:
    """The lab of a topology. `controllers`: host name -> the controller its bridges connect to."""
    taken = set(topology.hosts) | set(topology.vms)
    joint = next(name for name in _candidates("underlay") if name not in taken)
    hosts = {host.name: _hypervisor(topology, host, joint, (datapath, controllers[host.name]))
             for host in topology.hosts.values()}
    vms = {vm.name: LabVm(vm.host, tuple(_cards(topology, vm.ports))) for vm in topology.vms.values()}
    return LabPlan(topology.cloud, joint, topology.underlay.mtu, hosts, vms)


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
    return Devices(
        cloud=topology.cloud,
        bridges=(*feet.bridges, *bridges.bridges(host, datapath, controller)),
        ports=(*feet.ports, *bridges.ports(topology, host), *(wires.ovs_port(topology, port) for port in ports)),
        links=(_marked(uplink, topology), *(link for port in ports for link in wires.links(topology, port, lab=True))),
        underlay=feet.underlay,
    )


def _marked(link: Link, topology: Topology) -> Link:
    return Link(link.name, link.kind, link.mtu, far=link.far, alias=f"{devices.MARK}:{topology.cloud}")


def joint_port(tunnel_ip: Address) -> str:
    """The name of a hypervisor's port on the underlay: `to-c000020b` leads to 192.0.2.11."""
    return f"to-{int(tunnel_ip) & 0xFFFFFFFFFFFF:08x}"


def _cards(topology: Topology, ports: Iterable[Port]) -> Iterator[Card]:
    routed: set[int] = set()
    mtu = topology.underlay.mtu - bridges.tunnel_overhead(topology)
    for port in ports:
        subnet = topology.subnets[port.subnet]
        first = subnet.gateway is not None and port.ip.version not in routed
        if first:
            routed.add(port.ip.version)
        yield Card(port.interface, port.mac, f"{port.ip}/{subnet.cidr.prefixlen}",
                   str(subnet.gateway) if first else None, mtu)


def to_json(plan: LabPlan) -> dict[str, Any]:
    """The plan as JSON values, with the stages that build it from nothing."""
    return {**asdict(plan), "stages": stages(None, plan)}


def from_json(value: Mapping[str, Any]) -> LabPlan:
    """A plan from what `to_json` wrote."""
    return LabPlan(
        value["cloud"], value["underlay"], value["underlay_mtu"],
        {name: devices.from_json(host) for name, host in value["hypervisors"].items()},
        {name: LabVm(vm["host"], tuple(Card(**card) for card in vm["cards"])) for name, vm in value["vms"].items()},
    )


# From one plan to the next.

def stages(old: LabPlan | None, new: LabPlan) -> list[Stage]:
    """What to do, in order, to turn the lab `old` (None: nothing is there) into `new`. Equal plans: nothing."""
    before = old or LabPlan(new.cloud, new.underlay, new.underlay_mtu)
    shall, had = kinds(new), kinds(old) if old else {}
    stopped = [name for name, kind in had.items() if shall.get(name) != kind]
    started = [name for name, kind in shall.items() if had.get(name) != kind]
    keep = LabPlan(before.cloud, before.underlay, before.underlay_mtu,
                   {name: have for name, have in before.hypervisors.items() if name not in stopped},
                   {name: vm for name, vm in before.vms.items() if name not in stopped})
    plan = [
        _stage("unplugging", _unplug(before, new)),
        _stage("stopping", ({"do": "stop", "node": name} for name in stopped)),
        _stage("starting", ({"do": "start", "node": name, "kind": shall[name]} for name in started)),
        _stage("switches", ({"do": "ovs", "node": name} for name in started if shall[name] == "hypervisor")),
        _stage("settings", _settings(new, started)),
        _stage("wiring", _plug(keep, new)),
        _stage("underlay", _join(keep, new)),
        _stage("addresses", _addresses(keep, new)),
        _stage("announcing", _announcements(keep, new)),
    ]
    return [stage for stage in plan if stage["jobs"]]


def without(plan: LabPlan, dead: Container[str]) -> LabPlan:
    """A plan as it stands after some of its VMs have died and taken their ends of their wires with them."""
    hosts = {name: replace(have, links=tuple(link for link in have.links if not link.far or link.far.node not in dead))
             for name, have in plan.hypervisors.items()}
    return replace(plan, hypervisors=hosts, vms={name: vm for name, vm in plan.vms.items() if name not in dead})


def kinds(plan: LabPlan) -> dict[str, str]:
    """What each node is: underlay, hypervisor or vm."""
    return {plan.underlay: "underlay", **dict.fromkeys(plan.hypervisors, "hypervisor"), **dict.fromkeys(plan.vms, "vm")}


def _stage(what: str, jobs: Iterable[Job]) -> Stage:
    return {"what": what, "jobs": list(jobs)}


def _run(node: str, todo: Iterable[Step]) -> Iterator[Job]:
    listed = [steps.to_json(step) for step in todo]
    if listed:
        yield {"do": "run", "node": node, "steps": listed}


def _unplug(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    """Also of hosts that go: a VM that moves away must be off its old wire before the new one is made."""
    for name, have in old.hypervisors.items():
        yield from _run(name, converge.removals(new.hypervisors.get(name, Devices(have.cloud)), have))


def _plug(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    for name, want in new.hypervisors.items():
        yield from _run(name, converge.additions(want, old.hypervisors.get(name, Devices(want.cloud))))


def _settings(new: LabPlan, started: Iterable[str]) -> Iterator[Job]:
    """IPv6 is off wherever the file has no IPv6 address: its own chatter would cross the tenants' wires."""
    for name in started:
        if name == new.underlay:
            bridge = f"link add name {name[:15]} type bridge forward_delay 0 stp_state 0 mcast_snooping 0"
            yield from _run(name, (*_quiet(), *steps.ip_batch(
                (bridge, f"link set dev {name[:15]} mtu {new.underlay_mtu} up"), "joins the hypervisors")))
        elif name in new.hypervisors:
            address = new.hypervisors[name].underlay
            speaks = address is not None and ":" in address.address
            yield from _run(name, () if speaks else _quiet())
        elif all(":" not in card.address for card in new.vms[name].cards):
            yield from _run(name, _quiet())


def _quiet() -> tuple[Step, ...]:
    keys = (f"net/ipv6/conf/{which}/disable_ipv6=1" for which in ("all", "default"))
    return steps.sysctl(keys, "no address of this node is IPv6, so it shall not chat in it")


def _join(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    """The underlay's ends of the hypervisors' cards, which were made with them."""
    had = {link.far for devices_ in old.hypervisors.values() for link in devices_.links if link.name == UPLINK}
    ends = [link.far for devices_ in new.hypervisors.values() for link in devices_.links if link.name == UPLINK]
    lines = [f"link set dev {end.interface} master {new.underlay[:15]} up" for end in ends if end and end not in had]
    if new.underlay_mtu != old.underlay_mtu:
        lines += [f"link set dev {end.interface} mtu {new.underlay_mtu}" for end in ends if end and end in had]
        lines.append(f"link set dev {new.underlay[:15]} mtu {new.underlay_mtu}")
    # The underlay would flood frames for a MAC that it has not yet heard, and other hosts would see them.
    known = tuple(f"fdb replace {bridge.mac} dev {link.far.interface} master static"
                  for host in new.hypervisors.values() for bridge in host.bridges if bridge.mac
                  for link in host.links if link.name == UPLINK and link.far and link.far not in had)
    whereabouts = (Step(("bridge", "-batch", "-"), "the underlay knows who lives where", known),) if known else ()
    yield from _run(new.underlay, (*steps.ip_batch(lines, "plug the hypervisors into the underlay"), *whereabouts))


def _addresses(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    rewired = _rewired(old, new)
    for name, vm in new.vms.items():
        had = old.vms[name].cards if name in old.vms else ()
        cards = [card for card in vm.cards if card not in had or (name, card.interface) in rewired]
        lines = [line for card in cards for line in _card(card)]
        if name not in old.vms:
            lines.insert(0, "link set dev lo up")
        # TCP over the userspace datapath: nobody fills in the checksums that a veth leaves to the hardware.
        offload = [Step(("ethtool", "-K", card.interface, "tx", "off"), "checksums are computed by the VM itself")
                   for card in cards]
        yield from _run(name, (*steps.ip_batch(lines, "the VM's own addresses"), *offload))


def _card(card: Card) -> Iterator[str]:
    nodad = " nodad" if ":" in card.address else ""
    yield f"address flush dev {card.interface} scope global"
    yield f"link set dev {card.interface} mtu {card.mtu} up"
    yield f"address add {card.address} dev {card.interface}{nodad}"
    if card.gateway is not None:
        yield f"route replace default via {card.gateway} dev {card.interface}"


def _rewired(old: LabPlan, new: LabPlan) -> set[tuple[str, str]]:
    """(VM, interface) of every wire that is new, because the VM is, has moved or has changed its card."""
    return {(link.far.node, link.far.interface)
            for host, want in new.hypervisors.items() for link in want.links
            if link.far and not _stands(old, host, link)}


def _stands(plan: LabPlan, host: str, link: Link) -> bool:
    have = plan.hypervisors.get(host)
    return have is not None and any((old.name, old.far, old.kind) == (link.name, link.far, link.kind)
                                    for old in have.links)


def _announcements(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    """A VM that has moved says so itself, or others would go on sending to where it was."""
    for name, vm in new.vms.items():
        if name in old.vms and old.vms[name].host != vm.host:
            yield {"do": "announce", "node": name,
                   "cards": [[card.interface, card.mac, card.address.partition("/")[0]] for card in vm.cards]}
