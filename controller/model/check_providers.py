"""Checks of physical networks and of the bridges by which hosts reach them."""
from __future__ import annotations

from collections.abc import Iterator, Mapping

from controller.model import names, providers
from controller.model.check_names import Use, duplicates, twins
from controller.model.draft import Draft, Item
from controller.model.kinds import is_bridge
from controller.model.problems import Finding, Nearest, quoted
from controller.model.schema import HostShape, NetworkShape


def check_provider(draft: Draft) -> Iterator[Finding]:
    """A provider network names a physical network and one segment of it, which no other network uses."""
    segments: list[Use[tuple[str, int | None]]] = []
    for network in draft.networks.values():
        shape, physical = network.shape, providers.physical_network(network.shape)
        yield from _provider_keys(network)
        if physical is not None:
            at = network.at("segmentation_id" if shape.segmentation_id else "physical_network")
            segments.append(Use((physical, shape.segmentation_id), network.path, at))
    yield from duplicates("TB317", segments, _segment, "each network needs a segment of its own")


def _segment(use: Use[tuple[str, int | None]]) -> str:
    physical, vlan = use.what
    return f"{f'VLAN {vlan}' if vlan else 'the untagged segment'} of {quoted(physical)}"


def _provider_keys(network: Item[NetworkShape]) -> Iterator[Finding]:
    shape = network.shape
    for key in ("network_type", "segmentation_id"):
        if shape.physical_network is None and getattr(shape, key) is not None:
            hint = "name the physical network, or remove the key"
            yield Finding("TB511", network.at(key), f'{network.path}: "{key}" needs "physical_network"', hint)
    if shape.network_type == "flat" and shape.segmentation_id is not None:
        message = f"{network.path}: a flat network has no segmentation_id"
        yield Finding("TB511", network.at("segmentation_id"), message, 'remove it, or say "network_type: vlan"')
    if shape.physical_network is not None and shape.network_type == "vlan" and shape.segmentation_id is None:
        message = f"{network.path}: a vlan network needs a segmentation_id"
        yield Finding("TB511", network.at("network_type"), message, "from 1 to 4094")
    if shape.physical_network is not None and shape.tunnel_id is not None:
        message = f'{network.path}: with a tunnel_id, "physical_network" has no effect'
        yield Finding("TB607", network.at("physical_network"), message, "remove one of the two keys")


def check_bridges(draft: Draft) -> Iterator[Finding]:
    """Each physical network that a host needs has a bridge of its own there; keys about bridges have an effect."""
    known, nearest = providers.physical_networks(draft), Nearest()
    declared, needed = draft.declared["networks"], providers.needed(draft)
    certain = declared is not None and len(declared) == len(draft.networks)
    for host in draft.hosts.values():
        bridges = providers.mappings(host, sorted({*(host.shape.bridge_mappings or ()), *needed.get(host.name, ())}))
        yield from _names(host, bridges)
        if certain:
            yield from _without_effect(host, known, nearest)
            yield from _datapath_ids(host, frozenset(bridges.values()), known, nearest)


def _names(host: Item[HostShape], bridges: Mapping[str, str]) -> Iterator[Finding]:
    uses = [Use(bridge, f"{host.path}: {quoted(physical)}", host.at("bridge_mappings", physical))
            for physical, bridge in bridges.items()]
    for earlier, later in twins(uses):
        message = f"{later.path} has the bridge {quoted(later.what)}, as {earlier.path.removeprefix(host.path + ': ')}"
        yield Finding("TB211", later.at, message, 'give each physical network a bridge in "bridge_mappings"')
    for physical, bridge in bridges.items():
        if not is_bridge(bridge):  # made from the physical network's name: what the file gives was looked at before
            message = f"{host.path}: {quoted(bridge)} cannot be the name of the bridge to {quoted(physical)}"
            hint = 'name another one in "bridge_mappings", with up to 15 characters'
            yield Finding("TB124", host.at("bridge_mappings"), message, hint)


def _without_effect(host: Item[HostShape], known: frozenset[str], nearest: Nearest) -> Iterator[Finding]:
    for physical in host.shape.bridge_mappings or ():
        if physical not in known:
            message = f"{host.path}: no network is on the physical network {quoted(physical)}"
            at = host.node.key_of("bridge_mappings", physical)
            yield Finding("TB607", at, message, nearest.hint(physical, known) if known else "remove the key")


def _datapath_ids(
    host: Item[HostShape], mapped: frozenset[str], known: frozenset[str], nearest: Nearest
) -> Iterator[Finding]:
    legal = frozenset({*names.BRIDGES, *mapped, *providers.mappings(host, sorted(known)).values()})
    for bridge in host.shape.datapath_ids or ():
        if bridge not in legal:
            at, hint = host.node.key_of("datapath_ids", bridge), nearest.hint(bridge, legal)
            yield Finding("TB111", at, f"{host.path}.datapath_ids: unknown key {quoted(bridge)}", hint)
