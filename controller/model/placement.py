"""From a topology to one `flows.host.Host` per hypervisor: every number of a host is allotted here.

Local VLANs belong to a host, not to the cloud. What the switch already uses is kept (`Seen.vlans`), so that
neither a restart nor an edit moves a network that works.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Final

from controller.model import names
from controller.model.topology import Host, Network, Port, Topology
from flows import host as narrow

FIRST_VLAN: Final = 1
LAST_VLAN: Final = 4094  # 4095 is reserved (IEEE 802.1Q, table 9-2)


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
    """The networks that a host carries, by name: those with a port on it."""
    mine = {port.network for port in topology.ports_by_host.get(host, ())}
    return [topology.networks[name] for name in sorted(mine) if topology.networks[name].tunnel_id is not None]


def carriers(topology: Topology, network: str) -> list[str]:
    """The hosts that carry a network, by name."""
    return sorted({port.host for port in topology.ports_by_network.get(network, ())})


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
    free = iter([vlan for vlan in range(FIRST_VLAN, LAST_VLAN + 1) if vlan not in taken | leaving] + sorted(leaving))
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
    br_int = [names.PATCH_TUN, *sorted(port.device for port in own)]
    br_tun = [names.PATCH_INT, *(tunnel_device(topology, other) for other in _others(topology, host))]
    return Seen(ports={"br-int": {device: n for n, device in enumerate(br_int, start=1)},
                       "br-tun": {device: n for n, device in enumerate(br_tun, start=1)}},
                vlans=allot_vlans((network.name for network in carried(topology, host)), {}))


def place(topology: Topology, host: str, seen: Seen) -> narrow.Host:
    """The compilers' view of a host. Ports that the switch does not have yet are left out."""
    networks = (place_network(topology, host, network.name, seen) for network in carried(topology, host))
    return replace(place_bare(topology, host, seen), networks=tuple(networks))


def place_bare(topology: Topology, host: str, seen: Seen) -> narrow.Host:
    """A host without its networks: what the base flows, and each network's, need to know of it."""
    tunnels = place_tunnels(topology, host, seen)
    return narrow.Host(
        name=host,
        patch_tun=seen.ofport("br-int", names.PATCH_TUN),
        patch_int=seen.ofport("br-tun", names.PATCH_INT),
        tunnel_type=topology.tunnel.type,
        tunnels=tuple(tunnels.values()),
        networks=(),
        l2population=topology.forwarding == "l2population",
        arp_responder=topology.arp_responder,
        mac_aging_time=topology.mac_aging_time)


def place_tunnels(topology: Topology, host: str, seen: Seen) -> dict[str, narrow.Tunnel]:
    """Remote host -> the tunnel to it, for those that the switch has."""
    found = {}
    for other in _others(topology, host):
        ofport = seen.ofport("br-tun", tunnel_device(topology, other))
        if ofport is not None:
            found[other.name] = narrow.Tunnel(other.name, f"hosts.{other.name}", ofport)
    return found


def place_network(topology: Topology, host: str, network: str, seen: Seen) -> narrow.Network:
    """One network as a host carries it."""
    tunnels = {}
    for name in carriers(topology, network):
        ofport = seen.ofport("br-tun", tunnel_device(topology, topology.hosts[name])) if name != host else None
        if ofport is not None:
            tunnels[name] = narrow.Tunnel(name, f"hosts.{name}", ofport)
    ports, neighbours = [], []
    for port in topology.ports_by_network.get(network, ()):
        if port.host != host:
            neighbours.append(_neighbour(port, tunnels.get(port.host)))
        elif (ofport := seen.ofport("br-int", port.device)) is not None:
            ports.append(narrow.Port(port.name, port.path, ofport, port.mac, _identities(port)))
    tunnel_id = topology.networks[network].tunnel_id
    if tunnel_id is None:
        raise ValueError(f"network {network} has no tunnel id, so no host carries it in the overlay")
    return narrow.Network(network, f"networks.{network}", seen.vlans[network], tunnel_id,
                          tuple(ports), tuple(tunnels.values()), tuple(neighbours))


def tunnel_device(topology: Topology, other: Host) -> str:
    """The name of the tunnel port to another host."""
    return names.tunnel_device(topology.tunnel.type, str(other.tunnel_ip))


def _others(topology: Topology, host: str) -> list[Host]:
    return [other for name, other in sorted(topology.hosts.items()) if name != host]


def _neighbour(port: Port, tunnel: narrow.Tunnel | None) -> narrow.Neighbour:
    also = {pair.mac: None for pair in port.allowed_address_pairs if port.port_security and pair.mac != port.mac}
    return narrow.Neighbour(name=port.name, origin=port.path, mac=port.mac, address=port.ip, remote=port.host,
                            tunnel=tunnel, secured=port.port_security, also=tuple(also))


def _identities(port: Port) -> tuple[narrow.Identity, ...]:
    """Who a port may say that it is: itself, and its allowed address pairs; one identity per MAC."""
    if not port.port_security:
        return ()
    may: dict[str, list[narrow.Prefix]] = {port.mac: [ip_network(port.ip)]}
    for pair in port.allowed_address_pairs:
        addresses = may.setdefault(pair.mac, [])
        if pair.ip not in addresses:
            addresses.append(pair.ip)
    return tuple(narrow.Identity(mac, tuple(addresses)) for mac, addresses in may.items())
