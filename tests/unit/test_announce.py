"""What is said when an address has come to a new place."""
from __future__ import annotations

from controller.host import announce
from flows.routing.wireformat import Arp, Frame


def test_an_ipv4_address_is_announced_by_request_and_by_reply() -> None:
    request, reply = (Frame.parse(frame) for frame in announce.frames("fa:16:3e:00:00:01", "203.0.113.50"))
    for frame, operation in ((request, 1), (reply, 2)):
        arp = Arp.parse(frame.payload)
        assert (arp.op, arp.sender, arp.target) == (operation, 0xCB007132, 0xCB007132)
        assert frame.dst == b"\xff" * 6
        assert frame.src == arp.sender_mac == bytes.fromhex("fa163e000001")


def test_an_ipv6_address_is_announced_to_all_nodes_with_a_right_checksum() -> None:
    (frame,) = announce.frames("fa:16:3e:00:00:01", "2001:db8::1")
    assert frame[:6] == bytes.fromhex("333300000001")
    body, pseudo = frame[54:], frame[22:54] + len(frame[54:]).to_bytes(4, "big") + (58).to_bytes(4, "big")
    total = sum(int.from_bytes((pseudo + body)[at:at + 2], "big") for at in range(0, len(pseudo + body), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


def test_only_addresses_that_are_here_are_announced() -> None:
    assert announce.is_here("127.0.0.1")
    assert not announce.is_here("203.0.113.50")
