"""Two independent answers to one question: who reaches whom in random clouds, with routers and physical networks."""
from __future__ import annotations

import random
from itertools import permutations

import pytest

from controller.model.reachability import INTERNET, expected_pairs, expected_targets
from controller.model.topology import Topology
from tests import oracle, routed_oracle
from tests.clouds import parse
from tests.random_clouds import random_cloud

RUNS = range(30)


@pytest.fixture
def cloud(seed: int, request: pytest.FixtureRequest) -> Topology:
    text = random_cloud(random.Random(f"{seed} {request.node.name}"), ("simulated", "namespace"), outside=True,
                        edge=("", "openvswitch", "iptables_hybrid")[request.node.callspec.params["run"] % 3])
    print(text)  # shown only if the test fails
    return parse(text)


@pytest.mark.parametrize("run", RUNS)
def test_both_know_the_same_pairs(cloud: Topology, run: int) -> None:
    told = {(one.name, other.name) for one, other in permutations(cloud.ports(), 2)
            if oracle.reaches(cloud, one, other)}
    assert expected_pairs(cloud) == told


@pytest.mark.parametrize("run", RUNS)
def test_both_know_the_same_gateways_floating_ips_and_internet(cloud: Topology, run: int) -> None:
    ports = {port.name: port for port in cloud.ports()}
    for target in expected_targets(cloud):
        address = str(target.address)
        if target.source == INTERNET:
            end = routed_oracle.calls(cloud, "public", "203.0.113.1", address)
        else:
            end = routed_oracle.asks(cloud, ports[target.source], address)
        assert (end == wanted(cloud, target.name, address)) == target.expected, f"{target}: {end}"
        assert target.seen_by == (end.removeprefix("port ") if end.startswith("port ") and target.expected else None)


def wanted(cloud: Topology, name: str, address: str) -> str:
    if name == INTERNET:
        return INTERNET
    for one in cloud.floating_ips:
        if str(one.address) == address:
            card = next(port for port in cloud.vms[one.vm].ports if port.network == one.network)
            return f"port {card.name}"
    return f"router {name.split(' ')[0]}"


def test_the_random_clouds_hold_what_is_to_be_told_apart(seed: int) -> None:
    met: set[str] = set()
    for run in range(120):
        found = parse(random_cloud(random.Random(f"{seed} {run}"), ("simulated", "namespace"), outside=True,
                                   edge="openvswitch"))
        met |= {f"{target.name.split(' ')[0]} {target.expected}" for target in expected_targets(found)}
        pairs = expected_pairs(found)
        met |= {"routed" for one, other in permutations(found.ports(), 2)
                if (one.name, other.name) in pairs and one.subnet != other.subnet}
        met |= {"filtered" for one, other in permutations(found.ports(), 2)
                if (one.name, other.name) not in pairs and one.subnet == other.subnet}
        met |= {"one way" for one, other in pairs if (other, one) not in pairs}
    assert {"routed", "filtered", "one way"} <= met
    assert {"floating True", "floating False", "internet True", "internet False"} <= met
