"""Header fields and registers that our flows match or set: their width, their mask, what they hold.

The order of `FIELDS` is the order in which Open vSwitch prints them (lib/match.c, match_format), so that our
canonical text reads like `ovs-ofctl dump-flows`.
"""
from __future__ import annotations

import re
import struct
from binascii import unhexlify
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, NamedTuple

VLAN_PRESENT: Final = 0x1000  # OFPVID_PRESENT: OpenFlow 1.4, 7.2.3.8: bit 12 says that there is a tag
NO_VLAN: Final = 0  # OFPVID_NONE
LOCAL_PORT: Final = 0xFFFFFFFE  # OFPP_LOCAL: the bridge's own interface

ARP: Final = 0x0806
RARP: Final = 0x8035
IPV4: Final = 0x0800
IPV6: Final = 0x86DD
DOT1Q: Final = 0x8100
ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
SCTP: Final = 132
ICMPV6: Final = 58
ND_ROUTER_ADVERTISEMENT: Final = 134  # RFC 4861, 4.2
ND_NEIGHBOR_ADVERTISEMENT: Final = 136  # RFC 4861, 4.4
ARP_REQUEST: Final = 1
ARP_REPLY: Final = 2

Value = int | str | IPv4Address | IPv6Address | IPv4Network | IPv6Network


class Kind(Enum):
    """How a value of the field is written."""

    NUMBER = "decimal"
    HEX = "hexadecimal"
    MAC = "mac"
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    CT_STATE = "ct_state"  # flags, each wanted (+) or not (-): +new-inv+trk


@dataclass(frozen=True, eq=False, repr=False)
class Field:
    """One header field. `name` is OpenFlow's (OXM), `ofctl` is ovs-ofctl's, `nxm` is what learn and move call it.

    There is one object for each, so that being the same is being equal: they are compared a million times.
    """

    name: str
    ofctl: str
    nxm: str
    bits: int
    kind: Kind
    holds: str
    maskable: bool = False
    decides: bool = False  # its value decides what else may be matched or done

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @cached_property
    def full(self) -> int:
        """The mask that matches every bit."""
        return (1 << self.bits) - 1

    def __call__(self, value: Value, mask: Value | None = None) -> Criterion:
        """A condition: `ETH_SRC("fa:16:3e:00:00:01")`, `IPV4_SRC("10.0.0.0/24")`, `ETH_DST(GROUP_BIT, GROUP_BIT)`.

        `CT_STATE("+trk+new-inv")` compares the flags that it names and no others.
        """
        full = self.full
        if type(value) is int and mask is None and 0 <= value <= full:
            return _criterion((self, value, full))  # as nearly always
        number, prefix = self._number(value)
        wanted = full if prefix is None else prefix
        if mask is not None:
            wanted = self._number(mask)[0]
        if wanted != full and not self.maskable:
            raise ValueError(f"{self.name} has no mask")
        if number & ~wanted or number > full:
            raise ValueError(f"{self.name}: {value} does not fit its mask or its {self.bits} bits")
        return Criterion(self, number, wanted)

    def _number(self, value: Value) -> tuple[int, int | None]:
        """The value as a number, and its mask if the value is a prefix."""
        if isinstance(value, int):
            return value, None
        if self.kind is Kind.MAC:
            return int(str(value).replace(":", ""), 16), None
        if self.kind is Kind.CT_STATE:
            return _flags(str(value))
        if isinstance(value, (IPv4Address, IPv6Address)) and value.max_prefixlen == self.bits:
            return int(value), None
        network = value if isinstance(value, (IPv4Network, IPv6Network)) else ip_network(value)
        if network.max_prefixlen != self.bits:
            raise ValueError(f"{self.name}: {value} is of the other IP version")
        return int(network.network_address), int(network.netmask)

    def show(self, value: int) -> str:
        """A value as ovs-ofctl writes it."""
        match self.kind:
            case Kind.NUMBER:
                return str(value)
            case Kind.HEX:
                return f"{value:#x}" if value else "0"
            case Kind.MAC:
                return value.to_bytes(6, "big").hex(":")
            case Kind.IPV4:
                return str(IPv4Address(value))
            case Kind.IPV6:
                return str(IPv6Address(value))
            case Kind.CT_STATE:
                return "|".join(name for name, bit in CT_FLAGS.items() if value & bit) or "0"

    def show_all(self, values: Sequence[int]) -> list[str]:
        """`show` of many at once."""
        if self.kind is not Kind.MAC:
            return list(map(str if self.kind is Kind.NUMBER else self.show, values))
        # Each in eight bytes, of which the first two are empty: `00:00:fa:16:3e:00:00:01:`.
        text = struct.pack(f">{len(values)}Q", *values).hex(":")
        return [text[at:at + 17] for at in range(6, len(text), 24)]

    def show_mask(self, mask: int) -> str:
        """A mask as ovs-ofctl writes it: a prefix length where it is one."""
        if self.kind in (Kind.IPV4, Kind.IPV6):
            ones = mask.bit_count()
            if mask == (self.full >> (self.bits - ones)) << (self.bits - ones):
                return str(ones)
        return self.show(mask)


class Criterion(NamedTuple):
    """`field & mask == value`."""

    field: Field
    value: int
    mask: int

    @property
    def exact(self) -> bool:
        """Whether every bit is compared."""
        return self.mask == self.field.full

    def covers(self, other: Criterion) -> bool:
        """Whether every value that `other` admits is admitted here."""
        return self.mask & ~other.mask == 0 and other.value & self.mask == self.value

    def meets(self, other: Criterion) -> bool:
        """Whether some value is admitted by both."""
        common = self.mask & other.mask
        return self.value & common == other.value & common


# A million of them are made: this skips a function of Python's around the making of a tuple.
_criterion: Final[Callable[[tuple[Field, int, int]], Criterion]] = partial(tuple.__new__, Criterion)


def numbers(macs: Sequence[str]) -> tuple[int, ...]:
    """MAC addresses as numbers, many at once."""
    padded = "0000" + "0000".join(macs) if macs else ""
    return struct.unpack(f">{len(macs)}Q", unhexlify(padded.encode().translate(None, b":")))


def _flags(text: str) -> tuple[int, int]:
    """`+trk-inv` as the flags that are set, and those that are named."""
    value = named = 0
    for sign, name in _FLAG.findall(text):
        named |= CT_FLAGS[name]
        value |= CT_FLAGS[name] if sign == "+" else 0
    return value, named


# ovs-fields(7), ct_state; in the order in which ovs-ofctl writes them.
CT_FLAGS: Final = {"new": 0x01, "est": 0x02, "rel": 0x04, "rpl": 0x08, "inv": 0x10, "trk": 0x20, "snat": 0x40,
                   "dnat": 0x80}
_FLAG: Final = re.compile(r"([+-])([a-z]+)")

CT_STATE = Field("ct_state", "ct_state", "NXM_NX_CT_STATE", 32, Kind.CT_STATE, "what connection tracking says",
                 maskable=True, decides=True)
# Registers (ovs-fields(7)): what the routed hop notes down on a packet's way from table to table.
REG_ROUTER = Field("reg0", "reg0", "NXM_NX_REG0", 32, Kind.HEX, "number of the router that has the packet")
REG_CAME_BY = Field("reg1", "reg1", "NXM_NX_REG1", 32, Kind.HEX, "number of the leg that it came in by")
REG_LEAVES_BY = Field("reg2", "reg2", "NXM_NX_REG2", 32, Kind.HEX, "number of the leg that it leaves by")
REG_NEXT_HOP = Field("reg3", "reg3", "NXM_NX_REG3", 32, Kind.HEX, "IPv4 address of the next hop")
REG_TRANSLATED = Field("reg5", "reg5", "NXM_NX_REG5", 32, Kind.HEX, "how it was translated on its way in")
REG_TOO_LARGE = Field("reg8", "reg8", "NXM_NX_REG8", 32, Kind.HEX, "1 if it is larger than the leg's MTU")
# What the security groups' tables note down.
REG_OUT_PORT = Field("reg6", "reg6", "NXM_NX_REG6", 32, Kind.HEX,
                     "OpenFlow port of the VM that it is for; 0 while it leaves one")
REG_PROFILE = Field("reg7", "reg7", "NXM_NX_REG7", 32, Kind.HEX, "number of that VM's set of security groups")
REG_ZONE = Field("reg9", "reg9", "NXM_NX_REG9", 32, Kind.HEX, "zone of connection tracking of that VM's port")
REG_BEGAN = Field("reg10", "reg10", "NXM_NX_REG10", 32, Kind.HEX, "who began the conversation, see BY_VM and BY_OTHERS")
# The first packet of a conversation, as connection tracking remembers it (ovs-fields(7)): the same for all its packets,
# answers and related ICMP errors included. Only where CT_STATE is matched as tracked and not invalid.
CT_NW_SRC = Field("ct_nw_src", "ct_nw_src", "NXM_NX_CT_NW_SRC", 32, Kind.IPV4, "who began the conversation",
                  maskable=True)
CT_NW_DST = Field("ct_nw_dst", "ct_nw_dst", "NXM_NX_CT_NW_DST", 32, Kind.IPV4, "with whom it was begun",
                  maskable=True)
CT_IPV6_SRC = Field("ct_ipv6_src", "ct_ipv6_src", "NXM_NX_CT_IPV6_SRC", 128, Kind.IPV6, "who began the conversation",
                    maskable=True)
CT_IPV6_DST = Field("ct_ipv6_dst", "ct_ipv6_dst", "NXM_NX_CT_IPV6_DST", 128, Kind.IPV6, "with whom it was begun",
                    maskable=True)
CT_NW_PROTO = Field("ct_nw_proto", "ct_nw_proto", "NXM_NX_CT_NW_PROTO", 8, Kind.NUMBER, "its protocol")
CT_TP_SRC = Field("ct_tp_src", "ct_tp_src", "NXM_NX_CT_TP_SRC", 16, Kind.NUMBER, "its source port; of ICMP: the type",
                  maskable=True)
CT_TP_DST = Field("ct_tp_dst", "ct_tp_dst", "NXM_NX_CT_TP_DST", 16, Kind.NUMBER, "its destination port; ICMP: the code",
                  maskable=True)
CONJ_ID = Field("conj_id", "conj_id", "NXM_NX_CONJ_ID", 32, Kind.NUMBER, "the conjunction of which every clause holds")
TUN_ID = Field("tunnel_id", "tun_id", "NXM_NX_TUN_ID", 64, Kind.HEX, "tunnel id (VNI) of the packet's network")
IN_PORT = Field("in_port", "in_port", "NXM_OF_IN_PORT", 32, Kind.NUMBER, "OpenFlow port the packet came in by")
VLAN_VID = Field("vlan_vid", "dl_vlan", "NXM_OF_VLAN_TCI", 13, Kind.NUMBER, "local VLAN of the packet's network",
                 maskable=True)
ETH_SRC = Field("eth_src", "dl_src", "NXM_OF_ETH_SRC", 48, Kind.MAC, "sender's MAC", maskable=True)
ETH_DST = Field("eth_dst", "dl_dst", "NXM_OF_ETH_DST", 48, Kind.MAC, "receiver's MAC", maskable=True)
ETH_TYPE = Field("eth_type", "dl_type", "NXM_OF_ETH_TYPE", 16, Kind.HEX, "what the frame carries", decides=True)
IPV6_SRC = Field("ipv6_src", "ipv6_src", "NXM_NX_IPV6_SRC", 128, Kind.IPV6, "sender's IPv6 address", maskable=True)
IPV6_DST = Field("ipv6_dst", "ipv6_dst", "NXM_NX_IPV6_DST", 128, Kind.IPV6, "receiver's IPv6 address", maskable=True)
IPV4_SRC = Field("ipv4_src", "nw_src", "NXM_OF_IP_SRC", 32, Kind.IPV4, "sender's IPv4 address", maskable=True)
IPV4_DST = Field("ipv4_dst", "nw_dst", "NXM_OF_IP_DST", 32, Kind.IPV4, "receiver's IPv4 address", maskable=True)
ARP_SPA = Field("arp_spa", "arp_spa", "NXM_OF_ARP_SPA", 32, Kind.IPV4, "IPv4 address an ARP claims", maskable=True)
ARP_TPA = Field("arp_tpa", "arp_tpa", "NXM_OF_ARP_TPA", 32, Kind.IPV4, "IPv4 address an ARP asks for", maskable=True)
ARP_OP = Field("arp_op", "arp_op", "NXM_OF_ARP_OP", 16, Kind.NUMBER, "ARP request (1) or reply (2)")
ARP_SHA = Field("arp_sha", "arp_sha", "NXM_NX_ARP_SHA", 48, Kind.MAC, "MAC an ARP claims", maskable=True)
ARP_THA = Field("arp_tha", "arp_tha", "NXM_NX_ARP_THA", 48, Kind.MAC, "MAC an ARP is for", maskable=True)
IP_TTL = Field("nw_ttl", "nw_ttl", "NXM_NX_IP_TTL", 8, Kind.NUMBER, "time to live")
IP_FRAG = Field("ip_frag", "nw_frag", "NXM_NX_IP_FRAG", 8, Kind.NUMBER, "which part of a fragmented packet")
IP_PROTO = Field("ip_proto", "nw_proto", "NXM_OF_IP_PROTO", 8, Kind.NUMBER, "protocol inside IP", decides=True)
UDP_SRC = Field("udp_src", "tp_src", "NXM_OF_UDP_SRC", 16, Kind.NUMBER, "UDP source port")
UDP_DST = Field("udp_dst", "tp_dst", "NXM_OF_UDP_DST", 16, Kind.NUMBER, "UDP destination port")
SCTP_SRC = Field("sctp_src", "tp_src", "OXM_OF_SCTP_SRC", 16, Kind.NUMBER, "SCTP source port", maskable=True)
SCTP_DST = Field("sctp_dst", "tp_dst", "OXM_OF_SCTP_DST", 16, Kind.NUMBER, "SCTP destination port", maskable=True)
ICMPV6_TYPE = Field("icmpv6_type", "icmp_type", "NXM_NX_ICMPV6_TYPE", 8, Kind.NUMBER, "kind of ICMPv6 message")
ND_TARGET = Field("ipv6_nd_target", "nd_target", "NXM_NX_ND_TARGET", 128, Kind.IPV6,
                  "IPv6 address a neighbour message is about", maskable=True)

REGISTERS: Final = (REG_ROUTER, REG_CAME_BY, REG_LEAVES_BY, REG_NEXT_HOP, REG_TRANSLATED, REG_OUT_PORT, REG_PROFILE,
                    REG_TOO_LARGE, REG_ZONE, REG_BEGAN)
TRACKED: Final = (CT_NW_SRC, CT_IPV6_SRC, CT_NW_DST, CT_IPV6_DST, CT_NW_PROTO, CT_TP_SRC, CT_TP_DST)
FIELDS: Final = (CONJ_ID, CT_STATE, *TRACKED, *REGISTERS, TUN_ID, IN_PORT, VLAN_VID, ETH_SRC, ETH_DST, ETH_TYPE,
                 IPV6_SRC, IPV6_DST, IPV4_SRC, IPV4_DST, ARP_SPA, ARP_TPA, IP_PROTO, ARP_OP, ARP_SHA, ARP_THA, IP_TTL,
                 IP_FRAG, ICMPV6_TYPE, ND_TARGET, UDP_SRC, UDP_DST, SCTP_SRC, SCTP_DST)
ORDER: Final = {field.name: place for place, field in enumerate(FIELDS)}

# OpenFlow 1.4, 7.2.3.8, "prerequisites": a switch refuses ARP fields where the match does not say that it is ARP.
NEEDS: Final[dict[Field, tuple[Criterion, ...]]] = {
    **dict.fromkeys((ARP_SPA, ARP_TPA, ARP_OP, ARP_SHA, ARP_THA), (ETH_TYPE(ARP),)),
    **dict.fromkeys((IPV4_SRC, IPV4_DST, IP_TTL), (ETH_TYPE(IPV4),)),
    **dict.fromkeys((IPV6_SRC, IPV6_DST), (ETH_TYPE(IPV6),)),
    **dict.fromkeys((UDP_SRC, UDP_DST), (IP_PROTO(UDP),)),
    **dict.fromkeys((SCTP_SRC, SCTP_DST), (IP_PROTO(SCTP),)),
    **dict.fromkeys((CT_NW_SRC, CT_NW_DST), (ETH_TYPE(IPV4),)),  # and what flows.flow.when asks of all in TRACKED
    **dict.fromkeys((CT_IPV6_SRC, CT_IPV6_DST), (ETH_TYPE(IPV6),)),
    ICMPV6_TYPE: (ETH_TYPE(IPV6), IP_PROTO(ICMPV6)),
    ND_TARGET: (ETH_TYPE(IPV6), IP_PROTO(ICMPV6)),
}

BY_VM, BY_OTHERS = 1, 2  # values of REG_BEGAN

GROUP_BIT: Final = "01:00:00:00:00:00"  # IEEE 802, the I/G bit: set in broadcast and multicast MACs
BROADCAST: Final = "ff:ff:ff:ff:ff:ff"
UNTAGGED: Final = VLAN_VID(NO_VLAN)
LATER_FRAGMENT: Final = IP_FRAG(3)  # ovs-fields(7), nw_frag: FLOW_NW_FRAG_ANY | FLOW_NW_FRAG_LATER
ANY_TAG: Final = VLAN_VID(VLAN_PRESENT, VLAN_PRESENT)


def ct_state(flags: str) -> Criterion:
    """Connection tracking has looked, and says this: `ct_state("+est-rpl")`. `+trk` goes without saying."""
    return CT_STATE(f"+trk{flags}")


def tagged(vlan: int) -> Criterion:
    """The packet wears this local VLAN (1 to 4094), whatever its priority bits."""
    return VLAN_VID(VLAN_PRESENT | vlan)
