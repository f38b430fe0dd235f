"""The canonical ovs-ofctl line of a flow, as `ovs-ofctl -O OpenFlow14 dump-flows --no-names` prints it.

It is what people read, what golden files hold, and what the cookie digests. It carries no cookie itself.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Final

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
    Shape,
    Track,
)

# lib/match.c prints these instead of dl_type and nw_proto.
_TYPES = {f.ARP: "arp", f.RARP: "rarp", f.IPV4: "ip", f.IPV6: "ipv6"}
_PROTOCOLS = {(f.IPV4, f.ICMP): "icmp", (f.IPV6, f.ICMPV6): "icmp6",
              **{(f.IPV4, number): name for number, name in ((f.TCP, "tcp"), (f.UDP, "udp"), (f.SCTP, "sctp"))},
              **{(f.IPV6, number): name for number, name in ((f.TCP, "tcp6"), (f.UDP, "udp6"), (f.SCTP, "sctp6"))}}
_BEFORE_TYPE = frozenset((f.CONJ_ID, f.CT_STATE, *f.TRACKED))


def line(flow: Flow) -> str:
    """`table=0,priority=2,in_port=5,vlan_tci=0x0000/0x1fff actions=push_vlan:0x8100,...`"""
    words = ",".join([_beginning(flow.table.id, flow.priority), *match_words(flow.match)])
    return f"{words} actions={actions_text(flow.actions)}"


@cache
def _beginning(table: int, priority: int) -> str:
    return f"table={table},priority={priority}"


def line_around(flow: Flow, field: Field) -> tuple[str, str]:
    """What stands before and behind the value that a flow compares a field with. ValueError if it has no such word."""
    words, criterion = match_words(flow.match), flow.match[field]
    if criterion is None:
        raise ValueError(f"the flow does not match {field.name}")
    place = words.index(_condition(criterion))
    before = ",".join([_beginning(flow.table.id, flow.priority), *words[:place], f"{field.ofctl}="])
    return before, f"{','.join(['', *words[place + 1:]])} actions={actions_text(flow.actions)}"


def match_words(match: Match) -> list[str]:
    """The conditions of a match, each as ovs-ofctl writes it."""
    if match.shape is None:
        return [known if known is not None else _condition(one) for known, one in _plan(match)]
    places = _PLANS.get(match.shape)
    if places is None:
        # Where a condition stands, and the words for what carries a frame, are the same for all matches of a shape.
        at = {id(criterion): place for place, criterion in enumerate(match.criteria)}
        places = _PLANS[match.shape] = [(known, at[id(one)]) for known, one in _plan(match)]
    criteria = match.criteria
    return [_condition(criteria[place]) if known is None else known for known, place in places]


_PLANS: Final[dict[Shape, list[tuple[str | None, int]]]] = {}  # of a match: its words in order, or which condition


def _plan(match: Match) -> list[tuple[str | None, Criterion]]:
    """The words of a match in order: known ones, or a condition to be written."""
    first: list[Criterion] = []
    rest: list[Criterion] = []
    kind, carries, hidden = "", None, None
    for criterion in match.criteria:
        if criterion.field in _BEFORE_TYPE:
            first.append(criterion)
        elif criterion.field is f.ETH_TYPE:
            proto = match[f.IP_PROTO]
            short = _PROTOCOLS.get((criterion.value, proto.value)) if proto else None
            kind = short or _TYPES.get(criterion.value) or f"dl_type=0x{criterion.value:04x}"
            carries, hidden = criterion, proto if short else None
        else:
            rest.append(criterion)
    carried = [] if carries is None else [(kind, carries)]
    return [*((None, one) for one in _in_order(first)), *carried,
            *((None, one) for one in rest if one is not hidden)]


def _in_order(criteria: list[Criterion]) -> list[Criterion]:
    return sorted(criteria, key=lambda one: f.ORDER[one.field.name]) if len(criteria) > 1 else criteria


@lru_cache(maxsize=1 << 14)  # of one port, many flows speak
def _condition(criterion: Criterion) -> str:
    field = criterion.field
    if field == f.VLAN_VID:
        if criterion.value == f.NO_VLAN:
            return "vlan_tci=0x0000/0x1fff"
        if criterion == f.ANY_TAG:
            return "vlan_tci=0x1000/0x1000"
        return f"{field.ofctl}={criterion.value & ~f.VLAN_PRESENT}"
    if field == f.IN_PORT and criterion.value == f.LOCAL_PORT:
        return "in_port=LOCAL"
    if criterion == f.LATER_FRAGMENT:
        return "nw_frag=later"
    if field == f.CT_STATE:
        return f"{field.ofctl}={_flags(criterion)}"
    if field.kind is Kind.NUMBER and not criterion.exact:
        return f"{field.ofctl}={criterion.value:#x}/{criterion.mask:#x}"
    text = f"{field.ofctl}={field.show(criterion.value)}"
    return text if criterion.exact else f"{text}/{field.show_mask(criterion.mask)}"


def _flags(criterion: Criterion) -> str:
    return "".join(f"{'+' if criterion.value & bit else '-'}{name}" for name, bit in f.CT_FLAGS.items()
                   if criterion.mask & bit)


def actions_text(actions: tuple[Action, ...]) -> str:
    """The part behind `actions=`."""
    return ",".join([_WORDS[type(action)](action) for action in actions]) or "drop"


def _output(action: Output) -> str:
    return "LOCAL" if action.port == f.LOCAL_PORT else f"output:{action.port}"


def _set_field(action: SetField) -> str:
    """set_field uses OpenFlow's names, except for the tunnel id."""
    field, value, _ = action.criterion
    return f"set_field:{field.show(value)}->{'tun_id' if field is f.TUN_ID else field.name}"


def _resubmit(action: Resubmit | LookUp) -> str:
    return f"resubmit(,{action.table.id})"


def _learn(action: Learn | LearnPort) -> str:
    words = [f"table={action.into.id}", f"hard_timeout={action.hard_timeout}",
             f"priority={action.into.ranks[action.rank]}", f"cookie={action.cookie:#x}"]
    if isinstance(action, LearnPort):
        words += [f"limit={action.limit}"] if action.limit else []
        what = "load:NXM_OF_IN_PORT[]->NXM_NX_REG6[0..15]"
    else:
        what = "load:0->NXM_OF_VLAN_TCI[],load:NXM_NX_TUN_ID[]->NXM_NX_TUN_ID[],output:NXM_OF_IN_PORT[]"
    return f"learn({','.join(words)},NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],{what})"


def _track(action: Track) -> str:
    words = ["commit"] if action.commit else []
    words += [f"table={action.table.id}"] if action.table else []
    words.append(f"zone={f'{action.zone.nxm}[0..15]' if isinstance(action.zone, Field) else action.zone}")
    if action.translation:
        words.append(f"nat({action.translation.end}={action.translation.address})")
    elif action.nat:
        words.append("nat")
    return f"ct({','.join(words)})"


_WORDS: Final[dict[type, Callable[[Any], str]]] = {
    PushVlan: lambda _: f"push_vlan:{f.DOT1Q:#06x}",
    PopVlan: lambda _: "pop_vlan",
    SetField: _set_field,
    Move: lambda action: f"move:{action.source.nxm}[]->{action.target.nxm}[]",
    Output: _output,
    OutputBack: lambda _: "IN_PORT",
    OutputTo: lambda action: f"output:{action.register.nxm}[]",
    Goto: lambda action: f"goto_table:{action.table.id}",
    Resubmit: _resubmit, LookUp: _resubmit,
    Clone: lambda action: f"clone({actions_text(action.actions)})",
    Learn: _learn, LearnPort: _learn, Track: _track,
    Conjunction: lambda action: f"conjunction({action.id},{action.clause}/{action.of})",
    DecTtl: lambda _: "dec_ttl",
    AnyPort: lambda _: "set_field:0->in_port",
    CheckLarger: lambda action: f"check_pkt_larger({action.bytes})->{action.target.nxm}[0]",
    Ask: lambda _: "CONTROLLER:65535",
    Metered: lambda action: f"meter:{action.meter}"}
