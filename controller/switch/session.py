"""The life of one switch connection, without I/O: what arrives goes in as method calls, what to send comes out.

    READING --flows_read--> WAITING --intend_all--> WRITING --committed--> IN_SYNC
                                                      |  ^                   |
                                             refused  |  +------ intend -----+
                                                      v
                                                   REFUSED --reread--> READING

Nothing is written before the dump has been read whole and the wanted set is complete. One write is under way at a
time; what changes meanwhile waits and goes out with the next.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from controller.switch import zones
from controller.switch.diff import Forget, Plan, diff
from controller.switch.events import Installed
from controller.switch.intent import Intent, Pieces
from controller.switch.meters import made_here
from controller.switch.zones import Tenants
from flows.cookie import OWNER, OWNER_MASK, is_compiled
from flows.flow import Flow
from flows.host import Meter


class State(Enum):
    """Where a session is."""

    READING = "reading what is installed"
    WAITING = "waiting for the host's other bridge"
    WRITING = "writing"
    IN_SYNC = "in sync"
    REFUSED = "refused by the switch"


@dataclass
class Counters:
    """Work done for a switch since it connected; equal inputs give equal counts."""

    compiled: int = 0  # flows computed
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
        self._have: set[int] = set()
        self._intent = Intent()
        self._forget: list[Forget] = []
        self._under_way: Plan | None = None
        self._have_meters: dict[int, Meter] = {}
        self._tenants: dict[int, Tenants] = {}  # cookie -> who has zones by it; of flows that the switch holds

    @property
    def want(self) -> dict[int, Flow]:
        """Cookie -> flow: all that the switch shall hold. For people: every flow is built."""
        return self._intent.want

    @property
    def have(self) -> frozenset[int]:
        """Cookies of our compiled flows that the switch holds, as far as we know."""
        return frozenset(self._have)

    @property
    def takes_changes(self) -> bool:
        """Whether `intend` may be called; before, only the whole intent counts."""
        return self.state in (State.WRITING, State.IN_SYNC)

    @property
    def unsaid(self) -> list[Forget]:
        """What the switch shall forget and has not yet said that it did."""
        return [*(self._under_way.forget if self._under_way else ()), *self._forget]

    @property
    def meters(self) -> dict[int, Meter]:
        """Id -> meter: all that the switch shall hold."""
        return self._intent.meters

    def holds(self, name: str) -> bool:
        """Whether the switch has every flow of a piece, as far as we know."""
        return self._intent.holds(name, self._have)

    def flows_read(self, rows: Iterable[Installed], meters: Iterable[Meter] = ()) -> None:
        """The dump is whole: these are all flows, and all meters."""
        rows = list(rows)
        self._have = {row.cookie for row in rows if is_compiled(row.cookie)}
        self._tenants = zones.installed(row for row in rows if row.cookie in self._have)
        self._have_meters = {meter.id: meter for meter in meters}
        self.strangers = sum(row.cookie & OWNER_MASK != OWNER << 56 for row in rows)
        self.state = State.WAITING

    def intend_all(self, pieces: Pieces, forget: Iterable[Forget] = ()) -> Plan | None:
        """The switch shall hold this and nothing else of ours. Returns the write that makes it so."""
        self.counters.compiled += self._intent.renew(pieces)
        forget, self._forget = [*self._forget, *forget], []
        return self._write(diff(self._intent.rows, self._have, forget))

    def intend(self, pieces: Pieces, gone: Iterable[str] = (), forget: Iterable[Forget] = ()) -> Plan | None:
        """These pieces shall be so, those are gone, the rest stays. Returns a write if one is due now."""
        self.counters.compiled += self._intent.take(pieces)
        self._intent.drop(gone)
        self._forget += forget
        return None if self._under_way else self._next()

    def committed(self) -> Plan | None:
        """The switch has the write that was under way. Returns the next one, if something waits."""
        plan, self._under_way = self._under_way, None
        if plan is None:
            return None
        self.counters.writes += 1
        self.counters.added += len(plan.add)
        self.counters.deleted += len(plan.delete)
        self.counters.forgotten += len(plan.forget)
        self.counters.flushed += len(plan.flush)
        self._have.update(cookie for cookie, _ in plan.add)
        self._have.difference_update(plan.delete)
        self._tenants.update(zones.of_rows(plan.add))
        for cookie in plan.delete:
            self._tenants.pop(cookie, None)
        self.counters.metered += len(plan.meters_add) + len(plan.meters_change) + len(plan.meters_delete)
        self._have_meters.update((meter.id, meter) for meter in (*plan.meters_add, *plan.meters_change))
        for number in plan.meters_delete:
            del self._have_meters[number]
        return self._next()

    def refused(self, reason: str) -> None:
        """The switch took nothing of the write under way, or not all of it: only a dump can tell."""
        if self._under_way:
            self._forget, self._under_way = self.unsaid, None
            self.state, self.reason = State.REFUSED, reason

    def reread(self) -> None:
        """Believe nothing any more: the next dump and the next whole intent decide."""
        self._forget, self._under_way = self.unsaid, None
        self.state = State.READING

    def _next(self) -> Plan | None:
        """Only the pieces that changed."""
        add, delete = self._intent.changed(self._have)
        plan = Plan(tuple(add.items()), tuple(delete), tuple(dict.fromkeys(self._forget)))
        self._forget = []
        return self._write(plan)

    def _write(self, plan: Plan) -> Plan | None:
        self.reason = ""
        plan = self._with_zones(self._with_meters(plan))
        if not plan:
            self.state = State.IN_SYNC
            return None
        self._under_way = plan
        self.state = State.WRITING
        return plan

    def _with_meters(self, plan: Plan) -> Plan:
        """The flows of a plan find their meters there. A meter goes once the switch has said that its flows are."""
        want, have = self.meters, self._have_meters
        plan = replace(plan, meters_add=tuple(meter for number, meter in want.items() if number not in have),
                       meters_change=tuple(meter for number, meter in want.items() if have.get(number, meter) != meter))
        gone = (number for number, meter in have.items() if number not in want and made_here(meter))
        return plan or Plan(meters_delete=tuple(sorted(gone)))

    def _with_zones(self, plan: Plan) -> Plan:
        """Zones of connection tracking that get their first flows, or other ones, start empty."""
        change = zones.change(zones.of_rows(plan.add).values(), self._tenants.values())
        return replace(plan, flush=change.before, flush_again=change.after) if change.before else plan
