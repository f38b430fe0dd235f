"""What keeps two ports apart, in words: different networks or subnets, and no router between them."""
from __future__ import annotations

from controller.model.topology import RouterPort, Topology
from controller.tools.tracing import Tracing


def apart(trace: Tracing) -> str:
    """What keeps source and target apart, if they are in different networks or subnets; begins with a semicolon."""
    source, other = trace.source, trace.target.port
    if other is None or other.subnet == source.subnet:
        return ""
    where = f"{other.name} is on {other.network}, {source.name} on {source.network}"
    if other.network == source.network:
        where = f"{other.name} is on {other.subnet}, {source.name} on {source.subnet}"
    near = {one.router for one in legs_on(trace.topology, other.subnet)}
    joint = [leg.router for leg in legs_on(trace.topology, source.subnet) if leg.router in near]
    return f"; {where}, and {f'only {joint[0]} joins them' if joint else 'no router joins them'}"


def legs_on(topology: Topology, subnet: str) -> list[RouterPort]:
    """The legs of routers inside a subnet."""
    network = topology.subnets[subnet].network
    return [leg for leg in topology.legs_by_network.get(network, ()) if leg.subnet == subnet and not leg.outside]
