"""A host in, its flow tables out; by network, groups and router, too, so that a change recomputes only its own.

What is much alike comes unbuilt, as sheets (`flows.sheet`) and prints (`flows.stencil`); `by_bridge` gives flows.
"""
from __future__ import annotations

from collections.abc import Iterable

from flows import br_ex, br_int, br_tun, ports, routed
from flows.flow import Flow
from flows.host import Host, Network, Port, SimulatedRouter
from flows.sheet import Part, whole
from flows.tables import PIPELINES
from flows.text import line


def compile_base(host: Host) -> tuple[Part, ...]:
    """The flows of all bridges that belong to no network and no router."""
    return (*br_int.base(host), *br_tun.base(host), *br_ex.base(host))


def compile_network(host: Host, network: Network) -> tuple[Part, ...]:
    """The flows of all bridges that belong to one network, but for `compile_groups`."""
    of_ports = (part for port in network.ports for part in compile_port(host, network, port))
    return (*of_ports, *compile_ways(host, network))


def compile_port(host: Host, network: Network, port: Port) -> tuple[Part, ...]:
    """Of these, the flows of one port, all of them br-int's: nothing but the port itself, the network's name and VLAN,
    and the host's settings is in them.
    """
    return ports.port(host, network, port)


def compile_ways(host: Host, network: Network) -> tuple[Part, ...]:
    """Of these, the flows of no port alone."""
    return (*br_int.network(host, network), *br_tun.network(host, network), *br_ex.network(network))


def compile_groups(host: Host, network: Network) -> tuple[Flow, ...]:
    """The rows of the rules and members of security groups of one network, all of them br-int's table 83."""
    return tuple(br_int.groups(host, network))


def compile_router(host: Host, simulated: SimulatedRouter) -> tuple[Flow, ...]:
    """The flows of one simulated router, all of them br-int's."""
    return tuple(routed.router(simulated))


def bridges(host: Host) -> tuple[str, ...]:
    """The bridges of a host that hold flows of ours."""
    return (*PIPELINES, *(bridge.name for bridge in host.providers))


def by_bridge(flows: Iterable[Part], also: Iterable[str] = PIPELINES) -> dict[str, tuple[Flow, ...]]:
    """Bridge -> its flows, in the order a person reads them: by table, highest priority first, then by text.

    `also`: bridges that shall be there even without a flow (see `bridges`).
    """
    found: dict[str, list[Flow]] = {bridge: [] for bridge in also}
    for flow in whole(flows):
        found.setdefault(flow.table.bridge, []).append(flow)
    return {bridge: tuple(sorted(mine, key=reading_order)) for bridge, mine in found.items()}


def reading_order(flow: Flow) -> tuple[int, int, str]:
    """Sort key: table, highest priority first, then the canonical text."""
    return flow.table.id, -flow.priority, line(flow)


def compile_host(host: Host) -> dict[str, tuple[Flow, ...]]:
    """Bridge -> all its flows, sorted."""
    flows: list[Part] = list(compile_base(host))
    for network in host.networks:
        flows += (*compile_network(host, network), *compile_groups(host, network))
    # Two routers may bring the very same row (see `routed`).
    flows += dict.fromkeys(row for simulated in host.routers for row in compile_router(host, simulated))
    return by_bridge(flows, bridges(host))
