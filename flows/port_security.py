"""Port security: a VM's port shows its own addresses or those of its allowed address pairs, and serves nobody.

Tables 24 (what it claims by ARP and neighbour advertisements) and 25 (what it wears). It holds whatever the firewall
is. What a port is refused are rows of its own, so that it can be said who was refused what, and how often.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from flows import fields as f
from flows.fields import Criterion
from flows.flow import ANY, Flow, Goto, flow, when
from flows.host import Identity, Port
from flows.tables import ARP_SPOOF, MAC_SPOOF, Table

_PIPELINE: Final = "pipeline"
_DHCP_CLIENT, _DHCP_SERVER = 68, 67  # RFC 2131, 4.1
_DHCPV6_CLIENT, _DHCPV6_SERVER = 546, 547  # RFC 8415, 7.2
_UNSPECIFIED4, _UNSPECIFIED6, _LIMITED_BROADCAST = "0.0.0.0", "::", "255.255.255.255"
_EVERY_IPV6: Final = IPv6Network("::/0")
_ND_SOLICITATION = 135  # RFC 4861, 4.3
_ROUTER_SOLICITATION = 133
_MLD_REPORT2 = 143  # RFC 3810: sent before an address is confirmed
_REDIRECT = 137  # RFC 4861, 4.5


def base() -> Iterator[Flow]:
    """What both tables hold on every host."""
    yield flow(ARP_SPOOF, "miss", ANY, Goto(MAC_SPOOF), origin=_PIPELINE, why="it claims no address")
    yield flow(MAC_SPOOF, "miss", ANY, origin=_PIPELINE, why="it came by no port whose addresses are known")


def secured(port: Port, onward: Table) -> Iterator[Flow]:
    """The rows of a port with port security; what it may say goes on in table `onward`."""
    for identity in port.identities:
        yield from _own_claims(port, identity)
        yield from _own_source(port, identity, onward)
    yield from _foreign_claims(port)
    yield from _servers(port)
    yield from _foreign_source(port)


def _own_claims(port: Port, identity: Identity) -> Iterator[Flow]:
    """ARP and neighbour advertisements in which the port speaks of itself."""
    def own(kind: str, *criteria: Criterion) -> Flow:
        return flow(ARP_SPOOF, "own", when(f.IN_PORT(port.ofport), *criteria), Goto(MAC_SPOOF),
                    origin=port.origin, why=f"{port.name} {kind}")

    sender = (f.ETH_TYPE(f.ARP), f.ARP_SHA(identity.mac))
    # RFC 5227, 1.1: a probe claims nothing, it asks whether an address is free.
    yield own("probes whether an address is free", *sender, f.ARP_OP(f.ARP_REQUEST), f.ARP_SPA(_UNSPECIFIED4))
    for address in _of_version(identity, 4):
        yield own("claims its own IP address by ARP", *sender, f.ARP_SPA(address))
    for target in _ipv6(identity):
        yield own("claims its own IPv6 address", *_advertisement(), f.ND_TARGET(target))


def _foreign_claims(port: Port) -> Iterator[Flow]:
    yield flow(ARP_SPOOF, "foreign", when(f.IN_PORT(port.ofport), f.ETH_TYPE(f.ARP)),
               origin=port.origin, why=f"{port.name} claims an IP address that is not its own")
    if _EVERY_IPV6 not in (address for identity in port.identities for address in identity.addresses):
        yield flow(ARP_SPOOF, "foreign", when(f.IN_PORT(port.ofport), *_advertisement()),
                   origin=port.origin, why=f"{port.name} claims an IPv6 address that is not its own")


def _own_source(port: Port, identity: Identity, onward: Table) -> Iterator[Flow]:
    """Frames that wear the port's own MAC, and inside it the port's own IP address."""
    def own(what: str, *criteria: Criterion) -> Flow:
        return flow(MAC_SPOOF, "own", when(f.IN_PORT(port.ofport), f.ETH_SRC(identity.mac), *criteria), Goto(onward),
                    origin=port.origin, why=f"{port.name} {what}")

    yield own("asks or answers with its own MAC", f.ETH_TYPE(f.ARP))
    # QEMU announces a migrated guest by RARP (migration.c, qemu_announce_self).
    yield own("announces where it lives now", f.ETH_TYPE(f.RARP))
    for address in _of_version(identity, 4):
        yield own("speaks with its own MAC and IP address", f.ETH_TYPE(f.IPV4), f.IPV4_SRC(address))
    yield own("asks for an IP address", f.ETH_TYPE(f.IPV4), f.IPV4_SRC(_UNSPECIFIED4), f.IPV4_DST(_LIMITED_BROADCAST),
              f.IP_PROTO(f.UDP), f.UDP_SRC(_DHCP_CLIENT), f.UDP_DST(_DHCP_SERVER))
    for source in _ipv6(identity):
        yield own("speaks with its own MAC and IPv6 address", f.ETH_TYPE(f.IPV6), f.IPV6_SRC(source))
    for kind in (_ROUTER_SOLICITATION, _ND_SOLICITATION, _MLD_REPORT2):
        yield own("looks around before it has an IPv6 address", f.ETH_TYPE(f.IPV6), f.IPV6_SRC(_UNSPECIFIED6),
                  *_icmpv6(kind))


def _servers(port: Port) -> Iterator[Flow]:
    """What only a DHCP server and a router may say, whatever addresses it wears."""
    def refused(what: str, *criteria: Criterion) -> Flow:
        return flow(MAC_SPOOF, "server", when(f.IN_PORT(port.ofport), *criteria), origin=port.origin,
                    why=f"{port.name} {what}")

    yield refused("answers as a DHCP server", f.ETH_TYPE(f.IPV4), *_udp(_DHCP_SERVER, _DHCP_CLIENT))
    yield refused("answers as a DHCPv6 server", f.ETH_TYPE(f.IPV6), *_udp(_DHCPV6_SERVER, _DHCPV6_CLIENT))
    yield refused("advertises itself as a router", f.ETH_TYPE(f.IPV6), *_icmpv6(f.ND_ROUTER_ADVERTISEMENT))
    yield refused("redirects others as a router", f.ETH_TYPE(f.IPV6), *_icmpv6(_REDIRECT))


def _foreign_source(port: Port) -> Iterator[Flow]:
    for mac in dict.fromkeys(identity.mac for identity in port.identities):
        yield flow(MAC_SPOOF, "foreign-address", when(f.IN_PORT(port.ofport), f.ETH_SRC(mac)), origin=port.origin,
                   why=f"{port.name} wears an IP address that is not its own, or speaks neither IP nor ARP")
    yield flow(MAC_SPOOF, "foreign-mac", when(f.IN_PORT(port.ofport)), origin=port.origin,
               why=f"{port.name} wears a MAC that is not its own")


def _udp(source: int, destination: int) -> tuple[Criterion, ...]:
    return f.IP_PROTO(f.UDP), f.UDP_SRC(source), f.UDP_DST(destination)


def _icmpv6(kind: int) -> tuple[Criterion, ...]:
    return f.IP_PROTO(f.ICMPV6), f.ICMPV6_TYPE(kind)


def _advertisement() -> tuple[Criterion, ...]:
    return f.ETH_TYPE(f.IPV6), *_icmpv6(f.ND_NEIGHBOR_ADVERTISEMENT)


def _of_version(identity: Identity, version: int) -> Iterator[IPv4Network | IPv6Network]:
    return (address for address in identity.addresses if address.version == version)


def _ipv6(identity: Identity) -> Iterable[IPv4Network | IPv6Network]:
    """The IPv6 addresses of a MAC, each once: an address pair may spell out the link-local one."""
    return dict.fromkeys((ip_network(link_local(identity.mac)), *_of_version(identity, 6)))


def link_local(mac: str) -> IPv6Address:
    """The link-local address of a MAC (RFC 4291, appendix A: modified EUI-64)."""
    octets = [int(part, 16) for part in mac.split(":")]
    octets[0] ^= 0x02
    suffix = bytes([*octets[:3], 0xFF, 0xFE, *octets[3:]])
    return IPv6Address(b"\xfe\x80" + bytes(6) + suffix)
