"""Packets of conversations as values, and as bytes: what the tests of the VM's edge send and look for."""
from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final

Address = IPv4Address | IPv6Address

ICMP, TCP, UDP, GRE, ICMPV6, OSPF, SCTP = 1, 6, 17, 47, 58, 89, 132
QUERIES: Final = {ICMP: {8: 0, 13: 14, 15: 16}, ICMPV6: {128: 129}}  # question -> answer, as every tracking knows them
_MAGIC: Final = b"\x54\x42\x45\x44"
_SYN_SEQ, _SYN_ACK_SEQ = 1000, 5000


@dataclass(frozen=True)
class Packet:
    """An IP packet. `sport` is the identifier of an ICMP query; `quotes` is what an ICMP error tells of."""

    protocol: int
    source: Address
    destination: Address
    sport: int = 0
    dport: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    flags: str = "S"  # of TCP: S, SA, A, R
    quotes: Packet | None = None

    @property
    def version(self) -> int:
        return self.source.version

    def answer(self) -> Packet:
        """What the other end says to this."""
        answers = QUERIES.get(self.protocol, {})
        if self.protocol in QUERIES:
            return replace(self, source=self.destination, destination=self.source,
                           icmp_type=answers.get(self.icmp_type, 0), icmp_code=0)
        flags = {"S": "SA", "SA": "A"}.get(self.flags, self.flags)
        return replace(self, source=self.destination, destination=self.source, sport=self.dport, dport=self.sport,
                       flags=flags)

    def error(self, sender: Address) -> Packet:
        """`sender` complains about this packet: its port, or its protocol, is unreachable."""
        icmp, kind, code = (ICMP, 3, 3) if self.version == 4 else (ICMPV6, 1, 4)
        return Packet(icmp, sender, self.source, icmp_type=kind, icmp_code=code, quotes=self)

    def __str__(self) -> str:
        names = {ICMP: "icmp", TCP: "tcp", UDP: "udp", GRE: "gre", ICMPV6: "icmp6", OSPF: "ospf", SCTP: "sctp"}
        what = names.get(self.protocol, f"protocol {self.protocol}")
        if self.protocol in QUERIES:
            what += f" {self.icmp_type}/{self.icmp_code}"
        elif self.protocol in (TCP, UDP, SCTP):
            what += f" {self.sport}->{self.dport}" + (f" {self.flags}" if self.protocol == TCP else "")
        return f"{what} {self.source} -> {self.destination}" + (f" about [{self.quotes}]" if self.quotes else "")


def token(number: int) -> bytes:
    """What a packet is known by where it arrives."""
    return _MAGIC + struct.pack("!I", number)


def found(frame: bytes) -> int | None:
    """The number of the last token in a frame: one that quotes another packet has its own behind it."""
    start = frame.rfind(_MAGIC)
    return struct.unpack_from("!I", frame, start + 4)[0] if 0 <= start <= len(frame) - 8 else None


def frame(packet: Packet, source_mac: str, target_mac: str, number: int) -> bytes:
    """The Ethernet frame with a packet that carries a token."""
    kind = b"\x08\x00" if packet.version == 4 else b"\x86\xdd"
    return mac_bytes(target_mac) + mac_bytes(source_mac) + kind + ip(packet, token(number))


def arp(source_mac: str, sender: IPv4Address, target: IPv4Address, number: int, *, op: int = 1,
        eth_source: str = "", eth_target: str = "ff:ff:ff:ff:ff:ff", target_mac: str = "00:00:00:00:00:00") -> bytes:
    """An ARP packet with a token behind it; broadcast unless told."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, op) + mac_bytes(source_mac) + sender.packed + mac_bytes(target_mac)
    header = mac_bytes(eth_target) + mac_bytes(eth_source or source_mac) + b"\x08\x06"
    return (header + body + target.packed + token(number)).ljust(60, b"\0")


def neighbour_advertisement(source: IPv6Address, target: IPv6Address, mac: str, destination: IPv6Address) -> bytes:
    """The ICMPv6 message (RFC 4861, 4.4) that `mac` wears `target`, with its checksum."""
    body = bytes([136, 0, 0, 0]) + b"\x20\0\0\0" + target.packed + b"\x02\x01" + mac_bytes(mac)
    return _summed(body, 2, _pseudo(source, destination, ICMPV6, len(body)))


def ip(packet: Packet, end: bytes) -> bytes:
    """An IP packet whose last bytes are `end`."""
    payload = _payload(packet, end)
    if packet.version == 4:
        return ipv4_header(packet.source, packet.destination, packet.protocol, len(payload)) + payload
    return ipv6_header(packet.source, packet.destination, packet.protocol, len(payload)) + payload


def ipv4_header(source: Address, destination: Address, protocol: int, length: int, *, fragment: int = 0) -> bytes:
    """20 bytes; `fragment` holds flags and offset (RFC 791)."""
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 1, fragment, 64, protocol, 0, source.packed,
                         destination.packed)
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:]


def ipv6_header(source: Address, destination: Address, protocol: int, length: int, *, hops: int = 255) -> bytes:
    return struct.pack("!IHBB", 6 << 28, length, protocol, hops) + source.packed + destination.packed


def _payload(packet: Packet, end: bytes) -> bytes:
    length = len(end)
    if packet.protocol in QUERIES:
        body = _icmp(packet, end)
        pseudo = _pseudo(packet.source, packet.destination, ICMPV6, len(body)) if packet.protocol == ICMPV6 else b""
        return _summed(body, 2, pseudo)
    if packet.protocol == UDP:
        body = struct.pack("!HHHH", packet.sport, packet.dport, 8 + length, 0) + end
        return _summed(body, 6, _pseudo(packet.source, packet.destination, UDP, len(body)))
    if packet.protocol == TCP:
        body = _tcp(packet, length) + end
        return _summed(body, 16, _pseudo(packet.source, packet.destination, TCP, len(body)))
    if packet.protocol == SCTP:
        return _sctp(packet, end)
    return (b"\0\0\x65\x58" if packet.protocol == GRE else bytes(4)) + end


def _icmp(packet: Packet, end: bytes) -> bytes:
    head = struct.pack("!BBH", packet.icmp_type, packet.icmp_code, 0)
    if packet.quotes is not None:
        return head + bytes(4) + ip(packet.quotes, token(0)) + end
    return head + struct.pack("!HH", packet.sport, 1) + end


def _tcp(packet: Packet, length: int) -> bytes:
    """The header, with the numbers of a conversation whose every packet carries `length` bytes.

    Who begins sends from the higher port.
    """
    after_syn, after_answer = _SYN_SEQ + 1 + length, _SYN_ACK_SEQ + 1 + length
    begins = packet.sport > packet.dport
    own, other = (after_syn, after_answer) if begins else (after_answer, after_syn)
    sequence = {"S": _SYN_SEQ, "SA": _SYN_ACK_SEQ}.get(packet.flags, own)
    bits = {"S": 0x02, "SA": 0x12, "A": 0x18, "R": 0x14}[packet.flags]
    acknowledged = 0 if packet.flags == "S" else other
    return struct.pack("!HHIIBBHHH", packet.sport, packet.dport, sequence, acknowledged, 5 << 4, bits, 64000, 0, 0)


def _sctp(packet: Packet, end: bytes) -> bytes:
    """A question is INIT, an answer INIT ACK (RFC 9260, 3.3.2 and 3.3.3), as tracking insists; its cookie the token."""
    asks = packet.sport > packet.dport
    parameter = struct.pack("!HH", 7, 4 + len(end)) + end  # state cookie
    chunk = struct.pack("!BBHIIHHI", 1 if asks else 2, 0, 20 + len(parameter), 77, 64000, 1, 1, 1) + parameter
    header = struct.pack("!HHII", packet.sport, packet.dport, 0 if asks else 77, 0)
    return header[:8] + struct.pack("<I", crc32c(header + chunk)) + chunk


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _pseudo(source: Address, destination: Address, protocol: int, length: int) -> bytes:
    return source.packed + destination.packed + struct.pack("!II", length, protocol)


def _summed(body: bytes, at: int, pseudo: bytes) -> bytes:
    return body[:at] + struct.pack("!H", checksum(pseudo + body)) + body[at + 2:]


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def crc32c(data: bytes) -> int:
    """The checksum of SCTP (RFC 9260, appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
