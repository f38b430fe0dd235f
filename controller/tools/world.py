"""The world outside a cloud, on paper, as the lab has it: one neighbour on each physical network, who is everybody.

It answers ARP for the gateways of the networks there, and every address beyond them is its own, but private ones.
"""
from __future__ import annotations

from ipaddress import IPv4Address

from controller.host.outside import PRIVATE
from controller.model import names
from controller.model.topology import Topology
from flows import fields as f
from flows import packet as packets
from flows.fields import tagged
from flows.packet import Packet


def mac(topology: Topology, network: str) -> str:
    """Its MAC on a network."""
    return names.mac_of(names.object_id(topology.cloud, f"networks/{network}/internet"))


def gateways(topology: Topology, network: str) -> tuple[IPv4Address, ...]:
    """Its own addresses on a network: the subnets' gateways, unless a VM or a router of the cloud is that."""
    inside = {leg.ip for leg in topology.legs_by_network.get(network, ())}
    taken = inside | {port.ip for port in topology.ports_by_network.get(network, ())}
    return tuple(subnet.gateway for subnet in topology.networks[network].subnets
                 if isinstance(subnet.gateway, IPv4Address) and subnet.gateway not in taken)


def has(topology: Topology, address: IPv4Address) -> bool:
    """Whether it takes a packet for an address for its own; it passes nothing on to networks that it is on."""
    network = near(topology, address)
    if network is None:
        return not any(address in prefix for prefix in PRIVATE)
    return address in gateways(topology, network)


def near(topology: Topology, address: IPv4Address) -> str | None:
    """The network by which it is a neighbour of an address: it is the gateway of its subnet. It knows no other way."""
    return next((network.name for network in topology.networks.values() if network.physical_network is not None
                 for subnet in network.subnets
                 if address in subnet.cidr and subnet.gateway in gateways(topology, network.name)), None)


def dressed(topology: Topology, network: str, packet: Packet) -> Packet:
    """As a network's frames are on its physical network: with the VLAN of its segment, or without one."""
    segment = topology.networks[network].segmentation_id
    return packet if segment is None else packet.pushed().set(tagged(segment))


def undressed(topology: Topology, physical: str, packet: Packet) -> tuple[str | None, Packet]:
    """The network that a frame on a physical network is of, if it is one of the cloud; and the frame without a VLAN."""
    for network in topology.networks.values():
        if network.physical_network == physical and network.segmentation_id == packet.vlan:
            return network.name, packet if packet.vlan is None else packet.popped()
    return None, packet


def is_its_own(topology: Topology, network: str, packet: Packet) -> bool:
    """Whether a frame is for its MAC."""
    return packet.get(f.ETH_DST) == f.ETH_DST(mac(topology, network)).value


def is_for(topology: Topology, network: str, packet: Packet) -> bool:
    """Whether it is the one who gets a frame on a network: for its MAC, or an ARP request for its address."""
    return is_its_own(topology, network, packet) or answer(topology, network, packet) is not None


def answer(topology: Topology, network: str, packet: Packet) -> Packet | None:
    """Its answer to an ARP request."""
    if packet.get(f.ARP_OP) != f.ARP_REQUEST:
        return None
    asked = IPv4Address(packet.get(f.ARP_TPA) or 0)
    if asked not in gateways(topology, network):
        return None
    return packets.arp_reply(mac(topology, network), asked, packet.shown(f.ARP_SHA), packet.shown(f.ARP_SPA))
