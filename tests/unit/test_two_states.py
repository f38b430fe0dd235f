"""Between two states of a switch: each write takes it from one whole intent to the next, and whoever is on its way
through the tables meanwhile is let through by no filter that would not have done so before or after.

A packet that connection tracking has looked at goes on in the tables as they are by then; so its first half may be of
the old ones, and its second half of the new ones.
"""
from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from controller.model import placement
from controller.model.placement import Seen
from controller.model.topology import Port, Topology
from controller.switch.intent import Piece
from controller.switch.session import Session
from flows import fields as f
from flows.compile import compile_host
from flows.evaluate import Pipeline, Step
from flows.fields import tagged
from flows.flow import Flow, Output, Track, flow, when
from flows.packet import Packet, icmp_echo, tcp, udp
from flows.tables import BR_INT, DELIVER, Table
from flows.tracking import Conntrack
from tests.clouds import parse
from tests.edge_clouds import EDGES, Sketch, changed, sketch
from tests.model_switch import ModelSwitch

HOSTS = ("c1", "c2")
PACKETS = 15  # for each edit and host


# ---- one edit

def edited(pick: random.Random, before: Sketch) -> Sketch:
    """Another rule or another group of one port, or a VM less; or the other way round."""
    after = changed(pick, before)
    match pick.randrange(3):
        case 0:
            name = pick.choice(sorted(before.rules))
            one = replace(before, rules={**before.rules, name: after.rules[name]})
        case 1:
            place = pick.randrange(len(before.cards))
            cards = list(before.cards)
            cards[place] = replace(cards[place], groups=tuple(sorted(pick.sample(sorted(before.rules), 2))))
            one = replace(before, cards=tuple(cards))
        case _:
            gone = pick.randrange(len(before.cards))
            one = replace(before, cards=before.cards[:gone] + before.cards[gone + 1:])
    return one if one.topology() is not None else edited(pick, before)


class Ways:
    """br-int of one host before an edit and after it, and all its ports."""

    def __init__(self, whole: Topology, old: Topology, new: Topology, host: str) -> None:
        self.seen = placement.imagined(whole, host)
        self.old, self.new = (Pipeline(BR_INT, compile_host(placement.place(one, host, self._of(one, host)))[BR_INT])
                              for one in (old, new))

    def _of(self, topology: Topology, host: str) -> Seen:
        carried = {network.name for network in placement.carried(topology, host)}
        return replace(self.seen, vlans={name: vlan for name, vlan in self.seen.vlans.items() if name in carried})

    def mixed(self, packet: Packet, in_port: int, known: Conntrack) -> Iterator[tuple[set[int], set[int]]]:
        """(where it leaves, where its filters let it) for each place where the old tables may give way to the new."""
        before = self.old.walk(packet, in_port, known)
        either = _ports(before.outputs) | _ports(self.new.walk(packet, in_port, known).outputs)
        for way in before.ways:
            for place, step in enumerate(way.steps):
                onward = _tracked(step)
                if onward is not None and place >= way.shared:
                    after = self.new.walk(step.after, in_port, known, onward)
                    delivered = next((one for one in reversed(way.steps[:place]) if one.table == DELIVER), None)
                    # Once it has left its VM as the old rules say, the new ones have a say where it enters another.
                    entered = delivered and self.new.walk(delivered.before, in_port, known, DELIVER)
                    yield _ports(after.outputs), either | (_ports(entered.outputs) if entered else set())


def _tracked(step: Step) -> Table | None:
    actions = step.flow.actions if step.flow else ()
    return next((action.table for action in actions if isinstance(action, Track)), None)


def _ports(outputs: tuple[tuple[int, Packet], ...]) -> set[int]:
    return {port for port, _ in outputs}


def packets(pick: random.Random, topology: Topology, host: str, seen: Seen) -> Iterator[tuple[Packet, int]]:
    """Packets into br-int, and by which port: of VMs here for any of their network, and of others for VMs here."""
    by_network = [ports for ports in topology.ports_by_network.values() if len({one.host for one in ports}) > 1]
    while True:
        source, target = pick.sample(pick.choice(by_network), 2)
        if source.ip.version != target.ip.version or host not in (source.host, target.host):
            continue
        packet = _said(pick, source, target)
        if source.host == host:
            yield packet, seen.ports[BR_INT][source.device]
        else:
            yield packet.set(tagged(seen.vlans[source.network])), seen.ports[BR_INT]["patch-tun"]


def _said(pick: random.Random, source: Port, target: Port) -> Packet:
    ends = (source.mac, source.ip), (pick.choice([target.mac] * 9 + [f.BROADCAST]), target.ip)
    ports = pick.choice(EDGES), pick.choice(EDGES)
    return pick.choice([lambda: tcp(*ends, ports), lambda: udp(*ends, ports), lambda: icmp_echo(*ends)])()


@pytest.mark.parametrize("run", range(2))
def test_who_is_on_his_way_during_an_edit_meets_old_or_new_rules_and_no_looser_ones(seed: int, run: int) -> None:
    number = seed * 100 + run
    pick = random.Random(number)
    print(f"seed {number}")
    passed = stopped = 0
    for _ in range(3):
        one = sketch(pick, "openvswitch")
        other = edited(pick, one)
        whole = max((one, other), key=lambda each: len(each.cards))
        old, new = (parse(each.text()) for each in pick.sample((one, other), 2))
        for host in HOSTS:
            ways = Ways(parse(whole.text()), old, new, host)
            found = packets(pick, parse(whole.text()), host, ways.seen)
            for packet, in_port in (next(found) for _ in range(PACKETS)):
                known = ways.old.walk(packet, in_port).conntrack if pick.random() < 0.3 else Conntrack()
                for left, allowed in ways.mixed(packet, in_port, known):
                    assert left <= allowed, f"{packet} by {in_port} on {host} of\n{one.text()}\nand\n{other.text()}"
                    passed, stopped = passed + bool(left), stopped + (not left)
    assert passed and stopped


# ---- one write

def row(number: int, action: int) -> Flow:
    return flow(DELIVER, "unknown", when(tagged(number)), Output(action), origin="test", why="test")


@cache
def piece(rows: tuple[tuple[int, int], ...]) -> Piece:
    return Piece(tuple(row(*one) for one in rows))


@pytest.mark.parametrize("run", range(20))
def test_each_write_takes_a_switch_from_one_whole_intent_to_another(seed: int, run: int) -> None:
    """Whatever changes while a write is under way: what a switch holds was once all that it should."""
    pick = random.Random(seed * 100 + run)
    session, switch = Session("c1", BR_INT), ModelSwitch(1, BR_INT, {})

    def change() -> dict[str, Piece]:
        """Names own rows, so that no two pieces want the same match."""
        return {name: piece(tuple((number, pick.randrange(1, 3)) for number in range(base, base + 4)
                                  if pick.random() < 0.6))
                for base, name in ((1, "a"), (5, "b"), (9, "c")) if pick.random() < 0.7}

    session.flows_read([])
    plan, intent = session.intend_all({"a": piece(()), "b": piece(()), "c": piece(())}), session.want
    for _ in range(30):
        if plan is None or pick.random() < 0.5:
            due = session.intend(change())
            assert due is None or plan is None, "one write at a time"
        else:
            switch.obey(plan)
            assert dict(switch.rows.values()) == intent
            plan, due = None, session.committed()
        if due:
            plan, intent = due, session.want
