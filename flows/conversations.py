"""Which conversations connection tracking shall forget when a router changes: those of addresses that it took away.

Without that, who spoke to a floating IP would go on speaking to its VM for as long as they speak.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from flows.host import SimulatedRouter
from flows.router import Router


@dataclass(frozen=True)
class Ended:
    """Conversations of a zone: those that began by a packet to `asked`, or whose answers go to `shown`; else all."""

    zone: int
    asked: IPv4Address | None = None
    shown: IPv4Address | None = None


def ended(old: SimulatedRouter, new: SimulatedRouter | None) -> tuple[Ended, ...]:
    """What to forget of a router that becomes another, or goes."""
    if not _translates(old.router):
        return ()
    if new is None or new.zone != old.zone or not _translates(new.router):
        return Ended(old.zone), Ended(old.hairpin_zone)
    return tuple(_taken_away(old, new))


def _translates(router: Router) -> bool:
    return bool(router.fixed_of) or _shown(router) is not None


def _shown(router: Router) -> int | None:
    return router.snat_address if router.gateway and (router.gateway.snat or router.fixed_of) else None


def _taken_away(old: SimulatedRouter, new: SimulatedRouter) -> Iterator[Ended]:
    kept = new.router.fixed_of
    gone = [external for external, fixed in old.router.fixed_of.items() if kept.get(external) != fixed]
    yield from (Ended(old.zone, asked=IPv4Address(external)) for external in gone)
    shown = _shown(old.router)
    hidden_anew = shown is not None and (shown != _shown(new.router) or _hides(old.router) != _hides(new.router))
    for address in (*gone, *([shown] if hidden_anew and shown is not None else [])):
        for zone in (old.zone, old.hairpin_zone):
            yield Ended(zone, shown=IPv4Address(address))


def _hides(router: Router) -> bool:
    return router.gateway is not None and router.gateway.snat
