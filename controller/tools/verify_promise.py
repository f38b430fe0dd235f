"""What the topology promises of frames, as sets of packets: it knows of no flow, table or VLAN.

Who may say what (port security), whose frames may come to whom on a network, and which must.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import Final

from controller.model.reachability import expected_pairs
from controller.model.topology import Address, DhcpPort, Network, Port, Prefix, RouterPort, Topology
from controller.model.walking import World
from flows import fields as f
from flows.headerspace import Literal, Region, region
from flows.prove import LARGE

Card = Port | RouterPort | DhcpPort
_UNTAGGED: Final = Literal(f.VLAN_VID.name, f.NO_VLAN, f.VLAN_VID.full)
_GROUP: Final = 1 << 40  # IEEE 802: the I/G bit
_NDP_FREE: Final = (133, 135, 143)  # RFC 4861, RFC 3810: asked before a host has an address


def literal(field: f.Field, value: f.Value, mask: f.Value | None = None) -> Literal:
    """`literal(IPV4_SRC, "10.0.0.0/24")`."""
    found = field(value, mask)
    return Literal(field.name, found.value, found.mask)


def _udp(source: int, target: int) -> tuple[Literal, ...]:
    return literal(f.IP_PROTO, f.UDP), literal(f.UDP_SRC, source), literal(f.UDP_DST, target)


def _icmpv6(kind: int) -> tuple[Literal, ...]:
    return literal(f.IP_PROTO, f.ICMPV6), literal(f.ICMPV6_TYPE, kind)


_ARP, _RARP, _IPV4, _IPV6 = (literal(f.ETH_TYPE, kind) for kind in (f.ARP, f.RARP, f.IPV4, f.IPV6))
_KINDS: Final = (_IPV4, _ARP, _IPV6)
_DHCP_SERVER, _DHCPV6_SERVER = _udp(67, 68), _udp(547, 546)
_ROUTER_ONLY: Final = (_DHCPV6_SERVER, _icmpv6(134), _icmpv6(137))
_ADVERTISES: Final = _icmpv6(f.ND_NEIGHBOR_ADVERTISEMENT)


def _regions(found: Iterable[Region | None]) -> tuple[Region, ...]:
    return tuple([one for one in found if one is not None])


class Promise:
    """Of one topology."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._wrong: dict[str, tuple[Region, ...]] = {}
        self._own: dict[str, tuple[Region, ...]] = {}
        self._must: dict[str, tuple[Region, ...]] = {}

    # ---- what a card may say

    def says(self, port: Port) -> tuple[Region, ...]:
        """All frames that a VM's port may send as far as port security goes; groups are another matter."""
        if not port.port_security:
            return _regions([region((_UNTAGGED,))])
        return _regions(self._says(_identities(port)))

    def says_of_itself(self, port: Port) -> tuple[Region, ...]:
        """Of these, what it says with its own MAC and address, whatever else it may say."""
        if port.name not in self._own:
            own = _identities(replace(port, allowed_address_pairs=()))
            self._own[port.name] = _regions(self._says(own))
        return self._own[port.name]

    def _says(self, identities: dict[str, list[Prefix]]) -> Iterator[Region | None]:
        targets = [literal(f.ND_TARGET, one) for mac, own in identities.items() for one in _sixes(mac, own)]
        every = any(one.prefixlen == 0 for own in identities.values() for one in own if one.version == 6)
        for mac, own in identities.items():
            wears = (_UNTAGGED, literal(f.ETH_SRC, mac))
            for one in own:
                if one.version == 4:
                    yield region((*wears, _IPV4, literal(f.IPV4_SRC, one)), [_DHCP_SERVER])
            for owner, addresses in identities.items():
                claims = (*wears, _ARP, literal(f.ARP_SHA, owner))
                yield from (region((*claims, literal(f.ARP_SPA, one))) for one in addresses if one.version == 4)
                yield region((*claims, literal(f.ARP_OP, f.ARP_REQUEST), literal(f.ARP_SPA, "0.0.0.0")))
            yield region((*wears, _RARP))
            yield region((*wears, _IPV4, literal(f.IPV4_SRC, "0.0.0.0"), literal(f.IPV4_DST, "255.255.255.255"),
                          *_udp(68, 67)))
            for source in _sixes(mac, own):
                speaks = (*wears, _IPV6, literal(f.IPV6_SRC, source))
                yield region(speaks, _ROUTER_ONLY if every else [*_ROUTER_ONLY, _ADVERTISES])
                if not every:
                    yield from (region((*speaks, *_ADVERTISES, target), _ROUTER_ONLY) for target in targets)
            looks = (*wears, _IPV6, literal(f.IPV6_SRC, "::"))
            yield from (region((*looks, *_icmpv6(kind))) for kind in _NDP_FREE)

    # ---- what may come to a card, of its own network

    def macs(self, card: Card) -> tuple[str, ...]:
        """Every MAC that a card may wear, its own first."""
        if isinstance(card, Port):
            return tuple(dict.fromkeys((card.mac, *(pair.mac for pair in card.allowed_address_pairs
                                                    if card.port_security))))
        return (card.mac,)

    def wrong(self, card: Card) -> tuple[Region, ...]:
        """Frames of a card's own network that must not come to it: unicast to MACs that are not its own.

        Behind a port without port security may be MACs that nobody knows; there, only those of others are wrong.
        """
        if card.name not in self._wrong:
            own = {literal(f.ETH_DST, mac) for mac in self.macs(card)}
            if isinstance(card, Port) and not card.port_security:
                others = {literal(f.ETH_DST, mac) for one in self.cards(card.network) for mac in self.macs(one)}
                found = _regions(region((one,)) for one in sorted(others - own))
            else:
                unicast = Literal(f.ETH_DST.name, 0, _GROUP)
                found = _regions([region((unicast,), [(one,) for one in sorted(own)])])
            self._wrong[card.name] = found
        return self._wrong[card.name]

    def cards(self, network: str) -> tuple[Card, ...]:
        """What is plugged into a network: VMs, legs of routers (simulated ones, too), a DHCP server."""
        topology = self.topology
        server = topology.dhcp_by_network.get(network)
        return (*topology.ports_by_network.get(network, ()), *topology.legs_by_network.get(network, ()),
                *([server] if server else ()))

    def must(self, network: str, card: Card) -> tuple[Region, ...]:
        """Frames of its own network that must come to a card (or, a question for its MAC, be answered)."""
        if card.name not in self._must:
            mac, claims = literal(f.ETH_DST, card.mac), self._claims(network)
            self._must[card.name] = _regions([region((mac, kind), claims) for kind in _KINDS])
        return self._must[card.name]

    def asked(self, network: str, card: Card) -> Region | None:
        """The question for a card's MAC, if it has an IPv4 address."""
        if isinstance(card, DhcpPort) or card.ip.version != 4:
            return None
        return region((literal(f.ETH_DST, f.BROADCAST), _ARP, literal(f.ARP_OP, f.ARP_REQUEST),
                       literal(f.ARP_TPA, card.ip)), self._claims(network))

    def routed(self, port: Port) -> Iterator[tuple[Port, Region]]:
        """VMs behind a simulated router of a port's subnet, and packets that must come to them by it."""
        leg = self._world.gateway_of(port) if self._expected else None
        if leg is None or leg.driver != "simulated":
            return
        near = {one.subnet for one in self.topology.legs_by_router[leg.router]}
        for target in self._expected.get(port.name, ()):
            if target.subnet != port.subnet and target.subnet in near:
                found = region((literal(f.ETH_DST, leg.mac), _IPV4, literal(f.IPV4_DST, target.ip),
                                literal(f.IP_TTL, 64), Literal(LARGE, 0, 1)))
                if found is not None:
                    yield target, found

    @cached_property
    def _world(self) -> World:
        return World(self.topology)

    @cached_property
    def _expected(self) -> dict[str, list[Port]]:
        """Port -> whom it reaches; nothing where no router is simulated."""
        if not any(leg.driver == "simulated" for legs in self.topology.legs_by_router.values() for leg in legs):
            return {}
        ports = {port.name: port for port in self.topology.ports()}
        found: dict[str, list[Port]] = {}
        for source, target in sorted(expected_pairs(self.topology)):
            found.setdefault(source, []).append(ports[target])
        return found

    def _claims(self, network: str) -> list[tuple[Literal, ...]]:
        """ARP that claims an address of a simulated router: the router's host does not let it pass."""
        return [(_ARP, literal(f.ARP_SPA, address)) for address in self._simulated.get(network, ())]

    @cached_property
    def _simulated(self) -> dict[str, list[Address]]:
        found: dict[str, list[Address]] = {}
        for leg in (leg for legs in self.topology.legs_by_router.values() for leg in legs):
            if leg.driver == "simulated":
                own = found.setdefault(leg.network, [])
                own.append(leg.ip)
                floating = self.topology.floating_ips_by_router.get(leg.router, ()) if leg.outside else ()
                own += [one.address for one in floating]
        return found

    # ---- the outside

    def tag_outside(self, network: Network) -> int:
        """The tag of a network's frames on its physical network, as VLAN_VID has it."""
        return f.NO_VLAN if network.segmentation_id is None else f.VLAN_PRESENT | network.segmentation_id


def _identities(port: Port) -> dict[str, list[Prefix]]:
    own = (int(port.ip), port.ip.max_prefixlen)
    found: dict[str, list[Prefix]] = {port.mac: [IPv4Network(own) if port.ip.version == 4 else IPv6Network(own)]}
    for pair in port.allowed_address_pairs:
        found.setdefault(pair.mac, []).append(pair.ip)
    return found


def _sixes(mac: str, own: Iterable[Prefix]) -> list[IPv6Network]:
    """The IPv6 addresses of a MAC, its link-local one (RFC 4291, appendix A) included."""
    number = int(mac.replace(":", ""), 16) ^ 1 << 41
    local = IPv6Address(0xFE80 << 112 | (number >> 24) << 40 | 0xFFFE << 24 | number & 0xFFFFFF)
    return [IPv6Network(local), *(one for one in own if isinstance(one, IPv6Network))]
