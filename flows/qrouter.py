"""The routed hop as a pure function: (router, state, frame, time) -> what becomes of it, and the new state.

Frames are untagged Ethernet bytes at both ends. The model is a Linux namespace as Neutron's L3 agent makes it
(forwarding on, arp_ignore=1, arp_announce=2, no rp_filter, connections tracked, iptables NAT); where ours
differs is listed in docs/qrouter-differences.md. `time` is in seconds of any clock that only moves forward.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import inf

from flows import fields as f
from flows.router import Kind, Leg, Router, Target
from flows.routing import conntrack, fragments, hop_arp, hop_local, hop_send, nat, options
from flows.routing.fragments import Whole
from flows.routing.hop import Answered, Desk, Drop, Forwarded, Kept, Outcome, Parcel, Refused, Sent, State
from flows.routing.hop_send import error, transmit
from flows.routing.icmp_limits import FRAGMENTATION_NEEDED
from flows.routing.transport import PARAMETER_PROBLEM, REDIRECT, TIME_EXCEEDED, UNREACHABLE
from flows.routing.wireformat import Arp, Datagram, Frame, Malformed

__all__ = ["Answered", "Forwarded", "Kept", "Outcome", "Refused", "Sent", "State", "announcements", "bare", "due",
           "probe", "receive", "tick"]

_GROUP = 0x01  # in the first byte of a MAC
_LAST_MULTICAST, _FIRST_MULTICAST, _LIMITED_BROADCAST = 239, 224, 0xFFFFFFFF
_LOOPBACK, _THIS_NETWORK = 127, 0
_NET, _HOST, _TTL, _REASSEMBLY = 0, 1, 0, 1  # codes of ICMP errors


def bare(router: Router) -> Router:
    """The same router without translation: for packets whose destination somebody else has translated already, and
    whose source will be afterwards. It puts fragments together only if they are for itself.
    """
    return replace(router, tracks=False)


def receive(router: Router, state: State, leg: str, data: bytes, now: float,
            *, mark: int = 0) -> tuple[Outcome, State]:
    """A frame comes in by a leg (named). KeyError if the router has no such leg.

    `mark` means nothing here; whatever is sent because of this frame, now or later, wears it.
    """
    desk = Desk(router, state, now, mark)
    try:
        outcome = _frame(desk, router.by_name[leg], Frame.parse(data))
    except (Drop, Malformed) as reason:
        outcome = Refused(str(reason))
    return replace(outcome, sent=tuple(desk.sent)), desk.state()


def tick(router: Router, state: State, now: float) -> tuple[tuple[Sent, ...], State]:
    """What time alone brings about: ARP questions are repeated or given up, what has expired is forgotten."""
    desk = Desk(router, state, now)
    hop_send.run_timers(desk)
    for key, parts in sorted(desk.fragments.items()):
        if parts.expires <= now:
            desk.fragments = desk.fragments.without(key)
            _give_up(desk, parts)
    desk.connections = desk.connections.swept(now)
    return tuple(desk.sent), desk.state()


def probe(router: Router, state: State, neighbours: Iterable[tuple[str, int]],
          now: float) -> tuple[tuple[Sent, ...], State]:
    """Ask these (leg, address) whether they still have the MAC that was learned some time ago, though no packet of
    ours uses it: somebody else's may.
    """
    desk = Desk(router, state, now)
    hop_send.probe(desk, neighbours)
    return tuple(desk.sent), desk.state()


def due(state: State) -> float:
    """When `tick` has something to do, at the latest; infinity if nothing waits."""
    timers = [one.due for _, one in state.neighbours.items()]
    return min([*timers, *(parts.expires for _, parts in state.fragments.items())], default=inf)


def announcements(router: Router) -> tuple[Sent, ...]:
    """Gratuitous ARP for every own address, as request and as reply: some hosts believe only one of them."""
    return hop_arp.announcements(router)


def _frame(desk: Desk, leg: Leg, frame: Frame) -> Outcome:
    if frame.dst != leg.hardware and not frame.dst[0] & _GROUP:
        raise Drop("the frame is for another MAC")
    for_us = frame.dst == leg.hardware
    if frame.kind == f.ARP:
        return hop_arp.receive(desk, leg, Arp.parse(frame.payload), for_us=for_us)
    if frame.kind == f.IPV4:
        return _datagram(desk, leg, Datagram.parse(frame.payload), for_us=for_us)
    raise Drop(f"a router for IPv4 has no use for EtherType {frame.kind:#06x}")


def _datagram(desk: Desk, leg: Leg, datagram: Datagram, *, for_us: bool) -> Outcome:
    whole = _assembled(desk, datagram)
    if whole is None:
        return Kept("a fragment waits for the rest of its packet")
    tracking = conntrack.track(desk.connections, whole.datagram, desk.now) if desk.router.tracks else None
    if tracking and tracking.new:
        address = desk.router.fixed_of.get(datagram.dst, datagram.dst)
        tracking = nat.to_address(desk.connections, tracking, address, desk.now)
    if tracking and not tracking.new and not tracking.about:
        desk.connections = desk.connections.with_(tracking.connection)
    if nat.untranslatable(whole.datagram, tracking):
        raise Drop("an ICMP error that does not fit the connection that it is about")
    parcel = Parcel(replace(whole, datagram=nat.write_destination(whole.datagram, tracking)), tracking, leg, for_us,
                    mark=desk.mark)
    target = _route(desk.router, leg, parcel.datagram)
    _check_options(desk, parcel, target)
    if target is None:
        return _unroutable(desk, parcel)
    if target.kind is Kind.UNICAST:
        return _forward(desk, parcel, target)
    return hop_local.deliver(desk, parcel, target)


def _assembled(desk: Desk, datagram: Datagram) -> Whole | None:
    if not datagram.offset and not datagram.more:
        return Whole(datagram)
    if not desk.router.tracks and not desk.router.is_own(datagram.dst):
        return Whole(datagram)
    key = fragments.key_of(datagram)
    parts = desk.fragments.get(key)
    if parts is None and len(desk.fragments) >= desk.router.limits.reassemblies:
        raise Drop("too many packets in fragments at once")
    try:
        parts = fragments.add(parts or fragments.Parts((), desk.now + fragments.TIMEOUT, desk.mark), datagram)
        whole = fragments.whole(parts)
    except fragments.Overlap as reason:
        desk.fragments = desk.fragments.without(key)
        raise Drop(str(reason)) from reason
    desk.fragments = desk.fragments.without(key) if whole else desk.fragments.with_(key, parts)
    return whole


def _give_up(desk: Desk, parts: fragments.Parts) -> None:
    """RFC 1122, 3.3.2: told to the sender if the first fragment is there; Linux does for its own addresses."""
    first = parts.pieces[0]
    if not first.offset and desk.router.is_own(first.dst):
        parcel = Parcel(Whole(first), None, desk.router.legs[0], True, mark=parts.mark)
        error(desk, parcel, TIME_EXCEEDED, _REASSEMBLY, source=first.dst)


def _route(router: Router, leg: Leg, datagram: Datagram) -> Target | None:
    """Where a packet goes; None without a route. Drop for addresses that may not be on the wire (martians)."""
    source, target = datagram.src >> 24, datagram.dst >> 24
    if _FIRST_MULTICAST <= source <= _LAST_MULTICAST or datagram.src == _LIMITED_BROADCAST:
        raise Drop("its source is no host's address")
    if _FIRST_MULTICAST <= target <= _LAST_MULTICAST:
        raise Drop("multicast is not routed")
    if datagram.dst == _LIMITED_BROADCAST or (datagram.src == 0 and datagram.dst == 0):
        raise Drop("broadcasts are not routed")
    if source in (_THIS_NETWORK, _LOOPBACK) or target in (_THIS_NETWORK, _LOOPBACK):
        raise Drop("an address of 0.0.0.0/8 or 127.0.0.0/8 does not belong on the wire")
    found = router.lookup(datagram.dst)
    if found and router.is_own(datagram.src):
        raise Drop("it claims to come from the router itself")
    if found and found.kind is Kind.UNICAST and found.leg == leg:
        back = router.lookup(datagram.src)
        if back and back.kind is not Kind.UNICAST:
            raise Drop("its source is a broadcast address")
    return found


def _check_options(desk: Desk, parcel: Parcel, target: Target | None) -> None:
    try:
        source_routed = options.check(parcel.datagram.options)
    except options.BadOption as bad:
        own = parcel.datagram.dst if target and target.kind is Kind.LOCAL else None
        if target is None or target.kind is not Kind.BROADCAST:
            error(desk, parcel, PARAMETER_PROBLEM, 0, rest=bad.place << 24, source=own)
        raise Drop(str(bad)) from bad
    if source_routed:
        raise Drop("source routes are not accepted")


def _unroutable(desk: Desk, parcel: Parcel) -> Outcome:
    budget = desk.budget.spend_unroutable(desk.router.limits, parcel.datagram.src, desk.now)
    if budget is not None:
        desk.budget = budget
        error(desk, parcel, UNREACHABLE, _NET)
    raise Drop("no route to its destination")


def _forward(desk: Desk, parcel: Parcel, target: Target) -> Outcome:
    if not parcel.for_us:
        raise Drop("a packet for one host in a frame for many is not forwarded")
    if parcel.datagram.ttl <= 1:
        error(desk, parcel, TIME_EXCEEDED, _TTL)
        raise Drop("its time to live ends here")
    if fragments.too_big(parcel.whole, target.leg.mtu):
        error(desk, parcel, UNREACHABLE, FRAGMENTATION_NEEDED, rest=target.leg.mtu)
        raise Drop(f"it is longer than the {target.leg.mtu} bytes of {target.leg.name} and may not be fragmented")
    parcel = parcel.with_(replace(parcel.datagram, ttl=parcel.datagram.ttl - 1))
    _redirect(desk, parcel, target)
    if parcel.datagram.options:
        passed = options.signed(parcel.datagram.options, target.source)
        parcel = parcel.with_(replace(parcel.datagram, options=passed))
    parcel = hop_local.confirm(desk, parcel, target)
    parcel = parcel.with_(nat.write_source(parcel.datagram, parcel.tracking))
    if transmit(desk, parcel, target):
        return Forwarded(f"out of {target.leg.name}")
    return Kept("it waits until the next hop answers ARP")


def _redirect(desk: Desk, parcel: Parcel, target: Target) -> None:
    """RFC 1812, 5.2.7.2: tell a neighbour of a shorter way, out of the leg it came in by."""
    back = desk.router.lookup(parcel.datagram.src)
    if parcel.leg != target.leg or back is None or back.leg != parcel.leg or back.gateway is not None:
        return
    desk.budget, wanted = desk.budget.redirect(parcel.datagram.src, desk.now)
    if wanted:
        error(desk, parcel, REDIRECT, _HOST, rest=target.nexthop(parcel.datagram.dst))
