"""What becomes of a ping, from the topology alone: the question for the MAC, its answer, then the ping and its own."""
from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, ip_address

from controller.model.placement import Seen
from controller.model.reachability import INTERNET
from controller.model.topology import Port, Topology
from controller.tools import world
from controller.tools.apart import apart
from controller.tools.asking import ask
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.flooding import EVERYBODY, broadcast
from controller.tools.journey import DELIVERED, DROPPED, Journey, Leg
from controller.tools.services import PING, Service
from controller.tools.simulate import Cloud
from controller.tools.speaking import Speaking
from controller.tools.story import story
from controller.tools.telling import listed
from controller.tools.tracing import Target, Tracing
from flows import fields as f

__all__ = ["Journey", "service", "story", "trace", "trace_in"]


def trace(topology: Topology, src: str, dst: str, seen: Mapping[str, Seen] | None = None,
          service: Service | None = None, packets: int = 1) -> Journey:
    """The journey of a ping from a VM to another, to an address, or to `internet`; or of what another service needs.

    Names are those of VMs (their first port) or of ports (`fw1:eth1`). `broadcast` is to everybody on the VM's network:
    an ARP announcement, unless a service says what else. `seen`: a host's numbers, where they are known from its
    switch; the rest is as on a host that has just been built. `packets`: so many, one after the other, of which later
    ones find what the first has taught. Refusal for a name that there is not.
    """
    return trace_in(Cloud(topology, seen), topology, (src, dst), service, packets)


def trace_in(cloud: Cloud, topology: Topology, names: tuple[str, str], service: Service | None = None,
             packets: int = 1) -> Journey:
    """The same through a cloud whose tables are there already, and may be others than the topology's."""
    src, dst = names
    source = _port(topology, src)
    if dst == EVERYBODY and dst not in topology.vms:
        return broadcast(topology, cloud, source, service, packets)
    trace_ = Tracing(topology, cloud, source, _target(topology, source, dst), service or PING)
    return replace(_journey(trace_, packets), source=source.name, target=trace_.target.name,
                   service=trace_.service.words)


def service(tcp: int | None, udp: int | None) -> Service:
    """A TCP or UDP port, or else a ping."""
    if tcp is not None:
        return Service(f.TCP, tcp)
    return Service(f.UDP, udp) if udp is not None else PING


def _port(topology: Topology, name: str) -> Port:
    if name in topology.vms and topology.vms[name].ports:
        return topology.vms[name].ports[0]
    port = next((port for port in topology.ports() if port.name == name), None)
    if port is not None:
        return port
    ports = [port.name for port in topology.ports()]
    near = difflib.get_close_matches(name, [*topology.vms, *ports], n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {listed(sorted(ports)) or 'none at all'}."
    raise Refusal(f"{topology.source} has no VM or port named {name!r}; {hint}", BAD_INPUT)


def _target(topology: Topology, source: Port, dst: str) -> Target:
    if dst == INTERNET and dst not in topology.vms:
        return Target(_outside(topology, source), dst, None)
    try:
        return Target(ip_address(dst), dst, None)
    except ValueError:
        port = _port(topology, dst)
        return Target(port.ip, port.name, port)


def _outside(topology: Topology, source: Port) -> IPv4Address:
    """An address of the world outside: on the network that the source's router leads to, or else on any."""
    routers = {leg.router for leg in topology.legs_by_network.get(source.network, ()) if leg.subnet == source.subnet}
    near = [leg.network for router in sorted(routers) for leg in topology.legs_by_router[router] if leg.outside]
    every = [name for name, network in topology.networks.items() if network.physical_network is not None]
    for network in (*near, *every):
        for address in world.gateways(topology, network):
            return address
    raise Refusal(f"{topology.source} has no network with a gateway outside; see `external` of a network.", BAD_INPUT)


def _journey(trace_: Tracing, packets: int) -> Journey:
    source, target = trace_.source, trace_.target
    if target.port == source or (target.port is None and target.address == source.ip):
        return Journey(DELIVERED, f"{source.name} talks to itself; nothing leaves it", ())
    if target.address.version != source.ip.version:
        return Journey(DROPPED, f"{source.name} has no IPv{target.address.version} address", ())
    next_hop, reason = trace_.next_hop(source, target.address)
    if next_hop is None:
        return Journey(DROPPED, f"{reason}{apart(trace_)}", ())
    asked = ask(trace_, next_hop)
    if asked.mac is None:
        return Journey(DROPPED, asked.reason, asked.legs)
    legs: tuple[Leg, ...] = asked.legs
    for number in range(1, packets + 1):
        spoken = Speaking(trace_, asked.mac, number).journey()
        legs = (*legs, *spoken.legs)
    return replace(spoken, legs=legs)
