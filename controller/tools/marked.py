"""The bytes of a traced packet with a mark, and that mark found again in frames: with tags, in tunnels, translated."""
from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from controller.host import echo
from controller.model.topology import Address, Port
from controller.tools import frames, unwrapping
from controller.tools.journey import ANSWER, BROADCAST, QUESTION, REPLY, REQUEST
from controller.tools.services import Service
from flows import fields as f
from flows import packet as packets
from flows.packet import Packet
from flows.routing.wireformat import Malformed, mac_bytes

_SHORTEST: Final = 60  # bytes of a frame without its check sequence
_ECHO: Final = {8: REQUEST, 0: REPLY, 128: REQUEST, 129: REPLY}  # RFC 792; RFC 4443
_IP6, _ICMP6 = 14, 54  # where they begin in a frame without a tag
_NEIGHBOURS: Final = (135, 136)  # RFC 4861, 4.3 and 4.4
_OVERRIDE: Final = 1 << 29
_NOBODYS_OPTION: Final = 253  # RFC 4727, 5.1.3: for experiments
_ND_HOPS: Final = 255
_SEQUENCE, _ACKNOWLEDGED = 4, 8  # places in a TCP header (RFC 9293)


@dataclass(frozen=True)
class Marked:
    """A packet of the trace, as it was heard."""

    part: str  # of a leg
    packet: Packet  # with its VLAN, and its tunnel id if it was in a tunnel
    ends: tuple[Address, Address] | None  # the tunnel's own addresses


@dataclass(frozen=True)
class Mark:
    """What makes the packets of one trace known."""

    run: int  # 32 bits, by chance
    source: Port
    asked: Address  # whose MAC the source asks for
    service: Service
    is_broadcast: bool = False

    @property
    def token(self) -> bytes:
        """The bytes that a marked frame carries: in its data, in its padding, or (TCP) the first four of them but these
        as its number.
        """
        return struct.pack("!III", echo.MAGIC, self.run, 0)

    def bytes_of(self, packet: Packet) -> bytes:
        """A packet of the trace as a frame with its mark. Of IPv6, echo requests and neighbour messages alone."""
        if packet.get(f.ETH_TYPE) == f.IPV6:
            head = mac_bytes(packet.shown(f.ETH_DST)) + mac_bytes(packet.shown(f.ETH_SRC)) + f.IPV6.to_bytes(2, "big")
            source, target = (IPv6Address(packet.shown(field)) for field in (f.IPV6_SRC, f.IPV6_DST))
            if packet.get(f.ND_TARGET) is not None:
                return head + self._neighbour_message(packet, source, target)
            return head + echo.packet(source, target, self.run, 0)
        frame = frames.encode(packet, self.token, self.run)
        return frame if len(frame) >= _SHORTEST else (frame + self.token).ljust(_SHORTEST, b"\0")

    def _neighbour_message(self, packet: Packet, source: IPv6Address, target: IPv6Address) -> bytes:
        """With the sender's MAC, and with the mark in an option that nobody knows (RFC 4861, 4.6)."""
        kind = packet.get(f.ICMPV6_TYPE) or 0
        is_answer = kind == f.ND_NEIGHBOR_ADVERTISEMENT
        body = struct.pack("!BBHI", kind, 0, 0, _OVERRIDE if is_answer else 0) + \
            IPv6Address(packet.shown(f.ND_TARGET)).packed + \
            struct.pack("!BB", 2 if is_answer else 1, 1) + mac_bytes(packet.shown(f.ETH_SRC)) + \
            struct.pack("!BB", _NOBODYS_OPTION, 2) + self.token + bytes(2)
        ends = source.packed + target.packed
        pseudo = ends + struct.pack("!II", len(body), f.ICMPV6)
        body = body[:2] + echo.checksum(pseudo + body).to_bytes(2, "big") + body[4:]
        return struct.pack("!IHBB", 6 << 28, len(body), f.ICMPV6, _ND_HOPS) + ends + body

    def find(self, data: bytes, vlan: int | None) -> Marked | None:
        """The packet of the trace that a frame is, or carries through a tunnel; None if it is another's."""
        outer = unwrapping.unwrapped(data)
        inner, tag = unwrapping.untagged(outer.frame if outer else data)
        vlan = tag if tag is not None else None if outer else vlan
        try:
            packet = _decoded(inner)
            part = self._part(packet, inner)
        except (Malformed, struct.error, IndexError):  # cut short, or not what its head says
            return None
        if part is None:
            return None
        if vlan:
            packet = packet.pushed().set(f.tagged(vlan))
        return Marked(part, packet.with_(tunnel_id=outer.tunnel_id if outer else 0), outer.ends if outer else None)

    def _part(self, packet: Packet, inner: bytes) -> str | None:
        if packet.get(f.ARP_OP) is not None:
            return self._arp(packet, marked=self.token in inner)
        if packet.get(f.IP_PROTO) == f.TCP:
            return self._tcp(inner)
        if packet.get(f.ND_TARGET) is not None:
            return self._neighbour(packet, marked=self.token in inner)
        if self.token not in inner:
            return None
        if self.is_broadcast:
            return BROADCAST
        if packet.get(f.IP_PROTO) == f.UDP:
            return REQUEST if packet.get(f.UDP_DST) == self.service.port else REPLY
        kind = packet.get("icmpv4_type") if packet.get(f.IP_PROTO) == f.ICMP else packet.get(f.ICMPV6_TYPE)
        return REPLY if kind is None else _ECHO.get(kind, REPLY)

    def _arp(self, packet: Packet, *, marked: bool) -> str | None:
        if packet.get(f.ARP_OP) == f.ARP_REQUEST:
            part = BROADCAST if self.is_broadcast else QUESTION
            return part if marked and packet.shown(f.ARP_SPA) == str(self.source.ip) else None
        ends = packet.shown(f.ARP_SPA), packet.shown(f.ARP_TPA)
        return ANSWER if ends == (str(self.asked), str(self.source.ip)) else None

    def _neighbour(self, packet: Packet, *, marked: bool) -> str | None:
        if marked:
            return BROADCAST if self.is_broadcast else QUESTION
        ends = packet.shown(f.ND_TARGET), packet.shown(f.IPV6_DST)
        return ANSWER if ends == (str(self.asked), str(self.source.ip)) else None

    def _tcp(self, inner: bytes) -> str | None:
        start = _IP6 + (inner[14] & 0x0F) * 4
        sent, got = (struct.unpack_from("!I", inner, start + place)[0] for place in (_SEQUENCE, _ACKNOWLEDGED))
        if sent == self.run:
            return REQUEST
        return REPLY if got == (self.run + 1) & 0xFFFFFFFF else None


def _decoded(inner: bytes) -> Packet:
    """A frame without a tag as a value."""
    if int.from_bytes(inner[12:14], "big") != f.IPV6:
        return frames.decode(inner)
    dst, src = (int.from_bytes(mac, "big") for mac in (inner[:6], inner[6:12]))
    source, target = (int.from_bytes(inner[place:place + 16], "big") for place in (_IP6 + 8, _IP6 + 24))
    found = packets.frame(f.ETH_SRC.show(src), f.ETH_DST.show(dst), f.IPV6,
                          {f.IPV6_SRC: source, f.IPV6_DST: target, f.IP_PROTO: inner[_IP6 + 6]})
    if inner[_IP6 + 6] != f.ICMPV6:
        return found
    found = found.with_(**{f.ICMPV6_TYPE.name: inner[_ICMP6]})
    about = int.from_bytes(inner[_ICMP6 + 8:_ICMP6 + 24], "big")
    return found.set(f.ND_TARGET(about)) if inner[_ICMP6] in _NEIGHBOURS else found
