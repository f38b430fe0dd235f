"""One switch as healing sees it: what its flow monitors said, and what follows from that."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from math import inf
from typing import Final

from controller.switch import damage, dumps, framing
from controller.switch.audit import Audit
from controller.switch.backoff import Backoff
from controller.switch.damage import Damage, Finding, Key, What
from controller.switch.dumps import Content, Update
from controller.switch.events import Inspect
from controller.switch.session import Session, State
from flows.cookie import EXACT, is_compiled, is_learned, is_neighbour
from flows.tables import pipeline

_MANY: Final = 2000  # updates; of more than that at once, only their cookies are looked at
WHOLE: Final = -1  # instead of a cookie, where it is about the whole switch


@dataclass
class Case:
    """What is wrong, and what was done about it so far."""

    session: Session
    damages: dict[tuple[int, bool], Damage] = field(default_factory=dict)  # (cookie, extra) -> what is wrong
    unread: str = ""  # why it has to be read again whole; empty if it need not
    blind: bool = False  # the switch has no flow monitors
    synced_at: float = inf  # when it came into sync for the first time
    count_at: float = inf
    look_at: float = inf  # when to look at some rows again
    group: int = 0  # of cookies: at whose rows
    backoff: Backoff = field(default_factory=Backoff)
    healed: int = 0
    last: str = ""  # what was healed the last time
    _updates: list[Update] = field(default_factory=list)
    _early: list[Update] = field(default_factory=list)  # from before the switch had been read whole
    _seen: frozenset[int] = frozenset()  # our cookies that it had then
    _rough: list[Finding] = field(default_factory=list)  # of too many updates, and of rows that were looked at
    _places: frozenset[tuple[int, int]] = frozenset()  # tables and priorities of ours

    def __post_init__(self) -> None:
        self._places = frozenset((table.id, priority) for table in pipeline(self.session.bridge)
                                 for priority in table.ranks.values())

    @property
    def switch(self) -> str:
        return f"{self.session.host}/{self.session.bridge}"

    @property
    def waits(self) -> bool:
        """Whether something is to be looked at."""
        return bool(self._updates or self._early or self._rough or self.unread)

    def hear(self, updates: Iterable[Update]) -> bool:
        """What a flow monitor says. Returns whether any of it needs a look."""
        heard = False
        for update in updates:
            if update.event == dumps.RESUMED:
                self.unread, heard = "the switch has left out what it could not tell in time", True
            elif update.event in framing.NAMES_FLOW and self._concerns_us(update):
                self._updates.append(update)
                heard = True
        if len(self._updates) > _MANY:
            self._rough += damage.hasty(self._updates, self.session.intent.find)
            self._updates = []
            self.unread = "much has changed at once"
        return heard

    def _concerns_us(self, update: Update) -> bool:
        """Whether it may be about a flow of ours. Strangers rarely have our priorities."""
        return is_compiled(update.cookie) or ((update.table, update.priority) in self._places
                                              and not is_learned(update.cookie) and not is_neighbour(update.cookie))

    def read(self) -> list[int]:
        """The switch has been read whole, and is about to be reconciled: that rights all but what cookies do not tell.

        Returns the cookies of flows that are not what they seem to be. Call it before the session knows what was read.
        """
        self._early, self._updates, self._rough, self.unread = self._early + self._updates, [], [], ""
        self.damages = {key: one for key, one in self.damages.items() if one.what is What.ALTERED}
        return [cookie for cookie, _ in self.damages]

    def seen(self) -> None:
        """Now the session knows."""
        self._seen = self.session.have if self._early else frozenset()

    def inspect(self, asked: Inspect, rows: Iterable[Content]) -> bool:
        """These rows have the cookies that were asked for. Whether they count: nothing was written meanwhile."""
        session, audit = self.session, Audit(self.session.intent.find)
        found = list(audit.rows(rows))
        if asked.mask == EXACT:
            expected = {asked.cookie} & session.intent.rows.keys()
        else:
            expected = {cookie for cookie in session.intent.rows if cookie & asked.mask == asked.cookie}
        found += audit.missing(expected)
        if session.state is not State.IN_SYNC or session.counters.writes != asked.writes:
            return False
        self._rough += found
        return True

    def diagnose(self) -> list[Damage]:
        """From updates to damages. Returns what was not known before."""
        session, known = self.session, set(self.damages)
        for one in self._findings():
            if one.damage is None:
                self.damages.pop((one.cookie, one.extra), None)
            else:
                self.damages[one.cookie, one.extra] = one.damage
        # What the topology does not want any more is no damage; what it wants by now is no surplus.
        self.damages = {key: one for key, one in self.damages.items()
                        if (session.intent.find(one.cookie) is None) is (one.what is What.SURPLUS)}
        return [one for key, one in self.damages.items() if key not in known]

    def _findings(self) -> Iterator[Finding]:
        session = self.session
        early, late, rough = self._early, self._updates, self._rough
        self._early, self._updates, self._rough = [], [], []
        # What the reading did not find has been written since.
        yield from (one for one in damage.findings(early, session.intent.find, self._owners)
                    if one.extra or one.cookie in self._seen)
        yield from rough
        yield from damage.findings(late, session.intent.find, self._owners)

    def _owners(self, keys: Set[Key]) -> dict[Key, int]:
        return damage.owners(self.session.intent.parts(), keys)

    def ripe(self, now: float) -> list[Damage]:
        """What may be put right now."""
        return [one for one in self.damages.values() if self.backoff.ready_at(one.cookie, now) <= now]

    def next_try(self, now: float) -> float:
        """When something may be put right; infinity if nothing is wrong."""
        return min((self.backoff.ready_at(one.cookie, now) for one in self.damages.values()), default=inf)
