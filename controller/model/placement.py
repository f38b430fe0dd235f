"""From a topology to one `flows.host.Host` per hypervisor: every number of a host is allotted here.

Local VLANs belong to a host, not to the cloud. What the switch already uses is kept (`Seen.vlans`), so that
neither a restart nor an edit moves a network that works.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from itertools import chain
from typing import Final

from controller.model import names, routing, securing
from controller.model.neighbours import Ends
from controller.model.topology import Host, Network, Port, Topology
from flows import host as narrow
from flows.neighbours import Elsewhere

FIRST_VLAN: Final = 1
LAST_VLAN: Final = 4094  # 4095 is reserved (IEEE 802.1Q, table 9-2)
UPLINK: Final = "uplink"  # stands for the network cards of a provider bridge that nobody has looked at


class VlansExhausted(Exception):
    """A host carries more networks than there are VLANs."""


@dataclass(frozen=True)
class Seen:
    """What a host's switches say of themselves."""

    ports: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # bridge -> port name -> OpenFlow port
    vlans: Mapping[str, int] = field(default_factory=dict)  # network name -> local VLAN in use

    def ofport(self, bridge: str, device: str) -> int | None:
        """The OpenFlow port of a device, None while the bridge does not have it."""
        return self.ports.get(bridge, {}).get(device)


def carried(topology: Topology, host: str) -> list[Network]:
    """The networks that a host carries, by name: a VM, a leg of a router or a DHCP server of it is on them."""
    return [topology.networks[name] for name in topology.whereabouts.carried(host)]


def carriers(topology: Topology, network: str) -> list[str]:
    """The hosts that carry a network, by name."""
    return list(topology.whereabouts.carriers(network))


def simulated(topology: Topology, host: str) -> list[str]:
    """The routers that this host's switch and the controller simulate, by name."""
    return sorted({leg.router for leg in topology.legs_by_host.get(host, ()) if leg.driver == "simulated"})


def allot_vlans(wanted: Iterable[str], kept: Mapping[str, int]) -> dict[str, int]:
    """Network name -> local VLAN: what is in use stays, the rest gets the lowest free ones in the order given.

    A VLAN that is in use for a network that is not wanted any more comes last: a host's two bridges are not written in
    the same instant, and frames of the old network must not meet the new one between the two. VlansExhausted when
    more than 4094 networks want one.
    """
    wanted = list(wanted)
    allotted: dict[str, int] = {}
    taken: set[int] = set()
    for name in wanted:
        vlan = kept.get(name, 0)
        if FIRST_VLAN <= vlan <= LAST_VLAN and vlan not in taken:
            allotted[name] = vlan
            taken.add(vlan)
    leaving = set(kept.values()) - taken
    unused = (vlan for vlan in range(FIRST_VLAN, LAST_VLAN + 1) if vlan not in taken and vlan not in leaving)
    free = chain(unused, sorted(leaving))
    for name in wanted:
        if name not in allotted:
            try:
                allotted[name] = next(free)
            except StopIteration:
                raise VlansExhausted(f"{len(wanted)} networks on one host, but only {LAST_VLAN} VLANs") from None
    return allotted


def imagined(topology: Topology, host: str) -> Seen:
    """The numbers a host would have if it had just been built: for `flows --intended`, where no switch is asked."""
    own = topology.ports_by_host.get(host, ())
    legs = [leg for leg in topology.legs_by_host.get(host, ()) if leg.driver == "namespace"]
    bridges = topology.hosts[host].bridge_mappings.values()
    ends = topology.neighbours.ends
    tunnels = [device for other, device in zip(ends.hosts, ends.devices, strict=True) if other != host]
    devices = {
        "br-int": [names.PATCH_TUN, *sorted(port.device for port in own), *sorted(leg.device for leg in legs),
                   *map(names.int_device, bridges),
                   *sorted(server.device for server in topology.dhcp_by_host.get(host, ()))],
        "br-tun": [names.PATCH_INT, *tunnels, names.STRANGERS],
        **{bridge: [names.phy_device(bridge), UPLINK] for bridge in bridges}}
    return Seen(ports={bridge: {device: n for n, device in enumerate(found, start=1)}
                       for bridge, found in devices.items()},
                vlans=allot_vlans((network.name for network in carried(topology, host)), {}))


def prepare(topology: Topology, hosts: Iterable[str] | None = None) -> None:
    """Find what placing these hosts looks up (None: any host), before a switch waits for it."""
    for network in topology.networks:
        topology.neighbours.of(network).find()
        topology.neighbours.ends_on(network)
    for host in topology.hosts if hosts is None else hosts:
        topology.whereabouts.carried(host)


def place(topology: Topology, host: str, seen: Seen) -> narrow.Host:
    """The compilers' view of a host. Ports that the switch does not have yet are left out."""
    networks = (place_network(topology, host, network.name, seen) for network in carried(topology, host))
    routers = (place_router(topology, host, router, seen) for router in simulated(topology, host))
    return replace(place_bare(topology, host, seen), networks=tuple(networks), routers=tuple(routers))


def place_bare(topology: Topology, host: str, seen: Seen, *, base: bool = True) -> narrow.Host:
    """A host without its networks and routers: what the base flows, and each network's, need to know of it.

    `base`: whether the base flows are wanted, too; only they ask for all tunnels.
    """
    return narrow.Host(
        name=host,
        patch_tun=seen.ofport("br-int", names.PATCH_TUN),
        patch_int=seen.ofport("br-tun", names.PATCH_INT),
        tunnel_type=topology.tunnel.type,
        tunnels=place_tunnels(topology, host, seen) if base else narrow.Tunnels(),
        networks=(),
        l2population=topology.forwarding == "l2population",
        arp_responder=topology.arp_responder,
        mac_aging_time=topology.mac_aging_time,
        providers=tuple(place_provider(bridge, seen) for bridge in topology.hosts[host].bridge_mappings.values()),
        firewall=topology.firewall, strangers=seen.ofport("br-tun", names.STRANGERS))


def place_provider(bridge: str, seen: Seen) -> narrow.ProviderBridge:
    """A provider bridge: beside its patch port and the bridge's own interface, everything on it leads outside."""
    phy = names.phy_device(bridge)
    uplinks = [ofport for device, ofport in seen.ports.get(bridge, {}).items() if device not in (bridge, phy)]
    return narrow.ProviderBridge(
        name=bridge, int_port=seen.ofport("br-int", names.int_device(bridge)), phy_port=seen.ofport(bridge, phy),
        uplinks=tuple(sorted(uplinks)), local=seen.ofport(bridge, bridge))


def place_router(topology: Topology, host: str, router: str, seen: Seen) -> narrow.SimulatedRouter:
    """A simulated router, which must be one of this host's. KeyError if a network of it has no VLAN yet."""
    legs = topology.legs_by_router.get(router, ())
    if not any(leg.host == host and leg.driver == "simulated" for leg in legs):
        raise ValueError(f"router {router} is not simulated on host {host}")
    return routing.place_router(topology, router, seen.vlans)


def place_tunnels(topology: Topology, host: str, seen: Seen) -> narrow.Tunnels:
    """The tunnels to all other hosts, by the name of these, as far as the switch has them."""
    return _tunnels(topology.neighbours.ends, host, seen)


def _tunnels(ends: Ends, host: str, seen: Seen) -> narrow.Tunnels:
    found = list(map(seen.ports.get("br-tun", {}).get, ends.devices))
    if host in ends.hosts:
        found[ends.hosts.index(host)] = None  # whatever is called so, it is no tunnel to another host
    return narrow.Tunnels(ends.hosts, found)


def place_network(topology: Topology, host: str, network: str, seen: Seen) -> narrow.Network:
    """One network as a host carries it."""
    item = topology.networks[network]
    overlaid = item.tunnel_id is not None
    return narrow.Network(network, f"networks.{network}", seen.vlans[network], item.tunnel_id,
                          tuple(_ports(topology, host, network, seen)),
                          _tunnels(topology.neighbours.ends_on(network), host, seen) if overlaid else narrow.Tunnels(),
                          Elsewhere(topology.neighbours.of(network), host),
                          tuple(_devices(topology, host, network, seen)),
                          _segment(topology, host, network, seen),
                          *securing.place_groups(topology, host, network))


def _ports(topology: Topology, host: str, network: str, seen: Seen) -> Iterator[narrow.Port]:
    """The VMs' ports on a network that the host's switch has."""
    ofports = seen.ports.get("br-int", {})
    for port in topology.whereabouts.ports(host).get(network, ()):
        if (ofport := ofports.get(port.device)) is not None:
            yield narrow.Port(port.name, port.path, ofport, port.mac, identities(port),
                              securing.place_filter(topology, port))


def _devices(topology: Topology, host: str, network: str, seen: Seen) -> Iterator[narrow.Device]:
    """The host's own on a network: legs of routers in namespaces, then a DHCP server."""
    legs = [leg for leg in topology.legs_by_network.get(network, ()) if leg.driver == "namespace"]
    server = topology.dhcp_by_network.get(network)
    for one in (*legs, *([server] if server else ())):
        if one.host == host and (ofport := seen.ofport("br-int", one.device)) is not None:
            yield narrow.Device(one.name, one.path, ofport, one.mac)


def _segment(topology: Topology, host: str, network: str, seen: Seen) -> narrow.Segment | None:
    item = topology.networks[network]
    if item.physical_network is None:
        return None
    bridge = topology.hosts[host].bridge_mappings[item.physical_network]
    return narrow.Segment(place_provider(bridge, seen), item.segmentation_id)


def tunnel_device(topology: Topology, other: Host) -> str:
    """The name of the tunnel port to another host."""
    return topology.whereabouts.tunnels[other.name]


def identities(port: Port) -> tuple[narrow.Identity, ...]:
    """Who a port may say that it is: itself, and its allowed address pairs; one identity per MAC."""
    if not port.port_security:
        return ()
    own = int(port.ip), port.ip.max_prefixlen
    may: dict[str, list[narrow.Prefix]] = {port.mac: [IPv4Network(own) if port.ip.version == 4 else IPv6Network(own)]}
    for pair in port.allowed_address_pairs:
        addresses = may.setdefault(pair.mac, [])
        if pair.ip not in addresses:
            addresses.append(pair.ip)
    return tuple(narrow.Identity(mac, tuple(addresses)) for mac, addresses in may.items())
