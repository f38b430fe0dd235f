"""Bytes and values: Ethernet frames, ARP and IPv4 as they are on the wire (RFC 826, RFC 791, RFC 1071).

Addresses are integers here and MACs six bytes: a router compares and hashes them for every packet.
"""
from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

from flows.fields import ARP, IPV4

BROADCAST_MAC: Final = b"\xff" * 6
NO_MAC: Final = bytes(6)
_ETHERNET: Final = struct.Struct("!6s6sH")
_ARP: Final = struct.Struct("!HHBBH6sI6sI")
_IPV4: Final = struct.Struct("!BBHHHBBHII")
_HARDWARE: Final = (1, 6)  # ARPHRD_ETHER, and IEEE 802 that Linux takes as well
_DF, _MF, _OFFSET = 0x4000, 0x2000, 0x1FFF


class Malformed(ValueError):
    """Bytes that are not what they should be; says which."""


def mac_bytes(text: str) -> bytes:
    """`fa:16:3e:00:00:01` as six bytes."""
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071). Over data that holds its own checksum: 0 if it is right."""
    number = int.from_bytes(data if len(data) % 2 == 0 else data + b"\0", "big")
    # 2**16 is 1 modulo 2**16 - 1, so the remainder is the ones' complement sum, where 0 and 0xffff are one.
    total = number % 0xFFFF or (0xFFFF if number else 0)
    return 0xFFFF ^ total


def updated(old: int, before: bytes, after: bytes) -> int:
    """A checksum after an even number of bytes that it covers has changed (RFC 1624, equation 3)."""
    total = (0xFFFF ^ old) + (0xFFFF ^ checksum(after)) + checksum(before)
    total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF ^ ((total & 0xFFFF) + (total >> 16))


@dataclass(frozen=True)
class Frame:
    """An untagged Ethernet frame."""

    dst: bytes
    src: bytes
    kind: int  # EtherType
    payload: bytes

    @classmethod
    def parse(cls, data: bytes) -> Frame:
        """From bytes without a frame check sequence."""
        if len(data) < _ETHERNET.size:
            raise Malformed("the frame is shorter than an Ethernet header")
        dst, src, kind = _ETHERNET.unpack_from(data)
        return cls(dst, src, kind, data[_ETHERNET.size:])

    def to_bytes(self) -> bytes:
        """As it goes on the wire, without padding."""
        return _ETHERNET.pack(self.dst, self.src, self.kind) + self.payload


@dataclass(frozen=True)
class Arp:
    """An ARP message for IPv4 over Ethernet."""

    op: int
    sender_mac: bytes
    sender: int
    target_mac: bytes
    target: int

    @classmethod
    def parse(cls, data: bytes) -> Arp:
        """From an Ethernet payload."""
        if len(data) < _ARP.size:
            raise Malformed("the ARP message is cut short")
        hardware, protocol, hardware_length, protocol_length, *rest = _ARP.unpack_from(data)
        if hardware not in _HARDWARE or (protocol, hardware_length, protocol_length) != (IPV4, 6, 4):
            raise Malformed("the ARP message is not about IPv4 over Ethernet")
        return cls(*rest)

    def framed(self, src: bytes, dst: bytes) -> bytes:
        """In a frame from one MAC to another."""
        body = _ARP.pack(1, IPV4, 6, 4, self.op, self.sender_mac, self.sender, self.target_mac, self.target)
        return Frame(dst, src, ARP, body).to_bytes()


@dataclass(frozen=True)
class Datagram:
    """An IPv4 packet. `offset` is that of a fragment, in bytes; `options` are whole words."""

    src: int
    dst: int
    proto: int
    payload: bytes
    ttl: int = 64
    tos: int = 0
    ident: int = 0
    dont_fragment: bool = False
    more: bool = False
    offset: int = 0
    options: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> Datagram:
        """From an Ethernet payload, whose padding falls off."""
        if len(data) < _IPV4.size:
            raise Malformed("the packet is shorter than an IPv4 header")
        first, tos, length, ident, fragment, ttl, proto, _sum, src, dst = _IPV4.unpack_from(data)
        head = (first & 0x0F) * 4
        if first >> 4 != 4 or head < _IPV4.size or head > len(data):
            raise Malformed("the IPv4 header is malformed")
        if checksum(data[:head]):
            raise Malformed("the checksum of the IPv4 header is wrong")
        if length > len(data) or length < head:
            raise Malformed("the packet is not as long as its IPv4 header says")
        return cls(src, dst, proto, data[head:length], ttl, tos, ident, bool(fragment & _DF), bool(fragment & _MF),
                   (fragment & _OFFSET) * 8, data[_IPV4.size:head])

    @property
    def head(self) -> int:
        """Length of the header in bytes."""
        return _IPV4.size + len(self.options)

    @property
    def size(self) -> int:
        """Length of the whole packet in bytes: what an MTU limits."""
        return self.head + len(self.payload)

    def to_bytes(self) -> bytes:
        """With the header's checksum right."""
        fragment = (_DF if self.dont_fragment else 0) | (_MF if self.more else 0) | self.offset // 8
        head = bytearray(_IPV4.pack(0x40 | self.head // 4, self.tos, self.size, self.ident, fragment, self.ttl,
                                    self.proto, 0, self.src, self.dst)) + self.options
        head[10:12] = checksum(bytes(head)).to_bytes(2, "big")
        return bytes(head) + self.payload

    def framed(self, src: bytes, dst: bytes) -> bytes:
        """In a frame from one MAC to another."""
        return Frame(dst, src, IPV4, self.to_bytes()).to_bytes()

    def pseudo(self) -> bytes:
        """What the checksums of TCP and UDP cover beside the payload (RFC 793, 3.1)."""
        return struct.pack("!IIHH", self.src, self.dst, self.proto, len(self.payload))


def patched(data: bytes, place: int, value: int, width: int = 2) -> bytes:
    """Bytes with a big-endian number written at a place."""
    return data[:place] + value.to_bytes(width, "big") + data[place + width:]


def summed(datagram: Datagram, place: int) -> Datagram:
    """The packet with the right TCP or UDP checksum at a place of its payload."""
    blank = patched(datagram.payload, place, 0)
    value = checksum(datagram.pseudo() + blank)
    return replace(datagram, payload=patched(blank, place, value))
