"""The one clock of the daemon: it wakes the fleet when something is due, and sleeps otherwise."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import eventlet
from eventlet.event import Event

from controller.switch.sockets import guarded

_LONGEST: Final = 60.0  # seconds that it sleeps at most
_SHORTEST: Final = 0.02  # seconds between two ticks, so that what is due again at once holds up nothing else


def later(seconds: float, call: Callable[[], None]) -> None:
    """Call it once, unless the daemon ends before."""
    eventlet.spawn_after(seconds, call)


class Alarm:
    """`due` says when `ring` shall be called with the time; both are called in the greenlet of `run`."""

    def __init__(self, due: Callable[[], float], ring: Callable[[float], None]) -> None:
        self._due = due
        self._ring = ring
        self._set_to = 0.0
        self._earlier = Event()

    @staticmethod
    def now() -> float:
        """Seconds of a clock that only moves forward."""
        return time.monotonic()

    def look(self) -> None:
        """Something may be due earlier than it was."""
        if self._due() < self._set_to and not self._earlier.ready():
            self._earlier.send()

    def run(self) -> None:
        """Forever."""
        while True:
            self._set_to = min(self._due(), self.now() + _LONGEST)
            self._earlier = Event()
            self._earlier.wait(timeout=max(self._set_to - self.now(), 0))
            guarded("tick failed", lambda: self._ring(self.now()))
            eventlet.sleep(_SHORTEST)
