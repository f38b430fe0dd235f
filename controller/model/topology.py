"""The user's cloud as values: what a valid topology.yaml says, every default filled in, every name resolved.

Made by `reading.load`; read by placement, plumbing and the tools. Nothing here is a number of a host
(VLANs and OpenFlow ports are allotted in `placement`).
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from uuid import UUID

from controller.model import names

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
    line: int  # of topology.yaml, 1-based; the same in every class below
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
    line: int
    host_routes: tuple[Route, ...] = ()
    allocation_pools: tuple[AllocationPool, ...] = ()


@dataclass(frozen=True)
class Network:
    name: str
    id: UUID
    tunnel_id: int | None  # None: external, or of a provider, without an overlay
    external: bool
    subnets: tuple[Subnet, ...]
    line: int
    physical_network: str | None = None  # of a provider or external network; the next two only with it
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
    line: int

    @property
    def interface(self) -> str:
        """The interface's name inside the VM."""
        return f"eth{self.index}"


@dataclass(frozen=True)
class Vm:
    name: str
    host: str
    ports: tuple[Port, ...]
    line: int


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
    line: int


@dataclass(frozen=True)
class FloatingIp:
    address: Address
    vm: str
    network: str  # of the fixed port
    line: int


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
    line: int


@dataclass(frozen=True)
class SecurityGroup:
    name: str
    id: UUID
    rules: tuple[SecurityRule, ...]
    line: int


@dataclass(frozen=True)
class Topology:
    """A whole cloud. Mappings keep the order of the file."""

    cloud: str
    source: str  # the file's name as messages show it
    underlay: Underlay
    tunnel: Tunnel
    forwarding: str  # learning | l2population
    arp_responder: bool
    firewall: str  # iptables_hybrid | openvswitch | none
    mac_aging_time: int  # seconds until a learned flow is forgotten
    hosts: Mapping[str, Host]
    networks: Mapping[str, Network]
    routers: Mapping[str, Router] = field(default_factory=dict)
    floating_ips: tuple[FloatingIp, ...] = ()
    security_groups: Mapping[str, SecurityGroup] = field(default_factory=dict)
    vms: Mapping[str, Vm] = field(default_factory=dict)

    def ports(self) -> Iterator[Port]:
        """Every VM port, in the order of the file."""
        for vm in self.vms.values():
            yield from vm.ports

    @cached_property
    def ports_by_network(self) -> Mapping[str, tuple[Port, ...]]:
        """Network name -> its ports; networks without ports are absent."""
        return _grouped((port.network, port) for port in self.ports())

    @cached_property
    def ports_by_host(self) -> Mapping[str, tuple[Port, ...]]:
        """Host name -> the ports of its VMs; hosts without VMs are absent."""
        return _grouped((port.host, port) for port in self.ports())

    @cached_property
    def subnets(self) -> Mapping[str, Subnet]:
        """Every subnet by name (names are unique in a cloud)."""
        return {subnet.name: subnet for network in self.networks.values() for subnet in network.subnets}

    @cached_property
    def bridges(self) -> Mapping[int, tuple[str, str]]:
        """Datapath id -> (host name, bridge name)."""
        return {dpid: (host.name, bridge) for host in self.hosts.values() for bridge, dpid in host.datapath_ids.items()}

    @property
    def network_mtu(self) -> int:
        """The largest packet of a VM that one packet of the underlay holds."""
        return self.underlay.mtu - tunnel_overhead(self.tunnel.type, self.underlay.cidr.version)

    def has_qbr(self) -> bool:
        """Whether a Linux bridge with iptables stands between tap and br-int (Neutron's hybrid plug)."""
        return self.firewall == "iptables_hybrid"


def _grouped(pairs: Iterable[tuple[str, Port]]) -> dict[str, tuple[Port, ...]]:
    found: dict[str, list[Port]] = {}
    for name, port in pairs:
        found.setdefault(name, []).append(port)
    return {name: tuple(ports) for name, ports in found.items()}


def tunnel_overhead(kind: str, version: int) -> int:
    """Bytes of underlay MTU that a tunnel takes from a tenant's packet, over IPv4 or IPv6.

    The outer IP header, then UDP and an 8-byte tunnel header (RFC 7348, RFC 8926 without options) or GRE with a key
    (RFC 2890: 8 bytes), then the tenant's Ethernet header.
    """
    outer_ip = 20 if version == 4 else 40
    return outer_ip + (8 if kind == "gre" else 16) + 14


def port_device(firewall: str, port_id: UUID) -> str:
    """The name of a VM's port on br-int under a firewall driver, unless the file pins another."""
    return names.device("qvo" if firewall == "iptables_hybrid" else "tap", port_id)
