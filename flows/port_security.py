"""Port security: a VM's port shows its own addresses or those of its allowed address pairs, and serves nobody.

Tables 24 (what it claims by ARP and neighbour advertisements) and 25 (what it wears). It holds whatever the firewall
is. What a port is refused are rows of its own, so that it can be said who was refused what, and how often.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import Final

from flows import fields as f
from flows.fields import Criterion
from flows.flow import ANY, Flow, Goto, flow, when
from flows.host import Identity, Port
from flows.tables import ARP_SPOOF, MAC_SPOOF, Table

_PIPELINE: Final = "pipeline"
_EVERY_IPV6: Final = IPv6Network("::/0")


def _udp(source: int, destination: int) -> tuple[Criterion, ...]:
    return f.IP_PROTO(f.UDP), f.UDP_SRC(source), f.UDP_DST(destination)


def _icmpv6(kind: int) -> tuple[Criterion, ...]:
    return f.ETH_TYPE(f.IPV6), f.IP_PROTO(f.ICMPV6), f.ICMPV6_TYPE(kind)


_ARP, _RARP, _IPV4, _IPV6 = (f.ETH_TYPE(kind) for kind in (f.ARP, f.RARP, f.IPV4, f.IPV6))
# RFC 5227, 1.1: a probe claims nothing, it asks whether an address is free.
_PROBE: Final = (f.ARP_OP(f.ARP_REQUEST), f.ARP_SPA("0.0.0.0"))
_ADVERTISEMENT: Final = _icmpv6(f.ND_NEIGHBOR_ADVERTISEMENT)
_DHCP_CLIENT, _DHCP_SERVER = 68, 67  # RFC 2131, 4.1
_DHCPV6_CLIENT, _DHCPV6_SERVER = 546, 547  # RFC 8415, 7.2
_ASKS_DHCP: Final = (_IPV4, f.IPV4_SRC("0.0.0.0"), f.IPV4_DST("255.255.255.255"), *_udp(_DHCP_CLIENT, _DHCP_SERVER))
# Router solicitation, neighbour solicitation (RFC 4861), and a report that is sent before an address is confirmed
# (RFC 3810).
_LOOKS_AROUND: Final = tuple((*_icmpv6(kind), f.IPV6_SRC("::")) for kind in (133, 135, 143))
_REDIRECT = 137  # RFC 4861, 4.5
_SERVERS: Final = (  # what only these may say
    ("answers as a DHCP server", (_IPV4, *_udp(_DHCP_SERVER, _DHCP_CLIENT))),
    ("answers as a DHCPv6 server", (_IPV6, *_udp(_DHCPV6_SERVER, _DHCPV6_CLIENT))),
    ("advertises itself as a router", _icmpv6(f.ND_ROUTER_ADVERTISEMENT)),
    ("redirects others as a router", _icmpv6(_REDIRECT)))


def base() -> Iterator[Flow]:
    """What both tables hold on every host."""
    yield flow(ARP_SPOOF, "miss", ANY, Goto(MAC_SPOOF), origin=_PIPELINE, why="it claims no address")
    yield flow(MAC_SPOOF, "miss", ANY, origin=_PIPELINE, why="it came by no port whose addresses are known")


def secured(port: Port, onward: Table) -> Iterator[Flow]:
    """The rows of a port with port security; what it may say goes on in table `onward`."""
    came = f.IN_PORT(port.ofport)
    for identity in port.identities:
        ipv6 = _ipv6(identity)
        yield from _own_claims(port, came, identity, ipv6)
        yield from _own_source(port, (came, f.ETH_SRC(identity.mac)), identity, ipv6, onward)
    yield from _foreign_claims(port, came)
    for what, criteria in _SERVERS:  # whatever addresses it wears
        yield flow(MAC_SPOOF, "server", when(came, *criteria), origin=port.origin, why=f"{port.name} {what}")
    yield from _foreign_source(port, came)


def _own_claims(port: Port, came: Criterion, identity: Identity, ipv6: Iterable[IPv6Network]) -> Iterator[Flow]:
    """ARP and neighbour advertisements in which the port speaks of itself."""
    def own(kind: str, *criteria: Criterion) -> Flow:
        return flow(ARP_SPOOF, "own", when(came, *criteria), Goto(MAC_SPOOF), origin=port.origin,
                    why=f"{port.name} {kind}")

    sender = (_ARP, f.ARP_SHA(identity.mac))
    yield own("probes whether an address is free", *sender, *_PROBE)
    for address in _of_version(identity, 4):
        yield own("claims its own IP address by ARP", *sender, f.ARP_SPA(address))
    for target in ipv6:
        yield own("claims its own IPv6 address", *_ADVERTISEMENT, f.ND_TARGET(target))


def _foreign_claims(port: Port, came: Criterion) -> Iterator[Flow]:
    yield flow(ARP_SPOOF, "foreign", when(came, _ARP), origin=port.origin,
               why=f"{port.name} claims an IP address that is not its own")
    if _EVERY_IPV6 not in (address for identity in port.identities for address in identity.addresses):
        yield flow(ARP_SPOOF, "foreign", when(came, *_ADVERTISEMENT), origin=port.origin,
                   why=f"{port.name} claims an IPv6 address that is not its own")


def _own_source(port: Port, wears: tuple[Criterion, ...], identity: Identity, ipv6: Iterable[IPv6Network],
                onward: Table) -> Iterator[Flow]:
    """Frames that wear the port's own MAC, and inside it the port's own IP address."""
    then = Goto(onward)

    def own(what: str, *criteria: Criterion) -> Flow:
        return flow(MAC_SPOOF, "own", when(*wears, *criteria), then, origin=port.origin, why=f"{port.name} {what}")

    yield own("asks or answers with its own MAC", _ARP)
    # QEMU announces a migrated guest by RARP (migration.c, qemu_announce_self).
    yield own("announces where it lives now", _RARP)
    for address in _of_version(identity, 4):
        yield own("speaks with its own MAC and IP address", _IPV4, f.IPV4_SRC(address))
    yield own("asks for an IP address", *_ASKS_DHCP)
    for source in ipv6:
        yield own("speaks with its own MAC and IPv6 address", _IPV6, f.IPV6_SRC(source))
    for around in _LOOKS_AROUND:
        yield own("looks around before it has an IPv6 address", *around)


def _foreign_source(port: Port, came: Criterion) -> Iterator[Flow]:
    for mac in dict.fromkeys(identity.mac for identity in port.identities):
        yield flow(MAC_SPOOF, "foreign-address", when(came, f.ETH_SRC(mac)), origin=port.origin,
                   why=f"{port.name} wears an IP address that is not its own, or speaks neither IP nor ARP")
    yield flow(MAC_SPOOF, "foreign-mac", when(came), origin=port.origin,
               why=f"{port.name} wears a MAC that is not its own")


def _of_version(identity: Identity, version: int) -> Iterable[IPv4Network | IPv6Network]:
    return [address for address in identity.addresses if address.version == version]


def _ipv6(identity: Identity) -> list[IPv6Network]:
    """The IPv6 addresses of a MAC, each once: an address pair may spell out the link-local one."""
    found = [address for address in identity.addresses if isinstance(address, IPv6Network)]
    own = IPv6Network(link_local(identity.mac))
    return [own, *(address for address in dict.fromkeys(found) if address != own)] if found else [own]


def link_local(mac: str) -> IPv6Address:
    """The link-local address of a MAC (RFC 4291, appendix A: modified EUI-64)."""
    number = int(mac.replace(":", ""), 16) ^ 0x02 << 40
    return IPv6Address(0xFE80 << 112 | (number >> 24) << 40 | 0xFFFE << 24 | number & 0xFFFFFF)
