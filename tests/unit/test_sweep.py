"""Conversations judged by rules that have changed, and what the kernel is told about them."""
from __future__ import annotations

import json
import random
import struct

from controller.host import guarding, sweep
from controller.host.sweep import BY_VM, CUT, Conversation, Sets
from controller.model.protocols import begins
from controller.model.topology import Topology
from tests.edge_cases import Cases
from tests.edge_clouds import sketch
from tests.edge_packets import Packet
from tests.unit.test_edge_oracle import datagram

ANY: dict[str, object] = {"to": ["10.0.0.11"], "in": [[4, 6, [80, 80], None, None, None, None]], "out": None}


def conversation(packet: Packet, zone: int, mark: int) -> Conversation:
    return Conversation(zone, mark, str(packet.source), str(packet.destination), packet.protocol,
                        (packet.sport, packet.dport), (packet.icmp_type, packet.icmp_code), packet.version, b"")


def tcp(mark: int, port: int = 80, zone: int = 1) -> Conversation:
    return Conversation(zone, mark, "10.0.0.9", "10.0.0.11", 6, (5, port), (0, 0), 4, b"\x01\x00\x00\x00")


def test_the_judge_says_what_the_topology_means(seed: int) -> None:
    pick = random.Random(seed)
    for _ in range(4):
        made = sketch(pick, "iptables_hybrid")
        topology = made.topology()
        assert topology is not None
        assert disagreements(topology, pick) == [], made.text()


def disagreements(topology: Topology, pick: random.Random) -> list[str]:
    firewalls = {host: made for host in topology.hosts if (made := guarding.firewall(topology, host))}
    sets = {host: Sets({one.name: list(one.members) for one in made.sets}) for host, made in firewalls.items()}
    judges = {one.name: json.loads(one.judge) for made in firewalls.values() for one in made.guarded if one.judge}
    ports, filters, found = {port.name: port for port in topology.ports()}, topology.filters, []
    for case in Cases(topology, pick).some(80):
        for step in case.steps[:1]:
            packet = datagram(step.packet)
            for name, out in ((step.source, True), *((target, False) for target in step.targets)):
                if f"port {name}" not in judges or not begins(packet):
                    continue
                one = conversation(step.packet, 1, BY_VM if out else 0)
                mine = sweep.allowed(one, judges[f"port {name}"], sets[ports[name].host].holds)
                theirs = (filters.leaves if out else filters.enters)(ports[name], packet)
                if mine != theirs.passes:
                    found.append(f"{step.packet} {'out of' if out else 'into'} {name}: {theirs}, judge: {mine}")
    return found


def told(plan: dict[str, object], *known: Conversation) -> list[tuple[int, dict[int, bytes]]]:
    """(message, its attributes) for each thing that the kernel is told."""
    full = {"flush": [], "judge": {}, "sets": {}, **plan}
    return [(struct.unpack_from("=H", message, 4)[0] & 0xFF, dict(sweep.attributes(message[20:])))
            for message in sweep.order(full, list(known))]


def test_who_is_denied_is_marked_once_and_unmarked_when_allowed_again() -> None:
    plan = {"judge": {"1": ANY}}
    ((kind, found),) = told(plan, tcp(0, 81))
    assert (kind, found[8], found[21], found[18]) == (0, b"\0\0\0\1", b"\0\0\0\1", b"\0\1")
    assert told(plan, tcp(CUT, 81)) == [] and told(plan, tcp(0)) == []
    ((_, found),) = told(plan, tcp(CUT))
    assert (found[8], found[21]) == (b"\0\0\0\0", b"\0\0\0\1")


def test_what_a_vm_has_begun_is_judged_by_what_it_may_begin() -> None:
    assert told({"judge": {"1": ANY}}, tcp(BY_VM, 81)) == []
    assert len(told({"judge": {"1": {**ANY, "out": []}}}, tcp(BY_VM))) == 1


def test_zones_that_nobody_asked_about_are_left_alone_and_new_ones_emptied() -> None:
    assert told({"judge": {"1": ANY}}, tcp(0, 81, zone=2)) == []
    ((kind, found),) = told({"flush": [2]}, tcp(0, zone=2), tcp(0, zone=1))
    assert kind == 2 and found[18] == b"\0\2"


def test_a_message_of_the_kernel_is_read_as_it_is_laid_out() -> None:
    """nfnetlink_conntrack.h: a TCP connection of IPv6 in zone 300 that is marked."""
    v6 = bytes(15) + b"\1", bytes(15) + b"\2"
    addresses = sweep.attribute(0x8001, sweep.attribute(3, v6[0]) + sweep.attribute(4, v6[1]))
    ports = sweep.attribute(2, b"\0\5") + sweep.attribute(3, b"\0\x50")
    how = sweep.attribute(0x8002, sweep.attribute(1, b"\x06") + ports)
    message = (b"\x0a\0\0\0" + sweep.attribute(0x8001, addresses + how) + sweep.attribute(8, b"\0\0\0\3")
               + sweep.attribute(18, struct.pack("!H", 300)))
    found = sweep.conversation(message)
    assert found is not None
    assert found[:8] == (300, 3, "::1", "::2", 6, (5, 80), (0, 0), 6) and found.key == addresses + how


def test_a_set_holds_addresses_of_its_prefixes_of_any_length() -> None:
    sets = Sets({"s": ["10.0.0.0/30", "10.0.1.1/32", "fd00::/64"]})
    assert all(sets.holds("s", address) for address in ("10.0.0.3", "10.0.1.1", "fd00::5"))
    assert not any(sets.holds("s", address) for address in ("10.0.0.4", "10.0.1.2", "fd01::5"))
    assert not sets.holds("unknown", "10.0.0.1")
