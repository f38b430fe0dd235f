"""The golden topologies and what their hosts shall hold, for every test that wants whole clouds."""
from __future__ import annotations

from pathlib import Path

from controller.model import placement, reading
from controller.model.topology import Topology
from flows import compile as compiler
from flows.flow import Flow

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
CASES = sorted(path.stem for path in GOLDEN.glob("*.yaml"))


def golden(case: str) -> Topology:
    found = reading.load(GOLDEN / f"{case}.yaml")
    assert found.topology is not None, [str(problem) for problem in found.problems]
    return found.topology


def parse(text: str) -> Topology:
    found = reading.parse(text, "topology.yaml")
    assert found.topology is not None, [str(problem) for problem in found.problems]
    return found.topology


def tables(cloud: Topology, host: str) -> dict[str, tuple[Flow, ...]]:
    """What a host's bridges shall hold, with the numbers of a host that has just been built."""
    return compiler.compile_host(placement.place(cloud, host, placement.imagined(cloud, host)))
