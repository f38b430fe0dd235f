"""Out of the router: to a neighbour, in fragments if need be; and the packets that the router makes itself."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from flows import fields as f
from flows.packet import ICMP
from flows.router import Kind, Leg, Target
from flows.routing import fragments, nat, options
from flows.routing.conntrack import Tracking, track
from flows.routing.fragments import Whole
from flows.routing.hop import Desk, Drop, Parcel, Sent
from flows.routing.neighbours import Neighbour, Phase, Question, probed, timed_out, used
from flows.routing.transport import UNREACHABLE, icmp, may_cause_error
from flows.routing.wireformat import BROADCAST_MAC, Arp, Datagram

_ERROR_SIZE = 576  # RFC 1812, 4.3.2.3: an ICMP error quotes as much as fits
_HEADS, _IPV4_HEAD = 28, 20  # of IPv4 and ICMP; of IPv4 alone
_HOST = 1
_TOS_KEPT, _INTERNETWORK_CONTROL = 0x1E, 0xC0  # RFC 1812, 4.3.2.5


def transmit(desk: Desk, parcel: Parcel, target: Target) -> bool:
    """Send a packet where it belongs. False if it waits for ARP."""
    left = True
    for piece in fragments.cut(parcel.whole, target.leg.mtu):
        part = replace(parcel, whole=Whole(piece))
        if target.kind is Kind.BROADCAST:
            _leave(desk, part, target.leg, BROADCAST_MAC)
        else:
            left = to_neighbour(desk, part, target.leg, target.nexthop(piece.dst))
    return left


def to_neighbour(desk: Desk, parcel: Parcel, leg: Leg, nexthop: int) -> bool:
    """Hand one packet to a neighbour. False if it waits for ARP."""
    key = leg.name, nexthop
    if (mac := desk.router.permanent.get(key)) is not None:
        _leave(desk, parcel, leg, mac)
        return True
    entry, leaves, question = used(desk.neighbours.get(key), parcel, desk.router.limits.waiting, desk.now)
    remember(desk, key, entry)
    if question:
        ask(desk, leg, nexthop, question)
    if leaves and entry.mac:
        _leave(desk, parcel, leg, entry.mac)
    return leaves


def _leave(desk: Desk, parcel: Parcel, leg: Leg, mac: bytes) -> None:
    frame = parcel.datagram.framed(leg.hardware, mac)
    desk.sent.append(Sent(leg.name, frame, forwarded=not parcel.own, mark=parcel.mark))


def remember(desk: Desk, key: tuple[str, int], entry: Neighbour[Parcel]) -> None:
    """Keep what is known of a neighbour. Drop if there are too many, and none that can be forgotten."""
    if key not in desk.neighbours and len(desk.neighbours) >= desk.router.limits.neighbours:
        idle = [(known.updated, other) for other, known in desk.neighbours.items()
                if known.phase in (Phase.STALE, Phase.FAILED, Phase.REACHABLE)]
        if not idle:
            raise Drop("too many neighbours are being asked for")
        desk.neighbours = desk.neighbours.without(min(idle)[1])
    desk.neighbours = desk.neighbours.with_(key, entry)


def ask(desk: Desk, leg: Leg, target: int, question: Question) -> None:
    """Who has an address? From the leg's address in its subnet (arp_announce=2)."""
    request = Arp(f.ARP_REQUEST, leg.hardware, leg.source_towards(target), bytes(6), target)
    desk.sent.append(Sent(leg.name, request.framed(leg.hardware, question.mac or BROADCAST_MAC)))


def run_timers(desk: Desk) -> None:
    """ARP: ask again, or give up and tell the senders of what waited."""
    for key, known in sorted(desk.neighbours.items(), key=lambda item: item[0]):
        if known.due > desk.now:
            continue
        if known.phase is Phase.FAILED:
            desk.neighbours = desk.neighbours.without(key)
            continue
        entry, question = timed_out(known, desk.now)
        desk.neighbours = desk.neighbours.with_(key, entry)
        if question:
            ask(desk, desk.router.by_name[key[0]], key[1], question)
        if entry.phase is Phase.FAILED:
            for parcel in known.waiting:
                error(desk, parcel, UNREACHABLE, _HOST)


def probe(desk: Desk, keys: Iterable[tuple[str, int]]) -> None:
    """Ask those whose MAC was learned some time ago, though no packet is for them."""
    for key in keys:
        known = desk.neighbours.get(key)
        if known is not None and known.phase is Phase.STALE:
            entry, question = probed(known, desk.now)
            desk.neighbours = desk.neighbours.with_(key, entry)
            ask(desk, desk.router.by_name[key[0]], key[1], question)


def error(desk: Desk, parcel: Parcel, kind: int, code: int, *, rest: int = 0, source: int | None = None) -> None:
    """Tell the sender of a packet what is wrong with it, if that is allowed (RFC 1122, 3.2.2) and not too often.

    It comes from `source`, else from the address that the router would use towards that sender.
    """
    cause = parcel.datagram
    back = desk.router.lookup(cause.src)
    if not parcel.for_us or parcel.own or back is None or not may_cause_error(cause):
        return
    budget = desk.budget.spend(desk.router.limits, cause.src, (kind, code), desk.now)
    if budget is None:
        return
    desk.budget = budget
    own = source or back.source
    echoed = options.echoed(cause.options, own, back.source)
    quote = _quote(cause, own)[:min(_ERROR_SIZE, back.leg.mtu) - _HEADS - len(echoed)]
    answer = Datagram(own, cause.src, ICMP, icmp(kind, code, rest, quote), options=echoed,
                      tos=cause.tos & _TOS_KEPT | _INTERNETWORK_CONTROL, ident=desk.next_ident())
    about = parcel.tracking
    # What could not be tracked itself may look like a packet of a connection all the same.
    same = replace(about, back=not about.back, about=True) if about else track(desk.connections, answer, desk.now)
    send_own(desk, answer, same, parcel.mark)


def _quote(cause: Datagram, own: int) -> bytes:
    """The packet as the router keeps it: Linux has signed its options by then, and not yet summed it up again."""
    data = cause.to_bytes()
    if not options.readable(cause.options):
        return data
    return data[:_IPV4_HEAD] + options.signed(cause.options, own) + cause.payload


def send_own(desk: Desk, datagram: Datagram, tracking: Tracking | None, mark: int) -> None:
    """Send what the router itself says, translated like the conversation that it belongs to."""
    if nat.untranslatable(datagram, tracking):
        return
    datagram = nat.write_destination(datagram, tracking)
    target = desk.router.lookup(datagram.dst)
    if target is None or target.kind is Kind.LOCAL:
        return
    datagram = nat.write_source(datagram, tracking)
    transmit(desk, Parcel(Whole(datagram), tracking, target.leg, False, own=True, mark=mark), target)
