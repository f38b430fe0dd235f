"""What a host carries: its networks, the DHCP servers that it runs, and the physical networks that it must reach."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from uuid import UUID

from controller.model import names
from controller.model.dhcp import ROLE, dhcp_host
from controller.model.draft import Draft, Item, Leg, SubnetItem
from controller.model.problems import Position, quoted
from controller.model.schema import HostShape, NetworkShape


def physical_network(shape: NetworkShape) -> str | None:
    """Where frames of a network are outside its hosts; None for one in the overlay."""
    if shape.tunnel_id is not None:
        return None
    return shape.physical_network or (names.EXTERNAL if shape.external else None)


def physical_networks(draft: Draft) -> frozenset[str]:
    """All of a cloud."""
    found = (physical_network(network.shape) for network in draft.networks.values())
    return frozenset(name for name in found if name is not None)


def live_legs(draft: Draft) -> Iterator[Leg]:
    """The legs that are built: the IPv4 interfaces, and the gateway of a router that has one of these."""
    legs = [leg for leg in draft.legs if leg.subnet is None or _routes(draft, leg.subnet)]
    attached = {leg.router for leg in legs if leg.subnet is not None}
    return (leg for leg in legs if leg.router in attached)


def _routes(draft: Draft, subnet: str) -> bool:
    item = draft.subnets.get(subnet)
    return item is None or item.shape.cidr.version == 4


def carried(draft: Draft) -> dict[str, set[str]]:
    """Host -> the networks that it carries: a VM, a leg of a router or a DHCP server of it is on them."""
    found: dict[str, set[str]] = {}
    for port in draft.ports:
        found.setdefault(port.host, set()).add(port.shape.network)
    for leg in live_legs(draft):
        if leg.network is not None:
            found.setdefault(draft.routers[leg.router].shape.host, set()).add(leg.network)
    for network, host in dhcp_hosts(draft).items():
        found.setdefault(host, set()).add(network)
    return found


def dhcp_hosts(draft: Draft) -> dict[str, str]:
    """Network -> the host of its DHCP server, for those that want one; without network hosts there are none."""
    hosts = [host.name for host in draft.hosts.values() if host.shape.role == ROLE]
    wanted = [network for network in draft.judged_networks()
              if any(subnet.shape.dhcp for subnet in draft.subnets_by_network[network.name])]
    found = ((each.name, dhcp_host(each.shape.id or draft.object_id(f"networks/{each.name}"), hosts))
             for each in wanted)
    return {name: host for name, host in found if host is not None}


class Server(NamedTuple):
    """A network's DHCP server, as it plugs into its host's br-int."""

    network: str
    host: str
    id: UUID
    path: str
    at: Position  # where the file wants it


def servers(draft: Draft) -> Iterator[Server]:
    """One for each network that is served."""
    for name, host in dhcp_hosts(draft).items():
        subnet = next(each for each in draft.subnets_by_network[name] if each.shape.dhcp)
        yield Server(name, host, draft.object_id(f"networks/{name}/dhcp"), f"the DHCP server of {quoted(name)}",
                     subnet.at("dhcp"))


def served(draft: Draft) -> Iterator[SubnetItem]:
    """The subnets that need an address for a DHCP server."""
    for name in dhcp_hosts(draft):
        yield from (subnet for subnet in draft.subnets_by_network[name] if subnet.shape.dhcp)


def needed(draft: Draft) -> dict[str, list[str]]:
    """Host -> the physical networks that it must reach, by name."""
    reached = {name: physical_network(network.shape) for name, network in draft.networks.items()}
    return {host: sorted({physical for name in networks if (physical := reached.get(name)) is not None})
            for host, networks in carried(draft).items()}


def mappings(host: Item[HostShape], physical: list[str]) -> Mapping[str, str]:
    """Physical network -> bridge, for these physical networks."""
    given = host.shape.bridge_mappings or {}
    return {name: given.get(name) or names.provider_bridge(name) for name in physical}
