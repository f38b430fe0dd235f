"""The security groups' rows on the wire: what a real Open vSwitch holds, what the daemon reads of it, and zones."""
from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.switch import listing, wire
from flows.cookie import cookie_of
from flows.flow import Learn, LearnPort
from flows.text import actions_text, match_words
from tests import filter_rows
from tests.private_ovs import PrivateOvs
from tests.wirekit import BRIDGE, Counting, asked, held, plan_for, send, texts

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def ovs() -> Iterator[PrivateOvs]:
    with PrivateOvs() as running:
        yield running


@pytest.fixture
def bridge(ovs: PrivateOvs) -> Iterator[PrivateOvs]:
    ovs.add_bridge(BRIDGE, {f"vm{port}": port for port in (*filter_rows.VMS, filter_rows.UNSECURED)})
    yield ovs
    ovs.del_bridge(BRIDGE)


def test_every_row_of_the_firewall_is_held_as_our_text_says_byte_for_byte(bridge: PrivateOvs) -> None:
    assert send(bridge, plan_for(filter_rows.rows())) == {}
    assert held(bridge) == texts(filter_rows.rows())


def test_the_daemon_lists_the_rows_in_the_words_of_ovs_ofctl(bridge: PrivateOvs) -> None:
    assert send(bridge, plan_for(filter_rows.rows())) == {}
    with bridge.openflow(BRIDGE) as connection:
        rows = [listing.row(stats) for stats in asked(connection, wire.read_flows(Counting()))]
    taught = [row for row in rows if "learn(" in row.actions]
    assert len(taught) == 2 and all(row.actions.endswith(",limit=2,...),goto_table:40") or "limit" not in row.actions
                                    for row in taught)
    assert sorted((row.cookie, row.table, row.priority, row.match, row.actions) for row in rows if row not in taught) \
        == sorted((cookie_of(row), row.table.id, row.priority, ",".join(match_words(row.match)),
                   actions_text(row.actions)) for row in filter_rows.rows()
                  if not any(isinstance(action, Learn | LearnPort) for action in row.actions))
