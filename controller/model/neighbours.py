"""Who is on a network, and what stands at the other ends of tunnels, as the compilers see it: the same for all hosts.

What a host adds is which of these are elsewhere, and the numbers of its ports (`placement`).
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from controller.model.gathering import Members
from controller.model.objects import Port
from flows.neighbours import Everybody, Neighbour

if TYPE_CHECKING:
    from controller.model.topology import Topology


class Ends(NamedTuple):
    """The far ends of tunnels: hosts by name, and to each of them the tunnel port that others have."""

    hosts: tuple[str, ...]
    devices: tuple[str, ...]


class Neighbours:
    """Of one topology; found when somebody asks, and kept."""

    def __init__(self, topology: Topology, members: Mapping[str, Members]) -> None:
        """`members`: by network, as far as they have been gathered; else they are looked up."""
        self._topology, self._members = topology, members
        self._of: dict[str, Everybody] = {}
        self._ends_on: dict[str, Ends] = {}

    def after(self, topology: Topology, networks: Iterable[str]) -> Neighbours:
        """Of another topology with the same hosts, on which others are on these networks alone."""
        found = Neighbours(topology, {})
        found._of, found._ends_on = {**self._of}, {**self._ends_on}
        for name in networks:
            found._of.pop(name, None)
            found._ends_on.pop(name, None)
        vars(found)["ends"] = self.ends
        return found

    def of(self, network: str) -> Everybody:
        """The ports of VMs on a network, then the legs of routers, then its DHCP server, on whatever host they are."""
        found = self._of.get(network)
        if found is None:
            vms, ours = self._members_of(network), tuple(self._ours(network))
            found = self._of[network] = Everybody(
                (*vms.macs, *(one.mac for one in ours)), (*vms.hosts, *(one.remote for one in ours)),
                _Rows(vms.ports, ours), alike=vms.alike)
        return found

    @cached_property
    def ends(self) -> Ends:
        """On all hosts."""
        return self._ends(sorted(self._topology.hosts))

    def ends_on(self, network: str) -> Ends:
        """On the hosts that carry a network."""
        found = self._ends_on.get(network)
        if found is None:
            found = self._ends_on[network] = self._ends(self._topology.whereabouts.carriers(network))
        return found

    def _ends(self, hosts: Sequence[str]) -> Ends:
        devices = self._topology.whereabouts.tunnels
        return Ends(tuple(hosts), tuple([devices[name] for name in hosts]))

    def _members_of(self, network: str) -> Members:
        return self._members.get(network) or Members.of(self._topology.ports_by_network.get(network, ()))

    def _ours(self, network: str) -> Iterator[Neighbour]:
        topology = self._topology
        for leg in topology.legs_by_network.get(network, ()):
            yield Neighbour(leg.name, leg.path, leg.mac, leg.ip, leg.host, secured=True)
        server = topology.dhcp_by_network.get(network)
        if server is not None:
            yield Neighbour(server.name, server.path, server.mac, server.addresses[0][1], server.host, secured=True)


@dataclass(frozen=True)
class _Rows:
    """Makes the row of an index."""

    vms: tuple[Port, ...]
    ours: tuple[Neighbour, ...]

    def __call__(self, index: int) -> Neighbour:
        if index >= len(self.vms):
            return self.ours[index - len(self.vms)]
        port = self.vms[index]
        macs = dict.fromkeys(pair.mac for pair in port.allowed_address_pairs if pair.mac != port.mac)
        return Neighbour(port.name, port.path, port.mac, port.ip, port.host, port.port_security,
                         tuple(macs) if port.port_security else ())
