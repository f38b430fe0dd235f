"""What a table said to a packet, for people: the flow and where its cause stands, tracking, learning, ways out."""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from controller.model.topology import Host, Network, Router, Topology
from controller.tools.journey import Lookup, Row, Taught, Tracked
from controller.tools.simulate import Cloud
from controller.tools.stops import Ending, Visit
from flows import fields as f
from flows.evaluate import Step
from flows.fields import Field
from flows.flow import Flow, Learn, LearnPort, Track
from flows.packet import Packet
from flows.tables import RULES

MISS: Final = "no flow matches"
_PLACE: Final = re.compile(r"(.*?)(?:\.(?:ports|interfaces)\[(\d+)\]|\.gateway|\[(\d+)\])?")
_ADDRESSES: Final = (("source", f.IPV4_SRC), ("destination", f.IPV4_DST))
_ENDS: Final = (("source port", "src"), ("destination port", "dst"))


class Lookups:
    """Of a cloud's tables."""

    def __init__(self, topology: Topology, cloud: Cloud) -> None:
        self._topology = topology
        self._cloud = cloud

    def of_step(self, visit: Visit, step: Step, after: Packet, outputs: tuple[str, ...] = ()) -> Lookup:
        """A step of a walk, after which the packet is so."""
        row = self._row(step.flow) if step.flow else None
        return Lookup(step.table, row, tuple(map(self._row, step.clauses)), _tracked(step, after),
                      tuple(_learned(visit, step)), outputs)

    def outputs(self, visit: Visit, steps: tuple[Step, ...]) -> tuple[str, ...]:
        """The devices by which the packet left a bridge on the way of these steps, and copies of it from the last."""
        found = (port for way in visit.walk.ways if steps and any(one is steps[-1] for one in way.steps)
                 for port, _ in way.outputs)
        return tuple(dict.fromkeys(self._cloud.device(visit.host, visit.bridge, port) for port in found))

    def why(self, step: Step) -> str:
        """Why a flow is there; of a rule of a security group with its line, of a conjunction what it is made of."""
        if step.flow is None:
            return MISS
        rows = [self._row(flow) for flow in step.clauses] or [self._row(step.flow)]
        if step.table != RULES:
            return "; ".join(row.flow.why for row in rows)
        rows.sort(key=lambda row: not _is_rule(row.flow))
        return "; ".join(f"{row.flow.why} (line {row.line})" if _is_rule(row.flow) and row.line else row.flow.why
                         for row in rows)

    def _row(self, flow: Flow) -> Row:
        return Row(flow, line_of(self._topology, flow.origin))


def taught(ending: Ending) -> Iterator[Taught]:
    """What switches learned on a frame's way."""
    for stop in ending.stop.way:
        if isinstance(stop, Visit):
            yield from (Taught(stop.host, stop.bridge, flow) for flow in dict.fromkeys(stop.walk.learned))


def line_of(topology: Topology, origin: str) -> int | None:
    """The line of an object that caused a flow, as the topology was read; None if it has none."""
    section, _, rest = origin.partition(".")
    found = _PLACE.fullmatch(rest)
    name, number = (found[1], int(found[2] or found[3] or 0)) if found else (rest, 0)
    if section == "vms" and name in topology.vms:
        ports = topology.vms[name].ports
        return next((port.line for port in ports if port.path == origin), topology.vms[name].line)
    if section == "security_groups" and (group := topology.security_groups.get(name)):
        is_rule = origin.endswith("]") and number < len(group.rules)
        return group.rules[number].line if is_rule else group.line
    named: dict[str, Mapping[str, Network | Router | Host]] = {
        "networks": topology.networks, "routers": topology.routers, "hosts": topology.hosts}
    one = named.get(section, {}).get(name)
    return one.line if one else None


def _is_rule(flow: Flow) -> bool:
    return flow.origin.startswith("security_groups.") and flow.origin.endswith("]")


def _learned(visit: Visit, step: Step) -> Iterator[Flow]:
    """What the flow of a step taught its switch."""
    actions = step.flow.actions if step.flow else ()
    into = {action.into for action in actions if isinstance(action, Learn | LearnPort)}
    for row in dict.fromkeys(visit.walk.learned) if into else ():
        mac = row.match[f.ETH_DST]
        if row.table in into and mac and mac.value == step.before.get(f.ETH_SRC):
            yield row


def _tracked(step: Step, after: Packet) -> Tracked | None:
    action = next((one for one in step.flow.actions if isinstance(one, Track)), None) if step.flow else None
    if action is None:
        return None
    zone = step.before.get(action.zone) or 0 if isinstance(action.zone, Field) else action.zone
    state = step.after.get(f.CT_STATE) or 0 if action.table else 0
    flags = tuple(name for name, bit in f.CT_FLAGS.items() if state & bit)
    return Tracked(zone, flags, action.commit, _translation(step.before, after))


def _translation(before: Packet, after: Packet) -> str | None:
    """Which end shows another address or port now."""
    words = [f"{what} {before.shown(field)} becomes {after.shown(field)}" for what, field in _ADDRESSES
             if before.get(field) != after.get(field)]
    words += [f"{what} {before.get(name)} becomes {after.get(name)}" for what, end in _ENDS
              for name in (f"tcp_{end}", f"udp_{end}") if before.get(name) != after.get(name)]
    return ", ".join(words) or None
