"""Open vSwitch's own actions and messages, where os-ken lacks them or cannot read what a switch may hold."""
from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Any, Final

from os_ken.ofproto import nicira_ext
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


_VENDOR: Final = 0x00002320
_CT_FLUSH: Final = 32  # NXT_CT_FLUSH, include/openflow/nicira-ext.h; Open vSwitch 3.1 and later
_ORIGINAL, _REPLY, _ZONE, _DESTINATION = 0, 1, 2, 1  # its properties, and one of those inside a tuple
_MAPPED: Final = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2


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
    nicira_ext.NXAST_DEC_TTL, nicira_ext.NXAST_CT, nicira_ext.NXAST_NAT, CheckPktLarger._subtype})


def register() -> None:
    """Let os-ken read those of these actions that our own flows have, and take all others as they are.

    Its parsers of some do not know all that Open vSwitch may say (`controller(meter_id=1)`), and a flow of a
    stranger must not make a switch unreadable.
    """
    known: dict[int, Any] = parser.NXAction._subtypes
    for subtype in known.keys() - _READ:
        del known[subtype]
    parser.NXAction.register(CheckPktLarger)
