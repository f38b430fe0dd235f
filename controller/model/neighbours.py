"""Who is on a network, and what stands at the other ends of tunnels, as the compilers see it: the same for all hosts.

What a host adds is which of these are elsewhere, and the numbers of its ports (`placement`).
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flows.host import Neighbour

if TYPE_CHECKING:
    from controller.model.topology import Topology


class Ends(NamedTuple):
    """The far ends of tunnels: hosts by name, and to each of them the tunnel port that others have."""

    hosts: tuple[str, ...]
    devices: tuple[str, ...]


class Neighbours:
    """Of one topology; found when somebody asks, and kept."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._of: dict[str, tuple[Neighbour, ...]] = {}
        self._ends_on: dict[str, Ends] = {}

    def after(self, topology: Topology, networks: Iterable[str]) -> Neighbours:
        """Of another topology with the same hosts, on which others are on these networks alone."""
        found = Neighbours(topology)
        found._of, found._ends_on = {**self._of}, {**self._ends_on}
        for name in networks:
            found._of.pop(name, None)
            found._ends_on.pop(name, None)
        vars(found)["ends"] = self.ends
        return found

    def of(self, network: str) -> tuple[Neighbour, ...]:
        """The ports of VMs on a network, then the legs of routers, then its DHCP server, on whatever host they are."""
        found = self._of.get(network)
        if found is None:
            found = self._of[network] = (*self._vms(network), *self._ours(network))
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

    def _vms(self, network: str) -> list[Neighbour]:
        found = list(map(_neighbour, map(_AS_NEIGHBOUR, self._topology.ports_by_network.get(network, ()))))
        return [_narrowed(one) if one.also else one for one in found] if any(one.also for one in found) else found

    def _ours(self, network: str) -> Iterator[Neighbour]:
        topology = self._topology
        for leg in topology.legs_by_network.get(network, ()):
            yield Neighbour(leg.name, leg.path, leg.mac, leg.ip, leg.host, secured=True)
        server = topology.dhcp_by_network.get(network)
        if server is not None:
            yield Neighbour(server.name, server.path, server.mac, server.addresses[0][1], server.host, secured=True)


# In the order of Neighbour's fields: a network may have thousands. Its pairs are still to be narrowed to their MACs.
# And they are made without the function of Python's that a named tuple has around its making.
_neighbour: Final[Callable[[tuple[Any, ...]], Neighbour]] = partial(tuple.__new__, Neighbour)
_AS_NEIGHBOUR: Final = attrgetter("name", "path", "mac", "ip", "host", "port_security", "allowed_address_pairs")


def _narrowed(one: Neighbour) -> Neighbour:
    pairs: tuple[Any, ...] = one.also
    macs = dict.fromkeys(pair.mac for pair in pairs if pair.mac != one.mac) if one.secured else ()
    return one._replace(also=tuple(macs))
