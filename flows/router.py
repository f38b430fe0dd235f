"""A router as a value: its legs, its routes, what it translates; and where it sends an address.

`flows.qrouter` is the hop itself; Neutron's terms: a qr- leg per subnet, one qg- leg to the outside.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final

from flows.routing.wireformat import mac_bytes

_HOST_PREFIX: Final = 32
_NO_BROADCAST: Final = 31  # RFC 3021: a prefix this long or longer has no broadcast address


@dataclass(frozen=True)
class Leg:
    """An interface: `qr-...` or `qg-...`. Its first address is the primary one."""

    name: str
    mac: str
    addresses: tuple[IPv4Interface, ...]
    mtu: int = 1500

    @cached_property
    def hardware(self) -> bytes:
        """Its MAC as bytes."""
        return mac_bytes(self.mac)

    @cached_property
    def _prefixes(self) -> tuple[tuple[int, int, int], ...]:
        return tuple((int(one.ip), int(one.network.network_address), int(one.network.netmask))
                     for one in self.addresses)

    def source_towards(self, target: int) -> int:
        """Its address in the subnet of a neighbour, else its primary one (inet_select_addr)."""
        fitting = (own for own, network, mask in self._prefixes if target & mask == network)
        return next(fitting, self._prefixes[0][0] if self._prefixes else 0)


@dataclass(frozen=True)
class Route:
    """A static route."""

    destination: IPv4Network
    nexthop: IPv4Address


@dataclass(frozen=True)
class Gateway:
    """The way outside: the qg- leg by name, the next hop of the default route, and whether to translate sources."""

    leg: str
    nexthop: IPv4Address | None
    snat: bool = True


@dataclass(frozen=True)
class FloatingIp:
    """An address outside that stands for one inside."""

    external: IPv4Address
    fixed: IPv4Address


@dataclass(frozen=True)
class Limits:
    """What a router allows itself; the defaults are Linux's. An `interval` or `per_second` of 0 means no limit.

    `interval`: seconds between two ICMP errors to one host, after a burst; `per_second`: all ICMP errors together.
    """

    interval: float = 1.0  # net.ipv4.icmp_ratelimit
    burst: int = 6
    unroutable_burst: int = 5  # net.ipv4.route.error_burst: a limit of its own
    per_second: int = 1000  # net.ipv4.icmp_msgs_per_sec
    per_second_burst: int = 50  # net.ipv4.icmp_msgs_burst
    connections: int = 65536
    waiting: int = 101  # packets per neighbour that has not answered yet
    neighbours: int = 1024  # net.ipv4.neigh.default.gc_thresh3
    reassemblies: int = 1024


class Kind(Enum):
    """What an address is to a router."""

    LOCAL = "its own"
    BROADCAST = "a broadcast address of a subnet"
    UNICAST = "somebody else's"


@dataclass(frozen=True)
class Target:
    """Where an address lies. `gateway` is None on a connected subnet; `source` is what the router would send from."""

    kind: Kind
    leg: Leg
    source: int
    gateway: int | None = None

    def nexthop(self, address: int) -> int:
        """Whom to ask by ARP."""
        return address if self.gateway is None else self.gateway


@dataclass(frozen=True)
class Router:
    """One router of one host. Equal routers behave equally; two routers share nothing."""

    name: str
    legs: tuple[Leg, ...]
    gateway: Gateway | None = None
    routes: tuple[Route, ...] = ()
    floating_ips: tuple[FloatingIp, ...] = ()
    limits: Limits = field(default_factory=Limits)
    known: tuple[tuple[str, IPv4Address, str], ...] = ()  # (leg, address, MAC): never asked for, never changed by ARP
    tracks: bool = True  # False: tracking connections and translating them is somebody else's business

    @cached_property
    def by_name(self) -> dict[str, Leg]:
        """Its legs by name."""
        return {leg.name: leg for leg in self.legs}

    @cached_property
    def permanent(self) -> dict[tuple[str, int], bytes]:
        """(leg, address) -> MAC of the neighbours that are known for certain."""
        return {(leg, int(address)): mac_bytes(mac) for leg, address, mac in self.known}

    @cached_property
    def outside(self) -> Leg | None:
        """The qg- leg."""
        return self.by_name.get(self.gateway.leg) if self.gateway else None

    @cached_property
    def snat_address(self) -> int | None:
        """What inside hosts look like from outside."""
        return int(self.outside.addresses[0].ip) if self.outside and self.outside.addresses else None

    @cached_property
    def fixed_of(self) -> dict[int, int]:
        """Floating IP -> fixed IP."""
        return {int(one.external): int(one.fixed) for one in self.floating_ips} if self.outside else {}

    @cached_property
    def floating_of(self) -> dict[int, int]:
        """Fixed IP -> floating IP; the first if there are several."""
        return {fixed: floating for floating, fixed in reversed(self.fixed_of.items())}

    def owns(self, leg: Leg, address: int) -> bool:
        """Whether an address is on this leg: it answers ARP for these only (arp_ignore=1). Floating IPs are on qg-."""
        return self._local.get(address) == leg

    @cached_property
    def _local(self) -> dict[int, Leg]:
        own = {int(one.ip): leg for leg in reversed(self.legs) for one in leg.addresses}
        return {**(dict.fromkeys(self.fixed_of, self.outside) if self.outside else {}), **own}

    def is_own(self, address: int) -> bool:
        """Whether an address is one of its own, on any leg."""
        return address in self._local

    @cached_property
    def _broadcasts(self) -> dict[int, Leg]:
        return {int(one.network.broadcast_address): leg for leg in self.legs for one in leg.addresses
                if one.network.prefixlen < _NO_BROADCAST}

    @cached_property
    def table(self) -> tuple[tuple[int, int, Target], ...]:
        """(network, mask, target), longest prefix first; connected before static where both are equally long."""
        rows = [(one.network, Target(Kind.UNICAST, leg, int(one.ip))) for leg in self.legs for one in leg.addresses
                if one.network.prefixlen < _HOST_PREFIX]
        connected = tuple(rows)
        for route in self.routes:
            rows += [(route.destination, target) for target in self._via(route.nexthop, connected)]
        if self.outside and self.gateway and self.gateway.nexthop:
            nexthop = int(self.gateway.nexthop)
            target = Target(Kind.UNICAST, self.outside, self.outside.source_towards(nexthop), nexthop)
            on_link = Target(Kind.UNICAST, self.outside, target.source)
            # A gateway outside its subnet is reached by a route of its own, as Neutron adds one.
            rows += [(IPv4Network("0.0.0.0/0"), target), (IPv4Network(nexthop), on_link)]
        rows.sort(key=lambda row: -row[0].prefixlen)
        return tuple((int(network.network_address), int(network.netmask), target) for network, target in rows)

    def _via(self, nexthop: IPv4Address, connected: tuple[tuple[IPv4Network, Target], ...]) -> list[Target]:
        """At most one target. Linux refuses a route whose next hop is on no connected subnet, and so has none."""
        on_link = [target for network, target in connected if nexthop in network]
        return [Target(Kind.UNICAST, target.leg, target.leg.source_towards(int(nexthop)), int(nexthop))
                for target in on_link[:1]]

    def lookup(self, address: int) -> Target | None:
        """Where an address lies; None without a route."""
        if (leg := self._local.get(address)) is not None:
            return Target(Kind.LOCAL, leg, address)
        if (leg := self._broadcasts.get(address)) is not None:
            return Target(Kind.BROADCAST, leg, leg.source_towards(address))
        return next((target for network, mask, target in self.table if address & mask == network), None)
