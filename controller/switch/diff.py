"""The least that turns what a switch holds into what it shall hold. Strangers and learned flows stay."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flows.cookie import COMPILED, KIND_MASK, of_kind
from flows.host import Meter
from flows.sheet import Row


@dataclass(frozen=True, order=True)
class Forget:
    """Learned flows to delete: of a local VLAN, of one MAC in it, those that lead to a port; or simply all.

    `source`: what br-int has learned from this port, or (with a VLAN in its upper half) from br-tun: where MACs live
    that the topology does not know. It is what stands in the cookies of these flows beside their kind.
    """

    vlan: int | None = None
    mac: str | None = None
    ofport: int | None = None
    source: int | None = None


@dataclass(frozen=True)
class Plan:
    """One write to one switch, or one atomic bundle of a large one (`cutting`): no packet meets a half of a bundle.

    Additions come first: nothing is deleted before its successor is there.
    """

    add: Sequence[tuple[int, Row]] = ()  # (cookie, row): pairs, or `additions`
    delete: tuple[int, ...] = ()  # cookies
    forget: tuple[Forget, ...] = ()
    meters_add: tuple[Meter, ...] = ()  # before all flows
    meters_change: tuple[Meter, ...] = ()  # the switch has one with that id
    meters_delete: tuple[int, ...] = ()  # ids; in a plan of their own: a switch deletes the flows of a meter with it
    flush: tuple[int, ...] = ()  # zones of connection tracking to empty before all flows: somebody new gets them
    flush_again: tuple[int, ...] = ()  # and after all flows: until then, somebody else could fill them
    replaced: tuple[int, ...] = ()  # cookies of rows that additions overwrite, as has just been read: nothing is said
    renew: tuple[int, ...] = ()  # cookies that rows of others wear, too: deleted before their true rows are added

    def __bool__(self) -> bool:
        return any((self.add, self.delete, self.forget, self.meters_add, self.meters_change, self.meters_delete,
                    self.renew))


def diff(want: Mapping[int, Row], have: Iterable[int], forget: Iterable[Forget] = ()) -> Plan:
    """The plan from cookies alone: a cookie digests its flow, so equal cookies are equal flows.

    A changed flow with the same match overwrites its old self (OpenFlow 1.4, 6.4); the deletion of the old cookie
    then finds nothing.
    """
    ours = of_kind(COMPILED)
    present = {cookie for cookie in have if cookie & KIND_MASK == ours}
    missing = want.keys() - present
    return Plan(add=tuple((cookie, row) for cookie, row in want.items() if cookie in missing) if missing else (),
                delete=tuple(sorted(present - want.keys())),
                forget=tuple(dict.fromkeys(forget)))


def twins(cookies: Iterable[int]) -> frozenset[int]:
    """Those that occur more than once: of a flow of ours and of one that is not, as whoever adds one chooses it."""
    every = list(cookies)
    if len(set(every)) == len(every):
        return frozenset()  # as a rule
    return frozenset(cookie for cookie, times in Counter(every).items() if times > 1)
