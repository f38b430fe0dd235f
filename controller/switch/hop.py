"""One simulated router of one host, live and without I/O: what the switch asks of it, what it says and remembers.

The hop itself is `flows.qrouter`; here stands which of its neighbours have a row in the switch, what has to be said
unasked (gratuitous ARP, the question whether a neighbour is still there), and how its frames go back to the switch.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

from controller.switch.events import Asked, Command, End, Learn, NextHop, PacketOut, Unlearn
from flows import fields as f
from flows import qrouter, routed_learned
from flows.conversations import Ended, ended
from flows.fields import Criterion
from flows.flow import Flow
from flows.host import RouterLeg, SimulatedRouter
from flows.qrouter import Answered, Forwarded, Kept, Outcome, Sent, State
from flows.router import Leg, Router
from flows.routing import lending
from flows.routing.neighbours import Neighbour, Phase
from flows.routing.wireformat import mac_bytes
from flows.tables import LEAVE, TRANSLATE_OUT, Table

ROUNDS: Final = 3  # of gratuitous ARP, as Neutron sends it: a host believes one change of a MAC per second
PAUSE: Final = 2.0  # seconds between two of them
PROBES: Final = 50  # neighbours that are asked at once whether they are still there
BREATH: Final = 1.0  # seconds until the next ones are
_OWN: Final = 8  # in REG_TRANSLATED: the router itself made this packet, about one that was translated so
_ARP_AT: Final = slice(12, 14)
_REASSEMBLIES: Final = 64  # packets in fragments at once: 4 MB, as net.ipv4.ipfrag_high_thresh allows in Linux
_REASONS: Final = 64  # reasons of refusals that are counted apart; a packet must not make the daemon's memory grow

Key = tuple[str, int]  # name of a leg, address of a neighbour behind it


@dataclass
class Counters:
    """What became of the packets that the switch could not handle alone."""

    asked: int = 0  # packets that came
    forwarded: int = 0
    answered: int = 0
    kept: int = 0  # they wait for ARP or for the rest of their fragments
    refused: Counter[str] = field(default_factory=Counter)  # by reason
    sent: int = 0  # frames
    failed: int = 0  # packets that were given up because handling them failed

    def count(self, outcome: Outcome) -> None:
        """One more packet."""
        match outcome:
            case Forwarded():
                self.forwarded += 1
            case Answered():
                self.answered += 1
            case Kept():
                self.kept += 1
            case _:
                known = outcome.why in self.refused or len(self.refused) < _REASONS
                self.refused[outcome.why if known else "for other reasons"] += 1


class Hop:
    """A router and its state. `due` is when `tick` has something to do."""

    def __init__(self, placed: SimulatedRouter, *, quiet: bool) -> None:
        self.counters = Counters()
        self.failure = ""  # why handling a packet failed, the last time
        self.rows: dict[Key, bytes] = {}  # neighbours with a row in the switch, and the MAC that stands there
        self.state = State()
        self._loans = lending.Loans()
        self.due = 0.0
        self._probe_at = inf
        self._announce_at = inf
        self._rounds = 0
        self._news: tuple[Sent, ...] = ()
        self._ended: tuple[Ended, ...] = ()
        self._take(placed)
        if not quiet:
            self._announce(qrouter.announcements(self._bare))

    def _take(self, placed: SimulatedRouter) -> None:
        self.placed = placed
        limits = placed.router.limits
        limits = replace(limits, reassemblies=min(limits.reassemblies, _REASSEMBLIES))
        self._bare = qrouter.bare(replace(placed.router, limits=limits))
        self._numbers = {leg.name: leg for leg in placed.legs}

    @property
    def router(self) -> Router:
        """What it routes."""
        return self.placed.router

    def vlan_of(self, leg: str) -> int:
        """The local VLAN behind a leg (named)."""
        return self._numbers[leg].vlan

    # ---- edits

    def become(self, conn: object, placed: SimulatedRouter) -> list[Command]:
        """It shall be so from now on. What it knows of legs that stay as they are stays, too."""
        said = qrouter.announcements(self._bare)
        before = self._legs()
        commands: list[Command] = []
        for key in sorted({*self.rows, *(key for key, _ in self.state.neighbours.items())}):
            if not self._stays(before, key, placed):
                self._forget(key)
                if self.rows.pop(key, None):
                    commands.append(self._unlearn(conn, key))
        # By `tick`, when the rows that brought them about have gone.
        self._ended = tuple(dict.fromkeys((*self._ended, *ended(self.placed, placed))))
        self._take(placed)
        news = tuple(sent for sent in qrouter.announcements(self._bare) if sent not in said)
        self._news = tuple(sent for sent in self._news if sent.leg in self._bare.by_name)
        if news:
            self._announce((*self._news, *news))
        self.due = 0.0
        return commands

    def _legs(self) -> dict[str, tuple[Leg, RouterLeg]]:
        return {leg.name: (leg, self._numbers[leg.name]) for leg in self.router.legs}

    @staticmethod
    def _stays(before: dict[str, tuple[Leg, RouterLeg]], key: Key, placed: SimulatedRouter) -> bool:
        """Whether a neighbour's leg will be as it was, and the neighbour is not known for certain then."""
        leg, was = before[key[0]]
        same = any((one.name, one.number, one.network) == (was.name, was.number, was.network) for one in placed.legs)
        return same and placed.router.by_name.get(key[0]) == leg and key not in placed.router.permanent

    def leave(self, conn: object) -> list[Command]:
        """It is gone."""
        return [*(self._unlearn(conn, key) for key in sorted(self.rows)),
                *(End(conn, one) for one in (*self._ended, *ended(self.placed, None)))]

    def _announce(self, news: tuple[Sent, ...]) -> None:
        self._news, self._rounds, self._announce_at = news, ROUNDS, 0.0

    # ---- rows in the switch

    def adopt(self, conn: object, rows: Iterable[NextHop]) -> list[Command]:
        """These rows of its legs stand in the switch, and no others. What is not known yet is taken over, and asked
        soon whether it is still there."""
        by_number = {numbers.number: leg for leg, numbers in self._legs().values()}
        found = {}
        commands: list[Command] = []
        for row in rows:
            leg = by_number[row.leg]
            key = leg.name, row.address
            if row.source == leg.mac and key not in self._bare.permanent:
                found[key] = mac_bytes(row.mac)
            else:
                commands.append(self._unlearn(conn, key))
        for key in sorted(self.rows.keys() - found.keys()):  # it may have come since the dump, and nobody watches it
            commands.append(self._unlearn(conn, key))
            self._forget(key)
        self.rows = found
        for key, mac in found.items():
            known = self.state.neighbours.get(key)
            if known is None or known.mac is None:
                self._remember(key, Neighbour(Phase.STALE, 0.0, mac))
        self._probe_at = self.due = 0.0
        return commands + self._teach(conn, 0.0)

    def removed(self, conn: object, leg: int, address: int) -> list[Command]:
        """Nobody has used this row for a while, and the switch has deleted it."""
        key = next((leg_.name, address) for leg_ in self.placed.legs if leg_.number == leg)
        if self.rows.pop(key, None) is None:
            return []
        self._forget(key)
        return [self._unlearn(conn, key)]  # if it was taught anew in the same moment, nobody would watch it

    def _teach(self, conn: object, now: float) -> list[Command]:
        """The rows that differ from what is known by now."""
        known = {key: entry for key, entry in self.state.neighbours.items() if entry.mac is not None}
        commands: list[Command] = []
        for key in [key for key in self.rows if key not in known]:
            del self.rows[key]
            commands.append(self._unlearn(conn, key))
        for key, entry in sorted(known.items(), key=lambda item: item[0]):
            if entry.mac is not None and self.rows.get(key) != entry.mac:
                commands.append(Learn(conn, self._row(key, entry.mac)))
                self.rows[key] = entry.mac
            if entry.phase is Phase.STALE:
                self._probe_at = min(self._probe_at, now)
        return commands

    def taught(self, key: Key) -> Flow:
        """The row of one of `rows`."""
        return self._row(key, self.rows[key])

    def _row(self, key: Key, mac: bytes) -> Flow:
        words = f.ETH_DST.show(int.from_bytes(mac, "big"))
        return routed_learned.neighbour(self._numbers[key[0]], self._bare.by_name[key[0]], key[1], words)

    def _unlearn(self, conn: object, key: Key) -> Unlearn:
        return Unlearn(conn, routed_learned.nobody(self._numbers[key[0]].number, key[1]))

    def _forget(self, key: Key) -> None:
        self.state = replace(self.state, neighbours=self.state.neighbours.without(key))

    def _remember(self, key: Key, entry: Neighbour) -> None:  # type: ignore[type-arg]
        self.state = replace(self.state, neighbours=self.state.neighbours.with_(key, entry))

    # ---- packets and time

    def asked(self, conn: object, leg: str, asked: Asked, now: float) -> list[Command]:
        """A packet that the tables could not handle came in by a leg (named)."""
        self.counters.asked += 1
        before = self.state.neighbours
        outcome = self._handle(leg, asked, now)
        self.counters.count(outcome)
        taught = self._teach(conn, now) if self.state.neighbours is not before else []
        self._plan()
        return [*taught, *self._out(conn, outcome.sent)]

    def _handle(self, leg: str, asked: Asked, now: float) -> Outcome:
        if asked.translated == lending.MARK:
            outcome, self._loans = lending.lend(self._bare, self._loans, asked.data, now)
            return outcome
        data, self._loans = lending.returned(self._bare, self._loans, leg, asked.data, now)
        outcome, self.state = qrouter.receive(self._bare, self.state, leg, data, now, mark=asked.translated)
        return outcome

    def tick(self, conn: object, now: float) -> list[Command]:
        """What time alone brings about."""
        sent, self.state = qrouter.tick(self._bare, self.state, now)
        commands = [*(End(conn, one) for one in self._ended), *self._teach(conn, now), *self._out(conn, sent)]
        self._ended = ()
        if self._probe_at <= now:
            commands += self._probe(conn, now)
        if self._announce_at <= now:
            commands += self._out(conn, self._news)
            self._rounds -= 1
            self._announce_at = now + PAUSE if self._rounds else inf
        self._plan()
        return commands

    def _probe(self, conn: object, now: float) -> list[Command]:
        """The switch uses its row without our knowledge, so somebody must ask whether it is still right."""
        old = sorted(key for key in self.rows if self.state.neighbours.get(key, _NOBODY).phase is Phase.STALE)
        sent, self.state = qrouter.probe(self._bare, self.state, old[:PROBES], now)
        self._probe_at = now + BREATH if len(old) > PROBES else inf
        return self._out(conn, sent)

    def recover(self, now: float) -> None:
        """After a failure: begin anew, with the neighbours that stand in the switch."""
        self.state = State()
        for key, mac in self.rows.items():
            self._remember(key, Neighbour(Phase.STALE, now, mac))
        self._probe_at = now + PAUSE
        self._plan()

    def _plan(self) -> None:
        self.due = min(qrouter.due(self.state), self._probe_at, self._announce_at)

    def _out(self, conn: object, sent: Iterable[Sent]) -> list[Command]:
        commands: list[Command] = [self._packet_out(conn, one) for one in sent]
        self.counters.sent += len(commands)
        return commands

    def _packet_out(self, conn: object, sent: Sent) -> PacketOut:
        return PacketOut(conn, sent.frame, *way_back(self.placed, sent))


def way_back(placed: SimulatedRouter, sent: Sent) -> tuple[tuple[Criterion, ...], Table]:
    """How a router's frame goes back to br-int: what its registers say, and the table that it goes on in."""
    leaves_by = f.REG_LEAVES_BY(next(leg.number for leg in placed.legs if leg.name == sent.leg))
    if int.from_bytes(sent.frame[_ARP_AT], "big") == f.ARP or sent.mark == lending.MARK:  # as it shall leave
        return (leaves_by,), LEAVE
    mark = sent.mark if sent.forwarded or not sent.mark else _OWN | sent.mark
    return (f.REG_ROUTER(placed.number), leaves_by, f.REG_TRANSLATED(mark)), TRANSLATE_OUT


_NOBODY: Final = Neighbour[object](Phase.FAILED, 0.0)
