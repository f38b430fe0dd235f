"""The life of one switch connection, without I/O: what arrives goes in as method calls, what to send comes out.

    READING --flows_read--> WAITING --intend_all--> WRITING --committed--> IN_SYNC
                                                      |  ^                   |
                                             refused  |  +------ intend -----+
                                                      v
                                                   REFUSED --reread--> READING

    any state --stand_back--> STANDING_BACK --reread--> READING

Nothing is written before the dump has been read whole and the wanted set is complete. One write is under way at a
time, be it of one bundle or of many; what changes meanwhile waits and goes out with the next.
"""
from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from enum import Enum
from math import inf
from typing import Final

from controller.switch import additions, cutting, overwriting, zones
from controller.switch.diff import Forget, Plan, diff, twins
from controller.switch.events import Installed
from controller.switch.found import Found
from controller.switch.intent import Intent, Pieces
from controller.switch.meters import made_here
from flows.flow import Flow
from flows.host import Meter


class State(Enum):
    """Where a session is."""

    READING = "reading what is installed"
    WAITING = "waiting for the host's other bridge"
    WRITING = "writing"
    IN_SYNC = "in sync"
    REFUSED = "refused by the switch"
    STANDING_BACK = "another daemon is master"


_FIRST_WAIT: Final = 1.0  # seconds after a refusal before the switch is read again; each next one doubles it
_LONGEST_WAIT: Final = 60.0
_NOTHING: Final = Plan()


@dataclass
class Counters:
    """Work done for a switch since it connected; equal inputs give equal counts."""

    compiled: int = 0  # flows computed
    compared: int = 0  # of what shall be there, those that were looked up in what is there
    added: int = 0  # flow-mods that add
    deleted: int = 0  # flow-mods that delete a compiled flow
    forgotten: int = 0  # flow-mods that delete learned flows
    metered: int = 0  # meter-mods
    flushed: int = 0  # zones of connection tracking emptied
    writes: int = 0  # bundles committed


class Session:
    """One bridge of one host, over one connection."""

    def __init__(self, host: str, bridge: str) -> None:
        self.host = host
        self.bridge = bridge
        self.state = State.READING
        self.reason = ""  # why REFUSED
        self.counters = Counters()
        self.strangers = 0  # flows of other owners found when reading
        self.retry_at = inf  # when a switch that refused is read again
        self._wait = _FIRST_WAIT  # after the next refusal
        self._have: dict[int, int] = {}  # cookie -> place (`cutting`) of what the switch holds, as far as we know
        self._intent = Intent()
        self._forget: list[Forget] = []
        self.parts: tuple[Plan, ...] = ()  # the bundles of the write under way
        self._under_way: Plan | None = None
        self._twins: frozenset[int] = frozenset()  # cookies that more than one row wore when the switch was read
        self._doubted: set[int] = set()
        self._found = Found()  # what was read, until it has been compared
        self._have_meters: dict[int, Meter] = {}
        self._settled: Mapping[int, Meter] = {}  # the meters of the intent, as the switch is known to have them
        self._tenants = zones.Register()  # of flows that the switch holds
        self._arriving: Mapping[int, zones.Tenants] = {}  # of those of the write under way

    @property
    def want(self) -> dict[int, Flow]:
        """Cookie -> flow: all that the switch shall hold. For people: every flow is built."""
        return self._intent.want

    @property
    def have(self) -> frozenset[int]:
        """Cookies of our compiled flows that the switch holds, as far as we know."""
        return frozenset(self._have)

    @property
    def held(self) -> int:
        """How many of our compiled flows that is."""
        return len(self._have)

    @property
    def intent(self) -> Intent:
        """What the switch shall hold, to look things up."""
        return self._intent

    @property
    def takes_changes(self) -> bool:
        """Whether `intend` may be called; before, only the whole intent counts."""
        return self.state in (State.WRITING, State.IN_SYNC)

    @property
    def unsaid(self) -> list[Forget]:
        """What the switch shall forget and has not yet said that it did."""
        return [*(self._under_way.forget if self._under_way else ()), *self._forget]

    @property
    def meters(self) -> Mapping[int, Meter]:
        """Id -> meter: all that the switch shall hold."""
        return self._intent.meters

    def holds(self, name: str) -> bool:
        """Whether the switch has every flow of a piece, as far as we know."""
        return self._intent.holds(name, self._have.keys())

    def flows_read(self, rows: Found | Iterable[Installed], meters: Iterable[Meter] = ()) -> None:
        """The dump is whole: these are all flows, and all meters."""
        found = rows if isinstance(rows, Found) else Found.of(rows)
        self._have, self._found = found.places(), found
        self._twins = twins(itertools.chain.from_iterable(found.compiled.values()))
        self._tenants = zones.Register(zones.installed(found.telling))
        self._have_meters, self._settled = {meter.id: meter for meter in meters}, {}
        self.strangers = found.strangers
        self.state = State.WAITING

    def intend_all(self, pieces: Pieces, forget: Iterable[Forget] = ()) -> Plan | None:
        """The switch shall hold this and nothing else of ours. Returns the write that makes it so."""
        self.counters.compiled += self._intent.renew(pieces)
        forget, self._forget = [*self._forget, *forget], []
        doubted, twins_, self._doubted, self._twins = self._doubted, self._twins, set(), frozenset()
        found, self._found = self._found, Found()
        if not self._have:
            # Nothing to compare: the cookies are computed as rows are packed, while the switch takes those before.
            plan = Plan(additions.everything(self._intent.parts()), forget=tuple(dict.fromkeys(forget)))
            self.counters.compared += len(plan.add)
            return self._write(plan)
        rows = self._intent.rows
        self.counters.compared += len(rows)
        for cookie in (doubted | twins_) & rows.keys():
            self._have.pop(cookie, None)
        plan = overwriting.told(diff(rows, self._have, forget), found, twins_)
        return self._write(replace(plan, renew=tuple(sorted(twins_ & rows.keys()))))

    def doubt(self, cookies: Iterable[int]) -> None:
        """Rows with these cookies do something else: whatever is read next, they are to be written anew."""
        self._doubted.update(cookies)

    def restore(self, lost: Set[int], extra: Set[int] = frozenset()) -> Plan | None:
        """Others have deleted, changed or replaced these flows; rows of theirs wear these cookies. To be in sync again.

        Returns the write that makes it good. Only for a session that is in sync.
        """
        rows = {cookie: row for cookie in sorted(lost | extra) if (row := self._intent.find(cookie)) is not None}
        for cookie in rows:
            self._have.pop(cookie, None)
        renew = tuple(cookie for cookie in rows if cookie in extra)
        return self._write(Plan(tuple(rows.items()), tuple(sorted(extra - rows.keys())), renew=renew))

    def intend(self, pieces: Pieces, gone: Iterable[str] = (), forget: Iterable[Forget] = ()) -> Plan | None:
        """These pieces shall be so, those are gone, the rest stays. Returns a write if one is due now."""
        self.counters.compiled += self._intent.take(pieces)
        self._intent.drop(gone)
        self._forget += forget
        return None if self._under_way else self._next()

    def committed(self) -> Plan | None:
        """The switch has the write that was under way, all of it. Returns the next one, if something waits."""
        plan, self._under_way = self._under_way, None
        if plan is None:
            return None
        self.counters.writes += len(self.parts)
        self.parts = ()
        self.counters.added += len(plan.add)
        self.counters.deleted += len(plan.delete) + len(plan.renew)
        self.counters.forgotten += len(plan.forget)
        self.counters.flushed += len(plan.flush)
        self._have.update(cutting.places(plan.add))
        for cookie in (*plan.delete, *plan.replaced):
            self._have.pop(cookie, None)
        self._tenants.come(self._arriving)
        self._tenants.go((*plan.delete, *plan.replaced))
        self.counters.metered += len(plan.meters_add) + len(plan.meters_change) + len(plan.meters_delete)
        self._have_meters.update((meter.id, meter) for meter in (*plan.meters_add, *plan.meters_change))
        for number in plan.meters_delete:
            del self._have_meters[number]
        return self._next()

    def refused(self, reason: str, now: float) -> None:
        """The switch took nothing of the write under way, or not all of its bundles: only a dump can tell.

        It shall be read again at `retry_at`, at the latest; `now` is of the same clock.
        """
        if self._under_way:
            self._leave(State.REFUSED)
            self.reason = reason
            self.retry_at = now + self._wait
            self._wait = min(self._wait * 2, _LONGEST_WAIT)

    def reread(self) -> None:
        """Believe nothing any more: the next dump and the next whole intent decide."""
        self._leave(State.READING)

    def stand_back(self) -> None:
        """Another daemon writes to this switch now: what is under way may be in or not, and nothing follows it."""
        self._leave(State.STANDING_BACK)

    def _leave(self, state: State) -> None:
        self._forget, self._under_way, self.parts = self.unsaid, None, ()
        self.state, self.retry_at = state, inf

    def _next(self) -> Plan | None:
        """Only the pieces that changed."""
        if not (self._intent.dirty or self._forget):
            return self._write(_NOTHING)
        changed = self._intent.changed(self._have.keys())
        self.counters.compared += changed.compared
        forget, self._forget = tuple(dict.fromkeys(self._forget)), []
        return self._write(Plan(additions.of(changed.add.items()), tuple(changed.delete), forget))

    def _write(self, plan: Plan) -> Plan | None:
        self.reason = ""
        plan = self._with_zones(self._with_meters(plan))
        if not plan:
            self.state, self._wait = State.IN_SYNC, _FIRST_WAIT
            return None
        self._under_way, self.parts = plan, cutting.cut(plan, self.bridge, self._have)
        self.state = State.WRITING
        return plan

    def _with_meters(self, plan: Plan) -> Plan:
        """The flows of a plan find their meters there. A meter goes once the switch has said that its flows are."""
        want, have = self._intent.meters, self._have_meters
        if want is self._settled:
            return plan
        plan = replace(plan, meters_add=tuple(meter for number, meter in want.items() if number not in have),
                       meters_change=tuple(meter for number, meter in want.items() if have.get(number, meter) != meter))
        gone = tuple(sorted(number for number, meter in have.items() if number not in want and made_here(meter)))
        if not (plan.meters_add or plan.meters_change or gone):
            self._settled = want
        return plan or Plan(meters_delete=gone)

    def _with_zones(self, plan: Plan) -> Plan:
        """Zones of connection tracking that get their first flows, or other ones, start empty."""
        self._arriving = zones.of_rows(plan.add) if plan.add else {}
        if not self._arriving:
            return plan
        change = self._tenants.change(self._arriving.values())
        return replace(plan, flush=change.before, flush_again=change.after) if change.before else plan
