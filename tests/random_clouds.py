"""Random clouds: valid topology.yaml files with everything that changes who hears whom, and who reaches whom."""
from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

PAIRS = ('ip: {net}.1.200, mac: "00:00:5e:00:01:01"', "ip: {net}.1.201", "ip: 198.51.100.0/24", "ip: 0.0.0.0/0",
         'ip: "2001:db8::/32"', 'ip: {net}.1.202, mac: "00:00:5e:00:01:02"')
GROUPS = ("ga", "gb", "gc")
TENANT = 3  # networks; the tenants have equal addresses


@dataclass
class _Subnet:
    name: str
    network: str
    base: str  # 10.1.2
    gateway: bool
    legs: list[tuple[str, str]] = field(default_factory=list)  # router, address


@dataclass
class Sketch:
    """What has been drawn so far."""

    pick: random.Random
    drivers: tuple[str, ...]
    outside: bool  # with physical networks
    edge: bool  # with security groups and DHCP
    subnets: list[list[_Subnet]] = field(default_factory=list)  # of each network
    vms: list[str] = field(default_factory=list)  # names of VMs that may get a floating IP, with their network
    cards: dict[str, list[str]] = field(default_factory=dict)  # subnet -> addresses of VMs


def random_cloud(pick: random.Random, drivers: tuple[str, ...] = (), *, outside: bool = False, edge: str = "") -> str:
    """A valid topology.yaml. `drivers`: those of its routers, none without; `outside`: with physical networks.

    `edge`: the firewall, for security groups and DHCP; without it there are neither.
    """
    sketch = Sketch(pick, drivers, outside, bool(edge))
    hosts = [f"host{n}" for n in range(pick.randint(1, 4))]
    lines = [*_head(pick, hosts, edge), *_networks(sketch), *_groups(sketch)]
    vms = [*_vms(sketch, hosts)]
    return "\n".join([*lines, *_routers(sketch, hosts), *_floating_ips(sketch), *vms]) + "\n"


def _head(pick: random.Random, hosts: list[str], edge: str) -> Iterator[str]:
    yield "cloud: random"
    yield "underlay: {cidr: 192.0.2.0/24}"
    yield f"forwarding: {pick.choice(['learning', 'l2population'])}"
    yield f"arp_responder: {pick.choice(['true', 'false'])}"
    yield f"firewall: {edge or pick.choice(['iptables_hybrid', 'none'])}"
    yield f"tunnel: {{type: {pick.choice(['vxlan', 'geneve', 'gre'])}}}"
    yield "hosts:"
    yield from (f"  {host}: {{tunnel_ip: 192.0.2.{n + 11}, role: network}}" for n, host in enumerate(hosts))


def _networks(sketch: Sketch) -> Iterator[str]:
    pick = sketch.pick
    yield "networks:"
    for n in range(pick.randint(1, 2 * TENANT if sketch.drivers else TENANT)):
        own = [_Subnet(f"first{n}", f"net{n}", f"10.{n % TENANT}.1", pick.random() < 0.85)]
        if pick.random() < 0.4:
            own.append(_Subnet(f"second{n}", f"net{n}", f"10.{n % TENANT}.2", pick.random() < 0.6))
        sketch.subnets.append(own)
        physical = sketch.outside and pick.random() < 0.25
        where = f"physical_network: dc, segmentation_id: {100 + n}" if physical else f"tunnel_id: {1000 + n}"
        yield f"  net{n}: {{{where}, subnets: {{{', '.join(_subnet(sketch, each) for each in own)}}}}}"
    if sketch.drivers or sketch.outside:
        where = "" if sketch.outside and pick.random() < 0.8 else "tunnel_id: 999, "
        yield (f"  public: {{external: true, {where}"
               "subnets: {public: {cidr: 203.0.113.0/24, gateway: 203.0.113.1}}}")


def _subnet(sketch: Sketch, subnet: _Subnet) -> str:
    gateway = f", gateway: {subnet.base}.1" if subnet.gateway else ""
    dhcp = ", dhcp: true" if sketch.edge and sketch.pick.random() < 0.5 else ""
    return f"{subnet.name}: {{cidr: {subnet.base}.0/24{gateway}{dhcp}}}"


def _groups(sketch: Sketch) -> Iterator[str]:
    """Rules that tell pings apart: by group, by prefix, by type; and some that have no say in them."""
    pick = sketch.pick
    if not sketch.edge:
        return
    bases = [subnet.base for network in sketch.subnets for subnet in network]
    yield "security_groups:"
    for name in GROUPS:
        yield f"  {name}:"
        for _ in range(pick.randint(1, 3)):
            one = f"{pick.choice(bases)}.{10 * pick.randint(0, 8) + 2}"
            remote = pick.choice([f"remote_group: {pick.choice(GROUPS)}", f"remote: {pick.choice(bases)}.0/26",
                                  f"remote: {one}", "remote: 203.0.113.0/24", "remote: 0.0.0.0/0", "ethertype: IPv4"])
            what = pick.choice(["protocol: icmp", "protocol: any", "protocol: icmp, icmp_type: 8", "protocol: 1",
                                "protocol: icmp, icmp_type: 13", "protocol: tcp, port: 80"])
            yield f"    - {{direction: {pick.choice(['ingress', 'ingress', 'egress'])}, {what}, {remote}}}"


def _routers(sketch: Sketch, hosts: list[str]) -> Iterator[str]:
    pick, tenants = sketch.pick, [sketch.subnets[:TENANT], sketch.subnets[TENANT:]]
    names = [(f"r{tenant}{n}", tenant) for tenant in range(2) if tenants[tenant] for n in range(pick.randint(0, 2))]
    if not sketch.drivers or not names:
        return
    yield "routers:"
    for number, (name, tenant) in enumerate(names):
        known = [subnet for network in tenants[tenant] for subnet in network]
        mine = pick.sample(known, pick.randint(0 if pick.random() < 0.2 else 1, len(known)))
        yield f"  {name}:"
        yield f"    host: {pick.choice(hosts)}"
        yield f"    driver: {pick.choice(sketch.drivers)}"
        yield f"    interfaces: [{', '.join(_interface(subnet, name, number) for subnet in mine)}]"
        gateway = pick.random() < 0.6
        if gateway:
            yield (f"    gateway: {{network: public, ip: 203.0.113.{10 + number}, "
                   f"snat: {pick.choice(['true', 'true', 'false'])}}}")
        yield f"    routes: [{', '.join(_routes(sketch, name, mine, known))}]"


def _interface(subnet: _Subnet, router: str, number: int) -> str:
    """The first router of a subnet is its gateway, if it has one; others have addresses of their own."""
    if subnet.gateway and not any(address.endswith(".1") for _, address in subnet.legs):
        subnet.legs.append((router, f"{subnet.base}.1"))
        return subnet.name
    subnet.legs.append((router, f"{subnet.base}.{240 + number}"))
    return f"{{subnet: {subnet.name}, ip: {subnet.base}.{240 + number}}}"


def _routes(sketch: Sketch, router: str, mine: list[_Subnet], known: list[_Subnet]) -> Iterator[str]:
    """By other routers, by VMs, and by nobody; to other subnets, to parts of the own ones, and to nowhere."""
    pick = sketch.pick
    hops = [address for subnet in mine for other, address in subnet.legs if other != router]
    hops += [address for subnet in mine for address in (*sketch.cards.get(subnet.name, ()), f"{subnet.base}.199")]
    aims = [f"{subnet.base}.0/24" for subnet in known if subnet not in mine]
    aims += [f"{subnet.base}.0/28" for subnet in known] + ["10.9.0.0/16", "10.0.0.0/8", "203.0.113.64/26"]
    if hops and pick.random() < 0.6:
        for aim in pick.sample(aims, pick.randint(1, min(3, len(aims)))):
            yield f"{{destination: {aim}, nexthop: {pick.choice(hops)}}}"


def _floating_ips(sketch: Sketch) -> Iterator[str]:
    if sketch.drivers and sketch.vms:
        yield "floating_ips:"
        some = sketch.pick.sample(sketch.vms, sketch.pick.randint(0, min(4, len(sketch.vms))))
        yield from (f"  203.0.113.{50 + 20 * n}: {{{vm}}}" for n, vm in enumerate(some))


def _vms(sketch: Sketch, hosts: list[str]) -> Iterator[str]:
    pick = sketch.pick
    yield "vms:"
    for n in range(pick.randint(2, 9)):
        ports = [_port(sketch, n, 10 * n + place + 2) for place in range(pick.choice([1, 1, 1, 2]))]
        yield f"  vm{n}:"
        yield f"    host: {pick.choice(hosts)}"
        yield "    ports:"
        yield from (f"      - {port}" for port in ports)


def _port(sketch: Sketch, vm: int, number: int) -> str:
    pick = sketch.pick
    if sketch.outside and pick.random() < 0.15:
        return f"{{network: public, ip: 203.0.113.{120 + number}}}"
    subnet = pick.choice(pick.choice(sketch.subnets))
    sketch.cards.setdefault(subnet.name, []).append(f"{subnet.base}.{number}")
    sketch.vms.append(f"vm: vm{vm}, network: {subnet.network}")
    words = [f"network: {subnet.network}", f"ip: {subnet.base}.{number}"]
    if pick.random() < 0.5:
        words.append(f'mac: "fa:16:3e:00:00:{number:02x}"')
    if pick.random() < 0.2:
        words.append("port_security: false")
    elif pick.random() < 0.5:
        net = subnet.base.rpartition(".")[0]
        pairs = [pair.format(net=net) for pair in pick.sample(PAIRS, pick.randint(1, 3))]
        words.append(f"allowed_address_pairs: [{', '.join('{' + pair + '}' for pair in pairs)}]")
    if sketch.edge and pick.random() < 0.6:
        words.append(f"security_groups: [{', '.join(pick.sample(GROUPS, pick.randint(1, 2)))}]")
    return "{" + ", ".join(words) + "}"
