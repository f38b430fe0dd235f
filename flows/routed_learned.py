"""The one row of the routed hop that is not compiled: a neighbour that answered ARP."""
from __future__ import annotations

from flows import fields as f
from flows.flow import DecTtl, Flow, Goto, Match, SetField, flow, when
from flows.host import RouterLeg
from flows.router import Leg
from flows.tables import NEXT_HOP, TRANSLATE_OUT


def match(leg: int, address: int) -> Match:
    """Packets for a next hop, behind a leg (its number)."""
    return when(f.ETH_TYPE(f.IPV4), f.REG_LEAVES_BY(leg), f.REG_NEXT_HOP(address))


def neighbour(numbers: RouterLeg, leg: Leg, address: int, mac: str) -> Flow:
    """The next hop at this address has this MAC."""
    return flow(NEXT_HOP, "learned", match(numbers.number, address),
                DecTtl(), SetField(f.ETH_SRC(leg.mac)), SetField(f.ETH_DST(mac)), Goto(TRANSLATE_OUT),
                origin="learned", why=f"{f.IPV4_DST.show(address)} answered {numbers.what}")


def nobody(leg: int, address: int) -> Flow:
    """Only what finds such a row: its table, priority and match."""
    return flow(NEXT_HOP, "learned", match(leg, address), origin="learned", why="it is no neighbour any more")
