"""What connection tracking forgets when a router changes, and that the daemon says so."""
from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from controller.switch import nicira
from controller.switch.events import End
from controller.switch.hop import Hop
from flows.conversations import Ended, ended
from flows.host import SimulatedRouter
from flows.router import FloatingIp
from tests import hopcloud

R1, R2, R3 = hopcloud.routers()
ONE, TWO = R1.router.floating_ips
A, B, QG = ONE.external, TWO.external, IPv4Address("203.0.113.10")
ALL = (Ended(R1.zone), Ended(R1.hairpin_zone))


def with_(**changes: object) -> SimulatedRouter:
    return replace(R1, router=replace(R1.router, **changes))


def of_floating(address: IPv4Address) -> tuple[Ended, ...]:
    return Ended(R1.zone, asked=address), Ended(R1.zone, shown=address), Ended(R1.hairpin_zone, shown=address)


def without_snat() -> SimulatedRouter:
    assert R1.router.gateway
    return with_(gateway=replace(R1.router.gateway, snat=False))


@pytest.mark.parametrize(("new", "expected"), [
    (R1, ()),
    (with_(routes=()), ()),
    (with_(floating_ips=(ONE, TWO, FloatingIp(IPv4Address("203.0.113.52"), IPv4Address("10.0.1.12")))), ()),
    (with_(floating_ips=(TWO,)), of_floating(A)),
    (with_(floating_ips=(ONE, replace(TWO, fixed=IPv4Address("10.0.1.12")))), of_floating(B)),
    (without_snat(), (Ended(R1.zone, shown=QG), Ended(R1.hairpin_zone, shown=QG))),
    (with_(gateway=None), ALL),
    (replace(R1, zone=0x9000), ALL),
    (None, ALL)])
def test_only_conversations_of_an_address_that_was_taken_away_end(new: SimulatedRouter | None,
                                                                  expected: tuple[Ended, ...]) -> None:
    assert ended(R1, new) == expected


def test_a_router_that_translated_nothing_had_no_conversations() -> None:
    assert ended(R3, None) == ()
    assert ended(replace(without_snat(), router=replace(without_snat().router, floating_ips=())), R1) == ()


def test_the_daemon_ends_them_after_it_has_written_the_new_rows() -> None:
    hop = Hop(R1, quiet=True)
    assert not [one for one in hop.become("conn", with_(floating_ips=(TWO,))) if isinstance(one, End)]
    assert hop.due == 0.0
    said = [one for one in hop.tick("conn", 1.0) if isinstance(one, End)]
    assert said == [End("conn", one) for one in of_floating(A)]
    assert not [one for one in hop.tick("conn", 2.0) if isinstance(one, End)]
    assert [one.ended for one in hop.leave("conn") if isinstance(one, End)] == list(ALL)


def test_the_message_is_the_one_that_ovs_ofctl_sends() -> None:
    """`ovs-ofctl ct-flush BRIDGE zone=32768 '' ct_nw_dst=203.0.113.50` of Open vSwitch 3.1."""
    assert nicira.ct_flush(32768, shown=A).hex() == (
        "0504004000000000" "0000232000000020" "0000000000000000" "0001002000000000"
        "0001001400000000000000000000ffffcb00713200000000" "0002000880000000")
    assert nicira.ct_flush(32768).hex() == "0504002000000000" "0000232000000020" "0000000000000000" "0002000880000000"
