"""The tables of each host as the daemon would compile them, with what frames have taught them; made when one comes.

Of a host's networks only those are compiled that frames come to, and what simulated routers join to these: a packet of
one network meets no row of another's, as VLANs and the numbers of routers and groups are one's own.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from controller.model import placement
from controller.model.placement import Seen
from controller.model.topology import Topology
from flows import compile as compiling
from flows import host as narrow
from flows.cookie import cookie_of
from flows.evaluate import Pipeline
from flows.flow import Flow
from flows.sheet import Part, whole


@dataclass(frozen=True)
class Deviation:
    """How what a bridge holds differs from what is compiled for it."""

    lacks: frozenset[int] = frozenset()  # cookies
    has: tuple[Flow, ...] = ()


Installed = Mapping[tuple[str, str], Deviation]  # (host, bridge); of whom nothing is said, it holds what it shall


class HostTables:
    """Of a topology's hosts. `whole`: all networks of a host at once, however few frames come."""

    def __init__(self, topology: Topology, given: Mapping[str, Seen] | None = None, *, whole: bool = False,
                 installed: Installed | None = None) -> None:
        self._topology = topology
        self._given = given or {}
        self._whole = whole
        self._installed = installed or {}
        self._seen: dict[str, Seen] = {}
        self._devices: dict[tuple[str, str], dict[int, str]] = {}
        self._tables: dict[str, _Tables] = {}

    def seen(self, host: str) -> Seen:
        """The host's numbers: those given, and for the rest those of a host that has just been built."""
        if host not in self._seen:
            imagined = placement.imagined(self._topology, host)
            given = self._given.get(host, Seen())
            vlans = placement.allot_vlans(sorted(imagined.vlans), given.vlans)
            self._seen[host] = Seen({**imagined.ports, **given.ports}, vlans)
        return self._seen[host]

    def device(self, host: str, bridge: str, ofport: int) -> str:
        """The device behind an OpenFlow port; empty if there is none."""
        if (host, bridge) not in self._devices:
            ports = self.seen(host).ports.get(bridge, {})
            self._devices[host, bridge] = {number: device for device, number in ports.items()}
        return self._devices[host, bridge].get(ofport, "")

    def pipeline(self, host: str, bridge: str, networks: Iterable[str]) -> Pipeline:
        """A bridge's flows for frames of these networks at least, with the learned ones."""
        if host not in self._tables:
            deviations = {name: one for (at, name), one in self._installed.items() if at == host}
            self._tables[host] = _Tables(self._topology, host, self.seen(host), deviations)
        tables = self._tables[host]
        tables.need(tables.carried if self._whole else networks)
        return tables.pipeline(bridge)

    def learn(self, host: str, bridge: str, learned: Iterable[Flow]) -> None:
        """A bridge has learned."""
        self._tables[host].learn(bridge, learned)

    def routers(self, host: str) -> tuple[narrow.SimulatedRouter, ...]:
        """The simulated routers of a host whose tables were asked for."""
        return tuple(self._tables[host].routers.values())

    def compiled(self) -> dict[str, int]:
        """Host -> how many of its networks were compiled so far."""
        return {host: len(tables.there) for host, tables in self._tables.items()}

    def forget(self) -> None:
        """As if nothing had been learned."""
        for tables in self._tables.values():
            tables.forget()


class _Tables:
    """Of one host."""

    def __init__(self, topology: Topology, host: str, seen: Seen, deviations: Mapping[str, Deviation]) -> None:
        self._topology, self._seen, self._deviations = topology, seen, deviations
        self._host = placement.place_bare(topology, host, seen)
        self.carried = topology.whereabouts.carried(host)
        self.routers: dict[str, narrow.SimulatedRouter] = {}
        self.there: set[str] = set()  # networks that are compiled
        self._parts: dict[str, list[Part]] = {bridge: [] for bridge in compiling.bridges(self._host)}
        self._learned: dict[str, list[Flow]] = {}
        self._pipelines: dict[str, Pipeline] = {}
        self._take(compiling.compile_base(self._host))

    def need(self, networks: Iterable[str]) -> None:
        """Compile what is not compiled yet of these networks, and of those that a router here joins to them."""
        legs = [leg for leg in self._topology.legs_by_host.get(self._host.name, ()) if leg.driver == "simulated"]
        wanted = [name for name in networks if name not in self.there and name in self.carried]
        while wanted:
            network = wanted.pop()
            if network in self.there:
                continue
            self.there.add(network)
            self._compile(network)
            for router in dict.fromkeys(leg.router for leg in legs if leg.network == network):
                self._route(router)
                wanted += [leg.network for leg in legs if leg.router == router]

    def pipeline(self, bridge: str) -> Pipeline:
        """Its flows, with the learned ones."""
        if bridge not in self._pipelines:
            self._pipelines[bridge] = Pipeline(bridge, self._there_in(bridge)).with_(self._learned.get(bridge, ()))
        return self._pipelines[bridge]

    def _there_in(self, bridge: str) -> Iterable[Part]:
        found = self._deviations.get(bridge)
        if found is None:
            return self._parts[bridge]
        return [*(flow for flow in whole(self._parts[bridge]) if cookie_of(flow) not in found.lacks), *found.has]

    def learn(self, bridge: str, learned: Iterable[Flow]) -> None:
        """It has learned."""
        flows = list(learned)
        self._learned.setdefault(bridge, []).extend(flows)
        self._pipelines[bridge] = self.pipeline(bridge).with_(flows)

    def forget(self) -> None:
        """As if it had not."""
        self._learned.clear()
        self._pipelines.clear()

    def _compile(self, name: str) -> None:
        network = placement.place_network(self._topology, self._host.name, name, self._seen)
        host = replace(self._host, networks=(network,))
        self._take((*compiling.compile_network(host, network), *compiling.compile_groups(host, network)))

    def _route(self, name: str) -> None:
        if name not in self.routers:
            self.routers[name] = placement.place_router(self._topology, self._host.name, name, self._seen)
            self._take(compiling.compile_router(self._host, self.routers[name]))

    def _take(self, parts: Iterable[Part]) -> None:
        for part in parts:
            self._parts[part.table.bridge].append(part)
            self._pipelines.pop(part.table.bridge, None)
