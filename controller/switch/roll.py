"""Who is called: the hosts that this daemon serves, the bridges that they shall have, and strangers, left alone."""
from __future__ import annotations

from collections.abc import Iterator

from controller.model.topology import Topology
from controller.switch.hoststate import HostState
from controller.switch.routing import Routing


class Roll:
    """`serve`: the hosts of this daemon; None: all. What topologies say of them is asked each time."""

    def __init__(self, serve: frozenset[str] | None) -> None:
        self._serve = serve
        self.hosts: dict[str, HostState] = {}
        self.strangers: dict[object, tuple[int, str]] = {}  # connection -> (datapath id, why it is left alone)

    def enlist(self, topology: Topology) -> list[str]:
        """Its hosts, and no others. Returns the names of those that have gone."""
        for name in topology.hosts:
            if (self._serve is None or name in self._serve) and name not in self.hosts:
                self.hosts[name] = HostState(name, Routing(name))
        gone = [name for name in self.hosts if name not in topology.hosts]
        for name in gone:
            del self.hosts[name]
        return gone

    def expected(self, topology: Topology) -> Iterator[tuple[str, str]]:
        """Every (host, bridge) that shall connect."""
        return ((name, bridge) for name in self.hosts for bridge in topology.hosts[name].datapath_ids)

    def turn_away(self, topology: Topology, conn: object, dpid: int) -> str:
        """Why a switch is left alone; empty if it is not."""
        host, _ = topology.bridges.get(dpid, ("", ""))
        if host in self.hosts:
            return ""
        why = f"host {host} is not served here" if host else "no bridge of the topology has this datapath id"
        self.strangers[conn] = (dpid, why)
        return why

    def known_now(self, topology: Topology) -> list[object]:
        """The connections of strangers that the topology knows now; they are strangers no more."""
        found = [conn for conn, (dpid, _) in self.strangers.items()
                 if topology.bridges.get(dpid, ("", ""))[0] in self.hosts]
        for conn in found:
            del self.strangers[conn]
        return found
