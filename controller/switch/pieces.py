"""The parts of what a host's bridges shall hold: the base, two for each network, one for each simulated router.

What security groups say is a part of its own: a rule or a member that changes leaves every port's flows alone.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controller.model import placement, routing
from controller.model.topology import Topology
from controller.switch import meters
from controller.switch.hoststate import HostState
from controller.switch.session import Piece
from flows import compile as compiler
from flows.flow import Flow
from flows.host import Meter, SimulatedRouter
from flows.tables import BR_INT

BASE = ""  # the piece that belongs to no network and no router
Pieces = dict[str, dict[str, Piece]]  # name of the piece -> bridge -> what it is there


@dataclass(frozen=True)
class Work:
    """What is to be computed anew for one host, and which pieces are gone."""

    base: bool = False
    networks: Iterable[str] = ()
    groups: Iterable[str] = ()  # networks whose security groups are
    routers: Iterable[SimulatedRouter] = ()
    gone: Iterable[str] = ()


def of_groups(network: str) -> str:
    """The name of the piece of a network's security groups."""
    return f"groups:{network}"


def of_network(name: str) -> tuple[str, str]:
    """The names of all pieces of a network."""
    return name, of_groups(name)


def of_router(name: str) -> str:
    """The name of a router's piece; no network can have it."""
    return f"router:{name}"


def compiled(topology: Topology, state: HostState, work: Work) -> Pieces:
    """The pieces that are to be computed, of every bridge of the host."""
    bare = placement.place_bare(topology, state.name, state.seen)
    pieces = {}
    if work.base:
        pieces[BASE] = _piece(topology, state, compiler.compile_base(bare), (meters.EVERYTHING,))
    networks, groups = set(work.networks), set(work.groups)
    for name in sorted(networks | groups):
        network = placement.place_network(topology, state.name, name, state.seen)
        if name in networks:
            pieces[name] = _piece(topology, state, compiler.compile_network(bare, network))
        if name in groups:
            pieces[of_groups(name)] = _piece(topology, state, compiler.compile_groups(bare, network))
    for router in work.routers:
        pieces[of_router(router.router.name)] = _piece(topology, state, compiler.compile_router(bare, router),
                                                       meters.of_router(router))
    return pieces


def _piece(topology: Topology, state: HostState, flows: Iterable[Flow],
           metered: tuple[Meter, ...] = ()) -> dict[str, Piece]:
    found = compiler.by_bridge(flows, topology.hosts[state.name].datapath_ids)
    return {bridge: Piece(mine, metered if bridge == BR_INT else ()) for bridge, mine in found.items()}


def placed_routers(topology: Topology, state: HostState) -> dict[str, SimulatedRouter]:
    """The simulated routers of a host by name, all numbers allotted."""
    vlans = state.vlans or {}
    return {name: routing.place_router(topology, name, vlans) for name in placement.simulated(topology, state.name)}
