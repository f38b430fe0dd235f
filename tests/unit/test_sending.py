"""A write of several bundles on its way: what is said when, and what is in when a switch refuses a part of it."""
from __future__ import annotations

import itertools
import random
from collections import deque

import pytest

from controller.switch.diff import Plan
from controller.switch.sending import AHEAD, Commit, Discard, Finished, Sending, Stage, Step

PLANS = tuple(Plan(delete=(number,)) for number in range(10))


def sending(count: int) -> Sending:
    return Sending(PLANS[:count], itertools.count(1))


def test_a_bundle_is_committed_when_it_has_been_closed_and_not_before() -> None:
    one = sending(1)
    assert one.start() == [Stage(1, PLANS[0])]
    assert one.closed(1) == [Commit(1)]
    assert one.committed(1) == [Finished(1)]
    assert one.finished


def test_one_that_is_sure_to_be_understood_waits_for_nothing() -> None:
    one = Sending(PLANS[:1], itertools.count(1), sure=True)
    assert one.start() == [Stage(1, PLANS[0], sure=True)]
    assert one.closed(1) == []
    assert one.committed(1) == [Finished(1)]


def test_one_that_was_sure_and_is_refused_is_not_discarded_as_its_commit_is_said() -> None:
    one = Sending(PLANS[:1], itertools.count(1), sure=True)
    one.start()
    assert one.failed("bad") == [Finished(0, "bad")]


def test_the_next_ones_are_staged_meanwhile_but_not_too_many() -> None:
    write = sending(10)
    assert write.start() == [Stage(number, PLANS[number - 1]) for number in range(1, AHEAD + 1)]
    assert write.closed(1) == [Commit(1)]
    assert write.closed(2) == []
    assert write.committed(1) == [Commit(2), Stage(AHEAD + 1, PLANS[AHEAD])]


def test_a_bundle_that_the_switch_cannot_read_is_not_committed_nor_any_behind_it() -> None:
    write = sending(10)
    write.start()
    write.closed(1)
    assert write.failed("bad") == [*map(Discard, range(2, AHEAD + 1)), Finished(0, "bad")]
    assert write.finished
    for late in (write.closed(2), write.committed(1), write.failed("again")):
        assert late == []


def test_answers_about_other_bundles_change_nothing() -> None:
    write = sending(2)
    write.start()
    assert write.committed(1) == []
    write.closed(1)
    assert write.committed(2) == []


class Switch:
    """Takes bundles as Open vSwitch does: answers in the order in which it is asked, and what it cannot take."""

    def __init__(self, pick: random.Random) -> None:
        self.pick = pick
        self.open: dict[int, Plan] = {}
        self.taken: list[Plan] = []
        self.heard: deque[tuple[str, int]] = deque()

    def hear(self, step: Step) -> None:
        match step:
            case Stage(number, plan):
                assert number not in self.open
                self.open[number] = plan
                assert len(self.open) <= AHEAD
                self.heard.append(("error" if self.pick.random() < 0.02 else "closed", number))
            case Commit(number):
                plan = self.open.pop(number)
                if self.pick.random() < 0.05:
                    self.heard.append(("error", number))
                else:
                    self.taken.append(plan)
                    self.heard.append(("committed", number))
            case Discard(number):
                del self.open[number]


@pytest.mark.parametrize("run", range(100))
def test_what_a_switch_has_taken_is_always_the_first_part_of_the_write(seed: int, run: int) -> None:
    switch = Switch(random.Random(seed * 100 + run))
    write, ends = sending(10), list[Finished]()
    steps = deque(write.start())
    while steps or switch.heard:
        if steps and (not switch.heard or switch.pick.random() < 0.5):
            step = steps.popleft()
            ends += [step] if isinstance(step, Finished) else []
            switch.hear(step)
        else:
            what, number = switch.heard.popleft()
            said = {"closed": write.closed, "committed": write.committed}
            steps += said[what](number) if what in said else write.failed("refused")
    (end,) = ends
    assert tuple(switch.taken) == PLANS[:len(switch.taken)]
    assert (len(switch.taken) == len(PLANS)) == (not end.reason)
    assert end.bundles <= len(switch.taken) <= end.bundles + 1, "one may be on its way in when another is refused"
    assert not switch.open
