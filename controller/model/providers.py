"""Physical networks: which network lives on which, and by which bridge a host reaches it."""
from __future__ import annotations

from collections.abc import Iterator, Mapping

from controller.model import names
from controller.model.draft import Draft, Item, Leg
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
    """Host -> the networks that it carries: a VM or a leg of a router of it is on them."""
    found: dict[str, set[str]] = {}
    for port in draft.ports:
        found.setdefault(port.host, set()).add(port.shape.network)
    for leg in live_legs(draft):
        if leg.network is not None:
            found.setdefault(draft.routers[leg.router].shape.host, set()).add(leg.network)
    return found


def needed(draft: Draft) -> dict[str, list[str]]:
    """Host -> the physical networks that it must reach, by name."""
    reached = {name: physical_network(network.shape) for name, network in draft.networks.items()}
    return {host: sorted({physical for name in networks if (physical := reached.get(name)) is not None})
            for host, networks in carried(draft).items()}


def mappings(host: Item[HostShape], physical: list[str]) -> Mapping[str, str]:
    """Physical network -> bridge, for these physical networks."""
    given = host.shape.bridge_mappings or {}
    return {name: given.get(name) or names.provider_bridge(name) for name in physical}
