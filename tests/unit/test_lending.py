"""Ids that the controller lends to ICMP queries which the switch cannot tell apart."""
from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from controller.switch.events import Asked, PacketOut
from controller.switch.hop import Hop
from flows import fields as f
from flows.packet import ICMP
from flows.qrouter import Forwarded, Refused
from flows.routing import lending
from flows.routing.lending import LIMIT, TIMEOUT, Loans, inward, lend, outward, returned
from flows.routing.transport import ECHO_REPLY, icmp, quoted, sound
from flows.routing.wireformat import Datagram, Frame
from flows.tables import LEAVE, TRANSLATE_OUT
from tests import hopcloud
from tests.routerkit import FAR, A, G, framed, mac_of, number, ping, router, tcp_to

OWN, HOST, OTHER = number("203.0.113.10"), "10.0.1.21", "10.0.2.21"


def ident(datagram: Datagram) -> int:
    return int(struct.unpack_from("!H", datagram.payload, 4)[0])


def lent(loans: Loans, host: str, now: float = 0.0, ident_: int = 77) -> tuple[Datagram, Loans]:
    found, loans = outward(loans, ping(host, FAR, ident_), OWN, now)
    assert found is not None and sound(found)
    return found, loans


def answer(to: Datagram) -> Datagram:
    return replace(ping(FAR, "203.0.113.10", ident(to), kind=ECHO_REPLY), src=to.dst)


def test_two_hosts_with_one_id_leave_with_two_and_hear_their_own() -> None:
    one, loans = lent(Loans(), HOST)
    two, loans = lent(loans, OTHER)
    assert (one.src, two.src) == (OWN, OWN) and len({ident(one), ident(two), 77}) == 3
    for out, host in ((one, HOST), (two, OTHER)):
        back, loans = inward(loans, answer(out), 1.0)
        assert back == ping(FAR, host, 77, kind=ECHO_REPLY)


def test_a_host_keeps_its_id_while_it_asks() -> None:
    first, loans = lent(Loans(), HOST)
    again, after = lent(loans, HOST, now=TIMEOUT - 1)
    assert again == first and len(after.back) == 1


def test_a_loan_ends_when_nobody_asks_or_answers() -> None:
    out, loans = lent(Loans(), HOST)
    assert inward(loans, answer(out), TIMEOUT - 1)[0]
    assert inward(loans, answer(out), TIMEOUT)[0] is None
    _, kept = inward(loans, answer(out), TIMEOUT - 1)
    assert inward(kept, answer(out), 2 * TIMEOUT - 2)[0]


def test_an_error_from_the_way_is_about_the_query_as_its_host_knows_it() -> None:
    out, loans = lent(Loans(), HOST)
    error = Datagram(number("192.0.2.99"), OWN, ICMP, icmp(11, 0, 0, out.to_bytes()[:28]))
    told, _ = inward(loans, error, 1.0)
    assert told and told.dst == number(HOST) and sound(told)
    inner = quoted(told)
    assert inner and (inner.src, ident(inner)) == (number(HOST), 77)


def test_there_is_an_end_to_lending_and_what_has_expired_makes_room() -> None:
    loans = Loans()
    for place in range(LIMIT):
        _, loans = lent(loans, HOST, ident_=place)
    assert outward(loans, ping(OTHER, FAR, 5), OWN, 1.0)[0] is None
    _, loans = lent(loans, OTHER, now=TIMEOUT, ident_=5)
    assert len(loans.back) == 1


@pytest.mark.parametrize("datagram", [
    tcp_to(FAR, "203.0.113.10", (80, 4000)), ping(FAR, "203.0.113.10", 5, kind=ECHO_REPLY),
    ping(FAR, "203.0.113.10", 5), Datagram(number(FAR), OWN, ICMP, icmp(11, 0, 0, b"short"))], ids=str)
def test_what_has_no_loan_stays_as_it_is(datagram: Datagram) -> None:
    _, loans = lent(Loans(), HOST)
    assert returned(router(), loans, G, framed(G, datagram), 1.0) == (framed(G, datagram), loans)


def test_only_what_comes_from_outside_is_returned() -> None:
    out, loans = lent(Loans(), HOST)
    frame = framed(A, answer(out))
    assert returned(router(), loans, A, frame, 1.0)[0] == frame
    assert returned(router(), loans, G, framed(G, answer(out)), 1.0)[0] != framed(G, answer(out))
    assert returned(router(), loans, G, b"short", 1.0)[0] == b"short"


def test_a_frame_leaves_by_the_outside_leg_as_it_came() -> None:
    data = framed(G, ping(HOST, FAR, 77))
    outcome, _ = lend(router(), Loans(), data, 0.0)
    assert isinstance(outcome, Forwarded)
    (sent,) = outcome.sent
    assert (sent.leg, sent.mark, sent.forwarded) == (G, lending.MARK, True)
    assert Frame.parse(sent.frame).dst == Frame.parse(data).dst


@pytest.mark.parametrize("datagram", [tcp_to(HOST, FAR, (80, 4000)), ping("10.0.1.11", FAR), ping(HOST, FAR, kind=3)])
def test_what_is_no_query_or_has_a_floating_ip_is_refused(datagram: Datagram) -> None:
    assert isinstance(lend(router(), Loans(), framed(G, datagram), 0.0)[0], Refused)
    assert isinstance(lend(router(outside=False), Loans(), framed(G, datagram), 0.0)[0], Refused)
    assert isinstance(lend(router(), Loans(), b"short", 0.0)[0], Refused)


def test_the_daemon_lends_and_returns() -> None:
    placed = hopcloud.routers()[0]
    hop, outside = Hop(placed, quiet=True), placed.legs[-1]
    query = ping("10.0.1.12", FAR, 77, ttl=63).framed(mac_of("10.0.1.12"), mac_of(FAR))
    asked = Asked(placed.number, placed.legs[0].number, lending.MARK, query)
    (out,) = (one for one in hop.asked("conn", placed.legs[0].name, asked, 1.0) if isinstance(one, PacketOut))
    assert (out.registers, out.table) == ((f.REG_LEAVES_BY(outside.number),), LEAVE)
    leaving = Datagram.parse(Frame.parse(out.data).payload)
    assert (leaving.src, leaving.ttl) == (OWN, 63) and ident(leaving) != 77
    back = answer(leaving).framed(mac_of(FAR), placed.router.legs[-1].hardware)
    known = replace(placed, router=replace(placed.router, known=(
        (placed.legs[0].name, IPv4Address("10.0.1.12"), "fa:16:3e:00:00:0c"),)))
    hop.become("conn", known)
    (home,) = (one for one in hop.asked("conn", outside.name, Asked(placed.number, outside.number, 1, back), 2.0)
               if isinstance(one, PacketOut))
    assert Datagram.parse(Frame.parse(home.data).payload) == replace(
        ping(FAR, "10.0.1.12", 77, kind=ECHO_REPLY), ttl=63)
    assert home.table == TRANSLATE_OUT
