"""What a write adds, as runs and imprints: the same pairs as one by one, and no cookie before somebody looks at one."""
from __future__ import annotations

import pytest

from controller.switch import additions
from controller.switch.additions import Additions, Imprint, Run
from flows import br_tun, models
from flows import fields as f
from flows.cookie import cookie_of
from flows.fields import tagged
from flows.flow import Flow, Output, flow, when
from flows.host import Network, Tunnels
from flows.sheet import Sheet, numbered
from flows.stencil import Print
from flows.tables import FLOOD, UNICAST


def row(vlan: int) -> Flow:
    return flow(FLOOD, "network", when(tagged(vlan)), Output(1), origin="", why="")


def sheet(vlan: int, rows: int) -> Sheet:
    model = flow(UNICAST, "populated", when(tagged(vlan), f.ETH_DST(1)), Output(1), origin="", why="")
    return Sheet(model, f.ETH_DST, tuple(range(1, rows + 1)), lambda index: ("", ""))


PARTS = (row(1), sheet(5, 4), row(2), sheet(6, 3), row(1))


def test_everything_is_every_row_once() -> None:
    every = additions.everything(PARTS)
    assert dict(every) == numbered(PARTS)
    assert len(every) == len(list(every)) == 9
    assert [every[at] for at in range(9)] == list(every) == [every[at - 9] for at in range(9)]
    assert every[2:5] == tuple(every)[2:5]
    with pytest.raises(IndexError):
        every[9]


def test_no_cookie_of_a_sheet_is_computed_before_it_is_looked_at() -> None:
    parts = sheet(5, 4), sheet(6, 3)
    cut = list(additions.cut(additions.everything(parts).batches, 3))
    assert [len(some) for some in cut] == [3, 3, 1]
    assert [one._cookies for one in parts] == [None, None]
    assert [cookie for some in cut for cookie, _ in some] == [cookie for one in parts for cookie in one.cookies()]


def test_pairs_are_the_same_as_runs_with_the_cookies_that_they_have() -> None:
    pairs = tuple(numbered(PARTS).items())
    runs = additions.of(pairs)
    assert additions.of(runs) is runs
    assert runs == pairs and pairs == runs and hash(runs) == hash(pairs)
    assert [len(one) for one in runs.batches if isinstance(one, Run)] == [4, 3]
    other = additions.of([(7, sheet_row) for _, sheet_row in pairs[1:3]])
    assert [cookie for cookie, _ in other] == [7, 7]


def of_network(vlan: int) -> Print:
    net = Network("", "", vlan, vlan, (), Tunnels(["h"], [vlan]), ())
    (made,) = br_tun.network(models.bare(tunnel_type="vxlan"), net)
    assert isinstance(made, Print)
    return made


def test_the_rows_of_a_print_stay_together() -> None:
    parts = row(1), of_network(5), of_network(6), row(2), sheet(7, 2)
    every = additions.everything(parts)
    assert [len(one) for one in every.batches if isinstance(one, Imprint)] == [2, 2]
    assert dict(every) == numbered(parts)
    assert [cookie for cookie, _ in every][2:] == list(numbered(parts[:4]))
    assert additions.of(tuple(every)) == every
    assert [len(one) for one in additions.of(tuple(every)[1:5]).batches] == [1, 1, 2]
    (sheet_run, first, *others) = every.batches
    assert len(sheet_run) == 2 and first == ((cookie_of(row(1)), row(1)),)
    assert isinstance(others[0], Imprint)
    assert list(others[0].only((1,))) == list(others[0][1:]) == [every[4]]
    (_, known) = additions.of(every[2:5]).batches
    assert isinstance(known, Imprint) and list(known.only((1,))) == [every[4]]


def test_what_comes_twice_is_added_once_and_told_of_by_the_last_who_wants_it() -> None:
    made, again = of_network(5), of_network(5)
    alone = list(made)[1]
    parts = made, row(1), alone, again, row(1)
    every = additions.everything(parts)
    assert list(every) == list(numbered(parts).items())
    assert len(every) == 3


def test_nothing_is_nothing() -> None:
    assert not Additions() and Additions() == () and not list(additions.cut((), 3))
    assert additions.of([(cookie_of(row(1)), row(1))]) == ((cookie_of(row(1)), row(1)),)
