"""Neighbours on a router's legs: who has which MAC, who is being asked, and which packets wait for the answer.

The phases are Linux's (net/ipv4/arp, RFC 4861 in spirit): asked thrice, trusted for a while, then used while checked.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from math import inf
from typing import Final, Generic, TypeVar

RETRY: Final = 1.0  # seconds between two questions, net.ipv4.neigh.*.retrans_time
QUESTIONS: Final = 3  # mcast_solicit and ucast_solicit
TRUSTED: Final = 30.0  # base_reachable_time; Linux varies it at random between half and one and a half
DELAY: Final = 5.0  # delay_first_probe_time
LOCKED: Final = 1.0  # locktime: the first of several answers counts
FORGOTTEN: Final = 60.0  # gc_stale_time

P = TypeVar("P")


class Phase(Enum):
    """What is known of a neighbour."""

    ASKING = "no answer yet"
    REACHABLE = "it answered lately"
    STALE = "its MAC was learned some time ago"
    DELAYED = "its MAC is in use and will be checked"
    PROBING = "its MAC is in use and being checked"
    FAILED = "it does not answer"


@dataclass(frozen=True)
class Neighbour(Generic[P]):
    """One neighbour. `due` is when its timer runs out; `waiting` are packets, the oldest first."""

    phase: Phase
    updated: float
    mac: bytes | None = None
    due: float = inf
    asked: int = 0
    waiting: tuple[P, ...] = ()


@dataclass(frozen=True)
class Question:
    """Ask for a neighbour: of everybody, or of the MAC it had."""

    mac: bytes | None


def used(known: Neighbour[P] | None, packet: P, most: int, now: float) -> tuple[Neighbour[P], bool, Question | None]:
    """A packet for a neighbour: the entry after that, whether the packet can leave, and what to ask."""
    if known is None or known.phase is Phase.FAILED:
        return Neighbour(Phase.ASKING, now, None, now + RETRY, 1, (packet,)), False, Question(None)
    if known.phase is Phase.ASKING:
        return replace(known, waiting=(*known.waiting, packet)[-most:]), False, None
    if known.phase is Phase.STALE or (known.phase is Phase.REACHABLE and now >= known.due):
        return replace(known, phase=Phase.DELAYED, due=now + DELAY), True, None
    return known, True, None


def probed(known: Neighbour[P], now: float) -> tuple[Neighbour[P], Question]:
    """A neighbour that is being checked although no packet is for it."""
    return replace(known, phase=Phase.PROBING, asked=1, due=now + RETRY), Question(known.mac)


def heard(known: Neighbour[P] | None, mac: bytes, now: float, *, answer: bool, override: bool) -> Neighbour[P]:
    """After an ARP message of a neighbour: an `answer` to the router, or something that it said by the way."""
    fresh = Neighbour[P](Phase.STALE, now, mac)
    if answer:
        fresh = Neighbour(Phase.REACHABLE, now, mac, now + TRUSTED)
    if known is None or known.mac is None or known.phase is Phase.FAILED:
        return fresh
    if known.mac == mac:
        return fresh if answer else known
    return fresh if override else known


def timed_out(known: Neighbour[P], now: float) -> tuple[Neighbour[P], Question | None]:
    """After its timer has run out. Packets that still wait for a neighbour that failed are lost."""
    if known.phase is Phase.DELAYED:
        return probed(known, now)
    if known.phase in (Phase.ASKING, Phase.PROBING):
        if known.asked >= QUESTIONS:
            return Neighbour(Phase.FAILED, now, due=now + FORGOTTEN), None
        return replace(known, asked=known.asked + 1, due=now + RETRY), Question(known.mac)
    return replace(known, phase=Phase.STALE, due=inf), None
