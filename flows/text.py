"""The canonical ovs-ofctl line of a flow, as `ovs-ofctl -O OpenFlow14 dump-flows --no-names` prints it.

It is what people read, what golden files hold, and what the cookie digests. It carries no cookie itself.
"""
from __future__ import annotations

from flows import fields as f
from flows.fields import Criterion
from flows.flow import (
    Action,
    AnyPort,
    Ask,
    CheckLarger,
    DecTtl,
    Flow,
    Goto,
    Learn,
    Match,
    Metered,
    Move,
    Output,
    OutputBack,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    Track,
)

# lib/match.c prints these instead of dl_type and nw_proto.
_TYPES = {f.ARP: "arp", f.RARP: "rarp", f.IPV4: "ip", f.IPV6: "ipv6"}
_PROTOCOLS = {(f.IPV4, f.ICMP): "icmp", (f.IPV4, f.UDP): "udp", (f.IPV6, f.UDP): "udp6", (f.IPV6, f.ICMPV6): "icmp6"}


def line(flow: Flow) -> str:
    """`table=0,priority=2,in_port=5,vlan_tci=0x0000/0x1fff actions=push_vlan:0x8100,...`"""
    conditions = [f"table={flow.table.id}", f"priority={flow.priority}", *match_words(flow.match)]
    return f"{','.join(conditions)} actions={actions_text(flow.actions)}"


def match_words(match: Match) -> list[str]:
    """The conditions of a match, each as ovs-ofctl writes it."""
    words, by_name = [], {criterion.field.name: criterion for criterion in match.criteria}
    if state := by_name.pop("ct_state", None):
        words.append(_condition(state))
    if eth_type := by_name.pop("eth_type", None):
        proto = by_name.get("ip_proto")
        short = _PROTOCOLS.get((eth_type.value, proto.value)) if proto else None
        if short:
            del by_name["ip_proto"]
        words.append(short or _TYPES.get(eth_type.value) or f"dl_type=0x{eth_type.value:04x}")
    return words + [_condition(criterion) for criterion in by_name.values()]


def _condition(criterion: Criterion) -> str:
    field = criterion.field
    if field == f.VLAN_VID:
        if criterion.value == f.NO_VLAN:
            return "vlan_tci=0x0000/0x1fff"
        return f"{field.ofctl}={criterion.value & ~f.VLAN_PRESENT}"
    if field == f.IN_PORT and criterion.value == f.LOCAL_PORT:
        return "in_port=LOCAL"
    if field == f.CT_STATE:
        return f"{field.ofctl}={_flags(criterion)}"
    text = f"{field.ofctl}={field.show(criterion.value)}"
    return text if criterion.exact else f"{text}/{field.show_mask(criterion.mask)}"


def _flags(criterion: Criterion) -> str:
    return "".join(f"{'+' if criterion.value & bit else '-'}{name}" for name, bit in f.CT_FLAGS.items()
                   if criterion.mask & bit)


def actions_text(actions: tuple[Action, ...]) -> str:
    """The part behind `actions=`."""
    return ",".join(_action(action) for action in actions) or "drop"


def _action(action: Action) -> str:
    match action:
        case PushVlan():
            return f"push_vlan:{f.DOT1Q:#06x}"
        case PopVlan():
            return "pop_vlan"
        case SetField(criterion):
            return f"set_field:{criterion.field.show(criterion.value)}->{_set_name(criterion)}"
        case Move(source, target):
            return f"move:{source.nxm}[]->{target.nxm}[]"
        case Output(port):
            return "LOCAL" if port == f.LOCAL_PORT else f"output:{port}"
        case OutputBack():
            return "IN_PORT"
        case Goto(table):
            return f"goto_table:{table.id}"
        case Resubmit(table):
            return f"resubmit(,{table.id})"
        case Learn():
            return _learn(action)
        case DecTtl():
            return "dec_ttl"
        case AnyPort():
            return "set_field:0->in_port"
        case CheckLarger(size, target):
            return f"check_pkt_larger({size})->{target.nxm}[0]"
        case Ask():
            return "CONTROLLER:65535"
        case Metered(meter):
            return f"meter:{meter}"
        case Track():
            return _track(action)


def _set_name(criterion: Criterion) -> str:
    """set_field uses OpenFlow's names, except for the tunnel id."""
    return "tun_id" if criterion.field == f.TUN_ID else criterion.field.name


def _learn(action: Learn) -> str:
    return ("learn("
            f"table={action.into.id},hard_timeout={action.hard_timeout},priority={action.into.ranks[action.rank]},"
            f"cookie={action.cookie:#x},NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],"
            "load:0->NXM_OF_VLAN_TCI[],load:NXM_NX_TUN_ID[]->NXM_NX_TUN_ID[],output:NXM_OF_IN_PORT[])")


def _track(action: Track) -> str:
    words = ["commit"] if action.commit else []
    words += [f"table={action.table.id}", f"zone={action.zone}"]
    if action.translation:
        words.append(f"nat({action.translation.end}={action.translation.address})")
    elif action.nat:
        words.append("nat")
    return f"ct({','.join(words)})"
