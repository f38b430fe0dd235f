"""All switches of a topology, without I/O: which bridge a connection is, what it shall hold, what to tell it.

`app` calls a method per event and carries out the commands that it returns. A host's bridges are one story: the
OpenFlow ports come from all of them, and the local VLANs in use are read back from them, which are our only store.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from controller.model.succession import Succession, succeed
from controller.model.topology import Topology
from controller.switch import editing, pieces
from controller.switch.backlog import Backlog
from controller.switch.editing import Counters
from controller.switch.events import Asked, Command, Drop, Installed, Log, Mastery, Quit, Removed, Settled
from controller.switch.found import Found
from controller.switch.hoststate import HostState
from controller.switch.pieces import Work
from controller.switch.reconciling import Reconciling
from controller.switch.roll import Roll
from controller.switch.session import Session, State
from flows.host import Meter
from flows.tables import BR_INT


class Fleet:
    """The sessions of every switch that connects, and the topology that they shall obey."""

    def __init__(self, topology: Topology, serve: frozenset[str] | None = None,
                 clock: Callable[[], float] = time.monotonic, *, heal: bool = True) -> None:
        self.topology = topology
        self.generation = 0  # of this daemon: see `roles`
        self._roll = Roll(serve)
        self.hosts, self.strangers = self._roll.hosts, self._roll.strangers
        self.refusals = 0  # OpenFlow errors since the start
        self._sessions: dict[object, tuple[HostState, Session]] = {}  # connection -> whose it is
        self._dpids: dict[object, int] = {}  # connection -> datapath id, of those in _sessions
        self._clock = clock  # seconds; only moves forward
        self._work = Reconciling(clock, heal=heal)
        self._vigil, self.healing = self._work.vigil, self._work.healing
        self.counters = Counters()
        self.backlog = Backlog()
        self._enlist()

    def _enlist(self) -> None:
        for name in self._roll.enlist(self.topology):
            self._work.routings.pop(name, None)

    def expected(self) -> Iterator[tuple[str, str]]:
        """Every (host, bridge) that shall connect."""
        return self._roll.expected(self.topology)

    # ---- what switches say

    def connected(self, conn: object, dpid: int, ports: Mapping[str, int]) -> list[Command]:
        """A switch has said who it is and which ports it has."""
        if why := self._roll.turn_away(self.topology, conn, dpid):
            return [Log("warning", "stranger", {"dpid": f"{dpid:016x}", "left_alone": why})]
        host, bridge = self.topology.bridges[dpid]
        commands = self._reach(host)
        state = self.hosts[host]
        if bridge in state.sessions:
            commands.append(Log("warning", "replaced", {"switch": f"{host}/{bridge}",
                                                        "why": "a second connection has the same datapath id"}))
            commands.append(Drop(state.sessions[bridge][0]))
            self._end(state.sessions[bridge][0])
        state.take_ports(self.topology, bridge, ports)
        session = Session(host, bridge)
        state.sessions[bridge] = (conn, session)
        self._sessions[conn], self._dpids[conn] = (state, session), dpid
        claims = self._vigil.begin(conn, dpid, self.generation)
        return [*commands, Log("info", "connected", {"switch": f"{host}/{bridge}", "ports": len(ports)}),
                *claims, *self.healing.begin(conn, session), self._work.ask(conn, session)]

    def disconnected(self, conn: object) -> list[Command]:
        """A connection is over. The flows stay where they are."""
        self.strangers.pop(conn, None)
        if conn not in self._sessions:
            return []
        state, session = self._end(conn)
        return [Log("warning", "disconnected", {"switch": f"{state.name}/{session.bridge}", "flows": "stay in place"})]

    def _end(self, conn: object) -> tuple[HostState, Session]:
        """A session is over. What its switch was to forget is for the next one to say."""
        state, session = self._sessions.pop(conn)
        del state.sessions[session.bridge], self._dpids[conn]
        self._vigil.end(conn)
        self.healing.end(conn)
        state.forgets_of(session.bridge).extend(session.unsaid)
        if session.bridge == BR_INT:
            state.routing.conn = None
        return state, session

    def foresee(self, conn: object, rows: Found) -> Iterator[None]:
        """Work for the time in which a switch is read: `rows` are those of it that say which VLANs are in use."""
        if found := self._sessions.get(conn):
            yield from found[0].foresee(self.topology, found[1].bridge, rows)

    def flows_read(self, conn: object, rows: Found | Iterable[Installed],
                   meters: Iterable[Meter] = ()) -> list[Command]:
        """A dump is whole."""
        found = self._sessions.get(conn)
        if not found:
            return []
        state, session = found
        if session.state is not State.READING:
            return []  # it was asked before something happened that made the answer useless
        self._vigil.answered(conn)
        rows = rows if isinstance(rows, Found) else Found.of(rows)
        about = {"switch": f"{state.name}/{session.bridge}", "flows": len(rows)}
        commands = [*self._reach(state.name), Log("info", "read", about)]
        state.take_rows(self.topology, session.bridge, rows)
        self.healing.reading(conn)
        session.flows_read(rows, meters)
        self.healing.seen(conn)
        return commands + self._work.intend_all(self.topology, state)

    def host_of(self, conn: object) -> str | None:
        """The host whose switch is connected so; None for strangers, and for who has gone."""
        found = self._sessions.get(conn)
        return found[0].name if found else None

    def committed(self, conn: object) -> list[Command]:
        """The write under way is in."""
        found = self._sessions.get(conn)
        if not found:
            return []
        session = found[1]
        if session.state is not State.WRITING:
            return []
        self._vigil.answered(conn)
        return self._work.send(conn, session, session.committed(), was=State.WRITING)

    def refused(self, conn: object, reason: str) -> list[Command]:
        """The switch refused the write under way, or a part of it.

        It is read again and written after a while, longer each time, or with the next change.
        """
        found = self._sessions.get(conn)
        if found:
            found[1].refused(reason, self._clock())
            self._vigil.retry(conn, found[1].retry_at)
        return [*self.complained(conn, reason), Settled(conn)]

    def heard(self, conn: object) -> None:
        """The switch has said a part of what it owes us, and may take its time for the next."""
        self._vigil.heard(conn, self._clock())

    def role(self, conn: object, said: Mastery) -> list[Command]:
        """The switch has said whether this daemon is its master."""
        if conn not in self._sessions:
            return []
        return [*self._vigil.role(conn, said, self._clock()), *self._follow(conn)]

    def _follow(self, conn: object) -> list[Command]:
        """Write to a switch as long as it is ours, and only then."""
        state, session = self._sessions[conn]
        switch, ours = f"{state.name}/{session.bridge}", self._vigil.ours(conn)
        if ours == (session.state is not State.STANDING_BACK):
            return []
        if ours:
            session.reread()
            return [Log("info", "master again", {"switch": switch}), self._work.ask(conn, session)]
        session.stand_back()
        self._vigil.answered(conn)
        if session.bridge == BR_INT:
            state.routing.conn = None
        about = {"switch": switch, "why": "a newer daemon is its master", "cure": "stop one of the two"}
        return [Log("warning", "standing back", about), Quit(conn)]

    def complained(self, conn: object, reason: str) -> list[Command]:
        """The switch sent an OpenFlow error. A stranger's does not count: we asked nothing of it."""
        found = self._sessions.get(conn)
        if not found:
            return [Log("warning", "stranger complains", {"reason": reason})]
        if found[1].state is State.STANDING_BACK:
            return []  # it was said before the other daemon came
        self.refusals += 1
        return [Log("error", "refused", {"switch": f"{found[0].name}/{found[1].bridge}", "reason": reason})]

    def ports_changed(self, conn: object, changes: Mapping[str, int | None]) -> list[Command]:
        """Ports came (with their number) or went (None). Only what they touch is computed anew."""
        found = self._sessions.get(conn)
        if not found:
            return []
        state, session = found
        ports = state.ports.get(session.bridge, {})
        changes = {name: ofport for name, ofport in changes.items() if ports.get(name) != ofport}
        if not changes:
            return []
        first = self._reach(state.name)
        state.change_ports(self.topology, session.bridge, changes)
        base, networks = state.touched(self.topology, session.bridge, changes.keys())
        about = {"switch": f"{state.name}/{session.bridge}", "changed": ",".join(sorted(changes)),
                 "networks": len(networks)}
        self.counters.networks += len(networks)
        change = self._work.intend(self.topology, state, (session.bridge,), Work(base, networks))
        return [*first, Log("info", "ports", about), *change]

    # ---- what people say

    def apply(self, topology: Topology) -> list[Command]:
        """Another topology is in force. Only hosts, networks and routers that differ are looked at."""
        return self.follow(succeed(self.topology, topology))

    def follow(self, step: Succession) -> list[Command]:
        """The same, where somebody has found out already how it follows the one that is in force.

        What the commands do not say yet is said by the next ticks: see `backlog`.
        """
        before = [command for name in [*self.backlog.hosts] for command in self._reach(name)]
        if step.old is not self.topology:
            step = succeed(self.topology, step.new)
        edit, self.topology = editing.edit(step), step.new
        about = {"networks_changed": len(edit.networks), "networks_refiltered": len(edit.filtered - edit.networks)}
        commands = [*before, Log("info", "apply", about)]
        if step.difference.hosts:
            self._enlist()
            commands += self._expel()
        waiting = (self.hosts[name] for name in edit.hosts if name in self.hosts)
        self.backlog.put(edit, [state for state in waiting if state.vlans is not None])
        self.counters.edits += 1
        return [*commands, *self._reach_some(), *(self._adopt() if step.difference.hosts else [])]

    def _reach_some(self) -> list[Command]:
        """A portion of the hosts that the last edit has not reached yet."""
        return [command for name in self.backlog.portion() for command in self._reach(name)]

    def _reach(self, name: str) -> list[Command]:
        """What the last edit brings to a host, if that has not been done."""
        found = self.backlog.take(name)
        if found is None:
            return []
        state, edit = found
        vlans = state.vlans or {}
        state.edit(edit.old, edit.new, edit.networks, edit.moved)
        routers = pieces.placed_routers(edit.new, state, edit.routers)
        work = editing.work(edit, state, vlans, routers)
        self.counters.networks += self.backlog.count({*work.networks, *work.rules, *work.members})
        self.counters.hosts += 1
        commands = self._work.intend(self.topology, state, tuple(state.sessions), work)
        return commands + (self._work.route(state, routers.values()) if edit.routers else [])

    def _expel(self) -> list[Command]:
        """Switches that are another bridge now, or none: they come back as what they are."""
        commands: list[Command] = []
        for conn, (state, session) in list(self._sessions.items()):
            now = self.topology.bridges.get(self._dpids[conn])
            if now != (state.name, session.bridge) or state.name not in self.hosts:
                self._end(conn)
                commands.append(Drop(conn))
        return commands

    def _adopt(self) -> list[Command]:
        """Strangers that the topology knows now come back at once, and are known then."""
        return [Drop(conn) for conn in self._roll.known_now(self.topology)]

    def recompute(self) -> list[Command]:
        """Believe nothing: read every switch again and compare with everything computed anew."""
        commands: list[Command] = []
        for state in self.hosts.values():
            state.compiled.clear()
            state.ways.clear()
            for conn, session in state.sessions.values():
                # One dump under way is enough; a second would be believed, too.
                if session.state not in (State.READING, State.STANDING_BACK):
                    commands.append(self._work.reread(conn, session))
        return commands

    # ---- simulated routers

    def asked(self, conn: object, asked: Asked, now: float) -> list[Command]:
        """A switch hands over a packet that its tables cannot route alone. `now` as in `tick`."""
        found = self._sessions.get(conn)
        return found[0].routing.asked(asked, now) if found else []

    def removed(self, conn: object, row: Removed) -> list[Command]:
        """A switch has dropped the row of a learned neighbour."""
        found = self._sessions.get(conn)
        return found[0].routing.removed(row.leg, row.address) if found and row.idle else []

    @property
    def due(self) -> float:
        """When `tick` has something to do, at the latest; infinity if nothing waits."""
        return min(0.0 if self.backlog else self._vigil.due, self.healing.due,
                   *(routing.due for routing in self._work.routings.values()))

    def tick(self, now: float) -> list[Command]:
        """What time alone brings about. `now`: seconds of a clock that only moves forward."""
        commands = [command for routing in self._work.routings.values() for command in routing.tick(now)]
        commands += self._reach_some()
        happened = self._vigil.tick(now)
        for conn in happened.silent:
            state, session = self._sessions[conn]
            about = {"switch": f"{state.name}/{session.bridge}", "while": session.state.value}
            commands += [Log("warning", "no answer", about), Drop(conn)]
        commands += [self._work.reread(conn, self._sessions[conn][1]) for conn in happened.again]
        commands += [*happened.claims, *(command for conn in happened.ours for command in self._follow(conn))]
        return commands + self.healing.tick(now)
