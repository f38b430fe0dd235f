"""The firewall's rows by hand: every field and action that it adds, beside what is compiled.

VM 5 (port 5, VLAN 4, zone 21, profile 7) and VM 6 (port 6, same VLAN, zone 22, profile 8) are filtered; port 9 is not
secured; port 1 leads to br-tun.
"""
from __future__ import annotations

from typing import Final

from flows import fields as f
from flows import tables as t
from flows.cookie import LEARNED_COOKIE
from flows.fields import ct_state, tagged
from flows.flow import (
    ANY,
    Action,
    Clone,
    Conjunction,
    Flow,
    Goto,
    LearnPort,
    LookUp,
    Match,
    Output,
    OutputTo,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    Track,
    flow,
    when,
)

VLAN, AWAY, UNSECURED = 4, 1, 9
VMS: Final = {5: ("fa:16:3e:00:00:05", 21, 7), 6: ("fa:16:3e:00:00:06", 22, 8)}  # port -> MAC, zone, profile
MEMBERS, OTHERS = 3, 4  # numbers of conjunctions; each has its row `both`, or what Open vSwitch does is not said
MEMBERS6: Final = 0xFFFFFFF0
_IP: Final = f.ETH_TYPE(f.IPV4)
_IP6: Final = f.ETH_TYPE(f.IPV6)
_KNOWN: Final = ct_state("-inv")


def _row(table: t.Table, rank: str, match: Match, *actions: Action) -> Flow:
    return flow(table, rank, match, *actions, origin="vms.vm", why=f"test {rank}")


def rows() -> tuple[Flow, ...]:
    """All of them."""
    return (*_entry(), *_delivery(), *_conversations(), *_rules(), *_way_out())


def _to(port: int) -> tuple[Action, ...]:
    _, zone, profile = VMS[port]
    return (SetField(f.REG_OUT_PORT(port)), SetField(f.REG_ZONE(zone)), SetField(f.REG_PROFILE(profile)))


def _entry() -> list[Flow]:
    found = [_row(t.CLASSIFY, "admit", when(f.IN_PORT(port), f.UNTAGGED), PushVlan(), SetField(tagged(VLAN)),
                  SetField(f.REG_ZONE(zone)), SetField(f.REG_PROFILE(profile)), Goto(t.BASE_EGRESS))
             for port, (_, zone, profile) in VMS.items()]
    return found + [
        _row(t.CLASSIFY, "admit", when(f.IN_PORT(UNSECURED), f.UNTAGGED), PushVlan(), SetField(tagged(VLAN)),
             LearnPort(t.BEHIND, "learned", 300, LEARNED_COOKIE | UNSECURED, limit=2), Goto(t.ROUTER)),
        _row(t.CLASSIFY, "relearn", when(f.IN_PORT(AWAY), tagged(VLAN)),
             LearnPort(t.BEHIND, "learned", 300, LEARNED_COOKIE | AWAY, limit=0), Goto(t.ROUTER)),
        _row(t.CLASSIFY, "miss", ANY),
        _row(t.ROUTER, "miss", ANY, Goto(t.DELIVER))]


def _delivery() -> list[Flow]:
    found = [_row(t.DELIVER, "known", when(tagged(VLAN), f.ETH_DST(mac)), *_to(port), Goto(t.BASE_INGRESS))
             for port, (mac, _, _) in VMS.items()]
    behind = [_row(t.UNKNOWN, "behind", when(tagged(VLAN), f.REG_OUT_PORT(port)), PopVlan(), Output(port))
              for port in (UNSECURED,)]
    return found + behind + [
        _row(t.DELIVER, "flood", when(tagged(VLAN), f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), Output(AWAY),
             *(Clone((*_to(port), Resubmit(t.BASE_INGRESS))) for port in VMS), PopVlan(), Output(UNSECURED)),
        _row(t.DELIVER, "unknown", when(tagged(VLAN)), LookUp(t.BEHIND), Goto(t.UNKNOWN)),
        _row(t.DELIVER, "miss", ANY),
        _row(t.BEHIND, "miss", ANY),
        _row(t.UNKNOWN, "anywhere", when(tagged(VLAN)), SetField(f.REG_OUT_PORT(0)), Output(AWAY), PopVlan(),
             Output(UNSECURED)),
        _row(t.UNKNOWN, "miss", ANY)]


def _conversations() -> list[Flow]:
    found = []
    for base in (t.BASE_EGRESS, t.BASE_INGRESS):
        found += [_row(base, "ip", when(kind), Track(f.REG_ZONE, t.CONVERSATION)) for kind in (_IP, _IP6)]
        found.append(_row(base, "miss", ANY))
    found.append(_row(t.BASE_EGRESS, "free", when(f.ETH_TYPE(f.ARP)), Resubmit(t.ROUTER)))
    found.append(_row(t.BASE_INGRESS, "free", when(f.ETH_TYPE(f.ARP)), Goto(t.ONWARD)))
    for word, here, senders in (("leaves", (f.REG_OUT_PORT(0),), (f.BY_VM, f.BY_OTHERS)),
                                ("enters", (), (f.BY_OTHERS, f.BY_VM))):
        found += [_row(t.CONVERSATION, word, when(ct_state(f"{reply}-inv"), *here), SetField(f.REG_BEGAN(began)),
                       Goto(t.RULES)) for reply, began in zip(("-rpl", "+rpl"), senders, strict=True)]
    return found + [_row(t.CONVERSATION, "invalid", when(ct_state("+inv"))), _row(t.CONVERSATION, "miss", ANY)]


def _rules() -> list[Flow]:
    def rule(profile: int, began: int, *more: f.Criterion) -> Flow:
        return _row(t.RULES, "rule", when(f.REG_PROFILE(profile), f.REG_BEGAN(began), _KNOWN, *more), Goto(t.ACCEPTED))

    def member(kind: f.Criterion, *more: f.Criterion) -> Match:
        return when(tagged(VLAN), f.REG_BEGAN(f.BY_OTHERS), _KNOWN, kind, *more)

    def clause(profile: int, *more: f.Criterion) -> Match:
        return when(f.REG_PROFILE(profile), f.REG_BEGAN(f.BY_OTHERS), _KNOWN, *more)

    proto, dst, source = f.CT_NW_PROTO, f.CT_TP_DST, f.CT_TP_SRC
    # Until it is answered, SCTP has its ports in the packet alone.
    sctp = (ct_state("-rpl-inv"), proto(f.SCTP), _IP, f.IP_PROTO(f.SCTP))
    return [
        _row(t.RULES, "rule", when(f.REG_PROFILE(7), f.REG_BEGAN(f.BY_VM)), Goto(t.ACCEPTED)),
        rule(7, f.BY_OTHERS, _IP, proto(f.TCP), dst(80)),
        rule(7, f.BY_OTHERS, _IP, proto(f.UDP), dst(0x50, 0xFFF0), f.CT_NW_SRC("10.0.0.0/23")),
        rule(7, f.BY_OTHERS, _IP6, proto(f.UDP), dst(53), f.CT_IPV6_SRC("2001:db8::/32")),
        rule(7, f.BY_OTHERS, _IP, proto(f.ICMP), source(8), dst(0)),
        rule(7, f.BY_OTHERS, _IP6, proto(f.ICMPV6), source(128)),
        rule(7, f.BY_OTHERS, _IP, proto(f.SCTP), f.LATER_FRAGMENT),
        rule(8, f.BY_VM, _IP, f.CT_NW_DST("198.51.100.7"), proto(47)),
        rule(8, f.BY_VM, _IP6, f.CT_IPV6_DST("2001:db8::7"), proto(f.TCP), dst(0x400, 0xFC00)),
        _row(t.RULES, "rule", when(f.REG_PROFILE(8), f.REG_BEGAN(f.BY_OTHERS), *sctp, f.SCTP_DST(0x10, 0xFFF0)),
             Goto(t.ACCEPTED)),
        _row(t.RULES, "rule", when(f.REG_PROFILE(8), f.REG_BEGAN(f.BY_VM), *sctp, f.SCTP_SRC(9)), Goto(t.ACCEPTED)),
        _row(t.RULES, "both", when(f.CONJ_ID(MEMBERS), _KNOWN, _IP), Goto(t.ACCEPTED)),
        _row(t.RULES, "both", when(f.CONJ_ID(OTHERS), _KNOWN, _IP), Goto(t.ACCEPTED)),
        _row(t.RULES, "both", when(f.CONJ_ID(MEMBERS6), _KNOWN, _IP6), Goto(t.ACCEPTED)),
        *(_row(t.RULES, "group", member(_IP, f.CT_NW_SRC(address)), Conjunction(MEMBERS, 1, 2),
               Conjunction(OTHERS, 1, 2)) for address in ("10.0.0.5", "10.0.0.6", "10.0.1.0/28")),
        _row(t.RULES, "group", member(_IP6, f.CT_IPV6_SRC("2001:db8::5")), Conjunction(MEMBERS6, 1, 2)),
        _row(t.RULES, "group", clause(8, _IP, proto(f.TCP), dst(22)), Conjunction(MEMBERS, 2, 2)),
        _row(t.RULES, "group", clause(8, _IP, proto(f.UDP)), Conjunction(MEMBERS, 2, 2)),
        _row(t.RULES, "group", clause(8, _IP, proto(47)), Conjunction(OTHERS, 2, 2)),
        _row(t.RULES, "group", clause(8, _IP6), Conjunction(MEMBERS6, 2, 2)),
        _row(t.RULES, "miss", ANY)]


def _way_out() -> list[Flow]:
    return [*(_row(t.ACCEPTED, "new", when(ct_state("+new"), kind), Track(f.REG_ZONE, None, commit=True),
                   Goto(t.ONWARD)) for kind in (_IP, _IP6)),
            _row(t.ACCEPTED, "miss", ANY, Goto(t.ONWARD)),
            _row(t.ONWARD, "leaves", when(f.REG_OUT_PORT(0)), Resubmit(t.ROUTER)),
            _row(t.ONWARD, "enters", when(f.ANY_TAG), PopVlan(), OutputTo(f.REG_OUT_PORT)),
            _row(t.ONWARD, "miss", ANY)]


def tracked(times: int) -> tuple[Flow, ...]:
    """Other rows: connection tracking leads every packet from port 5 on so many times before it leaves by port 6."""
    again = [_row(t.TRANSLATED_IN, "back", when(_IP, f.REG_ROUTER(left)), SetField(f.REG_ROUTER(left - 1)),
                  Track(left, t.TRANSLATED_IN)) for left in range(2, times + 1)]
    return (_row(t.CLASSIFY, "admit", when(f.IN_PORT(5)), Goto(t.ROUTER)),
            _row(t.ROUTER, "miss", ANY, Goto(t.TRANSLATE_IN)),
            _row(t.TRANSLATE_IN, "own", when(_IP), SetField(f.REG_ROUTER(times)), Track(1, t.TRANSLATED_IN)),
            *again, _row(t.TRANSLATED_IN, "miss", when(f.REG_ROUTER(1)), Output(6)))
