"""Rules of security groups as sets of packets: what a rule lets pass of a conversation, in either direction."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from controller.model.filtering import Profile, Resolved
from controller.tools.verify_promise import literal
from flows import fields as f
from flows.headerspace import Literal, Region, meet, region, without
from flows.prove_tracking import Talk

_VERSIONS: Final = {4: literal(f.ETH_TYPE, f.IPV4), 6: literal(f.ETH_TYPE, f.IPV6)}
_PORTS: Final = {f.TCP: "tcp", f.UDP: "udp", f.SCTP: "sctp"}
_ICMP: Final = {4: (f.ICMP, "icmpv4_type"), 6: (f.ICMPV6, f.ICMPV6_TYPE.name)}
_ANSWERS: Final = {4: {8: 0, 13: 14, 15: 16}, 6: {128: 129}}  # RFC 792, RFC 4443
_LATER: Final = Literal(f.IP_FRAG.name, f.LATER_FRAGMENT.value, f.LATER_FRAGMENT.mask)
_LEAVES: Final = (130, 131, 132, 133, 135, 136, 143)  # ICMPv6 without which nobody has neighbours
_ENTERS: Final = (130, 134, 135, 136)
_UNICAST_OR_ALL: Final = ("0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3", "255.255.255.255")
_PORT_BITS: Final = 16


@dataclass(frozen=True)
class Spoken:
    """What packets are: to their conversation, and whether they leave the VM."""

    talk: Talk
    outward: bool

    @property
    def related(self) -> bool:
        return self.talk in (Talk.RELATED, Talk.RELATED_BACK)

    @property
    def back(self) -> bool:
        return self.talk in (Talk.ANSWER, Talk.RELATED_BACK)

    @property
    def by_vm(self) -> bool:
        """Whether the VM began the conversation."""
        return self.outward != self.back

    def other(self, version: int) -> str:
        """The field with the address of the conversation's other end."""
        if self.related:
            kind = "ct_nw" if version == 4 else "ct_ipv6"
            return f"about:{kind}_{'dst' if self.by_vm else 'src'}"
        return f"ipv{version}_{'dst' if self.outward else 'src'}"


def seen_by_iptables() -> Iterator[Region]:
    """The kinds of frames that iptables judges on the tap."""
    yield from _regions((literal(f.ETH_TYPE, kind),) for kind in (f.ARP, f.RARP, f.IPV4, f.IPV6))


def free(*, outward: bool) -> Iterator[Region]:
    """What passes whatever the groups say."""
    own, other = (68, 67) if outward else (67, 68)
    six, sixth = (546, 547) if outward else (547, 546)
    yield from _regions((literal(f.ETH_TYPE, kind),) for kind in (f.ARP, f.RARP))
    dhcp = (_VERSIONS[4], literal(f.IP_PROTO, f.UDP), literal(f.UDP_SRC, own), literal(f.UDP_DST, other))
    if outward:
        yield from _regions((dhcp,))
    else:
        yield from _regions((*dhcp, literal(f.IPV4_DST, one)) for one in _UNICAST_OR_ALL)
    yield from _regions(((_VERSIONS[6], literal(f.IP_PROTO, f.UDP), literal(f.UDP_SRC, six),
                          literal(f.UDP_DST, sixth)),))
    yield from _regions((_VERSIONS[6], literal(f.IP_PROTO, f.ICMPV6), literal(f.ICMPV6_TYPE, kind))
                        for kind in (_LEAVES if outward else _ENTERS))


def spoken(profile: Profile, how: Spoken) -> Iterator[Region]:
    """What the rules of a profile let pass of such packets."""
    for one in _spoken(profile, how):
        yield from _answers(one) if how.talk is Talk.ANSWER and f.IP_PROTO.name not in one.cube else (one,)


def _answers(one: Region) -> Iterator[Region]:
    """Of packets of any protocol, those that can be answers: ICMP by its type."""
    version = 4 if one.cube[f.ETH_TYPE.name][0] == f.IPV4 else 6
    icmp, kind = _ICMP[version]
    protocol = Literal(f.IP_PROTO.name, icmp, f.IP_PROTO.full)
    pieces = [without(one, (protocol,)), *(meet(one, (protocol, Literal(kind, answer, 0xFF)))
                                           for answer in _ANSWERS[version].values())]
    yield from (piece for piece in pieces if piece is not None)


def _spoken(profile: Profile, how: Spoken) -> Iterator[Region]:
    if how.by_vm and profile.may_begin:
        yield from _regions((version,) for version in _VERSIONS.values())
    for rule in profile.rules:
        if rule.by_vm == how.by_vm and rule.obeyed:
            for end in _ends(rule, how):
                yield from _regions((_VERSIONS[rule.version], *end, *said) for said in _said(rule, how))


def _ends(rule: Resolved, how: Spoken) -> Iterator[tuple[Literal, ...]]:
    """Who the other end may be."""
    field = (f.IPV4_DST if rule.version == 4 else f.IPV6_DST)
    prefixes = rule.members.prefixes if rule.members is not None else (rule.rule.remote,)
    for prefix in prefixes:
        if prefix is None:
            yield ()
        elif prefix.version == rule.version:
            found = literal(field, prefix)
            yield (found._replace(var=how.other(rule.version)),) if found.mask else ()


def _said(rule: Resolved, how: Spoken) -> Iterator[tuple[Literal, ...]]:
    """Protocol, ports, type and code."""
    if rule.protocol is None:
        yield ()
        return
    name = f"about:{f.CT_NW_PROTO.name}" if how.related else f.IP_PROTO.name
    protocol = Literal(name, rule.protocol, f.IP_PROTO.full)
    if rule.rule.ports is not None:
        yield from _ports(rule, how, protocol, rule.rule.ports)
    elif rule.rule.icmp_type is not None:
        yield from _typed(rule, how, protocol, rule.rule.icmp_type)
        yield from ((*one, _LATER) for one in _any_type(rule, how, protocol))
    else:
        yield from _any_type(rule, how, protocol)


def _any_type(rule: Resolved, how: Spoken, protocol: Literal) -> Iterator[tuple[Literal, ...]]:
    """Answers that are ICMP are so by their type."""
    icmp, kind = _ICMP[rule.version]
    if how.talk is Talk.ANSWER and rule.protocol == icmp:
        yield from ((protocol, Literal(kind, answer, 0xFF)) for answer in _ANSWERS[rule.version].values())
    else:
        yield (protocol,)


def _typed(rule: Resolved, how: Spoken, protocol: Literal, wanted: int) -> Iterator[tuple[Literal, ...]]:
    number = partial(Literal, mask=0xFFFF)
    if how.related:
        code = () if rule.rule.icmp_code is None else (number(f"about:{f.CT_TP_DST.name}", rule.rule.icmp_code),)
        yield protocol, number(f"about:{f.CT_TP_SRC.name}", wanted), *code
    elif not rule.rule.icmp_code:  # a conversation begins with code 0 alone
        shown = _ANSWERS[rule.version].get(wanted) if how.talk is Talk.ANSWER else wanted
        if shown is not None:
            yield protocol, Literal(_ICMP[rule.version][1], shown, 0xFF)


def _ports(rule: Resolved, how: Spoken, protocol: Literal, ports: tuple[int, int]) -> Iterator[tuple[Literal, ...]]:
    kind = _PORTS.get(rule.protocol or 0, "")
    if how.related:
        if rule.protocol == f.SCTP:
            yield (protocol,)
        for value, mask in ranges(*ports) if rule.protocol != f.SCTP else ():
            yield protocol, Literal(f"about:{f.CT_TP_DST.name}", value, mask)
        yield protocol, _LATER
        return
    for value, mask in ranges(*ports):
        yield protocol, Literal(f"{kind}_{'src' if how.talk is Talk.ANSWER else 'dst'}", value, mask)
    yield protocol, _LATER


def ranges(first: int, last: int) -> Iterator[tuple[int, int]]:
    """A range of ports as blocks of which each is a value and a mask."""
    while first <= last:
        size = 1
        while first % (size * 2) == 0 and first + size * 2 - 1 <= last and size * 2 <= 1 << _PORT_BITS:
            size *= 2
        yield first, (1 << _PORT_BITS) - size
        first += size


def _regions(found: Iterator[tuple[Literal, ...]] | tuple[tuple[Literal, ...], ...]) -> Iterator[Region]:
    for literals in found:
        if (made := region(literals)) is not None:
            yield made
