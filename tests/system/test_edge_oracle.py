"""One oracle, read from the topology alone, against real packets: neither firewall driver ever says otherwise.

Conversations are begun, answered, complained about and gone on with, also after the rules have changed.
"""
from __future__ import annotations

import random

import pytest
from edgekit import play, post
from labkit import cloud

from controller.model.topology import Topology
from tests.edge_cases import Case, Cases, kinds
from tests.edge_clouds import Sketch, changed, sketch
from tests.edge_oracle import Edge

pytestmark = pytest.mark.system

CONVERSATIONS = 300  # in a fresh cloud; half as many new ones after each change
CHANGES = 2


def valid(made: Sketch) -> Topology:
    topology = made.topology()
    assert topology is not None
    return topology


@pytest.mark.parametrize("firewall", ["openvswitch", "iptables_hybrid"])
def test_what_comes_through_is_what_the_topology_says(firewall: str, seed: int) -> None:
    agree(firewall, random.Random(f"{seed}"))  # the same for both drivers


def test_nothing_that_the_switch_has_cached_outlives_a_change() -> None:
    """In this cloud a port loses its groups and gets others while the same packets go on.

    The userspace datapath of Open vSwitch 3.1.0 goes on with what it did before if nobody empties its cache.
    """
    agree("openvswitch", random.Random("100"))


def agree(firewall: str, pick: random.Random) -> None:
    """A random cloud, and changes of it, do what the topology says."""
    made = sketch(pick, firewall)
    edge, cases = Edge(valid(made)), Cases(valid(made), pick)
    now = cases.some(CONVERSATIONS)
    assert len(now) >= CONVERSATIONS
    with cloud(made.text()) as running, post(running) as mail:
        wrong, later = play(mail, edge, now)
        assert not wrong, _told(wrong, now, made)
        for _ in range(CHANGES):
            made = changed(pick, made)
            running.file.write_text(made.text())
            running.tunbridge("apply", str(running.file))
            running.in_sync()
            edge.change(valid(made))
            cases.change(valid(made))
            now = later + cases.some(CONVERSATIONS // 2)
            wrong, later = play(mail, edge, now)
            assert not wrong, _told(wrong, now, made)


def _told(wrong: list[str], now: list[Case], made: Sketch) -> str:
    shown = "\n".join(wrong[:40])
    return f"{len(wrong)} of {kinds(now)}:\n{shown}\n\n{made.text()}"
