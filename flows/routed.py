"""The hop of simulated routers in br-int: what is for a router, which leg leads on, which MAC is there, who may ask.

Tables 40, 43, 45, 48 and 58; between them stands `flows.translated`. A row names its router or a leg of it
(registers, or a leg's VLAN), so that routers with equal addresses never take each other's packets.
"""
from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from flows import fields as f
from flows import translated
from flows.fields import tagged
from flows.flow import (
    ANY,
    Action,
    AnyPort,
    Ask,
    CheckLarger,
    DecTtl,
    Flow,
    Goto,
    Metered,
    Move,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    flow,
    when,
)
from flows.host import ANNOUNCEMENT_METER, RouterLeg, SimulatedRouter
from flows.routed_learned import match as next_hop
from flows.router import Leg, Router, Target
from flows.tables import ASK, DELIVER, LEAVE, NEXT_HOP, ROUTE, ROUTER, TRANSLATE_IN, TRANSLATE_OUT

_PIPELINE: Final = "pipeline"
_ETHERNET: Final = 14  # bytes of an untagged Ethernet header
_NO_BROADCAST: Final = 31  # RFC 3021: a prefix this long or longer has no broadcast address
_IP: Final = f.ETH_TYPE(f.IPV4)
_ARP: Final = f.ETH_TYPE(f.ARP)


def base() -> Iterator[Flow]:
    """What the tables of the hop hold on every host, whatever its routers are."""
    yield flow(ROUTER, "miss", ANY, Goto(DELIVER), origin=_PIPELINE, why="it is not for a router of this host")
    yield from translated.base()
    for ttl in (0, 1):
        yield flow(ROUTE, "expired", when(_IP, f.IP_TTL(ttl)), Goto(ASK), origin=_PIPELINE,
                   why="its time to live ends here: the controller tells its sender")
    yield flow(ROUTE, "miss", ANY, Goto(ASK), origin=_PIPELINE,
               why="no route leads there: the controller tells its sender")
    yield flow(NEXT_HOP, "large", when(f.REG_TOO_LARGE(1)), Goto(ASK), origin=_PIPELINE,
               why="it is longer than the network ahead allows: the controller cuts it, or tells its sender")
    yield flow(NEXT_HOP, "miss", ANY, Goto(ASK), origin=_PIPELINE,
               why="nobody knows the next hop's MAC: the controller asks for it")
    yield flow(LEAVE, "miss", ANY, origin=_PIPELINE, why="no router of this host has this leg")
    yield flow(ASK, "miss", ANY, origin=_PIPELINE, why="it came in by no leg of a router of this host")


def router(simulated: SimulatedRouter) -> Iterator[Flow]:
    """All rows of one router."""
    for leg, numbers in _legs(simulated):
        yield from _attend(simulated, leg, numbers)
        yield _leave(simulated, numbers)
    yield from _overhear(simulated)
    yield from translated.router(simulated)
    yield from _own(simulated)
    yield from _routes(simulated)
    for neighbour in simulated.neighbours:
        if neighbour.fixed:
            leg, numbers = _by_name(simulated)[neighbour.leg]
            yield flow(NEXT_HOP, "known", next_hop(numbers.number, int(neighbour.address)),
                       DecTtl(), SetField(f.ETH_SRC(leg.mac)), SetField(f.ETH_DST(neighbour.mac)), Goto(TRANSLATE_OUT),
                       origin=neighbour.origin, why=f"{neighbour.name} is {neighbour.address} behind {numbers.what}")
    yield from _ask(simulated)


def _legs(simulated: SimulatedRouter) -> Iterator[tuple[Leg, RouterLeg]]:
    return zip(simulated.router.legs, simulated.legs, strict=True)


def _by_name(simulated: SimulatedRouter) -> dict[str, tuple[Leg, RouterLeg]]:
    return {leg.name: (leg, numbers) for leg, numbers in _legs(simulated)}


# ---- 40: is this for a router of this host?

def _attend(simulated: SimulatedRouter, leg: Leg, numbers: RouterLeg) -> Iterator[Flow]:
    """What is for a leg's own MAC, and ARP that speaks of its addresses. Its MAC reaches nobody else."""
    vlan, mac, origin = tagged(numbers.vlan), f.ETH_DST(leg.mac), simulated.origin
    for address in translated.addresses(simulated.router, leg):
        yield flow(ROUTER, "conflict", when(vlan, _ARP, f.ARP_SPA(address)), origin=origin,
                   why=f"{address} is {numbers.what}: nobody else may claim it")
        # To all or to its own MAC; what asks another MAC is not for the router.
        for to in (f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT), mac):
            yield flow(ROUTER, "arp", when(vlan, to, _ARP, f.ARP_OP(f.ARP_REQUEST), f.ARP_TPA(address)),
                       *_answer(leg, address), origin=origin, why=f"{address} is {numbers.what}: answered here")
    yield flow(ROUTER, "ip", when(vlan, mac, _IP), PopVlan(), AnyPort(), *_came_by(simulated, numbers),
               Goto(TRANSLATE_IN), origin=origin, why=f"{numbers.what} shall route it")
    yield flow(ROUTER, "ip", when(vlan, mac, _ARP), PopVlan(), *_came_by(simulated, numbers), Goto(ASK),
               origin=origin, why=f"{numbers.what} is told a MAC: the controller remembers it")
    yield flow(ROUTER, "own", when(vlan, mac), origin=origin, why=f"{numbers.what} speaks only IPv4 and ARP")
    # Frames that a router sends do not pass `router`; those to a leg of another router here must.
    yield flow(DELIVER, "known", when(vlan, mac), SetField(f.REG_TRANSLATED(0)), Resubmit(ROUTER), origin=origin,
               why=f"from another router of this host to {numbers.what}")


def _overhear(simulated: SimulatedRouter) -> Iterator[Flow]:
    """Gratuitous ARP of those whose MAC may change: a virtual address that moves, a next hop that is replaced.

    Several routers may wait for one address, so the row names none of them: each brings the very same.
    """
    legs = _by_name(simulated)
    for name, address in changeable(simulated):
        claim = when(tagged(legs[name][1].vlan), f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT), _ARP, f.ARP_SPA(address),
                     f.ARP_TPA(address))
        yield flow(ROUTER, "arp", claim, Metered(ANNOUNCEMENT_METER), Ask(), Goto(DELIVER), origin=simulated.origin,
                   why=f"{address} says where it is now: routers of this host hear it, too")


def changeable(simulated: SimulatedRouter) -> tuple[tuple[str, IPv4Address], ...]:
    """(leg, address) of neighbours that the topology names, but whose MAC it cannot vouch for."""
    known = simulated.router.permanent
    return tuple((leg, address) for leg, address in dict.fromkeys(_asked_for(simulated))
                 if (leg, int(address)) not in known)


def _asked_for(simulated: SimulatedRouter) -> Iterator[tuple[str, IPv4Address]]:
    router_, gateway = simulated.router, simulated.router.gateway
    yield from ((neighbour.leg, neighbour.address) for neighbour in simulated.neighbours if not neighbour.fixed)
    if gateway and gateway.nexthop:
        yield gateway.leg, gateway.nexthop
    for route in router_.routes:
        target = router_.lookup(int(route.nexthop))
        if target is not None and target.gateway is None:
            yield target.leg.name, route.nexthop


def _came_by(simulated: SimulatedRouter, numbers: RouterLeg) -> tuple[Action, ...]:
    return SetField(f.REG_ROUTER(simulated.number)), SetField(f.REG_CAME_BY(numbers.number))


def _answer(leg: Leg, address: IPv4Address) -> tuple[Action, ...]:
    """Turn an ARP request into its reply, which goes to whom it asks for."""
    return (SetField(f.ARP_OP(f.ARP_REPLY)),
            Move(f.ARP_SHA, f.ARP_THA), Move(f.ARP_SPA, f.ARP_TPA), Move(f.ARP_SHA, f.ETH_DST),
            SetField(f.ARP_SHA(leg.mac)), SetField(f.ARP_SPA(address)), SetField(f.ETH_SRC(leg.mac)),
            AnyPort(), Goto(DELIVER))


# ---- 43: which leg leads there?

def _own(simulated: SimulatedRouter) -> Iterator[Flow]:
    of_router, router_ = f.REG_ROUTER(simulated.number), simulated.router
    own = {address: numbers for leg, numbers in reversed([*_legs(simulated)])
           for address in translated.addresses(router_, leg)}
    for address, numbers in own.items():
        yield flow(ROUTE, "own", when(of_router, _IP, f.IPV4_DST(address)), Goto(ASK), origin=simulated.origin,
                   why=f"{address} is {numbers.what}: the controller answers")
    broadcasts = {one.network.broadcast_address: numbers for leg, numbers in _legs(simulated) for one in leg.addresses
                  if one.network.prefixlen < _NO_BROADCAST}
    for address, numbers in broadcasts.items():
        if address not in own:
            yield flow(ROUTE, "own", when(of_router, _IP, f.IPV4_DST(address)), origin=simulated.origin,
                       why=f"{address} is everybody behind {numbers.what}: that is not routed")


def _routes(simulated: SimulatedRouter) -> Iterator[Flow]:
    numbers = {leg.name: found for leg, found in _legs(simulated)}
    for prefix, target in routes(simulated.router).items():
        leg = numbers[target.leg.name]
        yield flow(ROUTE, f"prefix{prefix.prefixlen}",
                   when(f.REG_ROUTER(simulated.number), _IP, f.IPV4_DST(prefix)),
                   SetField(f.REG_LEAVES_BY(leg.number)), _to(target),
                   CheckLarger(target.leg.mtu + _ETHERNET, f.REG_TOO_LARGE), Goto(NEXT_HOP),
                   origin=simulated.origin, why=_way(prefix, target, leg))


def routes(router_: Router) -> dict[IPv4Network, Target]:
    """Prefix -> where it leads, the longest first; of two ways for one prefix only the first is ever gone."""
    found: dict[IPv4Network, Target] = {}
    for network, mask, target in router_.table:
        found.setdefault(IPv4Network((network, mask.bit_count())), target)
    return found


def _to(target: Target) -> Action:
    """Note down the next hop: the packet's own destination where that is a neighbour."""
    if target.gateway is None:
        return Move(f.IPV4_DST, f.REG_NEXT_HOP)
    return SetField(f.REG_NEXT_HOP(target.gateway))


def _way(prefix: IPv4Network, target: Target, leg: RouterLeg) -> str:
    what = str(prefix) if prefix.prefixlen else "everything else"
    if target.gateway is None:
        return f"{what} is behind {leg.what}"
    return f"{what} is reached through {IPv4Address(target.gateway)}, behind {leg.what}"


# ---- 48: which network is behind that leg?

def _leave(simulated: SimulatedRouter, numbers: RouterLeg) -> Flow:
    return flow(LEAVE, "known", when(f.REG_LEAVES_BY(numbers.number)), PushVlan(), SetField(tagged(numbers.vlan)),
                Goto(DELIVER), origin=simulated.origin,
                why=f"{numbers.what} is in {numbers.network}, here VLAN {numbers.vlan}")


# ---- 58: how often may this sender ask the controller?

def _ask(simulated: SimulatedRouter) -> Iterator[Flow]:
    legs = _by_name(simulated)
    senders = {(neighbour.leg, neighbour.mac): neighbour for neighbour in reversed(simulated.neighbours)}
    for (name, mac), neighbour in senders.items():
        numbers = legs[name][1]
        yield flow(ASK, "sender", when(f.REG_CAME_BY(numbers.number), f.ETH_SRC(mac)),
                   Metered(neighbour.meter), Ask(), origin=neighbour.origin,
                   why=f"{neighbour.name} has an allowance of its own at {numbers.what}")
    for numbers in simulated.legs:
        yield flow(ASK, "leg", when(f.REG_CAME_BY(numbers.number)), Metered(numbers.meter), Ask(),
                   origin=simulated.origin, why=f"all others behind {numbers.what} share one allowance")
