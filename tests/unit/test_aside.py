"""Long work in a copy of the process: others run meanwhile, and whatever becomes of the copy, somebody is told."""
from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import eventlet
import pytest

from controller.switch.applying import Failed
from controller.switch.aside import Aside


def test_the_copy_waits_for_what_only_others_can_bring() -> None:
    reader, writer = os.pipe()
    heard = os.dup(reader)

    def work() -> Iterator[bytes]:
        yield b"began"
        with open(f"/proc/{os.getppid()}/fd/{heard}", "rb", buffering=0) as brought:  # its own are closed
            yield brought.read(4)

    eventlet.spawn_after(0, os.write, writer, b"news")
    try:
        assert [*Aside()(work)] == [b"began", b"news"]
    finally:
        for each in (reader, writer, heard):
            os.close(each)


def test_a_large_value_arrives_whole_and_in_order() -> None:
    assert [len(value) for value in Aside()(lambda: (b"x" * size for size in (0, 3_000_000, 5)))] == [0, 3_000_000, 5]


def test_what_the_work_raises_is_told() -> None:
    def work() -> Iterator[int]:
        yield 1
        raise ValueError("no such cloud")

    values = Aside()(work)
    assert next(values) == 1
    with pytest.raises(Failed, match="no such cloud"):
        next(values)


def test_a_copy_that_is_killed_is_told() -> None:
    def work() -> Iterator[int]:
        yield 1
        os.kill(os.getpid(), signal.SIGKILL)

    values = Aside()(work)
    assert next(values) == 1
    with pytest.raises(Failed, match="-9"):
        next(values)


def test_nobody_is_left_when_nobody_waits_any_more() -> None:
    aside = Aside()
    values = aside(lambda: iter([os.getpid(), *range(1_000_000)]))
    copy = next(values)
    values.close()
    with pytest.raises(ProcessLookupError):
        os.kill(copy, 0)
    assert [*aside(lambda: [1])] == [1], "and the next one has its turn"


def test_what_the_copy_changes_stays_its_own() -> None:
    mine: list[int] = []

    def work() -> Iterator[list[int]]:
        mine.append(1)
        yield mine

    assert [*Aside()(work)] == [[1]]
    assert not mine
