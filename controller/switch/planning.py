"""What another topology would change, before anything changes: `tunbridge apply --plan`."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from controller.model import placement
from controller.model.placement import Seen
from controller.model.reachability import expected_pairs
from controller.model.succession import succeed
from controller.model.topology import Topology
from controller.switch import interruptions
from controller.switch.fleet import Fleet
from controller.switch.hoststate import HostState
from controller.switch.rows import flow_json
from flows.compile import compile_host, reading_order
from flows.cookie import cookie_of
from flows.flow import Flow
from flows.tables import table

Json = dict[str, Any]
OFPP_MAX: Final = 0xFFFFFF00  # OpenFlow 1.4, 7.2.1: numbers from here on are no ports that are plugged in


def plan(fleet: Fleet, new: Topology) -> Json:
    """Flows that would come and go on each connected switch, and the pairs that would gain or lose each other.

    What the new topology plugs in counts as plugged in, with OpenFlow ports that nobody else has: `awaited` names the
    devices, which bring their flows when they are there. `tables` counts flows by table; `hitless` says what is
    interrupted, `opened` which rules come (see `interruptions`).
    """
    old, step = fleet.topology, succeed(fleet.topology, new)
    before, after = expected_pairs(fleet.topology), expected_pairs(new)
    switches = [switch for state in fleet.hosts.values() for switch in _switches(state, old, new)]
    return {
        "switches": switches,
        "tables": [row for switch in switches for row in _tables(switch)],
        "hitless": interruptions.document(step),
        "opened": [interruptions.plain(one) for one in interruptions.opened(step)],
        "left_alone": sorted(fleet.hosts.keys() - new.hosts.keys()),
        "gain": [list(pair) for pair in sorted(after - before)],
        "lose": [list(pair) for pair in sorted(before - after)],
    }


def _switches(state: HostState, old: Topology, new: Topology) -> Iterable[Json]:
    if state.vlans is None or state.name not in new.hosts:
        return
    awaited = _awaited(state, old, new)
    carried = sorted(network.name for network in placement.carried(new, state.name))
    ports = {bridge: {**found, **awaited.get(bridge, {})} for bridge, found in state.ports.items()}
    seen = Seen(ports, placement.allot_vlans(carried, state.vlans))
    tables = compile_host(placement.place(new, state.name, seen))
    for bridge, (_, session) in state.sessions.items():
        want, have = {cookie_of(flow): flow for flow in tables.get(bridge, ())}, session.want
        yield {"host": state.name, "bridge": bridge,
               "add": _shown(flow for cookie, flow in want.items() if cookie not in have),
               "delete": _shown(flow for cookie, flow in have.items() if cookie not in want),
               "awaited": sorted(awaited.get(bridge, {}))}


def _awaited(state: HostState, old: Topology, new: Topology) -> dict[str, dict[str, int]]:
    """The devices of each bridge that only the new topology has, with ports above all that are there."""
    before = placement.imagined(old, state.name).ports if state.name in old.hosts else {}
    found = {}
    for bridge, devices in placement.imagined(new, state.name).ports.items():
        here = state.ports.get(bridge, {})
        first = 1 + max((number for number in here.values() if number < OFPP_MAX), default=0)
        coming = sorted(devices.keys() - before.get(bridge, {}).keys() - here.keys())
        found[bridge] = {device: number for number, device in enumerate(coming, start=first)}
    return found


def _tables(switch: Json) -> Iterator[Json]:
    """How many flows come and go in each table, and how many of them only become others in their place."""
    places = [{(flow["table"], flow["priority"], flow["match"]) for flow in switch[key]} for key in ("add", "delete")]
    for number in sorted({place[0] for both in places for place in both}):
        come, go = ({one for one in both if one[0] == number} for both in places)
        yield {"host": switch["host"], "bridge": switch["bridge"], "table": number,
               "name": table(switch["bridge"], number).name,
               "add": len(come - go), "delete": len(go - come), "change": len(come & go)}


def _shown(flows: Iterable[Flow]) -> list[Json]:
    return [flow_json(flow) for flow in sorted(flows, key=reading_order)]
