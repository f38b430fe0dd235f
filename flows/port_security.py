"""Port security: a VM's port shows its own addresses or those of its allowed address pairs, and serves nobody.

Tables 24 (what it claims by ARP and neighbour advertisements) and 25 (what it wears). It holds whatever the firewall
is. What a port is refused are rows of its own, so that it can be said who was refused what, and how often.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from flows import fields as f
from flows.fields import Criterion
from flows.flow import ANY, Flow, Goto, flow
from flows.forms import Fixed, Form
from flows.host import Identity, Port, Prefix
from flows.tables import ARP_SPOOF, MAC_SPOOF, Table

_PIPELINE: Final = "pipeline"
_EVERY_IPV6: Final = IPv6Network("::/0")


def _udp(source: int, destination: int) -> tuple[Criterion, ...]:
    return f.IP_PROTO(f.UDP), f.UDP_SRC(source), f.UDP_DST(destination)


def _icmpv6(kind: int) -> tuple[Criterion, ...]:
    return f.ETH_TYPE(f.IPV6), f.IP_PROTO(f.ICMPV6), f.ICMPV6_TYPE(kind)


_IPV4, _IPV6 = f.ETH_TYPE(f.IPV4), f.ETH_TYPE(f.IPV6)
_IS_ARP, _IS_RARP, _IS_IPV4, _IS_IPV6 = (Fixed((f.ETH_TYPE(kind),)) for kind in (f.ARP, f.RARP, f.IPV4, f.IPV6))
# RFC 5227, 1.1: a probe claims nothing, it asks whether an address is free.
_PROBE: Final = Fixed((f.ETH_TYPE(f.ARP), f.ARP_OP(f.ARP_REQUEST), f.ARP_SPA("0.0.0.0")))
_ADVERTISEMENT: Final = Fixed(_icmpv6(f.ND_NEIGHBOR_ADVERTISEMENT))
_DHCP_CLIENT, _DHCP_SERVER = 68, 67  # RFC 2131, 4.1
_DHCPV6_CLIENT, _DHCPV6_SERVER = 546, 547  # RFC 8415, 7.2
_ASKS_DHCP: Final = Fixed((_IPV4, f.IPV4_SRC("0.0.0.0"), f.IPV4_DST("255.255.255.255"),
                           *_udp(_DHCP_CLIENT, _DHCP_SERVER)))
# Router solicitation, neighbour solicitation (RFC 4861), and a report that is sent before an address is confirmed
# (RFC 3810).
_LOOKS_AROUND: Final = tuple(Fixed((*_icmpv6(kind), f.IPV6_SRC("::"))) for kind in (133, 135, 143))
_REDIRECT = 137  # RFC 4861, 4.5
_SERVERS: Final = (  # what only these may say
    (Fixed((_IPV4, *_udp(_DHCP_SERVER, _DHCP_CLIENT))), "answers as a DHCP server"),
    (Fixed((_IPV6, *_udp(_DHCPV6_SERVER, _DHCPV6_CLIENT))), "answers as a DHCPv6 server"),
    (Fixed(_icmpv6(f.ND_ROUTER_ADVERTISEMENT)), "advertises itself as a router"),
    (Fixed(_icmpv6(_REDIRECT)), "redirects others as a router"))


def base() -> Iterator[Flow]:
    """What both tables hold on every host."""
    yield flow(ARP_SPOOF, "miss", ANY, Goto(MAC_SPOOF), origin=_PIPELINE, why="it claims no address")
    yield flow(MAC_SPOOF, "miss", ANY, origin=_PIPELINE, why="it came by no port whose addresses are known")


_OWN_CLAIM: Final = Form(ARP_SPOOF, "own", Goto(MAC_SPOOF))
_FOREIGN_CLAIM: Final = Form(ARP_SPOOF, "foreign")
_FOREIGN_ADDRESS: Final = Form(MAC_SPOOF, "foreign-address")
_FOREIGN_MAC: Final = Form(MAC_SPOOF, "foreign-mac")
_SERVER: Final = Form(MAC_SPOOF, "server")


@cache
def _own_words(onward: Table) -> Form:
    return Form(MAC_SPOOF, "own", Goto(onward))


def secured(port: Port, onward: Table) -> Iterator[Flow]:
    """The rows of a port with port security; what it may say goes on in table `onward`."""
    name, origin, came = port.name, port.origin, f.IN_PORT(port.ofport)
    for identity in port.identities:
        ipv4, ipv6 = [each for each in identity.addresses if each.version == 4], _ipv6(identity)
        for fixed, own, what in _own_claims(identity, ipv4, ipv6):
            yield _OWN_CLAIM((came, *own), origin, f"{name} {what}", fixed)
        wears, speaks = (came, f.ETH_SRC(identity.mac)), _own_words(onward)
        for fixed, own, what in _own_source(ipv4, ipv6):
            yield speaks((*wears, *own), origin, f"{name} {what}", fixed)
    yield _FOREIGN_CLAIM((came,), origin, f"{name} claims an IP address that is not its own", _IS_ARP)
    if _EVERY_IPV6 not in [address for identity in port.identities for address in identity.addresses]:
        yield _FOREIGN_CLAIM((came,), origin, f"{name} claims an IPv6 address that is not its own", _ADVERTISEMENT)
    for fixed, what in _SERVERS:  # whatever addresses it wears
        yield _SERVER((came,), origin, f"{name} {what}", fixed)
    for mac in dict.fromkeys([identity.mac for identity in port.identities]):
        yield _FOREIGN_ADDRESS((came, f.ETH_SRC(mac)), origin,
                               f"{name} wears an IP address that is not its own, or speaks neither IP nor ARP")
    yield _FOREIGN_MAC((came,), origin, f"{name} wears a MAC that is not its own")


Said = tuple[Fixed, tuple[Criterion, ...], str]  # in what a frame says, and a clause for a person


def _own_claims(identity: Identity, ipv4: Iterable[Prefix], ipv6: Iterable[tuple[int, int]]) -> Iterator[Said]:
    """ARP and neighbour advertisements in which a port speaks of itself."""
    sender = f.ARP_SHA(identity.mac)
    yield _PROBE, (sender,), "probes whether an address is free"
    for address in ipv4:
        yield _IS_ARP, (f.ARP_SPA(address), sender), "claims its own IP address by ARP"
    for target in ipv6:
        yield _ADVERTISEMENT, (f.ND_TARGET(*target),), "claims its own IPv6 address"


def _own_source(ipv4: Iterable[Prefix], ipv6: Iterable[tuple[int, int]]) -> Iterator[Said]:
    """What may be inside frames that wear a port's own MAC: its own IP address."""
    yield _IS_ARP, (), "asks or answers with its own MAC"
    # QEMU announces a migrated guest by RARP (migration.c, qemu_announce_self).
    yield _IS_RARP, (), "announces where it lives now"
    for address in ipv4:
        yield _IS_IPV4, (f.IPV4_SRC(address),), "speaks with its own MAC and IP address"
    yield _ASKS_DHCP, (), "asks for an IP address"
    for source in ipv6:
        yield _IS_IPV6, (f.IPV6_SRC(*source),), "speaks with its own MAC and IPv6 address"
    for around in _LOOKS_AROUND:
        yield around, (), "looks around before it has an IPv6 address"


def _ipv6(identity: Identity) -> Iterable[tuple[int, int]]:
    """The IPv6 addresses of a MAC and their masks, each once: an address pair may spell out the link-local one."""
    own = _link_local(int(identity.mac.replace(":", ""), 16)), f.IPV6_SRC.full
    found = ((int(each.network_address), int(each.netmask)) for each in identity.addresses if each.version == 6)
    return dict.fromkeys((own, *found))


def link_local(mac: str) -> IPv6Address:
    """The link-local address of a MAC (RFC 4291, appendix A: modified EUI-64)."""
    return IPv6Address(_link_local(int(mac.replace(":", ""), 16)))


def link_local_text(mac: str) -> str:
    """The same as it is written (RFC 5952): of each of thousands of ports."""
    number = int(mac.replace(":", ""), 16)
    first = number >> 32 ^ 0x0200
    rest = f"{number >> 16 & 0xFF00 | 0xFF:x}:{number >> 16 & 0xFF | 0xFE00:x}:{number & 0xFFFF:x}"
    return f"fe80::{first:x}:{rest}" if first else f"fe80::{rest}"


def _link_local(mac: int) -> int:
    upper, lower = (mac ^ 0x02 << 40) >> 24, mac & 0xFFFFFF
    return 0xFE80 << 112 | upper << 40 | 0xFFFE << 24 | lower
