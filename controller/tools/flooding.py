"""A broadcast of a VM, as a tree: every copy, to wherever it comes."""
from __future__ import annotations

from dataclasses import replace
from typing import Final

from controller.model.topology import Port, Topology
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.journey import BROADCAST, DELIVERED, DROPPED, Journey, Leg
from controller.tools.services import Service
from controller.tools.simulate import Cloud
from controller.tools.telling import listed, why
from controller.tools.tracing import Target, Tracing
from flows import fields as f
from flows import packet as packets
from flows.packet import Packet

EVERYBODY: Final = "broadcast"
_ALL_HOSTS: Final = "255.255.255.255"
_ALL_NODES: Final = ("33:33:00:00:00:01", "ff02::1")  # RFC 4291, 2.7.1


def broadcast(topology: Topology, cloud: Cloud, source: Port, service: Service | None, rounds: int) -> Journey:
    """What a VM says to all of its network: by ARP whose its address is, or what a service is asked by."""
    packet, words = _said(source, service)
    trace = Tracing(topology, cloud, source, Target(source.ip, EVERYBODY, None), service or Service())
    legs = []
    for number in range(1, rounds + 1):
        shot = trace.send(source, packet)
        leg = trace.tree(shot, Leg(f"{source.name} {words}{' again' if number > 1 else ''}", part=BROADCAST))
        legs.append(replace(leg, round=number))
    last = legs[-1]
    if not last.reached:
        reason = f"nobody got it: {why(trace.telling(shot))}"
    else:
        tunnels = sum(hop.kind == "underlay" for hop in last.hops)
        reason = (f"{listed(last.reached)} got it; {tunnels} {'copy' if tunnels == 1 else 'copies'} between hosts, "
                  f"and on {topology.networks[source.network].name} alone")
    return Journey(DELIVERED if last.reached else DROPPED, reason, tuple(legs), source=source.name, target=EVERYBODY,
                   service=service.words if service else BROADCAST)


def _said(source: Port, service: Service | None) -> tuple[Packet, str]:
    if service is None and source.ip.version == 4:
        return packets.arp_request(source.mac, source.ip, source.ip), f"announces by ARP that it has {source.ip}"
    if service is None:
        everybody = packets.neighbour_advertisement(source.mac, source.ip, *_ALL_NODES)
        return everybody, f"announces that it has {source.ip}"
    if service.protocol == f.TCP:
        raise Refusal("TCP has no broadcast; ask for --udp PORT, --icmp, or an ARP announcement without either.",
                      BAD_INPUT)
    mac, address = (f.BROADCAST, _ALL_HOSTS) if source.ip.version == 4 else _ALL_NODES
    return service.request((source.mac, source.ip), (mac, address)), f"sends {service.words} to everybody"
