"""Between packets as values, for tables, and frames as bytes, for routers: ARP, and ICMP, TCP and UDP over IPv4."""
from __future__ import annotations

import struct
from dataclasses import replace
from typing import Final

from flows import fields as f
from flows import packet as packets
from flows.packet import Packet
from flows.routing.transport import is_error, quoted
from flows.routing.wireformat import Arp, Datagram, Frame, checksum, summed

TTL: Final = "nw_ttl"
_TYPE, _CODE = "icmpv4_type", "icmpv4_code"
TCP_FLAGS: Final = "tcp_flags"  # a name that no flow matches
SYN, ACK = 0x02, 0x10  # RFC 793
_WINDOW: Final = 64240
_PORTS: Final = {f.TCP: ("tcp_src", "tcp_dst"), f.UDP: ("udp_src", "udp_dst")}
_TOKEN: Final = b"tunbridge trace."
_DEFAULT_TTL: Final = 64


def encode(packet: Packet, token: bytes = _TOKEN, number: int = 1) -> bytes:
    """An untagged frame. What is nothing of ours becomes a frame that no router has a use for.

    `token` is its data, if it can have some; `number` is that of a TCP segment's first byte.
    """
    src, dst = (_mac(packet, field) for field in (f.ETH_SRC, f.ETH_DST))
    kind = packet.get(f.ETH_TYPE) or 0
    if kind == f.ARP:
        op, sender, target = (packet.get(field) or 0 for field in (f.ARP_OP, f.ARP_SPA, f.ARP_TPA))
        return Arp(op, _mac(packet, f.ARP_SHA), sender, _mac(packet, f.ARP_THA), target).framed(src, dst)
    if kind == f.IPV4 and packet.get(_TYPE) is not None:
        return _datagram(packet, token).framed(src, dst)
    if kind == f.IPV4 and packet.get(f.IP_PROTO) in _PORTS:
        return _with_ports(packet, token, number).framed(src, dst)
    return Frame(dst, src, kind, b"").to_bytes()


def _mac(packet: Packet, field: f.Field) -> bytes:
    return (packet.get(field) or 0).to_bytes(6, "big")


def _datagram(packet: Packet, token: bytes) -> Datagram:
    ttl = packet.get(TTL)
    # Identifier and sequence number are always 1: no two pings of a trace are under way at once.
    message = bytes([packet.get(_TYPE) or 0, packet.get(_CODE) or 0, 0, 0, 0, 1, 0, 1]) + token
    message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
    return Datagram(packet.get(f.IPV4_SRC) or 0, packet.get(f.IPV4_DST) or 0, packets.ICMP, message,
                    _DEFAULT_TTL if ttl is None else ttl)


def _with_ports(packet: Packet, token: bytes, number: int) -> Datagram:
    """TCP without data, or UDP with as little."""
    protocol = packet.get(f.IP_PROTO) or 0
    ports = struct.pack("!HH", *(packet.get(name) or 0 for name in _PORTS[protocol]))
    if protocol == f.UDP:
        message, place = ports + struct.pack("!HH", 8 + len(token), 0) + token, 6
    else:
        flags = packet.get(TCP_FLAGS)
        # What is awaited, whoever speaks, is the second byte.
        message = ports + struct.pack("!IIBBHHH", number, 2 if flags != SYN else 0, 5 << 4,
                                      SYN if flags is None else flags, _WINDOW, 0, 0)
        place = 16
    ttl = packet.get(TTL)
    return summed(Datagram(packet.get(f.IPV4_SRC) or 0, packet.get(f.IPV4_DST) or 0, protocol, message,
                           _DEFAULT_TTL if ttl is None else ttl), place)


def decode(data: bytes) -> Packet:
    """The frame as a value, with what a person wants to know of ICMP. Malformed if it is none."""
    frame = Frame.parse(data)
    src, dst = (f.ETH_SRC.show(int.from_bytes(mac, "big")) for mac in (frame.src, frame.dst))
    if frame.kind == f.ARP:
        arp = Arp.parse(frame.payload)
        sender, target = (int.from_bytes(mac, "big") for mac in (arp.sender_mac, arp.target_mac))
        return packets.frame(src, dst, f.ARP, {f.ARP_OP: arp.op, f.ARP_SHA: sender, f.ARP_SPA: arp.sender,
                                               f.ARP_THA: target, f.ARP_TPA: arp.target})
    if frame.kind != f.IPV4:
        return packets.frame(src, dst, frame.kind)
    datagram = Datagram.parse(frame.payload)
    about = quoted(datagram) if is_error(datagram) else None
    # Whose it was, connection tracking does not ask.
    return replace(_packet(src, dst, datagram), quoted=_packet(dst, src, about) if about else None)


def _packet(src: str, dst: str, datagram: Datagram) -> Packet:
    icmp = {_TYPE: datagram.payload[0], _CODE: datagram.payload[1]} if datagram.proto == packets.ICMP else {}
    if datagram.proto in _PORTS and not datagram.offset:
        icmp = dict(zip(_PORTS[datagram.proto], struct.unpack_from("!HH", datagram.payload), strict=True))
        icmp |= {TCP_FLAGS: datagram.payload[13]} if datagram.proto == f.TCP and len(datagram.payload) > 13 else {}
    return packets.frame(src, dst, f.IPV4, {f.IPV4_SRC: datagram.src, f.IPV4_DST: datagram.dst,
                                            f.IP_PROTO: datagram.proto}, **icmp, **{TTL: datagram.ttl})


def echo_reply(src: tuple[str, str], dst: tuple[str, str]) -> Packet:
    """The answer to a ping, from (MAC, address) to (MAC, address)."""
    return packets.icmp_echo(src, dst).with_(icmpv4_type=0)
