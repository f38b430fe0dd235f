"""Flows for people: what a bridge shall hold and what it holds, side by side and with names; whole, or in portions.

A reader of 100,000 flows does not wait for the last one: it asks for the outline of a bridge, and then for one portion
after the other, each of which holds the switch and the daemon for some milliseconds.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final

from controller.model import placement
from controller.model.naming import Directory, Naming
from controller.switch.audit import Audit
from controller.switch.dumps import Content
from controller.switch.events import Row
from controller.switch.fleet import Fleet
from controller.switch.hoststate import HostState
from controller.switch.questions import Portion, Unanswerable
from controller.switch.rows import merge, named
from controller.switch.session import Session
from flows.cookie import is_neighbour
from flows.sheet import flow_of
from flows.tables import BEHIND

Json = dict[str, Any]
Dump = Callable[[object, Callable[[Content], bool], Portion | None], list[Row]]  # what is known needs no text
Tally = Callable[[object], dict[int, int]]  # how many flows are in each table that has any
_PORTION: Final = 2000  # flows, about


class Showing:
    """Of all switches. `dump` and `tally` ask a switch and wait for it."""

    def __init__(self, fleet: Fleet, dump: Dump, tally: Tally, size: int = _PORTION) -> None:
        """`size`: of the largest portion, about, in flows."""
        self._fleet, self._dump, self._tally, self._size = fleet, dump, tally, size
        self._directory = Directory(fleet.topology)

    def flows(self, request: Json) -> Json:
        """Tables of one or all bridges: what is wanted and what is installed. `table`, `group`, `of`: of a portion.

        A bridge that cannot be asked says so, if there are others: `connected` is false, `trouble` the reason.
        """
        wanted = [(host, bridge) for host, bridge in self._fleet.expected()
                  if request.get("host") in (None, host) and request.get("bridge") in (None, bridge)]
        asked = _portion(request)
        if len(wanted) == 1:
            return {"bridges": [self._bridge(*wanted[0], asked)]}
        return {"bridges": [self._or_trouble(host, bridge, asked) for host, bridge in wanted]}

    def outline(self, request: Json) -> Json:
        """The portions of one bridge, in the order of its tables: [table, group, groups]."""
        conn, session = self._session(str(request.get("host")), str(request.get("bridge")))
        counts = Counter(row.table.id for row in session.intent.rows.values()) | Counter(self._tally(conn))
        return {"portions": [list(portion) for table in sorted(counts)
                             for portion in _portions(table, counts[table], self._size)]}

    # ---- one bridge

    def _session(self, host: str, bridge: str) -> tuple[object, Session]:
        state = self._fleet.hosts.get(host)
        found = state.sessions.get(bridge) if state else None
        if found is None:
            raise Unanswerable(f"{host}/{bridge} is not connected. Look at `tunbridge status`.", missing=True)
        return found

    def _or_trouble(self, host: str, bridge: str, asked: Portion | None) -> Json:
        try:
            return self._bridge(host, bridge, asked)
        except Unanswerable as error:
            return {"host": host, "bridge": bridge, "connected": False, "trouble": str(error), "flows": []}

    def _bridge(self, host: str, bridge: str, asked: Portion | None) -> Json:
        conn, session = self._session(host, bridge)
        rows = self._dump(conn, Audit(session.intent.find).promised, asked)
        want = {cookie: flow_of(row) for cookie, row in session.intent.rows.items()
                if asked is None or (asked.has(cookie) and row.table.id == asked.table)}
        state = self._fleet.hosts[host]
        flows = merge(want, rows, partial(self._learned_words, state))
        return {"host": host, "bridge": bridge, "connected": True, "flows": list(self._named(state, bridge, flows)),
                "ports": state.ports.get(bridge, {}), "vlans": state.vlans or {}}

    def _named(self, state: HostState, bridge: str, flows: Iterable[Json]) -> Iterator[Json]:
        naming = Naming(self._names(), state.seen, state.name, bridge)
        return (named(flow, naming) for flow in flows)

    def _names(self) -> Directory:
        if self._directory.topology is not self._fleet.topology:
            self._directory = Directory(self._fleet.topology)
        return self._directory

    # ---- what the switch has learned

    def _learned_words(self, state: HostState, row: Row) -> str:
        """`web2 (blue) was last seen behind the tunnel to compute2`; `10.0.1.50 answered r1 on blue-subnet`."""
        if is_neighbour(row.cookie):
            return state.routing.words_of(row.match) or "a neighbour of a router of before"
        network = next((name for name, vlan in (state.vlans or {}).items() if vlan == row.vlan), "")
        who = self._names().who(network, row.mac) or row.mac
        behind = self._behind_port(state, row) if row.table == BEHIND.id else self._behind_tunnel(state, row)
        return f"{who} ({network or 'a network of before'}) was last seen behind {behind}"

    def _behind_tunnel(self, state: HostState, row: Row) -> str:
        tunnels = placement.place_tunnels(self._fleet.topology, state.name, state.seen)
        where = next((tunnel.remote for tunnel in tunnels if tunnel.ofport == row.out_port), "a host that is gone")
        return f"the tunnel to {where}"

    def _behind_port(self, state: HostState, row: Row) -> str:
        device = state.device_of(row.cookie)
        ports = self._fleet.topology.ports_by_host.get(state.name, ())
        return next((port.name for port in ports if port.device == device),
                    "other hosts" if device else "a port that is gone")


def _portion(request: Json) -> Portion | None:
    """What a request asks for; None: everything."""
    values = [request.get("table"), request.get("group", 0), request.get("of", 1)]
    if values[0] is None:
        return None
    if not all(isinstance(value, int) and value >= 0 for value in values) or values[2].bit_count() != 1:
        raise Unanswerable("`table`, `group` and `of` of a portion are numbers, and `of` is a power of two.")
    return Portion(*values)


def _portions(table: int, count: int, size: int) -> Iterator[Portion]:
    of = 1
    while count > of * size:
        of *= 2
    return (Portion(table, group, of) for group in range(of))
