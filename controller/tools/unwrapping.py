"""Frames out of tunnels and tags: VXLAN (RFC 7348), Geneve (RFC 8926), GRE with a key (RFC 2890), 802.1Q."""
from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from controller.model.topology import Address
from flows import fields as f

_ETHERNET: Final = 14
_TAGGED: Final = b"\x81\x00"
_UDP, _GRE = 17, 47
_HEAD: Final = 8  # of VXLAN, of Geneve without options, and of UDP
_VXLAN_FLAGS: Final = 0x08
_GENEVE_ETHERNET: Final = b"\x65\x58"  # also the protocol of Ethernet in GRE
_CHECKSUM, _KEY, _SEQUENCE = 0x8000, 0x2000, 0x1000  # flags of GRE, each of which brings four bytes


@dataclass(frozen=True)
class Wrapped:
    """What a tunnel carries."""

    tunnel_id: int
    ends: tuple[Address, Address]
    frame: bytes


def untagged(data: bytes) -> tuple[bytes, int | None]:
    """A frame without its outermost tag, and the VLAN of that."""
    if data[12:14] != _TAGGED or len(data) < _ETHERNET + 4:
        return data, None
    return data[:12] + data[16:], struct.unpack_from("!H", data, 14)[0] & 0xFFF


def unwrapped(data: bytes) -> Wrapped | None:
    """The frame in a tunnel's packet; None if it is not one."""
    kind = int.from_bytes(data[12:14], "big")
    ends: tuple[Address, Address]
    if kind == f.IPV4 and len(data) > _ETHERNET + 20:
        protocol, start = data[23], _ETHERNET + (data[14] & 0x0F) * 4
        ends = IPv4Address(data[26:30]), IPv4Address(data[30:34])
    elif kind == f.IPV6 and len(data) > _ETHERNET + 40:
        protocol, start = data[20], _ETHERNET + 40
        ends = IPv6Address(data[22:38]), IPv6Address(data[38:54])
    else:
        return None
    from_udp = _from_udp(data[start + _HEAD:]) if protocol == _UDP else None
    found = _from_gre(data[start:]) if protocol == _GRE else from_udp
    return Wrapped(found[0], ends, found[1]) if found and len(found[1]) >= _ETHERNET else None


def _from_udp(data: bytes) -> tuple[int, bytes] | None:
    """Which of the two it is, the head tells: whoever sends something else by UDP does not begin like this."""
    if len(data) < _HEAD:
        return None
    number = int.from_bytes(data[4:7], "big")
    if data[:4] == bytes((_VXLAN_FLAGS, 0, 0, 0)) and not data[7]:
        return number, data[_HEAD:]
    if data[0] >> 6 == 0 and data[2:4] == _GENEVE_ETHERNET:
        return number, data[_HEAD + (data[0] & 0x3F) * 4:]
    return None


def _from_gre(data: bytes) -> tuple[int, bytes] | None:
    if len(data) < 4 or data[2:4] != _GENEVE_ETHERNET:
        return None
    flags, place, key = struct.unpack_from("!H", data)[0], 4, 0
    place += 4 if flags & _CHECKSUM else 0
    if flags & _KEY:
        key, place = struct.unpack_from("!I", data.ljust(place + 4, b"\0"), place)[0], place + 4
    return key, data[place + (4 if flags & _SEQUENCE else 0):]
