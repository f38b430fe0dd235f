"""Who may reach whom, read from the topology alone.

This is the yardstick that observations, traces and proofs are held against, so it knows nothing of flows.
"""
from __future__ import annotations

from itertools import permutations

from controller.model.topology import Port, Topology

Pair = tuple[str, str]  # the names of a source port and a destination port


def all_pairs(topology: Topology) -> tuple[Pair, ...]:
    """Every ordered pair of different VM ports, in the order of the file."""
    return tuple((source.name, target.name) for source, target in permutations(topology.ports(), 2))


def expected_pairs(topology: Topology) -> frozenset[Pair]:
    """The pairs whose source shall reach the destination's address."""
    pairs = permutations(topology.ports(), 2)
    return frozenset((source.name, target.name) for source, target in pairs if _are_joined(source, target))


def _are_joined(source: Port, target: Port) -> bool:
    """One network joins its ports; what joins networks to each other is decided here as well, once a router does."""
    return source.network == target.network and source.ip.version == target.ip.version
