"""The rules of security groups as rows of table 83, for the `openvswitch` firewall.

A rule without a remote group is a row by itself. Rules with one are conjunctions of two clauses: the members of the
group, a row each, and the rules, a row each; so rows grow with members plus rules, not with members times rules.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from flows import fields as f
from flows.fields import Criterion, Field, ct_state, tagged
from flows.flow import Conjunction, Flow, Goto, Match, flow, when
from flows.host import Network, Prefix, Profile, RemoteGroup, Rule
from flows.tables import ACCEPTED, RULES

_MEMBERS, _RULES, _CLAUSES = 1, 2, 2
_ETH_TYPES: Final = {4: f.IPV4, 6: f.IPV6}
_SOURCES: Final = {4: f.CT_NW_SRC, 6: f.CT_IPV6_SRC}
_DESTINATIONS: Final = {4: f.CT_NW_DST, 6: f.CT_IPV6_DST}
_PORT_BITS: Final = 16
_TRACKED: Final = ct_state("-inv")
# Of a fragmented packet all but the first fragment show no ports, type and code, not even those that are tracked
# (lib/flow.c, miniflow_extract). They pass where a rule allows their protocol and other end: connection tracking lets
# them through as parts of a whole packet only, and it is the first fragment that the ports are asked of. No source port
# is asked of what has one: the switch would keep a cache entry for each connection.
_FRAGMENT: Final = f.LATER_FRAGMENT


@dataclass(frozen=True)
class _Row:
    """A match, and the rules that it is for."""

    match: Match
    rule: Rule


def network(net: Network) -> Iterator[Flow]:
    """What the ports of a network may say and hear."""
    for profile in net.profiles:
        if profile.may_begin:
            yield flow(RULES, "rule", when(f.REG_PROFILE(profile.number), f.REG_BEGAN(f.BY_VM)), Goto(ACCEPTED),
                       origin=profile.origin, why=f"{profile.what}: no egress rule, so a VM may begin anything")
        plain = _first(_rows(profile, (rule for rule in profile.rules if rule.group is None)))
        for row in plain:
            yield flow(RULES, "rule", row.match, Goto(ACCEPTED), origin=row.rule.origin, why=row.rule.what)
        yield from _with_groups(profile, _Plain(row.match for row in plain))
    for group in net.remote_groups:
        yield flow(RULES, "both", when(f.CONJ_ID(group.number)), Goto(ACCEPTED), origin=group.origin,
                   why=f"over IPv{group.version}, a rule allows what {_between(group)}")
    yield from _members(net)


# ---- one clause: rules that name a group, or all of a rule

class _Plain:
    """The rows without a remote group, to be asked whether one of them takes all that another row would."""

    def __init__(self, matches: Iterable[Match]) -> None:
        self._ports: dict[Match, dict[int, set[int]]] = {}  # all but the ports -> mask -> values
        for match in matches:
            port = match[f.CT_TP_DST] or f.CT_TP_DST(0, 0)
            self._ports.setdefault(_but(match, f.CT_TP_DST), {}).setdefault(port.mask, set()).add(port.value)

    def covers(self, match: Match) -> bool:
        """Whether it does. What names more than a row of any protocol is one of that, or has its type, or its port."""
        port = match[f.CT_TP_DST] or f.CT_TP_DST(0, 0)
        narrow = _but(match, f.CT_TP_DST)
        wider = (narrow, _but(narrow, f.CT_TP_SRC, f.IP_FRAG), _of_any(narrow, keep=(f.CT_NW_PROTO,)), _of_any(narrow))
        return any(mask & ~port.mask == 0 and port.value & mask in values for one in dict.fromkeys(wider)
                   for mask, values in self._ports.get(one, {}).items())


def _but(match: Match, *fields: Field) -> Match:
    return Match(tuple(one for one in match.criteria if one.field not in fields))


def _of_any(match: Match, keep: tuple[Field, ...] = ()) -> Match:
    """What a rule for any protocol, type and port would match instead."""
    how = {f.CT_STATE, f.CT_NW_PROTO, f.CT_TP_SRC, f.IP_PROTO, f.IP_FRAG, f.SCTP_SRC, f.SCTP_DST} - {*keep}
    return when(*_but(match, *how).criteria, _TRACKED)


def _with_groups(profile: Profile, plain: _Plain) -> Iterator[Flow]:
    """Rules that differ in nothing but their group share a row; those that a plain rule covers need none."""
    shared: dict[Match, dict[int, Rule]] = {}
    for row in _rows(profile, (rule for rule in profile.rules if rule.group is not None)):
        if row.rule.group is not None and not plain.covers(row.match):
            shared.setdefault(row.match, {}).setdefault(row.rule.group, row.rule)
    for match, rules in shared.items():
        clauses = [Conjunction(number, _RULES, _CLAUSES) for number in sorted(rules)]
        yield flow(RULES, "group", match, *clauses, origin=next(iter(rules.values())).origin,
                   why="; ".join(dict.fromkeys(rule.what for rule in rules.values())))


def _first(rows: Iterable[_Row]) -> list[_Row]:
    """Of rows with the same match, the first."""
    found: dict[Match, _Row] = {}
    for row in rows:
        found.setdefault(row.match, row)
    return list(found.values())


def _rows(profile: Profile, rules: Iterable[Rule]) -> Iterator[_Row]:
    for rule in rules:
        began = f.BY_VM if rule.by_vm else f.BY_OTHERS
        for criteria in _how(rule):
            yield _Row(when(f.REG_PROFILE(profile.number), f.REG_BEGAN(began), f.ETH_TYPE(_ETH_TYPES[rule.version]),
                            *_remote(rule), *criteria), rule)


def _remote(rule: Rule) -> tuple[Criterion, ...]:
    return () if rule.remote is None else (_other_end(rule.by_vm, rule.version)(rule.remote),)


def _other_end(by_vm: bool, version: int) -> Field:
    """Where the other end stands in the first packet of a conversation."""
    return (_DESTINATIONS if by_vm else _SOURCES)[version]


def _how(rule: Rule) -> Iterator[tuple[Criterion, ...]]:
    """Protocol, ports, ICMP type and code: as many alternatives as masks are needed for the ports."""
    if rule.protocol is None:
        yield (_TRACKED,)
        return
    protocol = (_TRACKED, f.CT_NW_PROTO(rule.protocol))
    if rule.ports is None:
        icmp = ((f.CT_TP_SRC, rule.icmp_type), (f.CT_TP_DST, rule.icmp_code))
        how = tuple(field(value) for field, value in icmp if value is not None)
        yield (*protocol, *how)
        if how:
            yield (*protocol, _FRAGMENT)
    elif rule.protocol in (f.TCP, f.UDP):
        for value, mask in masks(*rule.ports):
            yield (*protocol, f.CT_TP_DST(value, mask))
        yield (*protocol, _FRAGMENT)
    elif rule.protocol == f.SCTP:
        yield from _sctp(rule.ports)


def _sctp(ports: tuple[int, int]) -> Iterator[tuple[Criterion, ...]]:
    """Open vSwitch tracks SCTP by addresses alone (lib/conntrack.c), so its ports are those of each packet."""
    protocol = (f.IP_PROTO(f.SCTP), f.CT_NW_PROTO(f.SCTP))
    for value, mask in masks(*ports):
        yield (ct_state("-inv-rpl"), *protocol, f.SCTP_DST(value, mask))
        yield (ct_state("-inv+rpl"), *protocol, f.SCTP_SRC(value, mask))
    yield (_TRACKED, f.CT_NW_PROTO(f.SCTP), _FRAGMENT)
    yield ct_state("+rel-inv"), f.CT_NW_PROTO(f.SCTP)  # ICMP errors about it


def masks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """A range of ports as the fewest (value, mask): 80-95 is one, (80, 0xfff0)."""
    while first <= last:
        size = first & -first or 1 << _PORT_BITS
        while first + size - 1 > last:
            size >>= 1
        yield first, (1 << _PORT_BITS) - size
        first += size


# ---- the other clause: members

def _members(net: Network) -> Iterator[Flow]:
    """An address is one row for each direction, whatever number of groups it is in."""
    found: dict[tuple[bool, Prefix], list[RemoteGroup]] = {}
    for group in net.remote_groups:
        for member in dict.fromkeys(group.members):
            found.setdefault((group.by_vm, member), []).append(group)
    for (by_vm, member), groups in found.items():
        began, end = (f.BY_VM, "with") if by_vm else (f.BY_OTHERS, "by")
        names = ", ".join(sorted(group.name for group in groups))
        yield flow(RULES, "group",
                   when(tagged(net.vlan), f.REG_BEGAN(began), _TRACKED, f.ETH_TYPE(_ETH_TYPES[member.version]),
                        _other_end(by_vm, member.version)(member)),
                   *(Conjunction(number, _MEMBERS, _CLAUSES) for number in sorted(group.number for group in groups)),
                   origin=groups[0].origin, why=f"begun {end} {_words(member)}, a member of {names}")


def _between(group: RemoteGroup) -> str:
    return f"the VM begins with a member of {group.name}" if group.by_vm else f"a member of {group.name} begins"


def _words(member: Prefix) -> str:
    return str(member.network_address if member.prefixlen == member.max_prefixlen else member)
