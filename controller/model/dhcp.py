"""Which host serves a network's DHCP, and what its server is called there."""
from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final
from uuid import UUID

from controller.model import names
from controller.model.objects import DhcpPort, Host, Network

ROLE: Final = "network"  # of the hosts that serve


def dhcp_host(network_id: UUID, hosts: Iterable[str]) -> str | None:
    """The network host of a network's server: where the hash of both is highest, so that a host that comes or goes
    moves no more than its share (rendezvous hashing). None if there is no such host.
    """
    return max(hosts, key=lambda host: (blake2b(network_id.bytes + host.encode(), digest_size=8).digest(), host),
               default=None)


def dhcp_port(cloud: str, network: Network, hosts: Iterable[Host]) -> DhcpPort | None:
    """A network's server; None if no subnet wants one, no host may have it, or no address is left for it."""
    addresses = tuple((subnet.name, subnet.dhcp_address) for subnet in network.subnets
                      if subnet.dhcp and subnet.dhcp_address is not None)
    host = dhcp_host(network.id, (host.name for host in hosts if host.role == ROLE))
    if host is None or not addresses:
        return None
    port_id = names.object_id(cloud, f"networks/{network.name}/dhcp")
    return DhcpPort(name=f"DHCP of {network.name}", path=f"networks.{network.name}", id=port_id, network=network.name,
                    host=host, mac=names.mac_of(port_id), device=names.device(names.TAP, port_id), addresses=addresses)
