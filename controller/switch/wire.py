"""The one place that knows OpenFlow's layout: plans to bytes, and what a switch answers to our values.

OpenFlow 1.4, with Nicira's `learn` and `move`. Serialising is os-ken's.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from os_ken.exception import OFPTruncatedMessage
from os_ken.ofproto import ofproto_parser
from os_ken.ofproto import ofproto_v1_4 as ofp
from os_ken.ofproto import ofproto_v1_4_parser as parser

from controller.switch import framing
from controller.switch.diff import Forget, Plan
from controller.switch.events import Installed, Row
from flows import cookie as cookies
from flows import fields as f
from flows.fields import FIELDS, Criterion, Field, Kind
from flows.flow import Flow, Goto, Learn, Match, Move, Output, OutputBack, PopVlan, PushVlan, SetField
from flows.tables import TUNNEL_TO_VLAN
from flows.text import match_words

VERSION: Final = ofp.OFP_VERSION
_BY_NAME: Final = {field.name: field for field in FIELDS}
_BUNDLE_FLAGS: Final = ofp.OFPBF_ATOMIC | ofp.OFPBF_ORDERED
_VLAN_ID_BITS: Final = 0xFFF
_READ: Final = frozenset({ofp.OFPT_HELLO, ofp.OFPT_ERROR, ofp.OFPT_ECHO_REQUEST, ofp.OFPT_ECHO_REPLY,
                          ofp.OFPT_FEATURES_REPLY, ofp.OFPT_PORT_STATUS, ofp.OFPT_MULTIPART_REPLY,
                          ofp.OFPT_BUNDLE_CONTROL})
_READ_PARTS: Final = {number.to_bytes(2) for number in (framing.FLOW, framing.PORT_DESC)}
_TUNNEL_TABLES: Final = {table.id for table in TUNNEL_TO_VLAN.values()}


@dataclass(frozen=True)
class Bundle:
    """A plan as bytes. `blame` says which message a transaction id was, for the switch's complaints."""

    data: bytes
    blame: dict[int, str]


def bundle(datapath: Any, bundle_id: int, plan: Plan) -> Bundle:
    """One atomic, ordered bundle (OpenFlow 1.4, 6.8): open, add every message of the plan, commit.

    `datapath` gives protocol and transaction ids; nothing is sent.
    """
    messages = [parser.OFPBundleCtrlMsg(datapath, bundle_id, ofp.OFPBCT_OPEN_REQUEST, _BUNDLE_FLAGS, [])]
    words = ["open the bundle"]
    for message, word in _messages(datapath, plan):
        messages.append(parser.OFPBundleAddMsg(datapath, bundle_id, _BUNDLE_FLAGS, message, []))
        words.append(word)
    messages.append(parser.OFPBundleCtrlMsg(datapath, bundle_id, ofp.OFPBCT_COMMIT_REQUEST, _BUNDLE_FLAGS, []))
    words.append("commit")
    blame: dict[int, str] = {}
    data = bytearray()
    for message, word in zip(messages, words, strict=True):
        blame[datapath.set_xid(message)] = word
        message.serialize()
        data += message.buf
    return Bundle(bytes(data), blame)


def _messages(datapath: Any, plan: Plan) -> Iterator[tuple[Any, str]]:
    for cookie, flow in plan.add:
        yield add_flow(datapath, cookie, flow), f"add table={flow.table.id} ({flow.why})"
    for cookie in plan.delete:
        yield _delete(datapath, cookie, cookies.EXACT), f"delete cookie={cookie:#x}"
    for forget in plan.forget:
        yield _forget(datapath, forget), f"forget {forget}"


def add_flow(datapath: Any, cookie: int, flow: Flow) -> Any:
    """The OFPFlowMod that adds a flow, or overwrites the one with its match and priority."""
    apply = [_action(action) for action in flow.actions if not isinstance(action, Goto)]
    instructions: list[Any] = [parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, apply)] if apply else []
    instructions += [parser.OFPInstructionGotoTable(action.table.id) for action in flow.actions
                     if isinstance(action, Goto)]
    return parser.OFPFlowMod(datapath, cookie=cookie, table_id=flow.table.id, priority=flow.priority,
                             command=ofp.OFPFC_ADD, match=match(flow.match), instructions=instructions)


def match(wanted: Match) -> Any:
    """An OFPMatch."""
    return parser.OFPMatch(**{criterion.field.name: _oxm_value(criterion) for criterion in wanted.criteria})


def _oxm_value(criterion: Criterion) -> Any:
    if criterion.exact:
        return _value(criterion.field, criterion.value)
    return _value(criterion.field, criterion.value), _value(criterion.field, criterion.mask)


def _value(field: Field, number: int) -> int | str:
    return number if field.kind in (Kind.NUMBER, Kind.HEX) else field.show(number)


def _action(action: object) -> Any:
    match action:
        case PushVlan():
            return parser.OFPActionPushVlan(f.DOT1Q)
        case PopVlan():
            return parser.OFPActionPopVlan()
        case SetField(criterion):
            return parser.OFPActionSetField(**{criterion.field.name: _oxm_value(criterion)})
        case Move(source, target):
            return parser.NXActionRegMove(_source(source), _source(target), source.bits)
        case Output(port):
            return parser.OFPActionOutput(port, ofp.OFPCML_NO_BUFFER)
        case OutputBack():
            return parser.OFPActionOutput(ofp.OFPP_IN_PORT, ofp.OFPCML_NO_BUFFER)
        case Learn():
            return _learn(action)
        case _:
            raise TypeError(f"not an action: {action!r}")


def _source(field: Field) -> str:
    """os-ken's name of a field in Nicira actions."""
    return f"{field.name}_nxm" if field in (f.ARP_SPA, f.ARP_TPA, f.ARP_OP, f.ETH_SRC, f.ETH_DST) else field.name


def _learn(action: Learn) -> Any:
    """flows.flow.Learn in Nicira's flow specs (ovs-actions(7), learn)."""
    specs = [
        parser.NXFlowSpecMatch(src=("vlan_tci", 0), dst=("vlan_tci", 0), n_bits=12),
        parser.NXFlowSpecMatch(src=("eth_src_nxm", 0), dst=("eth_dst_nxm", 0), n_bits=48),
        parser.NXFlowSpecLoad(src=0, dst=("vlan_tci", 0), n_bits=16),
        parser.NXFlowSpecLoad(src=("tunnel_id_nxm", 0), dst=("tunnel_id_nxm", 0), n_bits=64),
        parser.NXFlowSpecOutput(src=("in_port_nxm", 0), dst="", n_bits=16),
    ]
    return parser.NXActionLearn(table_id=action.into.id, specs=specs, hard_timeout=action.hard_timeout,
                                priority=action.into.ranks[action.rank], cookie=action.cookie)


def _delete(datapath: Any, cookie: int, mask: int, **more: Any) -> Any:
    return parser.OFPFlowMod(datapath, cookie=cookie, cookie_mask=mask, table_id=ofp.OFPTT_ALL,
                             command=ofp.OFPFC_DELETE, out_port=more.pop("out_port", ofp.OFPP_ANY),
                             out_group=ofp.OFPG_ANY, match=more.pop("match", parser.OFPMatch()))


def _forget(datapath: Any, forget: Forget) -> Any:
    criteria: dict[str, Any] = {}
    if forget.vlan is not None:
        # A delete finds what compares at least its bits (OpenFlow 1.4, 6.4), and a learned row compares these twelve.
        criteria["vlan_vid"] = (forget.vlan, _VLAN_ID_BITS)
    if forget.mac is not None:
        criteria["eth_dst"] = forget.mac
    out_port = ofp.OFPP_ANY if forget.ofport is None else forget.ofport
    return _delete(datapath, cookies.LEARNED_COOKIE, cookies.KIND_MASK, match=parser.OFPMatch(**criteria),
                   out_port=out_port)


def read_flows(datapath: Any) -> Any:
    """The request for every flow of a switch."""
    return parser.OFPFlowStatsRequest(datapath, 0, ofp.OFPTT_ALL, ofp.OFPP_ANY, ofp.OFPG_ANY, 0, 0, parser.OFPMatch())


# ---- what a switch answers

class Unreadable(OFPTruncatedMessage):  # type: ignore[misc]  # the one exception that os-ken does not log and swallow
    """A message that is not OpenFlow 1.4; str() says what is wrong with it."""

    def __init__(self, sentence: str) -> None:
        Exception.__init__(self, sentence)


def register() -> None:
    """From now on os-ken reads every message by `read`."""
    for version in range(256):
        ofproto_parser.register_msg_parser(version)(read)


def read(datapath: Any, version: int, kind: int, length: int, xid: int, message: bytes) -> Any:
    """A message as os-ken's value; None if it is of a kind that we do not ask for.

    Unreadable if it is not OpenFlow 1.4: whoever sent it is not to be understood any further. A hello may come in any
    version (OpenFlow 1.4, 6.3.1).
    """
    if version != VERSION and kind != ofp.OFPT_HELLO:
        raise Unreadable(f"a message of version {version:#04x} instead of {VERSION:#04x}")
    if kind not in _READ or (kind == ofp.OFPT_MULTIPART_REPLY and bytes(message[8:10]) not in _READ_PARTS):
        return None
    try:
        framing.walk(kind, message)
        return parser.msg_parser(datapath, version, kind, length, xid, message)
    except Exception as error:
        raise Unreadable(f"a message of type {kind} and {length} bytes makes no sense: {error}") from error


def installed(row: Any) -> Installed:
    """A row of a flow-stats reply, as reconciling needs it."""
    if row.table_id not in _TUNNEL_TABLES:
        return Installed(row.cookie, row.table_id)
    pushed = [action.value & ~f.VLAN_PRESENT for action in _actions(row)
              if isinstance(action, parser.OFPActionSetField) and action.key == "vlan_vid"]
    return Installed(row.cookie, row.table_id, row.match.get("tunnel_id"), pushed[0] if pushed else None)


def _actions(row: Any) -> Iterable[Any]:
    return itertools.chain.from_iterable(getattr(instruction, "actions", ()) for instruction in row.instructions)


def row(stats: Any) -> Row:
    """A row of a flow-stats reply, whole."""
    instructions = list(_actions(stats))
    words = [_action_words(action) for action in instructions]
    words += [f"goto_table:{one.table_id}" for one in stats.instructions
              if isinstance(one, parser.OFPInstructionGotoTable)]
    learned = _learned(stats, instructions) if cookies.is_learned(stats.cookie) else ()
    return Row(stats.cookie, stats.table_id, stats.priority, ",".join(_match_words(stats.match)),
               ",".join(words) or "drop", stats.packet_count, stats.byte_count, stats.duration_sec, *learned)


def _learned(stats: Any, actions: Iterable[Any]) -> tuple[str, int, int]:
    """(MAC, VLAN, port) of a row that our learn action made."""
    vlan = stats.match.get("vlan_tci") or stats.match.get("vlan_vid") or 0
    ports = [action.port for action in actions if isinstance(action, parser.OFPActionOutput)]
    return (str(stats.match.get("eth_dst", "")), (vlan[0] if isinstance(vlan, tuple) else vlan) & _VLAN_ID_BITS,
            ports[0] if ports else 0)


def _match_words(oxm: Any) -> list[str]:
    known, words = [], []
    for name, value in oxm.items():
        field = _BY_NAME.get(name)
        number, mask = value if isinstance(value, tuple) else (value, None)
        if field and not (field == f.VLAN_VID and mask is not None):
            known.append(field(number, mask))
        elif name in ("vlan_vid", "vlan_tci"):
            words.append(f"vlan_tci={number:#06x}" + ("" if mask is None else f"/{mask:#06x}"))
        else:
            words.append(f"{name}={number}" + ("" if mask is None else f"/{mask}"))
    return match_words(Match(tuple(known))) + words


_NXM: Final = {"vlan_tci": "NXM_OF_VLAN_TCI[]", "tunnel_id_nxm": "NXM_NX_TUN_ID[]"}  # what learned rows load
_WORDS: Final[dict[str, Callable[[Any], str]]] = {
    "OFPActionOutput": lambda a: "IN_PORT" if a.port == ofp.OFPP_IN_PORT else f"output:{a.port}",
    "OFPActionPushVlan": lambda a: f"push_vlan:{a.ethertype:#06x}",
    "OFPActionPopVlan": lambda a: "pop_vlan",
    "OFPActionSetField": lambda a: f"set_field:{a.value}->{a.key}",
    "NXActionRegLoad": lambda a: f"load:{a.value:#x}->{_NXM.get(a.dst, a.dst)}",
    "NXActionRegMove": lambda a: f"move:{a.src_field}->{a.dst_field}",
    "NXActionLearn": lambda a: f"learn(table={a.table_id},hard_timeout={a.hard_timeout},priority={a.priority},...)",
}


def _action_words(action: Any) -> str:
    words = _WORDS.get(type(action).__name__)
    return words(action) if words else type(action).__name__


def error_words(error_type: int, code: int) -> str:
    """The names of an OpenFlow error."""
    try:
        return f"{ofp.ofp_error_type_to_str(error_type)} {ofp.ofp_error_code_to_str(error_type, code)}"
    except TypeError:  # os-ken's, for a type that it does not know
        return f"error type {error_type}, code {code}"
