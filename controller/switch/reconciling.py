"""What the switches of a host shall hold becomes what they are told. No I/O."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set

from controller.model.topology import Topology
from controller.switch import pieces
from controller.switch.diff import Forget, Plan
from controller.switch.events import Command, Log, ReadFlows, Settled, Write
from controller.switch.healing import Hands, Healing
from controller.switch.hoststate import HostState
from controller.switch.intent import Piece
from controller.switch.pieces import Pieces, Work
from controller.switch.routing import Routing
from controller.switch.session import Session, State
from controller.switch.vigil import Vigil
from flows.host import SimulatedRouter
from flows.tables import BR_INT


class Reconciling:
    """Of all hosts. Whom it asks or tells something owes an answer."""

    def __init__(self, clock: Callable[[], float], *, heal: bool) -> None:
        self.vigil = Vigil()
        self.healing = Healing(Hands(lambda conn, session, plan: self.send(conn, session, plan, was=State.IN_SYNC),
                                     lambda conn, session: [self.reread(conn, session)]), heal=heal)
        self.routings: dict[str, Routing] = {}  # of hosts that have simulated routers
        self._clock = clock

    def intend_all(self, topology: Topology, state: HostState) -> list[Command]:
        """Everything for the sessions of a host that have read their switch and wait."""
        waiting = [(conn, session) for conn, session in state.sessions.values() if session.state is State.WAITING]
        if state.vlans is None or not waiting:
            return []
        routers, carried = pieces.placed_routers(topology, state), state.carried(topology)
        bridges = [session.bridge for _, session in waiting]
        found = pieces.compiled(topology, state, Work(True, carried, carried, carried, routers.values()), bridges)
        state.ahead = None
        commands: list[Command] = []
        for conn, session in waiting:
            plan = session.intend_all(_of_bridge(found, session), self._forgets(state, session))
            commands += self.send(conn, session, plan, was=State.WAITING)
            if session.bridge == BR_INT:
                commands += self._route(state, conn, session, routers)
        return commands

    def _route(self, state: HostState, conn: object, session: Session,
               routers: Mapping[str, SimulatedRouter]) -> list[Command]:
        """From now on br-int, which has been read, is the routers'."""
        state.routing.conn = conn
        settled = {name for name in routers if session.holds(pieces.of_router(name))}
        return self.route(state, routers.values(), settled) + state.routing.adopt(state.neighbours)

    def route(self, state: HostState, routers: Iterable[SimulatedRouter],
              settled: Set[str] = frozenset()) -> list[Command]:
        """These are a host's simulated routers now. `settled`: names of those that have been at work before."""
        commands = state.routing.intend(routers, settled)
        self.routings.pop(state.name, None)
        if state.routing.hops:
            self.routings[state.name] = state.routing
        return commands

    def intend(self, topology: Topology, state: HostState, bridges: Iterable[str], work: Work) -> list[Command]:
        """Compute these pieces and hand them to the host's sessions that are past their first intent."""
        mine = [state.sessions[bridge] for bridge in bridges if bridge in state.sessions]
        commands: list[Command] = []
        for conn, session in mine:
            if session.state is State.REFUSED:  # nobody knows what it holds; then it gets everything, not only this
                commands.append(self.reread(conn, session))
        ready = [(conn, session) for conn, session in mine if session.takes_changes]
        if state.vlans is None or not ready:
            return commands
        found = pieces.compiled(topology, state, work, [session.bridge for _, session in ready])
        for conn, session in ready:
            was = session.state
            plan = session.intend(_of_bridge(found, session), work.gone, self._forgets(state, session))
            commands += self.send(conn, session, plan, was=was)
        return commands

    def _forgets(self, state: HostState, session: Session) -> list[Forget]:
        """What this session shall tell its switch to forget; said once."""
        due = state.forgets_of(session.bridge)
        forgets = due.copy()
        due.clear()
        return forgets

    def send(self, conn: object, session: Session, plan: Plan | None, *, was: State) -> list[Command]:
        """What follows from a session's answer to something; `was`: its state before."""
        switch = f"{session.host}/{session.bridge}"
        if session.state is State.IN_SYNC and was is not State.IN_SYNC:
            self.healing.in_sync(conn, self._clock())
        if plan is None:
            if session.state is not State.IN_SYNC or was is State.IN_SYNC:
                return []
            return [Settled(conn), Log("info", "in sync", {"switch": switch, "flows": session.held})]
        about = {"switch": switch, "add": len(plan.add), "delete": len(plan.delete), "forget": len(plan.forget),
                 "flush": len(plan.flush)}
        if len(session.parts) > 1:
            about["bundles"] = len(session.parts)
        self.vigil.asked(conn, self._clock())
        return [Log("info", "write", about), Write(conn, plan, session.parts)]

    def reread(self, conn: object, session: Session) -> ReadFlows:
        """Nobody knows what the switch holds."""
        session.reread()
        return self.ask(conn, session)

    def ask(self, conn: object, session: Session) -> ReadFlows:
        """What does it hold?"""
        self.vigil.asked(conn, self._clock())
        return ReadFlows(conn, meters=session.bridge == BR_INT)


def _of_bridge(found: Pieces, session: Session) -> dict[str, Piece]:
    return {name: by_bridge[session.bridge] for name, by_bridge in found.items() if session.bridge in by_bridge}
