"""Who is where: which networks a host carries, which hosts carry a network, whose a device is.

Found when somebody asks, and kept: the topology that follows takes over what its edit leaves as it is (`after`).
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from controller.model import names
from controller.model.objects import Port

if TYPE_CHECKING:
    from controller.model.topology import Topology

_T = TypeVar("_T")


class Whereabouts:
    """Of one topology."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._carried: dict[str, tuple[str, ...]] = {}
        self._carriers: dict[str, tuple[str, ...]] = {}
        self._plugs: dict[str, Mapping[str, str]] = {}
        self._ports: dict[str, Mapping[str, tuple[Port, ...]]] = {}
        self._unsecured: dict[str, tuple[Port, ...]] = {}

    def after(self, topology: Topology, hosts: Iterable[str], networks: Iterable[str]) -> Whereabouts:
        """Of another topology with the same hosts, which differs from this one on these hosts and networks alone."""
        found = Whereabouts(topology)
        found._carried, found._plugs, found._unsecured = (
            _without(known, hosts) for known in (self._carried, self._plugs, self._unsecured))
        found._ports = _without(self._ports, hosts)
        found._carriers = _without(self._carriers, networks)
        vars(found)["tunnels"], vars(found)["tunnel_to"] = self.tunnels, self.tunnel_to
        return found

    def carried(self, host: str) -> tuple[str, ...]:
        """The networks that a host carries, by name: a VM, a leg of a router or a DHCP server of it is on them."""
        return _kept(self._carried, host, self._find_carried)

    def carriers(self, network: str) -> tuple[str, ...]:
        """The hosts that carry a network, by name."""
        return _kept(self._carriers, network, self._find_carriers)

    def ports(self, host: str) -> Mapping[str, tuple[Port, ...]]:
        """Network -> the ports of its VMs on a host, in the order of the file; networks without one are absent."""
        return _kept(self._ports, host, self._find_ports)

    def plugs(self, host: str) -> Mapping[str, str]:
        """Device on a host's br-int -> its network: VMs' ports, legs of routers in namespaces, DHCP servers."""
        return _kept(self._plugs, host, self._find_plugs)

    def unsecured(self, host: str) -> tuple[Port, ...]:
        """The ports of a host without port security."""
        return _kept(self._unsecured, host, lambda _: tuple(
            port for port in self._topology.ports_by_host.get(host, ()) if not port.port_security))

    @cached_property
    def tunnels(self) -> Mapping[str, str]:
        """Host name -> the tunnel port to it on other hosts; in the order of the file."""
        kind = self._topology.tunnel.type
        return {host.name: names.tunnel_device(kind, str(host.tunnel_ip)) for host in self._topology.hosts.values()}

    @cached_property
    def tunnel_to(self) -> Mapping[str, str]:
        """The same the other way round."""
        return {device: host for host, device in self.tunnels.items()}

    def _find_carried(self, host: str) -> tuple[str, ...]:
        topology = self._topology
        mine = set(self.ports(host))
        mine.update(leg.network for leg in topology.legs_by_host.get(host, ()))
        mine.update(server.network for server in topology.dhcp_by_host.get(host, ()))
        return tuple(sorted(mine))

    def _find_carriers(self, network: str) -> tuple[str, ...]:
        return tuple(sorted(set(self._topology.neighbours.of(network).remotes)))

    def _find_ports(self, host: str) -> Mapping[str, tuple[Port, ...]]:
        found: dict[str, list[Port]] = {}
        for port in self._topology.ports_by_host.get(host, ()):
            found.setdefault(port.network, []).append(port)
        return {network: tuple(ports) for network, ports in found.items()}

    def _find_plugs(self, host: str) -> Mapping[str, str]:
        topology = self._topology
        found = {port.device: port.network for port in topology.ports_by_host.get(host, ())}
        found |= {leg.device: leg.network for leg in topology.legs_by_host.get(host, ()) if leg.driver == "namespace"}
        return found | {server.device: server.network for server in topology.dhcp_by_host.get(host, ())}


def _kept(known: dict[str, _T], name: str, find: Callable[[str], _T]) -> _T:
    found = known.get(name)
    if found is None:
        found = known[name] = find(name)
    return found


def _without(known: dict[str, _T], names_: Iterable[str]) -> dict[str, _T]:
    rest = known.copy()
    for name in names_:
        rest.pop(name, None)
    return rest
