"""The same random frames through simulated routers on real switches, through flows/qrouter.py and through Linux.

Every frame that leaves is compared field by field. Linux must send what flows/qrouter.py sends. Where switch and
conntrack do less than a router, the frame is one of those that `excused` names (docs/qrouter-differences.md says why),
and what they do instead is held, too.
"""
from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from comparing import (
    Facts,
    Pair,
    Ports,
    compared,
    datagram_in,
    explained,
    is_redirect,
    way_in,
    with_arp,
    worth_an_answer,
)
from linuxrouter import LinuxRouter, linux_router
from livekit import NAMES, ROUTERS, Wires, wires, worn
from routerkit import OWN, G, Traffic, arp_in, number

from flows.fields import ARP, ARP_REPLY, ARP_REQUEST, IPV4, UDP
from flows.packet import ICMP, TCP
from flows.qrouter import Sent, State, receive
from flows.router import Kind, Router
from flows.routing import fragments, nat
from flows.routing.conntrack import track
from flows.routing.transport import ACK, ECHO_REPLY, ECHO_REQUEST, SYN, inverse, is_error, quoted, sound, way_of
from flows.routing.wireformat import Arp, Datagram, Frame, Malformed, patched, summed

pytestmark = pytest.mark.system

FRAMES = 3500  # to each router
_OWN = {number(one) for one in OWN.values()}
_ODD = 0x3F  # the TCP flags that say where in its life a connection is
Candidate = tuple[list[Sent], State]


@pytest.fixture(scope="module")
def live() -> Iterator[Wires]:
    with wires() as ready:
        yield ready


@dataclass(frozen=True)
class Variant:
    """The frame as a switch sees it that does not look at everything, and how to see what leaves like that."""

    frame: bytes
    seen: Callable[[bytes], bytes]


def excused(twin: Twin, frame: bytes) -> str | None:
    """Why a switch may do less with this frame than a router, None if it may not."""
    outer = Frame.parse(frame)
    try:
        if outer.kind == ARP:
            asked = Arp.parse(outer.payload)
            return "stolen" if asked.op == ARP_REQUEST and asked.sender in _OWN else None
        if outer.kind != IPV4 or outer.dst[0] & 1:
            return "to many" if outer.kind == IPV4 else None
        packet = Datagram.parse(outer.payload)
    except Malformed as reason:
        return "header checksum" if "checksum" in str(reason) else None
    if packet.offset or packet.more:
        return "fragment"
    if packet.options:
        return "options"
    source = twin.router.lookup(packet.src)
    if source and source.kind is Kind.BROADCAST:
        return "broadcast"
    if not ordinary(packet) and not followed(twin, packet):
        return "invalid"
    return "query" if packet.proto == ICMP and crowded(twin, packet) else None


def crowded(twin: Twin, packet: Datagram) -> bool:
    """Whether another conversation has, or may have, the id of an ICMP query already.

    The controller lends it another one on its way outside; on its way from inside to a floating IP it is lost.
    """
    if is_error(packet):
        return False
    if packet.dst in twin.router.fixed_of:
        return True
    tracking = track(twin.state.connections, packet, twin.began)
    if tracking is None or not tracking.new:
        return tracking is not None and tracking.connection.original.src_port != tracking.connection.reply.src_port
    address = twin.router.fixed_of.get(packet.dst, packet.dst)
    found = nat.to_address(twin.state.connections, tracking, address, twin.began)
    return found.connection.reply.src_port != tracking.connection.reply.src_port


def beyond(twin: Twin, leg: str, frame: bytes) -> bool:
    """What the switch translates in another way: packets from outside that go there again, and those without ports."""
    packet = datagram_in(frame)
    if packet is None or by_lot(twin, leg, packet):
        return packet is not None
    if twin.router.gateway is None or not twin.router.gateway.snat:
        return False
    if packet.proto not in (ICMP, TCP, UDP):
        target = twin.router.lookup(packet.dst)
        return leg == G or target is None or target.leg == twin.router.outside
    return leg == G and passing(twin, packet)


def by_lot(twin: Twin, leg: str, packet: Datagram) -> bool:
    """Whether ours gave its conversation another port alone, which the switch does not where nothing is translated.

    Or whether somebody outside pretends to be a host inside, in the midst of that one's conversation.
    """
    way = way_of(packet)
    found = twin.state.connections.find(way, time.monotonic()) if way else None
    source = twin.router.lookup(packet.src)
    if found is None or source is None:
        return False
    alone = found.connection.source_changed and found.connection.original.src == found.connection.reply.dst
    return alone or (leg == G and source.leg != twin.router.outside)


def passing(twin: Twin, packet: Datagram) -> bool:
    """Whether it comes from outside and goes there again: the switch would translate it at either end."""
    inner = quoted(packet) if is_error(packet) else None
    way = inverse(made) if inner and (made := way_of(inner)) else way_of(packet)
    found = twin.state.connections.find(way, time.monotonic()) if way else None
    goal = twin.router.fixed_of.get(packet.dst, packet.dst)
    if found:
        goal = found.connection.original.src if found.back else found.connection.reply.src
    target = twin.router.lookup(goal)
    return target is not None and target.leg == twin.router.outside and not twin.router.is_own(goal)


def followed(twin: Twin, packet: Datagram) -> bool:
    """Whether it belongs to a conversation that both know: then a switch must pass it on, too."""
    translates = twin.router.gateway is not None and twin.router.gateway.snat
    if packet.proto not in (ICMP, TCP) or (translates and is_error(packet)):
        return False
    tracking = track(twin.state.connections, packet, time.monotonic())
    return tracking is not None and not tracking.new


def ordinary(packet: Datagram) -> bool:
    """Whether every connection tracker takes it for what it is."""
    if not sound(packet):
        return False
    if packet.proto == TCP:
        return packet.payload[13] & _ODD in (SYN, ACK)
    if packet.proto == ICMP:
        return packet.payload[0] == ECHO_REQUEST and packet.payload[1] == 0
    return packet.proto != UDP or len(packet.payload) == int.from_bytes(packet.payload[4:6], "big")


def variants(frame: bytes, reason: str | None) -> Iterator[Variant]:
    """What the frame is to a switch that does not look at what `reason` names."""
    if reason == "header checksum":
        yield Variant(mended(frame), mended)
        yield Variant(without_options(mended(frame)), lambda left: without_options(mended(left)))
    if reason == "options":
        yield Variant(without_options(frame), without_options)
    packet = datagram_in(frame)
    if reason in ("options", "invalid") and packet and packet.proto == TCP and len(packet.payload) >= 20:
        yield Variant(flagged(frame, ACK), lambda left: flagged(left, ACK))
        yield Variant(flagged(frame, SYN), lambda left: flagged(left, SYN))


def without_options(frame: bytes) -> bytes:
    return _changed(frame, lambda packet: replace(packet, options=b""))


def flagged(frame: bytes, flags: int) -> bytes:
    """Without options, and with other TCP flags."""
    def change(packet: Datagram) -> Datagram:
        if packet.proto != TCP or len(packet.payload) < 20:
            return packet
        return summed(replace(packet, payload=patched(packet.payload, 13, flags, 1), options=b""), 16)
    return _changed(frame, change)


def _changed(frame: bytes, change: Callable[[Datagram], Datagram]) -> bytes:
    outer, packet = Frame.parse(frame), datagram_in(frame)
    return change(packet).framed(outer.src, outer.dst) if packet else frame


def mended(frame: bytes) -> bytes:
    """With the checksum that its IPv4 header should have."""
    if Frame.parse(frame).kind != IPV4 or len(frame) < 34:
        return frame
    head = (frame[14] & 15) * 4
    words = patched(frame[14:14 + head], 10, 0)
    total = sum(int.from_bytes(words[at:at + 2], "big") for at in range(0, head, 2))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return patched(frame, 24, ~total & 0xFFFF)


class Twin:
    """flows/qrouter.py for one of the routers, kept in step with what the switch does."""

    def __init__(self, router: Router) -> None:
        self.router, self.state, self.ports = router, State(), Ports()
        self.began = 0.0
        self.firsts: dict[int, bytes] = {}  # first fragments as they came in, by identification
        self.owed: list[bytes] = []  # what the switch may still send: it was let off
        self.pieces: tuple[list[Sent], list[Sent]] = [], []  # fragments that ours sent, and that the switch sent

    def simulate(self, leg: str, frame: bytes) -> tuple[Candidate, str]:
        self.began = time.monotonic()
        outcome, state = receive(self.router, self.state, leg, frame, self.began)

        def again(where: str, answer: bytes) -> list[Sent]:
            nonlocal state
            more, state = receive(self.router, state, where, answer, time.monotonic())
            return list(more.sent)
        return (with_arp(list(outcome.sent), again), state), f"{type(outcome).__name__}: {outcome.why}"

    def agrees(self, frame: bytes, candidate: Candidate, theirs: list[Sent]) -> tuple[Facts, Facts]:
        """What a candidate sent and what the switch sent; and fragments are put aside, to be compared at the end."""
        ours, state = candidate

        def begins(sent: Sent) -> bool:
            way = way_in(sent.frame)
            found = state.connections.find(inverse(way), self.began) if way else None
            return found is not None and found.connection.started >= self.began
        return compared(begins, frame, (whole(ours), whole(theirs)), self.ports)


def whole(sent: list[Sent]) -> list[Sent]:
    return [one for one in sent if not is_piece(one)]


def is_piece(sent: Sent) -> bool:
    packet = datagram_in(sent.frame)
    return packet is not None and (packet.more or packet.offset > 0)


@pytest.mark.parametrize("name", NAMES)
def test_the_switch_the_simulation_and_linux_send_the_same_frames(live: Wires, name: str, seed: int) -> None:
    """A difference that the same frames do not show again in a new cloud was one of time: said, and no failure."""
    try:
        all_agree(live, name, seed)
    except AssertionError as difference:
        print(f"TUNBRIDGE_SEED={seed} {name}, once more in a new cloud, because of: {difference}")
        with wires() as anew:
            all_agree(anew, name, seed)


def all_agree(live: Wires, name: str, seed: int) -> None:
    """3,500 frames of a seed through one router in three forms."""
    twin, n = Twin(ROUTERS[name]), NAMES.index(name)
    traffic, told = Traffic(random.Random(f"{seed} {name}"), ROUTERS[name], crowded=False), Counter[str]()
    with linux_router(ROUTERS[name], f"live{n}") as linux:
        three(live, n, twin, Linux(linux), traffic, told)
    compare_pieces(twin)
    print(f"{name}: {dict(told)}")
    assert told["equal"] > FRAMES * 0.4


@dataclass
class Linux:
    """The same router in a namespace of its own, and flows/qrouter.py in step with it."""

    router: LinuxRouter

    def __post_init__(self) -> None:
        self._pair, self._ports = Pair(self.router), Ports()

    def compare(self, count: int, leg: str, frame: bytes) -> None:
        """Both get the frame and must send the same."""
        if self._ports.parted(frame):
            return
        ours, why = self._pair.simulate(leg, frame)
        theirs = self._pair.real(leg, self._ports.to_linux(frame))
        left, right = compared(self._pair.begins, frame, (ours, theirs), self._ports)
        assert left == right, f"Linux: {explained(count, leg, why, frame)}"


def three(live: Wires, n: int, twin: Twin, linux: Linux, traffic: Traffic, told: Counter[str]) -> None:
    for count in range(FRAMES):
        leg, frame = traffic.next()
        frame = worn(leg, frame)
        linux.compare(count, leg, frame)
        if twin.ports.parted(frame) or beyond(twin, leg, frame):
            continue
        (ours, after), why = twin.simulate(leg, frame)
        live.put(n, leg, twin.ports.to_linux(frame))
        reason = excused(twin, frame)
        ours = [one for one in ours if not is_redirect(one)]
        theirs = [one for one in live.glance(n, leg) if not is_redirect(one)]
        if reason or not ours or len(theirs) < len(ours):
            theirs += live.settle(n, leg)
        if len(theirs) < len(ours):  # before it is said that nothing came
            theirs += live.settle(n, leg)
        told[reason or "equal"] += 1
        what = f"{explained(count, leg, why, frame)} ({reason})"
        twin.state = settled(twin, leg, frame, (ours, after), theirs, what)
        for sent in ours:
            if reason is None and worth_an_answer(sent):
                traffic.saw(sent)


def settled(twin: Twin, leg: str, frame: bytes, candidate: Candidate, theirs: list[Sent], what: str) -> State:
    """The state that goes with what the switch did; the test fails if it did what it may not do.

    What it does with a frame that it does not look at wholly is tried first: then it tracks what a router does not.
    """
    came = datagram_in(frame)
    if came and came.more and not came.offset:
        twin.firsts[came.ident] = frame
    begun = [one for one in candidate[0] if is_piece(one)]
    twin.pieces[0].extend(begun)
    twin.pieces[1].extend(one for one in theirs if is_piece(one))
    learn_from_pieces(twin, begun)
    reason = excused(twin, frame)
    for variant in variants(frame, reason):
        other, _ = twin.simulate(leg, variant.frame)
        seen = [replace(one, frame=variant.seen(one.frame)) for one in theirs]
        ours = [replace(one, frame=variant.seen(one.frame)) for one in other[0]]
        one, two = twin.agrees(variant.frame, (ours, other[1]), seen)
        if one == two:
            return other[1]
    if reason == "header checksum":
        seen = [replace(one, frame=mended(one.frame)) for one in whole(theirs)]
        assert not [one for one in seen if not harmless(mended(frame), "options", one)], what
        return twin.state
    left, right = twin.agrees(frame, candidate, theirs)
    if left == right:
        return candidate[1]
    if "no port is left" in what or renumbered(frame, candidate[0]) or reason == "query":
        twin.ports.part(frame)
        return twin.state
    if not right or all(late(twin, one) for one in theirs):
        theirs = []
    # It may do less, but nothing else.
    wrong = [one for one in whole(theirs) if not harmless(frame, reason, one)]
    assert (reason or not left) and not wrong, (what, left, right)
    twin.owed = [*twin.owed[-20:], *(one.frame for one in candidate[0])]
    if reason in ("invalid", "options"):
        for one in (frame, *(sent.frame for sent in (*candidate[0], *theirs))):
            twin.ports.part(one)
    return candidate[1] if reason == "fragment" else twin.state


def learn_from_pieces(twin: Twin, begun: list[Sent]) -> None:
    """The ports of conversations that began with fragments, as far as the switch let them pass."""
    firsts = {(sent.leg, packet.ident): sent for sent in twin.pieces[1]
              if (packet := datagram_in(sent.frame)) and not packet.offset}
    for sent in begun:
        packet = datagram_in(sent.frame)
        if packet and not packet.offset:
            other = firsts.get((sent.leg, packet.ident))
            if other:
                twin.ports.learn(None, sent, other)
            else:
                twin.ports.part(sent.frame)
                twin.ports.part(twin.firsts.get(packet.ident, sent.frame))


def harmless(frame: bytes, reason: str | None, sent: Sent) -> bool:
    """An answer to the one who asked: ARP, or an ICMP error about this very packet; or the packet itself."""
    if reason == "broadcast":
        return True  # Linux looks at the source only if the packet leaves as it came, and for the router's own answers
    if reason == "stolen":
        answer = arp_in(sent.frame)
        return answer is not None and answer.op == ARP_REPLY and sent.frame[:6] == frame[6:12]
    packet, about = datagram_in(sent.frame), datagram_in(frame)
    if reason not in ("fragment", "query", "invalid", "options") or packet is None or about is None:
        return False
    if packet.ident == about.ident and packet.proto == about.proto:
        # Passed on, perhaps under another address: only one of both knows a conversation that it belongs to.
        return len(packet.payload) == len(about.payload)
    if packet.proto == ICMP and packet.payload[0] == ECHO_REPLY:
        return packet.dst == about.src  # the router answers for a floating IP whose id is in use
    return is_error(packet) and packet.dst == about.src and packet.payload[12:14] == frame[18:20]


def late(twin: Twin, sent: Sent) -> bool:
    """Whether it is what was missed a moment ago."""
    packet = datagram_in(sent.frame)
    missed = [datagram_in(frame) for frame in twin.owed]
    return packet is not None and any(one and replace(one, ident=packet.ident) == packet for one in missed)


def renumbered(frame: bytes, ours: list[Sent]) -> bool:
    """Whether ours gave an ICMP query another id: the switch's conntrack cannot, and drops it."""
    ways = [way_in(one.frame) for one in ours]
    came = way_in(frame)
    return came is not None and came.proto == ICMP and any(way and way.src_port != came.src_port for way in ways)


def compare_pieces(twin: Twin) -> None:
    """Ours puts fragments together and takes them apart again, the switch passes them on one by one."""
    ours, theirs = (gathered(pieces) for pieces in twin.pieces)
    for key, packet in ours.items():
        if packet is not None and key in theirs and theirs[key] is not None:
            other = twin.ports.from_linux(Sent("", theirs[key].framed(b"\0" * 6, b"\0" * 6)))
            found = datagram_in(other.frame)
            # Linux forgets that fragments must not be cut again, and clears options that not all of them have.
            assert found and bare(found) == bare(packet)


def bare(packet: Datagram) -> Datagram:
    """Without what may differ: two flags, and ports or ids that were chosen."""
    return replace(packet, dont_fragment=False, options=b"", payload=packet.payload[8:])


def gathered(pieces: list[Sent]) -> dict[tuple[object, ...], Datagram | None]:
    """The packets that fragments belong to; None where some are missing."""
    groups: dict[tuple[object, ...], list[Datagram]] = {}
    for sent in pieces:
        packet = datagram_in(sent.frame)
        assert packet
        groups.setdefault((sent.leg, packet.src, packet.dst, packet.proto, packet.ident), []).append(packet)
    return {key: together(group) for key, group in groups.items()}


def together(group: list[Datagram]) -> Datagram | None:
    parts = fragments.Parts((), 0.0)
    for piece in group:
        try:
            parts = fragments.add(parts, piece)
        except fragments.Overlap:
            return None
    made = fragments.whole(parts)
    return made.datagram if made else None
