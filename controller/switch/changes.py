"""What differs between two topologies, in the terms of flow tables: how much has to be computed anew."""
from __future__ import annotations

from collections.abc import Iterable, Mapping

from controller.model import securing
from controller.model.topology import DhcpPort, Port, RouterPort, Topology
from flows.host import SimulatedRouter


def style(topology: Topology) -> tuple[object, ...]:
    """What every network's flows depend on."""
    return topology.tunnel, topology.forwarding, topology.arp_responder, topology.firewall, topology.mac_aging_time


def surroundings(topology: Topology, host: str) -> tuple[object, ...]:
    """What the flows of a host that belong to no network and no router depend on, beside the style."""
    others = [(other.name, other.tunnel_ip) for other in topology.hosts.values()]
    return others, topology.hosts[host].bridge_mappings if host in topology.hosts else None


def changed_networks(old: Topology, new: Topology) -> set[str]:
    """Networks whose ports, router legs, DHCP server, hosts, tunnel id or place on a physical network differ.

    What their security groups say is for `changed_filters` and `changed_groups`.
    """
    return {name for name in old.networks.keys() | new.networks.keys() if _face(old, name) != _face(new, name)}


def _face(topology: Topology, name: str) -> tuple[object, ...]:
    network = topology.networks.get(name)
    if network is None:
        return ()
    server = topology.dhcp_by_network.get(name)
    bridges = [host.bridge_mappings.get(network.physical_network) for host in topology.hosts.values()
               if network.physical_network is not None]
    return (network.tunnel_id, network.physical_network, network.segmentation_id, bridges,
            [(port.name, port.path, port.device, port.host, port.mac, port.ip, port.port_security,
              port.allowed_address_pairs, topology.hosts[port.host].tunnel_ip)
             for port in topology.ports_by_network.get(name, ())],
            [(leg, topology.hosts[leg.host].tunnel_ip, _floating(topology, leg))
             for leg in topology.legs_by_network.get(name, ())],
            server, topology.hosts[server.host].tunnel_ip if server else None)


def refiltered_networks(old: Topology, new: Topology) -> set[str]:
    """Networks of both whose ports, on some host, are filtered otherwise: by other groups, rules, members or numbers.

    Who joins or leaves a group touches those whose rules name it, where routers join them with his network.
    """
    return {name for name in old.networks.keys() & new.networks.keys()
            if old.filters.face(name) != new.filters.face(name)}


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
    return [(port.id, securing.place_filter(topology, port)) for port in topology.ports_by_network.get(network, ())
            if port.host == host]


def _groups(topology: Topology, host: str, network: str) -> tuple[object, object]:
    """(rules, members)"""
    return securing.place_groups(topology, host, network) if network in topology.networks else ((), ())


def _floating(topology: Topology, leg: RouterPort) -> list[object]:
    """The floating IPs that a leg answers for."""
    found = topology.floating_ips_by_router.get(leg.router, ()) if leg.outside else ()
    return [floating_ip.address for floating_ip in found]


def changed_routers(old: Mapping[str, SimulatedRouter], new: Mapping[str, SimulatedRouter]) -> set[str]:
    """Routers of a host that are to be computed anew: also those whose numbers another one has moved."""
    return {name for name, router in new.items() if old.get(name) != router}


Speaker = Port | RouterPort | DhcpPort


def moved_ports(old: Topology, new: Topology) -> list[Speaker]:
    """Ports, router legs and DHCP servers, as they are now, of MACs that lived on another host before."""
    lived = {(port.network, port.mac): port.host for port in _speakers(old)}
    return [port for port in _speakers(new) if lived.get((port.network, port.mac), port.host) != port.host]


def _speakers(topology: Topology) -> list[Speaker]:
    return [*topology.ports(), *(leg for legs in topology.legs_by_router.values() for leg in legs),
            *topology.dhcp_by_network.values()]
