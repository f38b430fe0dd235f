"""One spelling for what ovs-ofctl writes in several: by the version of OpenFlow, by who installed it, by its own age.

Conditions: ovs-fields(7)'s short names (dl_src, nw_dst, tp_dst), `kind` for the protocol, dl_vlan a number or `none`.
Actions: `->58` (goto or resubmit), `vlan=1`, `untag`, `tun=1001`, `reg5=3`, `out=2`, `normal`, `a>b` for a move.
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import Any, Final

_SHORT: Final = {
    "eth_src": "dl_src", "eth_dst": "dl_dst", "ip_src": "nw_src", "ip_dst": "nw_dst", "ipv4_src": "nw_src",
    "ipv4_dst": "nw_dst", "ip_proto": "nw_proto", "tunnel_id": "tun_id", "tcp_src": "tp_src", "tcp_dst": "tp_dst",
    "udp_src": "tp_src", "udp_dst": "tp_dst", "sctp_src": "tp_src", "sctp_dst": "tp_dst", "icmpv6_type": "icmp_type",
    "icmpv6_code": "icmp_code", "eth_type": "dl_type", "ip_dscp": "dscp", "nw_tos": "tos",
    "icmpv4_type": "icmp_type", "icmpv4_code": "icmp_code", "ipv6_nd_target": "nd_target"}
_KINDS: Final = ("ip", "ipv6", "arp", "rarp", "icmp", "icmp6", "tcp", "tcp6", "udp", "udp6", "sctp", "sctp6",
                 "mpls")
_TYPES: Final = {0x0800: "ip", 0x86DD: "ipv6", 0x0806: "arp", 0x8035: "rarp"}
_PROTOCOLS: Final = {("ip", 1): "icmp", ("ip", 6): "tcp", ("ip", 17): "udp", ("ip", 132): "sctp",
                     ("ipv6", 58): "icmp6", ("ipv6", 6): "tcp6", ("ipv6", 17): "udp6", ("ipv6", 132): "sctp6"}
_NUMBERS: Final = ("tun_id", "pkt_mark", "ct_mark", "ct_zone", "conj_id", "arp_op", "icmp_type", "icmp_code",
                   "nw_proto", "tp_src", "tp_dst")
_MACS: Final = ("dl_src", "dl_dst", "arp_sha", "arp_tha")
_PREFIX: Final = re.compile(r"^(?:NXM|OXM)_(?:OF|NX|ET)_")
_PLACES: Final = {"NORMAL": "normal", "IN_PORT": "back", "CONTROLLER": "controller", "DROP": "drop"}
_PORTS: Final = ("LOCAL", "FLOOD", "ALL", "TABLE")
_PRESENT: Final = 0x1000  # the bit of vlan_vid that says that there is a tag (OpenFlow 1.3, 7.2.3.7)


def split(text: str, also: str = " \t") -> Iterator[str]:
    """At commas and at `also`, but not inside of brackets or quotes."""
    depth, quoted, word = 0, False, ""
    for letter in text:
        if letter == '"':
            quoted = not quoted
        elif not quoted:
            depth += (letter == "(") - (letter == ")")
        if not quoted and depth <= 0 and (letter == "," or letter in also):
            if word:
                yield word
            word = ""
        else:
            word += letter
    if word:
        yield word


# ---- conditions

def conditions(match: Mapping[str, str]) -> dict[str, str]:
    """A match in one spelling."""
    found: dict[str, str] = {}
    for key, value in match.items():
        short = field(key)
        if key in _KINDS:
            found["kind"] = key
        elif short == "dl_type":
            kind = _TYPES.get(int(value, 0))
            found.update({"kind": kind} if kind else {"dl_type": value})
        elif short in ("vlan_tci", "vlan_vid", "dl_vlan"):
            found.update(_vlan(short, value))
        elif short == "ct_state":
            found[short] = _flags(value)
        else:
            found[short] = _value(short, value)
    return _protocol(found)


def _protocol(found: dict[str, str]) -> dict[str, str]:
    if "nw_proto" in found:
        kind = _PROTOCOLS.get((found.get("kind", ""), int(found["nw_proto"], 0)))
        if kind:
            del found["nw_proto"]
            found["kind"] = kind
    return found


def _vlan(key: str, text: str) -> dict[str, str]:
    """dl_vlan: a number, `none` (no tag), `some` (any tag); anything else stays as it stands."""
    value, _, mask = text.partition("/")
    number, bits = int(value, 0), int(mask, 0) if mask else None
    if key == "dl_vlan":
        return {"dl_vlan": "none" if number == 0xFFFF else str(number)}
    if bits in (None, 0x1FFF):
        return {"dl_vlan": str(number & 0xFFF) if number & _PRESENT else "none"}
    if bits == 0x0FFF:  # what a learn action of 12 bits leaves
        return {"dl_vlan": str(number)}
    if bits == _PRESENT:
        return {"dl_vlan": "some" if number else "none"}
    return {key: text}


def _flags(text: str) -> str:
    """`+est-rel` with the flags in alphabetical order."""
    return "".join(sorted(re.findall(r"[+-]\w+", text), key=lambda flag: flag[1:])) or text


def _value(key: str, text: str) -> str:
    if (key in _NUMBERS or re.fullmatch(r"reg\d+", key)) and re.fullmatch(r"0x[0-9a-fA-F]+", text):
        return str(int(text, 0))
    return text.strip('"')


def field(name: str) -> str:
    """The short name of a field: `NXM_NX_REG5[0..15]`, `reg5` -> reg5; `eth_src` -> dl_src."""
    bare = _PREFIX.sub("", name.partition("[")[0]).lower()
    return _SHORT.get(bare, bare)


# ---- actions

def joined(words: list[str]) -> tuple[str, ...]:
    """Without what says nothing of its own: a tag is pushed where a VLAN is set."""
    return tuple(word for place, word in enumerate(words)
                 if not (word == "push" and any(later.startswith("vlan=") for later in words[place:])))


def action(pair: Any) -> str:
    """One action as the library decoded it (its KeyValue). KeyError or ValueError if it makes no sense."""
    key, text, value = pair.key.lower(), pair.meta.vstring, pair.value
    if key == "output":
        return _output(value, quoted=pair.meta.kstring.startswith('"') or bool(text))
    if key in ("set_field", "load"):
        return _set(text)
    if key in _BY_NAME:
        return _BY_NAME[key](text, value)
    return f"{key}:{text}" if text else key


def _output(value: Any, *, quoted: bool) -> str:
    port = str(value["port"]).strip('"') if "port" in value else ""
    if port.upper() in _PLACES:
        return _PLACES[port.upper()]
    if port.upper() in _PORTS:
        return f"out={port.upper()}"
    if not (quoted or port.isdigit()):
        raise ValueError(port)  # the library takes any lonely word for the name of a port
    return f"out={port}"


def _set(text: str) -> str:
    value, _, target = text.partition("->")
    name = field(target)
    if name == "vlan_tci" and int(value, 0) == 0:
        return "untag"
    if name == "vlan_vid":
        return f"vlan={int(value, 0) & 0xFFF}"
    if name == "tun_id":
        return f"tun={int(value, 0)}"
    if value.startswith("0x") or value.isdigit():
        value = _literal(name, int(value, 0))
    return f"{name}={value}"


def _literal(name: str, number: int) -> str:
    if name in _MACS:
        return ":".join(f"{number:012x}"[place:place + 2] for place in range(0, 12, 2))
    if name in ("arp_spa", "arp_tpa", "nw_src", "nw_dst"):
        return str(IPv4Address(number))
    return str(number)


def _resubmit(_: str, value: Any) -> str:
    port, table = str(value.get("port") or ""), value.get("table")
    if port in ("", "in_port") and table is not None:
        return f"->{table}"
    return f"resubmit({port},{'' if table is None else table})"


def _ct(_: str, value: Any) -> str:
    value = {} if value is True else value
    words = [name for name in ("commit", "force") if name in value]
    words += [f"table={value['table']}"] if "table" in value else []
    if "zone" in value:
        zone = value["zone"]
        words.append(f"zone={field(zone['field']) if isinstance(zone, dict) else zone}")
    if "nat" in value:
        words.append(_nat(value["nat"]))
    for one in value.get("exec", ()):
        for key, what in one.items():
            words.append(_mark(key, what))
    return f"ct({';'.join(words)})"


def _nat(value: Any) -> str:
    if value is True or not value:
        return "nat"
    start = (value.get("addrs") or {}).get("start")
    return f"nat({value.get('type')}={start})" if start else "nat"


def _mark(key: str, what: Any) -> str:
    target = field(what["dst"]["field"])
    value = what["value"]
    return f"{target}={next(iter(value.values())) if isinstance(value, dict) else value}"


def _learn(text: str, _: Any) -> str:
    words = [word for word in split(text, "") if not word.startswith("cookie=")]
    return f"learn({';'.join(words)})".replace("OXM_OF", "NXM_OF")


_BY_NAME: Final = {
    "drop": lambda text, value: "drop",
    "controller": lambda text, value: "controller",
    "goto_table": lambda text, value: f"->{value}",
    "resubmit": _resubmit,
    "push_vlan": lambda text, value: "push",
    "pop_vlan": lambda text, value: "untag",
    "strip_vlan": lambda text, value: "untag",
    "mod_vlan_vid": lambda text, value: f"vlan={value}",
    "set_vlan_vid": lambda text, value: f"vlan={value}",
    "set_tunnel": lambda text, value: f"tun={int(text, 0)}",
    "set_tunnel64": lambda text, value: f"tun={int(text, 0)}",
    "mod_dl_src": lambda text, value: f"dl_src={text}",
    "mod_dl_dst": lambda text, value: f"dl_dst={text}",
    "mod_nw_src": lambda text, value: f"nw_src={text}",
    "mod_nw_dst": lambda text, value: f"nw_dst={text}",
    "mod_tp_src": lambda text, value: f"tp_src={text}",
    "mod_tp_dst": lambda text, value: f"tp_dst={text}",
    "mod_nw_tos": lambda text, value: f"dscp={int(text, 0) >> 2}",
    "move": lambda text, value: ">".join(map(field, text.split("->"))),
    "set_queue": lambda text, value: f"queue={int(text, 0)}",
    "meter": lambda text, value: f"meter={value}",
    "conjunction": lambda text, value: f"conj({value['id']}:{value['k']}/{value['n']})",
    "ct": _ct,
    "learn": _learn,
}
