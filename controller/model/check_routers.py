"""Checks of routers and floating IPs."""
from __future__ import annotations

from collections.abc import Iterator

from controller.model.check_networks import overlaps
from controller.model.claims import Homes, floating_address, is_judged
from controller.model.draft import Draft, Item, Leg, SubnetItem
from controller.model.problems import Finding, quoted
from controller.model.schema import FloatingIpShape, RouterShape, VmShape
from controller.model.topology import Address


def check_routers(draft: Draft) -> Iterator[Finding]:
    """A router stands on a network host; its interfaces, gateway and routes fit together."""
    legs: dict[str, list[Leg]] = {}
    for leg in draft.legs:
        legs.setdefault(leg.router, []).append(leg)
    for router in draft.routers.values():
        own = legs.get(router.name, [])
        yield from _host(draft, router)
        yield from _interfaces(draft, router, own)
        yield from _gateway(draft, router)
        yield from _routes(draft, router, own)


def _host(draft: Draft, router: Item[RouterShape]) -> Iterator[Finding]:
    host = draft.hosts.get(router.shape.host)
    if host is not None and host.shape.role != "network":
        others = [quoted(name) for name, each in draft.hosts.items() if each.shape.role == "network"]
        hint = f"network hosts are {', '.join(others[:8])}" if others else f'give {quoted(host.name)} "role: network"'
        message = f"{router.path}: host {quoted(host.name)} has the role compute, so it carries no routers"
        yield Finding("TB503", router.at("host"), message, hint)


def _interfaces(draft: Draft, router: Item[RouterShape], legs: list[Leg]) -> Iterator[Finding]:
    known: dict[str, SubnetItem] = {}
    places: dict[str, Leg] = {}
    for leg in legs:
        if leg.subnet is None or leg.subnet not in draft.subnets:
            continue
        if leg.subnet in known:
            yield Finding("TB504", leg.at, f"{leg.path}: subnet {quoted(leg.subnet)} is already on this router",
                          f"remove it here or in line {places[leg.subnet].at.line}")
        elif leg.ip is None and draft.subnets[leg.subnet].shape.gateway is None:
            hint = f"write {{subnet: {leg.subnet}, ip: ...}}, or give the subnet a gateway"
            yield Finding("TB505", leg.at, f"{leg.path}: this interface has no address", hint)
        known[leg.subnet] = draft.subnets[leg.subnet]
        places.setdefault(leg.subnet, leg)
    gateway = router.shape.gateway
    outside = draft.subnets_by_network.get(gateway.network, []) if gateway else []
    outside_names = {id(subnet) for subnet in outside}
    for first, second in overlaps([*known.values(), *(each for each in outside if each.name not in known)]):
        if first.network != second.network:  # else TB301 says it
            at = router.at("gateway") if id(second) in outside_names else places[second.name].at
            message = f"{router.path}: {quoted(second.name)} {second.shape.cidr} overlaps {quoted(first.name)}"
            yield Finding("TB302", at, f"{message} {first.shape.cidr}", "a router cannot tell their addresses apart")


def _gateway(draft: Draft, router: Item[RouterShape]) -> Iterator[Finding]:
    gateway = router.shape.gateway
    network = draft.networks.get(gateway.network) if gateway else None
    if gateway is None or network is None:
        return
    at = router.at("gateway", "network")
    if not network.shape.external:
        others = [quoted(name) for name, each in draft.networks.items() if each.shape.external]
        hint = f"external networks are {', '.join(others[:8])}" if others else 'say "external: true" in a network'
        yield Finding("TB502", at, f"{router.path}.gateway: network {quoted(network.name)} is not external", hint)
    if is_judged(draft, network.name) and not draft.subnets_by_network[network.name]:
        message = f"{router.path}.gateway: network {quoted(network.name)} has no subnet"
        yield Finding("TB512", at, message, f"add a subnet to it in line {network.line}")


def _routes(draft: Draft, router: Item[RouterShape], legs: list[Leg]) -> Iterator[Finding]:
    known = all(leg.network is not None and is_judged(draft, leg.network) for leg in legs)
    direct = [draft.subnets[leg.subnet] for leg in legs if leg.subnet in draft.subnets]
    if router.shape.gateway is not None:
        direct.extend(draft.subnets_by_network.get(router.shape.gateway.network, ()))
    for index, route in enumerate(router.shape.routes):
        if known and not _reaches(direct, route.nexthop):
            message = f"{router.path}: the next hop {route.nexthop} is in no subnet of this router"
            hint = "a next hop is an address of a subnet on one of its interfaces"
            yield Finding("TB315", router.at("routes", index, "nexthop"), message, hint)


def _reaches(subnets: list[SubnetItem], address: Address) -> bool:
    return any(address in subnet.shape.cidr for subnet in subnets)


def check_floating_ips(draft: Draft) -> Iterator[Finding]:
    """A floating IP lies in an external network and belongs to a VM on the named network, behind a router."""
    homes = Homes(draft)
    ways = _ways_out(draft)
    certain = draft.declared["networks"] is not None and not draft.unsure
    on: dict[str, list[str]] = {}
    for port in draft.ports:
        on.setdefault(port.vm, []).append(port.shape.network)
    for fip in draft.floating_ips.values():
        home = homes.of_floating(floating_address(fip))
        if home is None and certain:
            known = [str(subnet.shape.cidr) for subnet in draft.subnets.values()
                     if subnet.network in draft.networks and draft.networks[subnet.network].shape.external]
            hint = f"take an address of {' or '.join(known[:8])}" if known else 'say "external: true" in a network'
            yield Finding("TB312", fip.at(), f"{fip.path}: {fip.name} is in no external network", hint)
        network = fixed_network(draft, fip)
        if fip.shape.vm in draft.vms and network is not None and network in draft.networks:
            if network not in on.get(fip.shape.vm, ()):
                yield _not_on(fip, network, on.get(fip.shape.vm, []))
            elif home is not None and (home.network, network) not in ways:
                message = f"{fip.path}: no router joins {quoted(network)} and {quoted(home.network)}"
                yield Finding("TB608", fip.at(), message, "packets to this address find no way to the VM")


def _not_on(fip: Item[FloatingIpShape], network: str, networks: list[str]) -> Finding:
    others = ", ".join(quoted(each) for each in networks[:8])
    message = f"{fip.path}: VM {quoted(fip.shape.vm)} has no port on network {quoted(network)}"
    return Finding("TB506", fip.at("network"), message, f"it is on {others}" if others else "")


def fixed_network(draft: Draft, fip: Item[FloatingIpShape]) -> str | None:
    """The network a floating IP leads to; without `network` in the file it is that of the VM's first port."""
    if fip.shape.network is not None:
        return fip.shape.network
    vm = draft.vms.get(fip.shape.vm)
    if vm is None:
        return None
    ports = vm.shape.ports if isinstance(vm.shape, VmShape) else [vm.shape]
    return next((port.network for port in ports), None)


def _ways_out(draft: Draft) -> set[tuple[str, str]]:
    """Pairs of an external network and a network that some router joins."""
    found: set[tuple[str, str]] = set()
    for router in draft.routers.values():
        for interface in router.shape.interfaces if router.shape.gateway else ():
            subnet = draft.subnets.get(interface.subnet)
            if subnet is not None and router.shape.gateway is not None:
                found.add((router.shape.gateway.network, subnet.network))
    return found
