"""The security groups at a VM's tap, on paper: iptables' part of the way, where the firewall is the hybrid one.

What the groups say is asked of the topology; here it is remembered which conversations they have let begin, for with
one of these all of its packets pass. With the openvswitch firewall the flows of br-int do all that.
"""
from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from controller.model.protocols import ICMP, ICMPV6, TCP, UDP, Datagram
from controller.model.topology import Address, Port, Topology
from flows import fields as f
from flows.packet import Packet

_TYPES: Final = {ICMP: ("icmpv4_type", "icmpv4_code"), ICMPV6: ("icmpv6_type", "icmpv6_code")}
_PORTS: Final = {TCP: ("tcp_src", "tcp_dst"), UDP: ("udp_src", "udp_dst")}
_ERRORS: Final = {(ICMP, kind) for kind in (3, 4, 5, 11, 12)} | {(ICMPV6, kind) for kind in (1, 2, 3, 4)}

Talk = tuple[Address, Address, int, int | None, int | None]  # source, destination, protocol, ports


@dataclass(frozen=True)
class Passed:
    """What a port's groups say of a packet."""

    passes: bool
    why: str  # a clause


class Gates:
    """The taps of a cloud, and the conversations that have passed each. Without the hybrid firewall all are open."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._talks: dict[str, set[Talk]] = {}  # port -> conversations in the direction in which they began

    def out(self, port: Port, packet: Packet) -> Passed | None:
        """What becomes of a frame that a VM sends; None if nobody looks at it."""
        return self._judged(port, packet, by_vm=True)

    def into(self, port: Port, packet: Packet) -> Passed | None:
        """What becomes of a frame that comes out of br-int for a VM; None if nobody looks at it."""
        return self._judged(port, packet, by_vm=False)

    def forget(self) -> None:
        """As if nobody had said anything."""
        self._talks.clear()

    def _judged(self, port: Port, packet: Packet, *, by_vm: bool) -> Passed | None:
        datagram = _datagram(packet)
        if datagram is None or not self._topology.has_qbr() or not self._topology.is_filtered(port):
            return None
        known, talk = self._talks.setdefault(port.name, set()), _talk(datagram)
        if _backwards(talk) in known and (datagram.protocol, datagram.icmp_type) not in _beginnings(datagram):
            return Passed(True, "it is an answer in a conversation that was allowed")
        if (datagram.protocol, datagram.icmp_type) in _ERRORS:
            about = [one for one in known if datagram.destination in one[:2]]
            return Passed(bool(about), "it is about a conversation that was allowed" if about else
                          "it is about no conversation that was allowed")
        filters = self._topology.filters
        verdict = (filters.leaves if by_vm else filters.enters)(port, datagram)
        if verdict.passes:
            known.add(talk)
        return Passed(verdict.passes, verdict.why)


def _beginnings(datagram: Datagram) -> frozenset[tuple[int, int | None]]:
    """What is never an answer, though the same two talk: an echo request."""
    echo = {ICMP: 8, ICMPV6: 128}.get(datagram.protocol)
    return frozenset() if echo is None else frozenset({(datagram.protocol, echo)})


def _talk(datagram: Datagram) -> Talk:
    return datagram.source, datagram.destination, datagram.protocol, datagram.source_port, datagram.port


def _backwards(talk: Talk) -> Talk:
    source, destination, protocol, from_port, to_port = talk
    return destination, source, protocol, to_port, from_port


def _datagram(packet: Packet) -> Datagram | None:
    """An IP packet as groups see it; None if it is none."""
    version = {f.IPV4: 4, f.IPV6: 6}.get(packet.get(f.ETH_TYPE) or 0)
    protocol = packet.get(f.IP_PROTO)
    if version is None or protocol is None:
        return None
    source, destination = ((packet.shown(f.IPV4_SRC), packet.shown(f.IPV4_DST)) if version == 4 else
                           (packet.shown(f.IPV6_SRC), packet.shown(f.IPV6_DST)))
    if not source or not destination:
        return None
    kind, code = (packet.get(name) for name in _TYPES.get(protocol, ("", "")))
    from_port, to_port = (packet.get(name) for name in _PORTS.get(protocol, ("", "")))
    return Datagram(version, protocol, ip_address(source), ip_address(destination), to_port, kind,
                    (code or 0) if kind is not None else None, from_port)
