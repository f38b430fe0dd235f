"""How long to wait before something that is undone again and again is done once more."""
from __future__ import annotations

from typing import Final

LONGEST: Final = 60.0  # seconds between two tries
_QUIET: Final = 2 * LONGEST  # seconds after which what happened before is forgotten


class Backoff:
    """The first try is at once, the second a second after it, then two seconds, four, and so on to a minute."""

    def __init__(self) -> None:
        self._tries: dict[int, tuple[int, float]] = {}  # cookie -> how often in a row, and when the last time

    def tries(self, cookie: int, now: float) -> int:
        """How often it was tried lately."""
        number, last = self._tries.get(cookie, (0, now))
        return number if now - last < _QUIET else 0

    def ready_at(self, cookie: int, now: float) -> float:
        """When it may be tried."""
        number = self.tries(cookie, now)
        return self._tries[cookie][1] + min(2.0 ** (number - 1), LONGEST) if number else now

    def tried(self, cookie: int, now: float) -> int:
        """It is tried now. Returns how often it was, lately."""
        number = self.tries(cookie, now) + 1
        if number == 1:  # time to forget
            self._tries = {one: tried for one, tried in self._tries.items() if now - tried[1] < _QUIET}
        self._tries[cookie] = (number, now)
        return number
