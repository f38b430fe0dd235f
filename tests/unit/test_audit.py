"""Rows that do not what their cookies promise, found among all rows of a switch."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from controller.switch.audit import Audit
from controller.switch.damage import Damage, Finding, What
from controller.switch.dumps import Content
from flows import fields as f
from flows.cookie import LEARNED_COOKIE, cookie_of
from flows.fields import tagged
from flows.flow import Flow, Output, PopVlan, flow, when
from flows.sheet import Part, Row, Sheet, numbered, whole
from flows.tables import DELIVER, UNICAST
from tests.clouds import CASES, golden, tables
from tests.updates import content

PORTS = tuple(range(3, 9))
SHEET = Sheet(flow(UNICAST, "populated", when(tagged(1), f.ETH_DST("fa:16:3e:00:00:01")), PopVlan(), Output(1),
                   origin="test", why="test"),
              f.ETH_DST, tuple(0xFA163E000001 + port for port in PORTS), lambda index: ("test", "test"), PORTS)
PLAIN = flow(DELIVER, "known", when(tagged(1), f.ETH_DST("fa:16:3e:00:00:01")), PopVlan(), Output(7), origin="test",
             why="test")
PARTS: tuple[Part, ...] = (PLAIN, SHEET)


def found(rows: Iterable[Content], parts: Iterable[Part] = PARTS) -> list[Finding]:
    wanted: dict[int, Row] = dict(numbered(parts))
    audit = Audit(wanted.get)
    return [*audit.rows(rows), *audit.missing(wanted.keys())]


def held(*flows: Flow) -> list[Content]:
    return [content(one) for one in flows]


ALL = held(*whole(PARTS))


def test_rows_that_are_as_they_shall_be_are_well() -> None:
    assert found(ALL) == []


@pytest.mark.parametrize("case", CASES)
def test_every_golden_row_is_well(case: str) -> None:
    cloud = golden(case)
    for host in cloud.hosts:
        for rows in tables(cloud, host).values():
            assert found(held(*rows), rows) == []


@pytest.mark.parametrize("at", range(len(ALL)))
def test_a_row_that_does_something_else_is_altered_and_one_that_is_not_there_deleted(at: int) -> None:
    wrong = ALL[at]._replace(instructions=ALL[at - 1].instructions)
    cookie = ALL[at].cookie
    assert found([*ALL[:at], wrong, *ALL[at + 1:]]) == [Finding(cookie, False, Damage(What.ALTERED, cookie))]
    assert found([*ALL[:at], *ALL[at + 1:]]) == [Finding(cookie, False, Damage(What.DELETED, cookie))]


def test_a_row_that_ends_some_time_is_altered() -> None:
    (one,) = found([ALL[0]._replace(timeouts=(0, 60)), *ALL[1:]])
    assert one.damage == Damage(What.ALTERED, ALL[0].cookie)


def test_our_cookie_on_another_row_is_one_too_many_and_strangers_are_nobodys_business() -> None:
    elsewhere = replace(PLAIN, match=when(tagged(2)))
    unwanted = cookie_of(elsewhere)
    copies = [content(elsewhere, cookie=cookie)
              for cookie in (ALL[0].cookie, unwanted, LEARNED_COOKIE, 7)]
    assert found([*ALL, *copies]) == [
        Finding(ALL[0].cookie, True, Damage(What.COPIED, ALL[0].cookie)),
        Finding(unwanted, True, Damage(What.SURPLUS, unwanted))]
