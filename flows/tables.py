"""Both pipelines, declared once: each table's id, name, question, ranks, what it may match and where it may go.

Ids and names are Neutron's where the role is the same. A number of a table or a priority stands here and
nowhere else: flows name a table and a rank, and `flow.flow` refuses what the table did not declare.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from flows import fields as f
from flows.fields import Field

BR_INT: Final = "br-int"
BR_TUN: Final = "br-tun"


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """One table of one bridge. There is one object for each: being the same is being equal."""

    bridge: str
    id: int
    name: str
    question: str
    matches: frozenset[Field]
    goes_to: tuple[str, ...]  # names of tables of the same bridge
    ranks: Mapping[str, int]  # rank -> priority; higher wins

    def __repr__(self) -> str:
        return f"<{self.bridge} {self.name}>"


def _table(bridge: str, id_: int, name: str, question: str, *, matches: tuple[Field, ...] = (),
           goes_to: tuple[str, ...] = (), ranks: Mapping[str, int]) -> Table:
    return Table(bridge, id_, name, question, frozenset(matches), goes_to, ranks)


# ---- br-int: who sent this, is it what it claims, where does it go

CLASSIFY = _table(
    BR_INT, 0, "classify", "Who sent this?",
    matches=(f.IN_PORT, f.VLAN_VID, f.ETH_SRC), goes_to=("arp-spoof", "router", "base-egress"),
    # `relearn`: from br-tun, in a network with ports without port security here: who moved there is learned again,
    # but for those that the topology knows (`named`), who would only take the room of others.
    ranks={"named": 4, "relearn": 3, "admit": 2, "tagged": 1, "miss": 0})
CANARY = _table(BR_INT, 23, "canary", "Did the switch restart?", ranks={"miss": 0})
ARP_SPOOF = _table(
    BR_INT, 24, "arp-spoof", "Does it claim an address that is its own?",
    matches=(f.IN_PORT, f.ETH_TYPE, f.IP_PROTO, f.ICMPV6_TYPE, f.ARP_OP, f.ARP_SPA, f.ARP_SHA, f.ND_TARGET),
    goes_to=("mac-spoof",),
    ranks={"own": 2, "foreign": 1, "miss": 0})
MAC_SPOOF = _table(
    BR_INT, 25, "mac-spoof", "Does it wear its own MAC and IP address?",
    matches=(f.IN_PORT, f.ETH_SRC, f.ETH_TYPE, f.IPV4_SRC, f.IPV4_DST, f.IPV6_SRC, f.IP_PROTO, f.UDP_SRC, f.UDP_DST,
             f.ICMPV6_TYPE),
    goes_to=("router", "base-egress"),
    # The drops are rows of each port, so that it can be said who was refused what, and how often.
    ranks={"server": 5, "own": 4, "foreign-address": 3, "foreign-mac": 2, "miss": 0})
# The routed hop, for simulated routers; the tables below it stand in the order of a packet's way through a router.
ROUTER = _table(
    BR_INT, 40, "router", "Is this for a router on this host?",
    matches=(f.VLAN_VID, f.ETH_DST, f.ETH_TYPE, f.ARP_OP, f.ARP_SPA, f.ARP_TPA),
    goes_to=("translate-in", "ask", "deliver"),
    ranks={"conflict": 4, "arp": 3, "ip": 2, "own": 1, "miss": 0})
TRANSLATE_IN = _table(
    BR_INT, 41, "translate-in", "May this be routed, and is its destination another address inside?",
    matches=(f.REG_ROUTER, f.REG_CAME_BY, f.ETH_TYPE, f.IPV4_SRC, f.IPV4_DST), goes_to=("translated-in", "route"),
    ranks={"martian": 3, "outside": 2, "own": 1, "miss": 0})
TRANSLATED_IN = _table(
    BR_INT, 42, "translated-in", "Does it belong to a conversation that is translated?",
    matches=(f.REG_ROUTER, f.REG_TRANSLATED, f.CT_STATE, f.ETH_TYPE, f.IPV4_DST, f.IP_PROTO),
    goes_to=("translated-in", "route", "ask"),
    ranks={"query": 5, "invalid": 4, "back": 3, "floating": 2, "new": 1, "miss": 0})
ROUTE = _table(
    BR_INT, 43, "route", "Which leg of the router leads there?",
    matches=(f.REG_ROUTER, f.ETH_TYPE, f.IPV4_DST, f.IP_TTL), goes_to=("ask", "next-hop"),
    # A longer prefix wins: `prefix<length>`, as many ranks as there are lengths.
    ranks={"own": 40, "expired": 39, **{f"prefix{length}": length + 1 for length in range(33)}, "miss": 0})
NEXT_HOP = _table(
    BR_INT, 45, "next-hop", "Which MAC has the next hop, and does the packet fit?",
    matches=(f.REG_LEAVES_BY, f.REG_NEXT_HOP, f.REG_TOO_LARGE, f.ETH_TYPE), goes_to=("translate-out", "ask"),
    ranks={"large": 3, "known": 2, "learned": 1, "miss": 0})
TRANSLATE_OUT = _table(
    BR_INT, 46, "translate-out", "Must it show another address where it goes?",
    matches=(f.REG_ROUTER, f.REG_LEAVES_BY, f.REG_TRANSLATED, f.ETH_TYPE), goes_to=("translated-out", "leave"),
    ranks={"marked": 2, "outside": 1, "miss": 0})
TRANSLATED_OUT = _table(
    BR_INT, 47, "translated-out", "Which address shall a new conversation show?",
    matches=(f.REG_ROUTER, f.REG_TRANSLATED, f.CT_STATE, f.ETH_TYPE, f.IPV4_SRC, f.IP_PROTO),
    goes_to=("translated-out", "leave", "ask"),
    ranks={"settled": 9, "query": 8, "exhausted": 7, "invalid": 6, "hairpin-floating": 5, "hairpin": 4, "floating": 3,
           "new": 2, "known": 1, "miss": 0})
LEAVE = _table(
    BR_INT, 48, "leave", "Which network is behind that leg?",
    matches=(f.REG_LEAVES_BY,), goes_to=("deliver",), ranks={"known": 1, "miss": 0})
ASK = _table(
    BR_INT, 58, "ask", "How often may this sender ask the controller?",
    matches=(f.REG_CAME_BY, f.ETH_SRC), ranks={"sender": 2, "leg": 1, "miss": 0})
DELIVER = _table(
    BR_INT, 60, "deliver", "Where does this go?",
    matches=(f.VLAN_VID, f.ETH_DST),
    goes_to=("router", "behind", "unknown", "base-ingress"),  # to the router: from one of this host to another
    ranks={"known": 3, "flood": 2, "unknown": 1, "miss": 0})
# Ports without port security: MACs that the topology does not know live behind them.
BEHIND = _table(
    BR_INT, 61, "behind", "By which port did this MAC come last?",
    matches=(f.VLAN_VID, f.ETH_DST), ranks={"learned": 1, "miss": 0})
UNKNOWN = _table(
    BR_INT, 62, "unknown", "Where does a MAC live that the topology does not know?",
    matches=(f.VLAN_VID, f.REG_OUT_PORT), goes_to=("base-ingress",), ranks={"behind": 2, "anywhere": 1, "miss": 0})

# Security groups, by the `openvswitch` firewall. A packet from a VM passes them before it goes anywhere, with
# REG_OUT_PORT 0; a packet for a VM before it is handed over. A conversation is judged anew with each of its packets,
# by who began it and how (the ct_ fields), so a rule that goes takes its conversations with it at once.
BASE_EGRESS = _table(
    BR_INT, 71, "base-egress", "Does this leave a VM whatever its groups say?",
    matches=(f.ETH_TYPE, f.IP_PROTO, f.UDP_SRC, f.UDP_DST, f.ICMPV6_TYPE),
    goes_to=("router", "conversation"), ranks={"free": 2, "ip": 1, "miss": 0})
BASE_INGRESS = _table(
    BR_INT, 81, "base-ingress", "Does this reach a VM whatever its groups say?",
    matches=(f.ETH_TYPE, f.IP_PROTO, f.UDP_SRC, f.UDP_DST, f.ICMPV6_TYPE, f.IPV4_DST, f.REG_OUT_PORT),
    goes_to=("conversation", "onward"), ranks={"free": 2, "ip": 1, "miss": 0})
CONVERSATION = _table(
    BR_INT, 82, "conversation", "Who began this conversation?",
    matches=(f.CT_STATE, f.REG_OUT_PORT, f.ETH_TYPE), goes_to=("rules",),
    ranks={"invalid": 3, "leaves": 2, "enters": 1, "miss": 0})
RULES = _table(
    BR_INT, 83, "rules", "Do the security groups allow this conversation?",
    matches=(f.CONJ_ID, f.CT_STATE, f.REG_OUT_PORT, f.REG_PROFILE, f.REG_BEGAN, f.IN_PORT, f.VLAN_VID, f.ETH_TYPE,
             f.CT_NW_SRC, f.CT_NW_DST, f.CT_IPV6_SRC, f.CT_IPV6_DST, f.CT_NW_PROTO, f.CT_TP_SRC, f.CT_TP_DST,
             f.IP_PROTO, f.IP_FRAG, f.SCTP_SRC, f.SCTP_DST),
    goes_to=("accepted",),
    # `group` holds the clauses of conjunctions, one for members and one for rules; `both` is where two have met.
    # `denied` drops as `miss` does, a row for each port and direction: who was refused what, and how often.
    ranks={"rule": 4, "both": 3, "group": 2, "denied": 1, "miss": 0})
ACCEPTED = _table(
    BR_INT, 84, "accepted", "Must this conversation be remembered?",
    matches=(f.CT_STATE, f.ETH_TYPE), goes_to=("onward",), ranks={"new": 1, "miss": 0})
ONWARD = _table(
    BR_INT, 85, "onward", "Is it on its way out of a VM, or into one?",
    matches=(f.REG_OUT_PORT, f.VLAN_VID), goes_to=("router",), ranks={"leaves": 2, "enters": 1, "miss": 0})

# ---- br-tun: between local VLANs and tunnel ids

FROM = _table(
    BR_TUN, 0, "from", "From this host, or from a tunnel?",
    matches=(f.IN_PORT,), goes_to=("to-tunnel", "gre-to-vlan", "vxlan-to-vlan", "geneve-to-vlan"),
    ranks={"stranger": 2, "known": 1, "miss": 0})
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

# ---- provider bridges (br-ex and its like): between local VLANs and a physical network


def _translate(bridge: str) -> Table:
    return _table(bridge, 0, "translate", "From this host or from outside, and which VLAN is it there?",
                  matches=(f.IN_PORT, f.VLAN_VID), ranks={"known": 2, "host": 1, "miss": 0})


PIPELINES: Final[Mapping[str, tuple[Table, ...]]] = {
    BR_INT: (CLASSIFY, CANARY, ARP_SPOOF, MAC_SPOOF, ROUTER, TRANSLATE_IN, TRANSLATED_IN, ROUTE, NEXT_HOP,
             TRANSLATE_OUT, TRANSLATED_OUT, LEAVE, ASK, DELIVER, BEHIND, UNKNOWN, BASE_EGRESS, BASE_INGRESS,
             CONVERSATION, RULES, ACCEPTED, ONWARD),
    BR_TUN: (FROM, TO_TUNNEL, *TUNNEL_TO_VLAN.values(), LEARN, UNICAST, ARP_RESPONDER, FLOOD),
}


@cache
def pipeline(bridge: str) -> tuple[Table, ...]:
    """The tables of a bridge; every bridge but br-int and br-tun is a provider bridge with one table of its own."""
    return PIPELINES.get(bridge) or (_translate(bridge),)


def table(bridge: str, id_: int) -> Table:
    """The declared table of a bridge by its number. KeyError for one that we do not use."""
    for candidate in pipeline(bridge):
        if candidate.id == id_:
            return candidate
    raise KeyError(f"{bridge} has no table {id_}")
