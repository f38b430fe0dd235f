"""The parts of what a host's bridges shall hold: the base, three for each network, one for each simulated router.

What the rules of security groups say and who is a member are parts of their own: a rule or a member that changes
leaves the flows of ports alone, and a rule those of members. Of each network, what br-int holds beside its ports rarely
depends on who is elsewhere: then it is kept as it was.
"""
from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Set
from dataclasses import dataclass, replace

from controller.model import placement, routing, securing
from controller.model.topology import Topology
from controller.switch import meters
from controller.switch.hoststate import HostState, PortRows
from controller.switch.intent import Piece
from flows import br_ex, br_int, br_tun, delivery
from flows import compile as compiler
from flows.host import Host, Meter, Network, SimulatedRouter, Tunnels
from flows.neighbours import Elsewhere
from flows.security import OPENVSWITCH
from flows.sheet import Part
from flows.tables import BR_INT, BR_TUN

BASE = ""  # the piece that belongs to no network and no router
Pieces = dict[str, dict[str, Piece]]  # name of the piece -> bridge -> what it is there


@dataclass(frozen=True)
class Work:
    """What is to be computed anew for one host, and which pieces are gone."""

    base: bool = False
    networks: Iterable[str] = ()
    rules: Iterable[str] = ()  # networks for which rules are
    members: Iterable[str] = ()  # networks for which the members of remote groups are
    routers: Iterable[SimulatedRouter] = ()
    gone: Iterable[str] = ()


def of_rules(network: str) -> str:
    """The name of the piece of the rules that hold on a network."""
    return f"rules:{network}"


def of_members(network: str) -> str:
    """The name of the piece of the remote groups that these name."""
    return f"members:{network}"


def of_network(name: str) -> tuple[str, ...]:
    """The names of all pieces of a network."""
    return name, of_rules(name), of_members(name)


def of_router(name: str) -> str:
    """The name of a router's piece; no network can have it."""
    return f"router:{name}"


def compiled(topology: Topology, state: HostState, work: Work, bridges: Collection[str]) -> Pieces:
    """The pieces that are to be computed, of these bridges of the host."""
    bare = placement.place_bare(topology, state.name, state.seen, base=work.base)
    pieces = {}
    if work.base:
        pieces[BASE] = _piece(bridges, _base(bare, bridges), (meters.EVERYTHING,))
    placed = state.ahead.networks if state.ahead and state.ahead.fits(topology, state.seen) else {}
    for name in sorted(work.networks):
        network = placed.get(name) or placement.place_network(topology, state.name, name, state.seen)
        pieces[name] = _piece(bridges, _of_network(state, bare, network, bridges))
    return pieces | _filtering(topology, state, bare, work) if BR_INT in bridges else pieces


def _base(bare: Host, bridges: Collection[str]) -> Iterator[Part]:
    """Of these bridges; perhaps of others of their kind, too."""
    if BR_INT in bridges:
        yield from br_int.base(bare)
    if BR_TUN in bridges:
        yield from br_tun.base(bare)
    yield from br_ex.base(bare)


def _of_network(state: HostState, bare: Host, network: Network, bridges: Collection[str]) -> Iterator[Part]:
    """The same."""
    if BR_INT in bridges:
        yield from _of_ports(state, bare, network)
        yield from _ways(state, bare, network)
    if BR_TUN in bridges:
        ahead = state.ahead if state.ahead and state.ahead.networks.get(network.name) is network else None
        yield from ahead.tunnels[network.name] if ahead else br_tun.network(bare, network)
    yield from br_ex.network(network)


def _filtering(topology: Topology, state: HostState, bare: Host, work: Work) -> Pieces:
    """What only br-int has: rules, members and routers."""
    if bare.firewall == OPENVSWITCH:
        pieces = _obeyed(topology, state, bare, work)
    else:
        pieces = {name: {BR_INT: Piece(())} for name in (*map(of_rules, work.rules), *map(of_members, work.members))}
    for router in work.routers:
        pieces[of_router(router.router.name)] = _piece((BR_INT,), compiler.compile_router(bare, router),
                                                       meters.of_router(router))
    return pieces


def _obeyed(topology: Topology, state: HostState, bare: Host, work: Work) -> Pieces:
    """Rules and members, where Open vSwitch itself filters."""
    pieces: Pieces = {}
    for name in sorted(work.rules):
        network = replace(_filtered(topology, state, name), remote_groups=())
        pieces[of_rules(name)] = _piece((BR_INT,), compiler.compile_groups(bare, network))
    for name in sorted(work.members):
        network = replace(_filtered(topology, state, name), profiles=())
        pieces[of_members(name)] = _piece((BR_INT,), compiler.compile_groups(bare, network))
    return pieces


def _of_ports(state: HostState, bare: Host, network: Network) -> list[Part]:
    """The flows of a network's ports. Those that are as they were are not computed again: there may be hundreds."""
    before = state.compiled.get(network.name, {})
    now: PortRows = {}
    for port in network.ports:
        key = port, network.name, network.vlan, bare.firewall, bare.mac_aging_time
        now[key] = before.get(key) or compiler.compile_port(bare, network, port)
    state.compiled[network.name] = now
    return [flow for flows in now.values() for flow in flows]


def _ways(state: HostState, bare: Host, network: Network) -> tuple[Part, ...]:
    """What br-int holds of a network beside its ports; what it held, if nothing of what that is made of is another."""
    here = {mac for one in network.here for mac in one.macs}
    everybody = Elsewhere.of(network.neighbours)
    elsewhere = everybody if delivery.unguarded(network) else everybody.wearing(here)
    made_of = (network.vlan, network.ports, network.devices, network.segment, elsewhere,
               bare.patch_tun, bare.firewall, bare.mac_aging_time)
    before, flows = state.ways.get(network.name, ((), ()))
    if before != made_of:
        flows = tuple(br_int.network(bare, network))
        state.ways[network.name] = made_of, flows
    return flows


def _filtered(topology: Topology, state: HostState, name: str) -> Network:
    """A network of which only the security groups count."""
    profiles, remote_groups = securing.place_groups(topology, state.name, name)
    return Network(name, f"networks.{name}", (state.vlans or {})[name], None, (), Tunnels(), (), profiles=profiles,
                   remote_groups=remote_groups)


def _piece(bridges: Iterable[str], flows: Iterable[Part], metered: tuple[Meter, ...] = ()) -> dict[str, Piece]:
    found: dict[str, list[Part]] = {bridge: [] for bridge in bridges}
    for flow in flows:
        if (mine := found.get(flow.table.bridge)) is not None:
            mine.append(flow)
    return {bridge: Piece(tuple(mine), metered if bridge == BR_INT else ()) for bridge, mine in found.items()}


def placed_routers(topology: Topology, state: HostState,
                   touched: Set[str] | None = None) -> dict[str, SimulatedRouter]:
    """The simulated routers of a host by name, all numbers allotted.

    None but those `touched` can be others than before; without it, all can.
    """
    vlans, before = state.vlans or {}, {} if touched is None else state.routing.placed
    return {name: before[name] if name in before and name not in (touched or ()) else
            routing.place_router(topology, name, vlans) for name in placement.simulated(topology, state.name)}
