"""What a fleet waits for at each connection: an answer, the time of a retry, another daemon. No I/O."""
from __future__ import annotations

from dataclasses import dataclass
from math import inf

from controller.switch.events import Claim, Mastery
from controller.switch.patience import Patience
from controller.switch.roles import Role


@dataclass(frozen=True)
class Happened:
    """What time has brought about, by connection."""

    silent: list[object]  # given up
    again: list[object]  # to be read again
    ours: list[object]  # our role may be another
    claims: list[Claim]  # to be said


class Vigil:
    """All connections of known switches."""

    def __init__(self) -> None:
        self._patience = Patience()
        self._retries: dict[object, float] = {}
        self._roles: dict[object, Role] = {}
        self._dpids: dict[object, int] = {}
        self._uncertain: set[object] = set()  # where another daemon is, or was
        self._held: dict[int, int] = {}  # datapath id -> our claim of it that held when its last connection ended

    def begin(self, conn: object, dpid: int, generation: int) -> list[Claim]:
        """A connection to a switch, which is claimed with this daemon's generation, or as the last time."""
        self._dpids[conn] = dpid
        role = self._roles[conn] = Role(conn, self._held.get(dpid, generation))
        return role.claim()

    def end(self, conn: object) -> None:
        """A connection is over."""
        role, dpid = self._roles.pop(conn), self._dpids.pop(conn)
        self._held.pop(dpid, None)
        if role.ours:
            self._held[dpid] = role.claimed
        self.answered(conn)
        self._uncertain.discard(conn)

    # ---- answers and retries

    def asked(self, conn: object, now: float) -> None:
        """It owes an answer; what it refused before is of no interest any more."""
        self._retries.pop(conn, None)
        self._patience.asked(conn, now)

    def heard(self, conn: object, now: float) -> None:
        """It has said a part of what it owes, if it owes anything."""
        self._patience.heard(conn, now)

    def answered(self, conn: object) -> None:
        """It owes nothing, and nothing is to be tried again."""
        self._retries.pop(conn, None)
        self._patience.answered(conn)

    def retry(self, conn: object, at: float) -> None:
        """It has refused something, and shall be read again then."""
        self.answered(conn)
        if at < inf:
            self._retries[conn] = at

    # ---- roles

    def role(self, conn: object, said: Mastery, now: float) -> list[Claim]:
        """A switch says what our role is. Returns what is to be said there."""
        claims = self._roles[conn].heard(said, now)
        if self._roles[conn].due < inf:
            self._uncertain.add(conn)
        return claims

    def ours(self, conn: object) -> bool:
        """Whether this daemon is the one that writes there."""
        return self._roles[conn].ours

    # ---- time

    @property
    def due(self) -> float:
        """When `tick` has something to do, at the latest."""
        return min(self._patience.due, *self._retries.values(), *(self._roles[conn].due for conn in self._uncertain),
                   inf)

    def tick(self, now: float) -> Happened:
        """What time alone brings about."""
        again = [conn for conn, at in self._retries.items() if at <= now]
        for conn in again:
            del self._retries[conn]
        late = [conn for conn in self._uncertain if self._roles[conn].due <= now]
        claims = [claim for conn in late for claim in self._roles[conn].tick(now)]
        self._uncertain -= {conn for conn in late if self._roles[conn].due == inf}
        return Happened(self._patience.over(now), again, late, claims)
