"""The DHCP of a host's networks: what a topology wants of each, as a namespace with a dnsmasq in it.

Only those ports get an address that are in the topology, each its own, by its MAC: there is no pool to drain. dnsmasq
answers no name queries (port=0): with every lease goes the list of name servers that the file gives.
"""
from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from controller.host import dnsmasq
from controller.host.devices import MARK, NAMESPACE_LABEL, Dnsmasq, Leg, Namespace
from controller.model import names
from controller.model.topology import Address, DhcpPort, Subnet, Topology

LEASE_SECONDS: Final = 86400  # Neutron's default; a client asks again after half of it
_ADVERTISE_SECONDS: Final = 60
_SHORTEST_V6: Final = 64  # dnsmasq serves no shorter prefix

_QUIET: Final = ("net/ipv6/conf/all/disable_ipv6=1", "net/ipv6/conf/default/disable_ipv6=1")
# Advertisements are sent here, never heard, and an address that the topology vouches for is used at once.
_SPEAKING: Final = ("net/ipv6/conf/all/disable_ipv6=0", "net/ipv6/conf/default/disable_ipv6=0",
                    "net/ipv6/conf/default/accept_ra=0", "net/ipv6/conf/default/accept_dad=0")
SYSCTLS: Final = ("net/ipv4/ip_forward=0", "net/ipv4/conf/all/arp_ignore=1", "net/ipv4/conf/all/promote_secondaries=1")


def namespaces(topology: Topology, host: str) -> tuple[Namespace, ...]:
    """The namespaces of a host: one for each network whose DHCP it serves."""
    return tuple(namespace(topology, port) for port in topology.dhcp_by_host.get(host, ()))


def namespace(topology: Topology, port: DhcpPort) -> Namespace:
    """A network's DHCP as a namespace.

    Checksums are always computed before a packet leaves: there are clients that read replies past their kernel, and
    drop one whose checksum is left to the hardware of a veth.
    """
    name = names.qdhcp(topology.networks[port.network].id)
    subnets = [(topology.subnets[subnet], address) for subnet, address in port.addresses]
    labels = (("iface-id", str(port.id)), ("attached-mac", port.mac), ("iface-status", "active"),
              (MARK, topology.cloud), (NAMESPACE_LABEL, name))
    leg = Leg(port.device, port.mac, topology.mtu_of(port.network),
              tuple(f"{address}/{subnet.cidr.prefixlen}" for subnet, address in subnets), labels)
    speaks = any(address.version == 6 for _, address in subnets)
    return Namespace(name, port.name, (leg,), (), (), (*(_SPEAKING if speaks else _QUIET), *SYSCTLS),
                     software_checksums=True, dnsmasq=_dnsmasq(topology, port, name))


def _dnsmasq(topology: Topology, port: DhcpPort, name: str) -> Dnsmasq:
    subnets = [topology.subnets[subnet] for subnet, _ in port.addresses]
    served = {subnet.name for subnet in subnets}
    clients = sorted((one for one in topology.ports_by_network.get(port.network, ()) if one.subnet in served),
                     key=lambda one: (one.ip.version, int(one.ip), one.mac))
    return Dnsmasq(
        config=tuple(_config(topology, port, name, subnets)),
        hosts=tuple(f"{one.mac},{_hostname(one.ip)},{_bracketed(one.ip)}" for one in clients),
        options=tuple(line for subnet in subnets for line in _options(subnet)),
        guard=dnsmasq.GUARD)


def _config(topology: Topology, port: DhcpPort, name: str, subnets: list[Subnet]) -> Iterator[str]:
    mtu = topology.mtu_of(port.network)
    yield from ("port=0", "no-hosts", "no-resolv", "no-ping", "quiet-dhcp", "quiet-dhcp6", "quiet-ra")
    yield from (f"interface={port.device}", "except-interface=lo", "bind-interfaces")
    yield from dnsmasq.own_files(name)
    # It is the network's only server, so what it does not know is wrong, and is told so at once.
    yield from ("dhcp-authoritative", f"dhcp-option-force=option:mtu,{mtu}")
    for subnet in subnets:
        if isinstance(subnet.cidr, IPv4Network):
            yield (f"dhcp-range={_set(subnet)},{subnet.cidr.network_address},static,{subnet.cidr.netmask},"
                   f"{LEASE_SECONDS}s")
        elif subnet.cidr.prefixlen >= _SHORTEST_V6:
            yield f"dhcp-range={_set(subnet)},{subnet.cidr.network_address},static,{subnet.cidr.prefixlen}," \
                  f"{LEASE_SECONDS}s"
    if any(isinstance(subnet.cidr, IPv6Network) for subnet in subnets):
        # The word that addresses come from DHCPv6, and the prefix; lifetime 0: this is no router.
        yield from ("enable-ra", f"ra-param={port.device},mtu:{mtu},{_ADVERTISE_SECONDS},0")


def _options(subnet: Subnet) -> Iterator[str]:
    servers = [address for address in subnet.dns if address.version == subnet.cidr.version]
    if isinstance(subnet.cidr, IPv6Network):
        if servers:
            yield f"{_tag(subnet)},option6:dns-server,{','.join(f'[{address}]' for address in servers)}"
        return
    # Without a value an option is not sent: dnsmasq would name itself as the router.
    yield ",".join((_tag(subnet), "option:router", *([str(subnet.gateway)] if subnet.gateway else [])))
    if servers:
        yield ",".join((_tag(subnet), "option:dns-server", *map(str, servers)))
    routes = [f"{route.destination},{route.nexthop}" for route in subnet.host_routes]
    if routes:
        # RFC 3442: who reads this option ignores the router's. 249 is how Windows calls it.
        routes += [f"0.0.0.0/0,{subnet.gateway}"] if subnet.gateway else []
        yield from (",".join((_tag(subnet), option, *routes)) for option in ("option:classless-static-route", "249"))


def _set(subnet: Subnet) -> str:
    return f"set:subnet-{subnet.id}"


def _tag(subnet: Subnet) -> str:
    return f"tag:subnet-{subnet.id}"


def _hostname(address: Address) -> str:
    """As Neutron calls a port that has no name: `host-10-0-1-11`."""
    return "host-" + str(address).replace(".", "-").replace("::", "--").replace(":", "-")


def _bracketed(address: Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)
