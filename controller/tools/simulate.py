"""Frames over a whole cloud, on paper: out of a VM's port, through every bridge they come to, to where they end.

Each host's flows are compiled as the daemon would; patch ports and tunnels are the wires between them.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from controller.model import placement
from controller.model.names import PATCH_INT, PATCH_TUN
from controller.model.placement import Seen
from controller.model.topology import Port, Topology
from flows.compile import compile_host
from flows.evaluate import Pipeline, Walk
from flows.packet import Packet
from flows.tables import BR_INT, BR_TUN

_TOO_FAR = 64  # bridges in a row; the longest way of a sound pipeline has four


class Loop(Exception):
    """A frame goes round. The tables never do that; a fault of theirs must not hang a tool."""


@dataclass(frozen=True)
class Visit:
    """A frame's way through one bridge of one host."""

    host: str
    bridge: str
    device: str  # the port it came in by
    walk: Walk
    before: Visit | None  # the bridge it came from

    @cached_property
    def way(self) -> tuple[Visit, ...]:
        """All bridges from the sender to here."""
        return (*(self.before.way if self.before else ()), self)


@dataclass(frozen=True)
class Ending:
    """Where one copy of a frame ends: at a VM's port, or (None) in the bridge of `visit`."""

    visit: Visit
    port: Port | None
    packet: Packet


@dataclass(frozen=True)
class _Entry:
    host: str
    bridge: str
    device: str
    packet: Packet
    before: Visit | None = None


class Cloud:
    """A topology's hosts with their tables, and what these learn from the frames sent here."""

    def __init__(self, topology: Topology, seen: Mapping[str, Seen] | None = None) -> None:
        self._topology = topology
        self._given = seen or {}
        self._seen: dict[str, Seen] = {}
        self._compiled: dict[tuple[str, str], Pipeline] = {}
        self._pipelines: dict[tuple[str, str], Pipeline] = {}  # the same, with what was learned
        self._port_of = {(port.host, port.device): port for port in topology.ports()}
        self._host_of = {placement.tunnel_device(topology, host): name for name, host in topology.hosts.items()}

    def seen(self, host: str) -> Seen:
        """The host's numbers: those given, and for the rest those of a host that has just been built."""
        if host not in self._seen:
            imagined = placement.imagined(self._topology, host)
            given = self._given.get(host, Seen())
            vlans = placement.allot_vlans(sorted(imagined.vlans), given.vlans)
            self._seen[host] = Seen({**imagined.ports, **given.ports}, vlans)
        return self._seen[host]

    def send(self, port: Port, packet: Packet) -> tuple[Ending, ...]:
        """Put a frame on a VM's wire. Every copy's end, nearest first; the bridges learn. Loop if it goes round."""
        endings: list[Ending] = []
        entries = deque([_Entry(port.host, BR_INT, port.device, packet)])
        while entries:
            visit = self._visit(entries.popleft())
            if len(visit.way) > _TOO_FAR:
                raise Loop(f"{packet} goes round between {visit.host}/{visit.bridge} and its neighbours")
            onward = list(self._leave(visit))
            endings += [one for one in onward if isinstance(one, Ending)]
            entries += [one for one in onward if isinstance(one, _Entry)]
            if not onward:
                endings.append(Ending(visit, None, visit.walk.last.after))
        return tuple(endings)

    def forget(self) -> None:
        """As if no frame had been sent."""
        self._pipelines = dict(self._compiled)

    def _visit(self, entry: _Entry) -> Visit:
        pipeline = self._pipeline(entry.host, entry.bridge)
        ofport = self.seen(entry.host).ofport(entry.bridge, entry.device)
        walk = pipeline.walk(entry.packet, -1 if ofport is None else ofport)
        if walk.learned:
            self._pipelines[entry.host, entry.bridge] = pipeline.with_(walk.learned)
        return Visit(entry.host, entry.bridge, entry.device, walk, entry.before)

    def _pipeline(self, host: str, bridge: str) -> Pipeline:
        if (host, bridge) not in self._pipelines:
            tables = compile_host(placement.place(self._topology, host, self.seen(host)))
            self._compiled.update({(host, name): Pipeline(name, flows) for name, flows in tables.items()})
            self._pipelines.update({(host, name): self._compiled[host, name] for name in tables})
        return self._pipelines[host, bridge]

    def _leave(self, visit: Visit) -> Iterator[Ending | _Entry]:
        devices = {ofport: device for device, ofport in self.seen(visit.host).ports[visit.bridge].items()}
        for ofport, copy in visit.walk.outputs:
            device = devices.get(ofport, "")
            bare = copy.with_(tunnel_id=0)  # beyond a patch port nobody knows of the tunnel
            if device == PATCH_TUN:
                yield _Entry(visit.host, BR_TUN, PATCH_INT, bare, visit)
            elif device == PATCH_INT:
                yield _Entry(visit.host, BR_INT, PATCH_TUN, bare, visit)
            elif device in self._host_of:
                back = placement.tunnel_device(self._topology, self._topology.hosts[visit.host])
                yield _Entry(self._host_of[device], BR_TUN, back, copy, visit)
            elif port := self._port_of.get((visit.host, device)):
                yield Ending(visit, port, bare)
