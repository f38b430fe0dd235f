"""What an attack is: frames, where they leave, and who must never see them. No I/O.

The attacks themselves are in `attacks_spoofing`, `attacks_overlay` and `attacks_filtered`; `attack` carries them out.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from controller.host.forging import BROADCAST, Address, End, Token
from controller.host.hostile import Place
from controller.model.topology import Port, RouterPort, Topology
from flows.port_security import link_local

FORGED: Final = "02:54:55"  # how MACs begin that belong to nobody (locally administered)
NOBODY_IP: Final = ip_address("198.18.6.66")  # RFC 2544: of benchmarks, and of no cloud
_OFFSET: Final = 0x2A  # of the first forged MAC; any number would do


class From(Enum):
    """Where an attack's frames leave."""

    CARD = "the VM's card"
    UNDERLAY = "a machine on the underlay that is no host of the cloud"


class Meanwhile(Enum):
    """What happens while the frames are sent."""

    NOTHING = ""
    RULES = "a rule of its security groups is added and taken away"
    RESTART = "ovs-vswitchd of its host is killed and started again"


class Also(Enum):
    """What an attack may do beside being seen."""

    NOTHING = ""
    LEARNED = "MACs are learned without a limit"
    ASKED = "the daemon is asked without a limit"


Breach = Callable[[Place, bytes], bool]


def anybody(_: Place, __: bytes) -> bool:
    """Nobody may see the attack's frames."""
    return True


@dataclass(frozen=True)
class Attack:
    """One attack on a live cloud. Without frames it is not applicable, and `what` says why."""

    name: str
    what: str
    frames: tuple[bytes, ...] = ()
    count: int = 40  # how many are sent: the frames in turn
    rate: float = 4000.0  # a second
    source: From = From.CARD
    is_breach: Breach = anybody  # whether it may not be seen at a place
    victim: str = ""  # the port that it is about, if it is one
    host: str = ""  # the host whose rows shall stop it; else that of the attacker
    meanwhile: Meanwhile = Meanwhile.NOTHING
    also: Also = Also.NOTHING
    answers: bool = False  # whether servers' answers to it count, too, though they do not carry its token


@dataclass(frozen=True)
class Scene:
    """Who attacks, in which cloud."""

    topology: Topology
    port: Port
    run: int  # a random number that all frames of a run have
    vlans: Mapping[str, int]  # network -> local VLAN on the attacker's host
    number: int = 0  # of the attack

    def token(self, frame: int = 0) -> Token:
        """What a frame of this attack is known by."""
        return Token(self.run, self.number, frame)

    @property
    def me(self) -> End:
        """The attacker, honestly."""
        return End(self.port.mac, self.port.ip)

    @property
    def me6(self) -> End:
        """The same with the link-local address of its MAC."""
        return End(self.port.mac, self.own6)

    @property
    def own6(self) -> IPv6Address:
        """The link-local address of its MAC."""
        return link_local(self.port.mac)

    @property
    def everybody(self) -> End:
        return End(BROADCAST, IPv4Address("255.255.255.255"))

    @cached_property
    def neighbours(self) -> tuple[Port, ...]:
        """Other VMs on the attacker's network and of its IP version, those on other hosts first."""
        others = [port for port in self.topology.ports_by_network[self.port.network]
                  if port.vm != self.port.vm and port.ip.version == self.port.ip.version]
        return tuple(sorted(others, key=lambda port: port.host == self.port.host))

    @property
    def victim(self) -> End:
        """A neighbour; where there is none, somebody who might be one."""
        if self.neighbours:
            return End(self.neighbours[0].mac, self.neighbours[0].ip)
        return End(f"{FORGED}:00:00:01", self.port.ip + 1)

    @cached_property
    def gateway(self) -> End | None:
        """Who the attacker's subnet leads out by; None without one, or if nobody has that address."""
        address = self.topology.subnets[self.port.subnet].gateway
        holders: list[Port | RouterPort] = [*self.topology.legs_by_network.get(self.port.network, ()),
                                            *self.topology.ports_by_network[self.port.network]]
        return next((End(one.mac, one.ip) for one in holders if one.ip == address and one != self.port), None)

    @cached_property
    def beyond(self) -> tuple[Port, ...]:
        """VMs of the attacker's IP version on other networks that its gateway has a leg on."""
        legs = [leg for leg in self.topology.legs_by_network.get(self.port.network, ())
                if self.gateway is not None and leg.ip == self.gateway.ip]
        near = {one.network for leg in legs for one in self.topology.legs_by_router[leg.router] if not one.outside}
        return tuple(port for port in self.topology.ports() if port.network in near - {self.port.network}
                     and port.vm != self.port.vm and port.ip.version == self.port.ip.version)

    def way_to(self, port: Port) -> End:
        """How a frame for a neighbour, or for one of those beyond, is addressed."""
        routed = port.network != self.port.network and self.gateway is not None
        return End(self.gateway.mac if routed and self.gateway else port.mac, port.ip)

    @cached_property
    def strangers(self) -> tuple[Port, ...]:
        """VMs on networks that no router joins with the attacker's."""
        near = joined(self.topology, self.port.network)
        return tuple(port for port in self.topology.ports()
                     if port.network not in near and port.vm != self.port.vm)

    def owns(self, mac: str, ip: Address) -> bool:
        """Whether the topology lets the attacker use an address with a MAC."""
        own = mac == self.port.mac and ip in (self.port.ip, link_local(mac))
        return own or any(pair.mac == mac and ip in pair.ip for pair in self.port.allowed_address_pairs)

    def is_stranger(self, place: Place) -> bool:
        """Whether a place belongs to those that the attacker must not reach in any way."""
        return place.kind == "vm" and place.name in {port.name for port in self.strangers}


def joined(topology: Topology, network: str) -> frozenset[str]:
    """The networks that routers' inside legs join with one, itself among them."""
    found, todo = {network}, [network]
    while todo:
        here = todo.pop()
        for leg in topology.legs_by_network.get(here, ()):
            beyond = {one.network for one in topology.legs_by_router[leg.router] if not one.outside}
            new = set() if leg.outside else beyond - found
            found |= new
            todo += new
    return frozenset(found)


def forged_macs(count: int) -> Iterator[str]:
    """MACs that belong to nobody, each once."""
    for number in range(_OFFSET, _OFFSET + count):
        yield f"{FORGED}:{number >> 16 & 0xFF:02x}:{number >> 8 & 0xFF:02x}:{number & 0xFF:02x}"
