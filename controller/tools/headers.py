"""What a packet wears, by name and in words, in the order of the frame; and what a place changed of it."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from flows import fields as f
from flows.fields import Field
from flows.packet import Packet

_FIRST: Final = (("eth_src", f.ETH_SRC), ("eth_dst", f.ETH_DST))
_ARP: Final = (("arp_src", f.ARP_SPA), ("arp_src_mac", f.ARP_SHA), ("arp_dst", f.ARP_TPA), ("arp_dst_mac", f.ARP_THA))
_IP: Final = (("ip_src", f.IPV4_SRC), ("ip_src", f.IPV6_SRC), ("ip_dst", f.IPV4_DST), ("ip_dst", f.IPV6_DST),
              ("ttl", f.IP_TTL))
_ARP_WORDS: Final = {f.ARP_REQUEST: "request", f.ARP_REPLY: "reply"}
_PROTOCOLS: Final = {f.ICMP: "icmp", f.ICMPV6: "icmp", f.TCP: "tcp", f.UDP: "udp", f.SCTP: "sctp"}
# RFC 792; RFC 4443, 4; RFC 4861, 4
_ICMP: Final = {0: "echo reply", 3: "destination unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded",
                12: "parameter problem"}
_ICMP6: Final = {1: "destination unreachable", 2: "packet too big", 3: "time exceeded", 128: "echo request",
                 129: "echo reply", 133: "router solicitation", 134: "router advertisement",
                 135: "neighbour solicitation", 136: "neighbour advertisement"}
_PORTS: Final = (("src_port", "src"), ("dst_port", "dst"))
WORDS: Final = {"tunnel_id": "tunnel id", "eth_src": "from", "eth_dst": "to", "vlan": "VLAN", "arp": "ARP",
                "arp_src": "ARP sender", "arp_src_mac": "ARP sender's MAC", "arp_dst": "ARP target",
                "arp_dst_mac": "ARP target's MAC", "ip_src": "source", "ip_dst": "destination", "ttl": "TTL",
                "protocol": "protocol", "icmp": "ICMP", "src_port": "source port", "dst_port": "destination port",
                "nd_target": "ND target"}  # for people


@dataclass(frozen=True)
class Change:
    """One header that is not as it was; None where it is not there."""

    header: str
    before: str | None
    after: str | None


def headers(packet: Packet) -> dict[str, str]:
    """The headers that a packet has: name -> text. Of the names in WORDS."""
    return dict(_headers(packet))


def _headers(packet: Packet) -> Iterator[tuple[str, str]]:
    if packet.tunnel_id:
        yield "tunnel_id", str(packet.tunnel_id)
    yield from _fields(packet, _FIRST)
    if packet.vlan is not None:
        yield "vlan", str(packet.vlan)
    if (op := packet.get(f.ARP_OP)) is not None:
        yield "arp", _ARP_WORDS.get(op, str(op))
        yield from _fields(packet, _ARP)
    yield from _fields(packet, _IP)
    if (protocol := packet.get(f.IP_PROTO)) is not None:
        yield "protocol", _PROTOCOLS.get(protocol, str(protocol))
        yield from _inside(packet)


def _fields(packet: Packet, named: tuple[tuple[str, Field], ...]) -> Iterator[tuple[str, str]]:
    yield from ((name, packet.shown(field)) for name, field in named if packet.get(field) is not None)


def _inside(packet: Packet) -> Iterator[tuple[str, str]]:
    for name, words in (("icmpv4_type", _ICMP), (f.ICMPV6_TYPE.name, _ICMP6)):
        if (kind := packet.get(name)) is not None:
            yield "icmp", words.get(kind, f"type {kind}")
    for header, end in _PORTS:
        yield from ((header, str(port)) for name in ("tcp", "udp") if (port := packet.get(f"{name}_{end}")) is not None)
    yield from _fields(packet, (("nd_target", f.ND_TARGET),))


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """What differs between two sets of headers, in the order of the frame."""
    return tuple(Change(name, before.get(name), after.get(name)) for name in WORDS
                 if before.get(name) != after.get(name))
