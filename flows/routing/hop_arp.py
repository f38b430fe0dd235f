"""ARP at a router's legs, as Linux answers and learns it with arp_ignore=1 and arp_announce=2."""
from __future__ import annotations

from flows import fields as f
from flows.router import Kind, Leg, Router
from flows.routing import hop_send
from flows.routing.hop import Answered, Desk, Drop, Forwarded, Outcome, Sent
from flows.routing.neighbours import LOCKED, heard
from flows.routing.wireformat import BROADCAST_MAC, Arp

_MULTICAST = range(224, 240)
_NO_HOST = (0, 127, *_MULTICAST)  # first byte of addresses that no host may send from
_LIMITED_BROADCAST = 0xFFFFFFFF


def receive(desk: Desk, leg: Leg, arp: Arp, *, for_us: bool) -> Outcome:
    """An ARP message comes in: answered if it asks for an address of this leg, learned from if it may be."""
    if arp.op not in (f.ARP_REQUEST, f.ARP_REPLY):
        raise Drop("neither an ARP request nor a reply")
    if arp.target >> 24 in (127, *_MULTICAST):
        raise Drop("ARP for an address that no host has")
    owns = desk.router.owns(leg, arp.target)
    if arp.op == f.ARP_REQUEST and not arp.sender:
        if owns:  # RFC 5227: somebody probes whether the address is free
            return _answer(desk, leg, arp)
        raise Drop("a probe for an address that is not this leg's")
    if arp.op == f.ARP_REQUEST and desk.router.is_own(arp.target) and _may_ask(desk.router, arp.sender):
        if not owns:
            raise Drop("it asks for an address that is on another leg")
        _learn(desk, leg, arp, answer=False, override=True)
        return _answer(desk, leg, arp)
    return _overheard(desk, leg, arp, for_us=for_us)


def _may_ask(router: Router, sender: int) -> bool:
    return sender >> 24 not in _NO_HOST and sender != _LIMITED_BROADCAST and not router.is_own(sender)


def _answer(desk: Desk, leg: Leg, arp: Arp) -> Outcome:
    reply = Arp(f.ARP_REPLY, leg.hardware, arp.target, arp.sender_mac, arp.sender)
    desk.sent.insert(0, Sent(leg.name, reply.framed(leg.hardware, arp.sender_mac)))
    return Answered("it asks for the MAC of this leg")


def _overheard(desk: Desk, leg: Leg, arp: Arp, *, for_us: bool) -> Outcome:
    """Only those are learned from whom the router has dealt with (arp_accept=0)."""
    known = desk.neighbours.get((leg.name, arp.sender))
    if (leg.name, arp.sender) in desk.router.permanent:
        raise Drop("ARP of a host whose MAC is known for certain")
    if known is None:
        raise Drop("ARP of a host that the router has not asked about")
    answer = arp.op == f.ARP_REPLY and for_us
    _learn(desk, leg, arp, answer=answer, override=desk.now > known.updated + LOCKED or _gratuitous(desk, arp))
    return Forwarded("packets were waiting for this answer") if desk.sent else Answered("the MAC is noted")


def _gratuitous(desk: Desk, arp: Arp) -> bool:
    told = arp.target == arp.sender and (arp.op == f.ARP_REQUEST or arp.target_mac == arp.sender_mac)
    found = desk.router.lookup(arp.sender) if told else None
    return found is not None and found.kind is Kind.UNICAST


def _learn(desk: Desk, leg: Leg, arp: Arp, *, answer: bool, override: bool) -> None:
    key = leg.name, arp.sender
    if key in desk.router.permanent:
        return
    known = desk.neighbours.get(key)
    hop_send.remember(desk, key, heard(known, arp.sender_mac, desk.now, answer=answer, override=override))
    for parcel in known.waiting if known else ():
        hop_send.to_neighbour(desk, parcel, leg, arp.sender)


def announcements(router: Router) -> tuple[Sent, ...]:
    """Gratuitous ARP for every own address, as request and as reply."""
    frames = []
    for leg in router.legs:
        own = [int(one.ip) for one in leg.addresses]
        own += [external for external in router.fixed_of if router.outside == leg and external not in own]
        for address in own:
            request = Arp(f.ARP_REQUEST, leg.hardware, address, BROADCAST_MAC, address)
            reply = Arp(f.ARP_REPLY, leg.hardware, address, leg.hardware, address)
            frames += [Sent(leg.name, one.framed(leg.hardware, BROADCAST_MAC)) for one in (request, reply)]
    return tuple(frames)
