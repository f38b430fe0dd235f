"""Two readings of what security groups mean, ours and the tests', agree on every packet that chance thinks of."""
from __future__ import annotations

import random

import pytest

from controller.model.filtering import Filters
from controller.model.protocols import Datagram
from controller.model.topology import Topology
from tests.edge_cases import Cases, kinds
from tests.edge_clouds import changed, sketch
from tests.edge_oracle import Edge, can_begin, free
from tests.edge_packets import ICMP, ICMPV6, SCTP, TCP, UDP, Packet

CLOUDS, CONVERSATIONS = 9, 120


def datagram(packet: Packet) -> Datagram:
    ported, icmp = packet.protocol in (TCP, UDP, SCTP), packet.protocol in (ICMP, ICMPV6)
    return Datagram(version=packet.version, protocol=packet.protocol, source=packet.source,
                    destination=packet.destination, port=packet.dport if ported else None,
                    source_port=packet.sport if ported else None, icmp_type=packet.icmp_type if icmp else None,
                    icmp_code=packet.icmp_code if icmp else None)


def disagreements(topology: Topology, pick: random.Random) -> list[str]:
    """Every step of random cases, judged as a beginning at both ends."""
    filters, meaning, found = Filters(topology), Edge(topology).meaning, []
    for case in Cases(topology, pick).some(CONVERSATIONS):
        for step in case.steps:
            for name, out in ((step.source, True), *((target, False) for target in step.targets)):
                port = meaning.ports[name]
                ours = (filters.leaves if out else filters.enters)(port, datagram(step.packet))
                begins = step.packet.protocol == TCP or can_begin(step.packet)  # a Datagram has no TCP flags
                theirs = (not meaning.filtered(port) or free(port, step.packet, out=out)
                          or (begins and meaning.begins(port, step.packet, out=out)))
                if ours.passes != theirs:
                    found.append(f"{step.packet} {'out of' if out else 'into'} {name}: {ours}")
    return found


@pytest.mark.parametrize("firewall", ["openvswitch", "iptables_hybrid", "none"])
def test_both_readings_say_the_same_of_thousands_of_packets(firewall: str, seed: int) -> None:
    pick = random.Random(f"{seed} {firewall}")
    for _ in range(CLOUDS // 3):
        made = sketch(pick, firewall)
        for topology in (made.topology(), changed(pick, made).topology()):
            assert topology is not None
            assert disagreements(topology, pick) == [], made.text()


def test_half_of_the_conversations_begin(seed: int) -> None:
    pick = random.Random(seed)
    topology = sketch(pick, "openvswitch").topology()
    assert topology is not None
    cases = Cases(topology, pick).some(200)
    edge = Edge(topology)
    begun = sum(bool(edge.arrives(step.source, edge.meaning.ports[step.source].mac, step.packet, list(step.targets)))
                for step in (case.steps[0] for case in cases))
    assert len(cases) == 200
    assert 40 < begun < 160, kinds(cases)
