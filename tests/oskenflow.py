"""The switch's language as os-ken knows it: what `packing`, `bundles` and `dumps` must say and understand, too."""
from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from os_ken.ofproto import nicira_ext
from os_ken.ofproto import ofproto_v1_4 as ofp
from os_ken.ofproto import ofproto_v1_4_parser as parser

from controller.switch import answers
from controller.switch.diff import Forget, Plan
from controller.switch.events import Installed, NextHop
from controller.switch.nicira import CheckPktLarger, CloneActions, LimitedLearn
from flows import cookie as cookies
from flows import fields as f
from flows.fields import Criterion, Field, Kind
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
    Learn,
    LearnPort,
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
from flows.host import Meter
from flows.sheet import flow_of
from flows.tables import CLASSIFY, TUNNEL_TO_VLAN, Table

_PORT_BITS: Final = 0xFFFF  # Nicira's actions number ports as OpenFlow 1.0 does
_WHOLE_PACKET: Final = 0xFFFF
_COMMIT: Final = 1  # NX_CT_F_COMMIT (lib/ofp-actions.c)
_BUNDLE_FLAGS: Final = ofp.OFPBF_ATOMIC | ofp.OFPBF_ORDERED
_METER_FLAGS: Final = ofp.OFPMF_PKTPS | ofp.OFPMF_BURST
_VLAN_ID_BITS: Final = 0xFFF
_TO_VLAN: Final = {CLASSIFY.id, *(table.id for table in TUNNEL_TO_VLAN.values())}
_NICIRA, _FLUSH_ZONE = 0x2320, 29  # nicira-ext.h: NXT_CT_FLUSH_ZONE
_NAT_ENDS: Final = {"src": 1, "dst": 2}  # NX_NAT_F_SRC, NX_NAT_F_DST


def match(wanted: Match) -> Any:
    """An OFPMatch, in our order: os-ken's puts nw_ttl before the EtherType that it needs, and Open vSwitch objects.

    What connection tracking remembers needs an EtherType, too.
    """
    last = [one for one in wanted.criteria if one.field in f.TRACKED]
    first = [one for one in wanted.criteria if one.field in (f.CT_STATE, f.ETH_TYPE)] if last else []
    ordered = [*first, *(one for one in wanted.criteria if one not in first and one not in last), *last]
    return parser.OFPMatch(_ordered_fields=[(one.field.name, _oxm_value(one)) for one in ordered])


def _oxm_value(criterion: Criterion) -> Any:
    if criterion.exact:
        return _value(criterion.field, criterion.value)
    return _value(criterion.field, criterion.value), _value(criterion.field, criterion.mask)


def _value(field: Field, number: int) -> int | str:
    return number if field.kind in (Kind.NUMBER, Kind.HEX, Kind.CT_STATE) else field.show(number)


def action_of(action: Action) -> Any:
    """An action that is one on the wire, too: not Goto and Metered, which are instructions."""
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
        case Resubmit(table) | LookUp(table):
            return resubmit(table)
        case Track():
            return _track(action)
        case _:
            return _firewall_action(action)


def _firewall_action(action: Action) -> Any:
    """Of those that only learning and the security groups use."""
    match action:
        case Learn() | LearnPort():
            return _learn(action)
        case Clone(actions):
            return CloneActions([action_of(one) for one in actions])
        case OutputTo(register):
            return parser.NXActionOutputReg(nicira_ext.ofs_nbits(0, register.bits - 1), register.name, _WHOLE_PACKET)
        case Conjunction(number, clause, of):
            return parser.NXActionConjunction(clause - 1, of, number)  # counted from 0 there
        case _:
            return _routing_action(action)


def _routing_action(action: Action) -> Any:
    """Of those that only the routed hop uses."""
    match action:
        case DecTtl():
            return parser.OFPActionDecNwTtl()
        case AnyPort():
            return parser.OFPActionSetField(in_port_nxm=0)  # Open vSwitch refuses 0 for OpenFlow's own in_port
        case CheckLarger(size, target):
            return CheckPktLarger(size, target.name)
        case Ask():
            return parser.OFPActionOutput(ofp.OFPP_CONTROLLER, ofp.OFPCML_NO_BUFFER)
        case _:
            raise TypeError(f"not an action: {action!r}")


def resubmit(table: Table) -> Any:
    """Look the packet up in a table."""
    return parser.NXActionResubmitTable(ofp.OFPP_IN_PORT & _PORT_BITS, table.id)


def _track(action: Track) -> Any:
    nat = [_nat(action.translation)] if action.nat or action.translation else []
    by_register = isinstance(action.zone, Field)
    source = action.zone.name if isinstance(action.zone, Field) else None
    zone = nicira_ext.ofs_nbits(0, 15) if by_register else action.zone
    table = nicira_ext.NX_CT_RECIRC_NONE if action.table is None else action.table.id
    return parser.NXActionCT(_COMMIT if action.commit else 0, source, zone, table, 0, nat)


def _nat(translation: Translation | None) -> Any:
    if translation is None:
        return parser.NXActionNAT(0)
    return parser.NXActionNAT(_NAT_ENDS[translation.end], range_ipv4_min=str(translation.address))


def _source(field: Field) -> str:
    """os-ken's name of a field in Nicira actions."""
    return f"{field.name}_nxm" if field in (f.ARP_SPA, f.ARP_TPA, f.ARP_OP, f.ETH_SRC, f.ETH_DST) else field.name


def _learn(action: Learn | LearnPort) -> Any:
    """flows.actions.Learn and LearnPort in Nicira's flow specs (ovs-actions(7), learn)."""
    specs = [
        parser.NXFlowSpecMatch(src=("vlan_tci", 0), dst=("vlan_tci", 0), n_bits=12),
        parser.NXFlowSpecMatch(src=("eth_src_nxm", 0), dst=("eth_dst_nxm", 0), n_bits=48),
    ]
    if isinstance(action, LearnPort):
        specs.append(parser.NXFlowSpecLoad(src=("in_port_nxm", 0), dst=(f.REG_OUT_PORT.name, 0), n_bits=16))
    else:
        specs += [
            parser.NXFlowSpecLoad(src=0, dst=("vlan_tci", 0), n_bits=16),
            parser.NXFlowSpecLoad(src=("tunnel_id_nxm", 0), dst=("tunnel_id_nxm", 0), n_bits=64),
            parser.NXFlowSpecOutput(src=("in_port_nxm", 0), dst="", n_bits=16),
        ]
    learn = parser.NXActionLearn(table_id=action.into.id, specs=specs, hard_timeout=action.hard_timeout,
                                 priority=action.into.ranks[action.rank], cookie=action.cookie)
    return LimitedLearn(learn, action.limit) if isinstance(action, LearnPort) and action.limit else learn


def add_flow(datapath: Any, cookie: int, flow: Flow, **more: Any) -> Any:
    """The OFPFlowMod that adds a flow."""
    apply = [action_of(action) for action in flow.actions if not isinstance(action, (Goto, Metered))]
    instructions: list[Any] = [parser.OFPInstructionMeter(action.meter) for action in flow.actions
                               if isinstance(action, Metered)]
    instructions += [parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, apply)] if apply else []
    instructions += [parser.OFPInstructionGotoTable(action.table.id) for action in flow.actions
                     if isinstance(action, Goto)]
    return parser.OFPFlowMod(datapath, cookie=cookie, table_id=flow.table.id, priority=flow.priority,
                             command=ofp.OFPFC_ADD, match=match(flow.match), instructions=instructions, **more)


def bundle(connection: Any, number: int, plan: Plan) -> bytes:
    """A plan, message by message."""
    data = bytearray()
    for message in _all_messages(connection, number, plan):
        connection.set_xid(message)
        message.serialize()
        data += message.buf
    return bytes(data)


def _all_messages(datapath: Any, number: int, plan: Plan) -> Iterator[Any]:
    for command, wanted in ((ofp.OFPMC_ADD, plan.meters_add), (ofp.OFPMC_MODIFY, plan.meters_change)):
        for meter in wanted:
            yield _meter(datapath, command, meter)
    yield from (_flush(datapath, zone) for zone in plan.flush)
    yield _bundle_control(datapath, number, ofp.OFPBCT_OPEN_REQUEST)
    inside = [*(add_flow(datapath, cookie, flow_of(row)) for cookie, row in plan.add),
              *(_delete(datapath, cookie, cookies.EXACT) for cookie in plan.delete),
              *(_forget(datapath, forget) for forget in plan.forget)]
    yield from (parser.OFPBundleAddMsg(datapath, number, _BUNDLE_FLAGS, message, []) for message in inside)
    yield _bundle_control(datapath, number, ofp.OFPBCT_CLOSE_REQUEST)
    yield _bundle_control(datapath, number, ofp.OFPBCT_COMMIT_REQUEST)
    yield from (_flush(datapath, zone) for zone in plan.flush_again)
    for meter_id in plan.meters_delete:
        yield parser.OFPMeterMod(datapath, ofp.OFPMC_DELETE, meter_id=meter_id)


def _flush(datapath: Any, zone: int) -> Any:
    return parser.OFPExperimenter(datapath, _NICIRA, _FLUSH_ZONE, struct.pack("!6xH", zone))


def _bundle_control(datapath: Any, bundle_id: int, kind: int) -> Any:
    return parser.OFPBundleCtrlMsg(datapath, bundle_id, kind, _BUNDLE_FLAGS, [])


def _meter(datapath: Any, command: int, meter: Meter) -> Any:
    band = parser.OFPMeterBandDrop(meter.rate, meter.burst)
    return parser.OFPMeterMod(datapath, command, _METER_FLAGS, meter.id, [band])


def _delete(datapath: Any, cookie: int, mask: int, **more: Any) -> Any:
    return parser.OFPFlowMod(datapath, cookie=cookie, cookie_mask=mask, table_id=ofp.OFPTT_ALL,
                             command=ofp.OFPFC_DELETE, out_port=more.pop("out_port", ofp.OFPP_ANY),
                             out_group=ofp.OFPG_ANY, match=more.pop("match", parser.OFPMatch()))


def _forget(datapath: Any, forget: Forget) -> Any:
    criteria: list[tuple[str, Any]] = [] if forget.vlan is None else [("vlan_vid", (forget.vlan, _VLAN_ID_BITS))]
    criteria += [] if forget.mac is None else [("eth_dst", forget.mac)]
    out_port = ofp.OFPP_ANY if forget.ofport is None else forget.ofport
    cookie, mask = cookies.LEARNED_COOKIE, cookies.KIND_MASK
    if forget.source is not None:
        cookie, mask = cookie | forget.source, cookies.EXACT
    return _delete(datapath, cookie, mask, match=parser.OFPMatch(_ordered_fields=criteria), out_port=out_port)


def installed(row: Any) -> Installed:
    """A row of a dump, as os-ken reads it."""
    written = {action.key: action.value for action in answers.actions(row)
               if isinstance(action, parser.OFPActionSetField)}
    if cookies.is_neighbour(row.cookie):
        leg, address = _next_hop(row)
        return Installed(row.cookie, row.table_id, priority=row.priority,
                         neighbour=NextHop(leg, address, written.get("eth_dst", ""), written.get("eth_src", "")))
    zone = written.get(f.REG_ZONE.name) or _zone(row)
    if "vlan_vid" not in written or row.table_id not in _TO_VLAN:
        return Installed(row.cookie, row.table_id, zone=zone, priority=row.priority)
    return Installed(row.cookie, row.table_id, row.match.get("tunnel_id"), written["vlan_vid"] & ~f.VLAN_PRESENT,
                     row.match.get("in_port"), _vlan(row.match), zone=zone, priority=row.priority)


def _zone(row: Any) -> int | None:
    """The zone of connection tracking that a row names, if no register holds it."""
    return next((action.zone_ofs_nbits for action in answers.actions(row)
                 if isinstance(action, parser.NXActionCT) and not action.zone_src), None)


def _vlan(oxm: Any) -> int | None:
    """The VLAN that a match compares whole, None if it asks for no tag or for none in particular."""
    vid = oxm.get("vlan_vid")
    return vid & ~f.VLAN_PRESENT if isinstance(vid, int) and vid & f.VLAN_PRESENT else None


def _next_hop(row: Any) -> tuple[int, int]:
    """The leg and the address that the row of a learned neighbour is for."""
    return _number(row.match, f.REG_LEAVES_BY), _number(row.match, f.REG_NEXT_HOP)


def _number(oxm: Any, field: Field) -> int:
    value = oxm.get(field.name, 0)
    return value if isinstance(value, int) else 0
