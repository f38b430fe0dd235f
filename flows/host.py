"""The compilers' narrow input: one host, all numbers already allotted.

`placement` makes these from a topology and from what a switch says; nothing below knows of files or switches.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Identity:
    """A MAC and the addresses that may go with it."""

    mac: str
    addresses: tuple[Prefix, ...]


@dataclass(frozen=True)
class Port:
    """A VM's port on this host's br-int. `identities` is empty where port security is off."""

    name: str
    origin: str
    ofport: int
    mac: str
    identities: tuple[Identity, ...]

    @property
    def macs(self) -> tuple[str, ...]:
        """Every MAC that the topology lets it wear, its own first."""
        return tuple(dict.fromkeys((self.mac, *(identity.mac for identity in self.identities))))


@dataclass(frozen=True)
class Tunnel:
    """A tunnel port of this host's br-tun."""

    remote: str  # the other host's name
    origin: str
    ofport: int


@dataclass(frozen=True)
class Neighbour:
    """A port of the network on another host, for what is filled from the topology instead of learned."""

    name: str
    origin: str
    mac: str
    address: Address
    remote: str  # the name of the host it lives on
    tunnel: Tunnel | None  # to there; None while the switch does not have it
    secured: bool  # False: MACs that the topology does not know may live behind it
    also: tuple[str, ...] = ()  # MACs of its allowed address pairs, not its own

    @property
    def macs(self) -> tuple[str, ...]:
        """Every MAC that the topology lets it wear, its own first."""
        return self.mac, *self.also


_Wearer = TypeVar("_Wearer", Port, Neighbour)


def wearers(ports: Iterable[_Wearer]) -> dict[str, list[_Wearer]]:
    """MAC -> the ports that may wear it: a virtual router's MAC moves between several."""
    found: dict[str, list[_Wearer]] = {}
    for port in ports:
        for mac in port.macs:
            found.setdefault(mac, []).append(port)
    return found


@dataclass(frozen=True)
class Network:
    """A network as this host carries it."""

    name: str
    origin: str
    vlan: int
    tunnel_id: int
    ports: tuple[Port, ...]
    tunnels: tuple[Tunnel, ...]  # to the other hosts that carry it
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Host:
    """One hypervisor or network host. A patch port is None while the switch does not have it."""

    name: str
    patch_tun: int | None  # on br-int
    patch_int: int | None  # on br-tun
    tunnel_type: str  # vxlan | geneve | gre
    tunnels: tuple[Tunnel, ...]
    networks: tuple[Network, ...]
    l2population: bool
    arp_responder: bool
    mac_aging_time: int  # seconds
