"""Rules of a security group that another one of it covers, so that they could as well be left out."""
from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from controller.model import protocols
from controller.model.check_rules import ethertype_of, is_sound
from controller.model.draft import Draft, Item
from controller.model.problems import Finding
from controller.model.schema import RuleShape
from controller.model.topology import Prefix

_ANYBODY = ""  # the remote of rules without one
Remote = str | tuple[int, int, int]  # a group's name; or version, prefix length and the bits that count
_Bucket = tuple[str, str, Remote, int | None]  # direction, version, remote, protocol


class _Span(NamedTuple):
    """What a rule takes of its protocol: destination ports, or type * 256 + code of ICMP, first and last."""

    first: int
    last: int


def check_shadowing(draft: Draft) -> Iterator[Finding]:
    """Each rule that allows nothing beside what an earlier or a wider one allows."""
    openvswitch = draft.options.get("firewall") == "openvswitch"
    for group in draft.groups.values():
        rules = [rule for rule in group.rules if is_sound(rule) and (not openvswitch or is_obeyed(rule.shape))]
        yield from _Group(rules).findings()


def is_obeyed(rule: RuleShape) -> bool:
    """Whether Open vSwitch can do it."""
    return rule.port is None or _protocol(rule) in protocols.PORTS_IN_OPENFLOW


class _Group:
    """The rules of a group, those with the same direction, version, remote and protocol side by side."""

    def __init__(self, rules: Iterable[Item[RuleShape]]) -> None:
        self._buckets: dict[_Bucket, list[tuple[_Span, int, Item[RuleShape]]]] = {}
        for place, rule in enumerate(rules):
            shape = rule.shape
            key = shape.direction, ethertype_of(shape), _remote(shape), _protocol(shape)
            self._buckets.setdefault(key, []).append((_span(shape), place, rule))
        self._lengths = sorted({key[2][:2] for key in self._buckets if not isinstance(key[2], str)})
        self._furthest: dict[_Bucket, list[tuple[int, Item[RuleShape]]]] = {}
        for key, bucket in self._buckets.items():
            bucket.sort(key=lambda each: (each[0].first, -each[0].last, each[1]))
            self._furthest[key] = list(_furthest(bucket))

    def findings(self) -> Iterator[Finding]:
        for key, bucket in self._buckets.items():
            for place, (span, _, rule) in enumerate(bucket):
                wider = self._within(key, place, span) or self._beyond(key, span)
                if wider is not None:
                    hint = f"line {wider.line} allows all of it; remove this one"
                    message = f"{rule.path}: {wider.path} covers this rule"
                    yield Finding("TB612", rule.at(), message, hint)

    def _within(self, key: _Bucket, place: int, span: _Span) -> Item[RuleShape] | None:
        """One before it in its own bucket: there it begins no later, and so it covers if it ends no earlier."""
        if place == 0:
            return None
        last, rule = self._furthest[key][place - 1]
        return rule if last >= span.last else None

    def _beyond(self, key: _Bucket, span: _Span) -> Item[RuleShape] | None:
        """One of a wider remote or of any protocol."""
        direction, version, remote, protocol = key
        for wider in self._wider(remote):
            for other in {protocol, None}:
                bucket = self._buckets.get((direction, version, wider, other))
                if bucket is None or (wider, other) == (remote, protocol):
                    continue
                place = bisect_right(bucket, span.first, key=lambda each: each[0].first) - 1
                if place >= 0 and self._furthest[direction, version, wider, other][place][0] >= span.last:
                    return self._furthest[direction, version, wider, other][place][1]
        return None

    def _wider(self, remote: Remote) -> Iterator[Remote]:
        """The remotes that this one is a part of, itself included."""
        yield _ANYBODY
        if isinstance(remote, str):
            if remote != _ANYBODY:
                yield remote
            return
        version, length, bits = remote
        yield from ((version, shorter, bits >> (length - shorter)) for its, shorter in self._lengths
                    if its == version and shorter <= length)


def _furthest(bucket: Iterable[tuple[_Span, int, Item[RuleShape]]]) -> Iterator[tuple[int, Item[RuleShape]]]:
    """At each place the rule that reaches furthest of those up to there."""
    best: tuple[int, Item[RuleShape]] | None = None
    for span, _, rule in bucket:
        if best is None or span.last > best[0]:
            best = span.last, rule
        yield best


def _remote(rule: RuleShape) -> Remote:
    if rule.remote_group is not None:
        return rule.remote_group
    return _bits(rule.remote) if rule.remote is not None and rule.remote.prefixlen else _ANYBODY


def _bits(prefix: Prefix) -> Remote:
    drop = prefix.max_prefixlen - prefix.prefixlen
    return prefix.version, prefix.prefixlen, int(prefix.network_address) >> drop


def _protocol(rule: RuleShape) -> int | None:
    return protocols.protocol_number(rule.protocol, 6 if ethertype_of(rule) == "IPv6" else 4)


def _span(rule: RuleShape) -> _Span:
    if rule.port is not None:
        return _Span(*rule.port)
    if rule.icmp_type is None:
        return _Span(0, 0xFFFF)
    code = rule.icmp_code
    return _Span(rule.icmp_type << 8 | (code or 0), rule.icmp_type << 8 | (0xFF if code is None else code))
