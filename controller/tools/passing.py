"""The hops of a frame: every device and table on the way of one copy of it, or of all copies, as a tree."""
from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from controller.model import names, placement
from controller.model.names import PATCH_INT, PATCH_TUN
from controller.model.reachability import INTERNET
from controller.model.topology import Port, Topology
from controller.tools.journey import (
    DHCP,
    PATCH,
    PORT,
    PROVIDER,
    QBR,
    QVB,
    ROUTER,
    TABLE,
    TAP,
    TUNNEL,
    UNDERLAY,
    VM,
    WORLD,
    Hop,
    in_line,
)
from controller.tools.lookups import Lookups
from controller.tools.simulate import Cloud
from controller.tools.stops import Crossing, Ending, Gate, Stop, Visit
from flows.evaluate import Step
from flows.packet import Packet
from flows.qrouter import Kept
from flows.tables import BR_INT, BR_TUN

Placed = tuple[Hashable, Hop]  # what makes it the same place on two copies' ways, and the hop


@dataclass(frozen=True)
class Sent:
    """A frame as it was sent."""

    sender: Port | None  # None: the world outside
    packet: Packet
    let_out: str = ""  # why its groups let it out


class Passing:
    """Makes hops of what became of frames in a cloud."""

    def __init__(self, topology: Topology, cloud: Cloud) -> None:
        self._topology = topology
        self._cloud = cloud
        self._lookups = Lookups(topology, cloud)

    def hops(self, sent: Sent, ending: Ending) -> tuple[Hop, ...]:
        """Every hop of one copy, from its sender to its end."""
        return in_line(hop for _, hop in self._way(sent, ending, forks=False))

    def tree(self, sent: Sent, endings: Iterable[Ending]) -> tuple[Hop, ...]:
        """Every hop of all copies, each branch to its end before the next begins."""
        root = _Node()
        for ending in endings:
            node = root
            for key, hop in self._way(sent, ending, forks=True):
                node = node.onward.setdefault(key, _Node(hop))
        return tuple(_flat(root))

    # ---- the whole way

    def _way(self, sent: Sent, ending: Ending, *, forks: bool) -> Iterator[Placed]:
        for hop in self._begin(sent, ending):
            yield (hop.host, hop.device, hop.kind), hop
        stops: list[Stop] = list(ending.stop.way)
        for stop, onward in pairwise(stops):
            if isinstance(stop, Visit):
                yield from self._tables(stop, onward.by, onward.packet, forks)
            for hop in self._joint(stop, onward, onward is ending.stop):
                yield (hop.host, hop.device, hop.kind), hop
        if isinstance(ending.stop, Visit):
            yield from self._tables(ending.stop, ending.by, ending.packet, forks)
            for hop in self._end(ending.stop, ending):
                yield (hop.host, hop.device, hop.kind), hop

    def _begin(self, sent: Sent, ending: Ending) -> Iterator[Hop]:
        first = ending.stop.way[0]
        if sent.sender is not None:
            refused = isinstance(first, Gate)
            said = first.why if isinstance(first, Gate) else sent.let_out
            yield from self._out_of(sent.sender, sent.packet, said, refused=refused)
        else:
            yield Hop(INTERNET, INTERNET, WORLD, "the world outside sends it", sent.packet)
            if isinstance(first, Visit):
                yield Hop(first.host, first.device, PROVIDER, _by(first.bridge), first.packet)

    def _joint(self, stop: Stop, onward: Stop, is_last: bool) -> Iterator[Hop]:
        """What lies between two stops."""
        if isinstance(onward, Gate):
            yield from self._into(onward.port, onward.packet, onward.why, refused=True)
        elif isinstance(stop, Crossing) and isinstance(onward, Visit):
            if stop.is_namespace:
                yield Hop(onward.host, onward.device, PORT, f"into br-int of {onward.host}", onward.packet,
                          owner=stop.passage.router)
        elif isinstance(stop, Visit) and isinstance(onward, Visit):
            yield from self._between(stop, onward)
        elif isinstance(stop, Visit) and isinstance(onward, Crossing):
            yield from _into_router(stop, onward, is_last)

    def _end(self, visit: Visit, ending: Ending) -> Iterator[Hop]:
        if ending.port:
            yield from self._into(ending.port, ending.packet, ending.allowed)
        elif ending.server:
            server, where = ending.server, names.qdhcp(self._topology.networks[ending.server.network].id)
            yield Hop(visit.host, server.device, PORT, "out of br-int", ending.packet)
            yield Hop(visit.host, where, DHCP, f"{server.name} gets it", ending.packet)
        elif ending.outside:
            yield Hop(visit.host, visit.bridge, PROVIDER, f"onto the physical network of {ending.outside}",
                      ending.packet)
            yield Hop(INTERNET, INTERNET, WORLD, "the world outside gets it", ending.packet)

    # ---- a VM's wires

    def _out_of(self, port: Port, packet: Packet, said: str, *, refused: bool) -> Iterator[Hop]:
        def hop(device: str, kind: str, why: str) -> Hop:
            return Hop(port.host, device, kind, why, packet, owner=port.name)

        yield hop(port.interface, VM, f"{port.name} sends it")
        for device, kind, why in self._wires(port):
            yield hop(device, kind, said if said and kind == TAP else why)
            if refused and kind == TAP:
                return
        yield hop(port.device, PORT, f"into br-int of {port.host}")

    def _into(self, port: Port, packet: Packet, said: str, *, refused: bool = False) -> Iterator[Hop]:
        def hop(device: str, kind: str, why: str) -> Hop:
            return Hop(port.host, device, kind, why, packet, owner=port.name)

        yield hop(port.device, PORT, "out of br-int")
        for device, kind, why in reversed(self._wires(port)):
            yield hop(device, kind, said if said and kind == TAP else why)
        if not refused:
            yield hop(port.interface, VM, f"{port.name} gets it")

    def _wires(self, port: Port) -> list[tuple[str, str, str]]:
        """The devices between the VM and br-int, from the VM's side: name, kind, what it is."""
        if not self._topology.has_qbr():
            return []
        tap, qbr, qvb = (names.device(prefix, port.id) for prefix in (TAP, QBR, QVB))
        return [(tap, TAP, "the VM's plug"), (qbr, QBR, "a Linux bridge of its own, where iptables can look at it"),
                (qvb, QVB, f"the wire between {qbr} and br-int")]

    # ---- tables

    def _tables(self, visit: Visit, by: int | None, packet: Packet, forks: bool) -> Iterator[Placed]:
        """A bridge's tables on the way out of a port. The last shows the copy that goes on this way, and not what
        became of the others; in a tree, where each copy shows itself, only what all of them have alike.
        """
        steps = visit.steps_to(by)
        outputs = self._lookups.outputs(visit, steps)
        for step in steps[:-1]:
            yield id(step), self._table(visit, step, step.after, ())
        copies = [copy for port, copy in visit.walk.outputs if port == by]
        left = copies[0] if copies else packet if by is not None else steps[-1].after.emitted()
        if forks and len(outputs) > 1:
            left = steps[-1].before
        yield id(steps[-1]), self._table(visit, steps[-1], left, outputs)

    def _table(self, visit: Visit, step: Step, after: Packet, outputs: tuple[str, ...]) -> Hop:
        return Hop(visit.host, visit.bridge, TABLE, self._lookups.why(step), after,
                   self._lookups.of_step(visit, step, after, outputs))

    # ---- between bridges

    def _between(self, visit: Visit, onward: Visit) -> Iterator[Hop]:
        """The wire between two bridges."""
        if {visit.bridge, onward.bridge} & {BR_INT} and visit.host == onward.host:
            yield Hop(visit.host, _near(visit, onward), PATCH, f"to {onward.bridge}", onward.packet)
        elif visit.bridge == BR_TUN:
            yield from self._tunnel(visit, onward)
        else:
            left = next((copy for port, copy in visit.walk.outputs if port == onward.by), onward.packet)
            if left.untracked() != onward.packet:
                yield Hop(visit.host, visit.bridge, PROVIDER, "onto the physical network", left)
                yield Hop(INTERNET, INTERNET, WORLD, "the world outside answers it", onward.packet)
            yield Hop(onward.host, onward.device, PROVIDER, _by(visit.bridge), onward.packet)

    def _tunnel(self, visit: Visit, onward: Visit) -> Iterator[Hop]:
        here, there = self._topology.hosts[visit.host], self._topology.hosts[onward.host]
        kind, port = self._topology.tunnel.type, self._topology.tunnel.port
        carrier = f"UDP port {port}" if port else "IP protocol 47"
        packet = onward.packet
        yield Hop(here.name, placement.tunnel_device(self._topology, there), TUNNEL,
                  f"into the {kind} tunnel to {there.name}", packet)
        yield Hop(here.name, UNDERLAY, UNDERLAY, f"{here.tunnel_ip} to {there.tunnel_ip}, {kind}, {carrier}", packet)
        yield Hop(there.name, onward.device, TUNNEL, f"out of the {kind} tunnel from {here.name}", packet)


def _by(bridge: str) -> str:
    return f"by the physical network of {bridge}"


def _near(visit: Visit, onward: Visit) -> str:
    """The end of the patch between two bridges of a host that is left."""
    if BR_TUN in (visit.bridge, onward.bridge):
        return PATCH_TUN if onward.device == PATCH_INT else PATCH_INT
    return names.int_device(onward.bridge) if visit.bridge == BR_INT else names.phy_device(visit.bridge)


def _into_router(visit: Visit, crossing: Crossing, ends_there: bool) -> Iterator[Hop]:
    passage = crossing.passage
    waits = isinstance(passage.outcome, Kept) and not ends_there
    why = f"{passage.router}: {'it asks who has the next hop, and is told' if waits else passage.outcome.why}"
    if crossing.is_namespace:
        yield Hop(visit.host, passage.leg, PORT, "out of br-int", crossing.packet, owner=passage.router)
    yield Hop(visit.host, passage.place, ROUTER, why, crossing.packet, owner=passage.router)


# ---- trees

@dataclass
class _Node:
    hop: Hop | None = None
    onward: dict[Hashable, _Node] = field(default_factory=dict)


def _flat(root: _Node) -> Iterator[Hop]:
    """Depth first, each hop with the place of the one before it."""
    waiting: list[tuple[_Node, int | None]] = [(one, None) for one in reversed(root.onward.values())]
    place = 0
    while waiting:
        node, after = waiting.pop()
        if node.hop is not None:
            yield replace(node.hop, after=after)
        waiting += [(one, place) for one in reversed(node.onward.values())]
        place += 1
