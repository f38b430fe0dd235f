"""Ids of ICMP queries that the controller lends, where two hosts behind one address ask one target with the same id.

Open vSwitch's userspace connection tracking changes ports, but no ids (lib/conntrack.c, nat_get_unique_tuple): of two
such queries it translates the first only. The second comes to the controller, leaves with an id of its own, and its
answers, which the switch knows nothing of, come to the controller as well.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from flows.fields import IPV4
from flows.packet import ICMP
from flows.router import Router
from flows.routing.frozenmap import FrozenMap
from flows.routing.hop import Forwarded, Outcome, Refused, Sent
from flows.routing.transport import (
    Way,
    inverse,
    is_error,
    quoted,
    requoted,
    sound,
    way_of,
    with_destination,
    with_source,
)
from flows.routing.wireformat import Datagram, Frame, Malformed

MARK: Final = 16  # flows.translated.Mark.SETTLED: how the switch says that it could not translate a packet
TIMEOUT: Final = 30.0  # seconds after the last packet, as net.netfilter.nf_conntrack_icmp_timeout
LIMIT: Final = 4096  # loans of one router at once
_IDS: Final = 0x10000


@dataclass(frozen=True)
class Loan:
    """A query of a host, as it came, and until when its id is kept."""

    query: Way
    expires: float


@dataclass(frozen=True)
class Loans:
    """All of one router."""

    lent: FrozenMap[Way, Way] = field(default_factory=FrozenMap)  # the query as it came -> its answers from outside
    back: FrozenMap[Way, Loan] = field(default_factory=FrozenMap)  # the answers from outside -> whose they are


def lend(router: Router, loans: Loans, data: bytes, now: float) -> tuple[Outcome, Loans]:
    """A frame that is ready to leave by the outside leg, but the switch could not hide its sender."""
    outside, address = router.outside, router.snat_address
    try:
        frame = Frame.parse(data)
        datagram = Datagram.parse(frame.payload)
    except Malformed as reason:
        return Refused(str(reason)), loans
    if outside is None or address is None or datagram.src in router.floating_of:
        return Refused("the switch has no port left for its translation"), loans
    lent, loans = outward(loans, datagram, address, now)
    if lent is None:
        return Refused("no id is left for its translation, or no port"), loans
    sent = Sent(outside.name, lent.framed(frame.src, frame.dst), forwarded=True, mark=MARK)
    return Forwarded("another host's query has its id, so it leaves with another one", (sent,)), loans


def returned(router: Router, loans: Loans, leg: str, data: bytes, now: float) -> tuple[bytes, Loans]:
    """A frame that came in by a leg (named): for its host, if it is about a query with a lent id; else as it is."""
    try:
        frame = Frame.parse(data)
        if router.outside is None or leg != router.outside.name or frame.kind != IPV4:
            return data, loans
        datagram, loans = inward(loans, Datagram.parse(frame.payload), now)
    except Malformed:
        return data, loans
    return (data if datagram is None else datagram.framed(frame.src, frame.dst)), loans


def outward(loans: Loans, datagram: Datagram, address: int, now: float) -> tuple[Datagram | None, Loans]:
    """A query that the switch could not show as `address`, as it may leave. None if it is none, or no id is left."""
    way = way_of(datagram) if datagram.proto == ICMP and sound(datagram) else None
    if way is None:
        return None, loans
    answers = loans.lent.get(way)
    if answers is None:
        loans = _swept(loans, now) if len(loans.back) >= LIMIT else loans
        answers = next(_free(loans, inverse(way)._replace(dst=address), now), None)
        if answers is None or len(loans.back) >= LIMIT:
            return None, loans
    loan = Loan(way, now + TIMEOUT)
    loans = Loans(loans.lent.with_(way, answers), loans.back.with_(answers, loan))
    return with_source(datagram, address, answers.src_port), loans


def inward(loans: Loans, datagram: Datagram, now: float) -> tuple[Datagram | None, Loans]:
    """What comes from outside about a query with a lent id: as its host knows it. None for all else."""
    if datagram.proto != ICMP or not sound(datagram):
        return None, loans
    inner = quoted(datagram) if is_error(datagram) else None
    about = way_of(inner) if inner and inner.proto == ICMP else None
    answers = inverse(about) if about else way_of(datagram)
    loan = loans.back.get(answers) if answers else None
    if answers is None or loan is None or loan.expires <= now:
        return None, loans
    query = loan.query
    if inner:
        told = requoted(datagram, with_source(inner, query.src, query.src_port))
        return replace(told, dst=query.src), loans
    kept = replace(loan, expires=now + TIMEOUT)
    return with_destination(datagram, query.src, query.src_port), replace(loans, back=loans.back.with_(answers, kept))


def _free(loans: Loans, answers: Way, now: float) -> Iterator[Way]:
    """The same with ids that are not lent, beginning far away from its own, which is taken."""
    for step in range(1, _IDS):
        wanted = answers._replace(src_port=(answers.src_port + _IDS // 2 + step) % _IDS)
        taken = loans.back.get(wanted)
        if taken is None or taken.expires <= now:
            yield wanted


def _swept(loans: Loans, now: float) -> Loans:
    lent, back = loans.lent, loans.back
    for answers, loan in [*loans.back.items()]:
        if loan.expires <= now:
            lent, back = lent.without(loan.query), back.without(answers)
    return Loans(lent, back)
