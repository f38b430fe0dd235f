"""The one place that knows how flows look in OpenFlow 1.4's bytes: flow-mods, and what they match and do.

Open vSwitch's fields and actions stand beside OpenFlow's (nicira-ext.h, lib/ofp-actions.c). `dumps` reads what switches
say of their flows; `bundles` puts flow-mods into bundles. Section numbers are those of OpenFlow 1.4.
"""
from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from flows import fields as f
from flows.actions import (
    Action,
    AnyPort,
    Ask,
    CheckLarger,
    Clone,
    Conjunction,
    DecTtl,
    Goto,
    Learn,
    LearnPort,
    LookUp,
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
)
from flows.fields import Criterion, Field
from flows.flow import ANY, Flow, Match

VERSION: Final = 5
_BASIC, _NXM0, _NXM1 = 0x8000, 0x0000, 0x0001  # classes of fields (7.2.3.3; nicira-ext.h)
_CLASS: Final = {  # class -> name of a field -> its number there (7.2.3.8; lib/meta-flow.xml)
    _BASIC: {"in_port": 0, "eth_dst": 3, "eth_src": 4, "eth_type": 5, "vlan_vid": 6, "ip_proto": 10, "ipv4_src": 11,
             "ipv4_dst": 12, "udp_src": 15, "udp_dst": 16, "sctp_src": 17, "sctp_dst": 18, "arp_op": 21,
             "arp_spa": 22, "arp_tpa": 23, "arp_sha": 24, "arp_tha": 25, "ipv6_src": 26, "ipv6_dst": 27,
             "icmpv6_type": 29, "ipv6_nd_target": 31, "tunnel_id": 38},
    _NXM1: {**{f"reg{number}": number for number in range(16)}, "ip_frag": 26, "nw_ttl": 29, "conj_id": 37,
            "ct_state": 105, "ct_nw_proto": 119, "ct_nw_src": 120, "ct_nw_dst": 121, "ct_ipv6_src": 122,
            "ct_ipv6_dst": 123, "ct_tp_src": 124, "ct_tp_dst": 125}}
_WIDTH: Final = {field.name: (field.bits + 7) // 8 for field in f.FIELDS}  # bytes of a value


def _header(kind: int, number: int, width: int, masked: bool = False) -> bytes:
    return struct.pack("!HBB", kind, number << 1 | masked, width << masked)


HEADERS: Final = {name: _header(kind, number, _WIDTH[name])
                  for kind, known in _CLASS.items() for name, number in known.items() if name in _WIDTH}
_MASKED: Final = {name: _header(kind, number, _WIDTH[name], masked=True)
                  for kind, known in _CLASS.items() for name, number in known.items() if name in _WIDTH}
# As learn and move call some: Nicira's own numbers, which Open vSwitch wants nowhere else.
_MOVED: Final = {**HEADERS, "eth_dst": _header(_NXM0, 1, 6), "eth_src": _header(_NXM0, 2, 6),
                 "arp_op": _header(_NXM0, 15, 2), "arp_spa": _header(_NXM0, 16, 4), "arp_tpa": _header(_NXM0, 17, 4)}
_NXM_IN_PORT, _NXM_TUN_ID = _header(_NXM0, 0, 2), _header(_NXM1, 16, 8)
_VLAN_TCI: Final = _header(_NXM0, 4, 2)

_TRACKED: Final = frozenset(field.name for field in f.TRACKED)
_ETHERTYPE_FIRST: Final = ("ct_state", "eth_type")
_IN_PORT, _CONTROLLER = 0xFFFFFFF8, 0xFFFFFFFD  # ports (7.2.1)
_WHOLE_PACKET: Final = 0xFFFF  # OFPCML_NO_BUFFER
_VENDOR: Final = 0x00002320
_NO_TABLE: Final = 0xFF  # NX_CT_RECIRC_NONE
_COMMIT: Final = 1  # NX_CT_F_COMMIT
_NAT: Final = {None: 0, "src": 1, "dst": 2}  # NX_NAT_F_SRC, NX_NAT_F_DST
_ONE_ADDRESS: Final = 1  # NX_NAT_RANGE_IPV4_MIN
_ZONE_BITS: Final = 15  # ofs_nbits: bits 0 to 15
_MATCH: Final = struct.Struct("!HH")  # type, length
_APPLY, _GOTO, _METER = 4, 1, 6  # instructions (7.2.4)


def fields(match: Match) -> bytes:
    """What a match compares, without header and padding.

    In our order, but what connection tracking remembers comes behind the EtherType that it needs, as Open vSwitch
    wants it.
    """
    return b"".join(map(_field, _ordered(match)))


def _ordered(match: Match) -> tuple[Criterion, ...]:
    criteria = match.criteria
    if _TRACKED.isdisjoint([one.field.name for one in criteria]):
        return criteria
    first = [one for one in criteria if one.field.name in _ETHERTYPE_FIRST]
    last = [one for one in criteria if one.field.name in _TRACKED]
    return *first, *(one for one in criteria if one not in first and one not in last), *last


def place(match: Match, field: Field) -> int:
    """Where in a flow-mod the value stands that a match compares a field with."""
    at = FLOW_MOD.size + _MATCH.size
    for criterion in _ordered(match):
        if criterion.field == field:
            return at + len(HEADERS[field.name])
        at += len(_field(criterion))
    raise ValueError(f"{field.name} is not compared")


def _field(criterion: Criterion) -> bytes:
    name, mask = criterion.field.name, criterion.mask
    width = _WIDTH[name]
    if mask == criterion.field.full:
        return HEADERS[name] + criterion.value.to_bytes(width)
    return _MASKED[name] + criterion.value.to_bytes(width) + mask.to_bytes(width)


def match_bytes(match: Match) -> bytes:
    """A match as it stands in a message: with its header, padded (7.2.3.1)."""
    inside = fields(match)
    length = _MATCH.size + len(inside)
    return _MATCH.pack(1, length) + inside + bytes(-length % 8)


def instructions(actions: Iterable[Action]) -> bytes:
    """All that a flow does (7.2.4): a meter, actions, a table to go on in."""
    first = last = b""
    middle = []
    for action in actions:
        if pack := _PACKED.get(type(action)):
            middle.append(pack(action))
        elif isinstance(action, Goto):
            last = struct.pack("!HHB3x", _GOTO, 8, action.table.id)
        elif isinstance(action, Metered):
            first += struct.pack("!HHI", _METER, 8, action.meter)
        else:
            raise TypeError(f"not an action: {action!r}")
    if middle:
        inside = b"".join(middle)
        return first + struct.pack("!HH4x", _APPLY, 8 + len(inside)) + inside + last
    return first + last


def actions_bytes(actions: Iterable[Action]) -> bytes:
    """Actions one behind the other; not Goto and Metered, which are instructions."""
    return b"".join(_PACKED[type(action)](action) for action in actions)


def _nicira(subtype: int, body: bytes) -> bytes:
    """An action of Open vSwitch's own (nicira-ext.h), padded."""
    length = (10 + len(body) + 7) // 8 * 8
    return struct.pack("!HHIH", 0xFFFF, length, _VENDOR, subtype) + body.ljust(length - 10, b"\0")


def _set(header_and_value: bytes) -> bytes:
    length = (4 + len(header_and_value) + 7) // 8 * 8
    return struct.pack("!HH", 25, length) + header_and_value.ljust(length - 4, b"\0")


def _output(port: int) -> bytes:
    return struct.pack("!HHIH6x", 0, 16, port, _WHOLE_PACKET)


def _resubmit(action: Resubmit | LookUp) -> bytes:
    return _nicira(14, struct.pack("!HB3x", _IN_PORT & 0xFFFF, action.table.id))


def _move(action: Move) -> bytes:
    return _nicira(6, struct.pack("!HHH", action.source.bits, 0, 0)
                   + _MOVED[action.source.name] + _MOVED[action.target.name])


def _output_to(action: OutputTo) -> bytes:
    return _nicira(15, struct.pack("!H4sH6x", action.register.bits - 1, HEADERS[action.register.name], _WHOLE_PACKET))


def _conjunction(action: Conjunction) -> bytes:
    return _nicira(34, struct.pack("!BBI", action.clause - 1, action.of, action.id))  # clauses count from 0 there


def _larger(action: CheckLarger) -> bytes:
    return _nicira(49, struct.pack("!HH4s6x", action.bytes, 0, HEADERS[action.target.name]))


def _clone(action: Clone) -> bytes:
    return _nicira(42, bytes(6) + actions_bytes(action.actions))


def _track(action: Track) -> bytes:
    zone = (HEADERS[action.zone.name], _ZONE_BITS) if isinstance(action.zone, Field) else (bytes(4), action.zone)
    table = _NO_TABLE if action.table is None else action.table.id
    nat = b""
    if action.translation:
        nat = _nicira(36, struct.pack("!2xHH4s", _NAT[action.translation.end], _ONE_ADDRESS,
                                      action.translation.address.packed))
    elif action.nat:
        nat = _nicira(36, bytes(6))
    return _nicira(35, struct.pack("!H4sHB3xH", _COMMIT if action.commit else 0, *zone, table, 0) + nat)


_COPY, _LOAD, _LOAD_NUMBER, _OUT = 0x0000, 0x0800, 0x2800, 0x1000  # kinds of a lesson's parts, beside their bits


def _part(kind: int, bits: int, source: bytes, target: bytes = b"") -> bytes:
    """A part of a lesson (nicira-ext.h, NXAST_LEARN): the lower bits of a field, and what becomes of them."""
    return struct.pack("!H", kind | bits) + source + (bytes(2) if len(source) == 4 else b"") \
        + target + (bytes(2) if target else b"")


_SAME_VLAN_BACK: Final = _part(_COPY, 12, _VLAN_TCI, _VLAN_TCI) \
    + _part(_COPY, 48, _MOVED["eth_src"], _MOVED["eth_dst"])
_TUNNEL_BACK: Final = _part(_LOAD_NUMBER, 16, bytes(2), _VLAN_TCI) + _part(_LOAD, 64, _NXM_TUN_ID, _NXM_TUN_ID) \
    + _part(_OUT, 16, _NXM_IN_PORT)
_PORT_BACK: Final = _part(_LOAD, 16, _NXM_IN_PORT, HEADERS["reg6"])


def _learn(action: Learn | LearnPort) -> bytes:
    head = struct.pack("!HHHQHB5x", 0, action.hard_timeout, action.into.ranks[action.rank], action.cookie, 0,
                       action.into.id)
    if isinstance(action, Learn):
        return _nicira(16, head + _SAME_VLAN_BACK + _TUNNEL_BACK)
    limit = struct.pack("!IHxx", action.limit, 0) if action.limit else b""
    return _nicira(45 if action.limit else 16, head + limit + _SAME_VLAN_BACK + _PORT_BACK)


_PUSH, _POP, _DEC_TTL = struct.pack("!HHH2x", 17, 8, f.DOT1Q), struct.pack("!HH4x", 18, 8), struct.pack("!HH4x", 24, 8)
_PACKED: Final[dict[type, Callable[[Any], bytes]]] = {
    PushVlan: lambda action: _PUSH,
    PopVlan: lambda action: _POP,
    SetField: lambda action: _set(_field(action.criterion)),
    Output: lambda action: _output(action.port),
    OutputBack: lambda action: _output(_IN_PORT),
    Ask: lambda action: _output(_CONTROLLER),
    DecTtl: lambda action: _DEC_TTL,
    AnyPort: lambda action: _set(_NXM_IN_PORT + bytes(2)),  # Open vSwitch refuses 0 for OpenFlow's own in_port
    Resubmit: _resubmit, LookUp: _resubmit, Move: _move, OutputTo: _output_to, Conjunction: _conjunction,
    CheckLarger: _larger, Clone: _clone, Track: _track, Learn: _learn, LearnPort: _learn,
}

# 7.3.4.1: header, cookie, mask, table, command, timeouts, priority, buffer, out port and group, flags, importance
FLOW_MOD: Final = struct.Struct("!BBHIQQBBHHHIIIHH")
ADD, DELETE, DELETE_STRICT = 0, 3, 4
ALL_TABLES, ANY_PORT, _NO_BUFFER = 0xFF, 0xFFFFFFFF, 0xFFFFFFFF


class TooLarge(ValueError):
    """A flow does not fit into a message, which has 65,535 bytes at most."""


def add(xid: int, cookie: int, flow: Flow, idle_timeout: int = 0, flags: int = 0) -> bytes:
    """The flow-mod that adds a flow, or overwrites the one with its match and priority. TooLarge."""
    try:
        body = match_bytes(flow.match) + instructions(flow.actions)
        return FLOW_MOD.pack(VERSION, 14, FLOW_MOD.size + len(body), xid, cookie, 0, flow.table.id, ADD, idle_timeout,
                             0, flow.priority, _NO_BUFFER, 0, 0, flags, 0) + body
    except struct.error:  # a length that has more than 16 bits
        raise TooLarge from None


def delete(xid: int, cookie: int, mask: int, match: Match = ANY, out_port: int = ANY_PORT) -> bytes:
    """The flow-mod that deletes what has this cookie where the mask has bits, and matches no less than this."""
    body = match_bytes(match)
    return FLOW_MOD.pack(VERSION, 14, FLOW_MOD.size + len(body), xid, cookie, mask, ALL_TABLES, DELETE, 0, 0, 0x8000,
                         _NO_BUFFER, out_port, ANY_PORT, 0, 0) + body


def delete_strict(xid: int, cookie: int, mask: int, flow: Flow) -> bytes:
    """The flow-mod that deletes the flow with this one's table, priority and match, if its cookie is such."""
    body = match_bytes(flow.match)
    return FLOW_MOD.pack(VERSION, 14, FLOW_MOD.size + len(body), xid, cookie, mask, flow.table.id, DELETE_STRICT, 0, 0,
                         flow.priority, _NO_BUFFER, ANY_PORT, ANY_PORT, 0, 0) + body
