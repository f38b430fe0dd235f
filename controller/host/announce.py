"""Tell a network where an address lives now: gratuitous ARP, or an unsolicited neighbour advertisement.

Run by path, in the namespace that has the interface: `announce.py [INTERFACE MAC ADDRESS]...`. Everything is said
several times: the new place may need a moment until its switch lets it speak, and who has heard otherwise within the
last second (Linux's locktime) does not believe it yet. Needs nothing but Python's own library.
"""
from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import sys
import time

PAUSES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.5, 3.0)  # seconds after each announcement
ALL = b"\xff" * 6
ALL_NODES = ipaddress.IPv6Address("ff02::1").packed


def gratuitous_arp(mac: bytes, address: bytes) -> tuple[bytes, bytes]:
    """An ARP request of an address for itself, and the reply to it (RFC 5944, 4.6), as frames to all.

    Some believe the one, some the other.
    """
    head = ALL + mac + struct.pack("!H", 0x0806)
    return (head + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + address + bytes(6) + address,
            head + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + mac + address + mac + address)


def unsolicited_advertisement(mac: bytes, address: bytes) -> tuple[bytes]:
    """A neighbour advertisement to all nodes with the override flag (RFC 4861, 7.2.6), as a frame."""
    body = struct.pack("!BBHI", 136, 0, 0, 1 << 29) + address + b"\x02\x01" + mac
    pseudo = address + ALL_NODES + struct.pack("!II", len(body), socket.IPPROTO_ICMPV6)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    head = b"\x33\x33\x00\x00\x00\x01" + mac + struct.pack("!H", 0x86DD)
    return (head + struct.pack("!IHBB", 6 << 28, len(body), socket.IPPROTO_ICMPV6, 255) + address + ALL_NODES + body,)


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frames(mac: str, address: str) -> tuple[bytes, ...]:
    """What is said of one address."""
    parsed = ipaddress.ip_address(address)
    make = gratuitous_arp if parsed.version == 4 else unsolicited_advertisement
    return make(bytes.fromhex(mac.replace(":", "")), parsed.packed)


def is_here(address: str) -> bool:
    """Whether this namespace has an address: it may have moved on meanwhile, and somebody else announces it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.bind((address, 0))
        return True
    return False


def say(interface: str, said: tuple[bytes, ...]) -> None:
    """Send frames; an interface that has gone has nothing more to say."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out, contextlib.suppress(OSError):
        out.bind((interface, 0))
        for frame in said:
            out.send(frame)


def main(words: list[str]) -> None:
    """Announce until all pauses are over, or until no address is left here."""
    what = list(zip(words[::3], words[1::3], words[2::3], strict=True))
    for pause in PAUSES:
        what = [one for one in what if is_here(one[2])]
        for interface, mac, address in what:
            say(interface, frames(mac, address))
        if not what:
            break
        time.sleep(pause)


if __name__ == "__main__":
    main(sys.argv[1:])
