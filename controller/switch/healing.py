"""Self-healing: what others do to our flows is noticed, put right, and told. Decisions only; no I/O, no clock.

Flow monitors tell at once (`monitor`, `damage`). What no monitor sees is asked for each second, or counted; where a
count is wrong, or more has changed than can be looked at flow by flow, the switch is read again and compared whole. And
once a switch is in sync, its rows are looked at in the background, a few at a time (`audit`): for what was changed
before we came. A flow that somebody changes again and again is put right less and less often: a fight with another
controller must not keep the switch busy.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any, Final

from controller.switch import monitor
from controller.switch.audit import GROUPS
from controller.switch.case import WHOLE, Case
from controller.switch.damage import Damage, What
from controller.switch.diff import Plan
from controller.switch.dumps import Content, Update
from controller.switch.events import Command, Count, Inspect, Log, Watch
from controller.switch.pieces import BASE
from controller.switch.session import Session, State
from flows.cookie import COMPILED, EXACT, KIND_MASK, of_kind
from flows.sheet import flow_of
from flows.text import match_words

Json = dict[str, Any]
_GATHER: Final = 0.05  # seconds: who deletes one flow often deletes some more
_COUNT_EVERY: Final = 1.0  # seconds between two counts
_COUNTS: Final = 200  # a second, of all switches together, at most
_FIRST_LOOK: Final = 3.0  # seconds after a switch has come into sync, when others have more need of the processor
_ROUND: Final = 3600.0  # seconds from one look at all rows to the next
_BLIND_ROUND: Final = 10.0  # and where there are no monitors
_BREATH: Final = 0.2  # seconds between two groups of rows
_LONGEST: Final = 60.0  # seconds that it waits for others to come into sync
_NO_ANSWER: Final = 10.0  # seconds after which rows are asked for again
_AT_ONCE: Final = 5000  # flows of a switch whose rows are asked for in one
_TOLD: Final = 10  # flows of which the log tells one by one
_SHOWN: Final = 100  # flows that status names


@dataclass(frozen=True)
class Hands:
    """What healing may do: send a session's plan, or have its switch read again and reconciled."""

    write: Callable[[object, Session, Plan | None], list[Command]]
    reread: Callable[[object, Session], list[Command]]


class Healing:
    """Of all switches that are connected. `heal`: if not, what is wrong is told and left so."""

    def __init__(self, hands: Hands, *, heal: bool = True) -> None:
        self._hands = hands
        self._heal = heal
        self._cases: dict[object, Case] = {}  # by connection
        self._agenda: list[tuple[float, int, object]] = []  # a heap: when to look at whom
        self._numbers = count()
        self._settled: set[object] = set()  # connections whose switch has been in sync
        self._looking_until = -inf  # at the rows of a switch: one after the other

    @property
    def heals(self) -> bool:
        """Whether what is wrong is put right."""
        return self._heal

    # ---- what switches say, and what becomes of their sessions

    def begin(self, conn: object, session: Session) -> list[Command]:
        """A switch has connected, and is about to be read: nothing that happens meanwhile may be missed."""
        self._cases[conn] = Case(session)
        return [Watch(conn, monitor.monitors(session.bridge))]

    def end(self, conn: object) -> None:
        """It has gone. What is wrong shows when it is read the next time."""
        self._cases.pop(conn, None)
        self._settled.discard(conn)

    def blind(self, conn: object) -> list[Command]:
        """The switch does not know flow monitors."""
        case = self._cases.get(conn)
        if case is None or case.blind:
            return []
        case.blind = True
        return [Log("warning", "no flow monitor", {"switch": case.switch, "instead": "its flows are counted"})]

    def told(self, conn: object, updates: Iterable[Update], now: float) -> None:
        """What a flow monitor says."""
        case = self._cases.get(conn)
        if case is not None and case.hear(updates):
            self._look(conn, now + _GATHER)

    def reading(self, conn: object) -> None:
        """What was read is about to be given to the session. `seen` comes next."""
        case = self._cases[conn]
        altered = case.read()
        if self._heal:
            case.session.doubt(altered)
            case.damages.clear()

    def seen(self, conn: object) -> None:
        """The session knows what was read."""
        self._cases[conn].seen()

    def in_sync(self, conn: object, now: float) -> None:
        """The switch holds what it shall hold; from now on it is watched."""
        case = self._cases[conn]
        self._settled.add(conn)
        if case.synced_at == inf:
            case.synced_at, case.count_at, case.look_at = now, now + self._pause, now + _FIRST_LOOK
        self._look(conn, case.count_at)
        self._look(conn, case.look_at)
        if case.waits or case.damages:
            self._look(conn, now)

    def counted(self, conn: object, asked: Count, flows: int, now: float) -> None:
        """A switch has so many flows with the cookies that were asked for."""
        case = self._cases.get(conn)
        if case is None or case.session.state is not State.IN_SYNC:
            return
        if flows != case.session.held:
            case.unread = f"it has {flows} flows of ours instead of {case.session.held}"
            self._look(conn, now)

    def inspected(self, conn: object, asked: Inspect, rows: Iterable[Content], now: float) -> None:
        """These are the rows that were asked for."""
        case = self._cases.get(conn)
        if case is None or not case.inspect(asked, rows):
            return  # it is asked again
        if asked.mask != EXACT and asked.cookie == case.group:
            case.group = (case.group + 1) & asked.mask
            case.look_at = now + (_BREATH if case.group else _BLIND_ROUND if case.blind else _ROUND)
            self._look(conn, case.look_at)
            self._looking_until = now
        if case.waits:
            self._look(conn, now)

    # ---- time

    @property
    def due(self) -> float:
        """When `tick` has something to do, at the latest; infinity if nothing waits."""
        while self._agenda and self._agenda[0][2] not in self._cases:
            heappop(self._agenda)
        return self._agenda[0][0] if self._agenda else inf

    def tick(self, now: float) -> list[Command]:
        """What time alone brings about."""
        ripe: dict[object, None] = {}
        while self.due <= now:
            ripe[heappop(self._agenda)[2]] = None
        return [command for conn in ripe for command in self._attend(conn, self._cases[conn], now)]

    def _look(self, conn: object, when: float) -> None:
        if when < inf:
            heappush(self._agenda, (when, next(self._numbers), conn))

    @property
    def _pause(self) -> float:
        """Seconds between two counts of a switch."""
        return max(_COUNT_EVERY, len(self._cases) / _COUNTS)

    # ---- decisions

    def _attend(self, conn: object, case: Case, now: float) -> list[Command]:
        if case.session.state is not State.IN_SYNC:
            return []  # `in_sync` comes back to it
        fresh = case.diagnose()
        commands: list[Command] = []
        if self._heal:
            commands += self._treat(conn, case, now)
        else:
            commands += _told(case, "drift", fresh)
            if case.unread:
                case.unread, case.group, case.look_at = "", 0, now
        if case.session.state is State.IN_SYNC:
            commands += self._check(conn, case, now)
        return commands

    def _check(self, conn: object, case: Case, now: float) -> Iterator[Command]:
        """Ask for what no monitor tells. Switches that are being reconciled have more need of everybody's time."""
        busy = len(self._settled) < len(self._cases) and now < case.synced_at + _LONGEST
        if now >= case.count_at:
            case.count_at = now + self._pause
            self._look(conn, case.count_at)
            yield from () if busy else _unseen(conn, case)
        if now >= case.look_at and (busy or now < self._looking_until):
            case.look_at = now + _COUNT_EVERY
            self._look(conn, case.look_at)
        elif now >= case.look_at:
            case.look_at = self._looking_until = now + _NO_ANSWER
            self._look(conn, case.look_at)
            mask = GROUPS - 1 if case.session.held > _AT_ONCE else 0
            case.group &= mask
            yield Inspect(conn, case.group, mask, case.session.counters.writes)

    def _treat(self, conn: object, case: Case, now: float) -> list[Command]:
        if any(one.meterless for one in case.damages.values()):
            case.unread = case.unread or "meters are gone"
        if case.unread:
            return self._reread(conn, case, now)
        ripe = case.ripe(now)
        self._look(conn, min((case.backoff.ready_at(one.cookie, now) for one in case.damages.values()
                              if one not in ripe), default=inf))
        if not ripe:
            return []
        extra = {one.cookie for one in ripe if one.extra}
        plan = case.session.restore({one.cookie for one in ripe if not one.extra}, extra)
        return [*self._healed(case, ripe, now), *self._hands.write(conn, case.session, plan)]

    def _reread(self, conn: object, case: Case, now: float) -> list[Command]:
        ready = case.backoff.ready_at(WHOLE, now)
        if ready > now:
            self._look(conn, ready)
            return []
        case.backoff.tried(WHOLE, now)
        log = Log("warning", "healing", {"switch": case.switch, "how": "read again whole", "why": case.unread})
        case.unread = ""
        doubted = list(case.damages.values())
        case.healed += len(doubted)
        if doubted:
            case.last = _words(case, doubted[-1])
        return [log, *self._hands.reread(conn, case.session)]

    def _healed(self, case: Case, ripe: Sequence[Damage], now: float) -> Iterator[Log]:
        """These are put right now."""
        for one in ripe:
            tries = case.backoff.tried(one.cookie, now)
            del case.damages[one.cookie, one.extra]
            if tries > 1:
                wait = case.backoff.ready_at(one.cookie, now) - now
                about = {**_about(case, one), "times": tries, "not_again_for": f"{wait:g}s"}
                yield Log("warning", "fought over", about)
        case.healed += len(ripe)
        case.last = _words(case, ripe[-1])
        yield from _told(case, "healed", ripe)

    # ---- what people are told

    def described(self, conn: object) -> Json:
        """A switch's part of `status`: what was healed, and what is wrong now."""
        case = self._cases[conn]
        wrong = list(case.damages.values())
        return {"watched_by": "counting" if case.blind else "flow monitors", "healed": case.healed,
                "last_healed": case.last, "drift": len(wrong),
                "drifted": [{"what": one.what.value, "cookie": f"{one.cookie:#018x}", "words": _words(case, one)}
                            for one in wrong[:_SHOWN]]}


def _unseen(conn: object, case: Case) -> Iterator[Command]:
    """What no monitor sees."""
    if case.blind:
        yield Count(conn, of_kind(COMPILED), KIND_MASK)
    else:
        writes = case.session.counters.writes
        yield from (Inspect(conn, cookie, EXACT, writes) for cookie in monitor.unseen(case.session.intent.parts(BASE)))


def _told(case: Case, event: str, damages: Sequence[Damage]) -> Iterator[Log]:
    for one in damages[:_TOLD]:
        yield Log("warning", event, _about(case, one))
    if len(damages) > _TOLD:
        yield Log("warning", event, {"switch": case.switch, "and_more": len(damages) - _TOLD})


def _about(case: Case, one: Damage) -> dict[str, object]:
    return {"switch": case.switch, "what": one.what.value, "flow": _words(case, one)}


def _words(case: Case, one: Damage) -> str:
    """`deleted: table 60 deliver, priority 3, dl_vlan=1,dl_dst=...: web1 is here`."""
    row = case.session.intent.find(one.cookie)
    if row is None:
        return f"{one.what.value}: a flow that is not wanted has the cookie {one.cookie:#x}"
    flow = flow_of(row)
    by = f" by one with cookie {one.by:#x}" if one.what is What.OVERWRITTEN else ""
    match = ",".join(match_words(flow.match)) or "any packet"
    return f"{one.what.value}{by}: table {flow.table.id} {flow.table.name}, {match} ({flow.why})"
