"""Which switches owe an answer, and how long they are waited for. No I/O."""
from __future__ import annotations

from math import inf
from typing import Final

LIMIT: Final = 60.0  # seconds; a busy switch, and a busy daemon, answer in parts and need less for each


class Patience:
    """Connections, each with the time at which it is given up."""

    def __init__(self) -> None:
        self._until: dict[object, float] = {}  # the earliest first: everybody has the same time

    def asked(self, conn: object, now: float) -> None:
        """It owes an answer."""
        self._until.pop(conn, None)
        self._until[conn] = now + LIMIT

    def heard(self, conn: object, now: float) -> None:
        """It has said a part of what it owes, if it owes anything."""
        if conn in self._until:
            self.asked(conn, now)

    def answered(self, conn: object) -> None:
        """It owes nothing any more."""
        self._until.pop(conn, None)

    @property
    def due(self) -> float:
        """When the next one is given up."""
        return next(iter(self._until.values()), inf)

    def over(self, now: float) -> list[object]:
        """Those that are given up; they are forgotten."""
        found = [conn for conn, until in self._until.items() if until <= now]
        for conn in found:
            del self._until[conn]
        return found
