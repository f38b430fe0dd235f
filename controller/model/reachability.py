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
    """A subnet joins its ports; once a router joins subnets and networks to each other, that is decided here, too."""
    return source.subnet == target.subnet
