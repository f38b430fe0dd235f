"""Rows of a switch, as the daemon shows them, as flows again: what `flows.text` and the switch write of our actions."""
from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any, Final

from flows import fields as f
from flows.fields import CT_STATE, Criterion, Field
from flows.flow import (
    Action,
    AnyPort,
    Ask,
    CheckLarger,
    Clone,
    Conjunction,
    DecTtl,
    Flow,
    Goto,
    LookUp,
    Match,
    Metered,
    Move,
    Output,
    OutputBack,
    OutputTo,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    Track,
    Translation,
)
from flows.tables import Table, table

Json = dict[str, Any]
_KINDS: Final = {"arp": (f.ARP,), "rarp": (f.RARP,), "ip": (f.IPV4,), "ipv6": (f.IPV6,), "icmp": (f.IPV4, f.ICMP),
                 "tcp": (f.IPV4, f.TCP), "udp": (f.IPV4, f.UDP), "sctp": (f.IPV4, f.SCTP), "icmp6": (f.IPV6, f.ICMPV6),
                 "tcp6": (f.IPV6, f.TCP), "udp6": (f.IPV6, f.UDP), "sctp6": (f.IPV6, f.SCTP)}
_PORTS: Final = {f.UDP: {"tp_src": f.UDP_SRC, "tp_dst": f.UDP_DST},
                 f.SCTP: {"tp_src": f.SCTP_SRC, "tp_dst": f.SCTP_DST}}
_NAMED: Final = {**{field.ofctl: field for field in f.FIELDS if not field.ofctl.startswith("tp_")},
                 **{field.name: field for field in f.FIELDS}, "tun_id": f.TUN_ID}
_NXM: Final = {field.nxm: field for field in f.FIELDS}
_LAST_PORT: Final = 0xFFFFFF00  # OFPP_MAX: above are ports with a meaning of their own
_TCI_BITS: Final = 0x1FFF
_WORD: Final = re.compile(r"(?:[^,(]|\([^()]*(?:\([^()]*(?:\([^()]*\)[^()]*)*\)[^()]*)*\))+")


class Unreadable(Exception):
    """A row says what no flow of ours says: str() is the word."""


def flow(bridge: str, row: Json) -> Flow:
    """One row of the daemon's answer to `flows`. Unreadable for what our tables have no words for."""
    try:
        where = table(bridge, int(row["table"]))
        learned = row.get("status") == "learned"
        return Flow(where, int(row["priority"]), _ordered([*_match(row["match"])]),
                    tuple(_actions(bridge, row["actions"])), "learned" if learned else row["origin"], row["why"])
    except (KeyError, ValueError) as error:
        raise Unreadable(f"{row['match'] or 'any packet'} actions={row['actions']}") from error


def _ordered(criteria: list[Criterion]) -> Match:
    """In the order in which compiled matches are, so that equal ones are equal."""
    return Match(tuple(sorted((one for one in criteria if one.mask), key=lambda one: f.ORDER[one.field.name])))


def _match(text: str) -> Iterator[Criterion]:
    proto = 0
    for word in filter(None, text.split(",")):
        name, _, value = word.partition("=")
        if name in _KINDS:
            kind, *inner = _KINDS[name]
            yield f.ETH_TYPE(kind)
            proto = inner[0] if inner else proto
            yield from (f.IP_PROTO(one) for one in inner)
            continue
        criterion = _criterion(name, value, proto)
        proto = criterion.value if criterion.field is f.IP_PROTO else proto
        yield criterion


def _criterion(name: str, value: str, proto: int) -> Criterion:
    number, _, mask = value.partition("/")
    if name == "vlan_tci":
        bits = int(mask, 0) if mask else 0xFFFF
        if bits & ~_TCI_BITS:
            raise ValueError(f"{name}={value}")
        return Criterion(f.VLAN_VID, int(number, 0) & bits, bits)
    if name == "dl_vlan":
        return f.tagged(int(number))
    if name == "nw_frag":
        if value != "later":
            raise ValueError(value)
        return f.LATER_FRAGMENT
    if name == "ct_state":
        return CT_STATE(value)
    field = _PORTS[proto][name] if name.startswith("tp_") else _NAMED[name]
    if field.kind in (f.Kind.NUMBER, f.Kind.HEX):
        return field(_number(number), int(mask, 0) if mask else None)
    if field.kind is f.Kind.MAC:
        return field(number, mask or None)
    return field(value)


def _number(text: str) -> int:
    return f.LOCAL_PORT if text == "LOCAL" else int(text, 0)


def _actions(bridge: str, text: str) -> Iterator[Action]:
    words = [] if text == "drop" else _WORD.findall(text)
    for place, word in enumerate(words):
        name = re.split(r"[:(]", word, maxsplit=1)[0]
        if name != "learn":  # what a frame teaches is no part of its way
            yield _action(bridge, name, word, last=place == len(words) - 1)


_PLAIN: Final[dict[str, Action]] = {"pop_vlan": PopVlan(), "strip_vlan": PopVlan(), "dec_ttl": DecTtl(),
                                    "IN_PORT": OutputBack(), "LOCAL": Output(f.LOCAL_PORT)}


def _action(bridge: str, name: str, word: str, *, last: bool) -> Action:
    rest = word[len(name) + 1:].removesuffix(")") if word[len(name):].startswith("(") else word[len(name) + 1:]
    if word in _PLAIN:
        return _PLAIN[word]
    match name:
        case "push_vlan":
            return PushVlan()
        case "goto_table":
            return Goto(_table(bridge, rest))
        case "resubmit":
            onward = _table(bridge, rest.lstrip(","))
            return Resubmit(onward) if last else LookUp(onward)
        case "clone":
            return Clone(tuple(_actions(bridge, rest)))
        case "output":
            return OutputTo(_NXM[rest.partition("[")[0]]) if "[" in rest else _output(int(rest))
        case "CONTROLLER":
            return Ask()
        case "meter":
            return Metered(int(rest))
        case "ct":
            return _track(bridge, rest)
        case "conjunction":
            number, clause, of = re.split("[,/]", rest)
            return Conjunction(int(number), int(clause), int(of))
        case "check_pkt_larger":
            size, _, target = word.partition("(")[2].partition(")->")
            return CheckLarger(int(size), _NXM[target.partition("[")[0]])
        case _:
            return _written(name, rest)


def _output(port: int) -> Output:
    if port >= _LAST_PORT:
        raise ValueError(f"output:{port}")
    return Output(port)


def _written(name: str, rest: str) -> Action:
    """Of the actions that write a field."""
    value, _, target = rest.rpartition("->")
    if name == "move":
        return Move(_NXM[value.removesuffix("[]")], _NXM[target.removesuffix("[]")])
    if name == "load":
        return _loaded(int(value, 0), target.partition("[")[0])
    if name != "set_field":
        raise ValueError(name)
    if target == "in_port":
        if int(value, 0):
            raise ValueError(rest)
        return AnyPort()
    field: Field = _NAMED[target]
    return SetField(field(int(value, 0) if field.kind in (f.Kind.NUMBER, f.Kind.HEX) else value))


def _loaded(value: int, nxm: str) -> Action:
    if nxm == f.VLAN_VID.nxm:
        return PopVlan() if not value else SetField(Criterion(f.VLAN_VID, value & _TCI_BITS, f.VLAN_VID.full))
    return AnyPort() if nxm == f.IN_PORT.nxm and not value else SetField(_NXM[nxm](value))


def _table(bridge: str, number: str) -> Table:
    return table(bridge, int(number))


def _track(bridge: str, text: str) -> Track:
    words = _WORD.findall(text)
    about = dict(word.split("=", 1) for word in words if "=" in word and not word.startswith("nat"))
    zone = about["zone"]
    nat = next((word for word in words if word.startswith("nat(")), "")
    end, _, address = nat[4:-1].partition("=")
    return Track(_NXM[zone.partition("[")[0]] if "[" in zone else int(zone, 0),
                 _table(bridge, about["table"]) if "table" in about else None, nat="nat" in words,
                 commit="commit" in words,
                 translation=Translation(end, IPv4Address(address.partition(":")[0])) if nat else None)
