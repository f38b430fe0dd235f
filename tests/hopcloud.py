"""One network host by hand, for tests of the compiled hop: two routers with equal addresses behind one outside.

r1 joins blue, green and teal (two subnets) and has an outside, source NAT and two floating IPs; r2 joins other-blue
and other-green with the same addresses, and has one floating IP. r3 has an island and no outside.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_network
from typing import Final

from flows.host import (
    Host,
    Identity,
    Network,
    Port,
    ProviderBridge,
    RouterLeg,
    RouterNeighbour,
    Segment,
    SimulatedRouter,
    Tunnels,
)
from flows.router import FloatingIp, Gateway, Leg, Route, Router

GATEWAY, FAR = "203.0.113.1", "198.18.0.7"  # the next hop outside, and somebody behind it
MTU_INSIDE, MTU_OUTSIDE = 1450, 1500
METERS: Final = (1, 2, 3)  # one for web1, one for every other sender by name, one for all others


@dataclass(frozen=True)
class Vm:
    """A VM on a network. `port` is its port on br-int."""

    network: str
    address: str
    port: int
    secured: bool = True

    @property
    def mac(self) -> str:
        """Made of its port."""
        return f"fa:16:3e:00:00:{self.port:02x}"


VLANS: Final = {"blue": 11, "green": 12, "teal": 13, "public": 14, "other-blue": 21, "other-green": 22,
                "island": 31}
VMS: Final = {
    "web1": Vm("blue", "10.0.1.11", 11), "web2": Vm("blue", "10.0.1.12", 12), "fw1": Vm("blue", "10.0.1.50", 13, False),
    "db1": Vm("green", "10.0.2.11", 14), "left1": Vm("teal", "10.0.3.11", 15), "right1": Vm("teal", "10.0.4.11", 16),
    "web2b": Vm("other-blue", "10.0.1.11", 17), "db2": Vm("other-green", "10.0.2.11", 18),
    "isle1": Vm("island", "10.0.9.11", 19),
}
INT_EX: Final = 30  # int-br-ex on br-int
PHY_EX, UPLINK = 1, 2  # on br-ex
_SUBNETS: Final = {"blue-subnet": ("blue", "10.0.1"), "green-subnet": ("green", "10.0.2"),
                   "teal-left": ("teal", "10.0.3"), "teal-right": ("teal", "10.0.4"),
                   "other-blue-subnet": ("other-blue", "10.0.1"), "other-green-subnet": ("other-green", "10.0.2"),
                   "island-subnet": ("island", "10.0.9")}


def _leg(number: int, address: str, mtu: int = MTU_INSIDE) -> Leg:
    kind = "qg" if address.startswith("203.") else "qr"
    return Leg(f"{kind}-{number}", f"fa:16:3e:00:01:{number:02x}", (IPv4Interface(f"{address}/24"),), mtu)


@dataclass(frozen=True)
class _Outside:
    address: str
    snat: bool
    floating: Mapping[str, str]


def _simulated(name: str, number: int, first: int, subnets: tuple[str, ...],
               outside: _Outside | None = None) -> SimulatedRouter:
    """`first`: number of its first leg."""
    legs = [_leg(first + place, f"{_SUBNETS[subnet][1]}.1") for place, subnet in enumerate(subnets)]
    networks = [_SUBNETS[subnet][0] for subnet in subnets]
    router = Router(name, tuple(legs))
    if outside:
        last = _leg(first + len(subnets), outside.address, MTU_OUTSIDE)
        floating = tuple(FloatingIp(IPv4Address(one), IPv4Address(two)) for one, two in outside.floating.items())
        router = Router(name, (*legs, last), Gateway(last.name, IPv4Address(GATEWAY), outside.snat),
                        floating_ips=floating)
    numbers = [RouterLeg(leg.name, first + place, VLANS[network], network, f"{name} on {subnet}", METERS[2])
               for place, (leg, network, subnet) in
               enumerate(zip(router.legs, [*networks, "public"], [*subnets, "public-subnet"], strict=False))]
    neighbours = [RouterNeighbour(vm_name, f"vms.{vm_name}", leg.name, vm.mac, IPv4Address(vm.address), vm.secured,
                                  METERS[0] if vm_name == "web1" else METERS[1])
                  for leg, network in zip(legs, networks, strict=True) for vm_name, vm in VMS.items()
                  if vm.network == network and IPv4Address(vm.address) in leg.addresses[0].network]
    return SimulatedRouter(f"routers.{name}", router, number, number, number + 1, tuple(numbers), tuple(neighbours))


def routers(*, snat: bool = True) -> tuple[SimulatedRouter, ...]:
    """All three; r1 and r2 know each other's addresses outside."""
    one = _simulated("r1", 0x8000, 0x11, ("blue-subnet", "green-subnet", "teal-left", "teal-right"),
                     _Outside("203.0.113.10", snat, {"203.0.113.50": "10.0.1.11", "203.0.113.51": "10.0.2.11"}))
    one = replace(one, router=replace(one.router, routes=(
        Route(IPv4Network("198.51.100.0/24"), IPv4Address("10.0.1.50")),)))
    two = _simulated("r2", 0x8002, 0x21, ("other-blue-subnet", "other-green-subnet"),
                     _Outside("203.0.113.20", snat, {"203.0.113.60": "10.0.1.11"}))
    return _acquainted(one, two), _acquainted(two, one), _simulated("r3", 0x8004, 0x31, ("island-subnet",))


def _acquainted(mine: SimulatedRouter, other: SimulatedRouter) -> SimulatedRouter:
    outside, theirs = mine.router.outside, other.router.outside
    assert outside and theirs
    addresses = (theirs.addresses[0].ip, *(one.external for one in other.router.floating_ips))
    known = tuple(RouterNeighbour(other.router.name, other.origin, outside.name, theirs.mac, address, True, METERS[1])
                  for address in addresses)
    return replace(mine, neighbours=(*mine.neighbours, *known))


def host(*, snat: bool = True, flat: bool = True) -> Host:
    """The network host with all VMs on it, and the outside untagged or on VLAN 100 of br-ex."""
    bridge = ProviderBridge("br-ex", INT_EX, PHY_EX, (UPLINK,), None)
    segment = Segment(bridge, None if flat else 100)
    networks = [Network(name, f"networks.{name}", vlan, None if name == "public" else 1000 + vlan, _ports(name),
                        Tunnels(), (), segment=segment if name == "public" else None) for name, vlan in VLANS.items()]
    return Host("network1", None, None, "vxlan", Tunnels(), tuple(networks), False, False, 300, (bridge,),
                routers(snat=snat))


def _ports(network: str) -> tuple[Port, ...]:
    return tuple(Port(name, f"vms.{name}", vm.port, vm.mac,
                      (Identity(vm.mac, (ip_network(vm.address),)),) if vm.secured else ())
                 for name, vm in VMS.items() if vm.network == network)
