"""The bytes of a probe: an ICMP echo (RFC 792, RFC 4443) that carries a token, and the filter that hears nothing else.

A token is the run's random number and the number of the probe, so that a reply from a namesake with the same
address, or from another run, is told apart from the reply that was asked for.
"""
from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

MAGIC: Final = 0x54554E42  # "TUNB"
_TOKEN: Final = struct.Struct("!III")  # magic, run, number
_ICMP_HEADER: Final = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
_HOP_LIMIT: Final = 64


@dataclass(frozen=True)
class Family:
    """What differs between the two versions of IP."""

    ethertype: int
    protocol: int
    request: int  # ICMP type
    reply: int
    everyone: Address  # all stations of a link ...
    everyone_mac: str  # ... and the Ethernet address that goes with it


V4: Final = Family(0x0800, 1, 8, 0, ip_address("255.255.255.255"), "ff:ff:ff:ff:ff:ff")
V6: Final = Family(0x86DD, 58, 128, 129, ip_address("ff02::1"), "33:33:00:00:00:01")


@dataclass(frozen=True)
class Heard:
    """A probe as it arrived at an interface."""

    number: int
    is_reply: bool


def family_of(address: Address) -> Family:
    return V4 if address.version == 4 else V6


def request(family: Family, run: int, number: int, ident: int = 0) -> bytes:
    """An echo request for a raw ICMP socket; over IPv6 the kernel puts the checksum in.

    `ident` (16 bits) shall differ between senders that one router hides behind one address: not every connection
    tracking gives the second one another.
    """
    message = _ICMP_HEADER.pack(family.request, 0, 0, ident, number & 0xFFFF) + _TOKEN.pack(MAGIC, run, number)
    return _with_checksum(message, b"") if family is V4 else message


def packet(source: Address, target: Address, run: int, number: int, ident: int = 0) -> bytes:
    """The same request as a whole IP packet, for a frame that goes past the sender's routes and neighbour table."""
    family = family_of(source)
    message = request(family, run, number, ident)
    if family is V4:
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(message), 0, 0, _HOP_LIMIT, family.protocol, 0,
                             source.packed, target.packed)
        return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + message
    pseudo_header = source.packed + target.packed + struct.pack("!II", len(message), family.protocol)
    header = struct.pack("!IHBB", 6 << 28, len(message), family.protocol, _HOP_LIMIT) + source.packed + target.packed
    return header + _with_checksum(message, pseudo_header)


def parse(data: bytes) -> Heard | None:
    """A probe out of an IP packet that `capture_filter` let through; None for anything else."""
    family = V4 if data[0] >> 4 == 4 else V6
    start = (data[0] & 0x0F) * 4 if family is V4 else 40
    if len(data) < start + _ICMP_HEADER.size + _TOKEN.size or data[start] not in (family.request, family.reply):
        return None
    _, _, number = _TOKEN.unpack_from(data, start + _ICMP_HEADER.size)
    return Heard(number, is_reply=data[start] == family.reply)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _with_checksum(message: bytes, pseudo_header: bytes) -> bytes:
    return message[:2] + checksum(pseudo_header + message).to_bytes(2, "big") + message[4:]


# Classic BPF (linux/bpf_common.h): load from the packet or from the socket buffer, jump, return.
_LD_W, _LD_H, _LD_B, _LD_W_X, _LDX_IHL = 0x20, 0x28, 0x30, 0x40, 0xB1
_JEQ, _JSET, _RET = 0x15, 0x45, 0x06
_PROTOCOL, _PACKET_TYPE = 0xFFFFF000, 0xFFFFF004  # SKF_AD_OFF + SKF_AD_PROTOCOL, + SKF_AD_PKTTYPE
_OUTGOING, _WHOLE, _NOTHING = 4, 0xFFFF, 0
_ACCEPT, _DROP = 20, 21  # the last two instructions of the program


def capture_filter(run: int) -> bytes:
    """The socket filter (struct sock_filter[]) for arriving probes of a run, on a packet socket that sees from IP up.

    Own frames on their way out, fragments and everything that does not carry the run's token are left out.
    """
    program: Sequence[tuple[int, int, int, int]] = (  # operation, jump to if true, if false, operand
        (_LD_W, 0, 0, _PACKET_TYPE), (_JEQ, _DROP, 2, _OUTGOING),
        (_LD_W, 0, 0, _PROTOCOL), (_JEQ, 5, 4, V4.ethertype), (_JEQ, 14, _DROP, V6.ethertype),
        (_LD_B, 0, 0, 9), (_JEQ, 7, _DROP, V4.protocol),
        (_LD_H, 0, 0, 6), (_JSET, _DROP, 9, 0x1FFF),
        (_LDX_IHL, 0, 0, 0),
        (_LD_W_X, 0, 0, _ICMP_HEADER.size), (_JEQ, 12, _DROP, MAGIC),
        (_LD_W_X, 0, 0, _ICMP_HEADER.size + 4), (_JEQ, _ACCEPT, _DROP, run),
        (_LD_B, 0, 0, 6), (_JEQ, 16, _DROP, V6.protocol),
        (_LD_W, 0, 0, 40 + _ICMP_HEADER.size), (_JEQ, 18, _DROP, MAGIC),
        (_LD_W, 0, 0, 44 + _ICMP_HEADER.size), (_JEQ, _ACCEPT, _DROP, run),
        (_RET, 0, 0, _WHOLE), (_RET, 0, 0, _NOTHING),
    )
    return b"".join(_instruction(place, *line) for place, line in enumerate(program))


def _instruction(place: int, operation: int, if_true: int, if_false: int, operand: int) -> bytes:
    """The kernel counts jumps from the next instruction; only the two jump operations have any."""
    jumps = (if_true - place - 1, if_false - place - 1) if operation in (_JEQ, _JSET) else (0, 0)
    return struct.pack("=HBBI", operation, *jumps, operand)
