"""Zones of connection tracking on one switch: who fills one, so that nobody inherits what another has filled.

What a zone remembers says who began a conversation. Of somebody who had the zone before, that would be a lie.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final

from controller.switch import additions
from controller.switch.additions import Imprint, Pair, Run
from controller.switch.events import Installed
from flows import fields as f
from flows.flow import Action, Clone, Flow, SetField, Track
from flows.sheet import flow_of
from flows.stencil import Stencil
from flows.tables import CLASSIFY

_OF_ZONES: Final = frozenset((SetField, Track, Clone))  # nothing else puts packets into one
Tenants = frozenset["Tenant"]
_NOBODY: Final = Tenants()


@dataclass(frozen=True)
class Tenant:
    """Who has a zone: the VM's port of this OpenFlow number, or a router (0), whose zones are its own."""

    zone: int
    ofport: int = 0


@dataclass(frozen=True)
class Change:
    """Zones to empty `before` the rows of newcomers are there; and `after`, those that others could fill till then."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def tenants(flow: Flow) -> Tenants:
    """Those for whom a flow has packets tracked."""
    came = flow.match[f.IN_PORT] if flow.table == CLASSIFY else None
    return frozenset(_tenants(flow.actions, came.value if came else 0)) or _NOBODY


def _tenants(actions: Iterable[Action], ofport: int) -> Iterator[Tenant]:
    """`ofport`: whose the packets are, as long as nothing else is written."""
    for action in actions:
        match action:
            case SetField(f.Criterion(field, value)):
                if field == f.REG_OUT_PORT:
                    ofport = value
                elif field == f.REG_ZONE and value:
                    yield Tenant(value, ofport)
            case Track(int() as zone):
                yield Tenant(zone)
            case Clone(inner):
                yield from _tenants(inner, ofport)


def installed(rows: Iterable[Installed]) -> dict[int, Tenants]:
    """Cookie -> those for whom a row that was read has packets tracked, as far as the row shows it."""
    return {row.cookie: frozenset({Tenant(row.zone, row.in_port or 0)}) for row in rows if row.zone}


class Register:
    """Who has zones on a switch, by the flows that it holds. To ask it costs as much as those who come."""

    def __init__(self, known: Mapping[int, Tenants] = MappingProxyType({})) -> None:
        self._by_cookie: dict[int, Tenants] = {}
        self._tenants: Counter[Tenant] = Counter()  # how many flows each has
        self._zones: Counter[int] = Counter()
        self.come(known)

    def come(self, arriving: Mapping[int, Tenants]) -> None:
        """The switch holds these, too: cookie -> tenants."""
        self.go(arriving)
        self._by_cookie.update(arriving)
        for some in arriving.values():
            self._tenants.update(some)
            self._zones.update(tenant.zone for tenant in some)

    def go(self, cookies: Iterable[int]) -> None:
        """The switch does not hold these any more; those of others do not matter."""
        for cookie in cookies:
            for tenant in self._by_cookie.pop(cookie, _NOBODY):
                self._tenants[tenant] -= 1
                self._zones[tenant.zone] -= 1

    def change(self, arriving: Iterable[Tenants]) -> Change:
        """Zones that get somebody who did not have them. Whoever is here has spoken already, and is not interrupted."""
        new = {tenant.zone for some in arriving for tenant in some if not self._tenants[tenant]}
        return Change(tuple(sorted(new)), tuple(sorted(zone for zone in new if self._zones[zone])))


def of_rows(rows: Iterable[Pair]) -> dict[int, Tenants]:
    """Cookie -> its tenants, for the flows that have some."""
    return {cookie: some for cookie, flow in _looked_at(rows) if (some := tenants(flow))}


def _looked_at(rows: Iterable[Pair]) -> Iterator[tuple[int, Flow]]:
    """Those that may have some; only these are built. The rows of a sheet have none (`flows.sheet.Sheet`)."""
    for batch in additions.of(rows).batches:
        if isinstance(batch, Imprint):
            if some := _with_some(batch.part.stencil):
                yield from ((cookie, batch.part.flow(index))
                            for cookie, index in zip(batch.cookies, batch.indices, strict=True) if index in some)
        elif not isinstance(batch, Run):
            yield from ((cookie, flow) for cookie, row in batch
                        if not _OF_ZONES.isdisjoint(map(type, (flow := flow_of(row)).actions)))


@cache
def _with_some(stencil: Stencil) -> frozenset[int]:
    return frozenset(index for index, model in enumerate(stencil.models) if tenants(model))
