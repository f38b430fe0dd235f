"""Whether the machine was ours alone while something was measured.

The host of a virtual machine takes its processors away as it likes, and counts for how long (proc(5), /proc/stat:
steal). Nobody forwards a packet meanwhile, so such a run says nothing of a gap: it is put aside, and taken again. On a
machine of its own nothing is ever stolen, and nothing put aside.
"""
from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from reports import say

MOST = 0.02  # of all processors' time: what may have been stolen from a run that counts
TRIES = 6
_T = TypeVar("_T")


def stolen() -> float:
    """Seconds of processor time that the host has taken since the machine was started."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) / os.sysconf("SC_CLK_TCK")


@dataclass
class Lost:
    """What share of the processors' time was stolen during a block; known at its end."""

    share: float = 0.0


@contextlib.contextmanager
def watched() -> Iterator[Lost]:
    """Watch a block."""
    lost, before, start = Lost(), stolen(), time.monotonic()
    yield lost
    lost.share = (stolen() - before) / ((time.monotonic() - start) * (os.cpu_count() or 1))


@dataclass
class Runs(Generic[_T]):
    """All tries of one measurement: what counts, and what was put aside."""

    counted: list[_T] = field(default_factory=list)
    aside: list[_T] = field(default_factory=list)
    disturbed: int = 0  # of those counted, as no try was better

    def take(self, name: str, ready: Callable[[bool], object], measure: Callable[[], _T], most: int = TRIES) -> _T:
        """The first run in which the machine was ours; of the `most` without, the one that lost least.

        `ready` is called before each, with whether it is another try.
        """
        tries: list[tuple[float, _T]] = []
        while not tries or (tries[-1][0] > MOST and len(tries) < most):
            ready(bool(tries))
            with watched() as lost:
                one = measure()
            tries.append((lost.share, one))
            if lost.share > MOST:
                say(f"  {name}: {lost.share:.0%} of the machine was stolen meanwhile")
        self.disturbed += tries[-1][0] > MOST
        best = min(tries, key=lambda each: each[0])[1]
        self.counted.append(best)
        self.aside += [one for _, one in tries if one is not best]
        return best
