"""The bytes of hostile frames: whatever addresses and tags the caller wants, and a token by which to know them again.

Nothing is checked here: that the cloud refuses these frames is what they are for.
"""
from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from flows.fields import IPV4, IPV6
from flows.routing.wireformat import Arp, Datagram, Frame, checksum, mac_bytes

Address = IPv4Address | IPv6Address

BROADCAST: Final = "ff:ff:ff:ff:ff:ff"
ALL_NODES: Final = IPv6Address("ff02::1")
DOT1Q, DOT1AD = 0x8100, 0x88A8
ARP_REQUEST, ARP_REPLY = 1, 2
ICMP, TCP, UDP, GRE, ICMPV6 = 1, 6, 17, 47, 58
ROUTER_ADVERTISEMENT, SOLICITATION, ADVERTISEMENT, REDIRECT = 134, 135, 136, 137  # RFC 4861
DHCP_CLIENT, DHCP_SERVER, DHCP6_CLIENT, DHCP6_SERVER = 68, 67, 546, 547
DISCOVER, OFFER, ACK = 1, 2, 5  # RFC 2132, 9.6

_TOKEN: Final = struct.Struct("!4sIHH")  # magic, run, attack, frame
_MAGIC: Final = b"TUNA"
_SHORTEST: Final = 60  # bytes of an Ethernet frame without its check sequence
_TOKEN_OPTION: Final = struct.Struct("!BB")  # of neighbour discovery: type, and length in units of eight bytes
_EXPERIMENT: Final = 253  # RFC 4727: an option that nobody knows, and so everybody skips
_COOKIE: Final = bytes([99, 130, 83, 99])  # RFC 2131, 3
_FRAGMENT: Final = 16  # bytes of data in each half of a datagram; offsets count in eights
_HOP_LIMIT: Final = 255  # neighbour discovery from afar is refused (RFC 4861, 7.1)


@dataclass(frozen=True)
class Token:
    """Which frame of which attack of which run this is; the run's number is random."""

    run: int
    attack: int
    frame: int = 0

    @property
    def bytes(self) -> bytes:
        """As it is somewhere in the frame."""
        return _TOKEN.pack(_MAGIC, self.run, self.attack, self.frame)


def found(frame: bytes, run: int) -> Token | None:
    """The token of a frame of this run; None if it has none."""
    place = frame.find(_MAGIC + struct.pack("!I", run))
    if place < 0 or len(frame) < place + _TOKEN.size:
        return None
    return Token(run, *_TOKEN.unpack_from(frame, place)[2:])


@dataclass(frozen=True)
class End:
    """Who a frame says it is from, or for."""

    mac: str
    ip: Address


def ethernet(src: str, dst: str, kind: int, payload: bytes) -> bytes:
    """A frame, padded to the shortest that there is."""
    return Frame(mac_bytes(dst), mac_bytes(src), kind, payload).to_bytes().ljust(_SHORTEST, b"\0")


def arp(operation: int, sender: End, target: End, wears: tuple[str, str], token: Token) -> bytes:
    """ARP, with what it says apart from the MACs (from, to) that the frame wears; the token is in the padding."""
    message = Arp(operation, mac_bytes(sender.mac), int(sender.ip), mac_bytes(target.mac), int(target.ip))
    return (message.framed(mac_bytes(wears[0]), mac_bytes(wears[1])) + token.bytes).ljust(_SHORTEST, b"\0")


def datagram(src: End, dst: End, protocol: int, payload: bytes, ttl: int = 64) -> bytes:
    """A frame with an IP packet of the version of its source."""
    if isinstance(src.ip, IPv4Address):
        return Datagram(int(src.ip), int(dst.ip), protocol, payload, ttl).framed(
            mac_bytes(src.mac), mac_bytes(dst.mac)).ljust(_SHORTEST, b"\0")
    header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, ttl) + src.ip.packed + dst.ip.packed
    return ethernet(src.mac, dst.mac, IPV6, header + payload)


def fragments(src: End, dst: End, ports: tuple[int, int], token: Token) -> tuple[bytes, bytes]:
    """The two halves of a UDP datagram over IPv4; the second says nothing of ports. Each carries the token."""
    half = token.bytes.ljust(_FRAGMENT, b"\0")
    message = struct.pack("!HHHH", *ports, 8 + 2 * len(half), 0) + half + half
    whole = _summed(src, dst, UDP, message, 6)
    parts = ((whole[:_FRAGMENT + 8], 0), (whole[_FRAGMENT + 8:], _FRAGMENT + 8))
    first, second = (Datagram(int(src.ip), int(dst.ip), UDP, part, ident=_ident(token), more=not offset, offset=offset)
                     .framed(mac_bytes(src.mac), mac_bytes(dst.mac)).ljust(_SHORTEST, b"\0")
                     for part, offset in parts)
    return first, second


def _ident(token: Token) -> int:
    """No two datagrams of a run have the same."""
    return (token.run + (token.attack << 8) + token.frame) & 0xFFFF


def udp(src: End, dst: End, ports: tuple[int, int], payload: bytes) -> bytes:
    """A frame with UDP from port to port."""
    message = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    return datagram(src, dst, UDP, _summed(src, dst, UDP, message, 6))


def tcp_syn(src: End, dst: End, ports: tuple[int, int], token: Token) -> bytes:
    """A frame that would open a TCP connection."""
    message = struct.pack("!HHIIBBHHH", *ports, token.run, 0, 5 << 4, 0x02, 1024, 0, 0) + token.bytes
    return datagram(src, dst, TCP, _summed(src, dst, TCP, message, 16))


def echo(src: End, dst: End, token: Token, ttl: int = 64) -> bytes:
    """A frame with an ICMP echo request of either version."""
    version4 = src.ip.version == 4
    head = struct.pack("!BBHHH", 8 if version4 else 128, 0, 0, token.run & 0xFFFF, token.frame)
    protocol = ICMP if version4 else ICMPV6
    return datagram(src, dst, protocol, _summed(src, dst, protocol, head + token.bytes, 2), ttl)


def discovery(src: End, dst: End, kind: int, target: IPv6Address | None, token: Token) -> bytes:
    """Neighbour discovery over IPv6: an advertisement, solicitation, router advertisement or redirect."""
    if kind == ROUTER_ADVERTISEMENT:  # hop limit 64, a lifetime of half an hour: it would become their default route
        body = struct.pack("!BBHBBHII", kind, 0, 0, 64, 0, 1800, 0, 0)
    elif kind == REDIRECT:
        body = struct.pack("!BBHI", kind, 0, 0, 0) + src.ip.packed + (target or src.ip).packed
    else:  # override: who hears it shall forget what was known
        body = struct.pack("!BBHI", kind, 0, 0, 1 << 29 if kind == ADVERTISEMENT else 0) + (target or src.ip).packed
        body += _TOKEN_OPTION.pack(2 if kind == ADVERTISEMENT else 1, 1) + mac_bytes(src.mac)
    body += (_TOKEN_OPTION.pack(_EXPERIMENT, 2) + token.bytes).ljust(16, b"\0")
    return datagram(src, dst, ICMPV6, _summed(src, dst, ICMPV6, body, 2), _HOP_LIMIT)


def dhcp(kind: int, client: str, offered: IPv4Address, token: Token) -> bytes:
    """A DHCP message (RFC 2131) of a client or about one; its number is the run's, its token in the server's name."""
    reply = kind in (OFFER, ACK)
    head = struct.pack("!BBBBIHH", 2 if reply else 1, 1, 6, 0, token.run, 0, 0x8000)
    addresses = IPv4Address(0).packed + (offered.packed if reply else bytes(4)) + bytes(8)
    return (head + addresses + mac_bytes(client).ljust(16, b"\0") + token.bytes.ljust(64, b"\0") + bytes(128)
            + _COOKIE + bytes([53, 1, kind]) + _options(kind, offered) + b"\xff")


def _options(kind: int, offered: IPv4Address) -> bytes:
    """What a rogue server says: it is the server and the router, for an hour."""
    if kind == DISCOVER:
        return b""
    own = offered.packed
    return bytes([54, 4]) + own + bytes([51, 4]) + struct.pack("!I", 3600) + bytes([3, 4]) + own


def is_offer(frame: bytes, run: int) -> bool:
    """Whether an untagged frame is a DHCP server's answer to this run."""
    message = frame[42:]
    return frame[12:14] == IPV4.to_bytes(2, "big") and frame[23:24] == bytes([UDP]) \
        and frame[34:38] == struct.pack("!HH", DHCP_SERVER, DHCP_CLIENT) and message[:1] == b"\x02" \
        and message[4:8] == struct.pack("!I", run)


def tagged(frame: bytes, *tags: tuple[int, int]) -> bytes:
    """The frame with 802.1Q tags, the outermost first, each as (EtherType, VLAN)."""
    return frame[:12] + b"".join(struct.pack("!HH", kind, vlan) for kind, vlan in tags) + frame[12:]


def tunnelled(kind: str, tunnel_id: int, outer: tuple[End, End], port: int | None, inner: bytes) -> bytes:
    """A frame in a tunnel (vxlan, geneve or gre) from one address to another, as a host of the cloud would send it."""
    src, dst = outer
    if kind == "gre":  # RFC 2890: with a key, transparent Ethernet bridging
        return datagram(src, dst, GRE, struct.pack("!HHI", 0x2000, 0x6558, tunnel_id) + inner)
    if kind == "geneve":  # RFC 8926
        return udp(src, dst, (53535, port or 6081), struct.pack("!BBHI", 0, 0, 0x6558, tunnel_id << 8) + inner)
    return udp(src, dst, (53535, port or 4789), struct.pack("!II", 0x08 << 24, tunnel_id << 8) + inner)  # RFC 7348


def _summed(src: End, dst: End, protocol: int, message: bytes, place: int) -> bytes:
    """The message with its checksum (RFC 1071) at that place; ICMP of version 4 has no pseudo-header."""
    pseudo = b"" if protocol == ICMP else src.ip.packed + dst.ip.packed + struct.pack("!II", len(message), protocol)
    value = checksum(pseudo + message) or (0xFFFF if protocol == UDP else 0)
    return message[:place] + value.to_bytes(2, "big") + message[place + 2:]
