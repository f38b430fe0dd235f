"""What the daemon knows of all simulated routers of one host: who a packet is for, and what is due when. No I/O."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import replace
from functools import partial
from math import inf
from typing import Final

from controller.switch.events import Asked, Command, Log, NextHop, Unlearn
from controller.switch.hop import Hop
from flows import routed_learned
from flows.host import SimulatedRouter
from flows.text import match_words

_TCI: Final = slice(14, 16)  # of a tagged frame (IEEE 802.1Q)
_VLAN_ID_BITS: Final = 0xFFF
_SENDER: Final = slice(28, 32)  # of ARP in an untagged frame: the sender's IPv4 address (RFC 826)


class Routing:
    """The simulated routers of a host. While `conn`, the connection to its br-int, is None, nothing is said."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.conn: object | None = None
        self.hops: dict[str, Hop] = {}
        self.unknown = 0  # packets for a router or leg that is gone
        self._legs: dict[tuple[int, int], tuple[Hop, str]] = {}  # numbers of router and leg -> whose it is, its name
        self._of_leg: dict[int, Hop] = {}
        self._due = inf  # nothing is due before this

    @property
    def placed(self) -> dict[str, SimulatedRouter]:
        """Every router as it shall be now."""
        return {name: hop.placed for name, hop in self.hops.items()}

    @property
    def failures(self) -> dict[str, str]:
        """Router -> why handling one of its packets failed."""
        return {name: hop.failure for name, hop in self.hops.items() if hop.failure}

    def words_of(self, match: str) -> str:
        """What a learned neighbour's row with this match says; empty if it is nobody's."""
        taught = (hop.taught(key) for hop in self.hops.values() for key in hop.rows)
        return next((flow.why for flow in taught if ",".join(match_words(flow.match)) == match), "")

    # ---- what shall be

    def intend(self, routers: Iterable[SimulatedRouter], settled: Set[str] = frozenset()) -> list[Command]:
        """These shall be the routers. Those in `settled` (names) have been at work before, and need no announcement."""
        before, self.hops = self.hops, {}
        commands: list[Command] = []
        for placed in routers:
            name = placed.router.name
            hop = before.pop(name, None)
            if hop is None:
                hop = Hop(placed, quiet=name in settled)
            elif hop.placed != placed:
                commands += hop.become(self.conn, placed)
            self.hops[name] = hop
        for hop in before.values():
            commands += hop.leave(self.conn)
        self._legs = {(hop.placed.number, leg.number): (hop, leg.name)
                      for hop in self.hops.values() for leg in hop.placed.legs}
        self._of_leg = {leg: hop for (_, leg), (hop, _) in self._legs.items()}
        self._due = 0.0
        return self._said(commands)

    def adopt(self, rows: Iterable[NextHop]) -> list[Command]:
        """The switch has these learned neighbours and no others. Those of legs that are gone are deleted."""
        commands: list[Command] = []
        mine: dict[int, list[NextHop]] = {}
        for row in rows:
            if row.leg in self._of_leg:
                mine.setdefault(id(self._of_leg[row.leg]), []).append(row)
            else:
                commands.append(Unlearn(self.conn, routed_learned.nobody(row.leg, row.address)))
        for hop in self.hops.values():
            commands += hop.adopt(self.conn, mine.get(id(hop), []))
        self._due = 0.0
        return self._said(commands)

    # ---- what happens

    def asked(self, asked: Asked, now: float) -> list[Command]:
        """The switch could not handle a packet alone."""
        if not asked.router:
            return self._overheard(asked, now)
        found = self._legs.get((asked.router, asked.leg))
        if found is None or self.conn is None:
            self.unknown += 1
            return []
        hop, leg = found
        commands = self._harmless(hop, partial(hop.asked, self.conn, leg, asked, now))
        self._due = min(self._due, hop.due)
        return commands

    def _overheard(self, asked: Asked, now: float) -> list[Command]:
        """Those legs in the frame's VLAN hear it that have dealt with its sender; others would take no notice.

        All routers may be on one network outside, so each frame for each of them would cost too much.
        """
        vlan, untagged = int.from_bytes(asked.data[_TCI], "big") & _VLAN_ID_BITS, asked.data[:12] + asked.data[16:]
        sender = int.from_bytes(untagged[_SENDER], "big")
        commands: list[Command] = []
        for (router, leg), (hop, name) in self._legs.items():
            if hop.vlan_of(name) == vlan and (name, sender) in hop.state.neighbours:
                mine = replace(asked, router=router, leg=leg, data=untagged)
                commands += self.asked(mine, now)
        return commands

    def removed(self, leg: int, address: int) -> list[Command]:
        """The switch has deleted the row of a learned neighbour that nobody used."""
        hop = self._of_leg.get(leg)
        return self._said(hop.removed(self.conn, leg, address) if hop else [])

    @property
    def due(self) -> float:
        """When `tick` has something to do, at the latest."""
        return inf if self.conn is None else self._due

    def tick(self, now: float) -> list[Command]:
        """What time alone brings about."""
        if self.due > now:
            return []
        commands: list[Command] = []
        for hop in self.hops.values():
            if hop.due <= now:
                commands += self._harmless(hop, partial(hop.tick, self.conn, now), partial(hop.recover, now))
        self._due = min((hop.due for hop in self.hops.values()), default=inf)
        return commands

    def _harmless(self, hop: Hop, act: Callable[[], list[Command]],
                  recover: Callable[[], None] = lambda: None) -> list[Command]:
        """The work of one router. A packet that it fails on is lost; nothing else is."""
        try:
            return act()
        except Exception as error:  # whatever it is, a packet brought it about, and it is this router's alone
            known, hop.failure = hop.failure, f"{type(error).__name__}: {error}"
            hop.counters.failed += 1
            recover()
            about = {"router": hop.router.name, "host": self.host, "reason": hop.failure}
            return [] if known else [Log("error", "router failed", about)]

    def _said(self, commands: list[Command]) -> list[Command]:
        """Nobody hears it while br-int is away; when it returns, its dump says what it missed."""
        return [] if self.conn is None else commands
