"""Which daemon writes to a switch, where two are connected to it: the newer one, or whoever is left. No I/O.

A switch has one master at a time (OpenFlow 1.4, 6.3.6). A claim names a generation id, and the switch grants it unless
it is lower than the last one. Ours is the time at which the daemon started, and a number below it: so a daemon that
started later takes over, and one that comes back after a short absence does not take it away again.

Who has stepped back cannot see whether the other is still there, for a switch does not say. So it knocks, seldom: it
claims the other's generation and one more. Whoever is there and is knocked at claims the next one at once; when nobody
does, the switch is ours.
"""
from __future__ import annotations

from enum import Enum
from math import inf
from typing import Final

from controller.switch.events import Claim, Mastery

_NUMBER_BITS: Final = 21  # of a generation id: claims of one daemon, and of those that knock at it
_TICK_BITS: Final = 20  # of a time in nanoseconds that are left out: about a millisecond
_FAR: Final = 10 * 365 * 86400 * 1000  # of such ticks: a generation that far away is no daemon's of ours
_GRACE: Final = 3.0  # seconds for whoever is knocked at; a daemon does not hold its breath for longer
_DEFENCES: Final = 5  # within that time; who claims again after them is no guest
_FIRST_WAIT: Final = 5.0  # seconds before the first knock; each next one doubles it
_LONGEST_WAIT: Final = 60.0


def generation(time_ns: int) -> int:
    """The first generation id of a daemon that started at this time (nanoseconds since 1970)."""
    return time_ns >> _TICK_BITS << _NUMBER_BITS


class Stand(Enum):
    """Where we are with a switch."""

    OURS = "ours"
    THEIRS = "another daemon is master"
    KNOCKING = "another daemon was master"


class Role:
    """Our role at one switch. Every method returns what is to be said there."""

    def __init__(self, conn: object, own: int) -> None:
        """`own`: what `generation` gave this daemon, or its last claim of the same switch that held."""
        self.stand = Stand.OURS  # until the switch says otherwise, which it does before it obeys anything else
        self.due = inf  # when `tick` has something to do
        self._conn = conn
        self._own = own
        self.claimed = own  # our last claim
        self._latest = own  # anybody's last claim, as far as we know
        self._defended = -inf
        self._defences = 0
        self._wait = _FIRST_WAIT

    @property
    def ours(self) -> bool:
        """Whether this daemon writes."""
        return self.stand is Stand.OURS

    def claim(self) -> list[Claim]:
        """The first thing that is said."""
        return [Claim(self._conn, self._latest)]

    def heard(self, said: Mastery, now: float) -> list[Claim]:
        """The switch has said what our role is."""
        if said.generation is not None:
            self._latest = said.generation
        if said.master:
            return []
        if said.stale:
            self._step_back(now)
            return [Claim(self._conn, None)]  # what is the last claim?
        if self.stand is Stand.OURS and self._defends(now):
            return self._next()
        if self.stand is not Stand.THEIRS:
            self._step_back(now)
        return []

    def tick(self, now: float) -> list[Claim]:
        """What time alone brings about."""
        if now < self.due:
            return []
        if self.stand is Stand.THEIRS:
            self.stand, self.due = Stand.KNOCKING, now + _GRACE
            return self._next()
        self.stand, self.due, self._wait = Stand.OURS, inf, _FIRST_WAIT
        return []

    def _defends(self, now: float) -> bool:
        """Whether somebody has only knocked at our claim; many times in a row is no knocking, but a fight."""
        if self._latest >> _NUMBER_BITS != self.claimed >> _NUMBER_BITS:
            return False
        self._defences = 1 if now - self._defended > _GRACE else self._defences + 1
        self._defended = now
        return self._defences <= _DEFENCES

    def _next(self) -> list[Claim]:
        self._latest += 1
        self.claimed = self._latest
        return [Claim(self._conn, self._latest)]

    def _step_back(self, now: float) -> None:
        self.stand, self.due = Stand.THEIRS, now + self._wait if self._known() else inf
        self._wait = min(self._wait * 2, _LONGEST_WAIT)

    def _known(self) -> bool:
        """Whether the last claim looks like one of a daemon of ours; another kind of master is not knocked at."""
        return abs((self._latest >> _NUMBER_BITS) - (self._own >> _NUMBER_BITS)) < _FAR
