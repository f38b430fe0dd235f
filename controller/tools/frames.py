"""Between packets as values, which tables see, and frames as bytes, which routers see: ARP and ICMP, no more."""
from __future__ import annotations

from dataclasses import replace
from typing import Final

from flows import fields as f
from flows import packet as packets
from flows.packet import Packet
from flows.routing.transport import is_error, quoted
from flows.routing.wireformat import Arp, Datagram, Frame, checksum

TTL: Final = "nw_ttl"
_TYPE, _CODE = "icmpv4_type", "icmpv4_code"
_TOKEN: Final = b"tunbridge trace."
_DEFAULT_TTL: Final = 64


def encode(packet: Packet) -> bytes:
    """An untagged frame. What is neither ARP nor ICMP over IPv4 becomes a frame that no router has a use for."""
    src, dst = (_mac(packet, field) for field in (f.ETH_SRC, f.ETH_DST))
    kind = packet.get(f.ETH_TYPE) or 0
    if kind == f.ARP:
        op, sender, target = (packet.get(field) or 0 for field in (f.ARP_OP, f.ARP_SPA, f.ARP_TPA))
        return Arp(op, _mac(packet, f.ARP_SHA), sender, _mac(packet, f.ARP_THA), target).framed(src, dst)
    if kind == f.IPV4 and packet.get(_TYPE) is not None:
        return _datagram(packet).framed(src, dst)
    return Frame(dst, src, kind, b"").to_bytes()


def _mac(packet: Packet, field: f.Field) -> bytes:
    return (packet.get(field) or 0).to_bytes(6, "big")


def _datagram(packet: Packet) -> Datagram:
    ttl = packet.get(TTL)
    # Identifier and sequence number are always 1: no two pings of a trace are under way at once.
    message = bytes([packet.get(_TYPE) or 0, packet.get(_CODE) or 0, 0, 0, 0, 1, 0, 1]) + _TOKEN
    message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
    return Datagram(packet.get(f.IPV4_SRC) or 0, packet.get(f.IPV4_DST) or 0, packets.ICMP, message,
                    _DEFAULT_TTL if ttl is None else ttl)


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
    return packets.frame(src, dst, f.IPV4, {f.IPV4_SRC: datagram.src, f.IPV4_DST: datagram.dst,
                                            f.IP_PROTO: datagram.proto}, **icmp, **{TTL: datagram.ttl})


def echo_reply(src: tuple[str, str], dst: tuple[str, str]) -> Packet:
    """The answer to a ping, from (MAC, address) to (MAC, address)."""
    return packets.icmp_echo(src, dst).with_(icmpv4_type=0)
