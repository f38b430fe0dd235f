"""Who is on a network, and what stands at the other ends of tunnels, as the compilers see it: the same for all hosts.

What a host adds is which of these are elsewhere, and the numbers of its ports (`placement`).
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from controller.model.objects import Port
from flows.fields import ETH_DST
from flows.host import Neighbour

if TYPE_CHECKING:
    from controller.model.topology import Topology


class Neighbours:
    """Of one topology; found when somebody asks, and kept."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._of: dict[str, tuple[Neighbour, ...]] = {}

    def after(self, topology: Topology, networks: Iterable[str]) -> Neighbours:
        """Of another topology with the same hosts, on which others are on these networks alone."""
        found = Neighbours(topology)
        found._of = {**self._of}
        for name in networks:
            found._of.pop(name, None)
        vars(found)["ends"], vars(found)["end_of"] = self.ends, self.end_of
        return found

    def of(self, network: str) -> tuple[Neighbour, ...]:
        """The ports of VMs on a network, then the legs of routers, then its DHCP server, on whatever host they are."""
        found = self._of.get(network)
        if found is None:
            found = self._of[network] = tuple(self._find(network))
        return found

    @cached_property
    def ends(self) -> tuple[tuple[str, str, str], ...]:
        """Name, origin and tunnel port (on others) of every host, by name."""
        return tuple((name, f"hosts.{name}", device) for name, device in
                     sorted(self._topology.whereabouts.tunnels.items()))

    @cached_property
    def end_of(self) -> dict[str, tuple[str, str, str]]:
        """The same for each name."""
        return {end[0]: end for end in self.ends}

    def _find(self, network: str) -> Iterator[Neighbour]:
        topology = self._topology
        for port in topology.ports_by_network.get(network, ()):
            mac, secured = port.mac, port.port_security
            yield Neighbour(port.name, port.path, mac, int(mac.replace(":", ""), 16), port.ip, port.host, secured,
                            _also(port) if port.allowed_address_pairs and secured else ())
        for leg in topology.legs_by_network.get(network, ()):
            yield Neighbour(leg.name, leg.path, leg.mac, ETH_DST(leg.mac).value, leg.ip, leg.host, secured=True)
        server = topology.dhcp_by_network.get(network)
        if server is not None:
            yield Neighbour(server.name, server.path, server.mac, ETH_DST(server.mac).value, server.addresses[0][1],
                            server.host, secured=True)


def _also(port: Port) -> tuple[str, ...]:
    """The MACs of its allowed address pairs, not its own."""
    return tuple(dict.fromkeys(pair.mac for pair in port.allowed_address_pairs if pair.mac != port.mac))
