"""The rows of a dump as text for people, as near to ovs-ofctl's as os-ken's decoding allows."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from os_ken.ofproto import ofproto_v1_4 as ofp
from os_ken.ofproto import ofproto_v1_4_parser as parser

from controller.switch import dumps, framing
from controller.switch.answers import actions
from controller.switch.dumps import Content
from controller.switch.events import Row
from flows import cookie as cookies
from flows import fields as f
from flows.fields import FIELDS, Kind
from flows.flow import Match
from flows.text import match_words

_BY_NAME: Final = {field.name: field for field in FIELDS}
_VLAN_ID_BITS: Final = 0xFFF
_STRANGE: Final = "(not understood)"
_NXM: Final = {  # os-ken's names of what Nicira's actions load, copy and write
    **{name: f"{field.nxm}[]" for field in FIELDS for name in (field.name, f"{field.name}_nxm")},
    "vlan_tci": "NXM_OF_VLAN_TCI[]"}


def row(raw: bytes, known: Callable[[Content], bool] = lambda _: False) -> Row:
    """A row as it stands in a dump; without text if it is `known`. What os-ken cannot read is said to be so."""
    head = dumps.head(raw)
    try:
        framing.flow(raw, dumps.MATCH_AT, len(raw))
        content = dumps.content(raw)
    except framing.Broken:
        return replace(head, match=_STRANGE, actions=_STRANGE)
    if known(content):
        return head
    try:
        return replace(head, **_text(parser.OFPFlowStats.parser(raw, 0)))
    except Exception:  # os-ken's parsers meet what they do not know in any way; a stranger's row is no fault of ours
        return replace(head, match=_STRANGE, actions=_STRANGE)


def _text(stats: Any) -> dict[str, Any]:
    acts = list(actions(stats))
    words = [f"meter:{one.meter_id}" for one in stats.instructions if isinstance(one, parser.OFPInstructionMeter)]
    words += [_action(action) for action in acts]
    words += [f"goto_table:{one.table_id}" for one in stats.instructions
              if isinstance(one, parser.OFPInstructionGotoTable)]
    mac, vlan, out_port = _learned(stats, acts) if cookies.is_learned(stats.cookie) else ("", 0, 0)
    return {"match": ",".join(_conditions(stats.match)), "actions": ",".join(words) or "drop",
            "mac": mac, "vlan": vlan, "out_port": out_port}


def _learned(stats: Any, acts: Iterable[Any]) -> tuple[str, int, int]:
    """(MAC, VLAN, port) of a row that our learn action made."""
    vlan = stats.match.get("vlan_tci") or stats.match.get("vlan_vid") or 0
    ports = [port for action in acts if (port := _leads_to(action)) is not None]
    return (str(stats.match.get("eth_dst", "")), (vlan[0] if isinstance(vlan, tuple) else vlan) & _VLAN_ID_BITS,
            ports[0] if ports else 0)


def _leads_to(action: Any) -> int | None:
    """The port that a learned row sends to, or notes down."""
    if isinstance(action, parser.NXActionRegLoad) and action.dst == f.REG_OUT_PORT.name:
        return int(action.value)
    return int(action.port) if isinstance(action, parser.OFPActionOutput) else None


def _conditions(oxm: Any) -> list[str]:
    known, words = [], []
    for name, value in oxm.items():
        field = _BY_NAME.get(name)
        number, mask = value if isinstance(value, tuple) else (value, None)
        if field and (mask is None or field.maskable):
            known.append(field(number, mask))
        elif name in ("vlan_vid", "vlan_tci"):
            words.append(f"vlan_tci={number:#06x}" + ("" if mask is None else f"/{mask:#06x}"))
        else:
            words.append(f"{name}={number}" + ("" if mask is None else f"/{mask}"))
    known.sort(key=lambda criterion: f.ORDER[criterion.field.name])
    return match_words(Match(tuple(known))) + words


_SPECIAL: Final = {ofp.OFPP_IN_PORT: "IN_PORT", ofp.OFPP_CONTROLLER: "CONTROLLER:65535", ofp.OFPP_LOCAL: "LOCAL"}
_NAMES: Final = {"tunnel_id": "tun_id", "in_port_nxm": "in_port"}  # ovs-ofctl's, where it does not use OpenFlow's
_WORDS: Final[dict[str, Callable[[Any], str]]] = {
    "OFPActionOutput": lambda a: _SPECIAL.get(a.port, f"output:{a.port}"),
    "OFPActionPushVlan": lambda a: f"push_vlan:{a.ethertype:#06x}",
    "OFPActionPopVlan": lambda a: "pop_vlan",
    "OFPActionDecNwTtl": lambda a: "dec_ttl",
    "OFPActionSetField": lambda a: f"set_field:{_value(a.key, a.value)}->{_NAMES.get(a.key, a.key)}",
    "NXActionRegLoad": lambda a: f"load:{a.value:#x}->{_bits(a.dst, a.ofs_nbits)}",
    "NXActionRegMove": lambda a: f"move:{_NXM.get(a.src_field, a.src_field)}->{_NXM.get(a.dst_field, a.dst_field)}",
    "NXActionLearn": lambda a: f"learn({_lesson(a)},...)",
    "LimitedLearn": lambda a: f"learn({_lesson(a.learn)},limit={a.limit},...)",
    "NXActionResubmitTable": lambda a: f"resubmit(,{a.table_id})",
    "NXActionOutputReg": lambda a: f"output:{_bits(a.src, a.ofs_nbits)}",
    "NXActionConjunction": lambda a: f"conjunction({a.id},{a.clause + 1}/{a.n_clauses})",
    "CloneActions": lambda a: f"clone({','.join(map(_action, a.actions))})",
    "NXActionCT": lambda a: _track(a),
    "NXActionNAT": lambda a: _nat(a),
    "NXActionUnknown": lambda a: f"nicira({a.subtype})",
    "CheckPktLarger": lambda a: f"check_pkt_larger({a.size})->{_NXM.get(a.target, a.target).removesuffix('[]')}[0]",
}
_COMMIT: Final = 1  # NX_CT_F_COMMIT
_SOURCE, _DESTINATION = 1, 2  # NX_NAT_F_SRC, NX_NAT_F_DST
_NO_TABLE: Final = 0xFF  # NX_CT_RECIRC_NONE
_COUNT_BITS: Final = 0x3F


def _action(action: Any) -> str:
    words = _WORDS.get(type(action).__name__)
    return words(action) if words else type(action).__name__


def _value(name: str, value: Any) -> str:
    field = _BY_NAME.get(name)
    return field.show(value) if field and field.kind is Kind.HEX and isinstance(value, int) else str(value)


def _lesson(action: Any) -> str:
    return f"table={action.table_id},hard_timeout={action.hard_timeout},priority={action.priority}"


def _bits(name: str, place: int) -> str:
    """Bits of a field: the first, and how many there are, less one, stand in ten and six bits (ofs_nbits)."""
    field, first, last = _BY_NAME.get(name), place >> 6, (place >> 6) + (place & _COUNT_BITS)
    if field is None or last == first + field.bits - 1:
        return str(_NXM.get(name, name))
    return f"{field.nxm}[{first}..{last}]"


def _track(action: Any) -> str:
    words = ["commit"] if action.flags & _COMMIT else []
    words += [f"table={action.recirc_table}"] if action.recirc_table != _NO_TABLE else []
    words.append(f"zone={_bits(action.zone_src, action.zone_ofs_nbits) if action.zone_src else action.zone_ofs_nbits}")
    return f"ct({','.join([*words, *map(_action, action.actions)])})"


def _nat(action: Any) -> str:
    for flag, end in ((_SOURCE, "src"), (_DESTINATION, "dst")):
        if action.flags & flag:
            return f"nat({end}={action.range_ipv4_min or action.range_ipv6_min})"
    return "nat"
