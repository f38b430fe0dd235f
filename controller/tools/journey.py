"""A packet's journey as hops: every device and table between two VMs, each with the reason in the flow's own words."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from rich.markup import escape

from controller.model import names, placement
from controller.model.names import PATCH_INT, PATCH_TUN
from controller.model.reachability import INTERNET
from controller.model.topology import Port, Topology
from controller.tools.stops import Crossing, Ending, Gate, Stop, Visit
from flows.evaluate import Step
from flows.packet import Packet
from flows.qrouter import Kept
from flows.tables import BR_INT, BR_TUN, RULES
from flows.text import line

# Where a hop is: the VM's interface, a device before br-int, a port of a bridge, one of its tables, between hosts, in a
# router (its namespace, or the daemon), or outside.
VM, TAP, QBR, QVB, PORT, TABLE, PATCH, TUNNEL, UNDERLAY, ROUTER, PROVIDER, WORLD = (
    "vm", "tap", "qbr", "qvb", "port", "table", "patch", "tunnel", "underlay", "router", "provider", "internet")
_MISS = "no flow matches"
_DEVICE_CHARS = 15


@dataclass(frozen=True)
class Hop:
    """One place that a packet passes. `table` and `flow` only where `kind` is `table`."""

    host: str
    device: str
    kind: str
    table: str | None
    flow: str | None
    why: str
    vlan: int | None
    tunnel_id: int | None
    packet: str


@dataclass(frozen=True)
class Leg:
    """One packet of a journey, from its sender to where it ends."""

    title: str
    hops: tuple[Hop, ...] = ()
    aside: str = ""  # what else came of it


@dataclass(frozen=True)
class Journey:
    """What became of a request, and the way of its packets."""

    verdict: str  # delivered | dropped | answered
    reason: str
    legs: tuple[Leg, ...]
    routers: tuple[str, ...] = ()  # that the request passed, in order

    @property
    def hops(self) -> tuple[Hop, ...]:
        """All hops, in the order of time."""
        return tuple(hop for leg in self.legs for hop in leg.hops)

    def document(self) -> dict[str, Any]:
        """The journey as plain values for JSON."""
        return {"verdict": self.verdict, "reason": self.reason, "hops": [asdict(hop) for hop in self.hops]}


def story(journey: Journey) -> Iterator[str]:
    """Lines for people, in rich's markup: one a hop, and one for each packet and for the end."""
    places = ((hop.host, _short(hop.device), hop.table or "") for hop in journey.hops)
    widths = [max((len(word) for word in column), default=0) for column in zip(*places, strict=True)]
    for leg in journey.legs:
        yield f"[bold]{escape(leg.title)}[/bold]"
        before = [leg.hops[0].packet, *(hop.packet for hop in leg.hops)] if leg.hops else []
        yield from (_line(hop, widths, was) for hop, was in zip(leg.hops, before, strict=False))
        if leg.aside:
            yield f"  [dim]{escape(leg.aside)}[/dim]"
    colour = "red" if journey.verdict == "dropped" else "green"
    yield f"[bold {colour}]{journey.verdict}[/bold {colour}]: {escape(journey.reason)}"


def _line(hop: Hop, widths: list[int], was: str) -> str:
    place = "  ".join(f"{word:<{width}}" for word, width in zip((hop.host, _short(hop.device), hop.table or ""),
                                                                widths, strict=True))
    wears = [f"VLAN {hop.vlan}"] if hop.vlan is not None else []
    wears += [f"tunnel id {hop.tunnel_id}"] if hop.tunnel_id is not None else []
    wears += [f"now {escape(hop.packet)}"] if hop.packet != was else []
    tags = f"  [cyan]({', '.join(wears)})[/cyan]" if wears else ""
    why = escape(hop.why)
    return f"  {escape(place)}  {why if hop.kind == TABLE else f'[dim]{why}[/dim]'}{tags}"


def _short(device: str) -> str:
    """A router's namespace by the beginning of its id, as long as a device's name can be."""
    return device[:_DEVICE_CHARS]


def hops(topology: Topology, source: Port, packet: Packet, ending: Ending, let_out: str = "") -> Iterator[Hop]:
    """Every hop of one copy of a frame, from its sender to its end. `let_out`: why its groups let it out."""
    first = ending.stop.way[0]
    yield from _out_of(topology, source, str(packet), first.why if isinstance(first, Gate) else let_out,
                       refused=isinstance(first, Gate))
    for stop, onward in pairwise(ending.stop.way):
        if isinstance(onward, Gate):
            if isinstance(stop, Visit):
                yield from _tables(topology, stop, onward.packet)
            yield from _into(topology, onward.port, str(onward.packet), onward.why, refused=True)
        elif isinstance(stop, Crossing):
            yield from _out_of_router(stop, onward)
        elif isinstance(stop, Visit):
            yield from _tables(topology, stop, onward.packet)
            if isinstance(onward, Visit):
                yield from _between(topology, stop, onward)
            else:
                yield from _into_router(stop, onward, onward is ending.stop)
    if isinstance(ending.stop, Visit):
        yield from _tables(topology, ending.stop, ending.packet)
    if ending.port:
        yield from _into(topology, ending.port, str(ending.packet), ending.allowed)
    elif ending.outside and isinstance(ending.stop, Visit):
        yield from _into_world(ending.stop, ending.packet, ending.outside)


def _near(visit: Visit, onward: Visit) -> str:
    """The end of the patch between two bridges of a host that is left."""
    if BR_TUN in (visit.bridge, onward.bridge):
        return PATCH_TUN if onward.device == PATCH_INT else PATCH_INT
    return names.int_device(onward.bridge) if visit.bridge == BR_INT else names.phy_device(visit.bridge)


def _out_of(topology: Topology, port: Port, packet: str, said: str, *, refused: bool) -> Iterator[Hop]:
    def hop(device: str, kind: str, why: str) -> Hop:
        return Hop(port.host, device, kind, None, None, why, None, None, packet)

    yield hop(port.interface, VM, f"{port.name} sends it")
    for device, kind, why in _wires(topology, port):
        yield hop(device, kind, said if said and kind == TAP else why)
        if refused and kind == TAP:
            return
    yield hop(port.device, PORT, f"into br-int of {port.host}")


def _into(topology: Topology, port: Port, packet: str, said: str, *, refused: bool = False) -> Iterator[Hop]:
    def hop(device: str, kind: str, why: str) -> Hop:
        return Hop(port.host, device, kind, None, None, why, None, None, packet)

    yield hop(port.device, PORT, "out of br-int")
    for device, kind, why in reversed(_wires(topology, port)):
        yield hop(device, kind, said if said and kind == TAP else why)
    if not refused:
        yield hop(port.interface, VM, f"{port.name} gets it")


def _wires(topology: Topology, port: Port) -> list[tuple[str, str, str]]:
    """The devices between the VM and br-int, from the VM's side: name, kind, what it is."""
    if not topology.has_qbr():
        return []
    return [(names.device("tap", port.id), TAP, "the VM's plug"),
            (names.device("qbr", port.id), QBR, "a Linux bridge of its own, where iptables can look at it"),
            (names.device("qvb", port.id), QVB, f"the wire between {names.device('qbr', port.id)} and br-int")]


def _tables(topology: Topology, visit: Visit, leaving: Packet) -> Iterator[Hop]:
    """A bridge's tables; the last one shows the copy that goes on this way, not what became of the others."""
    *before, last = visit.walk.steps
    for step in before:
        yield _table(topology, visit, step, step.after)
    yield _table(topology, visit, last, leaving)


def _table(topology: Topology, visit: Visit, step: Step, after: Packet) -> Hop:
    return Hop(visit.host, visit.bridge, TABLE, step.table.name, line(step.flow) if step.flow else None,
               _reason(topology, step), after.vlan,
               step.after.tunnel_id or None if visit.bridge == BR_TUN else None, str(after))


def _reason(topology: Topology, step: Step) -> str:
    """Why a flow is there; of a rule of a security group with its line, of a conjunction what it is made of."""
    if step.flow is None:
        return _MISS
    lines = {rule.path: rule.line for group in topology.security_groups.values() for rule in group.rules} \
        if step.table == RULES else {}
    flows = sorted(step.clauses, key=lambda flow: flow.origin not in lines) or [step.flow]
    return "; ".join(f"{flow.why} (line {lines[flow.origin]})" if flow.origin in lines else flow.why for flow in flows)


def _into_router(visit: Visit, crossing: Crossing, ends_there: bool) -> Iterator[Hop]:
    passage, text = crossing.passage, str(crossing.packet)
    waits = isinstance(passage.outcome, Kept) and not ends_there
    why = f"{passage.router}: {'it asks who has the next hop, and is told' if waits else passage.outcome.why}"
    if crossing.is_namespace:
        yield Hop(visit.host, passage.leg, PORT, None, None, "out of br-int", None, None, text)
    yield Hop(visit.host, passage.place, ROUTER, None, None, why, None, None, text)


def _out_of_router(crossing: Crossing, onward: Stop) -> Iterator[Hop]:
    if crossing.is_namespace and isinstance(onward, Visit):
        yield Hop(onward.host, onward.device, PORT, None, None, f"into br-int of {onward.host}", None, None,
                  str(onward.packet))


def _into_world(visit: Visit, packet: Packet, network: str) -> Iterator[Hop]:
    yield Hop(visit.host, visit.bridge, PROVIDER, None, None, f"onto the physical network of {network}", None, None,
              str(packet))
    yield Hop(INTERNET, INTERNET, WORLD, None, None, "the world outside gets it", None, None, str(packet))


def _between(topology: Topology, visit: Visit, onward: Visit) -> Iterator[Hop]:
    """The wire between two bridges."""
    packet = onward.packet
    if visit.host == onward.host:
        yield Hop(visit.host, _near(visit, onward), PATCH, None, None, f"to {onward.bridge}", packet.vlan, None,
                  str(packet))
        return
    if visit.bridge != BR_TUN:
        yield Hop(onward.host, onward.device, PROVIDER, None, None, f"by the physical network of {visit.bridge}",
                  packet.vlan, None, str(packet))
        return
    here, there = topology.hosts[visit.host], topology.hosts[onward.host]
    kind = topology.tunnel.type
    carrier = f"UDP port {topology.tunnel.port}" if topology.tunnel.port else "IP protocol 47"

    def hop(host: str, device: str, kind_: str, why: str) -> Hop:
        return Hop(host, device, kind_, None, None, why, packet.vlan, packet.tunnel_id, str(packet))

    yield hop(here.name, placement.tunnel_device(topology, there), TUNNEL, f"into the {kind} tunnel to {there.name}")
    yield hop(here.name, UNDERLAY, UNDERLAY, f"{here.tunnel_ip} to {there.tunnel_ip}, {kind}, {carrier}")
    yield hop(there.name, onward.device, TUNNEL, f"out of the {kind} tunnel from {here.name}")
