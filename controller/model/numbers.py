"""Numbers made of ids: stable over restarts, and whoever comes or goes renumbers no other, unless they collide."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final
from uuid import UUID

FIRST_ZONE: Final = 0x8000  # of connection tracking, 16 bits: the lower half is for others
ZONES: Final = 2  # per router
ROUTERS: Final = (0x10000 - FIRST_ZONE) // ZONES  # per host
LEGS: Final = 0xFFFF  # per host: 16 bits, and 0 is none
METERS: Final = 262142  # per bridge, from 1 on; Open vSwitch 3.1 takes one more, flows.host.ANNOUNCEMENT_METER

PORT_ZONES: Final = FIRST_ZONE - 1  # per host, from 1 on: one for each filtered port
PROFILES: Final = 2**32 - 1  # per host, from 1 on; of remote groups there are as many


class NumbersExhausted(Exception):
    """A host has more of something than there are numbers."""


@dataclass(frozen=True)
class Numbers:
    """What the simulated routers of one host are called in registers, zones and meters, by id."""

    zones: Mapping[UUID, int] = field(default_factory=dict)  # router -> its zone, which is its number; the next one is
    #                                                          its zone for hairpins
    legs: Mapping[UUID, int] = field(default_factory=dict)
    meters: Mapping[UUID, int] = field(default_factory=dict)  # of legs, and of who may ask through them

    def with_senders(self, gone: Set[UUID], come: Set[UUID]) -> Numbers | None:
        """With others who may ask. None if somebody else might get another number by that: then `number` knows."""
        meters = exchanged(self.meters, gone, come, METERS)
        return None if meters is None else Numbers(self.zones, self.legs, meters)

    def goes_on_in(self, other: Numbers) -> bool:
        """Whether nobody who is in both has another number there."""
        if self.legs is other.legs:
            return True  # one was made of the other by `with_senders`
        return _go_on((self.zones, other.zones), (self.legs, other.legs), (self.meters, other.meters))


@dataclass(frozen=True)
class FilterNumbers:
    """What the security groups of one host's ports are called in registers, zones and conjunctions, by id."""

    zones: Mapping[UUID, int] = field(default_factory=dict)  # filtered port -> its zone of connection tracking
    profiles: Mapping[UUID, int] = field(default_factory=dict)
    remotes: Mapping[UUID, int] = field(default_factory=dict)  # remote group, see Filters.remote_id -> conjunction

    def goes_on_in(self, other: FilterNumbers) -> bool:
        """Whether nobody who is in both has another number there."""
        return _go_on((self.zones, other.zones), (self.profiles, other.profiles), (self.remotes, other.remotes))


def _go_on(*pairs: tuple[Mapping[UUID, int], Mapping[UUID, int]]) -> bool:
    return all(after.get(each, own) == own for before, after in pairs for each, own in before.items())


def number_filters(ports: Iterable[UUID], profiles: Iterable[UUID], remotes: Iterable[UUID]) -> FilterNumbers:
    """The numbers of a host's filtered ports. NumbersExhausted if there are more ports than zones."""
    ports = set(ports)
    if len(ports) > PORT_ZONES:
        raise NumbersExhausted(f"one host can have {PORT_ZONES} ports with security groups")
    return FilterNumbers(*({each: 1 + step for each, step in spread(ids, size).items()}
                           for ids, size in ((ports, PORT_ZONES), (profiles, PROFILES), (remotes, PROFILES))))


def number(routers: Iterable[UUID], legs: Iterable[UUID], senders: Iterable[UUID]) -> Numbers:
    """The numbers of a host. Senders beyond the last meter have none. NumbersExhausted for too many routers or legs."""
    routers, legs = set(routers), set(legs)
    if len(routers) > ROUTERS or len(legs) > LEGS:
        raise NumbersExhausted(f"one host can have {ROUTERS} simulated routers with {LEGS} legs")
    steps, own = spread(routers, ROUTERS), spread(legs, LEGS)
    meters = spread(own, METERS)
    spread(senders, METERS, meters)
    return Numbers({each: FIRST_ZONE + ZONES * step for each, step in steps.items()},
                   {each: 1 + step for each, step in own.items()},
                   {each: 1 + step for each, step in meters.items()})


def exchanged(numbers: Mapping[UUID, int], gone: Set[UUID], come: Set[UUID], size: int) -> dict[UUID, int] | None:
    """What `spread` gives (and 1 added to it) with others; None if it is not certain that the rest stays as it is.

    Whoever found a number taken has the next free one. So who leaves is missed by nobody if the number after the own
    one is free, and who comes is in nobody's way where the wanted one is.
    """
    found, taken = dict(numbers), set(numbers.values())
    if not gone <= found.keys() or len(found) + len(come) > size // 2:
        return None
    for each in gone:
        number_ = found.pop(each)
        if number_ % size + 1 in taken:
            return None
        taken.remove(number_)
    for each in come:
        found[each] = 1 + _wanted(each, size)
        if found[each] in taken:
            return None
        taken.add(found[each])
    return found


def _wanted(each: UUID, size: int) -> int:
    return int.from_bytes(blake2b(each.bytes, digest_size=8).digest(), "big") % size


def spread(ids: Iterable[UUID], size: int, given: dict[UUID, int] | None = None) -> dict[UUID, int]:
    """For each id a number below `size` of its own, beside those given: a hash of it, or the next free one."""
    found = {} if given is None else given
    taken = set(found.values())
    for each in sorted(set(ids) - set(found), key=lambda one: one.int):  # as UUIDs sort, but sooner
        if len(taken) >= size:
            break
        place = _wanted(each, size)
        while place in taken:
            place = (place + 1) % size
        taken.add(place)
        found[each] = place
    return found
