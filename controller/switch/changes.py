"""What differs between two topologies, in the terms of flow tables: how much has to be computed anew."""
from __future__ import annotations

from collections.abc import Mapping

from controller.model.topology import Port, RouterPort, Topology
from flows.host import SimulatedRouter


def style(topology: Topology) -> tuple[object, ...]:
    """What every network's flows depend on."""
    return topology.tunnel, topology.forwarding, topology.arp_responder, topology.firewall, topology.mac_aging_time


def surroundings(topology: Topology, host: str) -> tuple[object, ...]:
    """What the flows of a host that belong to no network and no router depend on, beside the style."""
    others = [(other.name, other.tunnel_ip) for other in topology.hosts.values()]
    return others, topology.hosts[host].bridge_mappings if host in topology.hosts else None


def changed_networks(old: Topology, new: Topology) -> set[str]:
    """Networks whose ports, router legs, hosts, tunnel id or place on a physical network differ."""
    return {name for name in old.networks.keys() | new.networks.keys() if _face(old, name) != _face(new, name)}


def _face(topology: Topology, name: str) -> tuple[object, ...]:
    network = topology.networks.get(name)
    if network is None:
        return ()
    bridges = [host.bridge_mappings.get(network.physical_network) for host in topology.hosts.values()
               if network.physical_network is not None]
    return (network.tunnel_id, network.physical_network, network.segmentation_id, bridges,
            [(port.name, port.path, port.device, port.host, port.mac, port.ip, port.port_security,
              port.allowed_address_pairs, topology.hosts[port.host].tunnel_ip)
             for port in topology.ports_by_network.get(name, ())],
            [(leg, topology.hosts[leg.host].tunnel_ip, _floating(topology, leg))
             for leg in topology.legs_by_network.get(name, ())])


def _floating(topology: Topology, leg: RouterPort) -> list[object]:
    """The floating IPs that a leg answers for."""
    found = topology.floating_ips_by_router.get(leg.router, ()) if leg.outside else ()
    return [floating_ip.address for floating_ip in found]


def changed_routers(old: Mapping[str, SimulatedRouter], new: Mapping[str, SimulatedRouter]) -> set[str]:
    """Routers of a host that are to be computed anew: also those whose numbers another one has moved."""
    return {name for name, router in new.items() if old.get(name) != router}


def moved_ports(old: Topology, new: Topology) -> list[Port | RouterPort]:
    """Ports and router legs, as they are now, of MACs that lived on another host before."""
    lived = {(port.network, port.mac): port.host for port in _speakers(old)}
    return [port for port in _speakers(new) if lived.get((port.network, port.mac), port.host) != port.host]


def _speakers(topology: Topology) -> list[Port | RouterPort]:
    return [*topology.ports(), *(leg for legs in topology.legs_by_router.values() for leg in legs)]
