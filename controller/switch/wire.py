"""The one place that knows OpenFlow's layout of what we say: plans, packets and questions to bytes.

OpenFlow 1.4; what flows match and do is for `oxm`. Serialising is os-ken's. What switches answer is for `answers`.
"""
from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from os_ken.ofproto import ofproto_v1_4 as ofp
from os_ken.ofproto import ofproto_v1_4_parser as parser

from controller.switch import nicira
from controller.switch.diff import Forget, Plan
from controller.switch.oxm import action_of, match, resubmit
from flows import cookie as cookies
from flows.fields import Criterion
from flows.flow import Flow, Goto, Metered, SetField
from flows.host import Meter
from flows.sheet import flow_of
from flows.tables import Table

VERSION: Final = ofp.OFP_VERSION
NO_CHANGE, EQUAL, MASTER, SLAVE = (ofp.OFPCR_ROLE_NOCHANGE, ofp.OFPCR_ROLE_EQUAL, ofp.OFPCR_ROLE_MASTER,
                                   ofp.OFPCR_ROLE_SLAVE)
NEIGHBOUR_IDLE: Final = 300  # seconds without a packet after which a learned neighbour is forgotten
_BUNDLE_FLAGS: Final = ofp.OFPBF_ATOMIC | ofp.OFPBF_ORDERED
_METER_FLAGS: Final = ofp.OFPMF_PKTPS | ofp.OFPMF_BURST
_VLAN_ID_BITS: Final = 0xFFF


class TooLarge(ValueError):
    """A flow does not fit into a message, which has 65,535 bytes at most; str() says which."""


@dataclass(frozen=True)
class Bundle:
    """A plan as bytes. `blame` says which message a transaction id was, for the switch's complaints."""

    data: bytes
    blame: dict[int, str]


def bundle(datapath: Any, bundle_id: int, plan: Plan) -> Bundle:
    """One atomic, ordered bundle (OpenFlow 1.4, 6.8): open, add every message of the plan, commit.

    Open vSwitch takes neither meters nor the emptying of zones in bundles, so these come before it and after it.
    `datapath` gives protocol and transaction ids; nothing is sent. TooLarge if a flow has too many actions.
    """
    blame: dict[int, str] = {}
    data = bytearray()
    for message, word in _all_messages(datapath, bundle_id, plan):
        blame[datapath.set_xid(message)] = word
        try:
            message.serialize()
        except struct.error:  # os-ken's, for a length that has more than 16 bits
            raise TooLarge(f"no message is large enough for: {word}") from None
        data += message.buf
    return Bundle(bytes(data), blame)


def _all_messages(datapath: Any, bundle_id: int, plan: Plan) -> Iterator[tuple[Any, str]]:
    for command, wanted in ((ofp.OFPMC_ADD, plan.meters_add), (ofp.OFPMC_MODIFY, plan.meters_change)):
        for meter in wanted:
            yield _meter(datapath, command, meter), f"set meter {meter.id}"
    yield from _flushes(datapath, plan.flush)
    yield _bundle_control(datapath, bundle_id, ofp.OFPBCT_OPEN_REQUEST), "open the bundle"
    for message, word in _messages(datapath, plan):
        yield parser.OFPBundleAddMsg(datapath, bundle_id, _BUNDLE_FLAGS, message, []), word
    yield _bundle_control(datapath, bundle_id, ofp.OFPBCT_COMMIT_REQUEST), "commit"
    yield from _flushes(datapath, plan.flush_again)
    for number in plan.meters_delete:
        yield parser.OFPMeterMod(datapath, ofp.OFPMC_DELETE, meter_id=number), f"delete meter {number}"


def _flushes(datapath: Any, zones: Iterable[int]) -> Iterator[tuple[Any, str]]:
    for zone in zones:
        yield nicira.flush_zone(datapath, zone), f"empty zone {zone}"


def _bundle_control(datapath: Any, bundle_id: int, kind: int) -> Any:
    return parser.OFPBundleCtrlMsg(datapath, bundle_id, kind, _BUNDLE_FLAGS, [])


def _meter(datapath: Any, command: int, meter: Meter) -> Any:
    band = parser.OFPMeterBandDrop(meter.rate, meter.burst)
    return parser.OFPMeterMod(datapath, command, _METER_FLAGS, meter.id, [band])


def _messages(datapath: Any, plan: Plan) -> Iterator[tuple[Any, str]]:
    for cookie, row in plan.add:
        flow = flow_of(row)
        yield add_flow(datapath, cookie, flow), f"add table={flow.table.id} ({flow.why})"
    for cookie in plan.delete:
        yield _delete(datapath, cookie, cookies.EXACT), f"delete cookie={cookie:#x}"
    for forget in plan.forget:
        yield _forget(datapath, forget), f"forget {forget}"


def add_flow(datapath: Any, cookie: int, flow: Flow, **more: Any) -> Any:
    """The OFPFlowMod that adds a flow, or overwrites the one with its match and priority."""
    apply = [action_of(action) for action in flow.actions if not isinstance(action, (Goto, Metered))]
    instructions: list[Any] = [parser.OFPInstructionMeter(action.meter) for action in flow.actions
                               if isinstance(action, Metered)]
    instructions += [parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, apply)] if apply else []
    instructions += [parser.OFPInstructionGotoTable(action.table.id) for action in flow.actions
                     if isinstance(action, Goto)]
    return parser.OFPFlowMod(datapath, cookie=cookie, table_id=flow.table.id, priority=flow.priority,
                             command=ofp.OFPFC_ADD, match=match(flow.match), instructions=instructions, **more)


def learn(datapath: Any, flow: Flow) -> Any:
    """The message that adds the row of a learned neighbour; the switch will say that it is gone (`answers.removed`)."""
    return add_flow(datapath, cookies.NEIGHBOUR_COOKIE, flow, idle_timeout=NEIGHBOUR_IDLE,
                    flags=ofp.OFPFF_SEND_FLOW_REM)


def unlearn(datapath: Any, flow: Flow) -> Any:
    """The message that deletes the row of a learned neighbour with this flow's match."""
    return parser.OFPFlowMod(datapath, cookie=cookies.NEIGHBOUR_COOKIE, cookie_mask=cookies.KIND_MASK,
                             table_id=flow.table.id, priority=flow.priority, command=ofp.OFPFC_DELETE_STRICT,
                             out_port=ofp.OFPP_ANY, out_group=ofp.OFPG_ANY, match=match(flow.match))


def packet_out(datapath: Any, data: bytes, registers: Iterable[Criterion], table: Table) -> Any:
    """The message that lets a frame run through a switch's tables from this one on, its registers set."""
    actions = [action_of(SetField(register)) for register in registers]
    return parser.OFPPacketOut(datapath, ofp.OFP_NO_BUFFER, ofp.OFPP_CONTROLLER, [*actions, resubmit(table)], data)


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
    cookie, mask = cookies.LEARNED_COOKIE, cookies.KIND_MASK
    if forget.source is not None:
        cookie, mask = cookie | forget.source, cookies.EXACT
    return _delete(datapath, cookie, mask, match=parser.OFPMatch(**criteria), out_port=out_port)


def read_flows(datapath: Any, table: int = ofp.OFPTT_ALL, cookie: int = 0, mask: int = 0) -> Any:
    """The request for every flow of a switch, or of one of its tables, whose cookie is this where the mask has bits."""
    return parser.OFPFlowStatsRequest(datapath, 0, table, ofp.OFPP_ANY, ofp.OFPG_ANY, cookie, mask, parser.OFPMatch())


def count_flows(datapath: Any, table: int = ofp.OFPTT_ALL, cookie: int = 0, mask: int = 0) -> Any:
    """The request for how many flows `read_flows` would find."""
    return parser.OFPAggregateStatsRequest(datapath, 0, table, ofp.OFPP_ANY, ofp.OFPG_ANY, cookie, mask,
                                           parser.OFPMatch())


def read_meters(datapath: Any) -> Any:
    """The request for every meter of a switch."""
    return parser.OFPMeterConfigStatsRequest(datapath, 0, ofp.OFPM_ALL)


def claim(datapath: Any, role: int, generation: int) -> Any:
    """The request for a role; a switch refuses one that is older (by a signed difference) than what it has seen.

    NO_CHANGE only asks for the role in force. The answer is OFPRoleReply; OFPRoleStatus comes unasked.
    """
    return parser.OFPRoleRequest(datapath, role, generation)


def watch(datapath: Any, number: int, table: int = ofp.OFPTT_ALL, *, initial: bool = False) -> Any:
    """The request to be told of every change of a table's flows, the daemon's own abbreviated (`dumps.updates`).

    `initial`: of those that are there already, too.
    """
    flags = ofp.OFPFMF_ADD | ofp.OFPFMF_REMOVED | ofp.OFPFMF_MODIFY | ofp.OFPFMF_INSTRUCTIONS
    return parser.OFPFlowMonitorRequest(datapath, monitor_id=number, table_id=table, command=ofp.OFPFMC_ADD,
                                        monitor_flags=flags | (ofp.OFPFMF_INITIAL if initial else 0))


def unwatch(datapath: Any, number: int) -> Any:
    """The request to be told no more."""
    return parser.OFPFlowMonitorRequest(datapath, monitor_id=number, command=ofp.OFPFMC_DELETE)
