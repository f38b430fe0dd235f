"""Both pipelines, declared once: each table's id, name, question, ranks, what it may match and where it may go.

Ids and names are Neutron's where the role is the same. A number of a table or a priority stands here and
nowhere else: flows name a table and a rank, and `flow.flow` refuses what the table did not declare.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from flows import fields as f
from flows.fields import Field

BR_INT: Final = "br-int"
BR_TUN: Final = "br-tun"


@dataclass(frozen=True)
class Table:
    """One table of one bridge."""

    bridge: str
    id: int
    name: str
    question: str
    matches: frozenset[Field]
    goes_to: tuple[str, ...]  # names of tables of the same bridge
    ranks: Mapping[str, int]  # rank -> priority; higher wins

    def __hash__(self) -> int:
        return hash((self.bridge, self.id))


def _table(bridge: str, id_: int, name: str, question: str, *, matches: tuple[Field, ...] = (),
           goes_to: tuple[str, ...] = (), ranks: Mapping[str, int]) -> Table:
    return Table(bridge, id_, name, question, frozenset(matches), goes_to, ranks)


# ---- br-int: who sent this, is it what it claims, where does it go

CLASSIFY = _table(
    BR_INT, 0, "classify", "Who sent this?",
    matches=(f.IN_PORT, f.VLAN_VID), goes_to=("arp-spoof", "deliver"),
    ranks={"admit": 2, "tagged": 1, "miss": 0})
CANARY = _table(BR_INT, 23, "canary", "Did the switch restart?", ranks={"miss": 0})
ARP_SPOOF = _table(
    BR_INT, 24, "arp-spoof", "Does it claim an address that is its own?",
    matches=(f.IN_PORT, f.ETH_TYPE, f.IP_PROTO, f.ICMPV6_TYPE, f.ARP_OP, f.ARP_SPA, f.ARP_SHA, f.ND_TARGET),
    goes_to=("mac-spoof",),
    ranks={"own": 2, "foreign": 1, "miss": 0})
MAC_SPOOF = _table(
    BR_INT, 25, "mac-spoof", "Does it wear its own MAC and IP address?",
    matches=(f.IN_PORT, f.ETH_SRC, f.ETH_TYPE, f.IPV4_SRC, f.IPV6_SRC, f.IP_PROTO, f.UDP_SRC, f.UDP_DST,
             f.ICMPV6_TYPE),
    goes_to=("deliver",),
    ranks={"own": 1, "miss": 0})
DELIVER = _table(
    BR_INT, 60, "deliver", "Where does this go?",
    matches=(f.VLAN_VID, f.ETH_DST),
    ranks={"known": 3, "flood": 2, "unknown": 1, "miss": 0})

# ---- br-tun: between local VLANs and tunnel ids

FROM = _table(
    BR_TUN, 0, "from", "From this host, or from a tunnel?",
    matches=(f.IN_PORT,), goes_to=("to-tunnel", "gre-to-vlan", "vxlan-to-vlan", "geneve-to-vlan"),
    ranks={"known": 1, "miss": 0})
TO_TUNNEL = _table(
    BR_TUN, 2, "to-tunnel", "Is it for one, or for all?",
    matches=(f.ETH_DST, f.ETH_TYPE), goes_to=("unicast", "arp-responder", "flood"),
    ranks={"arp": 2, "group": 1, "miss": 0})


def _tunnel_to_vlan(id_: int, kind: str) -> Table:
    return _table(BR_TUN, id_, f"{kind}-to-vlan", "Which local VLAN is this tunnel id here?",
                  matches=(f.TUN_ID, f.VLAN_VID), goes_to=("learn",), ranks={"known": 1, "miss": 0})


TUNNEL_TO_VLAN: Final = {
    "gre": _tunnel_to_vlan(3, "gre"),
    "vxlan": _tunnel_to_vlan(4, "vxlan"),
    "geneve": _tunnel_to_vlan(6, "geneve"),
}
LEARN = _table(
    BR_TUN, 10, "learn", "Through which tunnel did this MAC come?",
    matches=(f.ETH_TYPE, f.IP_PROTO, f.ICMPV6_TYPE),
    ranks={"announcement": 1, "miss": 0})
UNICAST = _table(
    BR_TUN, 20, "unicast", "Do we know which host has this MAC?",
    matches=(f.VLAN_VID, f.ETH_DST), goes_to=("flood",),
    ranks={"populated": 3, "learned": 2, "unknown": 1, "miss": 0})
ARP_RESPONDER = _table(
    BR_TUN, 21, "arp-responder", "Can we answer this ARP request here?",
    matches=(f.VLAN_VID, f.ETH_TYPE, f.ARP_OP, f.ARP_TPA), goes_to=("flood",),
    ranks={"known": 1, "miss": 0})
FLOOD = _table(
    BR_TUN, 22, "flood", "Which hosts carry this network?",
    matches=(f.VLAN_VID,), ranks={"network": 1, "miss": 0})

PIPELINES: Final[Mapping[str, tuple[Table, ...]]] = {
    BR_INT: (CLASSIFY, CANARY, ARP_SPOOF, MAC_SPOOF, DELIVER),
    BR_TUN: (FROM, TO_TUNNEL, *TUNNEL_TO_VLAN.values(), LEARN, UNICAST, ARP_RESPONDER, FLOOD),
}


def table(bridge: str, id_: int) -> Table:
    """The declared table of a bridge by its number. KeyError for one that we do not use."""
    for candidate in PIPELINES.get(bridge, ()):
        if candidate.id == id_:
            return candidate
    raise KeyError(f"{bridge} has no table {id_}")
