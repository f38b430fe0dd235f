"""Who hears whom, from the topology alone: no flow, no table, no VLAN. The yardstick for what the tables do."""
from __future__ import annotations

from controller.model.topology import Port, Topology
from tests import routed_oracle as routed
from tests.bits import within


def peers(topology: Topology, port: Port) -> set[str]:
    """Who hears a broadcast: everybody else on the port's network."""
    return {other.name for other in topology.ports() if other.network == port.network} - {port.name}


def macs(port: Port) -> set[str]:
    """What a port may wear: its own MAC and those of its address pairs."""
    return {port.mac, *(pair.mac for pair in port.allowed_address_pairs if port.port_security)}


def hears_unicast(topology: Topology, port: Port, mac: str) -> set[str]:
    """Who hears a frame to a MAC of which nothing has been learned.

    Its wearers; if nobody may wear it, those whose MACs nobody checks.
    """
    if mac in routed.macs(topology, port.network):
        return set()  # a router's
    others = [other for other in topology.ports() if other.network == port.network]
    wearers = {other.name for other in others if mac in macs(other)}
    return (wearers or {other.name for other in others if not other.port_security}) - {port.name}


def may_send(port: Port, mac: str, address: str) -> bool:
    """Whether a port may speak with a MAC and an IP address."""
    if not port.port_security:
        return True
    own = [(port.mac, str(port.ip) + ("/128" if port.ip.version == 6 else "/32"))]
    own += [(pair.mac, str(pair.ip)) for pair in port.allowed_address_pairs]
    return any(mac == theirs and within(address, prefix) for theirs, prefix in own)


def carriers(topology: Topology, network: str) -> set[str]:
    """The hosts that may ever see a frame of a network: of a physical one all that are wired to it."""
    physical = topology.networks[network].physical_network
    same = {name for name, each in topology.networks.items() if physical and each.physical_network == physical}
    return {host for name in same | {network} for host in _members(topology, name)}


def _members(topology: Topology, network: str) -> set[str]:
    routers = {router.host for router in topology.routers.values() if network in routed.networks(topology, router)}
    return {port.host for port in topology.ports() if port.network == network} | routers


def reaches(topology: Topology, source: Port, target: Port) -> bool:
    """Whether a ping arrives and its answer comes back."""
    if source.subnet == target.subnet:
        return True
    if source.ip.version == 6 or target.ip.version == 6:
        return False
    return routed.asks(topology, source, str(target.ip)) == f"port {target.name}"
