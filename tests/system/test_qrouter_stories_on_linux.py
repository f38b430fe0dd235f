"""What random frames cannot compare, since it takes time: the same story told by the simulation and by Linux."""
from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from linuxrouter import LinuxRouter, linux_router
from routerkit import (
    FAR,
    GATEWAY,
    OWN,
    A,
    B,
    World,
    arp_in,
    framed,
    is_at,
    mac_of,
    number,
    read,
    router,
    udp_to,
    who_has,
)

from flows.fields import ARP_REQUEST
from flows.packet import ICMP
from flows.qrouter import Sent
from flows.router import Limits
from flows.routing.wireformat import Datagram, Frame

pytestmark = [pytest.mark.system, pytest.mark.shared]

VM, OTHER = "10.0.1.12", "10.0.2.12"


class Both:
    """The same frames for both, and what both send."""

    def __init__(self, linux: LinuxRouter) -> None:
        self.linux, self.world = linux, World(linux.router)

    def send(self, leg: str, frame: bytes) -> tuple[list[Sent], list[Sent]]:
        ours = list(self.world.give(leg, frame).sent)
        return ours, [Sent(*one) for one in self.linux.send(leg, frame)]

    def wait(self, seconds: float) -> tuple[list[Sent], list[Sent]]:
        """What both send by themselves meanwhile."""
        end, theirs = time.monotonic() + seconds, []
        while (left := end - time.monotonic()) > 0:
            theirs += [Sent(*one) for one in self.linux.poll(left)]
        return self.world.wait(seconds), theirs


@pytest.fixture(params=[False, True], ids=["unlimited", "limited"])
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    limits = Limits() if request.param else Limits(interval=0, per_second=0)
    with linux_router(router(limits=limits), "st") as linux:
        yield Both(linux)


def said(frames: list[Sent]) -> list[tuple[object, ...]]:
    """Legs, MACs, and ARP messages or ICMP types and addresses."""
    found: list[tuple[object, ...]] = []
    for sent in frames:
        frame = Frame.parse(sent.frame)
        what: object = arp_in(sent.frame)
        if what is None:
            packet = read(sent)
            what = (packet.src, packet.dst, packet.proto, packet.payload[:2] if packet.proto == ICMP else b"",
                    Datagram.parse(packet.payload[8:]).src if errors(sent) else 0)
        found.append((sent.leg, frame.dst, frame.src, what))
    return sorted(found, key=repr)


def errors(sent: Sent) -> bool:
    packet = None if arp_in(sent.frame) else read(sent)
    return packet is not None and packet.proto == ICMP and packet.payload[0] in (3, 5, 11)


def same(pair: tuple[list[Sent], list[Sent]]) -> list[Sent]:
    """Both sent the same. Returns what ours sent."""
    ours, theirs = pair
    assert said(ours) == said(theirs)
    return ours


def test_both_ask_the_same_question_and_let_the_packets_go_at_the_answer(both: Both) -> None:
    (question,) = same(both.send(A, framed(A, udp_to(VM, OTHER))))
    assert same(both.send(A, framed(A, udp_to(VM, OTHER, (1, 2))))) == []
    asked = arp_in(question.frame)
    assert asked is not None
    assert len(same(both.send(B, is_at(B, asked)))) == 2


def test_both_give_up_after_three_questions_and_tell_the_host_inside(both: Both) -> None:
    same(both.send(A, who_has(VM, OWN[A])))
    for ports in ((1, 1), (2, 2)):
        same(both.send(A, framed(A, udp_to(VM, FAR, ports))))
    ours, theirs = both.wait(4.5)
    for frames in (ours, theirs):
        questions = [sent for sent in frames if (arp := arp_in(sent.frame)) and arp.target == number(GATEWAY)]
        assert len(questions) == 2
    told = [sorted(said([sent for sent in frames if errors(sent)]), key=repr) for frames in (ours, theirs)]
    assert told[0] == told[1]
    assert len(told[0]) == 2


def test_both_follow_a_host_that_moves(both: Both) -> None:
    (question,) = same(both.send(A, framed(A, udp_to(VM, OTHER))))
    asked = arp_in(question.frame)
    assert asked is not None
    same(both.send(B, is_at(B, asked)))
    moved = b"\x02moved"
    same(both.send(B, is_at(B, asked, moved)))
    (left,) = same(both.send(A, framed(A, udp_to(VM, OTHER))))
    assert Frame.parse(left.frame).dst == mac_of(OTHER)
    both.wait(1.5)
    same(both.send(B, is_at(B, asked, moved)))
    (left,) = same(both.send(A, framed(A, udp_to(VM, OTHER))))
    assert Frame.parse(left.frame).dst == moved


def test_both_pace_redirects(both: Both) -> None:
    same(both.send(A, who_has(VM, OWN[A])))
    same(both.send(A, who_has("10.0.1.50", OWN[A])))
    packet = framed(A, udp_to(VM, "198.51.100.9"))
    counts = []
    for pause in (0.0, 0.1, 0.01, 0.2):
        both.wait(pause)
        counts.append(len([sent for sent in same(both.send(A, packet)) if errors(sent)]))
    assert counts == [0, 1, 0, 1]


def test_both_limit_errors_to_one_host(both: Both) -> None:
    same(both.send(A, who_has(VM, OWN[A])))
    counts = [len(same(both.send(A, framed(A, udp_to(VM, OTHER, ttl=1))))) for _ in range(9)]
    assert counts == ([1] * 6 + [0] * 3 if both.linux.router.limits.interval else [1] * 9)
    questions = [sent for sent in both.world.wait(0.1) if (arp := arp_in(sent.frame)) and arp.op == ARP_REQUEST]
    assert questions == []
