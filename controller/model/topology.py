"""The user's cloud as one value, every name resolved; and look-ups of what belongs together.

Made by `reading.load`; read by placement, plumbing and the tools. Nothing here is a number of a host
that a switch has a say in (VLANs and OpenFlow ports are allotted in `placement`).
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address
from typing import TypeVar
from uuid import UUID

from controller.model import names
from controller.model.dhcp import dhcp_port
from controller.model.filtering import Filters
from controller.model.gathering import Gathered, gather
from controller.model.holders import Grant, Holder, contested
from controller.model.neighbours import Neighbours
from controller.model.numbers import Numbers, number
from controller.model.objects import (
    Address,
    AddressPair,
    AllocationPool,
    DhcpPort,
    FloatingIp,
    Host,
    Network,
    Port,
    Prefix,
    Route,
    Router,
    RouterGateway,
    RouterInterface,
    RouterPort,
    SecurityGroup,
    SecurityRule,
    Subnet,
    Tunnel,
    Underlay,
    Vm,
)
from controller.model.whereabouts import Whereabouts

__all__ = [
    "Address",
    "AddressPair",
    "AllocationPool",
    "DhcpPort",
    "FloatingIp",
    "Host",
    "Network",
    "Port",
    "Prefix",
    "Route",
    "Router",
    "RouterGateway",
    "RouterInterface",
    "RouterPort",
    "SecurityGroup",
    "SecurityRule",
    "Subnet",
    "Topology",
    "Tunnel",
    "Underlay",
    "Vm",
    "port_device",
    "tunnel_overhead",
]
_T = TypeVar("_T")


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
        return {name: members.ports for name, members in self._gathered.by_network.items()}

    @cached_property
    def ports_by_host(self) -> Mapping[str, tuple[Port, ...]]:
        """Host name -> the ports of its VMs; hosts without VMs are absent."""
        return self._gathered.by_host

    @cached_property
    def _gathered(self) -> Gathered:
        return gather(self.vms.values())

    @cached_property
    def legs_by_router(self) -> Mapping[str, tuple[RouterPort, ...]]:
        """Router name -> its legs, the gateway last; routers without an interface have none and are absent."""
        found = ((router.name, self.legs_of(router)) for router in self.routers.values())
        return {name: legs for name, legs in found if legs}

    def legs_of(self, router: Router) -> tuple[RouterPort, ...]:
        """The same for one router, found anew."""
        legs = tuple(self._legs(router))
        return legs if not all(leg.outside for leg in legs) else ()

    @cached_property
    def legs_by_network(self) -> Mapping[str, tuple[RouterPort, ...]]:
        """Network name -> the legs on it; networks without one are absent."""
        return _grouped((leg.network, leg) for legs in self.legs_by_router.values() for leg in legs)

    @cached_property
    def legs_by_host(self) -> Mapping[str, tuple[RouterPort, ...]]:
        """Host name -> the legs of its routers; hosts without one are absent."""
        return _grouped((leg.host, leg) for legs in self.legs_by_router.values() for leg in legs)

    @cached_property
    def dhcp_by_network(self) -> Mapping[str, DhcpPort]:
        """Network name -> its DHCP server; networks that want none, or can have none, are absent."""
        hosts = list(self.hosts.values())
        found = ((network.name, dhcp_port(self.cloud, network, hosts)) for network in self.networks.values())
        return {name: port for name, port in found if port is not None}

    @cached_property
    def dhcp_by_host(self) -> Mapping[str, tuple[DhcpPort, ...]]:
        """Host name -> the DHCP servers there; hosts without one are absent."""
        return _grouped((port.host, port) for port in self.dhcp_by_network.values())

    def is_filtered(self, port: Port) -> bool:
        """Whether security groups say what a port may send and hear; one that lists none is free."""
        return self.firewall != "none" and bool(port.security_groups)

    @cached_property
    def filters(self) -> Filters:
        """What they say."""
        return Filters(self)

    @cached_property
    def neighbours(self) -> Neighbours:
        """Who is on a network, as the compilers see it."""
        return Neighbours(self, self._gathered.by_network)

    @cached_property
    def whereabouts(self) -> Whereabouts:
        """Who is where."""
        return Whereabouts(self)

    def _legs(self, router: Router) -> Iterator[RouterPort]:
        for index, interface in enumerate(router.interfaces):
            if isinstance(interface.ip, IPv4Address):
                yield RouterPort(
                    name=f"{router.name} on {interface.subnet}", path=f"routers.{router.name}.interfaces[{index}]",
                    id=interface.id, router=router.name, driver=router.driver, host=router.host,
                    network=self.subnets[interface.subnet].network, subnet=interface.subnet, ip=interface.ip,
                    mac=interface.mac, device=names.device(names.QR, interface.id), outside=False)
        gateway = router.gateway
        if gateway is not None and isinstance(gateway.ip, IPv4Address):
            subnet = self.subnet_of(gateway.network, gateway.ip)
            yield RouterPort(
                name=f"{router.name} on {subnet.name}", path=f"routers.{router.name}.gateway", id=gateway.id,
                router=router.name, driver=router.driver, host=router.host, network=gateway.network,
                subnet=subnet.name, ip=gateway.ip, mac=gateway.mac, device=names.device(names.QG, gateway.id),
                outside=True)

    def subnet_of(self, network: str, address: Address) -> Subnet:
        """The subnet of a network that an address is in. KeyError if there is none."""
        for subnet in self.networks[network].subnets:
            if address in subnet.cidr:
                return subnet
        raise KeyError(f"{address} is in no subnet of {network}")

    def fixed_port(self, floating_ip: FloatingIp) -> Port | None:
        """The VM's port that a floating IP stands for: its first IPv4 one on the network."""
        ports = self.vms[floating_ip.vm].ports
        return next((port for port in ports if port.network == floating_ip.network and port.ip.version == 4), None)

    @cached_property
    def floating_ips_by_router(self) -> Mapping[str, tuple[FloatingIp, ...]]:
        """Router name -> the floating IPs it translates: it has a gateway on the one side, and a leg on the other.

        Of several such routers it is the first whose leg is the subnet's gateway, as the answers leave by that one,
        else the first. Routers without one are absent.
        """
        pairs = ((self._translator(floating_ip), floating_ip) for floating_ip in self.floating_ips)
        return _grouped((router, floating_ip) for router, floating_ip in pairs if router is not None)

    def _translator(self, floating_ip: FloatingIp) -> str | None:
        fixed = self.fixed_port(floating_ip)
        if fixed is None or floating_ip.address.version != 4:
            return None
        outside = {leg.router for leg in self.legs_by_network.get(floating_ip.outside, ()) if leg.outside}
        inside = [leg for leg in self.legs_by_network.get(fixed.network, ())
                  if not leg.outside and leg.subnet == fixed.subnet and leg.router in outside]
        inside.sort(key=lambda leg: leg.ip != self.subnets[leg.subnet].gateway)
        return inside[0].router if inside else None

    @cached_property
    def contested_by_network(self) -> Mapping[str, frozenset[Address]]:
        """Network name -> the addresses of ports, legs and floating IPs on it that somebody else may claim, too.

        For the networks that routers are on.
        """
        return {name: self.contested_on(name) for name in self.legs_by_network}

    def contested_on(self, network: str) -> frozenset[Address]:
        """The same for one network, found anew."""
        return contested(self._holders(network), self._grants(network))

    def _holders(self, network: str) -> Iterator[Holder]:
        for port in self.ports_by_network.get(network, ()):
            yield Holder(port.ip, port.mac, port.id)
        for leg in self.legs_by_network.get(network, ()):
            yield Holder(leg.ip, leg.mac, leg.id)
            for floating_ip in self.floating_ips_by_router.get(leg.router, ()) if leg.outside else ():
                yield Holder(floating_ip.address, leg.mac, leg.id)

    def _grants(self, network: str) -> Iterator[Grant]:
        for port in self.ports_by_network.get(network, ()):
            for pair in port.allowed_address_pairs if port.port_security else ():
                yield Grant(pair.ip, pair.mac, port.id)

    @cached_property
    def numbers_by_host(self) -> Mapping[str, Numbers]:
        """Host name -> the numbers of its simulated routers; hosts without one are absent."""
        found = ((host, self.numbers_of(host)) for host in self.legs_by_host)
        return {host: numbers for host, numbers in found if numbers is not None}

    def numbers_of(self, host: str) -> Numbers | None:
        """The same for one host, found anew; None if no router is simulated there."""
        own = [leg for leg in self.legs_by_host.get(host, ()) if leg.driver == "simulated"]
        networks = {leg.network: None for leg in own}
        senders = [port.id for name in networks for port in self.ports_by_network.get(name, ())]
        senders += [leg.id for name in networks for leg in self.legs_by_network[name]]
        return number([self.routers[leg.router].id for leg in own], [leg.id for leg in own], senders) if own else None

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

    def mtu_of(self, network: str) -> int:
        """The largest packet on a network; on a physical one it needs no room for a tunnel's header."""
        return self.network_mtu if self.networks[network].physical_network is None else self.underlay.mtu

    def has_qbr(self) -> bool:
        """Whether a Linux bridge with iptables stands between tap and br-int (Neutron's hybrid plug)."""
        return self.firewall == "iptables_hybrid"


def _grouped(pairs: Iterable[tuple[str, _T]]) -> dict[str, tuple[_T, ...]]:
    found: dict[str, list[_T]] = {}
    for name, one in pairs:
        found.setdefault(name, []).append(one)
    return {name: tuple(ones) for name, ones in found.items()}


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
