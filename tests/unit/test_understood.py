"""Which writes a switch is sure to understand: those whose like it has taken."""
from __future__ import annotations

from dataclasses import replace

import pytest

from controller.switch.diff import Plan
from controller.switch.understood import Understood
from flows import fields as f
from flows.cookie import cookie_of
from flows.fields import tagged
from flows.flow import Action, Ask, Flow, Goto, Metered, Output, PopVlan, flow, when
from flows.host import Meter
from flows.sheet import Sheet, numbered
from flows.tables import ASK, CLASSIFY, DELIVER, ROUTER, UNICAST


def deliver(vlan: int, *actions: Action) -> Flow:
    return flow(DELIVER, "unknown", when(tagged(vlan)), *(actions or (Output(1),)), origin="test", why="a row")


def plan(*flows: Flow) -> Plan:
    return Plan(add=tuple((cookie_of(one), one) for one in flows))


def after(*plans: Plan) -> Understood:
    made = Understood()
    for one in plans:
        made.learn(one)
    return made


def test_other_numbers_are_nothing_new() -> None:
    assert after(plan(deliver(1))).covers(plan(deliver(2, Output(7)), deliver(3)))


@pytest.mark.parametrize("other", [
    deliver(1, PopVlan(), Output(1)),
    flow(DELIVER, "unknown", when(f.ANY_TAG), Output(1), origin="test", why="another mask"),
    flow(DELIVER, "known", when(tagged(1), f.ETH_DST("0a:00:00:00:00:01")), Output(1), origin="test", why="one more"),
    flow(CLASSIFY, "admit", when(f.IN_PORT(1)), Goto(ROUTER), origin="test", why="another table"),
], ids=["actions", "mask", "field", "table"])
def test_another_table_field_mask_or_action_is(other: Flow) -> None:
    assert not after(plan(deliver(1))).covers(plan(deliver(2), other))


def test_a_row_of_a_sheet_is_like_a_flow_of_its_kind() -> None:
    model = flow(UNICAST, "populated", when(tagged(1), f.ETH_DST("0a:00:00:00:00:01")), PopVlan(), Output(1), origin="",
                 why="")
    sheet = Sheet(model, f.ETH_DST, (1, 2, 3), lambda _: ("", ""), (4, 5, 6))
    assert after(plan(model)).covers(Plan(add=tuple(numbered([sheet]).items())))


def test_zones_are_sure_once_one_has_been_emptied_and_meters_never_are() -> None:
    write = replace(plan(deliver(1)), flush=(7,))
    assert not after(plan(deliver(1))).covers(write)
    assert after(write).covers(replace(write, flush=(8,)))
    metered = replace(plan(deliver(1)), meters_add=(Meter(1, 1, 1),))
    assert not after(metered, plan(deliver(1))).covers(metered)
    asking = flow(ASK, "leg", when(f.REG_CAME_BY(3)), Metered(9), Ask(), origin="test", why="its meter may be gone")
    assert not after(plan(asking)).covers(plan(asking))


def test_a_large_write_is_neither_learned_nor_sure() -> None:
    large = plan(*map(deliver, range(1, 1000)))
    assert not after(large).covers(plan(deliver(1)))
    assert not after(plan(deliver(1))).covers(large)
