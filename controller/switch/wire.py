"""What is said to a switch beside its flows: questions, claims, meters, packets, learned neighbours.

OpenFlow 1.4. Flows are for `packing` and `bundles`; what switches answer is for `answers` and `dumps`.
"""
from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Final

from os_ken.ofproto import ofproto_v1_4 as ofp
from os_ken.ofproto import ofproto_v1_4_parser as parser

from controller.switch import packing
from flows import cookie as cookies
from flows.actions import Resubmit, SetField
from flows.fields import Criterion
from flows.flow import ANY, Flow, Match
from flows.host import Meter
from flows.tables import Table

VERSION: Final = packing.VERSION
NEIGHBOUR_IDLE: Final = 300  # seconds without a packet after which a learned neighbour is forgotten
NO_CHANGE, EQUAL, MASTER, SLAVE = (ofp.OFPCR_ROLE_NOCHANGE, ofp.OFPCR_ROLE_EQUAL, ofp.OFPCR_ROLE_MASTER,
                                   ofp.OFPCR_ROLE_SLAVE)
ADD_METER, CHANGE_METER = ofp.OFPMC_ADD, ofp.OFPMC_MODIFY
_METER_FLAGS: Final = ofp.OFPMF_PKTPS | ofp.OFPMF_BURST
_METER_MOD: Final = struct.Struct("!BBHIHHI")  # header, command, flags, meter
_DROP_BAND: Final = struct.Struct("!HHII4x")  # type, length, rate, burst
_PACKET_OUT: Final = struct.Struct("!BBHIIIH6x")  # header, buffer, port, bytes of actions


def next_xid(conn: Any, count: int = 1) -> int:
    """A transaction id of a connection that nothing else has, or the first of so many in a row."""
    first = int(conn.xid) + 1 if conn.xid + count <= ofp.MAX_XID else 1
    conn.xid = first + count - 1
    return first


def meter(xid: int, command: int, wanted: Meter) -> bytes:
    """The message that makes a meter (ADD_METER), or changes the one with its id (CHANGE_METER)."""
    band = _DROP_BAND.pack(ofp.OFPMBT_DROP, _DROP_BAND.size, wanted.rate, wanted.burst)
    return _meter_mod(xid, command, _METER_FLAGS, wanted.id, band)


def delete_meter(xid: int, number: int) -> bytes:
    """The message that deletes a meter, and every flow that names it."""
    return _meter_mod(xid, ofp.OFPMC_DELETE, ofp.OFPMF_KBPS, number)


def _meter_mod(xid: int, command: int, flags: int, number: int, bands: bytes = b"") -> bytes:
    return _METER_MOD.pack(VERSION, ofp.OFPT_METER_MOD, _METER_MOD.size + len(bands), xid, command, flags,
                           number) + bands


def learn(xid: int, flow: Flow) -> bytes:
    """The message that adds the row of a learned neighbour; the switch will say that it is gone (`answers.removed`)."""
    return packing.add(xid, cookies.NEIGHBOUR_COOKIE, flow, NEIGHBOUR_IDLE, ofp.OFPFF_SEND_FLOW_REM)


def unlearn(xid: int, flow: Flow) -> bytes:
    """The message that deletes the row of a learned neighbour with this flow's match."""
    return packing.delete_strict(xid, cookies.NEIGHBOUR_COOKIE, cookies.KIND_MASK, flow)


def packet_out(xid: int, data: bytes, registers: Iterable[Criterion], table: Table) -> bytes:
    """The message that lets a frame run through a switch's tables from this one on, its registers set."""
    actions = packing.actions_bytes([*map(SetField, registers), Resubmit(table)])
    return _PACKET_OUT.pack(VERSION, ofp.OFPT_PACKET_OUT, _PACKET_OUT.size + len(actions) + len(data), xid,
                            ofp.OFP_NO_BUFFER, ofp.OFPP_CONTROLLER, len(actions)) + actions + data


def tell_us(xid: int) -> bytes:
    """The message by which a service controller asks for what a switch says unasked (ports, packets, removed flows).

    Open vSwitch says nothing unasked to one that takes no bytes of a packet (topics/design, Asynchronous Messages).
    """
    return struct.pack("!BBHIHH", VERSION, ofp.OFPT_SET_CONFIG, 12, xid, ofp.OFPC_FRAG_NORMAL, ofp.OFPCML_NO_BUFFER)


def barrier(xid: int) -> bytes:
    """The message that a switch answers when it has done all that was said before."""
    return struct.pack("!BBHI", VERSION, ofp.OFPT_BARRIER_REQUEST, 8, xid)


def read_flows(datapath: Any, table: int = ofp.OFPTT_ALL, cookie: int = 0, mask: int = 0) -> Any:
    """The request for every flow of a switch, or of one of its tables, whose cookie is this where the mask has bits."""
    return parser.OFPFlowStatsRequest(datapath, 0, table, ofp.OFPP_ANY, ofp.OFPG_ANY, cookie, mask, parser.OFPMatch())


def count_flows(datapath: Any, cookie: int, mask: int) -> Any:
    """The request for how many flows `read_flows` would find, for which the switch looks at each."""
    return parser.OFPAggregateStatsRequest(datapath, 0, ofp.OFPTT_ALL, ofp.OFPP_ANY, ofp.OFPG_ANY, cookie, mask,
                                           parser.OFPMatch())


def count_tables(datapath: Any) -> Any:
    """The request for how many flows each table holds, which the switch knows without a look at them."""
    return parser.OFPTableStatsRequest(datapath, 0)


def read_meters(datapath: Any) -> Any:
    """The request for every meter of a switch."""
    return parser.OFPMeterConfigStatsRequest(datapath, 0, ofp.OFPM_ALL)


def claim(datapath: Any, role: int, generation: int) -> Any:
    """The request for a role; a switch refuses one that is older (by a signed difference) than what it has seen.

    NO_CHANGE only asks for the role in force. The answer is OFPRoleReply; OFPRoleStatus comes unasked.
    """
    return parser.OFPRoleRequest(datapath, role, generation)


def watch(datapath: Any, number: int, table: int = ofp.OFPTT_ALL, match: Match = ANY) -> Any:
    """The request to be told of every change of a table's flows that compare at least this (`dumps.updates`).

    The daemon's own changes are told abbreviated.
    """
    flags = ofp.OFPFMF_ADD | ofp.OFPFMF_REMOVED | ofp.OFPFMF_MODIFY | ofp.OFPFMF_INSTRUCTIONS
    return parser.OFPFlowMonitorRequest(datapath, monitor_id=number, table_id=table, command=ofp.OFPFMC_ADD,
                                        monitor_flags=flags,
                                        match=parser.OFPMatch.parser(packing.match_bytes(match), 0))


def unwatch(datapath: Any, number: int) -> Any:
    """The request to be told no more."""
    return parser.OFPFlowMonitorRequest(datapath, monitor_id=number, command=ofp.OFPFMC_DELETE)
