"""Connection tracking on paper: what `ct` of Open vSwitch's own datapath says of a packet, and what it does to one.

What a packet on paper does not say plays no part: TCP flags, time, and which connection an ICMP error is about (so it
belongs to none, and is invalid).
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
_TRANSLATED: Final = {"src": CT_FLAGS["snat"], "dst": CT_FLAGS["dnat"]}
_TRANSLATIONS: Final = CT_FLAGS["snat"] | CT_FLAGS["dnat"]
_ZONE: Final = "ct_zone"
_ECHO_REPLY, _ECHO_REQUEST = 0, 8  # RFC 792
_OTHER_ECHO: Final = {_ECHO_REPLY: _ECHO_REQUEST, _ECHO_REQUEST: _ECHO_REPLY}
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
    echo: int | None = None  # type of an ICMP echo

    @property
    def back(self) -> Ends:
        """The same ends, seen from the other side."""
        echo = None if self.echo is None else _OTHER_ECHO[self.echo]
        return Ends(self.proto, self.dst, self.src, self.dst_port, self.src_port, echo)


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
        before = packet.get(f.CT_STATE) or 0 if packet.get(_ZONE) == action.zone else 0  # another zone's is forgotten
        packet = packet.with_(**{_ZONE: action.zone})
        ends = _ends(packet)
        found, reply = self._find(action.zone, ends, translated=bool(before & _TRANSLATIONS))
        if ends is None or (found is None and ends.echo == _ECHO_REPLY):
            return packet.with_(ct_state=_TRACKED | _INVALID), self
        if found is None:
            return self._new(action, packet, ends)
        return self._known(action, packet.with_(ct_state=before), found, reply=reply)

    def _find(self, zone: int, ends: Ends | None, *, translated: bool) -> tuple[Connection | None, bool]:
        """The connection of these ends, and whether they are an answer's.

        What this zone has translated shows the other end's view already.
        """
        if ends is None:
            return None, False
        ends = ends.back if translated else ends
        found = self.connections.get((zone, ends))
        return found, found is not None and (ends == found.answer) != translated

    def _known(self, action: Track, packet: Packet, found: Connection, *, reply: bool) -> tuple[Packet, Conntrack]:
        after = self._with(action.zone, replace(found, answered=True)) if reply and not found.answered else self
        before = packet.get(f.CT_STATE) or 0
        # It calls a conversation new until it is answered.
        new = not reply and not found.answered
        state = before & ~_NEW | _TRACKED | (_NEW if new else _ESTABLISHED) | (_REPLY if reply else 0)
        if found.translated and (action.nat or action.translation) and not before & _TRANSLATIONS:
            state |= _TRANSLATED[found.translated]
            packet = _showing(packet, found.first.back if reply else found.answer.back)
        return packet.with_(ct_state=state), after

    def _new(self, action: Track, packet: Packet, ends: Ends) -> tuple[Packet, Conntrack]:
        packet = packet.with_(ct_state=_TRACKED | _NEW)
        shown = self._shown(action, ends) if action.commit else None
        if shown is None:
            return packet, self
        end = action.translation.end if action.translation else ""
        packet = packet.with_(ct_state=_TRACKED | _NEW | _TRANSLATED.get(end, 0))
        return _showing(packet, shown), self._with(action.zone, Connection(ends, shown.back, end))

    def _with(self, zone: int, found: Connection) -> Conntrack:
        return Conntrack({**self.connections, (zone, found.first): found, (zone, found.answer): found})

    def _shown(self, action: Track, ends: Ends) -> Ends | None:
        """What a new connection shows from now on; None if its answers would be taken for another's."""
        if action.translation is None:
            return ends
        address = int(action.translation.address)
        shown = replace(ends, dst=address) if action.translation.end == "dst" else replace(ends, src=address)
        # No id of a ping is changed, and of what goes to a floating IP no port.
        others = range(_FIRST_FREE, _LAST_PORT + 1) if action.translation.end == "src" and ends.proto != ICMP else ()
        tries = (replace(shown, src_port=port) for port in (ends.src_port, *others))
        return next((one for one in tries if (action.zone, one.back) not in self.connections), None)


def _ends(packet: Packet) -> Ends | None:
    """What connection tracking looks at, None if it can make nothing of the packet."""
    src, dst, proto = packet.get(f.IPV4_SRC), packet.get(f.IPV4_DST), packet.get(f.IP_PROTO)
    if src is None or dst is None or proto is None:
        return None
    echo = packet.get("icmpv4_type") if proto == ICMP else None
    if proto == ICMP and echo not in _OTHER_ECHO:
        return None
    source, target = _PORTS.get(proto, ("", ""))
    return Ends(proto, src, dst, packet.get(source) or 0, packet.get(target) or 0, echo)


def _showing(packet: Packet, ends: Ends) -> Packet:
    """The packet with these ends; ports only where it has some."""
    ports = zip(_PORTS.get(ends.proto, ()), (ends.src_port, ends.dst_port), strict=False)
    written = {name: port for name, port in ports if packet.get(name) is not None}
    return packet.with_(ipv4_src=ends.src, ipv4_dst=ends.dst, **written)
