"""Who was refused what, how often, by which row: the rows of the edge that drop, as plain JSON values."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from controller.model.topology import Port, RouterPort, Topology
from controller.switch.events import Counted
from controller.switch.rows import flow_json
from flows import fields as f
from flows.flow import Flow
from flows.tables import (
    ARP_SPOOF,
    BASE_EGRESS,
    BASE_INGRESS,
    BR_INT,
    BR_TUN,
    CLASSIFY,
    CONVERSATION,
    FROM,
    MAC_SPOOF,
    RULES,
    TUNNEL_TO_VLAN,
    Table,
)

Json = dict[str, Any]
_WATCHED: Final[Mapping[str, tuple[Table, ...]]] = {
    BR_INT: (CLASSIFY, ARP_SPOOF, MAC_SPOOF, BASE_EGRESS, BASE_INGRESS, CONVERSATION, RULES),
    BR_TUN: (FROM, *TUNNEL_TO_VLAN.values()),
}
_OFFENCES: Final = {  # (table, rank) -> what was tried, where the row says no more than that
    (CLASSIFY, "tagged"): "vlan", (CLASSIFY, "miss"): "unknown-port",
    (MAC_SPOOF, "foreign-address"): "address", (MAC_SPOOF, "foreign-mac"): "mac",
    (BASE_EGRESS, "miss"): "ethertype", (BASE_INGRESS, "miss"): "ethertype",
    (CONVERSATION, "invalid"): "invalid", (RULES, "denied"): "groups", (RULES, "miss"): "groups",
    (FROM, "stranger"): "tunnel", (FROM, "miss"): "unknown-port",
    **{(table, "miss"): "tunnel-id" for table in TUNNEL_TO_VLAN.values()},
}
_KINDS: Final = {  # (table, rank) -> what was tried, by what the row matches
    (ARP_SPOOF, "foreign"): {f.ETH_TYPE(f.ARP): "arp", f.ICMPV6_TYPE(f.ND_NEIGHBOR_ADVERTISEMENT): "nd"},
    (MAC_SPOOF, "server"): {f.IP_PROTO(f.UDP): "dhcp-server",
                            f.ICMPV6_TYPE(f.ND_ROUTER_ADVERTISEMENT): "router-advertisement",
                            f.IP_PROTO(f.ICMPV6): "redirect"},
}


def watched(bridge: str) -> tuple[Table, ...]:
    """The tables of a bridge whose drops are somebody's doing; provider bridges have none."""
    return _WATCHED.get(bridge, ())


def refused(topology: Topology, host: str, want: Mapping[int, Flow], counted: Mapping[int, Counted]) -> Iterator[Json]:
    """The rows of one bridge that refuse, with their counters. `want`, `counted`: by cookie.

    A row that changed began to count anew. `port` is empty where a row is for all of them.
    """
    owners = _owners(topology)
    for cookie, count in counted.items():
        flow = want.get(cookie)
        offence = _offence(flow) if flow else ""
        if flow and offence:
            port, network = owners.get(flow.origin, ("", ""))
            about = {key: value for key, value in flow_json(flow).items() if key != "actions"}
            yield {"host": host, "bridge": flow.table.bridge, "table_name": flow.table.name, "port": port,
                   "network": network, "offence": offence, "packets": count.packets, "bytes": count.bytes, **about}


def _offence(flow: Flow) -> str:
    """What a row stands against; empty if it refuses nothing."""
    if flow.actions:
        return ""
    rank = next((rank for rank, priority in flow.table.ranks.items() if priority == flow.priority), "")
    kinds = _KINDS.get((flow.table, rank), {})
    return next((word for criterion, word in kinds.items() if criterion in flow.match.criteria),
                _OFFENCES.get((flow.table, rank), ""))


def _owners(topology: Topology) -> dict[str, tuple[str, str]]:
    """Path in the topology -> (name, network) of who is plugged in there."""
    plugs: list[Port | RouterPort] = [*topology.ports()]
    plugs += [leg for legs in topology.legs_by_router.values() for leg in legs]
    return {plug.path: (plug.name, plug.network) for plug in plugs}
