"""What connection tracking may say of a set of packets: every answer that some history of the zone would give.

A packet begins a conversation, goes on with one, answers in one, is an error about one, or is invalid. In the first
three cases the first packet of the conversation is this one, or this one turned round; of an error it may be any.
"""
from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import IntEnum
from typing import Final

from flows import fields as f
from flows.actions import Track, Translation
from flows.fields import CT_FLAGS
from flows.headerspace import Literal, Region, meet, without
from flows.headerspace_rows import Now


class Talk(IntEnum):
    """What a packet is to its conversation, as a zone of connection tracking sees it."""

    NEW = 1
    KNOWN = 2
    ANSWER = 3
    RELATED = 4  # an error about what was said in the direction in which the conversation began
    RELATED_BACK = 5  # an error about an answer
    INVALID = 6


_BITS: Final = 7
_FLAGS: Final = {Talk.NEW: ("trk", "new"), Talk.KNOWN: ("trk", "est"), Talk.ANSWER: ("trk", "est", "rpl"),
                 Talk.RELATED: ("trk", "rel"), Talk.RELATED_BACK: ("trk", "rel", "rpl"), Talk.INVALID: ("trk", "inv")}
_STATES: Final = {talk: sum(CT_FLAGS[name] for name in names) for talk, names in _FLAGS.items()}
_ADDRESSES: Final = {f.IPV4: (f.IPV4_SRC.name, f.IPV4_DST.name), f.IPV6: (f.IPV6_SRC.name, f.IPV6_DST.name)}
_REMEMBERED: Final = {f.IPV4: (f.CT_NW_SRC.name, f.CT_NW_DST.name), f.IPV6: (f.CT_IPV6_SRC.name, f.CT_IPV6_DST.name)}
_PORTS: Final = {f.TCP: ("tcp_src", "tcp_dst"), f.UDP: ("udp_src", "udp_dst")}
_ICMP_TYPES: Final = {f.IPV4: (f.ICMP, "icmpv4_type", {0: 8, 14: 13, 16: 15}),
                      f.IPV6: (f.ICMPV6, f.ICMPV6_TYPE.name, {129: 128})}  # an answer's type -> its question's
_CT: Final = (f.CT_STATE.name, *(one.name for one in f.TRACKED))
_STATE, _PROTO, _FROM, _TO = f.CT_STATE.name, f.CT_NW_PROTO.name, f.CT_TP_SRC.name, f.CT_TP_DST.name

Values = dict[str, Now]
Found = tuple[Region, Values]


def variable(host: str, zone: int) -> str:
    """The variable that says what a packet is to a zone (a `Talk`)."""
    return f"talk:{host}:{zone}"


def tracks(host: str, space: Region, now: Values, action: Track, read: Collection[str]) -> Iterator[Found]:
    """Packets and what their fields hold behind `ct`, for each of its possible answers.

    `read`: the notes that tables behind it read; packets that these do not tell apart stay together.
    """
    version = _known(space, now, f.ETH_TYPE.name)
    bare = {name: value for name, value in now.items() if name not in _CT}
    if version not in _ADDRESSES:
        return
    if action.table is None:
        yield space, {**bare, **_translated(action.translation, version)}
        return
    zone = action.zone if isinstance(action.zone, int) else now.get(action.zone.name, 0)
    told = not isinstance(action.zone, int) and isinstance(zone, int)
    for talk in Talk:
        part = meet(space, (Literal(variable(host, int(zone)), talk, _BITS),)) if told and isinstance(zone, int) \
            else space
        if part is not None:
            for found, values in _of(talk, version, part, bare, ports=_FROM in read or _TO in read):
                yield from _nat(action, talk, version, (found, values))


def _of(talk: Talk, version: int, space: Region, now: Values, *, ports: bool) -> Iterator[Found]:
    state: Values = {**now, _STATE: _STATES[talk]}
    if talk is Talk.INVALID:
        yield space, state
        return
    source, target = _REMEMBERED[version]
    if talk in (Talk.RELATED, Talk.RELATED_BACK):
        yield space, {**state, **{name: f"about:{name}" for name in (source, target, _PROTO, _FROM, _TO)}}
        return
    first, second = (now.get(name, name) for name in _ADDRESSES[version])
    if talk is Talk.ANSWER:
        first, second = second, first
    state.update({source: first, target: second, _PROTO: now.get(f.IP_PROTO.name, f.IP_PROTO.name)})
    if not ports:
        yield space, state
        return
    for part, numbers in _by_protocol(talk, version, space, now):
        yield part, {**state, **numbers}


def _by_protocol(talk: Talk, version: int, space: Region, now: Values) -> Iterator[Found]:
    """Packets by protocol, and what is remembered of the ports, or of type and code."""
    icmp, kind, questions = _ICMP_TYPES[version]
    rest: Region | None = space
    for protocol, (one, other) in _PORTS.items():
        ports: Values = {_FROM: now.get(one, one), _TO: now.get(other, other)}
        if talk is Talk.ANSWER:
            ports = {_FROM: ports[_TO], _TO: ports[_FROM]}
        part = _with(space, now, protocol)
        if part is not None:
            yield part, ports
        rest = _but(rest, now, protocol)
    part = _with(space, now, icmp)
    if part is not None and talk is not Talk.ANSWER:
        yield part, {_FROM: kind}
    elif part is not None:
        for answer, question in questions.items():
            if (answering := meet(part, (Literal(kind, answer, 0xFF),))) is not None:
                yield answering, {_FROM: question}
    rest = _but(rest, now, icmp)
    if rest is not None:
        yield rest, {}


def _with(space: Region | None, now: Values, protocol: int) -> Region | None:
    held = now.get(f.IP_PROTO.name, f.IP_PROTO.name)
    if space is None or isinstance(held, int):
        return space if held == protocol else None
    return meet(space, (Literal(str(held), protocol, 0xFF),))


def _but(space: Region | None, now: Values, protocol: int) -> Region | None:
    held = now.get(f.IP_PROTO.name, f.IP_PROTO.name)
    if space is None or isinstance(held, int):
        return None if held == protocol else space
    return without(space, (Literal(str(held), protocol, 0xFF),))


def _nat(action: Track, talk: Talk, version: int, found: Found) -> Iterator[Found]:
    """As it came, and as translated if it may be."""
    space, now = found
    if action.translation is not None and talk is Talk.NEW:
        flag = CT_FLAGS["snat" if action.translation.end == "src" else "dnat"]
        yield space, {**now, **_translated(action.translation, version), _STATE: _STATES[talk] | flag}
    yield found
    if action.nat and talk in (Talk.KNOWN, Talk.ANSWER):
        source, target = _ADDRESSES[version]
        ways = (("snat", source), ("dnat", target)) if talk is Talk.KNOWN else (("snat", target), ("dnat", source))
        for name, turned in ways:
            yield space, {**now, turned: f"translated:{turned}", _STATE: _STATES[talk] | CT_FLAGS[name]}


def _translated(translation: Translation | None, version: int) -> Values:
    if translation is None:
        return {}
    return {_ADDRESSES[version][translation.end == "dst"]: int(translation.address)}


def _known(space: Region, now: Values, name: str) -> int:
    held = now.get(name, name)
    if isinstance(held, int):
        return held
    bits = space.cube.get(str(held))
    return bits[0] if bits is not None else 0
