"""Judge the conversations that connection tracking knows by the rules that are in force now. May be run by path, alone.

Standard input is JSON: {"flush": [zone...], "judge": {zone: verdicts}, "sets": {name: [prefix...]}}. `verdicts` is
{"to": [address...], "in": [rule...], "out": [rule...] or null}, a rule [version, protocol, [first, last] of ports, ICMP
type, ICMP code, prefix, set], null for what it does not ask. A conversation that the VM has begun (mark 2) is judged
by "out", where null allows all, any other by "in". Who is denied gets mark 1, by which iptables drops both its
directions; who is allowed loses it. Zones in "flush" are forgotten.

Kernel interface: linux/netfilter/nfnetlink_conntrack.h.
"""
from __future__ import annotations

import ipaddress
import json
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

CUT, BY_VM = 0x1, 0x2
# What is always free, whatever the rules: protocol 17 with these ports; ICMPv6 that keeps the network going is either
# not tracked or in these types (the same that `guards` names).
FREE_IN = (130, 134, 135, 136)
FREE_OUT = (130, 131, 132, 133, 135, 136, 143)

_NETLINK_NETFILTER, _CTNETLINK = 12, 1
_NEW, _GET, _DELETE = 0, 1, 2
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_NESTED = 0x8000
_TUPLE, _MARK, _ZONE, _MARK_MASK = 1, 8, 18, 21
_ENOENT = 2
_BATCH = 500  # orders a message; the kernel's room for an answer to each is larger


class Conversation(NamedTuple):
    """Its first packet, as connection tracking wrote it down, and what it wears."""

    zone: int
    mark: int
    source: str
    target: str
    protocol: int
    ports: tuple[int, int]  # source, destination; 0 for protocols without
    icmp: tuple[int, int]  # type, code
    version: int
    key: bytes  # the tuple as netlink wrote it


# Judging.

def allowed(one: Conversation, verdicts: Mapping[str, Any], holds: Callable[[str, str], bool]) -> bool:
    """Whether the rules allow a conversation. `holds` says whether a set holds an address."""
    by_vm = bool(one.mark & BY_VM)
    if free(one, by_vm, verdicts["to"]):
        return True
    rules = verdicts["out" if by_vm else "in"]
    remote = one.target if by_vm else one.source
    return rules is None or any(_fits(one, rule, remote, holds) for rule in rules)


def free(one: Conversation, by_vm: bool, to: list[str]) -> bool:
    """What needs no rule: DHCP, and in IPv6 neighbours and routers."""
    if one.protocol == 17:
        if by_vm:
            return one.ports == ((68, 67) if one.version == 4 else (546, 547))
        if one.version == 6:
            return one.ports == (547, 546)
        return one.ports == (67, 68) and (one.target == "255.255.255.255" or one.target in to)
    return one.version == 6 and one.protocol == 58 and one.icmp[0] in (FREE_OUT if by_vm else FREE_IN)


def _fits(one: Conversation, rule: list[Any], remote: str, holds: Callable[[str, str], bool]) -> bool:
    version, protocol, ports, icmp_type, icmp_code, prefix, group = rule
    return (version == one.version and protocol in (None, one.protocol)
            and (ports is None or ports[0] <= one.ports[1] <= ports[1])
            and icmp_type in (None, one.icmp[0]) and icmp_code in (None, one.icmp[1])
            and (prefix is None or _within(remote, prefix)) and (group is None or holds(group, remote)))


@cache
def _within(address: str, prefix: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(prefix)


class Sets:
    """Sets of prefixes; looked up by length, since most of them are single addresses."""

    def __init__(self, sets: Mapping[str, list[str]]) -> None:
        self._given = sets
        self._known: dict[tuple[str, str], bool] = {}
        self._sets: dict[str, dict[tuple[int, int], set[int]]] = {}

    def holds(self, name: str, address: str) -> bool:
        """Whether an address is in a set."""
        if (name, address) not in self._known:
            self._known[name, address] = self._look_up(name, address)
        return self._known[name, address]

    def _look_up(self, name: str, address: str) -> bool:
        if name not in self._sets:  # read when somebody asks: mostly, nobody does
            self._sets[name] = _by_length(self._given.get(name, []))
        parsed = ipaddress.ip_address(address)
        return any(version == parsed.version and int(parsed) >> (parsed.max_prefixlen - length) in members
                   for (version, length), members in self._sets[name].items())


def _by_length(members: list[str]) -> dict[tuple[int, int], set[int]]:
    found: dict[tuple[int, int], set[int]] = {}
    for member in map(ipaddress.ip_network, members):
        kind = found.setdefault((member.version, member.prefixlen), set())
        kind.add(int(member.network_address) >> (member.max_prefixlen - member.prefixlen))
    return found


# Netlink.

def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of a row of netlink attributes."""
    place = 0
    while place + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, place)
        if length < 4:
            return
        yield kind & 0x3FFF, data[place + 4:place + length]
        place += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """One netlink attribute."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def conversation(message: bytes) -> Conversation | None:
    """A message about a connection; None if it is of no family that we judge."""
    found = dict(attributes(message[4:]))
    inner = dict(attributes(found.get(_TUPLE, b"")))
    addresses, how = dict(attributes(inner.get(1, b""))), dict(attributes(inner.get(2, b"")))
    if message[0] not in (socket.AF_INET, socket.AF_INET6) or 1 not in how:
        return None
    version, first = (4, 1) if message[0] == socket.AF_INET else (6, 3)
    source, target = (socket.inet_ntop(message[0], addresses[kind]) for kind in (first, first + 1))
    ports = tuple(int.from_bytes(how.get(kind, b""), "big") for kind in (2, 3))
    icmp = tuple(how[kind][0] if kind in how else 0 for kind in ((5, 6) if version == 4 else (8, 9)))
    return Conversation(int.from_bytes(found.get(_ZONE, b""), "big"), int.from_bytes(found.get(_MARK, b""), "big"),
                        source, target, how[1][0], (ports[0], ports[1]), (icmp[0], icmp[1]), version, found[_TUPLE])


def request(kind: int, flags: int, family: int, body: bytes = b"") -> bytes:
    """A netlink message to connection tracking."""
    payload = struct.pack("!BBH", family, 0, 0) + body
    return struct.pack("=IHHII", 16 + len(payload), _CTNETLINK << 8 | kind, _REQUEST | flags, 0, 0) + payload


def about(one: Conversation, kind: int, body: bytes = b"") -> bytes:
    """A message to change or forget one conversation."""
    family = socket.AF_INET if one.version == 4 else socket.AF_INET6
    which = attribute(_TUPLE | _NESTED, one.key) + attribute(_ZONE, struct.pack("!H", one.zone))
    return request(kind, 0, family, which + body)


def marked(one: Conversation, cut: bool) -> bytes:
    """The message that cuts a conversation, or lets it go on."""
    return about(one, _NEW, attribute(_MARK, struct.pack("!I", CUT if cut else 0))
                 + attribute(_MARK_MASK, struct.pack("!I", CUT)))


def dumped(netlink: socket.socket) -> Iterator[Conversation]:
    """All conversations of this namespace."""
    netlink.send(request(_GET, _DUMP, socket.AF_UNSPEC))
    while True:
        for kind, message in messages(netlink.recv(1 << 20)):
            if kind == _DONE:
                return
            if kind == _ERROR:
                _check(message)
            elif (found := conversation(message)) is not None:
                yield found


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of what one read gave."""
    place = 0
    while place + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, place)
        yield kind, data[place + 16:place + length]
        place += (length + 3) & ~3


def _check(message: bytes) -> None:
    number = -struct.unpack_from("=i", message)[0]
    if number not in (0, _ENOENT):  # what has ended meanwhile needs no judge
        raise OSError(number, "connection tracking refuses")


def order(plan: Mapping[str, Any], known: Iterator[Conversation] | list[Conversation]) -> Iterator[bytes]:
    """What is to be said about the conversations there are."""
    sets, flush = Sets(plan["sets"]), set(plan["flush"])
    for one in known:
        verdicts = plan["judge"].get(str(one.zone))
        if one.zone in flush:
            yield about(one, _DELETE)
        elif verdicts is not None and (cut := not allowed(one, verdicts, sets.holds)) != bool(one.mark & CUT):
            yield marked(one, cut)


def say(netlink: socket.socket, orders: list[bytes]) -> None:
    """Send all orders, many at a time. The kernel answers only what it refuses, and the last of each batch."""
    for start in range(0, len(orders), _BATCH):
        *most, last = orders[start:start + _BATCH]
        # struct nlmsghdr: length, type, flags, number; only the last of a batch has a number.
        netlink.send(b"".join((*most, last[:6], struct.pack("=HI", _REQUEST | _ACK, 1), last[12:])))
        while not any(_ends(kind, answer) for kind, answer in messages(netlink.recv(1 << 20))):
            continue


def _ends(kind: int, message: bytes) -> bool:
    """Whether a message is the answer to the last of a batch: an error, or that there is none, and what it is about."""
    if kind != _ERROR:
        return False
    _check(message)
    return bool(struct.unpack_from("=I", message, 12)[0])


def carry_out(plan: Mapping[str, Any]) -> None:
    """Judge the conversations of the namespace where the calling thread is. OSError if the kernel refuses."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        netlink.bind((0, 0))
        say(netlink, list(order(plan, list(dumped(netlink)))))


def main() -> None:
    """Carry out the plan on standard input; a sentence and exit code 1 if the kernel refuses."""
    try:
        carry_out(json.load(sys.stdin))
    except OSError as error:
        sys.exit(f"connections cannot be judged: {error.strerror}")


if __name__ == "__main__":
    main()
