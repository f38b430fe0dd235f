"""The objects of a cloud as values: what a valid topology.yaml says of each, every default filled in.

They are gathered in `topology.Topology`, which finds what belongs together.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from uuid import UUID

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Underlay:
    cidr: Prefix
    mtu: int = 1500


@dataclass(frozen=True)
class Tunnel:
    type: str = "vxlan"  # vxlan | geneve | gre
    port: int | None = 4789  # UDP destination port; None for gre


@dataclass(frozen=True)
class Host:
    """A hypervisor (role compute) or a network host (role network): one br-int and one br-tun."""

    name: str
    tunnel_ip: Address
    role: str
    datapath_ids: Mapping[str, int]  # bridge name -> OpenFlow datapath id; with the provider bridges that it needs
    line: int = field(compare=False)  # of topology.yaml, 1-based; the same in every class below
    bridge_mappings: Mapping[str, str] = field(default_factory=dict)  # physical network -> bridge; all that it needs


@dataclass(frozen=True)
class Route:
    destination: Prefix
    nexthop: Address


@dataclass(frozen=True)
class AllocationPool:
    """Addresses of a subnet that may be given to ports without one; both ends included."""

    start: Address
    end: Address


@dataclass(frozen=True)
class Subnet:
    name: str
    id: UUID
    network: str
    cidr: Prefix
    gateway: Address | None
    dhcp: bool
    dns: tuple[Address, ...]
    line: int = field(compare=False)
    host_routes: tuple[Route, ...] = ()
    allocation_pools: tuple[AllocationPool, ...] = ()
    dhcp_address: Address | None = None  # the DHCP server's own; None: nobody serves this subnet


@dataclass(frozen=True)
class Network:
    name: str
    id: UUID
    tunnel_id: int | None  # None: external, or of a provider, without an overlay
    external: bool
    subnets: tuple[Subnet, ...]
    line: int = field(compare=False)
    physical_network: str | None = None  # where it lives without a tunnel id; the next two only with it
    network_type: str | None = None  # vlan | flat
    segmentation_id: int | None = None  # the VLAN on the physical network


@dataclass(frozen=True)
class AddressPair:
    """One of a port's `allowed_address_pairs`: an address or prefix it may use, and the MAC to go with it."""

    ip: Prefix
    mac: str


@dataclass(frozen=True)
class Port:
    """A VM's plug: one network interface in the VM, one wire to br-int."""

    name: str  # the VM's name if it has one port, else `fw1:eth1`
    path: str  # where it stands in the file: `vms.web1` or `vms.fw1.ports[1]`
    id: UUID
    vm: str
    index: int  # 0 is eth0 in the VM
    host: str
    network: str
    subnet: str
    ip: Address
    mac: str
    dhcp: bool  # the file said `ip: dhcp`; `ip` is then the address reserved for it
    port_security: bool
    security_groups: tuple[str, ...]
    allowed_address_pairs: tuple[AddressPair, ...]
    device: str  # the port's name on br-int: `qvo...` behind a qbr, `tap...` without one, or what the file pinned
    line: int = field(compare=False)

    @property
    def interface(self) -> str:
        """The interface's name inside the VM."""
        return f"eth{self.index}"


@dataclass(frozen=True)
class Vm:
    name: str
    host: str
    ports: tuple[Port, ...]
    line: int = field(compare=False)


@dataclass(frozen=True)
class RouterInterface:
    subnet: str
    ip: Address
    id: UUID
    mac: str


@dataclass(frozen=True)
class RouterGateway:
    network: str
    ip: Address
    snat: bool
    id: UUID
    mac: str


@dataclass(frozen=True)
class Router:
    name: str
    id: UUID
    host: str
    driver: str  # simulated | namespace
    interfaces: tuple[RouterInterface, ...]
    gateway: RouterGateway | None
    routes: tuple[Route, ...]
    line: int = field(compare=False)


@dataclass(frozen=True)
class RouterPort:
    """A leg of a router that is built: an IPv4 interface on a subnet, or the gateway beside at least one of these."""

    name: str  # for people: `r1 on blue-subnet`
    path: str  # where it stands in the file: `routers.r1.interfaces[0]` or `routers.r1.gateway`
    id: UUID
    router: str
    driver: str  # simulated | namespace
    host: str
    network: str
    subnet: str  # the one that its address is in
    ip: IPv4Address  # floating IPs are not among the legs' addresses
    mac: str
    device: str  # `qr-...` or, outside, `qg-...`
    outside: bool


@dataclass(frozen=True)
class DhcpPort:
    """A network's DHCP server, as it stands on br-int of a network host: one for all subnets with `dhcp: true`."""

    name: str  # for people: `DHCP of blue`
    path: str  # `networks.blue`
    id: UUID
    network: str
    host: str
    mac: str
    device: str  # `tap...`
    addresses: tuple[tuple[str, Address], ...]  # (subnet name, the server's own address there), in the file's order


@dataclass(frozen=True)
class FloatingIp:
    address: Address
    vm: str
    network: str  # of the fixed port
    line: int = field(compare=False)
    outside: str = ""  # the external network that the address is in


@dataclass(frozen=True)
class SecurityRule:
    direction: str  # ingress | egress
    ethertype: str  # IPv4 | IPv6
    protocol: str | int | None  # tcp, udp, icmp, ... or a number; None is any
    ports: tuple[int, int] | None  # first and last, inclusive
    icmp_type: int | None
    icmp_code: int | None
    remote: Prefix | None
    remote_group: str | None
    line: int = field(compare=False)
    path: str = ""  # where it stands in the file: `security_groups.web[0]`


@dataclass(frozen=True)
class SecurityGroup:
    name: str
    id: UUID
    rules: tuple[SecurityRule, ...]
    line: int = field(compare=False)
