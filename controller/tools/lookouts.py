"""Where each hop of a journey can be looked at in a running lab, and why not where that cannot be."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from controller.host import netns, outside
from controller.host.lab import UPLINK
from controller.host.sniffing import Spot
from controller.model.topology import Port, Topology
from controller.tools import journey as kinds
from controller.tools.crossing import DAEMON
from controller.tools.headers import headers
from controller.tools.journey import Hop
from controller.tools.nodes import Node

_NAMESPACES: Final = "root/run/netns"  # of a process: where `ip netns` of its hypervisor keeps them
_AT_DEVICE: Final = (kinds.TAP, kinds.QVB, kinds.PORT)
_HIDDEN: Final = {
    kinds.PATCH: "a patch port is no device: nothing can listen there",
    kinds.QBR: "a Linux bridge passes frames from port to port: they are heard at its ports",
    kinds.ROUTER: "the daemon takes it out of the switch: there is no device",
}


@dataclass(frozen=True)
class Lookouts:
    """Of one lab. `plugs`: MAC -> interface of the node outside."""

    topology: Topology
    nodes: Mapping[str, Node]
    plugs: Mapping[str, str]
    internet: str

    def spot(self, hop: Hop, before: Hop | None) -> Spot | None:
        """The device where a hop can be listened at; None if there is none (`hidden` says why), or for a table."""
        if hop.kind == kinds.VM:
            port = next((one for one in self.topology.ports_by_host.get(hop.host, ()) if one.name == hop.owner), None)
            return self.vm(port) if port else None
        if hop.kind in _AT_DEVICE:
            return self._at(hop.host, hop.device)
        if hop.kind in (kinds.TUNNEL, kinds.UNDERLAY):
            return self._at(hop.host, UPLINK)
        if hop.kind in (kinds.ROUTER, kinds.DHCP) and hop.device != DAEMON and before is not None:
            return self._inside(hop.host, hop.device, before.device)
        if hop.kind == kinds.PROVIDER:
            return self._at(hop.host, self._card(hop))
        return self._world(hop) if hop.kind == kinds.WORLD else None

    def hidden(self, hop: Hop) -> str:
        """Why nobody can look there."""
        return _HIDDEN.get(hop.kind, "nothing of it is in this lab")

    def vm(self, port: Port) -> Spot | None:
        """A VM's own interface."""
        return self._at(port.vm, port.interface)

    def _at(self, node: str, device: str) -> Spot | None:
        found = self.nodes.get(node)
        return Spot(netns.of_process(found.pid), device) if found and found.alive else None

    def _inside(self, host: str, namespace: str, device: str) -> Spot | None:
        found = self.nodes.get(host)
        return Spot(f"/proc/{found.pid}/{_NAMESPACES}/{namespace}", device) if found else None

    def _card(self, hop: Hop) -> str:
        """The network card behind a provider bridge, if it is not named already."""
        mappings = self.topology.hosts[hop.host].bridge_mappings.items()
        return next((outside.card(self.topology, physical) for physical, bridge in mappings if bridge == hop.device),
                    hop.device)

    def _world(self, hop: Hop) -> Spot | None:
        worn = headers(hop.wears)
        interface = next((self.plugs[worn[end]] for end in ("eth_dst", "eth_src") if worn.get(end) in self.plugs), None)
        return self._at(self.internet, interface) if interface else None
