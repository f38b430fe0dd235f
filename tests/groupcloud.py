"""One compute host by hand, for tests of port security and security groups: one network, every kind of port.

web1, web2 and free2 are in group web, db1 in group db; client and free1 are in none. free1 and free2 have no port
security. Of the group web, far1 (behind br-tun) is a member by an address pair of a whole prefix.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_network
from typing import Final

from flows.fields import ICMP, ICMPV6, SCTP, TCP, UDP
from flows.host import (
    Device,
    Filter,
    Host,
    Identity,
    Neighbour,
    Network,
    Port,
    Prefix,
    Profile,
    RemoteGroup,
    Rule,
    Tunnels,
)

VLAN, TUNNEL_ID, PATCH_TUN, DHCP_PORT, STRANGERS = 11, 1001, 40, 30, 9
GRE: Final = 47
WEB, DB = 0x80000101, 0x80000102  # profiles
WEB_BEGINS_4, WEB_BEGINS_6, WEB_HEARS_4 = 0x80000201, 0x80000202, 0x80000203  # remote groups


@dataclass(frozen=True)
class Vm:
    """A VM. `port` is its port on br-int."""

    number: int  # last part of its addresses
    port: int
    profile: int | None = None
    secured: bool = True

    @property
    def address(self) -> str:
        return f"10.0.1.{self.number}"

    @property
    def address6(self) -> str:
        return f"fd00:1::{self.number}"

    @property
    def mac(self) -> str:
        return f"fa:16:3e:00:00:{self.number:02d}"


VMS: Final = {"web1": Vm(11, 11, WEB), "web2": Vm(12, 12, WEB), "db1": Vm(21, 13, DB), "client": Vm(31, 14),
              "free1": Vm(41, 15, secured=False), "free2": Vm(42, 16, WEB, secured=False), "ear": Vm(2, 10)}
FAR: Final = Vm(70, PATCH_TUN)  # elsewhere
DHCP: Final = Vm(3, DHCP_PORT)


def rule(what: str, *, by_vm: bool = False, version: int = 4, remote: str | None = None,
         ports: tuple[int, int] | None = None, protocol: int | None = None, icmp: tuple[int | None, int | None] = (
             None, None), group: int | None = None) -> Rule:
    """A rule of the group that `what` begins with."""
    return Rule(f"security_groups.{what.partition(':')[0]}[0]", what, by_vm, version, protocol, ports, *icmp,
                ip_network(remote) if remote else None, group)


WEB_RULES: Final = (
    rule("web: tcp 80 from everybody", protocol=TCP, ports=(80, 80), remote="0.0.0.0/0"),
    rule("web: tcp 80 from everybody over IPv6", version=6, protocol=TCP, ports=(80, 80)),
    rule("web: tcp 8000 to 8009 from client", protocol=TCP, ports=(8000, 8009), remote="10.0.1.31/32"),
    rule("web: udp 53 from the first sixteen", protocol=UDP, ports=(53, 53), remote="10.0.1.0/28"),
    rule("web: ping from web", protocol=ICMP, icmp=(8, None), group=WEB_BEGINS_4),
    rule("web: ping from web over IPv6", version=6, protocol=ICMPV6, icmp=(128, 0), group=WEB_BEGINS_6),
    rule("web: tcp 9000 from web", protocol=TCP, ports=(9000, 9000), group=WEB_BEGINS_4),
    rule("web: sctp 5000", protocol=SCTP, ports=(5000, 5000)),
    rule("web: gre", protocol=GRE),
)
DB_RULES: Final = (
    rule("db: tcp 5432 from web", protocol=TCP, ports=(5432, 5432), group=WEB_BEGINS_4),
    rule("db: tcp 443 to everybody", by_vm=True, protocol=TCP, ports=(443, 443)),
    rule("db: udp 53 to client", by_vm=True, protocol=UDP, ports=(53, 53), remote="10.0.1.31/32"),
    rule("db: ping to web", by_vm=True, protocol=ICMP, icmp=(8, 0), group=WEB_HEARS_4),
)


def members(version: int) -> tuple[Prefix, ...]:
    """Who is in group web."""
    vms = [vm for vm in VMS.values() if vm.profile == WEB]
    return (*(ip_network(vm.address if version == 4 else vm.address6) for vm in vms),
            ip_network("10.0.1.64/28" if version == 4 else "fd00:1::70/124"))


def network(web: tuple[Rule, ...] = WEB_RULES, db: tuple[Rule, ...] = DB_RULES) -> Network:
    """The network blue, with these rules of its groups."""
    groups = (RemoteGroup(WEB_BEGINS_4, "web", "security_groups.web", False, 4, members(4)),
              RemoteGroup(WEB_BEGINS_6, "web", "security_groups.web", False, 6, members(6)),
              RemoteGroup(WEB_HEARS_4, "web", "security_groups.web", True, 4, members(4)))
    profiles = (Profile(WEB, "web on blue", "networks.blue", web, may_begin=not any(one.by_vm for one in web)),
                Profile(DB, "db on blue", "networks.blue", db, may_begin=not any(one.by_vm for one in db)))
    far = Neighbour("far1", "vms.far1", FAR.mac, IPv4Address(FAR.address), "compute2", secured=True)
    return Network("blue", "networks.blue", VLAN, TUNNEL_ID, tuple(_port(name, vm) for name, vm in VMS.items()),
                   Tunnels(("compute2",), (2,)), (far,),
                   (Device("DHCP of blue", "networks.blue", DHCP_PORT, DHCP.mac),), profiles=profiles,
                   remote_groups=groups)


def _port(name: str, vm: Vm) -> Port:
    own = Identity(vm.mac, (ip_network(vm.address), ip_network(vm.address6)))
    filtered = Filter(100 + vm.port, vm.profile) if vm.profile else None
    return Port(name, f"vms.{name}", vm.port, vm.mac, (own,) if vm.secured else (), filtered)


def host(net: Network | None = None, *, firewall: str = "openvswitch") -> Host:
    """The host that carries it."""
    blue = net or network()
    return Host("compute1", PATCH_TUN, 1, "vxlan", blue.tunnels, (blue,), False, False, 300, firewall=firewall,
                strangers=STRANGERS)


def without(net: Network, name: str) -> Network:
    """The network without a VM, and without its address in the groups."""
    gone = VMS[name]
    addresses = {ip_network(gone.address), ip_network(gone.address6)}
    groups = tuple(replace(group, members=tuple(one for one in group.members if one not in addresses))
                   for group in net.remote_groups)
    return replace(net, ports=tuple(port for port in net.ports if port.name != name), remote_groups=groups)
