"""One large write on its way to a switch, bundle after bundle. No I/O.

    STAGED --closed--> CLOSED --the one before is in--> COMMITTING --in--> gone
      +------------------------sure----------------------^

A bundle is committed when the switch has understood every message of it, which it says by closing it without a
complaint, and when the bundle before it is in. The next ones are staged meanwhile, which is most of the work, so the
switch is never idle; and after a complaint no other is committed, so what is in is always the first part of the write.
Of a write that it will surely understand (`understood`) the only bundle is committed with the same breath: Open vSwitch
looks for the next message only when it has done all else, which after a new port may be 20 ms later.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from controller.switch.diff import Plan

AHEAD: Final = 4  # bundles that a switch holds open at most


@dataclass(frozen=True)
class Stage:
    """Send a bundle up to the request to close it; if that is `sure`, the request to commit it, too."""

    number: int
    plan: Plan
    sure: bool = False


@dataclass(frozen=True)
class Commit:
    """Send the request to commit a bundle, and what follows it."""

    number: int


@dataclass(frozen=True)
class Discard:
    """Send the request to forget a bundle that is open or closed."""

    number: int


@dataclass(frozen=True)
class Finished:
    """The write is over: all of it is in (no reason), or only the first `bundles` of it."""

    bundles: int
    reason: str = ""


Step = Stage | Commit | Discard | Finished


class Sending:
    """The state of one write. What to do next comes out of every method; a finished one wants nothing any more."""

    def __init__(self, parts: Iterable[Plan], numbers: Iterator[int], *, sure: bool = False) -> None:
        """`numbers`: of bundles; none may be used twice on one connection while a bundle of that number is open.

        `sure`: it is of one bundle, and need not wait for the switch to understand it.
        """
        self._sure = sure
        self._left = deque(parts)
        self._numbers = numbers
        self._open: deque[int] = deque()  # staged and not in, in order
        self._closed: set[int] = set()
        self._committing = False  # the first of the open ones
        self._done = 0
        self.finished = False

    def start(self) -> list[Step]:
        """The first steps."""
        return self._on()

    def closed(self, number: int) -> list[Step]:
        """The switch has understood all of a bundle, but for what it has complained of before."""
        self._closed.add(number)
        return self._on()

    def committed(self, number: int) -> list[Step]:
        """A bundle is in."""
        if self.finished or not self._committing or number != self._open[0]:
            return []
        self._open.popleft()
        self._closed.discard(number)
        self._committing = False
        self._done += 1
        return self._on()

    def failed(self, reason: str) -> list[Step]:
        """A message of the write was refused. What is open is not committed any more."""
        if self.finished:
            return []
        self.finished = True
        open_still = list(self._open)[1:] if self._committing else self._open
        return [*(Discard(number) for number in open_still), Finished(self._done, reason)]

    def _on(self) -> list[Step]:
        steps: list[Step] = []
        if self.finished:
            return steps
        if self._open and not self._committing and self._open[0] in self._closed:
            self._committing = True
            steps.append(Commit(self._open[0]))
        while self._left and len(self._open) < AHEAD:
            number = next(self._numbers)
            self._open.append(number)
            self._committing = self._committing or self._sure
            steps.append(Stage(number, self._left.popleft(), self._sure))
        if not self._open:
            self.finished = True
            steps.append(Finished(self._done))
        return steps
