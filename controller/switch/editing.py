"""What another topology makes to be computed anew: on any host, then on one. Nothing that is as it was is touched."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.model.topology import Topology
from controller.switch import pieces
from controller.switch.changes import (
    changed_filters,
    changed_groups,
    changed_networks,
    changed_routers,
    refiltered_networks,
    style,
    surroundings,
)
from controller.switch.hoststate import HostState
from controller.switch.pieces import Work
from flows.host import SimulatedRouter


@dataclass(frozen=True)
class Edit:
    """One topology gives way to another. Only these networks can differ in what any host does for them."""

    old: Topology
    new: Topology
    everything: bool
    networks: frozenset[str]  # in their ports and their ways
    filtered: frozenset[str]  # in their security groups; all of the above are among them


def edit(old: Topology, new: Topology) -> Edit:
    """What differs, as far as it is the same for every host."""
    everything = style(old) != style(new)
    networks = set(new.networks) if everything else changed_networks(old, new)
    return Edit(old, new, everything, frozenset(networks), frozenset(networks | refiltered_networks(old, new)))


def work(done: Edit, state: HostState, vlans: Mapping[str, int], routers: Mapping[str, SimulatedRouter]) -> Work:
    """What a host has to compute. `vlans`: of before the edit; `routers`: its simulated ones, as they shall be."""
    old, new, host = done.old, done.new, state.name
    carried, before = state.carried(new), state.routing.placed
    filtered, came = done.filtered & carried, carried - vlans.keys()
    rules, members = changed_groups(old, new, host, filtered)
    gone = [piece for name in vlans if name not in carried for piece in pieces.of_network(name)]
    return Work(
        base=done.everything or surroundings(old, host) != surroundings(new, host),
        networks=(done.networks & carried) | changed_filters(old, new, host, filtered),
        rules=rules | came, members=members | came,
        routers=[routers[name] for name in sorted(changed_routers(before, routers))],
        gone=[*gone, *(pieces.of_router(name) for name in before if name not in routers)])
