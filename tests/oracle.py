"""Who hears whom, from the topology alone: no flow, no table, no VLAN. The yardstick for what the tables do."""
from __future__ import annotations

from hashlib import blake2b
from uuid import UUID, uuid5

from controller.model.topology import Port, Topology
from tests import routed_oracle as routed
from tests.bits import within
from tests.edge_oracle import Edge
from tests.edge_packets import Packet


def peers(topology: Topology, port: Port, packet: Packet | None = None) -> set[str]:
    """Who hears a broadcast: everybody else on the port's network, if nobody's groups refuse the packet in it.

    Without a packet it is ARP or RARP, in which no group has a say.
    """
    others = {other.name for other in topology.ports() if other.network == port.network} - {port.name}
    return others if packet is None else pass_groups(topology, port, others, packet)


def pass_groups(topology: Topology, port: Port, others: set[str], packet: Packet) -> set[str]:
    """Those of some whom a port can begin to talk to with a packet, as far as groups go."""
    edge = Edge(topology)
    if not edge.passes(port.name, packet, out=True):
        return set()
    return {name for name in others if edge.passes(name, packet, out=False)}


def macs(port: Port) -> set[str]:
    """What a port may wear: its own MAC and those of its address pairs."""
    return {port.mac, *(pair.mac for pair in port.allowed_address_pairs if port.port_security)}


def hears_unicast(topology: Topology, port: Port, mac: str, packet: Packet) -> set[str]:
    """Who hears a frame with a packet to a MAC of which nothing has been learned.

    Its wearers; if nobody may wear it, those whose MACs nobody checks.
    """
    if mac in routed.macs(topology, port.network) or mac == dhcp_mac(topology, port.network):
        return set()  # a router's, or the DHCP server's
    others = [other for other in topology.ports() if other.network == port.network]
    wearers = {other.name for other in others if mac in macs(other)}
    heard = (wearers or {other.name for other in others if not other.port_security}) - {port.name}
    return pass_groups(topology, port, heard, packet)


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


def dhcp_mac(topology: Topology, network: str) -> str | None:
    """The MAC of a network's DHCP server: of its id, which is made of the network's name."""
    if _server(topology, network) is None:
        return None
    space = uuid5(UUID("5d4a4f1e-7d2a-5c1b-9a55-6f2f0a8f9b11"), topology.cloud)
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in uuid5(space, f"networks/{network}/dhcp").bytes[-3:])


def _server(topology: Topology, network: str) -> str | None:
    """The host that serves a network: of all network hosts the one whose name and the network hash highest."""
    wanted = [subnet for subnet in topology.networks[network].subnets if subnet.dhcp and subnet.dhcp_address]
    hosts = [host.name for host in topology.hosts.values() if host.role == "network"]
    if not wanted or not hosts:
        return None
    seed = topology.networks[network].id.bytes
    return max((blake2b(seed + name.encode(), digest_size=8).hexdigest(), name) for name in hosts)[1]


def _members(topology: Topology, network: str) -> set[str]:
    routers = {router.host for router in topology.routers.values() if network in routed.networks(topology, router)}
    return {port.host for port in topology.ports() if port.network == network} | routers | (
        {_server(topology, network)} - {None})


def reaches(topology: Topology, source: Port, target: Port) -> bool:
    """Whether a ping arrives and its answer comes back."""
    if source.subnet == target.subnet:
        question = (str(source.ip), str(target.ip))
        return all(routed.passes(topology, port, question, out=port == source) for port in (source, target))
    if source.ip.version == 6 or target.ip.version == 6:
        return False
    return routed.asks(topology, source, str(target.ip)) == f"port {target.name}"
