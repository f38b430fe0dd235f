"""What differs between two topologies, in the terms of flow tables: how much has to be computed anew.

Only what the succession of the two names is looked at: what both share is as it was.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping

from controller.model import securing
from controller.model.differing import Speaker
from controller.model.succession import Succession
from controller.model.topology import RouterPort, Topology
from flows.host import SimulatedRouter


def style(topology: Topology) -> tuple[object, ...]:
    """What every network's flows depend on."""
    return topology.tunnel, topology.forwarding, topology.arp_responder, topology.firewall, topology.mac_aging_time


def neighbourhood(topology: Topology) -> list[tuple[object, ...]]:
    """What the flows of every host that belong to no network and no router depend on, beside the style."""
    return [(host.name, host.tunnel_ip) for host in topology.hosts.values()]


def mappings(topology: Topology, host: str) -> Mapping[str, str] | None:
    """And what those of one host do."""
    return topology.hosts[host].bridge_mappings if host in topology.hosts else None


def touched_networks(step: Succession) -> set[str]:
    """The networks of which anything differs: they, who is on them, what their routers answer for, who carries them."""
    both, difference = (step.old, step.new), step.difference
    if difference.sweeping:
        return {*step.old.networks, *step.new.networks}
    found = {*difference.networks, *step.ports.networks, *step.legs.networks, *step.servers.networks}
    found.update(leg.network for topology in both for name in step.floating
                 for leg in topology.legs_by_router.get(name, ()))
    for name in difference.hosts:
        found.update(*(topology.whereabouts.carried(name) for topology in both))
    if difference.hosts:
        found.update(name for name, network in step.new.networks.items() if network.physical_network is not None)
    return found


def changed_networks(step: Succession, touched: Iterable[str]) -> set[str]:
    """Networks whose ports, router legs, DHCP server, hosts, tunnel id or place on a physical network differ.

    What their security groups say is for `changed_filters` and `changed_groups`.
    """
    return {name for name in touched if _face(step.old, name) != _face(step.new, name)
            or _bridges(step, step.old, name) != _bridges(step, step.new, name)}


def _face(topology: Topology, name: str) -> tuple[object, ...]:
    network = topology.networks.get(name)
    if network is None:
        return ()
    server = topology.dhcp_by_network.get(name)
    return (network.tunnel_id, network.physical_network, network.segmentation_id,
            [(port.name, port.path, port.device, port.host, port.mac, port.ip, port.port_security,
              port.allowed_address_pairs, topology.hosts[port.host].tunnel_ip)
             for port in topology.ports_by_network.get(name, ())],
            [(leg, topology.hosts[leg.host].tunnel_ip, _floating(topology, leg))
             for leg in topology.legs_by_network.get(name, ())],
            server, topology.hosts[server.host].tunnel_ip if server else None)


def _bridges(step: Succession, topology: Topology, name: str) -> Mapping[str, str | None]:
    """By which bridge each host that differs leads to a network."""
    network = topology.networks.get(name)
    if network is None or network.physical_network is None:
        return {}
    return {host: topology.hosts[host].bridge_mappings.get(network.physical_network)
            for host in step.difference.hosts if host in topology.hosts}


def refiltered_networks(step: Succession) -> set[str]:
    """Networks of both whose ports, on some host, are filtered otherwise: by other groups, rules, members or numbers.

    Who joins or leaves a group touches those whose rules name it, where routers join them with his network.
    """
    old, new = step.old, step.new
    names = new.networks.keys() if new.filters.refiltered is None else new.filters.refiltered & new.networks.keys()
    return {name for name in names if name in old.networks and old.filters.face(name) != new.filters.face(name)}


def changed_filters(old: Topology, new: Topology, host: str, networks: Iterable[str]) -> set[str]:
    """Of these networks, those with ports on the host that are filtered by other groups now, or have other numbers."""
    return {name for name in networks if _filters(old, host, name) != _filters(new, host, name)}


def changed_groups(old: Topology, new: Topology, host: str, networks: Iterable[str]) -> tuple[set[str], set[str]]:
    """Of these networks, those for whose ports on the host the rules, and those for which the members are others."""
    rules: set[str] = set()
    members: set[str] = set()
    for name in networks:
        before, after = _groups(old, host, name), _groups(new, host, name)
        rules.update([name] if before[0] != after[0] else ())
        members.update([name] if before[1] != after[1] else ())
    return rules, members


def _filters(topology: Topology, host: str, network: str) -> list[object]:
    return [(port.id, securing.place_filter(topology, port))
            for port in topology.whereabouts.ports(host).get(network, ())]


def _groups(topology: Topology, host: str, network: str) -> tuple[object, object]:
    """(rules, members)"""
    return securing.place_groups(topology, host, network) if network in topology.networks else ((), ())


def _floating(topology: Topology, leg: RouterPort) -> list[object]:
    """The floating IPs that a leg answers for."""
    found = topology.floating_ips_by_router.get(leg.router, ()) if leg.outside else ()
    return [floating_ip.address for floating_ip in found]


def touched_routers(step: Succession, networks: Iterable[str]) -> set[str]:
    """The routers that may have to be computed anew: they differ, or one of these networks, or a number."""
    old, new = step.old, step.new
    if step.difference.sweeping:
        return {*old.routers, *new.routers}
    found = {*step.difference.routers, *step.floating}
    found |= {leg.router for topology in (old, new) for name in networks
              for leg in topology.legs_by_network.get(name, ())}
    moved = (host for host, numbers in old.numbers_by_host.items() if numbers is not new.numbers_by_host.get(host)
             and host in new.numbers_by_host and not numbers.goes_on_in(new.numbers_by_host[host]))
    return found | {leg.router for host in moved for leg in new.legs_by_host[host]}


def changed_routers(old: Mapping[str, SimulatedRouter], new: Mapping[str, SimulatedRouter]) -> set[str]:
    """Routers of a host that are to be computed anew: also those whose numbers another one has moved."""
    return {name for name, router in new.items() if old.get(name) is not router and old.get(name) != router}


def moved_speakers(step: Succession) -> list[Speaker]:
    """Ports, router legs and DHCP servers, as they are now, of MACs that lived on another host before."""
    gone: tuple[Speaker, ...] = (*step.ports.gone, *step.legs.gone, *step.servers.gone)
    come: tuple[Speaker, ...] = (*step.ports.come, *step.legs.come, *step.servers.come)
    lived = {(one.network, one.mac): one.host for one in gone}
    return [one for one in come if lived.get((one.network, one.mac), one.host) != one.host]
