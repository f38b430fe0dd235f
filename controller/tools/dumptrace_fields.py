"""The fields of any switch's packets, as numbers: what a dumped flow's conditions ask, and where its actions write."""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

from controller.tools import ofwords
from flows.fields import CT_FLAGS

Packet = dict[str, int]  # what is not in it is 0
Kind = Literal["number", "hex", "mac", "ip4", "ip6"]

TAGGED: Final = 0x1000  # of vlan_tci: there is a tag
VID: Final = 0xFFF
LOCAL: Final = 0xFFFE
IP, IP6, ARP, RARP, MPLS = 0x0800, 0x86DD, 0x0806, 0x8035, 0x8847
_KINDS: Final[Mapping[str, tuple[int, int]]] = {
    "ip": (IP, 0), "ipv6": (IP6, 0), "arp": (ARP, 0), "rarp": (RARP, 0), "mpls": (MPLS, 0), "icmp": (IP, 1),
    "tcp": (IP, 6), "udp": (IP, 17), "sctp": (IP, 132), "icmp6": (IP6, 58), "tcp6": (IP6, 6), "udp6": (IP6, 17),
    "sctp6": (IP6, 132)}
_FRAGMENTS: Final = {"no": (0, 3), "yes": (1, 1), "first": (1, 3), "later": (3, 3), "not_later": (0, 2)}
_SLICE: Final = re.compile(r"\[(?:(\d+)(?:\.\.(\d+))?)?\]$")
_FLAG: Final = re.compile(r"([+-])(\w+)")


@dataclass(frozen=True)
class Part:
    """A field, or some of its bits."""

    key: str  # in a packet
    width: int
    start: int = 0
    kind: Kind = "number"

    @property
    def mask(self) -> int:
        """Its bits, where they are."""
        return ((1 << self.width) - 1) << self.start

    def of(self, packet: Mapping[str, int]) -> int:
        """What a packet has there."""
        return (packet.get(self.key, 0) & self.mask) >> self.start

    def put(self, packet: Packet, value: int, mask: int | None = None) -> None:
        """Write it, or those bits of it that the mask names."""
        bits = self.mask if mask is None else (mask << self.start) & self.mask
        packet[self.key] = packet.get(self.key, 0) & ~bits | (value << self.start) & bits

    def number(self, text: str) -> int:
        """A value as ovs-ofctl writes it. ValueError if it is none."""
        if self.kind == "mac" and ":" in text:
            return _mac(text)
        if self.kind == "ip4" and "." in text:
            return int(IPv4Address(text))
        if self.kind == "ip6" and ":" in text:
            return int(IPv6Address(text))
        if self.key == "nw_frag" and text in _FRAGMENTS:
            return _FRAGMENTS[text][0]
        value = int(text, 0)
        if not 0 <= value < 1 << self.width:
            raise ValueError(text)
        return value

    def masked(self, text: str) -> tuple[int, int]:
        """A value and its mask, where they are: `10.0.0.0/8`, `0x1f40/0xfff8`."""
        value, _, rest = text.partition("/")
        if self.key == "nw_frag" and value in _FRAGMENTS:
            return _FRAGMENTS[value]
        mask = self.mask >> self.start
        if rest and self.kind in ("ip4", "ip6") and rest.isdigit():
            mask = mask & ~(mask >> int(rest))
        elif rest:
            mask = self.number(rest)
        return (self.number(value) & mask) << self.start, mask << self.start

    def show(self, value: int) -> str:
        """A value as people read it."""
        if self.kind == "mac":
            return value.to_bytes(6).hex(":")
        if self.kind in ("ip4", "ip6"):
            return str(IPv4Address(value) if self.kind == "ip4" else IPv6Address(value))
        return f"{value:#x}" if self.kind == "hex" else str(value)


def _mac(text: str) -> int:
    if not re.fullmatch(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}", text):
        raise ValueError(text)
    return int("".join(byte.zfill(2) for byte in text.split(":")), 16)


def _parts() -> Iterator[Part]:
    for width, names in ((8, "nw_proto tos nw_ttl icmp_type icmp_code"), (2, "nw_frag"), (20, "ipv6_label"),
                         (12, "tcp_flags"), (16, "tp_src tp_dst arp_op ct_zone"), (64, "tun_id"),
                         (32, "in_port pkt_mark ct_mark conj_id")):
        yield from (Part(name, width) for name in names.split())
    yield from (Part(f"reg{number}", 32) for number in range(16))
    for kind, width, names in (("mac", 48, "dl_src dl_dst arp_sha arp_tha nd_sll nd_tll"),
                               ("ip4", 32, "nw_src nw_dst arp_spa arp_tpa"),
                               ("ip6", 128, "ipv6_src ipv6_dst nd_target"), ("hex", 16, "dl_type vlan_tci"),
                               ("hex", 64, "metadata"), ("hex", 32, "ct_state"), ("hex", 128, "ct_label")):
        yield from (Part(name, width, kind=kind) for name in names.split())  # type: ignore[arg-type]


PARTS: Final[Mapping[str, Part]] = {
    **{one.key: one for one in _parts()}, "vlan_vid": Part("vlan_tci", 13), "dl_vlan_pcp": Part("vlan_tci", 3, 13),
    "vlan_pcp": Part("vlan_tci", 3, 13), "dscp": Part("tos", 6, 2), "nw_ecn": Part("tos", 2), "ip_ecn": Part("tos", 2),
    "ip_tos": Part("tos", 8), "ip_ttl": Part("nw_ttl", 8), "ip_frag": Part("nw_frag", 2),
    "tcp_src": Part("tp_src", 16), "tcp_dst": Part("tp_dst", 16)}


def part(name: str) -> Part:
    """`NXM_NX_REG3[0]`, `eth_dst`, `reg6[0..15]`. KeyError if nobody knows it."""
    found = _SLICE.search(name)
    whole = PARTS[ofwords.field(name)]
    if not found or found[1] is None:
        return whole
    first, last = int(found[1]), int(found[2] or found[1])
    if not first <= last < whole.width:
        raise KeyError(name)
    return Part(whole.key, last - first + 1, whole.start + first, whole.kind if last - first + 1 == whole.width else
                "number")


@dataclass(frozen=True)
class Condition:
    """One condition."""

    key: str
    value: int
    mask: int

    def holds(self, packet: Mapping[str, int]) -> bool:
        """Whether the packet fulfils it."""
        return packet.get(self.key, 0) & self.mask == self.value


def conditions(name: str, text: str) -> list[Condition]:
    """One condition in `ofwords`' spelling. KeyError or ValueError if nobody knows it."""
    if name == "kind":
        type_, protocol = _KINDS[text]
        return [Condition("dl_type", type_, 0xFFFF)] + ([Condition("nw_proto", protocol, 0xFF)] if protocol else [])
    if name == "dl_vlan":
        value = {"none": 0, "some": TAGGED}.get(text)
        if value is not None:
            return [Condition("vlan_tci", value, TAGGED)]
        return [Condition("vlan_tci", Part("vlan_tci", 12).number(text) | TAGGED, TAGGED | VID)]
    if name == "ct_state":
        return [Condition(name, *flags(text))]
    field = PARTS[name]
    return [Condition(field.key, *field.masked(text))]


def flags(text: str) -> tuple[int, int]:
    """`+est-rel` -> value and mask; `est|rpl` and a number name all. ValueError for a flag that nobody knows."""
    try:
        if signed := _FLAG.findall(text):
            return (sum(CT_FLAGS[flag] for sign, flag in signed if sign == "+"),
                    sum(CT_FLAGS[flag] for _, flag in signed))
        if text[:1].isdigit():
            value, _, mask = text.partition("/")
            return int(value, 0), int(mask or "0xffffffff", 0)
        return sum({CT_FLAGS[flag] for flag in text.split("|")}), 0xFFFFFFFF
    except KeyError as error:
        raise ValueError(f"{text}: {error} is no state of a connection") from error


def packet_of(match: Mapping[str, str]) -> Packet:
    """A packet that says exactly this. KeyError or ValueError if it cannot be."""
    found: Packet = {}
    for name, text in match.items():
        if "/" in text:
            raise ValueError(f"{name}={text}")
        for test in conditions(name, text):
            found[test.key] = found.get(test.key, 0) | test.value
    return found


def writable(key: str, packet: Mapping[str, int]) -> bool:
    """Whether a packet has such a field: Open vSwitch leaves alone what it has not."""
    type_ = packet.get("dl_type", 0)
    if key in ("nw_src", "nw_dst"):
        return type_ == IP
    if key in ("tos", "nw_ttl"):
        return type_ in (IP, IP6)
    if key in ("tp_src", "tp_dst"):
        return type_ in (IP, IP6) and packet.get("nw_proto", 0) in (6, 17, 132)
    return type_ in (ARP, RARP) if key.startswith("arp_") else True
