"""The routers of a host as namespaces: what a topology wants of each.

A simulated router has none, but is described by the same value, so that it can be shown as if it had.
"""
from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network, ip_interface

from controller.host import nat
from controller.host.devices import MARK, NAMESPACE_LABEL, Leg, Namespace
from controller.model import names
from controller.model.topology import Router, RouterPort, Topology

NAMESPACE = "namespace"  # the driver

# What Neutron sets, and no IPv6: the drivers route IPv4. A leg answers ARP for its own addresses alone (arp_ignore),
# and an address that goes does not take along the others of its subnet (promote_secondaries).
SYSCTLS = ("net/ipv6/conf/all/disable_ipv6=1", "net/ipv6/conf/default/disable_ipv6=1",
           "net/ipv4/ip_forward=1", "net/ipv4/conf/all/arp_ignore=1", "net/ipv4/conf/all/arp_announce=2",
           "net/ipv4/conf/all/promote_secondaries=1", "net/ipv4/conf/all/rp_filter=0",
           "net/ipv4/conf/default/rp_filter=0", "net/netfilter/nf_conntrack_tcp_be_liberal=1")


def namespaces(topology: Topology, host: str, *, software_checksums: bool) -> tuple[Namespace, ...]:
    """The namespaces of a host: one for each of its routers that has an interface and this driver."""
    return tuple(namespace(topology, router, software_checksums=software_checksums)
                 for router in topology.routers.values()
                 if router.host == host and router.driver == NAMESPACE and router.name in topology.legs_by_router)


def namespace(topology: Topology, router: Router, *, software_checksums: bool = False) -> Namespace:
    """A router as a namespace; without legs if it has no interface."""
    legs = topology.legs_by_router.get(router.name, ())
    floating = {str(one.address): str(fixed.ip) for one in topology.floating_ips_by_router.get(router.name, ())
                if (fixed := topology.fixed_port(one)) is not None}
    gateway = next((leg for leg in legs if leg.outside), None)
    outside = None
    if gateway is not None and router.gateway is not None:
        outside = nat.Outside(gateway.device, str(gateway.ip), router.gateway.snat, floating)
    return Namespace(
        name=names.qrouter(router.id), owner=f"router {router.name}",
        legs=tuple(_leg(topology, leg, tuple(floating) if leg.outside else ()) for leg in legs),
        routes=tuple(_routes(topology, router)), rules=nat.rules(outside), sysctls=SYSCTLS,
        software_checksums=software_checksums)


def _leg(topology: Topology, leg: RouterPort, floating: tuple[str, ...]) -> Leg:
    length = topology.subnets[leg.subnet].cidr.prefixlen
    labels = (("iface-id", str(leg.id)), ("attached-mac", leg.mac), ("iface-status", "active"),
              (MARK, topology.cloud), (NAMESPACE_LABEL, names.qrouter(topology.routers[leg.router].id)))
    return Leg(leg.device, leg.mac, topology.mtu_of(leg.network),
               (f"{leg.ip}/{length}", *(f"{address}/32" for address in floating)), labels)


def _routes(topology: Topology, router: Router) -> Iterator[str]:
    legs = topology.legs_by_router.get(router.name, ())
    for route in router.routes:
        leg = next((leg for leg in legs if route.nexthop in topology.subnets[leg.subnet].cidr), None)
        if leg is not None:
            yield f"{_destination(str(route.destination))} via {route.nexthop} dev {leg.device} proto static"
    for leg in legs:
        subnet = topology.subnets[leg.subnet]
        if leg.outside and subnet.gateway is not None:
            if subnet.gateway not in subnet.cidr:
                yield f"{subnet.gateway} dev {leg.device} proto static scope link"
            yield f"default via {subnet.gateway} dev {leg.device} proto static"


def _destination(prefix: str) -> str:
    """As `ip route` writes it."""
    return "default" if prefix == "0.0.0.0/0" else prefix.removesuffix("/32")


# What `ip` would print in the namespace.

def ip_route(router: Namespace) -> str:
    """As `ip route`: static routes, and those that come with the addresses, in the order of the kernel's table."""
    connected = [f"{one.network} dev {leg.name} proto kernel scope link src {one.ip}"
                 for leg in router.legs for one in map(IPv4Interface, leg.addresses) if one.network.prefixlen < 32]
    return "".join(f"{line} \n" for line in sorted([*router.routes, *connected], key=_place))


def _place(line: str) -> tuple[int, int]:
    destination = line.split()[0]
    prefix = IPv4Network("0.0.0.0/0" if destination == "default" else destination)
    return int(prefix.network_address), -prefix.prefixlen


def ip_address(router: Namespace) -> str:
    """As `ip address`, as far as it is about addresses."""
    lines = ["1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000",
             "    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00",
             "    inet 127.0.0.1/8 scope host lo", "       valid_lft forever preferred_lft forever"]
    for number, leg in enumerate(router.legs, start=2):
        lines += [f"{number}: {leg.name}: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu {leg.mtu} qdisc noqueue state UP "
                  "group default qlen 1000", f"    link/ether {leg.mac} brd ff:ff:ff:ff:ff:ff"]
        for address in leg.addresses:
            lines += [f"    inet {address}{_broadcast(address)} scope global {leg.name}",
                      "       valid_lft forever preferred_lft forever"]
    return "\n".join([*lines, ""])


def _broadcast(address: str) -> str:
    network = ip_interface(address).network
    return f" brd {network.broadcast_address}" if network.prefixlen < 31 else ""
