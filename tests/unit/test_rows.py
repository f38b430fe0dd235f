"""Flows for people: what is wanted and what is there, side by side."""
from __future__ import annotations

import pytest

from controller.model.places import Places
from controller.switch.events import Row
from controller.switch.rows import merge
from controller.tools import flows as tool
from controller.tools import flows_lines
from flows import fields as f
from flows.cookie import LEARNED_COOKIE, cookie_of
from flows.fields import tagged
from flows.flow import Flow, Output, PopVlan, flow, when
from flows.tables import DELIVER

WANTED = flow(DELIVER, "known", when(tagged(1), f.ETH_DST("fa:16:3e:00:00:01")), PopVlan(), Output(7), origin="vms.a",
              why="a is here")
MATCH, DOES = "dl_vlan=1,dl_dst=fa:16:3e:00:00:01", "pop_vlan,output:7"


def row(cookie: int, match: str = "", actions: str = "") -> Row:
    return Row(cookie, DELIVER.id, WANTED.priority, match, actions, 5, 6, 7)


def merged(*rows: Row, want: tuple[Flow, ...] = (WANTED,)) -> list[tuple[str, str, str]]:
    """(status, match, actions) of each, as people see them."""
    found = merge({cookie_of(one): one for one in want}, rows, lambda row: "learned")
    return [(one["status"], one["match"], one["actions"]) for one in found]


def test_a_row_that_is_known_shows_its_flow() -> None:
    assert merged(row(cookie_of(WANTED))) == [("installed", MATCH, DOES)]


def test_a_row_with_our_cookie_that_does_something_else_is_altered_and_shows_both() -> None:
    (one,) = merge({cookie_of(WANTED): WANTED}, [row(cookie_of(WANTED), MATCH, "drop")], lambda row: "")
    assert (one["status"], one["actions"], one["wanted_actions"], one["why"]) == ("altered", "drop", DOES, "a is here")
    bridge = {"host": "c1", "bridge": "br-int", "flows": [one]}
    assert not tool.in_sync([bridge])
    assert tool.differing([bridge]) == [bridge]
    told = ["".join(text for _, text in line) for line in flows_lines.lines([bridge], Places(""), "topology.yaml")]
    assert "      instead of pop_vlan,output:7" in told


def test_a_row_with_our_cookie_elsewhere_is_surplus_and_its_flow_is_missing() -> None:
    found = merged(row(cookie_of(WANTED), "dl_vlan=2", "drop"))
    assert found == [("missing", MATCH, DOES), ("surplus", "dl_vlan=2", "drop")]


@pytest.mark.parametrize(("cookie", "status"), [(LEARNED_COOKIE, "learned"), (0x77, "stranger")])
def test_others_rows_are_shown_and_count_as_no_difference_of_ours(cookie: int, status: str) -> None:
    found = merged(row(cookie_of(WANTED)), row(cookie, "dl_vlan=2", "drop"))
    assert found == [("installed", MATCH, DOES), (status, "dl_vlan=2", "drop")]
