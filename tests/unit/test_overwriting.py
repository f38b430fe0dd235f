"""A row that is overwritten is not deleted, too, where the switch has just said that it will be."""
from __future__ import annotations

from collections.abc import Iterable

from controller.switch import dumps
from controller.switch.diff import Plan
from controller.switch.found import Found
from controller.switch.intent import Piece
from controller.switch.session import Session
from flows import fields as f
from flows.cookie import cookie_of
from flows.fields import tagged
from flows.flow import Flow, Output, PopVlan, SetField, flow, when
from flows.sheet import Part, Sheet
from flows.tables import BR_TUN, FLOOD, UNICAST
from tests.unit.test_dumps import row as raw
from tests.wirekit import dumped


def flood(vlan: int, port: int) -> Flow:
    return flow(FLOOD, "network", when(tagged(vlan)), Output(port), origin="", why="")


def sheet(*ports: int) -> Sheet:
    model = flow(UNICAST, "populated", when(tagged(7), f.ETH_DST(1)), PopVlan(), SetField(f.TUN_ID(1)), Output(1),
                 origin="", why="")
    return Sheet(model, f.ETH_DST, tuple(range(1, len(ports) + 1)), lambda index: ("", ""), ports)


def read(rows: Iterable[Flow], *more: bytes) -> tuple[Session, Found]:
    found, session = Found(), Session("compute1", BR_TUN)
    dumps.take(dumped([*map(raw, rows), *more]), found)
    session.flows_read(found)
    return session, found


def plan_of(session: Session, *parts: Part) -> Plan:
    plan = session.intend_all({"a": Piece(parts)})
    assert plan is not None
    return plan


def test_what_is_overwritten_is_not_deleted() -> None:
    session, _ = read([flood(1, 5), flood(2, 5), *sheet(3, 4, 5)])
    plan = plan_of(session, flood(1, 6), sheet(3, 9, 5))
    assert plan.delete == (cookie_of(flood(2, 5)),)
    assert set(plan.replaced) == {cookie_of(flood(1, 5)), sheet(3, 4, 5).cookies()[1]}
    assert len(plan.add) == 2
    assert session.committed() is None
    assert session.have == {cookie_of(one) for one in (flood(1, 6), *sheet(3, 9, 5))}
    assert (session.counters.added, session.counters.deleted) == (2, 1)


def test_a_cookie_that_two_rows_wear_is_deleted() -> None:
    old = flood(1, 5)
    session, _ = read([old], raw(flood(2, 5), cookie_of(old)))
    plan = plan_of(session, flood(1, 6))
    assert (plan.delete, plan.replaced) == ((cookie_of(old),), ())


def test_a_row_of_another_priority_stays_to_be_deleted() -> None:
    other = flow(UNICAST, "unknown", when(tagged(7)), Output(1), origin="", why="")
    session, _ = read([other, flood(7, 5)])
    assert set(plan_of(session, flood(8, 5), *sheet(3)).delete) == {cookie_of(other), cookie_of(flood(7, 5))}


def test_what_was_read_is_let_go_when_it_has_been_compared() -> None:
    session, found = read([flood(1, 5)])
    assert len(found.parts) == 1
    plan_of(session, flood(1, 6))
    assert session.committed() is None
    assert plan_of(session, flood(1, 5)).delete == (cookie_of(flood(1, 6)),), "nothing has been read since"
