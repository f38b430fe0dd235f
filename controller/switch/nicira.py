"""Open vSwitch's own actions and messages, where os-ken lacks them or cannot read what a switch may hold."""
from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Any, Final

from os_ken.lib import type_desc
from os_ken.ofproto import nicira_ext, oxm_fields
from os_ken.ofproto import ofproto_v1_4 as ofp
from os_ken.ofproto import ofproto_v1_4_parser as parser


class CheckPktLarger(parser.NXAction):  # type: ignore[misc]  # os-ken has no types
    """check_pkt_larger (ovs-actions(7)): `size` in bytes; `target` is os-ken's name of the field it writes a bit of."""

    _subtype = 49  # NXAST_CHECK_PKT_LARGER, lib/ofp-actions.c
    _layout: Final = "!HH4s6x"  # size, bit, header of the field, padding

    def __init__(self, size: int, target: str) -> None:
        super().__init__()
        self.size, self.target = size, target

    def serialize_body(self) -> bytearray:
        """What stands behind the subtype."""
        header = bytearray()
        ofp.oxm_serialize_header(ofp.oxm_from_user_header(self.target), header, 0)
        return bytearray(struct.pack(self._layout, self.size, 0, bytes(header)))

    @classmethod
    def parser(cls, body: bytes) -> CheckPktLarger:
        """From what stands behind the subtype."""
        size, _, header = struct.unpack_from(cls._layout, body)
        number, _ = ofp.oxm_parse_header(header, 0)
        return cls(size, ofp.oxm_to_user_header(number))


class CloneActions(parser.NXAction):  # type: ignore[misc]
    """clone (ovs-actions(7)): `actions` are done with a copy of the packet."""

    _subtype = 42  # NXAST_CLONE, lib/ofp-actions.c
    _padding: Final = 6

    def __init__(self, actions: list[Any]) -> None:
        super().__init__()
        self.actions = actions

    def serialize_body(self) -> bytearray:
        """What stands behind the subtype."""
        data = bytearray(self._padding)
        for action in self.actions:
            inner = bytearray()  # some of os-ken's actions append themselves, wherever they are told to write
            action.serialize(inner, 0)
            data += inner.ljust(action.len, b"\0")
        return data

    @classmethod
    def parser(cls, body: bytes) -> CloneActions:
        """From what stands behind the subtype; its lengths have been walked before (`framing`)."""
        actions, at = [], cls._padding
        while at < len(body):
            actions.append(parser.OFPAction.parser(body, at))
            at += actions[-1].len
        return cls(actions)


class LimitedLearn(parser.NXAction):  # type: ignore[misc]
    """learn with a limit (ovs-actions(7)): os-ken's `learn`, and how many flows may wear its cookie (0: any number).

    What the switch says of the learned flow's content is not read.
    """

    _subtype = 45  # NXAST_LEARN2, lib/ofp-actions.c
    _layout: Final = "!HHHQHBxHH"  # timeouts, priority, cookie, flags, table, timeouts after FIN
    _limit: Final = "!IHxx"  # the limit, and a bit for its outcome
    _header: Final = 10  # bytes of every such action up to its body

    def __init__(self, learn: Any, limit: int) -> None:
        super().__init__()
        self.learn, self.limit = learn, limit

    def serialize_body(self) -> bytearray:
        """What stands behind the subtype, padded."""
        whole = bytes(self.learn.serialize_body())
        head, specs = whole[:struct.calcsize(self._layout)], whole[struct.calcsize(self._layout):]
        data = head + struct.pack(self._limit, self.limit, 0) + specs
        return bytearray(data.ljust(len(data) + -(self._header + len(data)) % 8, b"\0"))

    @classmethod
    def parser(cls, body: bytes) -> LimitedLearn:
        """From what stands behind the subtype."""
        idle, hard, priority, cookie, flags, table, fin_idle, fin_hard = struct.unpack_from(cls._layout, body)
        (limit, _) = struct.unpack_from(cls._limit, body, struct.calcsize(cls._layout))
        return cls(parser.NXActionLearn(table, [], idle, hard, priority, cookie, flags, fin_idle, fin_hard), limit)


_VENDOR: Final = 0x00002320
_CT_FLUSH_ZONE: Final = 29  # NXT_CT_FLUSH_ZONE, include/openflow/nicira-ext.h
_CT_FLUSH: Final = 32  # NXT_CT_FLUSH, include/openflow/nicira-ext.h; Open vSwitch 3.1 and later
_ORIGINAL, _REPLY, _ZONE, _DESTINATION = 0, 1, 2, 1  # its properties, and one of those inside a tuple
_MAPPED: Final = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2


def flush_zone(xid: int, zone: int) -> bytes:
    """The message that ends all conversations of a zone (NXT_CT_FLUSH_ZONE)."""
    return struct.pack("!BBHIII6xH", ofp.OFP_VERSION, ofp.OFPT_EXPERIMENTER, 24, xid, _VENDOR, _CT_FLUSH_ZONE, zone)


def ct_flush(zone: int, asked: IPv4Address | None = None, shown: IPv4Address | None = None) -> bytes:
    """The message that ends conversations of a zone: those to `asked`, those whose answers go to `shown`, or all."""
    body = struct.pack("!IIB7x", _VENDOR, _CT_FLUSH, 0)
    for kind, address in ((_ORIGINAL, asked), (_REPLY, shown)):
        if address is not None:
            inner = struct.pack("!HH", _DESTINATION, 20) + _MAPPED + address.packed + bytes(4)
            body += struct.pack("!HH4x", kind, 8 + len(inner)) + inner
    body += struct.pack("!HHH2x", _ZONE, 8, zone)
    return struct.pack("!BBHI", ofp.OFP_VERSION, ofp.OFPT_EXPERIMENTER, 8 + len(body), 0) + body


_READ: Final = frozenset({
    nicira_ext.NXAST_RESUBMIT_TABLE, nicira_ext.NXAST_REG_MOVE, nicira_ext.NXAST_REG_LOAD, nicira_ext.NXAST_LEARN,
    nicira_ext.NXAST_DEC_TTL, nicira_ext.NXAST_CT, nicira_ext.NXAST_NAT, nicira_ext.NXAST_OUTPUT_REG,
    nicira_ext.NXAST_CONJUNCTION})
_OURS: Final = (CheckPktLarger, CloneActions, LimitedLearn)
# Open vSwitch's fields that os-ken does not know (lib/meta-flow.xml): what connection tracking remembers.
_FIELDS: Final = (
    ("ct_nw_proto", 119, type_desc.Int1), ("ct_nw_src", 120, type_desc.IPv4Addr),
    ("ct_nw_dst", 121, type_desc.IPv4Addr), ("ct_ipv6_src", 122, type_desc.IPv6Addr),
    ("ct_ipv6_dst", 123, type_desc.IPv6Addr), ("ct_tp_src", 124, type_desc.Int2), ("ct_tp_dst", 125, type_desc.Int2))


def register() -> None:
    """Let os-ken read those of these actions that our own flows have, and take all others as they are; and our fields.

    Its parsers of some do not know all that Open vSwitch may say (`controller(meter_id=1)`), and a flow of a
    stranger must not make a switch unreadable.
    """
    known: dict[int, Any] = parser.NXAction._subtypes
    for subtype in known.keys() - _READ:
        del known[subtype]
    for ours in _OURS:
        parser.NXAction.register(ours)
    named = {field.name for field in ofp.oxm_types}
    ofp.oxm_types += [oxm_fields.NiciraExtended1(*field) for field in _FIELDS if field[0] not in named]
    oxm_fields.generate(ofp.__name__)
