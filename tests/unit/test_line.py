"""The way to one switch: what is said in which order, and what becomes of a switch that refuses or takes nothing."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import eventlet
import pytest

from controller.switch import sending
from controller.switch.diff import Plan
from controller.switch.events import PacketOut
from controller.switch.line import Line
from controller.switch.sending import Finished
from flows import fields as f
from flows.cookie import cookie_of
from flows.fields import tagged
from flows.flow import Clone, Flow, Output, Resubmit, flow, when
from flows.tables import BASE_INGRESS, DELIVER, LEAVE
from tests.wirekit import Counting

ADD, CONTROL, PACKET_OUT = 34, 33, 13
OPEN, CLOSE, COMMIT, DISCARD = 0, 2, 4, 6


class Connection(Counting):
    """As much of os-ken's as is used."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[int, int, int]] = []  # type of message, of bundle control, transaction id
        self.send_q: object | None = object()
        self.takes = True
        self.closed = False
        self.pieces = 0
        self.socket = self

    def send(self, data: bytes) -> bool:
        while not self.takes and not self.closed:
            eventlet.sleep(0)
        self.pieces += 1
        while data:
            kind, xid = data[1], int.from_bytes(data[4:8], "big")
            self.said.append((kind, int.from_bytes(data[12:14], "big") if kind == CONTROL else 0, xid))
            data = data[int.from_bytes(data[2:4], "big"):]
        return not self.closed

    def close(self) -> None:
        self.closed = True

    def shutdown(self, _: int) -> None:
        raise OSError("it has gone")

    def kinds(self) -> list[object]:
        return [kind if control is None or kind != CONTROL else f"{control}" for kind, control, _ in self.said]


class Spoken:
    """A line that runs, and what came of its writes."""

    def __init__(self) -> None:
        self.conn = Connection()
        self.ends: list[Finished] = []
        self.line = Line(self.conn, lambda _, finished: self.ends.append(finished))
        self.runs = eventlet.spawn(self.line.run)

    def heard(self) -> list[object]:
        for _ in range(200):
            eventlet.sleep(0)
        found, self.conn.said = self.conn.kinds(), []
        return found

    def xid_of_add(self) -> int:
        for _ in range(200):
            eventlet.sleep(0)
        return next(xid for kind, _, xid in self.conn.said if kind == ADD)


@pytest.fixture
def spoken() -> Iterator[Spoken]:
    made = Spoken()
    yield made
    made.runs.kill()


def row(number: int) -> Flow:
    return flow(DELIVER, "unknown", when(tagged(number)), Output(1), origin="test", why=f"row {number}")


def plan(*numbers: int) -> Plan:
    return Plan(add=tuple((cookie_of(row(number)), row(number)) for number in numbers))


def packet(conn: Any) -> PacketOut:
    return PacketOut(conn, bytes(60), (f.REG_LEAVES_BY(5),), LEAVE)


def test_a_write_is_committed_when_the_switch_has_closed_it(spoken: Spoken) -> None:
    spoken.line.write((plan(1, 2),))
    assert spoken.heard() == [str(OPEN), ADD, ADD, str(CLOSE)]
    spoken.line.closed(1)
    assert spoken.heard() == [str(COMMIT)]
    spoken.line.committed(1)
    assert spoken.ends == [Finished(1)]


def taken(spoken: Spoken, write: Plan, number: int) -> list[object]:
    """What is said of a write that the switch takes."""
    spoken.line.write((write,))
    said = spoken.heard()
    spoken.line.closed(number)
    said += spoken.heard()
    spoken.line.committed(number)
    return said


def test_what_is_like_something_that_the_switch_has_taken_is_committed_in_one_piece(spoken: Spoken) -> None:
    assert taken(spoken, plan(1), 1) == [str(OPEN), ADD, str(CLOSE), str(COMMIT)]
    spoken.conn.pieces = 0
    spoken.line.write((plan(2, 3),))
    assert spoken.heard() == [str(OPEN), ADD, ADD, str(CLOSE), str(COMMIT)]
    assert spoken.conn.pieces == 1
    assert spoken.line.unsettled
    spoken.line.closed(2)
    spoken.line.committed(2)
    assert spoken.ends == [Finished(1), Finished(1)]
    assert spoken.heard() == []


def test_what_is_new_to_the_switch_waits_for_it_again(spoken: Spoken) -> None:
    taken(spoken, plan(1), 1)
    other = flow(DELIVER, "miss", when(), origin="test", why="nothing like it was said")
    spoken.line.write((Plan(add=((cookie_of(other), other),)),))
    assert spoken.heard() == [str(OPEN), ADD, str(CLOSE)]


def test_after_a_complaint_nothing_is_sure_any_more(spoken: Spoken) -> None:
    taken(spoken, plan(1), 1)
    spoken.line.write((plan(2),))
    assert spoken.line.complained(spoken.xid_of_add(), "no room")
    assert [one.reason for one in spoken.ends] == ["", "no room: add table=60 (row 2)"]
    spoken.heard()
    spoken.line.write((plan(3),))
    assert spoken.heard() == [str(OPEN), ADD, str(CLOSE)]


def test_the_bundles_of_a_write_are_staged_ahead_and_committed_in_order(spoken: Spoken) -> None:
    spoken.line.write(tuple(plan(number) for number in range(1, 6)))
    assert spoken.heard() == [str(OPEN), ADD, str(CLOSE)] * sending.AHEAD
    spoken.line.closed(1)
    spoken.line.closed(2)
    assert spoken.heard() == [str(COMMIT)]
    spoken.line.committed(1)
    assert spoken.heard() == [str(COMMIT), str(OPEN), ADD, str(CLOSE)]


def test_a_complaint_ends_the_write_and_lets_the_switch_forget_the_rest(spoken: Spoken) -> None:
    spoken.line.write(tuple(plan(number) for number in range(1, 6)))
    xid = spoken.xid_of_add()
    spoken.heard()
    assert spoken.line.complained(xid, "TABLE_FULL")
    assert spoken.heard() == [str(DISCARD)] * sending.AHEAD
    assert spoken.ends == [Finished(0, "TABLE_FULL: add table=60 (row 1)")]
    assert spoken.line.complained(xid, "again"), "it is known, and said only once"
    assert len(spoken.ends) == 1
    assert not spoken.line.complained(xid + 1000, "about something else")


def test_a_flow_that_no_message_holds_refuses_the_write(spoken: Spoken) -> None:
    large = flow(DELIVER, "flood", when(tagged(1), f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), *(
        Clone((Output(port), Resubmit(BASE_INGRESS))) for port in range(1, 2000)), origin="test", why="far too large")
    spoken.line.write((Plan(add=((cookie_of(large), large),)), plan(1)))
    heard = spoken.heard()
    assert str(COMMIT) not in heard
    assert heard.count(str(DISCARD)) == 2
    assert [end.bundles for end in spoken.ends] == [0]
    assert "far too large" in spoken.ends[0].reason


def test_a_write_that_is_overtaken_by_a_reading_tells_nobody_and_commits_no_more(spoken: Spoken) -> None:
    spoken.line.write((plan(1), plan(2)))
    xid = spoken.xid_of_add()
    spoken.heard()
    spoken.line.overtake()
    assert spoken.heard() == [str(DISCARD)] * 2
    spoken.line.closed(1)
    spoken.line.committed(1)
    assert spoken.line.complained(xid, "late")
    assert (spoken.heard(), spoken.ends) == ([], [])


def test_where_another_daemon_writes_nothing_more_is_said(spoken: Spoken) -> None:
    spoken.line.write((plan(1),))
    spoken.line.say([packet(spoken.conn)])
    spoken.heard()
    spoken.line.quit()
    spoken.line.closed(1)
    assert (spoken.heard(), spoken.ends) == ([str(DISCARD)], [])


def test_packets_wait_for_the_write_under_way(spoken: Spoken) -> None:
    assert spoken.line.say([packet(spoken.conn)]) == 0
    assert spoken.heard() == [PACKET_OUT]
    spoken.line.write((plan(1),))
    spoken.line.say([packet(spoken.conn)])
    assert PACKET_OUT not in spoken.heard()
    spoken.line.closed(1)
    spoken.line.committed(1)
    assert spoken.heard() == [str(COMMIT), PACKET_OUT]


def test_packets_for_a_switch_that_takes_nothing_are_lost_and_fill_no_memory(spoken: Spoken) -> None:
    spoken.conn.takes = False
    lost = sum(spoken.line.say([packet(spoken.conn)] * 2) for _ in range(1000))
    assert 1900 < lost < 2000
    spoken.conn.send_q = None
    assert spoken.line.say([packet(spoken.conn)]) == 1


def test_nobody_waits_for_a_switch_that_takes_nothing_and_it_is_given_up_at_last(spoken: Spoken) -> None:
    spoken.conn.takes = False
    for _ in range(10_000):
        spoken.line.put(bytes([5, 0, 0, 8, 0, 0, 0, 1]))
    assert spoken.conn.closed


def test_what_was_written_is_unsettled_until_its_cache_is_empty(spoken: Spoken) -> None:
    assert spoken.line.unsettled, "somebody may have written before we came"
    spoken.line.unsettled = False
    spoken.line.write((plan(1), plan(2)))
    spoken.line.closed(1)
    assert spoken.line.unsettled
