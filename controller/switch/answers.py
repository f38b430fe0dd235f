"""What a switch says, in our values: its meters, the packets it asks about, the rows it has dropped. Flows: `dumps`."""
from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Final

from os_ken.exception import OFPTruncatedMessage
from os_ken.ofproto import ofproto_parser
from os_ken.ofproto import ofproto_v1_4 as ofp
from os_ken.ofproto import ofproto_v1_4_parser as parser

from controller.switch import framing, nicira
from controller.switch.events import Asked, Removed
from flows import cookie as cookies
from flows import fields as f
from flows.fields import Field
from flows.host import Meter
from flows.tables import ASK, ROUTER

VERSION: Final = ofp.OFP_VERSION
_READ: Final = frozenset({ofp.OFPT_HELLO, ofp.OFPT_ERROR, ofp.OFPT_ECHO_REQUEST, ofp.OFPT_ECHO_REPLY,
                          ofp.OFPT_FEATURES_REPLY, ofp.OFPT_PACKET_IN, ofp.OFPT_FLOW_REMOVED, ofp.OFPT_PORT_STATUS,
                          ofp.OFPT_MULTIPART_REPLY, ofp.OFPT_BUNDLE_CONTROL, ofp.OFPT_ROLE_REPLY, ofp.OFPT_ROLE_STATUS})
_READ_PARTS: Final = frozenset({framing.AGGREGATE, framing.METER_CONFIG, framing.PORT_DESC})
_RAW_PARTS: Final = {framing.FLOW: parser.OFPFlowStatsReply, framing.TABLE: parser.OFPTableStatsReply,
                     framing.FLOW_MONITOR: parser.OFPFlowMonitorReply}


class Unreadable(OFPTruncatedMessage):  # type: ignore[misc]  # the one exception that os-ken does not log and swallow
    """A message that is not OpenFlow 1.4; str() says what is wrong with it."""

    def __init__(self, sentence: str) -> None:
        Exception.__init__(self, sentence)


def register() -> None:
    """From now on os-ken reads every message by `read`."""
    for version in range(256):
        ofproto_parser.register_msg_parser(version)(read)


nicira.register()


def read(datapath: Any, version: int, kind: int, length: int, xid: int, message: bytes) -> Any:
    """A message as os-ken's value; None if it is of a kind that we do not ask for.

    What only `dumps` reads has the bytes of the whole message for its body.
    Unreadable if it is not OpenFlow 1.4: whoever sent it is not to be understood any further. A hello may come in any
    version (OpenFlow 1.4, 6.3.1).
    """
    if version != VERSION and kind != ofp.OFPT_HELLO:
        raise Unreadable(f"a message of version {version:#04x} instead of {VERSION:#04x}")
    if kind not in _READ:
        return None
    try:
        part = framing.part(message) if kind == ofp.OFPT_MULTIPART_REPLY else None
        if part in _RAW_PARTS:
            return _raw(_RAW_PARTS[part], datapath, xid, message)
        if part is not None and part not in _READ_PARTS:
            return None
        framing.walk(kind, message)
        return parser.msg_parser(datapath, version, kind, length, xid, message)
    except Exception as error:
        raise Unreadable(f"a message of type {kind} and {length} bytes makes no sense: {error}") from error


def _raw(reply: Any, datapath: Any, xid: int, message: bytes) -> Any:
    """os-ken's value of a multipart reply, so that its events go their ways, but unread."""
    framing.walk(ofp.OFPT_MULTIPART_REPLY, message)
    found = reply(datapath, body=bytes(message), flags=int.from_bytes(message[10:12]))
    found.set_xid(xid)
    return found


def actions(row: Any) -> Iterable[Any]:
    """All actions of a row, as os-ken's values, in order."""
    return itertools.chain.from_iterable(getattr(instruction, "actions", ()) for instruction in row.instructions)


def _next_hop(row: Any) -> tuple[int, int]:
    """The leg and the address that the row of a learned neighbour is for."""
    return _number(row.match, f.REG_LEAVES_BY), _number(row.match, f.REG_NEXT_HOP)


def _number(oxm: Any, field: Field) -> int:
    value = oxm.get(field.name, 0)
    return value if isinstance(value, int) else 0


def asked(message: Any) -> Asked | None:
    """A packet-in, if it comes from a flow of ours that asks."""
    if message.table_id not in (ASK.id, ROUTER.id) or not cookies.is_compiled(message.cookie):
        return None
    router, leg, translated = (_number(message.match, field)
                               for field in (f.REG_ROUTER, f.REG_CAME_BY, f.REG_TRANSLATED))
    return Asked(router, leg, translated, bytes(message.data))


def removed(message: Any) -> Removed | None:
    """A flow-removed message, if it is about a learned neighbour."""
    if not cookies.is_neighbour(message.cookie):
        return None
    return Removed(*_next_hop(message), idle=message.reason == ofp.OFPRR_IDLE_TIMEOUT)


def meters(configs: Iterable[Any]) -> dict[int, Meter]:
    """What the answer to `wire.read_meters` holds, by id; a meter that is not as ours are has a rate of 0."""
    found = {}
    for config in configs:
        rate, burst = _rate(config)
        found[config.meter_id] = Meter(config.meter_id, rate, burst)
    return found


def _rate(config: Any) -> tuple[int, int]:
    """(packets a second, burst) of a meter as `wire` makes them."""
    match config.bands:
        case [parser.OFPMeterBandDrop() as band] if config.flags == ofp.OFPMF_PKTPS | ofp.OFPMF_BURST:
            return band.rate, band.burst_size
    return 0, 0


def error_words(error_type: int, code: int) -> str:
    """The names of an OpenFlow error."""
    try:
        return f"{ofp.ofp_error_type_to_str(error_type)} {ofp.ofp_error_code_to_str(error_type, code)}"
    except TypeError:  # os-ken's, for a type that it does not know
        return f"error type {error_type}, code {code}"
