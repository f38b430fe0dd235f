"""What is asked of switches, in which order, and who hears the answer."""
from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable
from typing import Any

import eventlet
import pytest

from controller.switch import answers, dumps
from controller.switch.cutting import place_of
from controller.switch.events import Counted
from controller.switch.found import Found
from controller.switch.inquiries import Inquiries
from controller.switch.questions import Unanswerable
from flows import tables as t
from flows.cookie import cookie_of
from flows.flow import Flow, Match
from flows.host import Meter
from tests.unit.test_dumps import TELLING, row
from tests.wirekit import Counting

FLOW, TABLE, METERS = 1, 3, 10  # multipart types (OpenFlow 1.4, 7.3.5)
DROPS = [Flow(t.CLASSIFY, priority, Match(()), (), "", "") for priority in range(4)]


class Switch:
    """The other end: what it is asked, and what it says."""

    def __init__(self) -> None:
        self.conn = Counting()
        self.asked: list[bytes] = []
        self.inquiries = Inquiries(lambda conn, data: self.asked.append(data))

    def kinds(self) -> list[int]:
        """What it was asked, by multipart type."""
        return [int.from_bytes(one[8:10]) for one in self.asked]

    def masks(self) -> list[tuple[int, int]]:
        """Cookie and mask of each question for flows."""
        return [struct.unpack_from("!QQ", one, 32) for one in self.asked if int.from_bytes(one[8:10]) == FLOW]

    def tables(self) -> list[int]:
        """The table of each question for flows."""
        return [one[16] for one in self.asked if int.from_bytes(one[8:10]) == FLOW]

    def say(self, body: bytes, *, more: bool = False, to: int = -1) -> None:
        """A part of the answer to a question, the last one unless told otherwise."""
        kind, xid = self.asked[to][8:10], self.asked[to][4:8]
        message = struct.pack("!BBH", 5, 19, 16 + len(body)) + xid + kind + struct.pack("!H4x", more) + body
        self.inquiries.answered(answers.read(self.conn, 5, 19, len(message), int.from_bytes(xid), bytearray(message)))

    def count(self, flows: int) -> None:
        """The answer to how many flows its tables hold, in two parts."""
        of_table = struct.Struct("!B3xIQQ")
        self.say(of_table.pack(0, 0, 0, 0) + of_table.pack(20, flows // 2, 0, 0), more=True)
        self.say(of_table.pack(21, flows - flows // 2, 0, 0))

    def refuse(self) -> bool:
        """It does not know the last question."""
        return self.inquiries.refused(self.conn, int.from_bytes(self.asked[-1][4:8]), "OFPBRC_BAD_MULTIPART")


def rows(flows: Iterable[Flow]) -> bytes:
    return b"".join(map(row, flows))


def cookies(found: Found) -> list[int]:
    return list(itertools.chain.from_iterable(found.compiled.values()))


class Heard(list[Any]):
    """What a reading has found, once it is over."""

    def __call__(self, rows: Found, meters: list[Meter]) -> None:
        self.append((rows, meters))


def test_few_flows_are_asked_for_at_once() -> None:
    switch, heard = Switch(), Heard()
    switch.inquiries.read(switch.conn, False, heard)
    switch.count(5000)
    assert switch.masks() == [(0, 0)]
    switch.say(rows(DROPS[:3]), more=True)
    assert not heard
    switch.say(rows(DROPS[3:]))
    ((found, meters),) = heard
    assert found.compiled == {place_of(flow): [cookie_of(flow)] for flow in DROPS}
    assert meters == []


def test_many_are_asked_for_in_parts_each_when_the_one_before_it_has_come() -> None:
    switch, heard = Switch(), Heard()
    switch.inquiries.read(switch.conn, False, heard)
    switch.count(100_000)
    del switch.asked[1:1 + len(dumps.TO_VLAN)]  # of these, the next test tells
    for group in range(63):
        assert switch.masks()[group:] == [(group, 63)]
        switch.say(rows(DROPS[:1]), more=True)
        assert len(switch.masks()) == group + 1
        switch.say(rows(DROPS[1:2]))
        assert len(switch.masks()) == group + 2
    assert not heard
    switch.say(rows(DROPS[:2]))
    assert cookies(heard[0][0]) == [cookie_of(DROPS[0])] * 64 + [cookie_of(DROPS[1])] * 64
    assert len(switch.asked) == 65


@pytest.mark.parametrize(("flows", "mask"), [(5001, 1), (15_000, 3), (50_000, 15), (100_000, 63), (10_000_000, 63)])
def test_parts_are_as_many_as_keep_each_small(flows: int, mask: int) -> None:
    switch, heard = Switch(), Heard()
    switch.inquiries.read(switch.conn, False, heard)
    switch.count(flows)
    del switch.asked[1:1 + len(dumps.TO_VLAN)]
    assert switch.masks() == [(0, mask)]


def test_of_many_those_that_give_local_vlans_are_told_first_and_come_again() -> None:
    switch, heard, early = Switch(), Heard(), list[Found]()
    switch.inquiries.read(switch.conn, False, heard, early.append)
    switch.count(100_000)
    assert switch.tables() == [*sorted(dumps.TO_VLAN), 0xFF]
    gives = TELLING["a tunnel id"]
    for at in range(1, 1 + len(dumps.TO_VLAN)):
        assert not early
        switch.say(row(gives) if at == 3 else b"", to=at)
    assert [found.telling[0].vlan for found in early] == [9]
    assert not heard
    for at in range(5, 69):
        switch.say(row(gives) if at == 7 else b"", to=at)
    assert [found for found, _ in heard] == early


def test_meters_are_read_first_where_they_are_wanted() -> None:
    switch, heard = Switch(), Heard()
    switch.inquiries.read(switch.conn, True, heard)
    switch.say(struct.pack("!HHIHHIII", 24, 6, 5, 1, 16, 100, 50, 0))
    switch.count(0)
    switch.say(b"")
    assert switch.kinds() == [METERS, TABLE, FLOW]
    assert heard == [(Found(), [Meter(5, 100, 50)])]


def test_a_switch_without_meters_that_does_not_count_is_read_in_parts() -> None:
    switch, heard = Switch(), Heard()
    switch.inquiries.read(switch.conn, True, heard)
    assert switch.refuse()
    assert switch.refuse()
    del switch.asked[2:2 + len(dumps.TO_VLAN)]
    for at in range(2, 66):
        switch.say(b"", to=at)
    assert switch.masks() == [(group, 63) for group in range(64)]
    assert heard == [(Found(), [])]
    assert not switch.refuse(), "nothing is open any more"


def test_who_reads_anew_hears_nothing_of_what_was_read_before() -> None:
    switch, old, new = Switch(), Heard(), Heard()
    switch.inquiries.read(switch.conn, False, old)
    switch.count(3)
    switch.inquiries.read(switch.conn, False, new)
    switch.say(rows(DROPS), to=1)
    switch.count(3)
    switch.say(rows(DROPS[:1]))
    assert (old, cookies(new[0][0])) == ([], [cookie_of(DROPS[0])])


def test_an_answer_that_makes_no_sense_ends_the_connection_and_one_to_nobody_nothing() -> None:
    switch, heard = Switch(), Heard()
    switch.inquiries.read(switch.conn, False, heard)
    switch.count(3)
    with pytest.raises(answers.Unreadable, match="an item of 9 bytes"):
        switch.say(b"\0\x09" + row(DROPS[0])[2:])
    switch.inquiries.forget(switch.conn)
    switch.say(b"\0\x09" + row(DROPS[0])[2:])
    assert not heard


def test_people_see_every_row_and_its_counters() -> None:
    switch = Switch()
    seen = eventlet.spawn(switch.inquiries.dump, switch.conn, lambda content: content.priority == 0)
    eventlet.sleep(0)
    switch.count(2)
    eventlet.sleep(0)
    switch.say(rows(DROPS[:2]))
    assert [(one.priority, one.actions, one.packets) for one in seen.wait()] == [(0, "", 7), (1, "drop", 7)]
    counted = eventlet.spawn(switch.inquiries.count, switch.conn, (t.CLASSIFY, t.DELIVER))
    for flows in (DROPS[:1], DROPS[1:2]):
        eventlet.sleep(0)
        switch.say(rows(flows))
    assert counted.wait() == {cookie_of(flow): Counted(7, 700) for flow in DROPS[:2]}


def test_who_waits_for_a_switch_that_goes_hears_of_it() -> None:
    switch = Switch()
    waiting = eventlet.spawn(switch.inquiries.dump, switch.conn)
    eventlet.sleep(0)
    switch.inquiries.forget(switch.conn)
    with pytest.raises(Unanswerable, match="the connection has ended"):
        waiting.wait()
