"""Two daemons or more and one switch: who writes, and who takes over."""
from __future__ import annotations

import random
from itertools import count

from controller.switch.events import Claim, Mastery
from controller.switch.roles import Role, Stand, generation

SECOND = 10**9
START = 1_790_000_000 * SECOND


class Switch:
    """As OpenFlow 1.4, 6.3.6: the last claim whose generation is not lower than all before is the master's."""

    def __init__(self) -> None:
        self.daemons: dict[int, Role] = {}
        self.latest: int | None = None
        self.master: int | None = None
        self.now = 0.0
        self.names = count(1)

    def connect(self, started: int) -> int:
        name = next(self.names)
        self.daemons[name] = Role(name, generation(started))
        self.hear(self.daemons[name].claim())
        return name

    def disconnect(self, name: int) -> None:
        del self.daemons[name]
        self.master = None if self.master == name else self.master

    def hear(self, claims: list[Claim]) -> None:
        for claim in claims:
            if isinstance(claim.conn, int) and claim.conn in self.daemons:
                self.answer(claim.conn, claim.generation)

    def answer(self, name: int, claimed: int | None) -> None:
        role = self.daemons[name]
        if claimed is None:
            self.hear(role.heard(Mastery(self.master == name, self.latest), self.now))
        elif self.latest is not None and claimed < self.latest:
            self.hear(role.heard(Mastery(False, stale=True), self.now))
        else:
            before, self.master, self.latest = self.master, name, claimed
            self.hear(role.heard(Mastery(True, claimed), self.now))
            if before is not None and before != name:
                self.hear(self.daemons[before].heard(Mastery(False, claimed), self.now))

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := min((role.due for role in self.daemons.values()), default=end)) < end:
            self.now = max(self.now, due)
            for role in list(self.daemons.values()):
                self.hear(role.tick(self.now))
        self.now = end

    def writers(self) -> list[int]:
        return [name for name, role in self.daemons.items() if role.ours]


def test_one_daemon_is_master_at_once_and_stays_it() -> None:
    switch = Switch()
    name = switch.connect(START)
    assert (switch.writers(), switch.master) == ([name], name)
    switch.wait(1000)
    assert switch.writers() == [name]


def test_the_newer_takes_over_and_the_older_steps_back_for_as_long_as_it_is_there() -> None:
    switch = Switch()
    switch.connect(START)
    newer = switch.connect(START + SECOND)
    assert (switch.writers(), switch.master) == ([newer], newer)
    for _ in range(50):
        switch.wait(37)
        assert (switch.writers(), switch.master) == ([newer], newer)


def test_the_older_takes_over_when_the_newer_has_gone_and_not_at_once() -> None:
    switch = Switch()
    older = switch.connect(START)
    newer = switch.connect(START + SECOND)
    switch.wait(1)
    switch.disconnect(newer)
    assert switch.writers() == []
    switch.wait(10)
    assert (switch.writers(), switch.master) == ([older], older)


def test_an_older_one_that_comes_back_takes_nothing_away() -> None:
    switch = Switch()
    newer = switch.connect(START + SECOND)
    for _ in range(5):
        older = switch.connect(START)
        assert switch.writers() == [newer]
        switch.wait(20)
        assert switch.writers() == [newer]
        switch.disconnect(older)


def test_a_daemon_that_is_started_again_is_the_newest() -> None:
    switch = Switch()
    switch.connect(START)
    switch.disconnect(switch.connect(START + SECOND))
    again = switch.connect(START + 2 * SECOND)
    switch.wait(500)
    assert switch.writers() == [again]


def test_after_a_clock_that_was_set_back_a_daemon_is_master_a_little_later() -> None:
    switch = Switch()
    switch.disconnect(switch.connect(START + 1000 * SECOND))
    only = switch.connect(START)
    assert switch.writers() == []
    switch.wait(10)
    assert switch.writers() == [only]


def test_nobody_knocks_at_a_controller_of_another_kind() -> None:
    role = Role(1, generation(START))
    assert role.heard(Mastery(False, 1 << 63), 0.0) == []
    assert role.stand is Stand.THEIRS
    assert role.tick(1e9) == []


def test_two_that_think_they_are_the_same_do_not_fight_for_ever() -> None:
    switch = Switch()
    switch.connect(START)
    switch.connect(START)
    for _ in range(20):
        switch.wait(30)
        assert len(switch.writers()) <= 1


def test_a_claim_is_younger_the_later_a_daemon_starts_and_fits_into_its_field() -> None:
    assert generation(START) + 1000 < generation(START + 2_000_000)
    assert generation(START * 2) < 1 << 63


def test_whatever_comes_and_goes_one_writes_in_the_end(seed: int) -> None:
    pick = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(50):
        switch, starts = Switch(), count(START, SECOND)
        names = [switch.connect(next(starts))]
        for _ in range(10):
            if pick.random() < 0.5 or not names:
                names.append(switch.connect(next(starts) - pick.choice((0, 5 * SECOND))))
            else:
                switch.disconnect(names.pop(pick.randrange(len(names))))
            switch.wait(pick.random() * 20)
        switch.wait(200)
        assert len(switch.writers()) == min(len(names), 1)
        assert switch.writers() == [switch.master] * len(switch.writers())
