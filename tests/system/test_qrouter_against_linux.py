"""The simulated router and a real Linux namespace get the same frames and must send the same frames.

What Linux chooses freely is put aside first; docs/qrouter-differences.md lists what is, and why.
"""
from __future__ import annotations

import random

import pytest
from comparing import Pair, Ports, compared, explained, worth_an_answer
from linuxrouter import linux_router
from routerkit import Traffic, router

from flows.router import Router

pytestmark = [pytest.mark.system, pytest.mark.shared]

ROUTERS: dict[str, Router] = {
    "snat": router(),
    "small-outside": router(mtus=(1500, 1450, 1400)),
    "small-inside": router(mtus=(1400, 576, 1500)),
    "no-snat": router(snat=False),
    "no-outside": router(outside=False),
    "random-ports": router(),  # as Neutron sets it up where iptables can
}
FRAMES = 6000


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
