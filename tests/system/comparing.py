"""Frames of two routers side by side, field by field; what each of them may choose freely is put aside."""
from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

from linuxrouter import LinuxRouter
from routerkit import arp_in, is_at

from flows.fields import ARP_REQUEST, IPV4
from flows.packet import ICMP
from flows.qrouter import Sent, State, receive
from flows.routing.transport import (
    ERRORS,
    REDIRECT,
    Way,
    inverse,
    is_error,
    quoted,
    requoted,
    way_of,
    with_destination,
    with_source,
)
from flows.routing.wireformat import Datagram, Frame, Malformed


class Pair:
    """Both routers, fed alike, with hosts that answer the ARP of each."""

    def __init__(self, linux: LinuxRouter) -> None:
        self.linux = linux
        self.state = State()
        self._began = 0.0

    def simulate(self, leg: str, frame: bytes) -> tuple[list[Sent], str]:
        self._began = time.monotonic()
        outcome, self.state = receive(self.linux.router, self.state, leg, frame, self._began)

        def again(where: str, answer: bytes) -> list[Sent]:
            more, self.state = receive(self.linux.router, self.state, where, answer, time.monotonic())
            return list(more.sent)
        return with_arp(list(outcome.sent), again), f"{type(outcome).__name__}: {outcome.why}"

    def begins(self, sent: Sent) -> bool:
        """Whether it is the first packet of a connection: then Linux has chosen a port, too."""
        way = way_in(sent.frame)
        found = self.state.connections.find(inverse(way), self._began) if way else None
        return found is not None and found.connection.started >= self._began

    def real(self, leg: str, frame: bytes) -> list[Sent]:
        def again(where: str, answer: bytes) -> list[Sent]:
            return [Sent(*one) for one in self.linux.send(where, answer)]
        return with_arp(again(leg, frame), again)


def with_arp(pending: list[Sent], give: Callable[[str, bytes], list[Sent]]) -> list[Sent]:
    """What leaves, after hosts have answered the questions in it."""
    left = []
    while pending:
        sent = pending.pop(0)
        question = arp_in(sent.frame)
        if question is None or question.op != ARP_REQUEST:
            left.append(sent)
        else:
            pending += give(sent.leg, is_at(sent.leg, question))
    return left


def facts(sent: Sent) -> tuple[object, ...]:
    """A frame field by field; the identification of the router's own packets is put aside."""
    frame = Frame.parse(sent.frame)
    head = sent.leg, frame.dst.hex(":"), frame.src.hex(":"), hex(frame.kind)
    if frame.kind != IPV4:
        return (*head, frame.payload[:28].hex(), "arp")
    packet = Datagram.parse(frame.payload)
    assert packet.to_bytes() == frame.payload[:packet.size], "header checksum"
    own = packet.ident if packet.ident >= 0x8000 else "own"
    return (*head, *shown(packet), own)


def shown(packet: Datagram) -> tuple[str, ...]:
    """Everything but the identification; of a long payload the beginning and a digest."""
    flags = f"{'DF' if packet.dont_fragment else ''}{'MF' if packet.more else ''}+{packet.offset}"
    body = packet.payload
    return (f"{IPv4Address(packet.src)} > {IPv4Address(packet.dst)}", f"proto {packet.proto}", f"ttl {packet.ttl}",
            f"tos {packet.tos:#x}", flags, f"options {packet.options.hex()}", f"length {len(body)}",
            body[:60].hex(), f"digest {zlib.crc32(body):08x}")


def is_redirect(sent: Sent) -> bool:
    packet = datagram_in(sent.frame)
    return packet is not None and packet.proto == ICMP and packet.payload[:1] == bytes([REDIRECT])


class Ports:
    """Which port Linux took where ours took another: one to one, per protocol, own address and remote end."""

    def __init__(self) -> None:
        self._theirs: dict[Way, Way] = {}
        self._ours: dict[Way, Way] = {}
        self._apart: set[Way] = set()

    def learn(self, came: Way | None, ours: Sent, theirs: Sent) -> None:
        """Both sent the first packet of a connection, which `came` in, but from different ports."""
        one, two = way_in(ours.frame), way_in(theirs.frame)
        if one is None or two is None or one._replace(src_port=0) != two._replace(src_port=0):
            return
        self._ours.pop(self._theirs.pop(one, two), None)
        self._apart -= {one, two}
        if one != two:
            if came and came.src == one.src and came.src_port in (one.src_port, two.src_port):
                self._apart |= {one, two}
            assert two not in self._ours, f"Linux took a port that is in use: {two}"
            self._theirs[one], self._ours[two] = two, one

    def part(self, frame: bytes) -> None:
        """The two go apart here: nothing more is said of the connection of this frame."""
        packet = datagram_in(frame)
        way = way_of(packet) if packet else None
        self._apart |= {way, inverse(way)} if way else set()

    def parted(self, frame: bytes) -> bool:
        """Whether a frame speaks of a connection that only one of both translates, since the port was not free there.

        By lot, then, they differ in what an ICMP error about it shows.
        """
        packet = datagram_in(frame)
        if packet is None or not self._apart:
            return False
        inner = quoted(packet) if is_error(packet) else packet
        way = way_of(inner) if inner else None
        return way is not None and not self._apart.isdisjoint((way, inverse(way)))

    def to_linux(self, frame: bytes) -> bytes:
        """A frame for the router with Linux's port where ours has another."""
        return _renumbered(frame, self._theirs)

    def from_linux(self, sent: Sent) -> Sent:
        """A frame of Linux's with our port."""
        return replace(sent, frame=_renumbered(sent.frame, self._ours))


def way_in(frame: bytes) -> Way | None:
    packet = datagram_in(frame)
    return way_of(packet) if packet and not packet.offset else None


def datagram_in(frame: bytes) -> Datagram | None:
    try:
        outer = Frame.parse(frame)
        return Datagram.parse(outer.payload) if outer.kind == IPV4 else None
    except Malformed:
        return None


def _renumbered(frame: bytes, known: dict[Way, Way]) -> bytes:
    packet = datagram_in(frame)
    if packet is None or packet.offset or not known:
        return frame
    if is_error(packet):
        inner = quoted(packet)
        other = _with_ports(inner, known) if inner else None
        packet = requoted(packet, other) if other and other != inner else packet
    else:
        packet = _with_ports(packet, known)
    outer = Frame.parse(frame)
    # Written back only if it was changed: what a broken frame has beyond its packet must stay.
    return frame if packet == datagram_in(frame) else packet.framed(outer.src, outer.dst)


def _with_ports(packet: Datagram, known: dict[Way, Way]) -> Datagram:
    way = way_of(packet)
    if way is None:
        return packet
    if way in known:
        return with_source(packet, packet.src, known[way].src_port)
    if (back := inverse(way)) in known:
        return with_destination(packet, packet.dst, known[back].src_port)
    return packet


Facts = list[tuple[object, ...]]


def compared(begins: Callable[[Sent], bool], frame: bytes, sent: tuple[list[Sent], list[Sent]],
             ports: Ports) -> tuple[Facts, Facts]:
    """What ours and the other sent for a frame, sorted, with redirects put aside (their pace depends on milliseconds).

    `begins`: whether a packet of ours is the first of a connection; then the other has chosen a port, too.
    """
    ours, theirs = sent
    left = sorted((one for one in ours if not is_redirect(one)), key=_order)
    right = sorted((one for one in theirs if not is_redirect(one)), key=_order)
    for one, two in zip(left, right, strict=False):
        if begins(one):
            ports.learn(way_in(frame), one, two)
    right = [ports.from_linux(two) for two in right]
    first, second = [facts(one) for one in left], [facts(two) for two in right]
    if len(first) == len(second):
        second = [(*two[:-1], "own") if one[-1] == "own" else two for one, two in zip(first, second, strict=True)]
    return first, second


def _order(sent: Sent) -> tuple[object, ...]:
    """Without what may be put aside: ports, and the identification of own packets."""
    packet = datagram_in(sent.frame)
    if packet is None:
        return sent.leg, sent.frame[:12], 0, 0, 0, 0
    return sent.leg, sent.frame[:12], packet.dst, packet.src, packet.proto, packet.offset


def explained(count: int, leg: str, why: str, frame: bytes) -> str:
    packet = datagram_in(frame)
    what = " ".join(shown(packet)) if packet else frame[:60].hex()
    return f"frame {count} to {frame[:6].hex(':')} on {leg}: {what}; ours: {why}"


def worth_an_answer(sent: Sent) -> bool:
    frame = Frame.parse(sent.frame)
    if frame.kind != IPV4:
        return False
    packet = Datagram.parse(frame.payload)
    return packet.ident >= 0x8000 and not (packet.proto == ICMP and packet.payload[:1] and packet.payload[0] in ERRORS)
