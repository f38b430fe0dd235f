"""Random clouds with security groups, small enough for a lab: two tenants with equal addresses, one with a router."""
from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from controller.model import reading
from controller.model.topology import Topology

GROUPS = tuple(f"g{n}" for n in range(6))
_HOSTS = ("c1", "c2")
_V6 = "fd00:1::"
_PROTOCOLS = ("tcp", "tcp", "tcp", "udp", "udp", "udp", "icmp", "icmp", "any", "any", "sctp", "gre", "ospf", 6, 17, 47,
              132)
_V6_PROTOCOLS = ("tcp", "tcp", "udp", "udp", "icmp", "icmpv6", "any", "sctp", 89)
_V6_REMOTES = ("fd00:1::b", "fd00:1::c", "fd00:1::8/126", "fd00:1::/64", "::/0", "fe80::/10")
_REMOTES = ("10.0.1.11", "10.0.1.12", "10.0.1.0/24", "10.0.1.8/30", "10.0.2.11", "10.0.2.0/24", "10.0.2.8/30",
            "10.0.0.0/8", "0.0.0.0/0", "0.0.0.0/1", "255.255.255.255/32")
EDGES = (1, 22, 53, 79, 80, 81, 443, 1000, 1023, 1024, 8000, 8080, 8191, 8192, 10000)  # where ranges begin and end


@dataclass(frozen=True)
class Card:
    """A VM with one port."""

    name: str
    host: str
    network: str
    ip: str
    mac: str
    groups: tuple[str, ...]
    extra: str = ""  # more words of the port


@dataclass(frozen=True)
class Sketch:
    """A cloud before it is text; two that differ in their rules alone are one before and after a change."""

    firewall: str
    driver: str  # of the router
    forwarding: str
    cards: tuple[Card, ...]
    rules: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def text(self) -> str:
        """The topology.yaml."""
        lines = ["cloud: edge", "underlay: {cidr: 192.0.2.0/24}", f"firewall: {self.firewall}",
                 f"forwarding: {self.forwarding}", *_PLACES, f"    driver: {self.driver}", "security_groups:"]
        for name, rules in self.rules.items():
            lines += [f"  {name}:", *(f"    - {{{rule}}}" for rule in rules)] if rules else [f"  {name}: []"]
        return "\n".join([*lines, "vms:", *map(_vm, self.cards)]) + "\n"

    def topology(self) -> Topology | None:
        """What it means; None if there is a mistake in it, as chance may have it."""
        return reading.parse(self.text(), "topology.yaml").topology


_PLACES = """hosts:
  c1: {tunnel_ip: 192.0.2.11}
  c2: {tunnel_ip: 192.0.2.12}
  n1: {tunnel_ip: 192.0.2.21, role: network}
networks:
  blue:
    tunnel_id: 1001
    subnets: {blue4: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}, blue6: {cidr: "fd00:1::/64"}}
  data: {tunnel_id: 1002, subnets: {data4: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
  twin: {tunnel_id: 2001, subnets: {twin4: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
routers:
  r1:
    host: n1
    interfaces: [blue4, data4]""".splitlines()


def _vm(card: Card) -> str:
    groups = f", security_groups: [{', '.join(card.groups)}]" if card.groups else ""
    return (f'  {card.name}: {{host: {card.host}, network: {card.network}, ip: "{card.ip}", mac: "{card.mac}"'
            f"{groups}{card.extra}}}")


def sketch(pick: random.Random, firewall: str) -> Sketch:
    """A cloud with 14 VMs on two hypervisors that is valid."""
    while True:
        cards = tuple(_cards(pick))
        made = Sketch(firewall, pick.choice(("simulated", "namespace")), pick.choice(("learning", "l2population")),
                      cards, {name: tuple(_rules(pick, pick.randint(0, 6))) for name in GROUPS})
        if made.topology() is not None:
            return made


def changed(pick: random.Random, before: Sketch) -> Sketch:
    """The same VMs with other rules in most groups, and with other groups on some."""
    while True:
        rules = {name: tuple(_some(pick, own)) for name, own in before.rules.items()}
        cards = tuple(replace(card, groups=_groups(pick)) if pick.random() < 0.2 else card for card in before.cards)
        after = replace(before, rules=rules, cards=cards)
        if after.topology() is not None:
            return after


def _some(pick: random.Random, rules: tuple[str, ...]) -> Iterator[str]:
    """Some of the rules go, and some come."""
    yield from (rule for rule in rules if pick.random() < 0.6)
    yield from _rules(pick, pick.randint(0, 2))


def _cards(pick: random.Random) -> Iterator[Card]:
    # The twins wear what their likes on `blue` wear.
    for network, start, many, mac in (("blue", "10.0.1.", 5, 0x10), ("blue", _V6, 3, 0x20),
                                      ("data", "10.0.2.", 3, 0x30), ("twin", "10.0.1.", 3, 0x10)):
        for place in range(many):
            last = f"{place + 11:x}" if start == _V6 else str(place + 11)
            yield Card(f"{network}{'six' if start == _V6 else ''}{place}", pick.choice(_HOSTS), network, start + last,
                       f"fa:16:3e:00:00:{mac + place:02x}", _groups(pick), _extra(pick, start, place))


def _groups(pick: random.Random) -> tuple[str, ...]:
    return tuple(sorted(pick.sample(GROUPS, pick.choice((0, 1, 1, 2, 2, 3)))))


def _extra(pick: random.Random, start: str, place: int) -> str:
    """Another address of its own, or a range of them, or no port security."""
    chance = pick.random()
    if chance < 0.15:
        return ", port_security: false"
    if chance < 0.4:
        more = f"{start}{200 + place}" if pick.random() < 0.6 else \
            f"{start}{hex(0x40 + 16 * place)[2:]}/124" if start == _V6 else f"{start}{64 + 16 * place}/28"
        return f', allowed_address_pairs: [{{ip: "{more}"}}]'
    return ""


def _rules(pick: random.Random, many: int) -> Iterator[str]:
    for _ in range(many):
        yield _rule(pick, 6 if pick.random() < 0.3 else 4)


def _rule(pick: random.Random, version: int) -> str:
    protocol = pick.choice(_PROTOCOLS if version == 4 else _V6_PROTOCOLS)
    words = [f"direction: {pick.choice(('ingress', 'ingress', 'ingress', 'egress'))}", f"ethertype: IPv{version}"]
    if protocol != "any" or pick.random() < 0.5:
        words.append(f"protocol: {protocol}")
    if pick.random() < {"tcp": 0.8, "udp": 0.8, 6: 0.8, 17: 0.8, "sctp": 0.5, 132: 0.5}.get(protocol, 0):
        low = pick.choice(EDGES)
        high = pick.choice([edge for edge in EDGES if edge >= low])
        words.append(f"port: {low}" if pick.random() < 0.5 else f'port: "{low}-{high}"')
    if protocol in ("icmp", "icmpv6") and pick.random() < 0.7:
        words.append(f"icmp_type: {pick.choice((8, 8, 13) if version == 4 else (128,))}")
        if pick.random() < 0.4:
            words.append(f"icmp_code: {pick.choice((0, 0, 1))}")
    return ", ".join([*words, *_remote(pick, version)])


def _remote(pick: random.Random, version: int) -> list[str]:
    chance = pick.random()
    if chance < 0.3:
        return []
    if chance < 0.65:
        return [f"remote_group: {pick.choice(GROUPS)}"]
    if version == 6:
        return [f'remote: "{pick.choice(_V6_REMOTES)}"']
    return [f"remote: {pick.choice(_REMOTES)}"]
