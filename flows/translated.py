"""Translation in the hop of simulated routers: tables 41, 42, 46 and 47, in the order of netfilter's hooks.

Connection tracking remembers what was translated how; rows only say what a new connection shall look like. A router
has two zones, because one zone translates a connection once: in `zone` lives what crosses the outside leg, and the
destination of what goes from inside to a floating IP; in `hairpin_zone` the source of the latter.

REG_TRANSLATED says how a packet was looked up on its way in (`Mark`); what the controller makes of such a packet
comes back with the same mark, and if it is the router's own answer, with OWN as well.
"""
from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from typing import Final

from flows import fields as f
from flows.fields import Criterion, ct_state
from flows.flow import ANY, Action, Flow, Goto, Match, SetField, Track, Translation, flow, when
from flows.host import RouterLeg, SimulatedRouter
from flows.router import Leg, Router
from flows.routing import lending
from flows.tables import ASK, LEAVE, ROUTE, TRANSLATE_IN, TRANSLATE_OUT, TRANSLATED_IN, TRANSLATED_OUT

_PIPELINE: Final = "pipeline"
_IP: Final = f.ETH_TYPE(f.IPV4)
_ICMP: Final = f.IP_PROTO(f.ICMP)
# What belongs on no wire (RFC 1122, 3.2.1.3; RFC 1812, 5.3.7): its own network, loopback, groups, everybody.
_MARTIANS: Final = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32")
# Open vSwitch calls a conversation new until it is answered; its second packet may be translated already.
_NEW_HERE: Final = ct_state("+new-snat")


class Mark(IntEnum):
    """How a packet was looked up before it was routed."""

    NONE = 0
    OUTSIDE = 1  # it came in from outside
    HAIRPIN = 2  # from inside to a floating IP
    HAIRPIN_BACK = 3  # the answer to such
    MAYBE_HAIRPIN = 4  # from inside to an address of the router outside: only inside table 42
    SETTLED = lending.MARK  # its connection has just been given another source outside, or ought to have
    OWN = 8  # added: the router's own packet about one that came with the other bits


def base() -> Iterator[Flow]:
    """What these tables hold on every host."""
    for prefix in _MARTIANS:
        yield flow(TRANSLATE_IN, "martian", when(_IP, f.IPV4_SRC(prefix)), origin=_PIPELINE,
                   why=f"no host may send from {prefix}")
        yield flow(TRANSLATE_IN, "martian", when(_IP, f.IPV4_DST(prefix)), origin=_PIPELINE,
                   why=f"nothing is routed to {prefix}")
    yield flow(TRANSLATE_IN, "miss", ANY, Goto(ROUTE), origin=_PIPELINE, why="from inside, to an ordinary address")
    yield flow(TRANSLATED_IN, "miss", ANY, Goto(ROUTE), origin=_PIPELINE, why="translated back, if it was an answer")
    yield flow(TRANSLATE_OUT, "miss", ANY, Goto(LEAVE), origin=_PIPELINE, why="inside, it shows its own address")
    # Where it finds no port for a conversation, the switch lets its packets pass as they are: not here.
    settled = f.REG_TRANSLATED(Mark.SETTLED)
    yield flow(TRANSLATED_OUT, "settled", when(_IP, settled, ct_state("+snat")), Goto(LEAVE), origin=_PIPELINE,
               why="a new conversation, and now it shows another address")
    yield flow(TRANSLATED_OUT, "exhausted", when(settled), origin=_PIPELINE,
               why="no port is left for it outside, and it may not show its own address")
    yield flow(TRANSLATED_OUT, "query", when(_IP, _ICMP, f.REG_TRANSLATED(Mark.SETTLED)), Goto(ASK), origin=_PIPELINE,
               why="another host's query has its id: the controller lends it another one")
    for state in ("-new", "+snat"):
        yield flow(TRANSLATED_OUT, "known", when(_IP, ct_state(state)), Goto(LEAVE), origin=_PIPELINE,
                   why="translated as the rest of its conversation")
    yield flow(TRANSLATED_OUT, "miss", ANY, origin=_PIPELINE, why="nobody says which address it shall show")


def router(simulated: SimulatedRouter) -> Iterator[Flow]:
    """What they hold for one router."""
    yield from _own_sources(simulated)
    outside = _outside(simulated)
    if outside is None:
        return
    yield from _from_outside(simulated, outside)
    yield from _to_outside(simulated, outside)
    if simulated.router.fixed_of:
        yield from _to_floating(simulated)
        yield from _hairpin(simulated)


def addresses(router_: Router, leg: Leg) -> tuple[IPv4Address, ...]:
    """The addresses that a leg answers for: its own, and on the way outside the floating IPs."""
    floating = map(IPv4Address, router_.fixed_of) if leg == router_.outside else ()
    return tuple(dict.fromkeys((*(one.ip for one in leg.addresses), *floating)))


def _outside(simulated: SimulatedRouter) -> RouterLeg | None:
    """The leg to the outside, if anything is translated there."""
    router_ = simulated.router
    if router_.outside is None or not (_hidden_behind(router_) or router_.fixed_of):
        return None
    return simulated.legs[router_.legs.index(router_.outside)]


def _hidden_behind(router_: Router) -> IPv4Address | None:
    """What inside hosts without a floating IP look like outside, if they are hidden."""
    hides = router_.gateway is not None and router_.gateway.snat and router_.snat_address is not None
    return IPv4Address(router_.snat_address or 0) if hides else None


def _own_sources(simulated: SimulatedRouter) -> Iterator[Flow]:
    for leg, numbers in zip(simulated.router.legs, simulated.legs, strict=True):
        for address in addresses(simulated.router, leg):
            yield flow(TRANSLATE_IN, "martian", _on(simulated, f.IPV4_SRC(address)), origin=simulated.origin,
                       why=f"{address} is {numbers.what}: nobody else may send from it")


def _from_outside(simulated: SimulatedRouter, outside: RouterLeg) -> Iterator[Flow]:
    origin, came = simulated.origin, f.REG_TRANSLATED(Mark.OUTSIDE)
    yield flow(TRANSLATE_IN, "outside", _on(simulated, f.REG_CAME_BY(outside.number)), _mark(Mark.OUTSIDE),
               Track(simulated.zone, TRANSLATED_IN, nat=True), origin=origin,
               why=f"it came in by {outside.what}: perhaps it is an answer")
    yield flow(TRANSLATED_IN, "invalid", _on(simulated, came, ct_state("+inv")), origin=origin,
               why="from outside, and part of no conversation that could be")
    if hidden := _hidden_behind(simulated.router):
        yield flow(TRANSLATED_IN, "query", _on(simulated, came, ct_state("+inv"), _ICMP, f.IPV4_DST(hidden)),
                   Goto(ASK), origin=origin, why="perhaps the answer to a query whose id the controller lent")
    for external, fixed in simulated.router.fixed_of.items():
        yield flow(TRANSLATED_IN, "floating",
                   _on(simulated, came, ct_state("+new"), f.IPV4_DST(IPv4Address(external))),
                   _stand_for(simulated.zone, fixed), origin=origin, why=_stands_for(simulated, external))
    # Without this the answers would be taken for conversations of their own, and shown under another address.
    for prefix in _inside(simulated.router):
        yield flow(TRANSLATED_IN, "new", _on(simulated, came, ct_state("+new-dnat"), f.IPV4_DST(prefix)),
                   Track(simulated.zone, ROUTE, commit=True), origin=origin,
                   why=f"from outside straight to {prefix}: its answers keep their address")


def _to_outside(simulated: SimulatedRouter, outside: RouterLeg) -> Iterator[Flow]:
    origin, new, hidden = simulated.origin, _NEW_HERE, _hidden_behind(simulated.router)
    yield flow(TRANSLATE_OUT, "outside", _on(simulated, f.REG_LEAVES_BY(outside.number)),
               Track(simulated.zone, TRANSLATED_OUT, nat=True), origin=origin,
               why=f"it leaves by {outside.what}: outside it may have to show another address")
    yield flow(TRANSLATE_OUT, "marked", _on(simulated, _of_own(Mark.OUTSIDE)),
               Track(simulated.zone, LEAVE, nat=True), origin=origin,
               why="the router's answer to what came from outside: it speaks of addresses as they are there")
    yield flow(TRANSLATED_OUT, "invalid", _on(simulated, ct_state("+inv")), origin=origin,
               why="part of no conversation that could be")
    for fixed, external in simulated.router.floating_of.items():
        yield flow(TRANSLATED_OUT, "floating", _on(simulated, new, f.IPV4_SRC(IPv4Address(fixed))),
                   *_show(simulated.zone, external), origin=origin,
                   why=f"{_name(simulated, fixed)} leaves by its floating IP {IPv4Address(external)}")
    actions = (Track(simulated.zone, LEAVE, commit=True),) if hidden is None else _show(simulated.zone, int(hidden))
    yield flow(TRANSLATED_OUT, "new", _on(simulated, new), *actions, origin=origin,
               why="outside it shows its own address" if hidden is None else f"outside it shows {hidden}")


def _to_floating(simulated: SimulatedRouter) -> Iterator[Flow]:
    """From inside to an address of the router outside: a floating IP, or the answer to who spoke to one."""
    origin, router_, zone = simulated.origin, simulated.router, simulated.zone
    maybe = f.REG_TRANSLATED(Mark.MAYBE_HAIRPIN)
    for address in addresses(router_, router_.outside) if router_.outside else ():
        yield flow(TRANSLATE_IN, "own", _on(simulated, f.IPV4_DST(address)), _mark(Mark.HAIRPIN),
                   Track(simulated.hairpin_zone, TRANSLATED_IN, nat=True), origin=origin,
                   why=f"from inside to {address}: perhaps an answer to who showed that address")
    yield flow(TRANSLATED_IN, "back", _on(simulated, f.REG_TRANSLATED(Mark.HAIRPIN), ct_state("+rpl")),
               _mark(Mark.HAIRPIN_BACK), Goto(ROUTE), origin=origin, why="the answer to who spoke to a floating IP")
    yield flow(TRANSLATED_IN, "new", _on(simulated, f.REG_TRANSLATED(Mark.HAIRPIN)), _mark(Mark.MAYBE_HAIRPIN),
               Track(zone, TRANSLATED_IN, nat=True), origin=origin, why="no answer: perhaps it is for a floating IP")
    yield flow(TRANSLATED_IN, "invalid", _on(simulated, maybe, ct_state("+inv")), origin=origin,
               why="to an address outside, and part of no conversation that could be")
    for external, fixed in router_.fixed_of.items():
        yield flow(TRANSLATED_IN, "floating",
                   _on(simulated, maybe, ct_state("+new"), f.IPV4_DST(IPv4Address(external))),
                   _mark(Mark.HAIRPIN), _stand_for(zone, fixed), origin=origin,
                   why=_stands_for(simulated, external))
    yield flow(TRANSLATED_IN, "back", _on(simulated, maybe, ct_state("+dnat")), _mark(Mark.HAIRPIN), Goto(ROUTE),
               origin=origin, why="part of a conversation with a floating IP")
    yield flow(TRANSLATED_IN, "new", _on(simulated, maybe), _mark(Mark.NONE), Goto(ROUTE), origin=origin,
               why="to the router itself")


def _hairpin(simulated: SimulatedRouter) -> Iterator[Flow]:
    """What goes from inside to a floating IP shows an address outside, too: or its answers would not come back here."""
    origin, router_ = simulated.origin, simulated.router
    hairpin, new = f.REG_TRANSLATED(Mark.HAIRPIN), _NEW_HERE
    ways = ((hairpin, simulated.hairpin_zone, TRANSLATED_OUT, "to a floating IP: it shows an address outside, too"),
            (f.REG_TRANSLATED(Mark.HAIRPIN_BACK), simulated.zone, LEAVE, "back from a floating IP: it shows that"),
            (_of_own(Mark.HAIRPIN), simulated.zone, LEAVE, "the router's answer to what goes to a floating IP"),
            (_of_own(Mark.HAIRPIN_BACK), simulated.hairpin_zone, LEAVE,
             "the router's answer to what comes back from a floating IP"))
    for mark, zone, onward, why in ways:
        yield flow(TRANSLATE_OUT, "marked", _on(simulated, mark), Track(zone, onward, nat=True), origin=origin, why=why)
    for fixed, external in router_.floating_of.items():
        yield flow(TRANSLATED_OUT, "hairpin-floating", _on(simulated, hairpin, new, f.IPV4_SRC(IPv4Address(fixed))),
                   *_speak_as(simulated.hairpin_zone, external), origin=origin,
                   why=f"{_name(simulated, fixed)} speaks to a floating IP as {IPv4Address(external)}")
    if router_.snat_address is not None:
        yield flow(TRANSLATED_OUT, "hairpin", _on(simulated, hairpin, new),
                   *_speak_as(simulated.hairpin_zone, router_.snat_address), origin=origin,
                   why=f"it speaks to a floating IP as {IPv4Address(router_.snat_address)}")


# ---- words and small parts

def _on(simulated: SimulatedRouter, *criteria: Criterion) -> Match:
    return when(f.REG_ROUTER(simulated.number), _IP, *criteria)


def _mark(mark: Mark) -> Action:
    return SetField(f.REG_TRANSLATED(mark))


def _of_own(mark: Mark) -> Criterion:
    return f.REG_TRANSLATED(Mark.OWN | mark)


def _stand_for(zone: int, fixed: int) -> Track:
    """A new connection goes to another address."""
    return Track(zone, ROUTE, commit=True, translation=Translation("dst", IPv4Address(fixed)))


def _show(zone: int, address: int) -> tuple[Action, Track]:
    """A new connection comes from another address, if a port of that is free."""
    translation = Translation("src", IPv4Address(address))
    return _mark(Mark.SETTLED), Track(zone, TRANSLATED_OUT, commit=True, translation=translation)


def _speak_as(zone: int, address: int) -> tuple[Track, Action]:
    """The same inside, where nothing must be hidden: if no port is free, it shows its own address.

    Whether it does is not asked, for this is the longest way: from a filtered VM to another one, a packet that was led
    to a table once more would be dropped (see actions.Track).
    """
    return Track(zone, None, commit=True, translation=Translation("src", IPv4Address(address))), Goto(LEAVE)


def _inside(router_: Router) -> Iterator[IPv4Network]:
    """What is routed to inside legs, in as few prefixes as say it."""
    return collapse_addresses(IPv4Network((network, mask.bit_count())) for network, mask, target in router_.table
                              if target.leg != router_.outside)


def _name(simulated: SimulatedRouter, address: int) -> str:
    """Whose address that is, for people."""
    plain = IPv4Address(address)
    return next((one.name for one in simulated.neighbours if one.address == plain), str(plain))


def _stands_for(simulated: SimulatedRouter, external: int) -> str:
    fixed = simulated.router.fixed_of[external]
    return f"{IPv4Address(external)} stands for {_name(simulated, fixed)}: it goes to {IPv4Address(fixed)}"
