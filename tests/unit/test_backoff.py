"""How long healing waits in a fight."""
from __future__ import annotations

from controller.switch.backoff import LONGEST, Backoff


def test_the_first_try_is_at_once_and_each_further_one_waits_twice_as_long_up_to_a_minute() -> None:
    backoff, now, waits = Backoff(), 1000.0, []
    for _ in range(10):
        ready = backoff.ready_at(5, now)
        waits.append(ready - now)
        now = ready
        backoff.tried(5, now)
    assert waits == [0, 1, 2, 4, 8, 16, 32, LONGEST, LONGEST, LONGEST]


def test_what_has_been_quiet_for_two_minutes_is_forgotten() -> None:
    backoff = Backoff()
    assert [backoff.tried(5, 0), backoff.tried(5, 1), backoff.tried(6, 1)] == [1, 2, 1]
    assert backoff.ready_at(5, 1 + 2 * LONGEST) == 1 + 2 * LONGEST
    assert backoff.tried(5, 1 + 2 * LONGEST) == 1


def test_each_cookie_has_its_own() -> None:
    backoff = Backoff()
    backoff.tried(5, 0)
    assert backoff.ready_at(6, 0) == 0
