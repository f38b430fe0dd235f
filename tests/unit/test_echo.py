"""The bytes of a probe."""
from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from controller.host import echo
from controller.host.echo import V4, V6, Heard

RUN = 0xC0FFEE01
PAIRS = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")]


def run_filter(program: bytes, data: bytes, ethertype: int, packet_type: int = 0) -> int:
    """A classic BPF machine, as linux/filter.h describes it; as many of its operations as socket filters need."""
    load = {0x20: ">I", 0x28: ">H", 0x30: ">B", 0x40: ">I"}
    a = x = place = 0
    while True:
        operation, if_true, if_false, k = struct.unpack_from("=HBBI", program, place * 8)
        place += 1
        if operation == 0x06:
            return int(k)
        if operation == 0x15:
            place += if_true if a == k else if_false
        elif operation == 0x45:
            place += if_true if a & k else if_false
        elif operation == 0xB1:
            x = 4 * (data[k] & 0x0F)
        elif k >= 0xFFFFF000:
            a = {0xFFFFF000: ethertype, 0xFFFFF004: packet_type}[k]
        else:
            start = k + (x if operation == 0x40 else 0)
            if start + struct.calcsize(load[operation]) > len(data):
                return 0  # the kernel drops what is too short
            a = struct.unpack_from(load[operation], data, start)[0]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_packet_is_its_own_checksum_and_says_its_number(source: str, target: str) -> None:
    data = echo.packet(ip_address(source), ip_address(target), RUN, 77)
    assert echo.parse(data) == Heard(77, is_reply=False)
    if "." in source:
        assert echo.checksum(data[:20]) == echo.checksum(data[20:]) == 0
        assert int.from_bytes(data[2:4], "big") == len(data)
    else:
        pseudo_header = data[8:40] + struct.pack("!II", len(data) - 40, 58)
        assert echo.checksum(pseudo_header + data[40:]) == 0


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_the_reply_to_a_request_is_told_from_the_request(source: str, target: str) -> None:
    data = bytearray(echo.packet(ip_address(source), ip_address(target), RUN, 5))
    start, reply = (20, V4.reply) if "." in source else (40, V6.reply)
    data[start] = reply
    assert echo.parse(bytes(data)) == Heard(5, is_reply=True)
    data[start] = 3
    assert echo.parse(bytes(data)) is None


@pytest.mark.parametrize("cut", [21, 40, 41, 60])
def test_a_packet_that_is_too_short_is_not_a_probe(cut: int) -> None:
    source, target = PAIRS[1] if cut > 39 else PAIRS[0]
    assert echo.parse(echo.packet(ip_address(source), ip_address(target), RUN, 5)[:cut - 1]) is None


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_the_filter_lets_in_the_probes_of_its_run_and_nothing_else(source: str, target: str) -> None:
    ethertype = V4.ethertype if "." in source else V6.ethertype
    data = echo.packet(ip_address(source), ip_address(target), RUN, 5)
    program = echo.capture_filter(RUN)
    assert run_filter(program, data, ethertype) >= len(data)
    assert run_filter(program, data, ethertype, packet_type=4) == 0, "its own frames on the way out"
    assert run_filter(program, data, 0x0806) == 0, "another protocol"
    assert run_filter(echo.capture_filter(RUN + 1), data, ethertype) == 0, "another run"
    assert run_filter(program, data[:-6], ethertype) == 0, "a short packet"
    other = bytearray(data)
    other[9 if ethertype == V4.ethertype else 6] = 17
    assert run_filter(program, bytes(other), ethertype) == 0, "UDP"


def test_the_filter_reads_past_ip_options_and_refuses_fragments() -> None:
    data = echo.packet(ip_address("10.0.0.1"), ip_address("10.0.0.2"), RUN, 5)
    program = echo.capture_filter(RUN)
    with_options = bytes([0x46]) + data[1:20] + bytes(4) + data[20:]
    assert run_filter(program, with_options, V4.ethertype) >= len(with_options)
    assert echo.parse(with_options) == Heard(5, is_reply=False)
    fragment = data[:6] + bytes([0, 1]) + data[8:]
    assert run_filter(program, fragment, V4.ethertype) == 0
