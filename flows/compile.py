"""A host in, its flow tables out; by network, too, so that a change recomputes only the networks it touches."""
from __future__ import annotations

from collections.abc import Iterable

from flows import br_int, br_tun
from flows.flow import Flow
from flows.host import Host, Network
from flows.tables import PIPELINES
from flows.text import line


def compile_base(host: Host) -> tuple[Flow, ...]:
    """The flows of both bridges that belong to no network."""
    return (*br_int.base(host), *br_tun.base(host))


def compile_network(host: Host, network: Network) -> tuple[Flow, ...]:
    """The flows of both bridges that belong to one network."""
    return (*br_int.network(host, network), *br_tun.network(host, network))


def by_bridge(flows: Iterable[Flow]) -> dict[str, tuple[Flow, ...]]:
    """Bridge -> its flows, in the order a person reads them: by table, highest priority first, then by text."""
    found: dict[str, list[Flow]] = {bridge: [] for bridge in PIPELINES}
    for flow in flows:
        found[flow.table.bridge].append(flow)
    return {bridge: tuple(sorted(mine, key=reading_order)) for bridge, mine in found.items()}


def reading_order(flow: Flow) -> tuple[int, int, str]:
    """Sort key: table, highest priority first, then the canonical text."""
    return flow.table.id, -flow.priority, line(flow)


def compile_host(host: Host) -> dict[str, tuple[Flow, ...]]:
    """Bridge -> all its flows, sorted."""
    flows = list(compile_base(host))
    for network in host.networks:
        flows += compile_network(host, network)
    return by_bridge(flows)
