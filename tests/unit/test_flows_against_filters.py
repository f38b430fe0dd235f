"""Two readings of security groups: what the compiled rows let through, and what the model says (model.filtering)."""
from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import pytest

from controller.model import placement
from controller.model.protocols import Datagram
from controller.model.topology import Port, Topology
from flows import fields as f
from flows.compile import compile_host
from flows.evaluate import Pipeline
from flows.packet import Packet, frame
from flows.tables import BR_INT
from flows.tracking import Conntrack
from tests.clouds import parse
from tests.random_clouds import random_cloud

Address = IPv4Address | IPv6Address
CLOUDS, DATAGRAMS = 12, 40
PROTOCOLS = (f.TCP, f.TCP, f.UDP, f.UDP, f.ICMP, f.SCTP, 47, 89)
SERVICES = (1, 22, 53, 80, 81, 443, 1000, 8080, 65535)


@dataclass(frozen=True)
class Place:
    """A host's br-int, and the VMs' ports on it."""

    rows: Pipeline
    ports: tuple[Port, ...]
    ofports: dict[str, int]


def places(topology: Topology) -> Iterator[Place]:
    for host in topology.hosts:
        seen = placement.imagined(topology, host)
        rows = compile_host(placement.place(topology, host, seen))[BR_INT]
        ports = tuple(port for vm in topology.vms.values() if vm.host == host for port in vm.ports)
        yield Place(Pipeline(BR_INT, rows), ports, {port.id.hex: seen.ports[BR_INT][port.device] for port in ports})


def datagram(pick: random.Random, source: Address, target: Address) -> Datagram:
    protocol, port = pick.choice(PROTOCOLS), pick.choice(SERVICES)
    if protocol == f.ICMP:
        icmp, kinds = (f.ICMP, (8, 13, 0)) if source.version == 4 else (f.ICMPV6, (128, 129, 135))
        return Datagram(source.version, icmp, source, target, icmp_type=pick.choice(kinds), icmp_code=0)
    with_port = protocol in (f.TCP, f.UDP, f.SCTP)
    return Datagram(source.version, protocol, source, target, port if with_port else None,
                    source_port=40000 if with_port else None)


def framed(said: Datagram, source: Port, target: Port) -> Packet:
    """The datagram as it leaves a VM."""
    ends = (f.IPV4_SRC, f.IPV4_DST) if said.version == 4 else (f.IPV6_SRC, f.IPV6_DST)
    names = {f.TCP: "tcp", f.UDP: "udp", f.SCTP: "sctp"}
    more = {}
    if said.port is not None and said.source_port is not None:
        name = names[said.protocol]
        more = {f"{name}_src": said.source_port, f"{name}_dst": said.port}
    elif said.icmp_type is not None and said.icmp_code is not None:
        name = "icmpv4" if said.version == 4 else "icmpv6"
        more = {f"{name}_type": said.icmp_type, f"{name}_code": said.icmp_code, "icmp_id": 7}
    return frame(source.mac, target.mac, f.IPV4 if said.version == 4 else f.IPV6,
                 {ends[0]: str(said.source), ends[1]: str(said.destination), f.IP_PROTO: said.protocol}, **more)


def addresses(port: Port) -> list[Address]:
    """What a port may wear together with its own MAC."""
    return [identity.network_address for one in placement.identities(port) if one.mac == port.mac
            for identity in one.addresses if identity.prefixlen] or [port.ip]


@pytest.mark.parametrize("run", range(CLOUDS))
def test_rows_and_model_let_the_same_conversations_begin(run: int, seed: int) -> None:
    pick = random.Random(f"{seed} groups {run}")
    topology = parse(random_cloud(pick, edge="openvswitch"))
    pairs = [(place, one, two) for place in places(topology) for one in place.ports for two in place.ports
             if one is not two and one.network == two.network and one.mac != two.mac]
    for _ in range(DATAGRAMS if pairs else 0):
        place, source, target = pick.choice(pairs)
        sender = pick.choice(addresses(source))
        receivers = [one for one in addresses(target) if one.version == sender.version]
        if not receivers:
            continue
        said = datagram(pick, sender, pick.choice(receivers))
        leaves, enters = topology.filters.leaves(source, said), topology.filters.enters(target, said)
        walk = place.rows.walk(framed(said, source, target), place.ofports[source.id.hex], Conntrack())
        outputs = {port for port, _ in walk.outputs}
        got = place.ofports[target.id.hex] in outputs
        assert got is (leaves.passes and enters.passes), f"{said}: {leaves}; {enters}; {walk.outputs}"
