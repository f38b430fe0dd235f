"""The tables of each host as the daemon would compile them, with what frames have taught them; made when one comes."""
from __future__ import annotations

from collections.abc import Iterable, Mapping

from controller.model import placement
from controller.model.placement import Seen
from controller.model.topology import Topology
from flows import compile as compiling
from flows import host as narrow
from flows.evaluate import Pipeline
from flows.flow import Flow
from flows.sheet import Part, whole


class HostTables:
    """Of a topology's hosts."""

    def __init__(self, topology: Topology, given: Mapping[str, Seen] | None = None) -> None:
        self._topology = topology
        self._given = given or {}
        self._seen: dict[str, Seen] = {}
        self._devices: dict[tuple[str, str], dict[int, str]] = {}
        self._placed: dict[str, narrow.Host] = {}
        self._compiled: dict[tuple[str, str], Pipeline] = {}
        self._pipelines: dict[tuple[str, str], Pipeline] = {}  # the same, with what was learned

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
            ports = self.seen(host).ports[bridge]
            self._devices[host, bridge] = {number: device for device, number in ports.items()}
        return self._devices[host, bridge].get(ofport, "")

    def pipeline(self, host: str, bridge: str) -> Pipeline:
        """A bridge's flows, with the learned ones."""
        if (host, bridge) not in self._pipelines:
            self._compile(host)
        return self._pipelines[host, bridge]

    def learn(self, host: str, bridge: str, learned: Iterable[Flow]) -> None:
        """A bridge has learned."""
        self._pipelines[host, bridge] = self.pipeline(host, bridge).with_(learned)

    def routers(self, host: str) -> tuple[narrow.SimulatedRouter, ...]:
        """The simulated routers of a host whose tables were asked for."""
        return self._placed[host].routers

    def forget(self) -> None:
        """As if nothing had been learned."""
        self._pipelines = dict(self._compiled)

    def _compile(self, host: str) -> None:
        placed = self._placed[host] = placement.place(self._topology, host, self.seen(host))
        flows: dict[str, list[Flow]] = {bridge: [] for bridge in compiling.bridges(placed)}
        for flow in whole(_parts(placed)):
            flows[flow.table.bridge].append(flow)
        for bridge, mine in flows.items():
            self._pipelines[host, bridge] = self._compiled[host, bridge] = Pipeline(bridge, mine)


def _parts(host: narrow.Host) -> list[Part]:
    """As `compile_host`, in no order: a packet asks for none within a priority."""
    parts: list[Part] = list(compiling.compile_base(host))
    for network in host.networks:
        parts += (*compiling.compile_network(host, network), *compiling.compile_groups(host, network))
    parts += dict.fromkeys(row for simulated in host.routers for row in compiling.compile_router(host, simulated))
    return parts
