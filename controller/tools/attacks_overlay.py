"""Attacks on what keeps networks apart, and on what all share: tags, tunnels, tables, the controller. No I/O."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Final

from controller.host import forging
from controller.host.forging import DOT1AD, DOT1Q, Address, End
from controller.host.hostile import Place
from controller.host.underlay import br_phy_mac
from controller.model.topology import Port, RouterPort
from controller.tools.attacks import NOBODY_IP, Also, Attack, Breach, From, Scene, forged_macs

_FIRST_VLANS: Final = (1, 2, 3, 4, 5, 4094)  # that an attacker would try who knows how hosts number their networks
_FLOOD: Final = 3000  # frames
_FLOOD_RATE: Final = 4000.0  # a second
_SCANNED: Final = 24  # VMs of others that are tried
_OPEN_PORTS: Final = (22, 80, 443)
_FLOODED_MACS: Final = 3000
_PORTS: Final = (6666, 6666)  # UDP


def vlan(scene: Scene) -> Attack:
    """Frames that bring the local VLAN of another network along."""
    frames = [forging.tagged(inner, (kind, number)) for number in _vlans(scene) for kind in (DOT1Q, DOT1AD)
              for inner in _greetings(scene)]
    return Attack("vlan-tagging", "frames with a VLAN tag of their own, 802.1Q and 802.1ad", tuple(frames),
                  count=max(40, len(frames)))


def double_vlan(scene: Scene) -> Attack:
    """The same behind the tag of one's own network: a switch that takes off one tag would let out the other."""
    own = scene.vlans.get(scene.port.network, 1)
    frames = [forging.tagged(inner, (kind, own), (DOT1Q, number)) for number in _vlans(scene)
              for kind in (DOT1Q, DOT1AD) for inner in _greetings(scene)]
    return Attack("double-tagging", "frames with two VLAN tags: their own network's, then another's", tuple(frames),
                  count=max(40, len(frames)))


def _vlans(scene: Scene) -> list[int]:
    others = [number for network, number in scene.vlans.items() if network != scene.port.network]
    return list(dict.fromkeys([*others[:6], *_FIRST_VLANS]))


def _greetings(scene: Scene) -> Iterator[bytes]:
    """To everybody, and to a VM of another tenant."""
    yield forging.udp(scene.me, _all_of(scene), _PORTS, scene.token(0).bytes)
    other = next((port for port in scene.strangers if port.ip.version == scene.port.ip.version), None)
    if other is not None:
        yield forging.udp(scene.me, End(other.mac, other.ip), _PORTS, scene.token(1).bytes)


def _all_of(scene: Scene) -> End:
    return scene.everybody if scene.port.ip.version == 4 else End("33:33:00:00:00:01", forging.ALL_NODES)


# ---- tunnels

def tunnel_from_vm(scene: Scene) -> Attack:
    """A tunnel packet to every host, as if the VM were one: in it a frame for somebody on any network."""
    name, kind = "forged-tunnel", scene.topology.tunnel.type
    frames = []
    for host in scene.topology.hosts.values():
        if host.tunnel_ip.version != scene.port.ip.version:
            continue
        ways = [br_phy_mac(scene.topology.cloud, host.name), *([scene.gateway.mac] if scene.gateway else [])]
        frames += [frame for mac in ways for frame in _tunnelled(scene, scene.me, End(mac, host.tunnel_ip))]
    if not frames:
        return Attack(name, "the VM and the hosts have addresses of different IP versions")
    return Attack(name, f"{kind} packets from the VM to every host", tuple(frames), count=max(40, len(frames)),
                  is_breach=_unpacked())


def tunnel_from_stranger(scene: Scene) -> Attack:
    """The same from a machine on the underlay that is no host of the cloud."""
    kind, cidr = scene.topology.tunnel.type, scene.topology.underlay.cidr
    taken = {host.tunnel_ip for host in scene.topology.hosts.values()}
    free = next((ip_address(number) for number in range(int(cidr.broadcast_address) - 1, int(cidr.network_address), -1)
                 if ip_address(number) not in taken), None)
    if free is None:
        return Attack("tunnel-stranger", "the underlay has no free address for a stranger")
    me = End(next(forged_macs(1)), free)
    frames = [frame for host in scene.topology.hosts.values()
              for frame in _tunnelled(scene, me, End(br_phy_mac(scene.topology.cloud, host.name), host.tunnel_ip))]
    return Attack("tunnel-stranger", f"{kind} packets from {free}, which is no host of the cloud", tuple(frames),
                  count=max(60, len(frames)), source=From.UNDERLAY, is_breach=_unpacked(),
                  host=scene.neighbours[0].host if scene.neighbours else "")


def _tunnelled(scene: Scene, src: End, dst: End) -> Iterator[bytes]:
    """For each network with VMs a frame to everybody there, and to one of them."""
    port, kind = scene.topology.tunnel.port, scene.topology.tunnel.type
    inside = End(next(forged_macs(1)), NOBODY_IP)
    for number, (name, ports) in enumerate(scene.topology.ports_by_network.items()):
        tunnel_id = scene.topology.networks[name].tunnel_id
        if tunnel_id is None or number >= _SCANNED:
            continue
        for to in (scene.everybody, End(ports[0].mac, NOBODY_IP)):
            inner = forging.udp(inside, to, _PORTS, scene.token(number).bytes)
            yield forging.tunnelled(kind, tunnel_id, (src, dst), port, inner)


def _unpacked() -> Breach:
    """Whether the inner frame has come, and not the packet around it, which a router may bring to the world outside."""
    inner = bytes.fromhex(next(forged_macs(1)).replace(":", ""))

    def is_breach(_: Place, frame: bytes) -> bool:
        return frame[6:12] == inner
    return is_breach


# ---- others' networks

def scan(scene: Scene) -> Attack:
    """To try the VMs of others: by their MACs, by the gateway, by questions to all. Nothing may come there."""
    victims = [port for port in scene.strangers if port.ip.version == scene.port.ip.version][:_SCANNED]
    if not victims:
        return Attack("cross-tenant-scan", "no other network has VMs that it must not reach")
    frames = tuple(frame for number, port in enumerate(victims) for frame in _probes(scene, number, port))
    return Attack("cross-tenant-scan", f"ARP, pings and TCP to {len(victims)} VMs of others, by every way out", frames,
                  count=len(frames), is_breach=lambda place, _: scene.is_stranger(place))


def _probes(scene: Scene, number: int, port: Port) -> Iterator[bytes]:
    token, theirs = scene.token(number), End(port.mac, port.ip)
    ways = [port.mac, forging.BROADCAST, *([scene.gateway.mac] if scene.gateway else [])]
    for mac in dict.fromkeys(ways):
        yield forging.echo(scene.me, End(mac, port.ip), token)
        for open_port in _OPEN_PORTS:
            yield forging.tcp_syn(scene.me, End(mac, port.ip), (_PORTS[0], open_port), token)
    if port.ip.version == 4:
        yield forging.arp(forging.ARP_REQUEST, scene.me, theirs, (scene.port.mac, forging.BROADCAST), token)
        yield forging.arp(forging.ARP_REQUEST, scene.me, theirs, (scene.port.mac, port.mac), token)


# ---- what all share

def mac_flood(scene: Scene) -> Attack:
    """Frames from thousands of MACs, so that tables fill and what neighbours are known by falls out.

    Without port security the frames themselves are allowed; that they fill the tables is not.
    """
    frames = tuple(forging.udp(End(mac, scene.port.ip), _all_of(scene), _PORTS, scene.token(number).bytes)
                   for number, mac in enumerate(forged_macs(_FLOODED_MACS)))
    return Attack("mac-flood", f"frames from {_FLOODED_MACS} different MACs", frames, count=len(frames),
                  rate=_FLOOD_RATE, also=Also.LEARNED, is_breach=lambda *_: scene.port.port_security)


def packet_in_flood(scene: Scene) -> Attack:
    """Packets that a simulated router can but ask the daemon about: their time to live is over, or nobody is there."""
    leg = simulated_leg(scene)
    if leg is None:
        return Attack("packet-in-flood", "no simulated router has a leg on its network, so nothing asks the daemon")
    nobody = _nobody(scene, leg)
    frames = [forging.echo(scene.me, End(leg.mac, NOBODY_IP), scene.token(0), ttl=1)]
    frames += [forging.echo(scene.me, End(leg.mac, address), scene.token(0)) for address in nobody]
    return Attack("packet-in-flood", f"{_FLOOD} packets that only the daemon can answer", tuple(frames), count=_FLOOD,
                  rate=_FLOOD_RATE, is_breach=lambda *_: False, host=leg.host, also=Also.ASKED)


def simulated_leg(scene: Scene) -> RouterPort | None:
    """The leg of a simulated router on the attacker's network, if it speaks its IP version."""
    legs = scene.topology.legs_by_network.get(scene.port.network, ())
    return next((leg for leg in legs if leg.driver == "simulated" and not leg.outside
                 and scene.port.ip.version == 4), None)


def _nobody(scene: Scene, leg: RouterPort) -> Iterator[Address]:
    """Addresses behind the router that nobody has."""
    taken: set[IPv4Address | IPv6Address] = {port.ip for port in scene.topology.ports()}
    taken |= {one.ip for one in scene.topology.legs_by_router[leg.router]}
    for one in scene.topology.legs_by_router[leg.router]:
        cidr = scene.topology.subnets[one.subnet].cidr
        if one != leg and isinstance(cidr, IPv4Network):
            last = int(cidr.broadcast_address) - 1
            free = (IPv4Address(last - back) for back in range(min(40, cidr.num_addresses - 2)))
            yield from (address for address in free if address not in taken)


OVERLAY: Final[tuple[Callable[[Scene], Attack], ...]] = (
    vlan, double_vlan, tunnel_from_vm, tunnel_from_stranger, scan, mac_flood, packet_in_flood)
