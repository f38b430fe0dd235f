"""Tell a network where an address lives now: gratuitous ARP, or an unsolicited neighbour advertisement.

Run inside the node: `announce.py INTERFACE MAC ADDRESS`. It says it several times, as QEMU does after a migration:
the new place may need a moment until its switch lets the VM speak.
"""
import ipaddress
import socket
import struct
import sys
import time

PAUSES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.5, 3.0)  # seconds after each announcement
ALL = b"\xff" * 6
ALL_NODES = ipaddress.IPv6Address("ff02::1").packed


def gratuitous_arp(mac, address):
    """An ARP request of an address for itself (RFC 5227, 3), as a frame."""
    head = ALL + mac + struct.pack("!H", 0x0806)
    return head + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + address + bytes(6) + address


def unsolicited_advertisement(mac, address):
    """A neighbour advertisement to all nodes with the override flag (RFC 4861, 7.2.6), as a frame."""
    body = struct.pack("!BBHI", 136, 0, 0, 1 << 29) + address + b"\x02\x01" + mac
    pseudo = address + ALL_NODES + struct.pack("!II", len(body), socket.IPPROTO_ICMPV6)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    head = b"\x33\x33\x00\x00\x00\x01" + mac + struct.pack("!H", 0x86DD)
    return head + struct.pack("!IHBB", 6 << 28, len(body), socket.IPPROTO_ICMPV6, 255) + address + ALL_NODES + body


def checksum(data):
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def main(interface, mac, address):
    """Announce until all pauses are over."""
    parsed = ipaddress.ip_address(address)
    make = gratuitous_arp if parsed.version == 4 else unsolicited_advertisement
    frame = make(bytes.fromhex(mac.replace(":", "")), parsed.packed)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind((interface, 0))
        for pause in PAUSES:
            out.send(frame)
            time.sleep(pause)


if __name__ == "__main__":
    main(*sys.argv[1:4])
