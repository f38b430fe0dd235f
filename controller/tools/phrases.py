"""The words of a sentence about one row: {name:form} becomes a port by name, some tunnels, a kind of packet, ..."""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from controller.tools.labels import Labels
from controller.tools.neutron_rules import PACKET

_HOLE: Final = re.compile(r"\{(\w+)(?::(\w+))?\}")
_KINDS: Final = {"ip": "IPv4", "ipv6": "IPv6", "arp": "ARP", "rarp": "RARP", "icmp": "ICMP", "icmp6": "ICMPv6",
                 "tcp": "TCP", "tcp6": "TCP over IPv6", "udp": "UDP", "udp6": "UDP over IPv6", "sctp": "SCTP",
                 "sctp6": "SCTP over IPv6", "mpls": "MPLS"}
_ICMP6: Final = {"130": "multicast listener queries", "131": "multicast listener reports",
                 "132": "multicast listener dones", "133": "router solicitations",
                 "134": "router advertisements", "135": "neighbour solicitations",
                 "136": "neighbour advertisements", "143": "multicast listener reports (version 2)"}
_DHCP: Final = {"67": "DHCP", "68": "DHCP", "546": "DHCPv6", "547": "DHCPv6", "77": "DHCP", "78": "DHCPv6"}
_CONJUNCTION: Final = re.compile(r"(\d+):(\d+)/(\d+)")


class Unspeakable(Exception):
    """A value that a form has no words for: the rule is not the row's after all."""


class Phrases:
    """The forms, for the rows of one bridge."""

    def __init__(self, labels: Labels, bridge: str) -> None:
        self._labels, self._bridge = labels, bridge
        self._forms: dict[str, Callable[[str, Mapping[str, str]], str]] = {
            "port": lambda text, row: labels.port(bridge, text),
            "tunnel": lambda text, row: labels.remote(bridge, text),
            "tunnels": self._tunnels,
            "vlan": lambda text, row: labels.vlan(text),
            "segment": lambda text, row: "no VLAN" if text == "none" else f"VLAN {text}",
            "tun": lambda text, row: f"tunnel id {int(text, 0)}",
            "mac": lambda text, row: labels.mac(text),
            "ip": lambda text, row: labels.address(text),
            "icmp6": lambda text, row: _ICMP6.get(text, f"ICMPv6 of type {text}"),
            "kind": lambda text, row: _KINDS.get(text, text),
            "dhcp": lambda text, row: _DHCP[text],
            "seconds": lambda text, row: f"{int(text)} seconds",
            "limit": lambda text, row: "packets per second" if text == "58" else "bits per second",
            "way": lambda text, row: "going out" if text == "72" else "coming in",
            "peer": lambda text, row: "to" if text == "72" else "from",
            "state": lambda text, row: "a new connection" if "+new" in text else "going on",
            "conjunction": lambda text, row: f", by conjunction {text}" if text else "",
            "packet": lambda text, row: self.packet(row),
            "who": lambda text, row: self._who(row),
            "halves": _halves,
            "learned": _learned,
        }

    def fill(self, sentence: str, values: Mapping[str, str]) -> str:
        """The sentence with its holes filled. Unspeakable if a value is none of which the sentence speaks."""
        return _HOLE.sub(lambda found: self._said(found[1], found[2], values), sentence)

    def _said(self, name: str, form: str | None, values: Mapping[str, str]) -> str:
        value = values.get(name, "")
        try:
            return self._forms[form](value, values) if form else value
        except (ValueError, KeyError) as error:
            raise Unspeakable(f"{name}={value}") from error

    def _tunnels(self, text: str, _: Mapping[str, str]) -> str:
        ports = text.split(",out=")
        if not all(re.fullmatch(r"[\w.-]+", port) for port in ports):
            raise ValueError(text)
        return _listed([self._labels.remote(self._bridge, port) for port in ports])

    def packet(self, row: Mapping[str, str]) -> str:
        """`TCP to port 80 from 192.0.2.0/24`; `anything` if there is no condition."""
        kind = row.get("kind", "")
        words = [_KINDS.get(kind, "anything") if kind else "anything"]
        words += [f"of ethertype {row['dl_type']}"] if "dl_type" in row else []
        words += [f"of protocol {row['nw_proto']}"] if "nw_proto" in row else []
        words += [f"of type {row['icmp_type']}"] if "icmp_type" in row else []
        words += [f"and code {row['icmp_code']}"] if "icmp_code" in row else []
        words += [f"from {_ports(row['tp_src'])}"] if "tp_src" in row else []
        words += [f"to {_ports(row['tp_dst'])}"] if "tp_dst" in row else []
        words += [f"from {self._labels.mac(row['dl_src'])}"] if "dl_src" in row else []
        words += [f"from {self._labels.address(row[key])}" for key in ("nw_src", "ipv6_src") if key in row]
        words += [f"to {self._labels.address(row[key])}" for key in ("nw_dst", "ipv6_dst") if key in row]
        return " ".join(words)

    def matched(self, row: Mapping[str, str]) -> str:
        """Any conditions, in words where there are some."""
        words = [f"from {self._labels.port(self._bridge, row['in_port'])}"] if "in_port" in row else []
        if "dl_vlan" in row:
            words.append("without a VLAN" if row["dl_vlan"] == "none" else f"in VLAN {row['dl_vlan']}")
        words += [f"{key}={value}" for key, value in row.items() if key not in (*PACKET, "in_port", "dl_vlan")]
        told = self.packet(row)
        return ", ".join([told, *words]) if words or told != "anything" else "any packet"

    def done(self, actions: tuple[str, ...]) -> str:
        """Any actions, in words where there are some."""
        return ", ".join(self._action(action) for action in actions) or "nothing that is known"

    def _action(self, action: str) -> str:
        name, _, value = action.partition("=")
        if action.startswith("->"):
            return f"on to table {action[2:]}"
        if name in ("out", "vlan", "tun") and value:
            return {"out": f"out by {self._labels.port(self._bridge, value)}", "vlan": f"into VLAN {value}",
                    "tun": f"with tunnel id {value}"}[name]
        return {"drop": "drop", "untag": "VLAN tag off", "normal": "switched by MAC", "back": "back where it came from",
                "controller": "to the controller"}.get(action, action)

    def _who(self, row: Mapping[str, str]) -> str:
        words = [f" as {self._labels.mac(row['dl_src'])}"] if "dl_src" in row else []
        words += [f" with {self._labels.address(row[key])}" for key in ("nw_src", "ipv6_src") if key in row]
        return "".join(words)


def _ports(text: str) -> str:
    """`port 80`, `ports 8000 to 8007`; a mask whose free bits are not the last ones as it stands."""
    value, _, mask = text.partition("/")
    if not mask:
        return f"port {int(value, 0)}"
    first, free = int(value, 0), ~int(mask, 0) & 0xFFFF
    return f"ports {first} to {first | free}" if free & (free + 1) == 0 else f"ports {text}"


def _halves(text: str, _: Mapping[str, str]) -> str:
    """Of `8:1/2),conj(10:1/2`."""
    found = [_CONJUNCTION.fullmatch(word) for word in text.split("),conj(")]
    if not all(found):
        raise ValueError(text)
    halves = [f"part {one.group(2)} of {one.group(3)} of conjunction {one.group(1)}" for one in found if one]
    return _listed(halves)


def _learned(text: str, _: Mapping[str, str]) -> str:
    """The table of a learn action, and for how long."""
    words = dict(word.split("=", 1) for word in text.split(";") if re.fullmatch(r"\w+=\d+", word))
    return f"{int(words['table'])}, for {int(words['hard_timeout'])} seconds at most"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
