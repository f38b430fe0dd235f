"""Where a host's tunnels start.

With the kernel's datapath the tunnel address stands on an ordinary device and the kernel routes the tunnels'
packets. The userspace datapath looks for that address on one of its own bridges, so `br-phy` holds the network
card and the address; it is a plain switch of two ports and has no controller.
"""
from __future__ import annotations

from dataclasses import dataclass

from controller.host.devices import MARK, Bridge, OvsPort, Underlay
from controller.model import names
from controller.model.topology import Host, Topology

BR_PHY = "br-phy"


@dataclass(frozen=True)
class Footing:
    """The bridge, port and address that carry the tunnels of one host."""

    bridges: tuple[Bridge, ...]
    ports: tuple[OvsPort, ...]
    underlay: Underlay | None


def tunnel_address(topology: Topology, host: Host) -> str:
    """The host's tunnel address with the underlay's prefix length."""
    return f"{host.tunnel_ip}/{topology.underlay.cidr.prefixlen}"


def br_phy_mac(cloud: str, host: str) -> str:
    """The MAC of a host's br-phy: known beforehand, so that others need not ask for it."""
    return names.mac_of(names.object_id(cloud, f"hosts/{host}/{BR_PHY}"))


def userspace(topology: Topology, host: Host, device: str, *, neighbours: bool) -> Footing:
    """br-phy over `device`. `neighbours`: every other host is built by this plan too, so its MAC is known.

    Knowing it matters: OVS drops the packet for which it must ask first.

    Open vSwitch finds br-phy by a route that it is told (`converge`), not by what it reads of the kernel's: of that it
    forgets all whenever any device comes or goes, and reads it anew. A flow that is revalidated in between leads
    nowhere, or a tunnel's packets to the host itself, for some five milliseconds (3.1.0, lib/route-table.c). A lab's
    ovs-vswitchd therefore reads none (`--disable-system-route`). As no address is then known to be the host's own,
    tunnels have no `local_ip`: the source of their packets is that of the route.
    """
    bridge = Bridge(BR_PHY, "netdev", mac=br_phy_mac(topology.cloud, host.name), fail_mode="standalone")
    port = OvsPort(device, BR_PHY, external_ids=((MARK, topology.cloud),))
    known = tuple((str(other.tunnel_ip), br_phy_mac(topology.cloud, other.name))
                  for other in topology.hosts.values() if neighbours and other.name != host.name)
    return Footing((bridge,), (port,), Underlay(BR_PHY, tunnel_address(topology, host), known, uplink=device))


def kernel(topology: Topology, host: Host, device: str | None) -> Footing:
    """The address on `device`; None leaves it to whoever set the host up, as is usual on a real one."""
    return Footing((), (), None if device is None else Underlay(device, tunnel_address(topology, host)))
