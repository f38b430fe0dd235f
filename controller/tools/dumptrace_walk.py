"""A packet's way through dumped tables, on paper: which flow takes it, what becomes of it, where it leaves."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from controller.tools.dumptrace_fields import Packet
from controller.tools.dumptrace_rows import Board, Found, deeds
from controller.tools.dumptrace_site import Site

DEEPEST: Final = 64  # ofproto-dpif-xlate.c, MAX_DEPTH
MOST: Final = 4096  # MAX_RESUBMITS
OUT, BACK, CONTROLLER, DROPPED, UNKNOWN = "out", "back", "controller", "dropped", "unknown"
_INSIDE: Final = frozenset(("ct_state", "ct_zone", "ct_mark", "ct_label", "metadata", "tun_id",
                            *(f"reg{one}" for one in range(16))))  # stay behind at a patch port


@dataclass
class Hop:
    """A table that the packet entered; `before` is the packet as it came."""

    bridge: str
    table: int
    found: Found
    before: Packet
    depth: int = 0  # how many bridges it has come through
    sure: bool = True  # whether it comes here at all
    after: Packet = field(default_factory=dict)  # with what this flow wrote, not with what others did
    notes: list[str] = field(default_factory=list)
    learned: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    unknown: str = ""


@dataclass(frozen=True)
class End:
    """Where a copy of the packet leaves, or why nobody knows."""

    kind: str
    bridge: str
    port: int
    packet: Mapping[str, int]
    why: str = ""
    sure: bool = True


@dataclass
class Visit:
    """The packet in one bridge."""

    board: Board
    packet: Packet
    tags: list[int] = field(default_factory=list)  # below the outermost
    table: int = 0
    deep: int = 0
    bridges: int = 0
    sure: bool = True
    lost: bool = False  # nobody knows what becomes of it from here on

    def copy(self) -> Visit:
        """The same packet again."""
        return replace(self, packet=dict(self.packet), tags=list(self.tags), lost=False)


class Walk:
    """One packet's. `state` is what connection tracking says each time that it is asked. Where a switch may choose
    between flows of one priority, it takes the first of them, or (`last`) the last.
    """

    def __init__(self, site: Site, state: Mapping[str, int],
                 act: Callable[[Walk, Visit, Hop, Iterable[str]], None], *, last: bool = False) -> None:
        self.site, self.state, self._act, self._last = site, state, act, last
        self.hops: list[Hop] = []
        self.ends: list[End] = []
        self.learned: dict[tuple[str, int, int], int] = {}  # by switches: bridge, VLAN, MAC -> port
        self.final: Packet = {}
        self._waiting: deque[tuple[Visit, int]] = deque()
        self._left = MOST

    def run(self, bridge: str, port: int, packet: Packet) -> None:
        """Let it in, and follow all of its copies."""
        self.wait(Visit(self.site.boards[bridge], {**packet, "in_port": port}), 0)
        while self._waiting:
            visit, table = self._waiting.popleft()
            self.table(visit, table)
            self.final = visit.packet

    def wait(self, visit: Visit, table: int) -> None:
        """As connection tracking does: it comes to a table when all the rest is done."""
        self._waiting.append((visit, table))

    def table(self, visit: Visit, table: int, in_port: int | None = None) -> None:
        """Let it be taken by a flow of a table, as if it had come by a port."""
        came, before, deep = visit.packet["in_port"], visit.table, visit.deep
        visit.deep += table <= visit.table
        self._left -= 1
        visit.packet["in_port"] = came if in_port is None else in_port
        found = visit.board.look(table, visit.packet, last=self._last)
        hop = Hop(visit.board.name, table, found, dict(visit.packet), visit.bridges, visit.sure, dict(visit.packet))
        visit.packet["in_port"], visit.table = came, table
        self.hops.append(hop)
        hop.notes += [found.tie] if found.tie else []
        if visit.deep > DEEPEST or self._left < 0:
            self.lose(visit, hop, "it goes round in circles: Open vSwitch gives up and drops it")
        elif found.doubt:
            self.lose(visit, hop, found.doubt)
        elif found.entry:
            self._act(self, visit, hop, deeds(found.entry.line))
        visit.table, visit.deep = before, deep

    def lose(self, visit: Visit, hop: Hop, why: str) -> None:
        """Nobody knows what becomes of this copy."""
        visit.lost = True
        self.unknown(visit, hop, why)

    def unknown(self, visit: Visit, hop: Hop, why: str) -> None:
        """Something is not known; the rest may be."""
        hop.unknown = hop.unknown or why
        self.ends.append(End(UNKNOWN, visit.board.name, 0, dict(visit.packet), why, visit.sure))

    # ---- leaving

    def leave(self, visit: Visit, hop: Hop, port: int) -> None:
        """Out by a port; over a patch port into the other bridge."""
        name = visit.board.name
        hop.outputs.append(self.site.port(name, port))
        home, number = self.site.peer(name, port)
        if number is not None:
            self._enter(visit, home, number)
            return
        kind = BACK if port == visit.packet["in_port"] else OUT
        why = f"to {home}, of which there is no dump" if home else ""
        self.ends.append(End(kind, name, port, dict(visit.packet), why, visit.sure))

    def _enter(self, visit: Visit, bridge: str, port: int) -> None:
        inside = {key: value for key, value in visit.packet.items() if key not in _INSIDE}
        there = visit.copy()
        there.board, there.packet, there.table = self.site.boards[bridge], {**inside, "in_port": port}, 0
        there.bridges, there.deep = visit.bridges + 1, visit.deep + 1
        self.table(there, 0)

    def switch(self, visit: Visit, hop: Hop) -> None:
        """NORMAL."""
        choice = self.site.normal(visit.board.name, visit.packet, self.learned)
        hop.notes.append(choice.why)
        if not choice.sure:
            self.unknown(visit, hop, choice.why)
        known = dict(self.learned)
        for port, packet in choice.ports:
            copy = visit.copy()
            copy.packet, copy.sure = packet, visit.sure and choice.sure
            self.leave(copy, hop, port)
            if not choice.sure:
                self.learned = dict(known)
