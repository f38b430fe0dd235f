"""One packet over the same bridges and wires that `verify` walks with all: to confirm, and to find the blame."""
from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from flows import fields as f
from flows.evaluate import Pipeline
from flows.flow import Flow
from flows.packet import Packet
from flows.prove import Hit
from flows.prove_cloud import End, Plug, Wiring
from flows.tracking import Conntrack
from flows.walks import Walk

_STOPS = 200  # bridges in all; then it goes round


@dataclass(frozen=True)
class Came:
    """A copy that came to an end."""

    end: str
    packet: Packet


@dataclass(frozen=True)
class Journey:
    """Where the copies of a packet came, and every row that they hit, in the order of time."""

    came: tuple[Came, ...]
    hits: tuple[Hit, ...]
    loops: bool = False


class Paper:
    """A cloud's bridges on paper. Nothing is learned from one packet for the next; connections are, until `forget`."""

    def __init__(self, flows: Mapping[tuple[str, str], Iterable[Flow]], wiring: Wiring) -> None:
        self._flows = flows
        self._wiring = wiring
        self._pipelines: dict[tuple[str, str], Pipeline] = {}
        self._tracked: dict[str, Conntrack] = {}

    def forget(self) -> None:
        """Forget all connections."""
        self._tracked.clear()

    def send(self, plug: Plug, packet: Packet) -> Journey:
        """Put a packet into a port."""
        came: list[Came] = []
        hits: list[Hit] = []
        waiting, stops = deque([(plug, packet)]), 0
        while waiting:
            (host, bridge, number), frame = waiting.popleft()
            stops += 1
            if stops > _STOPS:
                return Journey(tuple(came), tuple(hits), loops=True)
            if (host, bridge) not in self._flows:
                continue
            walk = self._pipeline(host, bridge).walk(frame, number, self._tracked.get(host))
            self._tracked[host] = walk.conntrack
            hits += _hits(host, walk)
            for port, copy in walk.outputs:
                for one in self._wiring.behind.get((host, bridge, port), ()):
                    if isinstance(one, End):
                        came.append(Came(one.name, copy))
                    else:
                        kept = copy if one.tunnel else copy.with_(**{f.TUN_ID.name: 0})
                        waiting.append(((one.host, one.bridge, one.in_port), kept))
        return Journey(tuple(came), tuple(hits))

    def _pipeline(self, host: str, bridge: str) -> Pipeline:
        if (host, bridge) not in self._pipelines:
            self._pipelines[host, bridge] = Pipeline(bridge, self._flows[host, bridge])
        return self._pipelines[host, bridge]


def _hits(host: str, walk: Walk) -> Iterator[Hit]:
    for way in walk.ways:
        for step in way.steps[way.shared:]:
            for clause in step.clauses:
                yield Hit(host, step.table, clause)
            yield Hit(host, step.table, step.flow)
