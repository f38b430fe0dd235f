"""Checks of names, ids and device names: each leads somewhere, and each belongs to one thing."""
from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID

from controller.model import names, providers
from controller.model.draft import Draft, Item
from controller.model.problems import Finding, Nearest, Position, quoted
from controller.model.schema import RouterShape, VmShape
from controller.model.topology import port_device

INTERNET = "internet"  # the lab's node behind br-ex
_KINDS = {"hosts": ("TB203", "host"), "networks": ("TB204", "network"), "subnets": ("TB205", "subnet"),
          "security_groups": ("TB206", "security group"), "vms": ("TB207", "VM")}


What = TypeVar("What", bound=Hashable)


class Use(NamedTuple, Generic[What]):
    """Something used at a place: a name, an id, an address."""

    what: What
    path: str
    at: Position


class _Placed(Protocol):
    @property
    def what(self) -> Hashable: ...


Seen = TypeVar("Seen", bound=_Placed)


def twins(uses: Iterable[Seen]) -> Iterator[tuple[Seen, Seen]]:
    """Every use of something that was used before, after the first use."""
    first: dict[Hashable, Seen] = {}
    for use in uses:
        earlier = first.setdefault(use.what, use)
        if earlier is not use:
            yield earlier, use


def duplicates(
    code: str, uses: Iterable[Use[What]], say: Callable[[Use[What]], str], cure: str
) -> Iterator[Finding]:
    """A finding at each later use; `say` words what is used twice."""
    for earlier, later in twins(uses):
        hint = f"{earlier.path} in line {earlier.at.line} has it, too; {cure}"
        yield Finding(code, later.at, f"{later.path}: {say(later)} is used twice", hint)


def check_references(draft: Draft) -> Iterator[Finding]:
    """Every name of another object is declared somewhere in the file."""
    nearest = Nearest()
    for section, use in _references(draft):
        declared = draft.declared.get(section)
        if declared is None or use.what in declared:
            continue
        code, kind = _KINDS[section]
        name = str(use.what)
        hint = nearest.hint(name, declared)
        yield Finding(code, use.at, f"{use.path}: there is no {kind} {quoted(name)}", hint)


def check_node_names(draft: Draft) -> Iterator[Finding]:
    """VMs, hosts and routers are nodes of one lab, so their names differ; one more node is the internet."""
    uses: list[Use[str]] = [Use(INTERNET, "the lab", Position(1, 1))]
    for section in ("hosts", "vms", "routers"):
        node = draft.root.children.get(section) if isinstance(draft.root.children, dict) else None
        for name, child in (node.children if node and isinstance(node.children, dict) else {}).items():
            uses.append(Use(name, f"{section}.{name}", child.place))
    for earlier, later in twins(uses):
        taken = f"{earlier.path} in line {earlier.at.line}" if earlier.what != INTERNET else "the internet of the lab"
        message = f"{section_of(later)}: the name {quoted(later.what)} is already that of {taken}"
        yield Finding("TB202", later.at, message, "hosts, VMs and routers share one set of names")


def section_of(use: Use[str]) -> str:
    """The path of a use with its name made safe to print."""
    section, _, name = use.path.partition(".")
    return f"{section}.{quoted(name)[1:-1]}"


def check_ids(draft: Draft) -> Iterator[Finding]:
    """No two objects have one id."""
    uses: list[Use[UUID]] = []
    # The id of a VM without a list of ports is that of its port.
    listed = [vm for vm in draft.vms.values() if isinstance(vm.shape, VmShape)]
    uses.extend(Use(item.shape.id, item.path, item.at("id"))
                for item in (*draft.hosts.values(), *listed) if item.shape.id is not None)
    for section, items in (("networks", draft.networks), ("routers", draft.routers)):
        uses.extend(Use(item.shape.id or draft.object_id(f"{section}/{item.name}"), item.path, item.at("id"))
                    for item in items.values())
    uses.extend(Use(subnet.id, subnet.path, subnet.at("id")) for subnet in draft.subnets.values())
    uses.extend(Use(group.id, group.path, group.node.find("id")) for group in draft.groups.values())
    uses.extend(Use(port.id, port.path, port.at("id")) for port in draft.ports)
    # A subnet that is on a router twice is TB504.
    legs = {(leg.router, leg.subnet): leg for leg in reversed(draft.legs)}
    uses.extend(Use(leg.id, leg.path, leg.at) for leg in reversed(legs.values()))
    uses.extend(Use(server.id, server.path, server.at) for server in providers.servers(draft))
    return duplicates("TB208", uses, lambda use: f"the id {use.what}", "give each its own id, or none")


def check_devices(draft: Draft) -> Iterator[Finding]:
    """On one host no two ports share a device name, nor the part of the id that their other devices are named by."""
    firewall = str(draft.options.get("firewall", "none"))
    pinned = [*_provider_devices(draft), *_leg_devices(draft)]
    derived: list[Use[tuple[str, str]]] = []
    for port in draft.distinct_ports():
        device = port.shape.device or port_device(firewall, port.id)
        pinned.append(Use((port.host, device), port.path, port.at("device")))
        derived.append(Use((port.host, names.device(names.TAP, port.id)), port.path, port.at("id")))
    for server in providers.servers(draft):
        use = Use((server.host, names.device(names.TAP, server.id)), server.path, server.at)
        pinned.append(use)
        derived.append(use)
    found = list(duplicates("TB209", pinned, _device, "on one host each needs its own"))
    yield from found or duplicates("TB209", derived, _device, "give each an id that begins differently")
    if not found and firewall == "iptables_hybrid":
        yield from _chains(draft)


def _chains(draft: Draft) -> Iterator[Finding]:
    """Neutron names a port's chains by ten characters of its id, one fewer than its devices."""
    kept = names.DEVICE_ID_CHARS - 1
    uses = {(port.host, str(port.id)[:kept + 1]): Use((port.host, "i" + str(port.id)[:kept]), port.path, port.at("id"))
            for port in reversed(draft.distinct_ports())}
    yield from duplicates("TB209", reversed(uses.values()),
                          lambda use: f"the iptables chain {quoted(use.what[1])} of host {quoted(use.what[0])}",
                          "give each an id that begins differently")


def _provider_devices(draft: Draft) -> Iterator[Use[tuple[str, str]]]:
    needed = providers.needed(draft)
    for host in draft.hosts.values():
        bridges = providers.mappings(host, needed.get(host.name, []))
        for bridge, physical in {bridge: physical for physical, bridge in bridges.items()}.items():
            at = host.at("bridge_mappings", physical)  # of two on one bridge TB211 tells
            for device in (bridge, names.int_device(bridge), names.phy_device(bridge)):
                yield Use((host.name, device), f"{host.path}.bridge_mappings", at)


def _leg_devices(draft: Draft) -> Iterator[Use[tuple[str, str]]]:
    legs = {leg.id: leg for leg in reversed(draft.legs)}
    for leg in reversed(legs.values()):
        device = names.device(names.QR if leg.subnet is not None else names.QG, leg.id)
        yield Use((draft.routers[leg.router].shape.host, device), leg.path, leg.at)


def _device(use: Use[tuple[str, str]]) -> str:
    host, device = use.what
    return f"the device {quoted(device)} of host {quoted(host)}"


def check_hosts(draft: Draft) -> Iterator[Finding]:
    """Datapath ids and tunnel addresses tell hosts apart."""
    paths: list[Use[int]] = []
    needed = providers.needed(draft)
    for host in draft.hosts.values():
        pinned = host.shape.datapath_ids or {}
        bridges = providers.mappings(host, needed.get(host.name, [])).values()
        for bridge in dict.fromkeys((*names.BRIDGES, *bridges, *pinned)):
            own, its = (name.encode("utf-8", "replace").decode() for name in (host.name, bridge))
            dpid = pinned.get(bridge) or names.datapath_id(draft.cloud, own, its)
            paths.append(Use(dpid, f"{host.path}.{quoted(bridge)[1:-1]}", host.at("datapath_ids", bridge)))
    yield from duplicates("TB210", paths, lambda use: f"the datapath id {use.what:016x}", "each bridge needs its own")
    tunnels = (Use(host.shape.tunnel_ip, host.path, host.at("tunnel_ip")) for host in draft.hosts.values())
    yield from duplicates("TB306", tunnels, lambda use: f"the tunnel address {use.what}", "each host needs its own")


def _references(draft: Draft) -> Iterator[tuple[str, Use[str]]]:
    for vm in draft.vms.values():
        yield "hosts", Use(vm.shape.host, vm.path, vm.at("host"))
    for port in draft.ports:
        yield "networks", Use(port.shape.network, port.path, port.at("network"))
        for index, group in enumerate(port.shape.security_groups):
            yield "security_groups", Use(group, port.path, port.at("security_groups", index))
    for router in draft.routers.values():
        yield from _router_references(router)
    for fip in draft.floating_ips.values():
        yield "vms", Use(fip.shape.vm, fip.path, fip.at("vm"))
        if fip.shape.network is not None:
            yield "networks", Use(fip.shape.network, fip.path, fip.at("network"))
    for group_ in draft.groups.values():
        for rule in group_.rules:
            if rule.shape.remote_group is not None:
                yield "security_groups", Use(rule.shape.remote_group, rule.path, rule.at("remote_group"))


def _router_references(router: Item[RouterShape]) -> Iterator[tuple[str, Use[str]]]:
    yield "hosts", Use(router.shape.host, router.path, router.at("host"))
    for index, interface in enumerate(router.shape.interfaces):
        path = f"{router.path}.interfaces[{index}]"
        yield "subnets", Use(interface.subnet, path, router.at("interfaces", index, "subnet"))
    gateway = router.shape.gateway
    if gateway is not None:
        yield "networks", Use(gateway.network, f"{router.path}.gateway", router.at("gateway", "network"))
