"""Attacks on one's own network: to pass for somebody else, or for a server that others trust. No I/O."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from controller.host import forging
from controller.host.forging import ALL_NODES, End
from controller.host.hostile import Place
from controller.tools.attacks import NOBODY_IP, Attack, Scene, forged_macs
from flows.port_security import link_local

_PORTS: Final = (6666, 6666)  # UDP
_ALL_NODES: Final = End("33:33:00:00:00:01", ALL_NODES)  # RFC 2464, 7
_NO_ADDRESS: Final = IPv4Address(0)
_CLIENT, _SERVER = forging.DHCP_CLIENT, forging.DHCP_SERVER
_CLIENT6, _SERVER6 = forging.DHCP6_CLIENT, forging.DHCP6_SERVER
_STARVING: Final = 200  # addresses that are asked for
_ADVERTISE: Final = 2  # RFC 8415, 7.3


def mac(scene: Scene) -> Attack:
    """Frames that wear the MAC of a neighbour, of nobody, and of the gateway."""
    what = "frames from other MACs: a neighbour's, the gateway's, nobody's"
    wears = [one for one in (scene.victim.mac, scene.gateway.mac if scene.gateway else "", *forged_macs(1))
             if one and not scene.owns(one, scene.port.ip)]
    frames = tuple(forging.udp(End(one, scene.port.ip), to, _PORTS, scene.token(number).bytes)
                   for number, one in enumerate(wears) for to in _targets(scene))
    return Attack("mac-spoofing", what, frames)


def ip(scene: Scene) -> Attack:
    """Packets with the address of a neighbour, of the gateway and of nobody; of IPv6, too."""
    what = "packets from other addresses: a neighbour's, the gateway's, nobody's; IPv4 and IPv6"
    shows = [one for one in (scene.victim.ip, scene.gateway.ip if scene.gateway else None, NOBODY_IP)
             if one is not None and one.version == scene.port.ip.version and not scene.owns(scene.port.mac, one)]
    frames = [forging.udp(End(scene.port.mac, one), to, _PORTS, scene.token(number).bytes)
              for number, one in enumerate(shows) for to in _targets(scene)]
    other = End(scene.port.mac, link_local(scene.victim.mac))
    if not scene.owns(scene.port.mac, other.ip):
        frames.append(forging.udp(other, _ALL_NODES, _PORTS, scene.token(9).bytes))
    return Attack("ip-spoofing", what, tuple(frames)) if frames else _all_allowed("ip-spoofing")


def arp(scene: Scene) -> Attack:
    """To tell everybody, by request and by reply, that a neighbour's address is here."""
    name, liar = "arp-spoofing", End(scene.port.mac, scene.victim.ip)
    if scene.port.ip.version != 4:
        return Attack(name, "its network speaks no ARP: the VM has an IPv6 address")
    if scene.owns(*_pair(liar)):
        return _all_allowed(name)
    return Attack(name, "ARP that says a neighbour's address is here", tuple(_claims(scene, liar)))


def gateway(scene: Scene) -> Attack:
    """Gratuitous ARP for the gateway: everybody's way out would lead here."""
    name = "gateway-arp"
    address = scene.topology.subnets[scene.port.subnet].gateway
    if address is None or address.version != 4:
        return Attack(name, "its subnet has no IPv4 gateway")
    liar = End(scene.port.mac, address)
    if scene.owns(*_pair(liar)):
        return _all_allowed(name)
    return Attack(name, "gratuitous ARP for the gateway's address", tuple(_claims(scene, liar)))


def _claims(scene: Scene, liar: End) -> Iterator[bytes]:
    nobody = End("00:00:00:00:00:00", liar.ip)
    yield forging.arp(forging.ARP_REQUEST, liar, nobody, (scene.port.mac, forging.BROADCAST), scene.token(0))
    yield forging.arp(forging.ARP_REPLY, liar, liar, (scene.port.mac, forging.BROADCAST), scene.token(1))
    for to in _targets(scene):
        yield forging.arp(forging.ARP_REPLY, liar, End(to.mac, scene.port.ip), (scene.port.mac, to.mac), scene.token(2))
    elsewhere = End(next(forged_macs(1)), scene.port.ip)  # its own address, at another MAC than the frame wears
    yield forging.arp(forging.ARP_REPLY, elsewhere, liar, (scene.port.mac, forging.BROADCAST), scene.token(3))


def discovery(scene: Scene) -> Attack:
    """The same in IPv6: advertisements of a neighbour's address, and questions in its name."""
    name, theirs = "nd-spoofing", link_local(scene.victim.mac)
    if scene.owns(scene.port.mac, theirs):
        return _all_allowed(name)
    frames = [forging.discovery(scene.me6, _ALL_NODES, forging.ADVERTISEMENT, theirs, scene.token(0)),
              forging.discovery(End(scene.port.mac, theirs), _ALL_NODES, forging.ADVERTISEMENT, theirs,
                                scene.token(1)),
              forging.discovery(End(scene.port.mac, theirs), _ALL_NODES, forging.SOLICITATION, scene.own6,
                                scene.token(2))]
    if isinstance(scene.victim.ip, IPv6Address):
        frames.append(forging.discovery(scene.me6, _ALL_NODES, forging.ADVERTISEMENT, scene.victim.ip, scene.token(3)))
    return Attack(name, "neighbour advertisements of a neighbour's IPv6 address", tuple(frames))


def dhcp_server(scene: Scene) -> Attack:
    """Offers and acknowledgements: whoever asks for an address would get this server's, and this router."""
    frames = [forging.udp(scene.me6, _ALL_NODES, (_SERVER6, _CLIENT6), bytes([_ADVERTISE]) + scene.token(0).bytes)]
    if isinstance(scene.port.ip, IPv4Address):
        frames += [forging.udp(scene.me, to, (_SERVER, _CLIENT),
                               forging.dhcp(kind, scene.victim.mac, scene.port.ip, scene.token(number)))
                   for number, kind in enumerate((forging.OFFER, forging.ACK), start=1) for to in _targets(scene)]
    return Attack("rogue-dhcp-server", "offers and acknowledgements of a DHCP server, DHCPv6 too", tuple(frames))


def router(scene: Scene) -> Attack:
    """Router advertisements and redirects: everybody's IPv6 would lead here."""
    frames = (forging.discovery(scene.me6, _ALL_NODES, forging.ROUTER_ADVERTISEMENT, None, scene.token(0)),
              forging.discovery(scene.me6, _ALL_NODES, forging.REDIRECT, scene.own6, scene.token(1)))
    return Attack("router-advertisement", "IPv6 router advertisements and redirects", frames)


def starvation(scene: Scene) -> Attack:
    """To ask for every address there is, half of the times from a MAC of its own making. None may be offered."""
    if scene.port.ip.version != 4:
        return Attack("dhcp-starvation", "its subnet is IPv6")

    def frame(number: int, client: str) -> bytes:
        asker = End(client if number % 2 else scene.port.mac, _NO_ADDRESS)
        return forging.udp(asker, scene.everybody, (_CLIENT, _SERVER),
                           forging.dhcp(forging.DISCOVER, client, _NO_ADDRESS, scene.token(number)))

    def is_breach(place: Place, frame: bytes) -> bool:
        """A server's answer at the attacker's card; or a question from a forged MAC, anywhere."""
        if place.name == scene.port.name:
            return forging.is_offer(frame, scene.run)
        return frame[6:12] != bytes.fromhex(scene.port.mac.replace(":", ""))

    frames = tuple(frame(number, client) for number, client in enumerate(forged_macs(_STARVING)))
    return Attack("dhcp-starvation", f"questions for an address in the name of {_STARVING} made-up MACs", frames,
                  count=_STARVING, is_breach=is_breach, answers=True)


def _targets(scene: Scene) -> tuple[End, ...]:
    """Everybody, and a neighbour."""
    if scene.port.ip.version == 6:
        return _ALL_NODES, scene.victim
    return scene.everybody, scene.victim


def _pair(end: End) -> tuple[str, IPv4Address | IPv6Address]:
    return end.mac, end.ip


def _all_allowed(name: str) -> Attack:
    return Attack(name, "its allowed address pairs let it use every address that could be tried")


SPOOFING: Final[tuple[Callable[[Scene], Attack], ...]] = (
    mac, ip, arp, gateway, discovery, dhcp_server, router, starvation)
