"""Connection tracking on paper: what `ct` of Open vSwitch's own datapath says of a packet, and what it does to one.

What a packet on paper does not say plays no part: TCP flags, and time. An ICMP error that does not say what it is about
belongs to no connection, and is invalid.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from flows import fields as f
from flows.fields import CT_FLAGS
from flows.flow import Track
from flows.packet import ICMP, TCP, Packet

_NEW, _ESTABLISHED, _RELATED, _REPLY, _INVALID, _TRACKED = (
    CT_FLAGS[name] for name in ("new", "est", "rel", "rpl", "inv", "trk"))
_TRANSLATED: Final = {"src": CT_FLAGS["snat"], "dst": CT_FLAGS["dnat"]}
_TRANSLATIONS: Final = CT_FLAGS["snat"] | CT_FLAGS["dnat"]
_ZONE: Final = "ct_zone"
_ZONE_BITS: Final = 0xFFFF
# What is asked and how it is answered: echo, timestamp, information (RFC 792; lib/conntrack.c knows no others); echo.
_QUESTIONS: Final = {ICMP: {8: 0, 13: 14, 15: 16}, f.ICMPV6: {128: 129}}
_OTHERS: Final = {proto: {**asked, **{answer: question for question, answer in asked.items()}}
                  for proto, asked in _QUESTIONS.items()}
_ERRORS: Final = {ICMP: {3, 4, 5, 11, 12}, f.ICMPV6: {1, 2, 3, 4}}  # RFC 792; RFC 4443, 2.1
_IDS: Final = ("icmp_id", "icmp_id")
_PORTS: Final = {TCP: ("tcp_src", "tcp_dst"), f.UDP: ("udp_src", "udp_dst"), ICMP: _IDS, f.ICMPV6: _IDS}
_FIRST_FREE, _LAST_PORT = 1024, 65535


@dataclass(frozen=True)
class Ends:
    """Who speaks to whom: addresses as numbers, and ports (of an ICMP question or answer: its id at both ends).

    Of other protocols than TCP, UDP and ICMP, ports are 0.
    """

    version: int  # EtherType: IPV4 or IPV6
    proto: int
    src: int
    dst: int
    src_port: int
    dst_port: int
    kind: int | None = None  # type of an ICMP question or answer

    @property
    def back(self) -> Ends:
        """The same ends, seen from the other side."""
        kind = None if self.kind is None else _OTHERS[self.proto][self.kind]
        return Ends(self.version, self.proto, self.dst, self.src, self.dst_port, self.src_port, kind)

    @property
    def begins(self) -> bool:
        """Whether a conversation can begin like this."""
        return self.kind is None or self.kind in _QUESTIONS[self.proto]


@dataclass(frozen=True)
class Connection:
    """`first` is what its first packet showed; `answer` is what its answers show."""

    first: Ends
    answer: Ends
    translated: str = ""  # which end of it: src | dst
    answered: bool = False


@dataclass(frozen=True)
class Conntrack:
    """All zones of a switch."""

    connections: Mapping[tuple[int, Ends], Connection] = field(default_factory=dict)  # (zone, ends): both directions

    def track(self, action: Track, packet: Packet) -> tuple[Packet, Conntrack]:
        """The packet as the next table sees it, and the connections then."""
        zone = action.zone if isinstance(action.zone, int) else (packet.get(action.zone) or 0) & _ZONE_BITS
        before = packet.get(f.CT_STATE) or 0 if packet.get(_ZONE) == zone else 0  # another zone's is forgotten
        packet, after = self._track(action, zone, packet.untracked().with_(**{_ZONE: zone}), before)
        return (packet if action.table else packet.untracked()), after

    def _track(self, action: Track, zone: int, packet: Packet, before: int) -> tuple[Packet, Conntrack]:
        about = _about(packet)
        ends = about or _ends(packet)
        found, reply = self._find(zone, ends, translated=bool(before & _TRANSLATIONS))
        if ends is None or (found is None and (about or not ends.begins)):
            return packet.with_(ct_state=_TRACKED | _INVALID), self
        packet = _remembering(packet, found.first if found else ends)
        if found is None:
            return self._new(action, zone, packet, ends)
        if about:
            return packet.with_(ct_state=_TRACKED | _RELATED | (_REPLY if reply else 0)), self
        return self._known(action, zone, packet.with_(ct_state=before), found, reply=reply)

    def _find(self, zone: int, ends: Ends | None, *, translated: bool) -> tuple[Connection | None, bool]:
        """The connection of these ends, and whether they are an answer's.

        What this zone has translated shows the other end's view already.
        """
        if ends is None:
            return None, False
        ends = ends.back if translated else ends
        found = self.connections.get((zone, ends))
        return found, found is not None and (ends == found.answer) != translated

    def _known(self, action: Track, zone: int, packet: Packet, found: Connection, *,
               reply: bool) -> tuple[Packet, Conntrack]:
        after = self._with(zone, replace(found, answered=True)) if reply and not found.answered else self
        before = packet.get(f.CT_STATE) or 0
        # It calls a conversation new until it is answered.
        new = not reply and not found.answered
        state = before & ~_NEW | _TRACKED | (_NEW if new else _ESTABLISHED) | (_REPLY if reply else 0)
        if found.translated and (action.nat or action.translation) and not before & _TRANSLATIONS:
            state |= _TRANSLATED[found.translated]
            packet = _showing(packet, found.first.back if reply else found.answer.back)
        return packet.with_(ct_state=state), after

    def _new(self, action: Track, zone: int, packet: Packet, ends: Ends) -> tuple[Packet, Conntrack]:
        packet = packet.with_(ct_state=_TRACKED | _NEW)
        shown = self._shown(action, zone, ends) if action.commit else None
        if shown is None:
            return packet, self
        end = action.translation.end if action.translation else ""
        packet = packet.with_(ct_state=_TRACKED | _NEW | _TRANSLATED.get(end, 0))
        return _showing(packet, shown), self._with(zone, Connection(ends, shown.back, end))

    def _with(self, zone: int, found: Connection) -> Conntrack:
        return Conntrack({**self.connections, (zone, found.first): found, (zone, found.answer): found})

    def _shown(self, action: Track, zone: int, ends: Ends) -> Ends | None:
        """What a new connection shows from now on; None if its answers would be taken for another's."""
        if action.translation is None:
            return ends
        address = int(action.translation.address)
        shown = replace(ends, dst=address) if action.translation.end == "dst" else replace(ends, src=address)
        # No id of a ping is changed, and of what goes to a floating IP no port.
        others = range(_FIRST_FREE, _LAST_PORT + 1) if action.translation.end == "src" and ends.proto != ICMP else ()
        tries = (replace(shown, src_port=port) for port in (ends.src_port, *others))
        return next((one for one in tries if (zone, one.back) not in self.connections), None)


def _ends(packet: Packet) -> Ends | None:
    """What connection tracking looks at, None if it can make nothing of the packet."""
    version, proto = packet.get(f.ETH_TYPE) or 0, packet.get(f.IP_PROTO)
    src, dst = (packet.get(field) for field in _ADDRESSES.get(version, (f.IPV4_SRC, f.IPV4_DST)))
    if src is None or dst is None or proto is None:
        return None
    kind = None
    if proto in _OTHERS:
        names = ("icmpv4_type", "icmpv4_code") if proto == ICMP else (f.ICMPV6_TYPE.name, "icmpv6_code")
        kind, code = (packet.get(name) or 0 for name in names)
        if kind not in _OTHERS[proto] or code:  # it has no use for codes (lib/conntrack.c, extract_l4_icmp)
            return None
    source, target = _PORTS.get(proto, ("", ""))
    return Ends(version, proto, src, dst, packet.get(source) or 0, packet.get(target) or 0, kind)


def _about(packet: Packet) -> Ends | None:
    """The ends of what an ICMP error is about, seen from who sends the error; None if it is no error.

    It goes back to the sender of what it is about, or it means nothing.
    """
    kind = packet.get("icmpv4_type") if packet.get(f.IP_PROTO) == ICMP else packet.get(f.ICMPV6_TYPE)
    if packet.quoted is None or kind not in _ERRORS.get(packet.get(f.IP_PROTO) or 0, ()):
        return None
    ends = _ends(packet.quoted)
    target = _ADDRESSES[ends.version][1] if ends else None
    return ends.back if ends and target and packet.get(target) == ends.src else None


_ADDRESSES: Final = {f.IPV4: (f.IPV4_SRC, f.IPV4_DST), f.IPV6: (f.IPV6_SRC, f.IPV6_DST)}
_REMEMBERED: Final = {f.IPV4: (f.CT_NW_SRC, f.CT_NW_DST), f.IPV6: (f.CT_IPV6_SRC, f.CT_IPV6_DST)}


def _remembering(packet: Packet, first: Ends) -> Packet:
    """The packet with the first one of its conversation noted down."""
    source, target = _REMEMBERED[first.version]
    ports = (first.src_port, first.dst_port) if first.kind is None else (first.kind, 0)
    return packet.with_(**{source.name: first.src, target.name: first.dst, f.CT_NW_PROTO.name: first.proto,
                           f.CT_TP_SRC.name: ports[0], f.CT_TP_DST.name: ports[1]})


def _showing(packet: Packet, ends: Ends) -> Packet:
    """The packet with these ends; ports only where it has some."""
    ports = zip(_PORTS.get(ends.proto, ()), (ends.src_port, ends.dst_port), strict=False)
    written = {name: port for name, port in ports if packet.get(name) is not None}
    source, target = _ADDRESSES[ends.version]
    return packet.with_(**{source.name: ends.src, target.name: ends.dst}, **written)
