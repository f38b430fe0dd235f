"""Checks of routers."""
from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Final

from controller.model.check_networks import overlaps
from controller.model.claims import is_judged
from controller.model.draft import Draft, Item, Leg, SubnetItem
from controller.model.problems import Finding, quoted
from controller.model.schema import RouterShape
from controller.model.topology import Address, Prefix

ROUTED: Final = "routers route IPv4"


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
        yield from _both_ways(draft, router, own)
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
    if not is_judged(draft, network.name):
        return
    subnets = draft.subnets_by_network[network.name]
    if not subnets:
        message = f"{router.path}.gateway: network {quoted(network.name)} has no subnet"
        yield Finding("TB512", at, message, f"add a subnet to it in line {network.line}")
    elif all(subnet.shape.cidr.version == 6 for subnet in subnets):
        message = f"{router.path}.gateway: network {quoted(network.name)} has no IPv4 subnet"
        yield Finding("TB514", at, message, f"{ROUTED}; add an IPv4 subnet to it in line {network.line}")
    elif gateway.ip is not None and gateway.ip.version == 6:
        message = f"{router.path}.gateway: {gateway.ip} is not an IPv4 address"
        yield Finding("TB514", router.at("gateway", "ip"), message, f"{ROUTED}")


def _both_ways(draft: Draft, router: Item[RouterShape], legs: list[Leg]) -> Iterator[Finding]:
    """A router's way outside is none of its ways inside."""
    gateway = router.shape.gateway
    for leg in legs if gateway is not None else ():
        if leg.subnet is not None and gateway is not None and leg.network == gateway.network:
            message = f"{leg.path}: {quoted(leg.subnet)} is on {quoted(gateway.network)}, the gateway's network"
            yield Finding("TB504", leg.at, message, "a network is either inside or outside; remove one of the two")


def _routes(draft: Draft, router: Item[RouterShape], legs: list[Leg]) -> Iterator[Finding]:
    known = all(leg.network is not None and is_judged(draft, leg.network) for leg in legs)
    direct = [draft.subnets[leg.subnet] for leg in legs if leg.subnet in draft.subnets]
    outside = [subnet for leg in legs if leg.subnet is None
               for subnet in draft.subnets_by_network.get(leg.network or "", ())
               if leg.ip is None or leg.ip in subnet.shape.cidr]
    own = {leg.ip for leg in legs if leg.ip is not None}
    for index, route in enumerate(router.shape.routes):
        at = router.at("routes", index, "nexthop")
        if known and not _reaches([*direct, *outside], route.nexthop):
            message = f"{router.path}: the next hop {route.nexthop} is in no subnet of this router"
            yield Finding("TB315", at, message, "a next hop is an address of a subnet on one of its interfaces")
        elif route.nexthop in own:
            message = f"{router.path}: the next hop {route.nexthop} is the router itself"
            yield Finding("TB315", at, message, "name the address of another router, or of a VM")
        elif route.nexthop.version != route.destination.version:
            message = f"{router.path}: {route.nexthop} cannot lead to {route.destination}"
            yield Finding("TB318", at, message, "take a next hop of the same version of IP")
    yield from _destinations(router, direct, outside)


def _destinations(
    router: Item[RouterShape], inside: list[SubnetItem], outside: list[SubnetItem]
) -> Iterator[Finding]:
    """Each route says something about addresses of which nothing else is said."""
    said: dict[Prefix, str] = {subnet.shape.cidr: f"subnet {quoted(subnet.name)}, which the router is on"
                               for subnet in (*inside, *outside)}
    if any(subnet.shape.gateway is not None for subnet in outside):
        said[IPv4Network("0.0.0.0/0")] = "what its gateway is for"
    for index, route in enumerate(router.shape.routes):
        at = router.at("routes", index, "destination")
        if route.destination.is_multicast or route.destination.is_loopback:
            yield Finding("TB314", at, f"{router.path}: nothing is routed to {route.destination}", "remove the route")
        elif route.destination in said:
            message = f"{router.path}: the destination {route.destination} is {said[route.destination]}"
            yield Finding("TB319", at, message, "remove this route, or make it a part of that prefix")
        else:
            said[route.destination] = f"that of another route, in line {at.line}"


def _reaches(subnets: list[SubnetItem], address: Address) -> bool:
    return any(address in subnet.shape.cidr for subnet in subnets)


def warn_of_routers(draft: Draft) -> Iterator[Finding]:
    """Parts of routers that have no effect."""
    for leg in draft.legs:
        subnet = draft.subnets.get(leg.subnet) if leg.subnet is not None else None
        if subnet is not None and subnet.shape.cidr.version == 6:
            message = f"{leg.path}: subnet {quoted(subnet.name)} {subnet.shape.cidr} is not routed"
            yield Finding("TB609", leg.at, message, f"{ROUTED}, so this interface is not made")
    for router in draft.routers.values():
        for index, route in enumerate(router.shape.routes):
            if route.destination.version == 6:
                at = router.at("routes", index, "destination")
                yield Finding("TB609", at, f"{router.path}: the route to {route.destination} has no effect", ROUTED)
