"""A large write as several bundles, each atomic, so that no commit holds the switch long.

Cut or not, a switch between two bundles lets nobody through who is not let through before the write or after it:

- Where none of our flows is but such as the whole write leaves and would have brought first (an empty switch, or one
  whose daemon died while it filled it), additions come in falling order of table and priority. So whatever a packet
  meets is what it will meet in the end, or nothing: and what meets nothing is dropped.
- br-tun and provider bridges say where a frame goes, not whether it may. There, too, additions come first, later tables
  before earlier ones, so that who is led to is there before who leads; then deletions, the other way round.
- Every other write to br-int stays one bundle, whatever its size. Its tables filter together: half of an old rule and
  half of a new one can let in somebody whom neither does.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from typing import Final

from controller.switch import additions
from controller.switch.additions import Batch, Imprint, Pair, Run
from controller.switch.diff import Plan
from flows.flow import Flow
from flows.sheet import Row
from flows.stencil import Printed, Stencil
from flows.tables import BR_INT

LIMIT: Final = 2000  # messages of a bundle: a commit of as many takes a switch about 2 ms
_PRIORITY_BITS: Final = 16
_SELECTIONS: Final = 1000  # of a stencil's rows: of those that come together, there are few


def place(table: int, priority: int) -> int:
    """Table and priority as one number: a packet meets tables in rising order, and their rows in falling one."""
    return table << _PRIORITY_BITS | priority


def place_of(row: Row) -> int:
    """The place of a flow."""
    if isinstance(row, Printed):
        return _places_of(row.print.stencil)[row.index]
    flow = row if isinstance(row, Flow) else row.model
    return flow.table.id << _PRIORITY_BITS | flow.priority


@cache
def _places_of(stencil: Stencil) -> tuple[int, ...]:
    return tuple(map(place_of, stencil.models))


def places(add: Iterable[Pair]) -> dict[int, int]:
    """Cookie -> place of each flow."""
    found: dict[int, int] = {}
    for batch in additions.of(add).batches:
        if isinstance(batch, Run):
            found.update(dict.fromkeys(batch.cookies, place_of(batch.sheet.model)))
        elif isinstance(batch, Imprint):
            every = _places_of(batch.part.stencil)
            where = every if len(batch) == len(every) else [every[index] for index in batch.indices]
            found.update(zip(batch.cookies, where, strict=True))
        else:
            found.update([(cookie, place_of(row)) for cookie, row in batch])
    return found


def cut(plan: Plan, bridge: str, have: Mapping[int, int], limit: int = 0) -> tuple[Plan, ...]:
    """The bundles of a plan, in order. `have`: cookie -> place of our flows that the switch holds."""
    limit = limit or LIMIT
    if len(plan.add) + len(plan.delete) + len(plan.forget) <= limit or plan.renew or plan.flush_again:
        return (plan,)
    if bridge == BR_INT and not _grows(plan, have):
        return (plan,)
    adds = [Plan(add=some) for some in additions.cut(_falling(plan.add), limit)]
    gone = _rising(plan.delete, have)
    deletes = [Plan(delete=tuple(gone[at:at + limit])) for at in range(0, len(gone), limit)]
    parts = [*adds, *deletes] or [Plan()]
    # What was learned is wrong when the rows change by which it was: at the end of the additions. Until the last of
    # the old rows is gone, it may come again. An empty br-int learns nothing before the last of its rows has come.
    for at in {0} if bridge == BR_INT else {max(len(adds) - 1, 0), len(parts) - 1}:
        parts[at] = replace(parts[at], forget=plan.forget)
    return _with_ends(plan, parts)


def _grows(plan: Plan, have: Mapping[int, int]) -> bool:
    """Whether what is there would have come before all that is to come."""
    if not have:
        return True
    if plan.delete or plan.forget:
        return False
    return min(have.values()) >= max(_by_place(plan.add))


def _falling(add: Iterable[Pair]) -> Iterator[Batch]:
    """By place, the last first; those of one place in the order given, but runs before others."""
    by_place = _by_place(add)
    for at in sorted(by_place, reverse=True):
        yield from sorted(by_place[at], key=lambda batch: not isinstance(batch, Run))


def _by_place(add: Iterable[Pair]) -> dict[int, list[Batch]]:
    found: dict[int, list[Batch]] = {}
    for batch in additions.of(add).batches:
        for at, some in _split(batch):
            found.setdefault(at, []).append(some)
    return found


def _split(batch: Batch) -> Iterator[tuple[int, Batch]]:
    """A batch as one for each place. The rows of a sheet have one place."""
    if isinstance(batch, Run):
        yield place_of(batch.sheet.model), batch
    elif isinstance(batch, Imprint):
        for at, indices in _grouped(batch.part.stencil, batch.indices):
            yield at, batch.only(indices)
    else:
        found: dict[int, list[Pair]] = {}
        for pair in batch:
            found.setdefault(place_of(pair[1]), []).append(pair)
        for at, some in found.items():
            yield at, tuple(some)


@lru_cache(_SELECTIONS)
def _grouped(stencil: Stencil, indices: range | tuple[int, ...]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Places, and the indices of the rows that have each."""
    found: dict[int, list[int]] = {}
    for index in indices:
        found.setdefault(_places_of(stencil)[index], []).append(index)
    return tuple((place, tuple(some)) for place, some in found.items())


def _rising(delete: Iterable[int], have: Mapping[int, int]) -> list[int]:
    return sorted(delete, key=lambda cookie: have.get(cookie, 0))


def _with_ends(plan: Plan, parts: list[Plan]) -> tuple[Plan, ...]:
    """What no bundle holds stands before the first one, and behind the last."""
    parts[0] = replace(parts[0], meters_add=plan.meters_add, meters_change=plan.meters_change, flush=plan.flush)
    parts[-1] = replace(parts[-1], meters_delete=plan.meters_delete)
    return tuple(parts)
