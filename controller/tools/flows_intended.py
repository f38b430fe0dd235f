"""`tunbridge flows --intended`: what a topology alone wants of its bridges."""
from __future__ import annotations

from collections.abc import Iterator

from controller.model import placement
from controller.model.naming import Directory, Naming
from controller.model.topology import Topology
from controller.switch.rows import flow_json, named
from controller.tools.flows import Json, check_target
from flows.compile import compile_host


def intended(topology: Topology, host: str | None = None, bridge: str | None = None) -> Iterator[Json]:
    """What every asked bridge shall hold, with the numbers that a freshly built host would have. No switch is asked."""
    check_target(host, bridge, topology.bridges.values())
    return _computed(topology, host, bridge)


def _computed(topology: Topology, host: str | None, bridge: str | None) -> Iterator[Json]:
    directory = Directory(topology)
    for name in topology.hosts if host is None else (host,):
        seen = placement.imagined(topology, name)
        for one, flows in compile_host(placement.place(topology, name, seen)).items():
            if bridge in (None, one):
                naming = Naming(directory, seen, name, one)
                yield {"host": name, "bridge": one, "flows": [named(flow_json(flow), naming) for flow in flows]}
