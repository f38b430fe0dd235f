"""What a host's networks will come to, computed while its switch is still being read.

Where many flows are read, the rows that give local VLANs come first: with them and the ports, all numbers are known.
What is computed so is only looked at in the end if topology, ports and VLANs are what they were then.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from controller.model import placement
from controller.model.placement import Seen
from controller.model.topology import Topology
from flows import br_tun
from flows.flow import Flow
from flows.host import Network
from flows.sheet import Part


@dataclass
class Foresight:
    """Of one host: its networks as they are placed, and what br-tun holds of each."""

    topology: Topology
    host: str
    seen: Seen
    networks: dict[str, Network] = field(default_factory=dict)
    tunnels: dict[str, tuple[Part, ...]] = field(default_factory=dict)

    def work(self) -> Iterator[None]:
        """One network after the other, with the cookies of all rows."""
        bare = placement.place_bare(self.topology, self.host, self.seen, base=False)
        for name in self.topology.whereabouts.carried(self.host):
            network = placement.place_network(self.topology, self.host, name, self.seen)
            parts = tuple(br_tun.network(bare, network))
            for part in parts:
                if not isinstance(part, Flow):
                    part.cookies()
            self.networks[name], self.tunnels[name] = network, parts
            yield

    def fits(self, topology: Topology, seen: Seen) -> bool:
        """Whether it was made of these."""
        return topology is self.topology and seen == self.seen


def foresight(topology: Topology, host: str, seen: Seen) -> Foresight:
    """Of a host as its switches say it is now, whatever they say later."""
    return Foresight(topology, host, Seen({bridge: {**ports} for bridge, ports in seen.ports.items()}, {**seen.vlans}))
