"""The bookkeeping of pieces: what is wanted, what has changed, and how much was looked at for it."""
from __future__ import annotations

from controller.switch.intent import Intent, Piece
from flows import fields as f
from flows.cookie import cookie_of
from flows.fields import tagged
from flows.flow import Flow, Output, PopVlan, SetField, flow, when
from flows.host import Meter
from flows.sheet import Sheet, numbered
from flows.tables import DELIVER, UNICAST


def row(vlan: int) -> Flow:
    return flow(DELIVER, "unknown", when(tagged(vlan)), Output(1), origin="", why="")


def sheet(*macs: int) -> Sheet:
    model = flow(UNICAST, "populated", when(tagged(7), f.ETH_DST(1)), PopVlan(), SetField(f.TUN_ID(1)), Output(1),
                 origin="", why="")
    return Sheet(model, f.ETH_DST, macs, lambda index: ("", f"row {index}"))


def made(**pieces: Piece) -> Intent:
    intent = Intent()
    intent.renew(pieces)
    return intent


def test_a_flow_that_two_pieces_want_stays_until_neither_does() -> None:
    intent = made(a=Piece((row(1), row(2))), b=Piece((row(2), row(3))))
    assert intent.rows.keys() == {cookie_of(row(vlan)) for vlan in (1, 2, 3)}
    intent.take({"a": Piece((row(1),))})
    assert intent.changed(intent.rows.keys()).delete == []
    intent.drop(["b"])
    changed = intent.changed({cookie_of(row(vlan)) for vlan in (1, 2, 3)})
    assert (changed.add, changed.delete) == ({}, sorted(cookie_of(row(vlan)) for vlan in (2, 3)))
    assert intent.rows.keys() == {cookie_of(row(1))}
    assert intent.names == {"a"}


def test_what_goes_and_comes_back_unsaid_is_not_deleted() -> None:
    intent = made(a=Piece((row(1),)), b=Piece((row(2),)))
    intent.drop(["a"])
    intent.take({"c": Piece((row(1),))})
    changed = intent.changed({cookie_of(row(1)), cookie_of(row(2))})
    assert (changed.add, changed.delete, changed.compared) == ({}, [], 1)


def test_only_the_pieces_that_changed_are_compared() -> None:
    intent = made(**{f"n{vlan}": Piece((row(vlan),)) for vlan in range(1, 500)})
    assert intent.take({"n7": Piece((row(7), row(1000)))}) == 2
    changed = intent.changed(frozenset(cookie_of(row(vlan)) for vlan in range(1, 500)))
    assert (list(changed.add.values()), changed.delete, changed.compared) == ([row(1000)], [], 2)
    assert intent.changed(frozenset()).compared == 0


def test_only_the_pieces_that_changed_are_numbered() -> None:
    intent = made(**{f"n{vlan}": Piece((row(vlan),)) for vlan in range(1, 500)}, shared=Piece((row(3), row(4))))
    intent.take({"n7": Piece((row(7), row(1000))), "n3": Piece((row(2000),)), "n8": Piece((row(3000),))})
    intent.drop(["n4"])
    changed = intent.changed({cookie_of(row(vlan)) for vlan in range(1, 500)})
    assert changed.delete == [cookie_of(row(8))], "others want 3 and 4"
    assert intent.numbered == 8  # four pieces of one row before; after, one of two, and two of one
    assert intent.rows.keys() == {cookie_of(row(vlan)) for vlan in (*range(1, 8), *range(9, 500), 1000, 2000, 3000)}
    assert intent.changed(frozenset()).compared == 0


def test_flows_that_are_the_very_ones_of_before_are_not_counted_as_computed() -> None:
    flows, rest = tuple(row(vlan) for vlan in range(1, 4)), sheet(1, 2, 3, 4)
    intent = Intent()
    assert intent.renew({"a": Piece((*flows, rest))}) == 7
    assert intent.take({"a": Piece((*flows, row(9), rest))}) == 1
    assert intent.take({"a": Piece((*flows, sheet(1, 2)))}) == 2


def test_the_rows_of_sheets_are_rows_like_others() -> None:
    intent = made(a=Piece((sheet(1, 2, 3),)))
    before = set(intent.rows)
    intent.take({"a": Piece((sheet(2, 3, 4),))})
    changed = intent.changed(before)
    assert [changed.add.keys(), changed.delete] == [numbered([sheet(4)]).keys(), list(numbered([sheet(1)]))]
    (cookie,) = changed.add
    found = intent.find(cookie)
    assert found is not None and found.why == "row 2"
    assert intent.find(1) is None
    assert {one.match[f.ETH_DST] for one in intent.want.values()} == {f.ETH_DST(mac) for mac in (2, 3, 4)}


def test_meters_are_the_same_mapping_until_one_comes_or_goes() -> None:
    meter = Meter(5, 10, 10)
    intent = made(a=Piece((row(1),), (meter,)), b=Piece((row(2),)))
    before = intent.meters
    intent.take({"b": Piece((row(3),)), "a": Piece((row(1),), (meter,))})
    assert intent.meters is before and dict(before) == {5: meter}
    intent.take({"a": Piece((row(1),), (Meter(5, 11, 10),))})
    assert dict(intent.meters) == {5: Meter(5, 11, 10)}
    intent.drop(["a"])
    assert not intent.meters
