"""From a set of packets to one that can be sent, and from what becomes of it to the flow that is to blame."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controller.model.topology import Port, RouterPort
from controller.tools.verify_findings import Blame, Breach
from controller.tools.verify_search import Suspect
from controller.tools.verify_walk import Journey, Paper
from controller.tools.verify_wires import Flows, Laid
from flows import fields as f
from flows.packet import Packet
from flows.prove import INNER, LARGE, Hit
from flows.prove_tracking import Talk
from flows.tables import ROUTER

_LONG: Final = 9_000  # bytes: more than any network's MTU
_TCP: Final = {"tcp_src": 1024, "tcp_dst": 80}


class Witnesses:
    """Packets of one cloud, sent on paper over its tables and over those that it shall have."""

    def __init__(self, laid: Laid, flows: Flows, intended: Flows) -> None:
        self._laid = laid
        self._paper = Paper(flows, laid.wiring)
        learned = {key: [row for row in rows if row.origin == "learned"] for key, rows in flows.items()}
        self._right = Paper({key: (*rows, *learned.get(key, ())) for key, rows in intended.items()}, laid.wiring)

    def breach(self, suspect: Suspect) -> Breach:
        """The suspect with a packet that shows it, or does not."""
        packet = self.packet(suspect)
        self._paper.forget()
        self._right.forget()
        journey, right = self._paper.send(suspect.plug, packet), self._right.send(suspect.plug, packet)
        return Breach(suspect.kind, suspect.source, suspect.target, suspect.what, packet,
                      self._shows(suspect, journey), _blame(suspect, journey, right))

    @staticmethod
    def _shows(suspect: Suspect, journey: Journey) -> bool:
        if any(name.startswith("talk:") and value != Talk.NEW for name, value in suspect.values.items()):
            return False  # of a conversation that goes on: on paper there is none
        came = {one.end for one in journey.came}
        match suspect.shows:
            case "comes":
                return suspect.target in came
            case "lost":
                return suspect.target not in came if suspect.target else not came
            case "stopped":
                return not any(hit.table is ROUTER for hit in journey.hits)
            case "round":
                return journey.loops
            case _:
                return any(_same(suspect.hits[-1], hit) for hit in journey.hits)

    def packet(self, suspect: Suspect) -> Packet:
        """One packet with these values; what they leave open is as the source would have it."""
        values = {name: value for name, value in suspect.values.items() if ":" not in name}
        inner, long = values.pop(INNER, 0), values.pop(LARGE, 0)
        tags = (inner,) if inner and values.get(f.VLAN_VID.name) else ()
        card = self._laid.ends.get(suspect.source)
        known: dict[str, int] = {f.VLAN_VID.name: f.NO_VLAN, f.TUN_ID.name: 0, f.ETH_TYPE.name: f.IPV4,
                                 f.ETH_SRC.name: 0x020000000001, f.ETH_DST.name: 0x020000000002}
        if isinstance(card, Port | RouterPort):
            known[f.ETH_SRC.name] = f.ETH_SRC(card.mac).value
        known.update(values)
        target = self._laid.ends.get(suspect.target)
        known = {**_inside(known, card), **_for(target), **known} if known[f.ETH_TYPE.name] == f.IPV4 \
            else {**_inside(known, card), **known}
        return Packet(tuple(sorted(known.items())), tags, _LONG if long else None)


def _for(target: object) -> dict[str, int]:
    """The address that it is for, if the one that it shall come to has one."""
    if isinstance(target, Port | RouterPort) and target.ip.version == 4:
        return {f.IPV4_DST.name: int(target.ip)}
    return {}


def _inside(known: Mapping[str, int], card: object) -> dict[str, int]:
    """What a frame of that kind has inside."""
    kind = known[f.ETH_TYPE.name]
    own = int(card.ip) if isinstance(card, Port | RouterPort) else 0
    four = own if isinstance(card, Port | RouterPort) and card.ip.version == 4 else 0
    if kind == f.ARP:
        return {f.ARP_OP.name: f.ARP_REQUEST, f.ARP_SPA.name: four, f.ARP_TPA.name: 0,
                f.ARP_SHA.name: known[f.ETH_SRC.name], f.ARP_THA.name: 0}
    if kind not in (f.IPV4, f.IPV6):
        return {}
    found = {f.IPV4_SRC.name: four, f.IPV4_DST.name: 0, f.IP_TTL.name: 64} if kind == f.IPV4 else \
        {f.IPV6_SRC.name: own if four != own else 0, f.IPV6_DST.name: 0}
    proto = known.get(f.IP_PROTO.name, f.TCP)
    found[f.IP_PROTO.name] = proto
    ports = {f.TCP: _TCP, f.UDP: {"udp_src": 1024, "udp_dst": 80}, f.SCTP: {"sctp_src": 1024, "sctp_dst": 80},
             f.ICMP: {"icmpv4_type": 8, "icmpv4_code": 0}, f.ICMPV6: {"icmpv6_type": 128, "icmpv6_code": 0}}
    return {**found, **ports.get(proto, {})}


def _same(one: Hit, other: Hit) -> bool:
    """Rows of one table that do the same may have been followed as one."""
    return (one.host, one.table) == (other.host, other.table) and \
        (one.row is other.row or (one.row is not None and other.row is not None
                                  and one.row.actions == other.row.actions))


def _blame(suspect: Suspect, journey: Journey, right: Journey) -> Blame | None:
    """The first flow that takes the packet where the right tables have another one do so.

    Where the tables are as they shall be, what they have learned is to blame, or else the last flow on the way.
    """
    should = set(right.hits)
    did = set(journey.hits)
    for hit in journey.hits:
        if hit not in should:
            instead = next((one.row for one in right.hits if (one.host, one.table) == (hit.host, hit.table)
                            and one not in did), None)
            return Blame(hit.host, hit.table.bridge, hit.table.id, hit.row, instead)
    learned = [hit for hit in journey.hits if hit.row is not None and hit.row.origin == "learned"]
    way = learned[-1:] or [hit for hit in suspect.hits if hit in did][-1:] or list(journey.hits[-1:])
    return _of(way[0]) if way else None


def _of(hit: Hit) -> Blame:
    return Blame(hit.host, hit.table.bridge, hit.table.id, hit.row)
