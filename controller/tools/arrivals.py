"""What the end of a frame means to whom it was for: an answer, a ping that came, an address that is its own."""
from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from controller.model.topology import Address, Port, Topology
from controller.tools.stops import Ending
from flows import fields as f
from flows import packet as packets
from flows.packet import Packet

ICMP_TYPE: Final = "icmpv4_type"
ECHO_REPLY, ECHO_REQUEST = 0, 8  # RFC 792
_ECHO_REQUEST6, ECHO_REPLY6 = 128, 129  # RFC 4443, 4


def question(port: Port, address: Address) -> Packet:
    """Who has an address, asked by ARP or by neighbour discovery."""
    asking = packets.arp_request if address.version == 4 else packets.neighbour_solicitation
    return asking(port.mac, port.ip, address)


def mac_of(packet: Packet) -> str:
    """Its sender's."""
    return f.ETH_SRC.show(packet.get(f.ETH_SRC) or 0)


def own_addresses(topology: Topology, vm: str) -> frozenset[str]:
    """Those of all ports of a VM."""
    return frozenset(str(port.ip) for port in topology.vms[vm].ports)


def is_answer(ending: Ending, source: Port, address: Address) -> bool:
    """The copy that came to the owner of the address, or back to the asker as an answer."""
    if ending.port is None:
        return False
    if ending.port == source:
        return ending.packet.get(f.ARP_OP) == f.ARP_REPLY
    return owns(ending.port, address)


def has_come(ending: Ending) -> bool:
    """Whether an echo request came to whom it is for, whatever it has been called on its way."""
    packet = ending.packet
    if packet.get(ICMP_TYPE) not in (ECHO_REQUEST, None) or packet.get(f.ICMPV6_TYPE) not in (_ECHO_REQUEST6, None):
        return False
    if ending.port is None:
        return ending.outside is not None
    to = packet.shown(f.IPV4_DST) or packet.shown(f.IPV6_DST)
    if not to or not owns(ending.port, ip_address(to)):
        return False
    return packet.shown(f.ETH_DST) == mac_for(ending.port, ip_address(to))  # else it was only flooded


def owns(port: Port, address: Address) -> bool:
    """Whether a VM would take the address for its own: the port's, or one spelled out in its address pairs."""
    pairs = (pair.ip for pair in port.allowed_address_pairs if pair.ip.prefixlen == pair.ip.max_prefixlen)
    return address == port.ip or any(address == one.network_address for one in pairs)


def mac_for(port: Port, address: Address) -> str:
    """The MAC that goes with one of a port's addresses."""
    if address == port.ip:
        return port.mac
    return next((pair.mac for pair in port.allowed_address_pairs if pair.ip.network_address == address), port.mac)


def most_telling(endings: tuple[Ending, ...], wanted: Port | None) -> Ending:
    """Of the copies that missed their target, the one that came nearest to it."""
    def nearness(ending: Ending) -> tuple[bool, bool, int]:
        there = wanted is not None and ending.stop.host == wanted.host
        return there, ending.port is None, len(ending.stop.way)

    return max(endings, key=nearness)
