"""The compilers' narrow input: one host, all numbers already allotted.

`placement` makes these from a topology and from what a switch says; nothing below knows of files or switches.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, NamedTuple, TypeVar

from flows.neighbours import Neighbour
from flows.router import Router

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Identity:
    """A MAC and the addresses that may go with it."""

    mac: str
    addresses: tuple[Prefix, ...]


@dataclass(frozen=True)
class Filter:
    """How a port with security groups is filtered."""

    zone: int  # of connection tracking: its own on this host
    profile: int  # number of its set of groups on its network; unique on this host


@dataclass(frozen=True)
class Port:
    """A VM's port on this host's br-int. `identities` is empty where port security is off."""

    name: str
    origin: str
    ofport: int
    mac: str
    identities: tuple[Identity, ...]
    filter: Filter | None = None  # None: it lists no security group, and nothing is filtered

    @property
    def macs(self) -> tuple[str, ...]:
        """Every MAC that the topology lets it wear, its own first."""
        return tuple(dict.fromkeys((self.mac, *(identity.mac for identity in self.identities))))


@dataclass(frozen=True)
class Device:
    """A port of this host's own on br-int: a namespace router's `qr-` or `qg-`, a DHCP server's tap. It is trusted."""

    name: str  # for people: `r1 on blue-subnet`, `DHCP of blue`
    origin: str
    ofport: int
    mac: str

    @property
    def macs(self) -> tuple[str, ...]:
        """What it wears."""
        return (self.mac,)


@dataclass(frozen=True)
class ProviderBridge:
    """A bridge of this host that leads to a physical network; a port is None while the switch does not have it."""

    name: str  # br-ex
    int_port: int | None  # int-br-ex, on br-int
    phy_port: int | None  # phy-br-ex, on the bridge itself
    uplinks: tuple[int, ...]  # its other ports: network cards
    local: int | None  # the bridge's own interface, where it is up: the host's own address may be on it


@dataclass(frozen=True)
class Segment:
    """A network's place on a physical network."""

    bridge: ProviderBridge
    vlan: int | None  # its VLAN there; None: untagged (flat)


class Tunnel(NamedTuple):
    """A tunnel port of this host's br-tun."""

    remote: str  # the other host's name
    ofport: int

    @property
    def origin(self) -> str:
        return f"hosts.{self.remote}"


class Tunnels:
    """Tunnels to some hosts. Each of a thousand hosts may have a thousand, so they are kept in columns."""

    def __init__(self, remotes: Sequence[str] = (), ofports: Sequence[int | None] = ()) -> None:
        """`ofports`: of the tunnel to each of `remotes`; None: there is none."""
        self._all, self._found = remotes, ofports

    @cached_property
    def ofports(self) -> tuple[int, ...]:
        """Of those that are there."""
        return tuple([ofport for ofport in self._found if ofport is not None])

    @cached_property
    def remotes(self) -> tuple[str, ...]:
        """Where these lead."""
        if len(self.ofports) == len(self._found):
            return tuple(self._all)
        return tuple([one for one, ofport in zip(self._all, self._found, strict=True) if ofport is not None])

    @cached_property
    def to(self) -> Mapping[str, int]:
        """Name of another host -> the OpenFlow port of the tunnel to it."""
        return {one: ofport for one, ofport in zip(self._all, self._found, strict=True) if ofport is not None}

    def __iter__(self) -> Iterator[Tunnel]:
        return map(Tunnel, self.remotes, self.ofports)

    def __len__(self) -> int:
        return len(self.ofports)

    def __repr__(self) -> str:
        return f"Tunnels({tuple(self)})"

    def __eq__(self, other: object) -> bool:
        return tuple(self) == (tuple(other) if isinstance(other, Tunnels) else other)

    def __hash__(self) -> int:
        return hash(tuple(self))


_Wearer = TypeVar("_Wearer", bound=Port | Device | Neighbour)


def wearers(ports: Iterable[_Wearer]) -> dict[str, list[_Wearer]]:
    """MAC -> the ports that may wear it: a virtual router's MAC moves between several."""
    found: dict[str, list[_Wearer]] = {}
    for port in ports:
        for mac in port.macs:
            found.setdefault(mac, []).append(port)
    return found


def alone(neighbours: Sequence[Neighbour]) -> Sequence[Neighbour]:
    """Those whose own MAC nobody else of these wears, in order."""
    if len({one.mac for one in neighbours}) == len(neighbours) and not [one for one in neighbours if one.also]:
        return neighbours  # as nearly always
    worn = wearers(neighbours)
    return [one for one in neighbours if len(worn[one.mac]) == 1]


# ---- security groups

@dataclass(frozen=True)
class RemoteGroup:
    """A group that rules of this network's ports name as their remote, in one direction and IP version."""

    number: int  # of its conjunction; unique on this host
    name: str
    origin: str
    by_vm: bool  # True: the VM begins, and the members are whom it may reach; False: they begin
    version: int  # of IP
    members: tuple[Prefix, ...]  # of those on networks that this one is joined with


@dataclass(frozen=True)
class Rule:
    """What one rule of a security group allows: conversations by who begins them, and how."""

    origin: str  # security_groups.web[0]
    what: str  # for people: `web: tcp 80 from 0.0.0.0/0`
    by_vm: bool  # egress: the VM begins; ingress: others begin
    version: int  # of IP
    protocol: int | None  # None: any
    ports: tuple[int, int] | None  # destination ports, first and last
    icmp_type: int | None
    icmp_code: int | None
    remote: Prefix | None  # None: anybody, or those of `group`
    group: int | None  # number of a RemoteGroup


@dataclass(frozen=True)
class Profile:
    """What the ports of one network with the same set of groups may say and hear."""

    number: int
    what: str  # for people: `web, ssh on blue`
    origin: str
    rules: tuple[Rule, ...]  # each once
    may_begin: bool  # none of its groups has an egress rule: its VMs may begin anything


@dataclass(frozen=True)
class Network:
    """A network as this host carries it."""

    name: str
    origin: str
    vlan: int
    tunnel_id: int | None  # None: not in the overlay, but on a segment
    ports: tuple[Port, ...]
    tunnels: Tunnels  # to the other hosts that carry it
    neighbours: Sequence[Neighbour]  # ports of VMs, and legs of routers, on other hosts
    devices: tuple[Device, ...] = ()
    segment: Segment | None = None
    profiles: tuple[Profile, ...] = ()  # of its ports on this host
    remote_groups: tuple[RemoteGroup, ...] = ()  # that these name

    @property
    def here(self) -> tuple[Port | Device, ...]:
        """What is attached to it on this host."""
        return (*self.ports, *self.devices)


# ---- routers that are simulated by flows and the controller

@dataclass(frozen=True)
class RouterLeg:
    """What the tables know of a leg of `flows.router.Router` beside what stands there."""

    name: str  # of the leg, as in Router.legs
    number: int  # names it in registers; unique on this host
    vlan: int  # local VLAN of the network it is on
    network: str
    what: str  # for people: `r1 on blue-subnet`
    meter: int  # how often senders that the topology does not know may ask the controller by this leg


@dataclass(frozen=True)
class RouterNeighbour:
    """A VM behind a leg: the router need not ask for its MAC, and it has an allowance of its own at the controller."""

    name: str
    origin: str
    leg: str
    mac: str
    address: IPv4Address
    fixed: bool  # nobody else may have this address, so it is never asked for
    meter: int


@dataclass(frozen=True)
class SimulatedRouter:
    """A router of this host whose hop is compiled to flows; what these cannot do, the controller does."""

    origin: str
    router: Router
    number: int  # names it in registers; unique on this host
    zone: int  # of connection tracking
    hairpin_zone: int  # for what goes from inside to a floating IP: there, both ends are translated
    legs: tuple[RouterLeg, ...]  # in the order of Router.legs
    neighbours: tuple[RouterNeighbour, ...]


ANNOUNCEMENT_METER: Final = 262143  # of gratuitous ARP that routers overhear; the last that Open vSwitch 3.1 takes
CONTROLLER_METER: Final = 0xFFFFFFFE  # OpenFlow 1.4, 7.3.4.5: OFPM_CONTROLLER; it meters every packet-in of a bridge


@dataclass(frozen=True)
class Meter:
    """At most `rate` packets a second, after a burst of `burst`."""

    id: int
    rate: int
    burst: int


@dataclass(frozen=True)
class Host:
    """One hypervisor or network host. A patch port is None while the switch does not have it."""

    name: str
    patch_tun: int | None  # on br-int
    patch_int: int | None  # on br-tun
    tunnel_type: str  # vxlan | geneve | gre
    tunnels: Tunnels
    networks: tuple[Network, ...]
    l2population: bool
    arp_responder: bool
    mac_aging_time: int  # seconds
    providers: tuple[ProviderBridge, ...] = ()
    routers: tuple[SimulatedRouter, ...] = ()
    firewall: str = "none"  # iptables_hybrid | openvswitch | none
    strangers: int | None = None  # br-tun's port for tunnel packets of hosts that the topology does not know
