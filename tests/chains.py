"""What a host's chains do with the first packet of a conversation: a reading of iptables, to be held against others.

It knows the words that the hybrid firewall uses and refuses any other, so that what it cannot judge is no silent pass.
"""
from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from controller.host.firewall import Firewall
from controller.host.iptables import parsed
from controller.model.protocols import Datagram

_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "ipv6-icmp": 58, "sctp": 132, "udplite": 136}
# nf_conntrack_proto_icmp.c and icmpv6.c: what begins a conversation there, and what is not tracked at all.
_QUERIES = {4: (8, 13, 15, 17), 6: (128, 139)}
_UNTRACKED = (130, 131, 132, 133, 134, 135, 136, 137, 143)


@cache
def _split(line: str) -> tuple[str, ...]:
    return tuple(shlex.split(line))


@cache
def _prefix(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)


@dataclass(frozen=True)
class Frame:
    """A packet on its way out of a port, or into it."""

    datagram: Datagram
    mac: str = ""

    @property
    def state(self) -> str:
        """Of connection tracking, if nothing is known."""
        one = self.datagram
        if one.protocol != (1 if one.version == 4 else 58):
            return "NEW"
        if one.version == 6 and one.icmp_type in _UNTRACKED:
            return "UNTRACKED"
        return "NEW" if one.icmp_type in _QUERIES[one.version] else "INVALID"


class Chains:
    """The filter tables of a host."""

    def __init__(self, firewall: Firewall) -> None:
        self._tables = {4: parsed(firewall.v4)["filter"], 6: parsed(firewall.v6)["filter"]}
        self._sets = {one.name: [ip_network(member) for member in one.members] for one in firewall.sets}

    def passes(self, tap: str, frame: Frame, *, out: bool) -> bool:
        """Whether a frame passes the tap."""
        return self._walk("FORWARD", frame, {"in" if out else "out": tap}) != "DROP"

    def _walk(self, chain: str, frame: Frame, devices: Mapping[str, str]) -> str:
        table = self._tables[frame.datagram.version]
        for words in map(_split, table.get(chain, ())):
            if not self._matches(words, frame, devices):
                continue
            target = words[words.index("-j") + 1]
            if target == "RETURN":
                return ""
            if target in ("ACCEPT", "DROP"):
                return target
            if target != "CONNMARK" and (verdict := self._walk(target, frame, devices)):
                return verdict
        return ""

    def _matches(self, words: tuple[str, ...], frame: Frame, devices: Mapping[str, str]) -> bool:
        rest = list(words[:words.index("-j")])
        while rest:
            word = rest.pop(0)
            if word in ("-m", "--comment"):
                rest.pop(0)
            elif word == "!":
                assert rest.pop(0) == "--physdev-is-bridged"
                return False  # all our frames are
            elif word != "--physdev-is-bridged" and not self._holds(word, rest, frame, devices):
                return False
        return True

    def _holds(self, word: str, rest: list[str], frame: Frame, devices: Mapping[str, str]) -> bool:
        one, value = frame.datagram, rest.pop(0)
        match word:
            case "-s" | "-d":
                return (one.source if word == "-s" else one.destination) in _prefix(value)
            case "-p":
                return one.protocol == _NUMBERS.get(value, value) or str(one.protocol) == value
            case "--dport" | "--sport" | "--dports":
                first, _, last = value.partition(":")
                port = one.source_port if word == "--sport" else one.port
                return port is not None and int(first) <= port <= int(last or first)
            case "--icmp-type" | "--icmpv6-type":
                kind, _, code = value.partition("/")
                return one.icmp_type == int(kind) and (not code or one.icmp_code == int(code))
            case "--state":
                return frame.state in value.split(",")
            case "--mac-source":
                return frame.mac == value
            case "--match-set":
                other = one.source if rest.pop(0) == "src" else one.destination
                return any(other in member for member in self._sets[value])
            case "--mark":
                return False  # nothing is marked that is new
            case "--physdev-in" | "--physdev-out":
                return devices.get(word.removeprefix("--physdev-")) == value
            case "--u32":
                assert re.fullmatch(r"0x6&0xff=0x0", value)
                return one.protocol == 0
        raise ValueError(f"iptables may know {word}, this does not")
