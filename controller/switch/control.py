"""What the daemon answers on its control socket: a request in, an answer out, as plain JSON values."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from controller.model.topology import DhcpPort, Port, RouterPort, Topology
from controller.switch import refusals, routers
from controller.switch.applying import Applying, Failed
from controller.switch.events import Command, Counted
from controller.switch.fleet import Fleet
from controller.switch.questions import Unanswerable
from controller.switch.session import State
from controller.switch.showing import Showing
from flows.tables import Table

Json = dict[str, Any]
Obey = Callable[[Iterable[Command]], None]
Count = Callable[[object, Iterable[Table]], dict[int, Counted]]


class Control:
    """Answers from the fleet's state. `obey` carries out commands; `showing` and `count` ask a switch and wait."""

    def __init__(self, fleet: Fleet, obey: Obey, showing: Showing, count: Count) -> None:
        self._fleet = fleet
        self._obey = obey
        self._showing = showing
        self._count = count
        self.applying = Applying(fleet, obey)
        self.errors = 0  # lines logged as errors
        self.lost_packets = 0  # of routers, for switches that took none at that moment
        self.listening: tuple[str, ...] = ()
        self.troubles: Callable[[], list[Json]] = list  # what could not be plumbed, and why; for others to say

    def answer_line(self, line: bytes) -> Json:
        """The answer to a line that should be one JSON object."""
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            return {"error": "A request is one line with one JSON object."}
        return self.answer(request)

    def answer(self, request: Json) -> Json:
        """The answer to `{"do": verb, ...}`: the verb's own keys, or `{"error": sentence}`."""
        verbs: dict[str, Callable[[Json], Json]] = {
            "status": lambda _: self.status(), "flows": self._showing.flows,
            "outline": self._showing.outline, "apply": self._apply, "plan": self._plan,
            "recompute": self._recompute, "routers": lambda _: {"routers": routers.described(self._fleet)},
            "spoofers": self._spoofers}
        verb = verbs.get(str(request.get("do")))
        if verb is None:
            return {"error": f"The daemon does not know the request {request.get('do')!r}."}
        try:
            return verb(request)
        except Unanswerable as error:
            return {"error": str(error), "missing": error.missing}
        except Failed as error:
            return {"error": str(error)}

    def count_error(self) -> None:
        """A line was logged as an error."""
        self.errors += 1

    # ---- status

    def status(self) -> Json:
        """Are all expected bridges connected and in sync, and which ports are not plugged in yet?"""
        switches = [self._switch(host, bridge) for host, bridge in self._fleet.expected()]
        ports = self._ports()
        return {
            "ok": all(switch["in_sync"] and not switch["drift"] for switch in switches),
            "heals": self._fleet.healing.heals,
            "topology": self._fleet.topology.source,
            "listening": list(self.listening),
            "switches": switches,
            "ports": ports,
            "router_ports": self._router_ports(),
            "dhcp_ports": self._plugged(self._fleet.topology.dhcp_by_network.values()),
            "strangers": [{"dpid": f"{dpid:016x}", "left_alone": why} for dpid, why in self._fleet.strangers.values()],
            "refusals": self._fleet.refusals,
            "errors": self.errors,
            "routers_failed": routers.failures(self._fleet),
            "packets_lost": self.lost_packets,
            "troubles": self.troubles(),
            "last_apply": self.applying.last,
            "work": vars(self._fleet.counters),
        }

    def _switch(self, host: str, bridge: str) -> Json:
        state = self._fleet.hosts[host]
        about: Json = {"host": host, "bridge": bridge,
                       "dpid": f"{self._fleet.topology.hosts[host].datapath_ids[bridge]:016x}"}
        if bridge not in state.sessions:
            return {**about, "connected": False, "in_sync": False, "state": "not connected", "reason": "",
                    "drift": 0}
        conn, session = state.sessions[bridge]
        settled = session.state is State.IN_SYNC and host not in self._fleet.backlog.hosts
        return {**about, "connected": True, "in_sync": settled, "state": session.state.value, "reason": session.reason,
                "flows": len(session.have), "strangers": session.strangers,
                "vlans": dict(sorted((state.vlans or {}).items())), "counters": vars(session.counters),
                **self._fleet.healing.described(conn)}

    def _ports(self) -> Json:
        return self._plugged(self._fleet.topology.ports())

    def _router_ports(self) -> Json:
        """Of routers in namespaces; those of simulated ones are no devices."""
        legs = (leg for legs in self._fleet.topology.legs_by_router.values() for leg in legs)
        return self._plugged(leg for leg in legs if leg.driver == "namespace")

    def _plugged(self, ports: Iterable[Port | RouterPort | DhcpPort]) -> Json:
        expected = [port for port in ports if port.host in self._fleet.hosts]
        missing = [port.name for port in expected
                   if port.device not in self._fleet.hosts[port.host].ports.get("br-int", {})]
        return {"expected": len(expected), "present": len(expected) - len(missing), "missing": missing}

    # ---- counters

    def _spoofers(self, request: Json) -> Json:
        """Who was refused what, on one host or on all: the rows that have dropped something, most packets first.

        `all`: also those that have not yet.
        """
        found: list[Json] = []
        away = []
        for host, bridge in self._fleet.expected():
            tables = refusals.watched(bridge) if request.get("host") in (None, host) else ()
            session = self._fleet.hosts[host].sessions.get(bridge)
            if tables and session is None:
                away.append(f"{host}/{bridge}")
            elif tables and session is not None:
                counted = self._count(session[0], tables)
                found += refusals.refused(self._fleet.topology, host, session[1].want, counted)
        found = [one for one in found if one["packets"] or request.get("all") is True]
        return {"refused": sorted(found, key=lambda one: -one["packets"]), "not_connected": away}

    # ---- changes

    def _apply(self, request: Json) -> Json:
        return self.applying.apply(*_file_of(request), filters=request.get("filters") is True)

    def _plan(self, request: Json) -> Json:
        return self.applying.plan(*_file_of(request))

    def _recompute(self, _: Json) -> Json:
        self._obey(self._fleet.recompute())
        return {"ok": True}

    @property
    def topology(self) -> Topology:
        """The topology in force."""
        return self._fleet.topology


def _file_of(request: Json) -> tuple[bytes, str]:
    """The content and the name of the file that a request brings."""
    text, source = request.get("text"), request.get("source", "topology.yaml")
    if not isinstance(text, str) or not isinstance(source, str):
        raise Unanswerable("`text` and `source` of a topology are strings.")
    try:
        return text.encode("utf-8", "surrogateescape"), source  # as the client read it, be it UTF-8 or not
    except UnicodeEncodeError:
        raise Unanswerable("`text` has half a character: a lone surrogate.") from None
