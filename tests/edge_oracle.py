"""What passes a VM's edge, read from the topology alone: no flow, no chain, no code of ours that judges.

`Meaning` is what the file says of a packet that begins a conversation. `Edge` remembers conversations, as a filtered
port must, and says of any packet which ports it comes to.
"""
from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple

from controller.model.topology import Port, Prefix, SecurityRule, Topology
from tests.edge_packets import ICMPV6, QUERIES, SCTP, TCP, UDP, Address, Packet

# The IANA registry of protocol numbers; `icmp` has another number in each version of IP.
NUMBERS: Final = {"ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "icmpv6": 58, "igmp": 2, "ipip": 4,
                  "ospf": 89, "pgm": 113, "rsvp": 46, "sctp": 132, "tcp": 6, "udp": 17, "udplite": 136, "vrrp": 112}
FREE_OUT: Final = {130, 131, 132, 133, 135, 136, 143}  # ICMPv6: neighbours, routers and listeners
FREE_IN: Final = {130, 134, 135, 136}
_BEGIN: Final = ("S", "A", "R")  # with what a tracked TCP conversation may begin; S with A is an answer


class Meaning:
    """The security groups of a cloud, by the words of the file."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.on = topology.firewall != "none"
        self.ports = {port.name: port for port in topology.ports()}
        self._joined = _joined(topology)
        self._members: dict[tuple[str, frozenset[str]], list[Prefix]] = {}

    def filtered(self, port: Port) -> bool:
        return self.on and bool(port.security_groups)

    def rules(self, port: Port) -> list[SecurityRule]:
        """All rules of all groups of a port."""
        return [rule for group in port.security_groups for rule in self.topology.security_groups[group].rules]

    def begins(self, port: Port, packet: Packet, *, out: bool) -> bool:
        """Whether a packet may begin a conversation out of a port, or into it."""
        if not self.filtered(port):
            return True
        direction = "egress" if out else "ingress"
        rules = [rule for rule in self.rules(port) if rule.direction == direction]
        if out and not rules:
            return True
        other = packet.destination if out else packet.source
        return any(_says(rule, packet) and self._is(rule, other, port) for rule in rules)

    def _is(self, rule: SecurityRule, other: Address, port: Port) -> bool:
        if rule.remote is not None:
            return _in(other, rule.remote)
        if rule.remote_group is not None:
            return any(_in(other, member) for member in self.members(rule.remote_group, port.network))
        return True

    def members(self, group: str, network: str) -> list[Prefix]:
        """Whose addresses stand for a group among the ports of a network."""
        key = group, self._joined[network]
        if key not in self._members:
            self._members[key] = [prefix for port in self.ports.values()
                                  if group in port.security_groups and port.network in self._joined[network]
                                  for prefix in _prefixes(port)]
        return self._members[key]


def _prefixes(port: Port) -> list[Prefix]:
    own = ip_network(port.ip)
    return [own, *(pair.ip for pair in port.allowed_address_pairs if pair.ip.prefixlen)]


def _in(address: Address, prefix: Prefix) -> bool:
    return address.version == prefix.version and address in prefix


def _says(rule: SecurityRule, packet: Packet) -> bool:
    """Whether a rule is for such packets, whoever sends them."""
    if rule.ethertype != f"IPv{packet.version}":
        return False
    if rule.protocol is None:
        return True
    icmp = 1 if packet.version == 4 else 58
    number = rule.protocol if isinstance(rule.protocol, int) else NUMBERS.get(rule.protocol, icmp)
    if number == 1 and packet.version == 6:
        number = 58
    if number != packet.protocol:
        return False
    if rule.ports is not None and not rule.ports[0] <= packet.dport <= rule.ports[1]:
        return False
    if rule.icmp_type is not None and rule.icmp_type != packet.icmp_type:
        return False
    return rule.icmp_code is None or rule.icmp_code == packet.icmp_code


def _joined(topology: Topology) -> dict[str, frozenset[str]]:
    """Network -> all networks that routers join with it by legs inside, itself included."""
    parts = {name: {name} for name in topology.networks}
    for legs in topology.legs_by_router.values():
        inside = [leg.network for leg in legs if not leg.outside]
        whole = set().union(*(parts[name] for name in inside)) if inside else set()
        for name in whole:
            parts[name] = whole
    return {name: frozenset(part) for name, part in parts.items()}


def free(port: Port, packet: Packet, *, out: bool) -> bool:
    """What no group has a say in."""
    if packet.protocol == ICMPV6:
        return packet.icmp_type in (FREE_OUT if out else FREE_IN)
    if packet.protocol != UDP:
        return False
    ways = (packet.sport, packet.dport)
    if packet.version == 6:
        return ways == ((546, 547) if out else (547, 546))
    if out:
        return ways == (68, 67)
    return ways == (67, 68) and packet.destination in (port.ip, ip_address("255.255.255.255"))


# ---- port security

def may_wear(port: Port, mac: str, address: Address) -> bool:
    """Whether a port may speak with a MAC and an address."""
    if not port.port_security:
        return True
    own: list[tuple[str, Prefix]] = [(port.mac, ip_network(port.ip))]
    own += [(pair.mac, pair.ip) for pair in port.allowed_address_pairs]
    if any(mac == worn and _in(address, prefix) for worn, prefix in own):
        return True
    return mac in {worn for worn, _ in own} and address == link_local(mac)


def link_local(mac: str) -> IPv6Address:
    """The address that a MAC makes (RFC 4291, appendix A)."""
    raw = bytes.fromhex(mac.replace(":", ""))
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:])


def secure(port: Port, packet: Packet, mac: str) -> bool:
    """Whether port security lets a packet out."""
    if not port.port_security:
        return True
    if packet.protocol == UDP and (packet.version, packet.sport, packet.dport) in ((4, 67, 68), (6, 547, 546)):
        return False
    if packet.protocol == ICMPV6 and packet.icmp_type in (134, 137):
        return False
    return may_wear(port, mac, packet.source)


# ---- conversations

class _Key(NamedTuple):
    protocol: int
    one: tuple[Address, int]
    other: tuple[Address, int]
    kind: int  # the query of ICMP


class Edge:
    """All ports of a cloud, and the conversations that each has let begin."""

    def __init__(self, topology: Topology) -> None:
        self.meaning = Meaning(topology)
        self._zones: dict[str, dict[_Key, tuple[Packet, bool]]] = {}

    def change(self, topology: Topology) -> None:
        """Another topology; conversations are kept where a port is still filtered."""
        self.meaning = Meaning(topology)
        self._zones = {name: zone for name, zone in self._zones.items()
                       if name in self.meaning.ports and self.meaning.filtered(self.meaning.ports[name])}

    def arrives(self, source: str, mac: str, packet: Packet, targets: list[str]) -> set[str]:
        """Those of `targets` that a packet comes to. It is remembered by all who let it pass."""
        port = self.meaning.ports[source]
        if not secure(port, packet, mac) or not self.passes(source, packet, out=True):
            return set()
        return {name for name in targets if self.passes(name, packet, out=False)}

    def passes(self, name: str, packet: Packet, *, out: bool) -> bool:
        """Whether a packet passes the groups of a port."""
        port = self.meaning.ports[name]
        if not self.meaning.filtered(port) or free(port, packet, out=out):
            return True
        zone = self._zones.setdefault(name, {})
        about = packet.quotes or packet
        known = zone.get(_key(about)) or zone.get(_key(_turned(about)))
        if known is not None:
            first, began_out = known
            return self.meaning.begins(port, first, out=began_out)
        if not can_begin(packet) or not self.meaning.begins(port, packet, out=out):
            return False
        zone[_key(packet)] = packet, out
        return True


def can_begin(packet: Packet) -> bool:
    """Whether there can be a conversation of which this is the first packet; else it is invalid.

    Open vSwitch's tracking knows fewer beginnings than Linux's: what one of them does not know is none.
    """
    if packet.protocol in QUERIES:
        return packet.icmp_type in QUERIES[packet.protocol] and packet.icmp_code == 0
    return packet.protocol != TCP or packet.flags in _BEGIN


def _key(packet: Packet) -> _Key:
    ported = packet.protocol in (TCP, UDP, SCTP)
    sport = packet.sport if ported or packet.protocol in QUERIES else 0
    return _Key(packet.protocol, (packet.source, sport), (packet.destination, packet.dport if ported else 0),
                packet.icmp_type if packet.protocol in QUERIES else 0)


def _turned(packet: Packet) -> Packet:
    """What this would answer; for an ICMP answer, its question."""
    if packet.protocol not in QUERIES:
        return packet.answer()
    asked = {answer: question for question, answer in QUERIES[packet.protocol].items()}
    return Packet(packet.protocol, packet.destination, packet.source, packet.sport,
                  icmp_type=asked.get(packet.icmp_type, -1))
