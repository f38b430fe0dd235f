"""When to send which probe, and what the answers add up to. No I/O: the clock and what was heard come in as arguments.

An expected pair is asked again, ever more patiently, until it answered; an unexpected one is asked once and then
listened for. So a healthy cloud is seen to be healthy as fast as it answers, and a lost first
frame (a host still resolving an address) is no failure.
"""
from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from controller.model.reachability import INTERNET, Pair, Target

_BURST: Final = 0.01  # seconds of sending that may be caught up on at once


@dataclass(frozen=True)
class Options:
    """Seconds, and numbers of probes."""

    tries: int = 6  # for an expected pair; then it is held unreachable
    patience: float = 0.3  # before the second try; doubled before each further one, up to `longest`
    longest: float = 1.2
    listen: float = 1.0  # how long an unexpected probe is listened for
    window: int = 256  # expected pairs that may be waiting for an answer at the same time
    rate: float = 6000.0  # probes a second, over all sources


class Way(Enum):
    """How a probe leaves its source."""

    ROUTED = "routed"  # by the source's own routes and neighbours, as ping does
    DIRECT = "direct"  # in a frame to the destination's MAC, as a source would that means harm
    FLOOD = "flood"  # in a broadcast frame


@dataclass(frozen=True)
class Probe:
    number: int
    way: Way
    source: str
    target: str | None  # a port; None: everyone, or the address of `aim`
    aim: Target | None = None  # only ROUTED
    attempt: int = 0


@dataclass(frozen=True)
class Leak:
    """A frame of `source`, meant for `target` (None: broadcast), was seen by a port of a network it has no way to."""

    source: str
    target: str | None
    seen_at: str
    routed: bool = False  # it was sent by the source's own routes: a router may have brought it there


@dataclass(frozen=True)
class Observation:
    reached: frozenset[Pair]  # the destination saw the request and the source got its reply
    leaks: tuple[Leak, ...]
    answered: frozenset[Target] = frozenset()  # the source got the reply, and whoever shall see the request saw it


@dataclass
class _Task:
    probe: Probe
    expected: bool
    tries: int = 0
    saw: bool = False
    replied: bool = False
    settled: bool = False

    def is_answered(self) -> bool:
        nobody_sees_it = self.probe.aim is not None and self.probe.aim.seen_by is None
        return self.replied and (self.saw or nobody_sees_it)

    @property
    def seen_by(self) -> str | None:
        """The port that shall see the request."""
        return self.probe.aim.seen_by if self.probe.aim else self.probe.target


class Campaign:
    """One run over some pairs of ports, and over targets that are no ports.

    `expected` are all pairs that may reach each other, asked or not; `segments` says on which networks an endpoint is.
    """

    def __init__(self, pairs: Sequence[Pair], expected: frozenset[Pair], segments: Mapping[str, frozenset[str]],
                 options: Options, targets: Sequence[Target] = ()) -> None:
        self._expected = expected
        self._segments = segments
        self._options = options
        self._tasks = [_Task(probe, probe.way is Way.ROUTED and (probe.source, probe.target) in expected)
                       for probe in _probes(pairs, expected)]
        self._tasks += [_Task(Probe(number, Way.ROUTED, aim.source, None, aim), aim.expected)
                        for number, aim in enumerate(targets, start=len(self._tasks))]
        self._asked = deque(task for task in self._tasks if task.expected)
        self._others = deque(task for task in self._tasks if not task.expected)
        self._agenda: list[tuple[float, int]] = []  # when to look again at the probe of which number
        self._waiting = 0  # expected pairs asked and not yet settled
        self._open = len(self._tasks)
        self._next_slot = 0.0
        self._leaks: dict[Leak, None] = {}

    @property
    def is_over(self) -> bool:
        return self._open == 0

    def due(self, now: float) -> Iterator[Probe]:
        """The probes to send at once."""
        self._next_slot = max(self._next_slot, now - _BURST)
        while self._next_slot <= now and (task := self._pick(now)) is not None:
            task.tries += 1
            heapq.heappush(self._agenda, (now + self._pause(task), task.probe.number))
            self._next_slot += 1 / self._options.rate
            yield replace(task.probe, attempt=task.tries - 1)

    def wait(self, now: float) -> float:
        """Seconds until there may be something to send or to give up; none once it is over."""
        times = [self._agenda[0][0]] if self._agenda else []
        if self._others or (self._asked and self._waiting < self._options.window):
            times.append(self._next_slot)
        return max(0.0, min(times, default=now) - now)

    def heard(self, number: int, at: str, *, is_reply: bool, for_it: bool = True) -> None:
        """A probe of this campaign arrived at a port; `for_it`: in a frame to its MAC, and not just flooded."""
        if number >= len(self._tasks):
            return
        task = self._tasks[number]
        if is_reply:
            task.replied = task.replied or (for_it and at == task.probe.source)
        else:
            task.saw = task.saw or (for_it and at == task.seen_by)
        if self._is_leak(task, at, is_reply):
            name = task.probe.aim.name if task.probe.aim else task.probe.target
            self._leaks[Leak(task.probe.source, name, at, task.probe.way is Way.ROUTED)] = None
        if task.expected and task.is_answered():
            self._settle(task)

    def result(self) -> Observation:
        """What was observed so far."""
        routed = [task.probe for task in self._tasks if task.probe.way is Way.ROUTED and task.is_answered()]
        reached = frozenset((probe.source, probe.target or "") for probe in routed if probe.aim is None)
        return Observation(reached, tuple(self._leaks), frozenset(probe.aim for probe in routed if probe.aim))

    def _pick(self, now: float) -> _Task | None:
        while self._agenda and self._agenda[0][0] <= now:
            task = self._tasks[heapq.heappop(self._agenda)[1]]
            if task.tries < self._most_tries(task) and not task.settled:
                return task
            self._settle(task)
        if self._asked and self._waiting < self._options.window:
            self._waiting += 1
            return self._asked.popleft()
        return self._others.popleft() if self._others else None

    def _settle(self, task: _Task) -> None:
        if not task.settled:
            task.settled = True
            self._open -= 1
            self._waiting -= task.expected

    def _most_tries(self, task: _Task) -> int:
        return self._options.tries if task.expected else 1

    def _pause(self, task: _Task) -> float:
        doubled: float = self._options.patience * 2 ** (task.tries - 1)
        return min(doubled, self._options.longest) if task.expected else self._options.listen

    def _is_leak(self, task: _Task, at: str, is_reply: bool) -> bool:
        """Within a segment a switch may flood; between segments only what is expected, and its reply, may pass."""
        probe = task.probe
        if self._segments[at] & self._segments[probe.source]:
            return False
        if probe.way is Way.FLOOD:
            return True
        if probe.way is Way.ROUTED and at == INTERNET:  # where everything goes that is nowhere in the cloud
            return False
        if task.expected and not is_reply and at == task.seen_by:  # a floating IP leads to a port of another network
            return False
        return (probe.source, at) not in self._expected and not (is_reply and (at, probe.source) in self._expected)


def _probes(pairs: Sequence[Pair], expected: frozenset[Pair]) -> Iterator[Probe]:
    """Every pair by its routes, the forbidden ones by force as well, and one broadcast of every source."""
    ways: list[tuple[Way, str, str | None]] = [(Way.ROUTED, source, target) for source, target in pairs]
    ways += [(Way.DIRECT, source, target) for source, target in pairs if (source, target) not in expected]
    ways += [(Way.FLOOD, source, None) for source in dict.fromkeys(source for source, _ in pairs)]
    return (Probe(number, *way) for number, way in enumerate(ways))
