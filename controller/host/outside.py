"""What lies outside a cloud, in the lab: the physical networks, and `internet` behind them.

`internet` is one node. Its own Open vSwitch has a learning switch for each physical network, with a trunk to every
hypervisor that needs it and a plug for each network of the cloud that lives there. Behind such a plug the node is the
gateway of the network's subnets, and everybody else in the world: whoever is called, it answers.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from controller.host import devices
from controller.host.devices import MARK, Bridge, Devices, FarEnd, Link, OvsPort
from controller.model import names
from controller.model.topology import Address, Host, Network, Subnet, Topology

# Whoever is called, it answers, but by ARP it speaks for its own addresses alone; and nobody has to wait for an error.
SYSCTLS = ("net/ipv4/ip_forward=0", "net/ipv4/conf/all/arp_ignore=1", "net/ipv4/conf/all/arp_announce=2",
           "net/ipv4/conf/all/rp_filter=0",
           "net/ipv4/conf/default/rp_filter=0", "net/ipv4/icmp_ratelimit=0",
           "net/ipv4/icmp_msgs_per_sec=1000000", "net/ipv4/icmp_msgs_burst=1000000")
PRIVATE = (IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16"))
# What is private (RFC 1918) is nobody's outside: a wrong address of a tenant must not seem to answer.
WORLD = ("link set dev lo up", "route replace local 0.0.0.0/0 dev lo table main",
         *(f"route replace blackhole {prefix}" for prefix in PRIVATE))

_TRUNK_MTU = 9216  # a physical network carries what its ends agree on
_DEVICE_CHARS = 15


@dataclass(frozen=True)
class Plug:
    """The node's interface on one network of the cloud."""

    interface: str
    mac: str
    mtu: int
    addresses: tuple[str, ...]  # the gateways of its subnets, with prefix length
    routes: tuple[str, ...]  # subnets whose gateway is not in them, as `ip route` takes them


@dataclass(frozen=True)
class Outside:
    """The node, beside the trunks, which the hypervisors' cards bring along."""

    name: str
    devices: Devices
    plugs: tuple[Plug, ...]
    serving: bool = True  # whether its web server runs


def outside(topology: Topology, name: str) -> Outside | None:
    """What the networks that are used need of the outside; None if all of them are in the overlay."""
    used = tuple(network for network in topology.networks.values() if network.physical_network is not None
                 and (network.name in topology.ports_by_network or network.name in topology.legs_by_network))
    if not used:
        return None
    physical = dict.fromkeys(network.physical_network for network in used if network.physical_network)
    bridges = tuple(Bridge(_switch(topology, one), "netdev", fail_mode="standalone") for one in physical)
    trunks = (OvsPort(_trunk(topology, host, one), _switch(topology, one))
              for host in topology.hosts.values() for one in host.bridge_mappings)
    plugs = tuple(OvsPort(_plug(network)[1], _switch(topology, network.physical_network or ""),
                          tag=network.segmentation_id or 0) for network in used)
    links = tuple(link for network in used for link in _pair(topology, network))
    return Outside(name, Devices(topology.cloud, bridges, (*trunks, *plugs), links),
                   tuple(_interface(topology, network) for network in used))


def cards(topology: Topology, host: Host, name: str) -> Iterator[Link]:
    """A hypervisor's network cards on the physical networks; `name` is the node outside."""
    for physical in host.bridge_mappings:
        yield Link(card(topology, physical), "veth", _TRUNK_MTU, far=FarEnd(name, _trunk(topology, host, physical)),
                   alias=f"{MARK}:{topology.cloud}")


def card(topology: Topology, physical: str) -> str:
    """The name of a hypervisor's network card on a physical network: `nic-external`."""
    return _short("nic-", physical, f"{topology.cloud}/nic")


def setting_up(plug: Plug) -> Iterator[str]:
    """The `ip` commands that make an interface the gateway of its networks."""
    yield f"address flush dev {plug.interface} scope global"
    yield f"link set dev {plug.interface} address {plug.mac} mtu {plug.mtu} up"
    yield from (f"address add {address} dev {plug.interface}" for address in plug.addresses)
    yield from (f"route replace {route}" for route in plug.routes)


def _pair(topology: Topology, network: Network) -> Iterator[Link]:
    near, far = _plug(network)
    mark, mtu = f"{MARK}:{topology.cloud}", topology.mtu_of(network.name)
    yield Link(near, "veth", mtu, peer=far, alias=mark)
    yield Link(far, "veth", mtu, peer=near, alias=mark)


def _interface(topology: Topology, network: Network) -> Plug:
    interface, _ = _plug(network)
    mac = names.mac_of(names.object_id(topology.cloud, f"networks/{network.name}/internet"))
    subnets = [subnet for subnet in network.subnets if _leads_outside(topology, subnet)]
    lengths = {subnet.name: subnet.cidr.prefixlen if subnet.gateway in subnet.cidr else 32 for subnet in subnets}
    return Plug(interface, mac, topology.mtu_of(network.name),
                tuple(f"{subnet.gateway}/{lengths[subnet.name]}" for subnet in subnets),
                tuple(f"{subnet.cidr} dev {interface} scope link" for subnet in subnets
                      if subnet.gateway not in subnet.cidr))


def _leads_outside(topology: Topology, subnet: Subnet) -> bool:
    """Not if a router or a VM of the cloud is the gateway."""
    inside: set[Address] = {leg.ip for leg in topology.legs_by_network.get(subnet.network, ())}
    inside |= {port.ip for port in topology.ports_by_network.get(subnet.network, ())}
    return subnet.cidr.version == 4 and subnet.gateway is not None and subnet.gateway not in inside


def _switch(topology: Topology, physical: str) -> str:
    return _short("sw-", physical, f"{topology.cloud}/switch")


def _trunk(topology: Topology, host: Host, physical: str) -> str:
    return names.device("to-", names.object_id(topology.cloud, f"hosts/{host.name}/physical_networks/{physical}"))


def _plug(network: Network) -> tuple[str, str]:
    """Both ends of the pair: the node's interface, and the switch's port."""
    return _short("gw-", network.name, str(network.id)), _short("pt-", network.name, str(network.id))


def _short(prefix: str, name: str, seed: str) -> str:
    """A device name that a person knows again, unless the name is too long for one."""
    return prefix + name if len(prefix + name) <= _DEVICE_CHARS else names.device(prefix, names.object_id(seed, name))


def from_json(value: Mapping[str, Any]) -> Outside:
    """What `plain` made of it, after a journey through a file."""
    plugs = (Plug(**{**plug, "addresses": tuple(plug["addresses"]), "routes": tuple(plug["routes"])})
             for plug in value["plugs"])
    return Outside(value["name"], devices.from_json(value["devices"]), tuple(plugs), value["serving"])
