"""Random clouds with routers of both drivers and an outside: a trace ends as the topology alone says.

One side computes flows, walks packets through their tables and runs the routed hop; the other knows only addresses.
"""
from __future__ import annotations

import random

import pytest

from controller.model import reading
from controller.model.reachability import INTERNET, all_pairs, expected_pairs, expected_targets
from controller.model.topology import Topology
from controller.tools.trace import trace
from tests.edge_clouds import sketch
from tests.random_clouds import random_cloud

CLOUDS, PAIRS, TARGETS = 8, 8, 6
FILTERED = 3  # clouds with security groups, whose tables are long


def clouds(pick: random.Random) -> list[Topology]:
    found: list[Topology] = []
    while len(found) < CLOUDS:
        cloud = reading.parse(random_cloud(pick, ("simulated", "namespace"), outside=True), "topology.yaml").topology
        found += [cloud] if cloud is not None else []
    return found


def test_journeys_between_vms_end_as_the_topology_says(seed: int) -> None:
    pick = random.Random(seed)
    for cloud in clouds(pick):
        pairs, expected = all_pairs(cloud), expected_pairs(cloud)
        for pair in pick.sample(pairs, min(PAIRS, len(pairs))):
            journey = trace(cloud, *pair)
            assert (journey.verdict == "delivered") == (pair in expected), (pair, journey.reason)


def test_journeys_to_gateways_floating_ips_and_the_outside_end_as_the_topology_says(seed: int) -> None:
    pick = random.Random(seed)
    for cloud in clouds(pick):
        targets = [target for target in expected_targets(cloud) if target.source != INTERNET]
        for target in pick.sample(targets, min(TARGETS, len(targets))):
            journey = trace(cloud, target.source, str(target.address))
            assert (journey.verdict != "dropped") == target.expected, (target, journey.reason)


@pytest.mark.parametrize("firewall", ["iptables_hybrid", "openvswitch"])
def test_journeys_between_vms_with_security_groups_end_as_the_topology_says(seed: int, firewall: str) -> None:
    pick, judged = random.Random(seed), 0
    while judged < FILTERED:
        cloud = sketch(pick, firewall).topology()
        if cloud is None:
            continue
        judged += 1
        pairs, expected = all_pairs(cloud), expected_pairs(cloud)
        for pair in pick.sample(pairs, min(PAIRS, len(pairs))):
            journey = trace(cloud, *pair)
            assert (journey.verdict == "delivered") == (pair in expected), (pair, journey.reason)
