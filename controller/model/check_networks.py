"""Checks of the underlay, the tunnels, networks and their subnets."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from controller.model.check_names import Use, duplicates
from controller.model.draft import Draft, Item, SubnetItem
from controller.model.kinds import can_be_host, host_range
from controller.model.problems import Finding, Position, quoted
from controller.model.schema import NetworkShape
from controller.model.topology import Prefix, tunnel_overhead

# The least MTU that IPv4 hosts (RFC 791: 576 octets in one piece) and IPv6 hosts (RFC 8200, 5) count on.
LEAST_MTU = {4: 576, 6: 1280}
TUNNEL_IDS = {"vxlan": 2**24 - 1, "geneve": 2**24 - 1, "gre": 2**32 - 1}


def check_underlay(draft: Draft) -> Iterator[Finding]:
    """Tunnel addresses lie in the underlay, and its packets hold a tenant's packet."""
    if draft.underlay is None:
        return
    cidr = draft.underlay.shape.cidr
    for host in draft.hosts.values():
        address, at = host.shape.tunnel_ip, host.at("tunnel_ip")
        if address not in cidr:
            message = f"{host.path}: the tunnel address {address} is outside the underlay {cidr}"
            yield Finding("TB311", at, message, f"take an address of {cidr}, or widen underlay.cidr")
        elif not can_be_host(address, cidr):
            yield Finding("TB308", at, f"{host.path}: no host can have {address}, the first or last of {cidr}")
    yield from _mtu(draft)


def _mtu(draft: Draft) -> Iterator[Finding]:
    if draft.underlay is None or draft.tunnel is None:
        return
    version = max((subnet.shape.cidr.version for subnet in draft.subnets.values()), default=4)
    underlay, kind = draft.underlay.shape, draft.tunnel.shape.type
    least = LEAST_MTU[version] + tunnel_overhead(kind, underlay.cidr.version)
    if underlay.mtu < least:
        left = max(0, underlay.mtu - least + LEAST_MTU[version])
        message = f"underlay: {kind} leaves {left} of {underlay.mtu} bytes to a tenant's packet"
        hint = f"IPv{version} needs an underlay MTU of {least} at least"
        yield Finding("TB404", draft.underlay.at("mtu"), message, hint)


def check_tunnel_ids(draft: Draft) -> Iterator[Finding]:
    """Each network that a tunnel carries has an id of its own, of a size the tunnel's header can hold."""
    given = [network for network in draft.networks.values() if network.shape.tunnel_id is not None]
    for network in draft.networks.values():
        shape = network.shape
        if shape.tunnel_id is None and not shape.external and not shape.physical_network:
            hint = "give it a tunnel_id that no other network has, or make it external"
            yield Finding("TB501", network.at(), f"{network.path}: a tenant's network needs a tunnel_id", hint)
    if draft.tunnel is not None:
        kind = draft.tunnel.shape.type
        yield from (finding for network in given for finding in _in_range(network, kind))
    uses = (Use(network.shape.tunnel_id, network.path, network.at("tunnel_id")) for network in given)
    yield from duplicates("TB305", uses, lambda use: f"the tunnel id {use.what}", "each network needs its own")


def _in_range(network: Item[NetworkShape], kind: str) -> Iterator[Finding]:
    tunnel_id = network.shape.tunnel_id
    if tunnel_id is not None and not 1 <= tunnel_id <= TUNNEL_IDS[kind]:
        message = f"{network.path}: the tunnel id {tunnel_id} does not fit {kind}"
        yield Finding("TB403", network.at("tunnel_id"), message, f"from 1 to {TUNNEL_IDS[kind]}")


def check_subnets(draft: Draft) -> Iterator[Finding]:
    """Subnets of a network do not overlap; gateways, pools and routes stay inside them."""
    for subnets in draft.subnets_by_network.values():
        for earlier, later in overlaps(subnets):
            message = f"{later.path}: {later.shape.cidr} overlaps {earlier.shape.cidr}"
            hint = f"that is subnet {quoted(earlier.name)} of the same network, in line {earlier.line}"
            yield Finding("TB301", later.at("cidr"), message, hint)
        for subnet in subnets:
            yield from _gateway(subnet)
            yield from _host_routes(subnet)
            yield from _pools(subnet)


def overlaps(subnets: Iterable[SubnetItem]) -> Iterator[tuple[SubnetItem, SubnetItem]]:
    """Each subnet that overlaps another, after that other; the later one of the file comes second."""
    furthest: SubnetItem | None = None
    for subnet in sorted(subnets, key=lambda each: _span(each.shape.cidr)):
        if furthest is not None and _meet(furthest.shape.cidr, subnet.shape.cidr):
            yield (furthest, subnet) if furthest.node.place <= subnet.node.place else (subnet, furthest)
            if _span(subnet.shape.cidr)[2] <= _span(furthest.shape.cidr)[2]:
                continue
        furthest = subnet


def _span(cidr: Prefix) -> tuple[int, int, int]:
    return cidr.version, int(cidr.network_address), int(cidr.broadcast_address)


def _meet(lower: Prefix, upper: Prefix) -> bool:
    return lower.version == upper.version and int(upper.network_address) <= int(lower.broadcast_address)


def _gateway(subnet: SubnetItem) -> Iterator[Finding]:
    gateway, cidr, at = subnet.shape.gateway, subnet.shape.cidr, subnet.at("gateway")
    if gateway is not None and gateway not in cidr:
        hint = f"take an address of {cidr}"
        yield Finding("TB309", at, f"{subnet.path}: the gateway {gateway} is outside {cidr}", hint)
    elif gateway is not None and not can_be_host(gateway, cidr):
        yield Finding("TB308", at, f"{subnet.path}: no gateway can have {gateway}, the first or last of {cidr}",
                      host_hint(cidr))


def _host_routes(subnet: SubnetItem) -> Iterator[Finding]:
    for index, route in enumerate(subnet.shape.host_routes):
        if route.nexthop not in subnet.shape.cidr:
            message = f"{subnet.path}: the next hop {route.nexthop} is outside {subnet.shape.cidr}"
            at = subnet.at("host_routes", index, "nexthop")
            yield Finding("TB315", at, message, "a next hop is an address of the subnet")


def _pools(subnet: SubnetItem) -> Iterator[Finding]:
    uses: list[tuple[int, int, int]] = []
    for index, pool in enumerate(subnet.shape.allocation_pools):
        at = subnet.at("allocation_pools", index)
        if pool.start not in subnet.shape.cidr or pool.end not in subnet.shape.cidr:
            message = f"{subnet.path}: the pool {pool.start} to {pool.end} is not inside {subnet.shape.cidr}"
            yield Finding("TB316", at, message, host_hint(subnet.shape.cidr))
        elif int(pool.start) > int(pool.end):
            yield Finding("TB316", at, f"{subnet.path}: the pool ends before it starts", "exchange start and end")
        else:
            uses.append((int(pool.start), int(pool.end), index))
    yield from _pool_overlaps(subnet, sorted(uses))


def _pool_overlaps(subnet: SubnetItem, pools: list[tuple[int, int, int]]) -> Iterator[Finding]:
    for (_, end, first), (start, _, second) in pairwise(pools):
        if start <= end:
            at: Position = subnet.at("allocation_pools", max(first, second))
            yield Finding("TB316", at, f"{subnet.path}: two allocation pools overlap", "make one pool of them")


def host_hint(cidr: Prefix) -> str:
    """The addresses of a prefix that hosts can have, as a hint."""
    low, high = host_range(cidr)
    kind = type(cidr.network_address)
    return f"from {kind(low)} to {kind(high)}"
