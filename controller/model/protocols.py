"""IP protocols by name, and what passes every security group: the talk that a host needs to have an address at all."""
from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Final

from controller.model.objects import Address

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
SCTP: Final = 132
ICMPV6: Final = 58
# IANA's registry of protocol numbers.
NUMBERS: Final = MappingProxyType({
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "rsvp": 46, "gre": 47, "esp": 50,
    "ah": 51, "icmpv6": 58, "ospf": 89, "vrrp": 112, "pgm": 113, "sctp": 132, "udplite": 136})
PORTS_IN_OPENFLOW: Final = frozenset({TCP, UDP, SCTP})  # iptables knows those of DCCP and UDP-Lite, too
# The ICMP types that begin a conversation, for Open vSwitch as for Linux: echo, timestamp and information request, each
# with code 0. Everything else is an answer or an error; where no conversation is known that it belongs to, it is
# invalid. (Linux would take any code, an address mask request, too, and of ICMPv6 a node information query: the hybrid
# firewall drops these, so that both drivers mean the same.)
BEGINNINGS: Final = MappingProxyType({ICMP: frozenset({8, 13, 15}), ICMPV6: frozenset({128})})

_BROADCAST: Final = IPv4Address("255.255.255.255")
# ICMPv6 types (RFC 4443, 2710, 4861, 3810): 130-132 and 143 listeners of multicast, 133-136 neighbour discovery.
_ICMPV6_OUT: Final = frozenset({130, 131, 132, 133, 135, 136, 143})
_ICMPV6_IN: Final = frozenset({130, 134, 135, 136})


@dataclass(frozen=True)
class Datagram:
    """The first packet of a conversation, as it is at a VM's port. Ports and ICMP's are None where there are none."""

    version: int  # of IP
    protocol: int
    source: Address
    destination: Address
    port: int | None = None  # destination port
    icmp_type: int | None = None
    icmp_code: int | None = None
    source_port: int | None = None


def echo(source: Address, destination: Address) -> Datagram:
    """What a ping sends."""
    if source.version == 4:
        return Datagram(4, ICMP, source, destination, icmp_type=8, icmp_code=0)
    return Datagram(6, ICMPV6, source, destination, icmp_type=128, icmp_code=0)


def protocol_number(protocol: str | int | None, version: int) -> int | None:
    """The number of a rule's protocol; ICMP in a rule for IPv6 is ICMPv6, as Neutron has it. None: any."""
    number = NUMBERS[protocol] if isinstance(protocol, str) else protocol
    return ICMPV6 if number == ICMP and version == 6 else number


def begins(datagram: Datagram) -> bool:
    """Whether a packet can be the first of a conversation."""
    icmp = ICMP if datagram.version == 4 else ICMPV6
    return datagram.protocol != icmp or (datagram.icmp_type in BEGINNINGS[icmp] and not datagram.icmp_code)


def leaves_always(datagram: Datagram) -> str:
    """Why a VM may send this whatever its groups say; the empty string if it may not."""
    if _is_udp(datagram, 4, 68, 67) or _is_udp(datagram, 6, 546, 547):
        return "a DHCP client may always ask"
    if datagram.version == 6 and datagram.protocol == ICMPV6 and datagram.icmp_type in _ICMPV6_OUT:
        return "neighbours and multicast listeners may always be found"
    return ""


def enters_always(datagram: Datagram, own: Address) -> str:
    """Why a VM with this address hears this whatever its groups say; the empty string if it does not."""
    if _is_udp(datagram, 6, 547, 546):
        return "a DHCP client always gets its answer"
    if _is_udp(datagram, 4, 67, 68) and datagram.destination in (own, _BROADCAST):
        return "a DHCP client always gets its answer"
    if datagram.version == 6 and datagram.protocol == ICMPV6 and datagram.icmp_type in _ICMPV6_IN:
        return "neighbours and routers are always heard"
    return ""


def _is_udp(datagram: Datagram, version: int, source_port: int, port: int) -> bool:
    ports = datagram.source_port, datagram.port
    return (datagram.version, datagram.protocol) == (version, UDP) and ports == (source_port, port)
