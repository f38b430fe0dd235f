"""The simulated router and a real Linux namespace get the same frames and must send the same frames.

What Linux chooses freely is put aside first; docs/qrouter-differences.md lists what is, and why.
"""
from __future__ import annotations

import random
import time

import pytest
from comparing import Ports, compared, explained, way_in, with_arp, worth_an_answer
from linuxrouter import LinuxRouter, linux_router
from routerkit import Traffic, router

from flows.qrouter import Sent, State, receive
from flows.router import Router
from flows.routing.transport import inverse

pytestmark = pytest.mark.system

ROUTERS: dict[str, Router] = {
    "snat": router(),
    "small-outside": router(mtus=(1500, 1450, 1400)),
    "small-inside": router(mtus=(1400, 576, 1500)),
    "no-snat": router(snat=False),
    "no-outside": router(outside=False),
    "random-ports": router(),  # as Neutron sets it up where iptables can
}
FRAMES = 6000


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


@pytest.mark.parametrize("name", ROUTERS)
def test_the_simulation_and_linux_send_the_same_frames(name: str, seed: int) -> None:
    made = ROUTERS[name]
    traffic = Traffic(random.Random(f"{seed} {name}"), made)
    with linux_router(made, name[:2], random_ports=name == "random-ports") as linux:
        pair, ports = Pair(linux), Ports()
        for count in range(FRAMES):
            leg, frame = traffic.next()
            if ports.parted(frame):
                continue
            ours, why = pair.simulate(leg, frame)
            theirs = pair.real(leg, ports.to_linux(frame))
            left, right = compared(pair.begins, frame, (ours, theirs), ports)
            assert left == right, explained(count, leg, why, frame)
            for sent in ours:
                if worth_an_answer(sent):
                    traffic.saw(sent)
