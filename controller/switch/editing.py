"""What another topology makes to be computed anew: on any host, then on one. Nothing that is as it was is touched."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.model.differing import Speaker
from controller.model.succession import Succession
from controller.model.topology import Topology
from controller.switch import pieces
from controller.switch.changes import (
    changed_filters,
    changed_groups,
    changed_networks,
    changed_routers,
    mappings,
    moved_speakers,
    neighbourhood,
    refiltered_networks,
    style,
    touched_networks,
    touched_routers,
)
from controller.switch.hoststate import HostState
from controller.switch.pieces import Work
from flows.host import SimulatedRouter


@dataclass
class Counters:
    """Work done for all hosts since the start; equal inputs give equal counts."""

    edits: int = 0  # topologies that came into force
    hosts: int = 0  # that were looked at for them
    networks: int = 0  # computed anew on some host, each once for an edit or a change of ports


@dataclass(frozen=True)
class Edit:
    """One topology gives way to another. Only these hosts, networks and routers can differ in what is done for them."""

    old: Topology
    new: Topology
    everything: bool
    base: bool  # what belongs to no network and no router, on every host
    networks: frozenset[str]  # in their ports and their ways
    filtered: frozenset[str]  # in their security groups; all of the above are among them
    routers: frozenset[str]
    hosts: tuple[str, ...]  # by name
    moved: tuple[Speaker, ...]  # as they are now


def edit(step: Succession) -> Edit:
    """What differs, as far as it is the same for every host."""
    old, new = step.old, step.new
    everything, touched = style(old) != style(new), touched_networks(step)
    networks = set(new.networks) if everything else changed_networks(step, touched)
    filtered = networks | refiltered_networks(step)
    routers = touched_routers(step, touched)
    base = everything or (bool(step.difference.hosts) and neighbourhood(old) != neighbourhood(new))
    hosts = set(new.hosts) if base or step.difference.sweeping else _hosts(step, touched | filtered, routers)
    return Edit(old, new, everything, base, frozenset(networks), frozenset(filtered), frozenset(routers),
                tuple(sorted(hosts)), tuple(moved_speakers(step)))


def _hosts(step: Succession, networks: set[str], routers: set[str]) -> set[str]:
    """The hosts that have, or had, anything to do with these."""
    found = {*step.difference.hosts, *step.ports.hosts, *step.legs.hosts, *step.servers.hosts}
    for topology in (step.old, step.new):
        found.update(*(topology.whereabouts.carriers(name) for name in networks))
        found.update(topology.routers[name].host for name in routers if name in topology.routers)
    return found


def work(done: Edit, state: HostState, vlans: Mapping[str, int], routers: Mapping[str, SimulatedRouter]) -> Work:
    """What a host has to compute. `vlans`: of before the edit; `routers`: its simulated ones, as they shall be."""
    old, new, host = done.old, done.new, state.name
    carried, before = state.carried(new), state.routing.placed
    filtered, came = done.filtered & carried, carried - vlans.keys()
    rules, members = changed_groups(old, new, host, filtered)
    gone = [piece for name in vlans if name not in carried for piece in pieces.of_network(name)]
    return Work(
        base=done.base or mappings(old, host) != mappings(new, host),
        networks=(done.networks & carried) | changed_filters(old, new, host, filtered),
        rules=rules | came, members=members | came,
        routers=[routers[name] for name in sorted(changed_routers(before, routers))],
        gone=[*gone, *(pieces.of_router(name) for name in before if name not in routers)])
