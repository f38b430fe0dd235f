"""What differs between two topologies, in the terms of flow tables: how much has to be computed anew."""
from __future__ import annotations

from controller.model.topology import Port, Topology


def style(topology: Topology) -> tuple[object, ...]:
    """What every network's flows depend on."""
    return topology.tunnel, topology.forwarding, topology.arp_responder, topology.firewall, topology.mac_aging_time


def changed_networks(old: Topology, new: Topology) -> set[str]:
    """Networks whose ports, hosts or tunnel id differ."""
    return {name for name in old.networks.keys() | new.networks.keys() if _face(old, name) != _face(new, name)}


def _face(topology: Topology, name: str) -> tuple[object, ...]:
    network = topology.networks.get(name)
    return (network.tunnel_id if network else None,
            [(port.name, port.path, port.device, port.host, port.mac, port.ip, port.port_security,
              port.allowed_address_pairs, topology.hosts[port.host].tunnel_ip)
             for port in topology.ports_by_network.get(name, ())])


def moved_ports(old: Topology, new: Topology) -> list[Port]:
    """Ports, as they are now, of MACs that lived on another host before."""
    lived = {(port.network, port.mac): port.host for port in old.ports()}
    return [port for port in new.ports() if lived.get((port.network, port.mac), port.host) != port.host]
