"""Who hears whom, from the topology alone: no flow, no table, no VLAN. The yardstick for what the tables do."""
from __future__ import annotations

import random
from collections.abc import Iterator

from controller.model.topology import Port, Topology


def peers(topology: Topology, port: Port) -> set[str]:
    """Who hears a broadcast: everybody else on the port's network."""
    return {other.name for other in topology.ports() if other.network == port.network} - {port.name}


def macs(port: Port) -> set[str]:
    """What a port may wear: its own MAC and those of its address pairs."""
    return {port.mac, *(pair.mac for pair in port.allowed_address_pairs if port.port_security)}


def hears_unicast(topology: Topology, port: Port, mac: str) -> set[str]:
    """Who hears a frame to a MAC of which nothing has been learned.

    Its wearers; if nobody may wear it, those whose MACs nobody checks.
    """
    others = [other for other in topology.ports() if other.network == port.network]
    wearers = {other.name for other in others if mac in macs(other)}
    return (wearers or {other.name for other in others if not other.port_security}) - {port.name}


def may_send(port: Port, mac: str, address: str) -> bool:
    """Whether a port may speak with a MAC and an IP address."""
    if not port.port_security:
        return True
    own = [(port.mac, str(port.ip) + ("/128" if port.ip.version == 6 else "/32"))]
    own += [(pair.mac, str(pair.ip)) for pair in port.allowed_address_pairs]
    return any(mac == theirs and _within(address, prefix) for theirs, prefix in own)


def _within(address: str, prefix: str) -> bool:
    """Bit by bit, so that nothing is shared with what is under test."""
    base, bits = prefix.split("/")
    version6 = ":" in base
    if (":" in address) != version6:
        return False
    width = 128 if version6 else 32
    drop = width - int(bits)
    return _bits(address, version6) >> drop == _bits(base, version6) >> drop


def _bits(address: str, version6: bool) -> int:
    if not version6:
        return int("".join(f"{int(part):08b}" for part in address.split(".")), 2)
    head, gap, tail = address.partition("::")
    left, right = [part for part in head.split(":") if part], [part for part in tail.split(":") if part]
    middle = ["0"] * (8 - len(left) - len(right)) if gap else []
    return int("".join(f"{int(part, 16):016b}" for part in [*left, *middle, *right]), 2)


def carriers(topology: Topology, network: str) -> set[str]:
    """The hosts that may ever see a frame of a network."""
    return {port.host for port in topology.ports() if port.network == network}


def reaches(source: Port, target: Port) -> bool:
    """Whether a ping arrives: without routers only inside a subnet."""
    return source.subnet == target.subnet


def random_cloud(pick: random.Random) -> str:
    """A valid topology.yaml with everything that changes who hears whom."""
    return "\n".join(_lines(pick)) + "\n"


def _lines(pick: random.Random) -> Iterator[str]:
    hosts = [f"host{n}" for n in range(pick.randint(1, 4))]
    nets = pick.randint(1, 3)
    yield "cloud: random"
    yield "underlay: {cidr: 192.0.2.0/24}"
    yield f"forwarding: {pick.choice(['learning', 'l2population'])}"
    yield f"arp_responder: {pick.choice(['true', 'false'])}"
    yield f"firewall: {pick.choice(['iptables_hybrid', 'none'])}"
    yield f"tunnel: {{type: {pick.choice(['vxlan', 'geneve', 'gre'])}}}"
    yield "hosts:"
    yield from (f"  {host}: {{tunnel_ip: 192.0.2.{n + 11}}}" for n, host in enumerate(hosts))
    yield "networks:"
    for n in range(nets):
        second = f", second{n}: {{cidr: 10.0.2.0/24}}" if pick.random() < 0.4 else ""
        yield f"  net{n}: {{tunnel_id: {1000 + n}, subnets: {{first{n}: {{cidr: 10.0.1.0/24}}{second}}}}}"
        if second:
            yield f"  # net{n} has two"
    yield "vms:"
    for n in range(pick.randint(2, 9)):
        ports = [_port(pick, nets, 10 * n + place + 1) for place in range(pick.choice([1, 1, 1, 2]))]
        yield f"  vm{n}:"
        yield f"    host: {pick.choice(hosts)}"
        yield "    ports:"
        yield from (f"      - {port}" for port in ports)


def _port(pick: random.Random, nets: int, number: int) -> str:
    net = pick.randrange(nets)
    words = [f"network: net{net}", f"ip: 10.0.1.{number}"]
    if pick.random() < 0.5:
        words.append(f'mac: "fa:16:3e:00:00:{number:02x}"')
    if pick.random() < 0.2:
        words.append("port_security: false")
    elif pick.random() < 0.5:
        pairs = pick.sample(['ip: 10.0.1.200, mac: "00:00:5e:00:01:01"', "ip: 10.0.1.201", "ip: 198.51.100.0/24",
                             "ip: 0.0.0.0/0", 'ip: "2001:db8::/32"', 'ip: 10.0.1.202, mac: "00:00:5e:00:01:02"'],
                            pick.randint(1, 3))
        words.append(f"allowed_address_pairs: [{', '.join('{' + pair + '}' for pair in pairs)}]")
    return "{" + ", ".join(words) + "}"
