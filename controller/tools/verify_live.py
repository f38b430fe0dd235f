"""The tables that the switches of a running daemon have, with what they have learned, for `verify --live`."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.model.placement import Seen
from controller.model.topology import Topology
from controller.tools import lab
from controller.tools.client import ask
from controller.tools.rundir import Rundir
from controller.tools.verify_text import Unreadable, flow
from controller.tools.verify_wires import Flows, Laid, compiled
from flows.cookie import cookie_of
from flows.flow import Flow

Json = dict[str, Any]


@dataclass
class Installed:
    """What switches hold, and what could not be asked or read."""

    laid: Laid
    intended: Flows
    flows: Flows = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)  # sentences


def in_force(where: Rundir) -> str:
    """The file of the topology that the lab was brought to, or else that the daemon was given. Refusal if none runs."""
    named: str = ask(where, {"do": "status"})["topology"]
    kept = lab.topology_file(where.path)
    return str(kept) if lab.state(where.path) and kept.exists() else named


def installed(topology: Topology, where: Rundir) -> Installed:
    """Ask a daemon for the tables of all hosts. Refusal if none runs."""
    return of_answers(topology, [bridge for host in topology.hosts
                                 for bridge in ask(where, {"do": "flows", "host": host})["bridges"]])


def of_answers(topology: Topology, bridges: Iterable[Json]) -> Installed:
    """The same from what it answered."""
    told = [bridge for bridge in bridges if bridge["host"] in topology.hosts]
    laid = Laid(topology, {host: _seen(told, host) for host in topology.hosts})
    found = Installed(laid, compiled(laid.hosts.values()))
    rows: dict[tuple[str, str], tuple[Flow, ...]] = {}
    for bridge in told:
        key = bridge["host"], bridge["bridge"]
        if not bridge["connected"]:
            trouble = bridge.get("trouble") or "it is not connected"
            found.unknown.append(f"{key[0]}/{key[1]} does not say what it holds: {trouble}")
        wanted = {f"{cookie_of(row):#018x}": row for row in found.intended.get(key, ())}
        rows[key] = tuple(_rows(key, bridge["flows"], wanted, found.unknown))
    missing = found.intended.keys() - rows.keys()
    found.unknown += [f"the daemon knows nothing of {host}/{bridge}" for host, bridge in sorted(missing)]
    found.flows = rows
    return found


def _seen(told: Iterable[Json], host: str) -> Seen:
    own = [bridge for bridge in told if bridge["host"] == host]
    vlans: dict[str, int] = {}
    for bridge in own:
        vlans.update(bridge.get("vlans", {}))
    return Seen({bridge["bridge"]: bridge.get("ports", {}) for bridge in own}, vlans)


def _rows(key: tuple[str, str], told: Iterable[Json], wanted: Mapping[str, Flow], unknown: list[str]) -> Iterable[Flow]:
    for row in told:
        if row.get("status") == "missing":
            continue
        known = wanted.get(row["cookie"]) if row.get("status") == "installed" else None
        try:
            yield known or flow(key[1], row)
        except Unreadable as error:
            unknown.append(f"{key[0]}/{key[1]} table {row['table']}: what this flow does is not known here: {error}")
