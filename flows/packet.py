"""A packet as a value: its header fields by OpenFlow's names, as numbers, plus the tunnel id that travels beside it."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from flows import fields as f
from flows.fields import Criterion, Field, Value

Address = IPv4Address | IPv6Address

ICMP: Final = f.ICMP
TCP: Final = 6
_ECHO_REQUEST = {4: 8, 6: 128}  # RFC 792; RFC 4443, 4.1
_ICMP_WORDS: Final = {0: "echo reply", 3: "destination unreachable", 11: "time exceeded"}  # RFC 792
_ND_SOLICITATION = 135  # RFC 4861, 4.3
_TTL: Final = 64  # RFC 1340, what hosts send
_TAG: Final = 4  # bytes of an 802.1Q tag
_TRACKED: Final = frozenset({f.CT_STATE.name, *(field.name for field in f.TRACKED)})
_INSIDE: Final = _TRACKED | {"ct_zone", *(field.name for field in f.REGISTERS)}


@dataclass(frozen=True)
class Packet:
    """One frame. Fields that it does not have are absent; `vlan_vid` 0 means that it wears no tag.

    Names that no flow of ours matches (`tcp_dst`, `icmpv4_type`, `icmp_id`) may be there for people to read, and for
    connection tracking. Inside a switch, registers and the state of its connection are fields like others; one that
    is absent is 0.
    """

    items: tuple[tuple[str, int], ...]
    inner: tuple[int, ...] = ()  # tags below the outermost, with VLAN_PRESENT, outer ones first
    size: int | None = None  # bytes of the frame without tags; None: as small as need be
    quoted: Packet | None = None  # what an ICMP error is about

    def get(self, field: Field | str) -> int | None:
        """A field's value, None if the packet does not have it."""
        name = field if isinstance(field, str) else field.name
        return next((value for key, value in self.items if key == name), None)

    def with_(self, **values: int) -> Packet:
        """The packet with other values; what it did not have, it has then."""
        return replace(self, items=tuple(sorted({**dict(self.items), **values}.items())))

    def set(self, criterion: Criterion) -> Packet:
        """The packet with one field written."""
        return self.with_(**{criterion.field.name: criterion.value})

    def emitted(self) -> Packet:
        """As it leaves a switch: what tables noted about it stays behind."""
        return self._without(_INSIDE)

    def untracked(self) -> Packet:
        """As if connection tracking had never seen it."""
        return self._without(_TRACKED)

    def _without(self, names: frozenset[str]) -> Packet:
        kept = tuple((name, value) for name, value in self.items if name not in names)
        return self if len(kept) == len(self.items) else replace(self, items=kept)

    @property
    def length(self) -> int:
        """Bytes of the frame with its tags; 0 if nobody said."""
        tags = len(self.inner) + (self.vlan is not None)
        return 0 if self.size is None else self.size + tags * _TAG

    @property
    def vlan(self) -> int | None:
        """The VLAN of the outermost tag, None without one."""
        vid = self.get(f.VLAN_VID) or 0
        return vid & ~f.VLAN_PRESENT if vid & f.VLAN_PRESENT else None

    @property
    def tunnel_id(self) -> int:
        """The tunnel id it came with or shall go with; 0 for none."""
        return self.get(f.TUN_ID) or 0

    def pushed(self) -> Packet:
        """With one tag more; it repeats the VLAN of the tag below it, or 0 (OpenFlow 1.4, 5.12.1)."""
        outer = self.get(f.VLAN_VID) or 0
        inner = (outer, *self.inner) if outer else self.inner
        return replace(self.with_(vlan_vid=outer or f.VLAN_PRESENT), inner=inner)

    def popped(self) -> Packet:
        """With one tag less."""
        outer, *inner = self.inner or (f.NO_VLAN,)
        return replace(self.with_(vlan_vid=outer), inner=tuple(inner))

    def shown(self, field: Field) -> str:
        """A field as ovs-ofctl writes it, empty if the packet does not have it."""
        value = self.get(field)
        return "" if value is None else field.show(value)

    def __str__(self) -> str:
        """What it says, for people: `ARP: who has 10.0.1.12? says 10.0.1.11`."""
        return _words(self)


def frame(src: str, dst: str, eth_type: int, more: Mapping[Field, Value] | None = None, **others: int) -> Packet:
    """Any untagged frame: MACs, EtherType, and further fields."""
    known: dict[Field, Value] = {f.ETH_SRC: src, f.ETH_DST: dst, f.ETH_TYPE: eth_type, f.VLAN_VID: f.NO_VLAN,
                                 f.TUN_ID: 0, **(more or {})}
    return Packet(()).with_(**{field.name: field(value).value for field, value in known.items()}, **others)


def arp_request(mac: str, sender: Address | str, target: Address | str) -> Packet:
    """Who has `target`? Broadcast by `mac`."""
    return frame(mac, f.BROADCAST, f.ARP, {f.ARP_OP: f.ARP_REQUEST, f.ARP_SHA: mac, f.ARP_SPA: str(sender),
                                           f.ARP_THA: "00:00:00:00:00:00", f.ARP_TPA: str(target)})


def arp_reply(mac: str, sender: Address | str, to_mac: str, to: Address | str) -> Packet:
    """`sender` is at `mac`, told to one asker."""
    return frame(mac, to_mac, f.ARP, {f.ARP_OP: f.ARP_REPLY, f.ARP_SHA: mac, f.ARP_SPA: str(sender),
                                      f.ARP_THA: to_mac, f.ARP_TPA: str(to)})


def neighbour_solicitation(mac: str, sender: Address | str, target: Address | str) -> Packet:
    """Who has `target`? Multicast to its solicited-node group (RFC 4291, 2.7.1)."""
    low = IPv6Address(str(target)).packed[13:]
    group = IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + low)
    return frame(mac, f"33:33:ff:{low.hex(':')}", f.IPV6,
                 {f.IPV6_SRC: str(sender), f.IPV6_DST: str(group), f.IP_PROTO: f.ICMPV6,
                  f.ICMPV6_TYPE: _ND_SOLICITATION, f.ND_TARGET: str(target)})


def neighbour_advertisement(mac: str, sender: Address | str, to_mac: str, to: Address | str) -> Packet:
    """`sender` is at `mac`, told to one asker."""
    return frame(mac, to_mac, f.IPV6, {f.IPV6_SRC: str(sender), f.IPV6_DST: str(to), f.IP_PROTO: f.ICMPV6,
                                       f.ICMPV6_TYPE: f.ND_NEIGHBOR_ADVERTISEMENT, f.ND_TARGET: str(sender)})


def icmp_echo(src: tuple[str, Address | str], dst: tuple[str, Address | str]) -> Packet:
    """A ping from (MAC, address) to (MAC, address), of the addresses' IP version."""
    version = ip_address(str(src[1])).version
    if version == 4:
        return _ip(src, dst, ICMP, icmpv4_type=_ECHO_REQUEST[4])
    return _ip(src, dst, f.ICMPV6, icmpv6_type=_ECHO_REQUEST[6])


def udp(src: tuple[str, Address | str], dst: tuple[str, Address | str], ports: tuple[int, int]) -> Packet:
    """A datagram; `ports` are source and destination."""
    return _ip(src, dst, f.UDP, udp_src=ports[0], udp_dst=ports[1])


def tcp(src: tuple[str, Address | str], dst: tuple[str, Address | str], ports: tuple[int, int]) -> Packet:
    """A segment; `ports` are source and destination."""
    return _ip(src, dst, TCP, tcp_src=ports[0], tcp_dst=ports[1])


def _ip(src: tuple[str, Address | str], dst: tuple[str, Address | str], proto: int, **more: int) -> Packet:
    four = ip_address(str(src[1])).version == 4
    source, target = (f.IPV4_SRC, f.IPV4_DST) if four else (f.IPV6_SRC, f.IPV6_DST)
    if four:
        more.setdefault(f.IP_TTL.name, _TTL)
    return frame(src[0], dst[0], f.IPV4 if four else f.IPV6,
                 {source: str(src[1]), target: str(dst[1]), f.IP_PROTO: proto}, **more)


def _words(packet: Packet) -> str:
    kind = packet.get(f.ETH_TYPE)
    if kind == f.ARP:
        return _arp_words(packet)
    if kind not in (f.IPV4, f.IPV6):
        return f"frame {packet.shown(f.ETH_SRC)} > {packet.shown(f.ETH_DST)}"
    source, target = ((packet.shown(one) or packet.shown(two))
                      for one, two in ((f.IPV4_SRC, f.IPV6_SRC), (f.IPV4_DST, f.IPV6_DST)))
    if packet.get(f.ICMPV6_TYPE) == _ND_SOLICITATION:
        return f"ND: who has {packet.shown(f.ND_TARGET)}? asks {source}"
    if packet.get(f.ICMPV6_TYPE) == f.ND_NEIGHBOR_ADVERTISEMENT:
        return f"ND: {packet.shown(f.ND_TARGET)} is at {packet.shown(f.ETH_SRC)}"
    return f"{_protocol(packet)} {source} > {target}"


def _arp_words(packet: Packet) -> str:
    if packet.get(f.ARP_OP) == f.ARP_REQUEST:
        return f"ARP: who has {packet.shown(f.ARP_TPA)}? asks {packet.shown(f.ARP_SPA)}"
    return f"ARP: {packet.shown(f.ARP_SPA)} is at {packet.shown(f.ARP_SHA)}"


def _protocol(packet: Packet) -> str:
    if packet.get("icmpv4_type") == _ECHO_REQUEST[4] or packet.get(f.ICMPV6_TYPE) == _ECHO_REQUEST[6]:
        return "ICMP echo request"
    if (kind := _ICMP_WORDS.get(packet.get("icmpv4_type") or 0)) and packet.get(f.IP_PROTO) == ICMP:
        return f"ICMP {kind}"
    for name in ("tcp", "udp"):
        if (port := packet.get(f"{name}_dst")) is not None:
            return f"{name.upper()} port {port}"
    return "IP"
