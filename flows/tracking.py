"""Connection tracking on paper: what `ct` of Open vSwitch says of a packet, and what it does to one.

A connection is established as soon as it is committed. What a packet on paper does not say plays no part: TCP flags,
time, and which connection an ICMP error is about (so it belongs to none, and is invalid).
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from flows import fields as f
from flows.fields import CT_FLAGS
from flows.flow import Track
from flows.packet import ICMP, TCP, Packet

_NEW, _ESTABLISHED, _REPLY, _INVALID, _TRACKED = (CT_FLAGS[name] for name in ("new", "est", "rpl", "inv", "trk"))
_ECHO_REPLY, _ECHO_REQUEST = 0, 8  # RFC 792
_PORTS: Final = {TCP: ("tcp_src", "tcp_dst"), f.UDP: ("udp_src", "udp_dst"), ICMP: ("icmp_id", "icmp_id")}
_FIRST_FREE, _LAST_PORT = 1024, 65535


@dataclass(frozen=True)
class Ends:
    """Who speaks to whom: addresses as numbers, and ports (of an ICMP echo: its id at both ends)."""

    proto: int
    src: int
    dst: int
    src_port: int
    dst_port: int

    @property
    def back(self) -> Ends:
        """The same ends, seen from the other side."""
        return Ends(self.proto, self.dst, self.src, self.dst_port, self.src_port)


@dataclass(frozen=True)
class Connection:
    """`first` is what its first packet showed; `answer` is what its answers show."""

    first: Ends
    answer: Ends


@dataclass(frozen=True)
class Conntrack:
    """All zones of a switch."""

    connections: Mapping[tuple[int, Ends], Connection] = field(default_factory=dict)  # (zone, ends): both directions

    def track(self, action: Track, packet: Packet) -> tuple[Packet, Conntrack]:
        """The packet as the next table sees it, and the connections then."""
        ends = _ends(packet)
        if ends is None:
            return packet.with_(ct_state=_TRACKED | _INVALID), self
        found = self.connections.get((action.zone, ends))
        if found is None:
            return self._new(action, packet.with_(ct_state=_TRACKED | _NEW), ends)
        reply = ends == found.answer
        packet = packet.with_(ct_state=_TRACKED | _ESTABLISHED | (_REPLY if reply else 0))
        if action.nat or action.translation:
            packet = _showing(packet, found.first.back if reply else found.answer.back)
        return packet, self

    def _new(self, action: Track, packet: Packet, ends: Ends) -> tuple[Packet, Conntrack]:
        if not action.commit:
            return packet, self
        shown = self._translated(action, ends)
        made = Connection(ends, shown.back)
        both = {(action.zone, ends): made, (action.zone, shown.back): made}
        return _showing(packet, shown), Conntrack({**self.connections, **both})

    def _translated(self, action: Track, ends: Ends) -> Ends:
        if action.translation is None:
            return ends
        address = int(action.translation.address)
        if action.translation.end == "dst":
            return replace(ends, dst=address)
        shown = replace(ends, src=address)
        ports = (shown.src_port, *range(_FIRST_FREE, _LAST_PORT + 1))
        tries = (replace(shown, src_port=port, dst_port=port if ends.proto == ICMP else shown.dst_port)
                 for port in ports)
        return next((one for one in tries if (action.zone, one.back) not in self.connections), shown)


def _ends(packet: Packet) -> Ends | None:
    """What connection tracking looks at, None if it can make nothing of the packet."""
    src, dst, proto = packet.get(f.IPV4_SRC), packet.get(f.IPV4_DST), packet.get(f.IP_PROTO)
    if src is None or dst is None or proto is None:
        return None
    if proto == ICMP and packet.get("icmpv4_type") not in (_ECHO_REPLY, _ECHO_REQUEST):
        return None
    source, target = _PORTS.get(proto, ("", ""))
    return Ends(proto, src, dst, packet.get(source) or 0, packet.get(target) or 0)


def _showing(packet: Packet, ends: Ends) -> Packet:
    """The packet with these ends; ports only where it has some."""
    ports = zip(_PORTS.get(ends.proto, ()), (ends.src_port, ends.dst_port), strict=False)
    written = {name: port for name, port in ports if packet.get(name) is not None}
    return packet.with_(ipv4_src=ends.src, ipv4_dst=ends.dst, **written)
