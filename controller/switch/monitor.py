"""Which of a bridge's flows a flow monitor watches (OpenFlow 1.4, 7.3.5.17), and which have to be asked for instead.

A table that the switch teaches itself would tell of every MAC that comes and goes, and a flood of them would bury the
daemon. There, only flows are watched that compare the bit which says that there is a VLAN tag: compiled ones do, and
what our learn actions make does not. What is left over, the tables' misses, is asked for each second.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from flows import fields as f
from flows.flow import ANY, Match
from flows.sheet import Part, alike
from flows.tables import BEHIND, UNICAST, Table, pipeline

_TAUGHT: Final = (UNICAST, BEHIND)
_TAGGED: Final = Match((f.ANY_TAG,))


@dataclass(frozen=True)
class Monitor:
    """A monitor to ask for. `match`: a flow is watched if it compares at least this."""

    number: int
    table: Table
    match: Match


def monitors(bridge: str) -> tuple[Monitor, ...]:
    """Those of a bridge, one for each of its tables."""
    return tuple(Monitor(table.id + 1, table, _TAGGED if table in _TAUGHT else ANY) for table in pipeline(bridge))


def unseen(parts: Iterable[Part]) -> Iterator[int]:
    """The cookies of those flows that no monitor sees."""
    for part in parts:
        for flow, cookies in alike(part):
            tag = flow.match[f.VLAN_VID]
            if flow.table in _TAUGHT and not (tag and f.ANY_TAG.covers(tag)):
                yield from cookies
