"""What a host must have, as values: bridges, their ports, the wires of its VMs, the address its tunnels start from,
and its namespaces: routers, and DHCP servers.

`bridges`, `wires`, `underlay`, `routers` and `dhcp` say what a topology wants; `observe` says what a host has;
`converge` compares the two. The same values describe a real host and a hypervisor of the lab.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controller.host.firewall import UNKNOWN, Firewall
from controller.host.plain import plain

MARK = "tunbridge"  # the external_ids key, and the start of the alias, that say "ours": nothing else is ever removed

NAMESPACE_LABEL = "tunbridge-namespace"  # the external_ids key of a router's leg: the namespace it leads into

GIVEN = "given"  # kind of a link that somebody else makes (libvirt's tap): we only enslave it


@dataclass(frozen=True)
class Limit:
    """How many flows a table may hold. Who is too many goes for the one that would have gone next, of the same VLAN if
    that has the most; flows without a timeout always stay (ovs-vswitchd.conf.db(5), Flow_Table).
    """

    table: int
    flows: int


@dataclass(frozen=True)
class Bridge:
    """An OVS bridge. A secure one forwards nothing until its controller has spoken; a standalone one is a switch."""

    name: str
    datapath: str  # netdev | system
    datapath_id: int | None = None  # None: OVS makes one up
    controller: str | None = None
    mac: str | None = None  # of the bridge's own interface; None: OVS makes one up
    fail_mode: str = "secure"
    limits: tuple[Limit, ...] = ()  # by table
    service: bool = True  # its controller's type: Open vSwitch flushes the flows when a *primary* one comes or goes


@dataclass(frozen=True)
class OvsPort:
    """A port of an OVS bridge with its one interface."""

    name: str
    bridge: str
    type: str = ""  # OVS's interface type; empty: a network device that exists
    options: tuple[tuple[str, str], ...] = ()
    external_ids: tuple[tuple[str, str], ...] = ()
    tag: int | None = None  # on a standalone bridge: the one VLAN of this port, 0 for untagged; None: all VLANs


@dataclass(frozen=True)
class FarEnd:
    """The other end of a wire, where the lab makes it: inside another node."""

    node: str
    interface: str
    mac: str | None = None


@dataclass(frozen=True)
class Link:
    """A network device of the kernel."""

    name: str
    kind: str  # bridge | veth | given
    mtu: int
    peer: str = ""  # veth: the end beside it, made with it
    far: FarEnd | None = None  # veth: the end in another node, made with it
    master: str = ""  # the Linux bridge it is plugged into
    alias: str = ""  # our mark, `tunbridge:<cloud>`
    up: bool = True


@dataclass(frozen=True)
class Underlay:
    """Where this host's tunnels start."""

    device: str  # carries `address`
    address: str  # with its prefix length: 192.0.2.11/24
    neighbours: tuple[tuple[str, str], ...] = ()  # (address, MAC) of the others, for OVS's own neighbour table
    uplink: str = ""  # the network card under a br-phy


@dataclass(frozen=True)
class Leg:
    """An interface of a router or a DHCP server: a veth pair whose ends have one name, one a port of br-int, the
    other in the namespace.
    """

    name: str
    mac: str
    mtu: int
    addresses: tuple[str, ...]  # with prefix length, the primary one first; floating IPs are /32
    external_ids: tuple[tuple[str, str], ...] = ()  # of the port on br-int


@dataclass(frozen=True)
class Dnsmasq:
    """A dnsmasq that runs in a namespace: its files, line by line (dnsmasq(8))."""

    config: tuple[str, ...]
    hosts: tuple[str, ...]  # of --dhcp-hostsfile, one a port: MAC,name,address
    options: tuple[str, ...]  # of --dhcp-optsfile
    guard: tuple[str, ...] = ()  # rules of INPUT, as iptables-save prints them


@dataclass(frozen=True)
class Namespace:
    """A router, or a network's DHCP, as a namespace of this host."""

    name: str  # qrouter-<id> or qdhcp-<id>
    owner: str  # for people: router r1, or DHCP of blue
    legs: tuple[Leg, ...]
    routes: tuple[str, ...]  # as `ip route` prints them, without those that come with an address
    rules: tuple[str, ...]  # of iptables, in the form of `nat.canonical`
    sysctls: tuple[str, ...]  # path/of/key=value
    software_checksums: bool = False  # nobody behind the legs fills in what is left to the hardware
    whole: bool = True  # False: the steps that make it failed in between
    dnsmasq: Dnsmasq | None = None  # None: none runs in it


@dataclass(frozen=True)
class Devices:
    """All that is ours on one host."""

    cloud: str = ""
    bridges: tuple[Bridge, ...] = ()
    ports: tuple[OvsPort, ...] = ()
    links: tuple[Link, ...] = ()
    underlay: Underlay | None = None
    namespaces: tuple[Namespace, ...] = ()
    firewall: Firewall | None = field(default=None, compare=False)  # None: no chains of ours

    @property
    def mark(self) -> str:
        """The alias that our links carry."""
        return f"{MARK}:{self.cloud}"


def to_json(devices: Devices) -> dict[str, Any]:
    """The devices as JSON values; `from_json` reads them back, but for the firewall: what stands of that, the kernel is
    asked, and until it has answered nothing is relied on.
    """
    bare: dict[str, Any] = plain(replace(devices, firewall=None))
    return {**bare, "firewall": devices.firewall is not None}


def from_json(value: Mapping[str, Any]) -> Devices:
    """Devices from what `to_json` wrote, after a journey through a file."""
    underlay = value["underlay"]
    return Devices(
        cloud=value["cloud"],
        bridges=tuple(_bridge(bridge) for bridge in value["bridges"]),
        ports=tuple(_port(port) for port in value["ports"]),
        links=tuple(_link(link) for link in value["links"]),
        underlay=None if underlay is None else Underlay(**{**underlay, "neighbours": _pairs(underlay["neighbours"])}),
        namespaces=tuple(namespace_from_json(each) for each in value["namespaces"]),
        firewall=UNKNOWN if value["firewall"] else None,
    )


def namespace_from_json(value: Mapping[str, Any]) -> Namespace:
    """A namespace from what `plain` made of it."""
    lists = {key: tuple(value[key]) for key in ("routes", "rules", "sysctls")}
    served = value.get("dnsmasq")
    dnsmasq = None if served is None else Dnsmasq(**{key: tuple(lines) for key, lines in served.items()})
    return Namespace(**{**value, **lists, "legs": tuple(_leg(leg) for leg in value["legs"]), "dnsmasq": dnsmasq})


def _leg(value: Mapping[str, Any]) -> Leg:
    return Leg(**{**value, "addresses": tuple(value["addresses"]), "external_ids": _pairs(value["external_ids"])})


def _bridge(value: Mapping[str, Any]) -> Bridge:
    return Bridge(**{**value, "limits": tuple(Limit(**limit) for limit in value["limits"])})


def _port(value: Mapping[str, Any]) -> OvsPort:
    return OvsPort(**{**value, "options": _pairs(value["options"]), "external_ids": _pairs(value["external_ids"])})


def _link(value: Mapping[str, Any]) -> Link:
    return Link(**{**value, "far": None if value["far"] is None else FarEnd(**value["far"])})


def _pairs(value: Any) -> tuple[tuple[str, str], ...]:
    return tuple((str(key), str(item)) for key, item in value)
