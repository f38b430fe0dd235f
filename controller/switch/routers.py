"""Simulated routers as plain JSON values: what `tunbridge routers` reads."""
from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from controller.switch.fleet import Fleet
from controller.switch.hop import Hop
from flows.router import Router

Json = dict[str, Any]


def described(fleet: Fleet) -> list[Json]:
    """Every router of the hosts that are served, by name. `connected`: whether its br-int is, so that it can answer."""
    found = [_described(state.name, hop, heard=state.routing.conn is not None)
             for state in fleet.hosts.values() for hop in state.routing.hops.values()]
    return sorted(found, key=lambda one: str(one["name"]))


def failures(fleet: Fleet) -> list[Json]:
    """Routers that have failed on a packet, and why the last time."""
    return [{"router": name, "host": state.name, "failed": state.routing.hops[name].counters.failed, "reason": reason}
            for state in fleet.hosts.values() for name, reason in sorted(state.routing.failures.items())]


def _described(host: str, hop: Hop, *, heard: bool) -> Json:
    router, placed = hop.router, hop.placed
    return {
        "name": router.name, "host": host, "driver": "simulated", "connected": heard, "number": placed.number,
        "zones": [placed.zone, placed.hairpin_zone],
        "interfaces": [{"name": leg.name, "what": numbers.what, "mac": leg.mac,
                        "addresses": [str(one) for one in leg.addresses], "mtu": leg.mtu,
                        "network": numbers.network, "vlan": numbers.vlan}
                       for leg, numbers in zip(router.legs, placed.legs, strict=True)],
        "routes": list(_routes(router)),
        "gateway": _gateway(router),
        "floating_ips": {str(one.external): str(one.fixed) for one in router.floating_ips},
        "neighbours": [*_given(hop), *_learned(hop)],
        "counters": {**vars(hop.counters), "refused": dict(hop.counters.refused.most_common())},
        "failure": hop.failure,
    }


def _routes(router: Router) -> Iterator[Json]:
    for network, mask, target in router.table:
        yield {"destination": str(IPv4Network((network, str(IPv4Address(mask))))), "leg": target.leg.name,
               "via": None if target.gateway is None else str(IPv4Address(target.gateway)),
               "source": str(IPv4Address(target.source))}


def _gateway(router: Router) -> Json | None:
    if router.gateway is None:
        return None
    nexthop = router.gateway.nexthop
    return {"leg": router.gateway.leg, "via": None if nexthop is None else str(nexthop), "snat": router.gateway.snat}


def _given(hop: Hop) -> Iterator[Json]:
    """Neighbours that the topology vouches for."""
    for neighbour in hop.placed.neighbours:
        if neighbour.fixed:
            yield {"leg": neighbour.leg, "address": str(neighbour.address), "mac": neighbour.mac,
                   "state": f"{neighbour.name}, known from the topology", "learned": False}


def _learned(hop: Hop) -> Iterator[Json]:
    for (leg, address), known in sorted(hop.state.neighbours.items(), key=lambda item: item[0]):
        yield {"leg": leg, "address": str(IPv4Address(address)), "mac": known.mac.hex(":") if known.mac else "",
               "state": known.phase.value, "learned": True}
