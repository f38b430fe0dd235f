"""Clouds of many hosts and ports, made without a file: 20,000 ports in a moment."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from uuid import UUID

from controller.model import names
from controller.model.objects import Host, Network, Port, Subnet, Tunnel, Underlay, Vm
from controller.model.topology import Topology

_UNDERLAY = ip_network("172.16.0.0/12")
_OVERLAY = ip_network("10.0.0.0/16")
_PORT, _NETWORK, _SUBNET = (kind << 96 for kind in (1, 2, 3))  # so that no two ids are alike


def wide(hosts: int, ports: int, size: int = 20, *, forwarding: str = "l2population", firewall: str = "none",
         groups: tuple[str, ...] = ()) -> Topology:
    """Networks of `size` ports, each port on another host as far as there are enough, all hosts used alike."""
    placed = {f"compute{number}": _host(number) for number in range(hosts)}
    networks = {f"net{number}": _network(number) for number in range(-(-ports // size))}
    vms = (vm(network * size + index, network, f"compute{_home(network, index, size, hosts)}", groups)
           for network in range(len(networks)) for index in range(min(size, ports - network * size)))
    return Topology(
        cloud="wide", source="wide.yaml", underlay=Underlay(_UNDERLAY), tunnel=Tunnel(), forwarding=forwarding,
        arp_responder=False, firewall=firewall, mac_aging_time=300, hosts=placed, networks=networks,
        vms={one.name: one for one in vms})


def _home(network: int, index: int, size: int, hosts: int) -> int:
    """The ports of a network stand apart; the next network begins where this one ends."""
    return (network * size + index) % hosts


def vm(number: int, network: int, host: str, groups: tuple[str, ...] = ()) -> Vm:
    """One VM with one port."""
    name, port_id = f"vm{number}", UUID(int=_PORT | number << 32)
    mac = "fa:16:3e:" + ":".join(f"{number >> shift & 255:02x}" for shift in (16, 8, 0))
    port = Port(
        name=name, path=f"vms.{name}", id=port_id, vm=name, index=0, host=host, network=f"net{network}",
        subnet=f"net{network}-subnet", ip=_OVERLAY[1 + number % 65000], mac=mac, dhcp=False, port_security=True,
        security_groups=groups, allowed_address_pairs=(), device=f"tap{number}", line=1)
    return Vm(name, host, (port,), 1)


def with_vm(topology: Topology, one: Vm) -> Topology:
    """The same cloud with one more at the end of its file."""
    return replace(topology, vms={**topology.vms, one.name: one})


def without_vm(topology: Topology, name: str) -> Topology:
    """The same cloud with one less."""
    return replace(topology, vms={each: vm for each, vm in topology.vms.items() if each != name})


def hosts_of(topology: Topology, network: str) -> Iterator[str]:
    """The hosts that its VMs are on."""
    return iter(sorted({port.host for port in topology.ports_by_network[network]}))


def _host(number: int) -> Host:
    name = f"compute{number}"
    ids = {bridge: (number + 1) << 8 | index for index, bridge in enumerate(names.BRIDGES)}
    return Host(name, ip_address(int(_UNDERLAY.network_address) + 1 + number), "compute", ids, 1)


def _network(number: int) -> Network:
    name = f"net{number}"
    subnet = Subnet(f"{name}-subnet", UUID(int=_SUBNET | number), name, _OVERLAY, None, dhcp=False, dns=(), line=1)
    return Network(name, UUID(int=_NETWORK | number), tunnel_id=1 + number, external=False, subnets=(subnet,), line=1)
