"""Which pairs are asked, and the document a program reads."""
from __future__ import annotations

from dataclasses import replace

import pytest

from controller.host.campaign import Leak
from controller.model import reading
from controller.model.reachability import all_pairs, expected_pairs
from controller.model.topology import Topology
from controller.tools.errors import MISSING, Refusal
from controller.tools.reach import Answer, Reach, Sample, chosen, chosen_targets, endpoints, unexplained
from tests.clouds import ROOT


@pytest.fixture
def cloud() -> Topology:
    vms = "".join(f"  vm{n}: {{host: one, network: net{n % 3}, ip: 10.0.0.{10 + n}}}\n" for n in range(9))
    networks = "".join(f"  net{n}: {{tunnel_id: {n + 1}, subnets: {{sub{n}: {{cidr: 10.0.0.0/24}}}}}}\n"
                       for n in range(3))
    read = reading.parse("cloud: test\nunderlay: {cidr: 192.0.2.0/24}\nhosts:\n  one: {tunnel_ip: 192.0.2.1}\n"
                         f"networks:\n{networks}vms:\n{vms}", "topology.yaml")
    assert read.topology is not None, read.problems
    return read.topology


@pytest.mark.parametrize("size", [1, 2, 10, 36, 60, 71])
def test_a_sample_has_its_size_and_half_of_it_is_allowed_as_far_as_there_are_that_many(
        cloud: Topology, size: int, seed: int) -> None:
    pairs = chosen(cloud, Sample(size, seed))
    allowed = expected_pairs(cloud)
    assert len(set(pairs)) == size
    assert len(allowed) == 18
    assert sum(pair in allowed for pair in pairs) == max(min(18, (size + 1) // 2), size - (72 - 18))
    assert chosen(cloud, Sample(size, seed)) == pairs


def test_a_sample_as_large_as_the_cloud_is_the_cloud(cloud: Topology) -> None:
    assert chosen(cloud, Sample(72, 1)) == chosen(cloud, None) == all_pairs(cloud)


def test_a_vm_that_is_not_in_the_lab_is_named_with_the_cure(cloud: Topology) -> None:
    with pytest.raises(Refusal, match=r"^vm2: not in the running lab; .*tunbridge lab up$") as refusal:
        endpoints(cloud, {f"vm{n}": 1 for n in range(9) if n != 2})
    assert refusal.value.code == MISSING


def test_the_document_is_what_programs_rely_on() -> None:
    answers = (Answer("a", "b", "10.0.0.2", True, True), Answer("b", "a", "10.0.0.1", False, True))
    assert Reach(answers, (Leak("b", "a", "a"),), {"a": "x", "b": "y"}).document() == {
        "ok": False,
        "pairs": [{"src": "a", "dst": "b", "address": "10.0.0.2", "expected": True, "observed": True},
                  {"src": "b", "dst": "a", "address": "10.0.0.1", "expected": False, "observed": True}],
        "targets": [],
        "leaks": [{"src": "b", "dst": "a", "seen_at": "a"}],
    }
    sampled = Reach(answers[:1], (), {"a": "x", "b": "y"}, Sample(1, 7)).document()
    assert sampled["ok"] is True
    assert sampled["sample"] == {"size": 1, "of": 2, "seed": 7}


def test_a_sample_of_the_demo_asks_as_many_targets_half_of_them_allowed(seed: int) -> None:
    demo = reading.load(ROOT / "topology.yaml").topology
    assert demo is not None
    everything = chosen_targets(demo, None)
    sampled = chosen_targets(demo, Sample(4, seed))
    assert len(set(sampled)) == 4
    assert set(sampled) <= set(everything)
    assert sum(target.expected for target in sampled) == 2
    assert chosen_targets(demo, Sample(4, seed)) == sampled


def test_what_was_asked_and_is_no_port_stands_beside_the_pairs() -> None:
    found = Reach((), (), {"a": "x"}, None, (Answer("a", "internet", "203.0.113.1", True, False),))
    assert not found.ok
    assert found.document()["targets"] == [
        {"src": "a", "dst": "internet", "address": "203.0.113.1", "expected": True, "observed": False}]


ONE_WAY = """
cloud: one-way
underlay: {cidr: 192.0.2.0/24}
hosts: {n: {tunnel_ip: 192.0.2.1, role: network}}
networks:
  blue: {tunnel_id: 1, subnets: {blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  green: {tunnel_id: 2, subnets: {green-subnet: {cidr: 10.0.2.0/24}}}
  grey: {tunnel_id: 3, subnets: {grey-subnet: {cidr: 10.0.3.0/24}}}
routers: {r: {host: n, interfaces: [blue-subnet, {subnet: green-subnet, ip: 10.0.2.1}]}}
vms:
  blue1: {host: n, network: blue, ip: 10.0.1.11}
  green1: {host: n, network: green, ip: 10.0.2.11}
  grey1: {host: n, network: grey, ip: 10.0.3.11}
"""


def test_what_a_router_brings_is_no_leak_though_no_answer_comes_back() -> None:
    cloud = reading.parse(ONE_WAY, "topology.yaml").topology
    assert cloud is not None
    assert not expected_pairs(cloud), "green has no gateway, so nobody there can answer"
    routed = Leak("blue1", "green1", "green1", routed=True)
    elsewhere = Leak("blue1", "green1", "grey1", routed=True)
    by_force = Leak("blue1", "green1", "green1")
    assert unexplained(cloud, (routed,), ()) == ()
    assert unexplained(cloud, (routed, elsewhere, by_force), ()) == (replace(elsewhere, routed=False), by_force)


def test_a_leak_alone_is_not_ok() -> None:
    assert not Reach((), (Leak("a", None, "b"),), {}).ok
