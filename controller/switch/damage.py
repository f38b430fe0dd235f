"""What a flow monitor's updates mean: which of our flows others have deleted or changed, or wear a cookie of ours.

Flows are known by table, priority and match, as a switch knows them. A cookie alone says little: whoever adds a flow
chooses it.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from enum import Enum
from typing import Final

from controller.switch import dumps, framing, packing
from controller.switch.dumps import Update
from flows import fields as f
from flows.cookie import cookie_of, is_compiled
from flows.fields import Criterion, Field
from flows.flow import Flow, Match
from flows.sheet import Part, Row, Sheet, flow_of
from flows.stencil import Print
from flows.text import match_words

Key = tuple[int, int, Match]  # table, priority, match: what a switch knows a flow by
METER_GONE: Final = 4  # reason of a removal: OFPRR_METER_DELETE (OpenFlow 1.4, 7.4.2)


class What(Enum):
    """What somebody else has done to a flow."""

    DELETED = "deleted"
    ALTERED = "altered"  # it does something else, or for a while only
    OVERWRITTEN = "overwritten"  # a flow with the same match and another cookie has taken its place
    COPIED = "copied"  # another flow wears its cookie
    SURPLUS = "surplus"  # a flow that nobody wants wears a cookie such as ours


@dataclass(frozen=True)
class Damage:
    """What is not as it shall be. `cookie`: of the flow that it is done to, or of the one that should not be there."""

    what: What
    cookie: int
    by: int = 0  # OVERWRITTEN: the cookie of what is there now
    meterless: bool = False  # DELETED together with its meter

    @property
    def extra(self) -> bool:
        """Whether it is a flow too many; else, one that is missing or wrong."""
        return self.what in (What.COPIED, What.SURPLUS)


@dataclass(frozen=True)
class Finding:
    """What is true of a cookie from now on: of its own flow, or (`extra`) of others that wear it. None: all is well."""

    cookie: int
    extra: bool
    damage: Damage | None


def findings(updates: Iterable[Update], find: Callable[[int], Row | None],
             owners: Callable[[Set[Key]], dict[Key, int]]) -> Iterator[Finding]:
    """What updates say, in their order. `find`: cookie -> what wears it by right; `owners`: see below."""
    read = [(update, key_of(update)) for update in updates if update.event in framing.NAMES_FLOW]
    held = owners({key for _, key in read if key is not None})
    for update, key in read:
        owner = None if key is None else held.get(key)
        if owner is not None:
            yield Finding(owner, False, _done_to(owner, find, update))
        elif is_compiled(update.cookie):
            yield Finding(update.cookie, True, _too_many(update, find))


def hasty(updates: Iterable[Update], find: Callable[[int], Row | None]) -> Iterator[Finding]:
    """The same for very many, by nothing but their cookies: what was overwritten is not found."""
    for update in updates:
        if is_compiled(update.cookie):
            what = What.DELETED if update.event == dumps.REMOVED else What.ALTERED
            if find(update.cookie) is not None:
                yield Finding(update.cookie, False, Damage(what, update.cookie))
            elif what is What.ALTERED:
                yield Finding(update.cookie, True, Damage(What.SURPLUS, update.cookie))


def _done_to(owner: int, find: Callable[[int], Row | None], update: Update) -> Damage | None:
    if update.event == dumps.REMOVED:
        return Damage(What.DELETED, owner, meterless=update.reason == METER_GONE)
    if update.cookie != owner:
        return Damage(What.OVERWRITTEN, owner, by=update.cookie)
    row = find(owner)
    return None if row is not None and does(update, flow_of(row)) else Damage(What.ALTERED, owner)


def _too_many(update: Update, find: Callable[[int], Row | None]) -> Damage | None:
    if update.event == dumps.REMOVED:
        return None
    return Damage(What.SURPLUS if find(update.cookie) is None else What.COPIED, update.cookie)


def owners(parts: Iterable[Part], keys: Set[Key]) -> dict[Key, int]:
    """Of these keys, those of flows among the parts, with the cookies that these wear by right.

    A switch that nobody touches is asked about no keys, each second.
    """
    if not keys:
        return {}
    sought: dict[tuple[int, int], set[Match]] = {}
    for table, priority, match in keys:
        sought.setdefault((table, priority), set()).add(match)
    found: dict[Key, int] = {}
    texts = {_text(key): key for key in keys}
    for part in parts:
        if isinstance(part, Print):
            if any((model.table.id, model.priority) in sought for model in part.stencil.models):
                found.update(_in_print(part, texts))
        elif isinstance(part, Sheet):
            found.update(_in_sheet(part, sought.get((part.model.table.id, part.model.priority), set())))
        elif part.match in sought.get((part.table.id, part.priority), ()):
            found[part.table.id, part.priority, part.match] = cookie_of(part)
    return found


def _text(key: Key) -> str:
    """As it begins a flow's canonical line."""
    table, priority, match = key
    return ",".join([f"table={table},priority={priority}", *match_words(match)])


def _in_print(found: Print, texts: Mapping[str, Key]) -> Iterator[tuple[Key, int]]:
    for index, text in enumerate(found.lines()):
        key = texts.get(text.partition(" ")[0])
        if key is not None:
            yield key, found.cookies()[index]


def _in_sheet(sheet: Sheet, matches: Iterable[Match]) -> Iterator[tuple[Key, int]]:
    criteria = sheet.model.match.criteria
    others = [one for one in criteria if one.field is not sheet.field]
    wanted = {mine.value: match for match in matches if len(match.criteria) == len(criteria)
              and [one for one in match.criteria if one.field is not sheet.field] == others
              and (mine := match[sheet.field]) is not None and mine.exact}
    if wanted:
        for index, value in enumerate(sheet.values):
            if value in wanted:
                key = (sheet.model.table.id, sheet.model.priority, wanted[value])
                yield key, sheet.cookies()[index]


# ---- an update's bytes

def key_of(update: Update) -> Key | None:
    """What the switch knows the flow by; None if no flow of ours can have it."""
    match = match_of(update.match)
    return None if match is None else (update.table, update.priority, match)


# By the first three bytes of a field's header; the lowest bit says that there is a mask (OpenFlow 1.4, 7.2.3.2).
_BY_HEADER: Final[dict[int, Field]] = {int.from_bytes(packing.HEADERS[field.name][:3]): field for field in f.FIELDS
                                       if field.name in packing.HEADERS}
_MASKED: Final = 1


def match_of(compared: bytes) -> Match | None:
    """The match that these bytes are; None if it compares what no table of ours does."""
    criteria, at = [], 0
    while at < len(compared):
        header, length = int.from_bytes(compared[at:at + 3]), compared[at + 3]
        field = _BY_HEADER.get(header & ~_MASKED)
        if field is None:
            return None
        value = compared[at + 4:at + 4 + length]
        half = length // 2 if header & _MASKED else length
        mask = int.from_bytes(value[half:]) if header & _MASKED else field.full
        criteria.append(Criterion(field, int.from_bytes(value[:half]), mask))
        at += 4 + length
    return Match(tuple(sorted(criteria, key=lambda one: f.ORDER[one.field.name])))


def does(update: Update, flow: Flow) -> bool:
    """Whether what a switch says of a flow is what that flow does, and for as long: for ever."""
    return update.timeouts == (0, 0) and plain(update.instructions) == plain(packing.instructions(flow.actions))


# Open vSwitch gives back all our bytes as they were but in Nicira's move (subtype 6, 24 bytes): it prefers its older
# numbers for the fields that have one (include/openvswitch/meta-flow.h).
_MOVE: Final = re.compile(rb"\xff\xff\x00\x18\x00\x00\x23\x20\x00\x06(.{6})(.{4})(.{4})", re.DOTALL)
_OLDER: Final = {packing.HEADERS[name]: bytes.fromhex(older) for name, older in {
    "eth_dst": "00000206", "eth_src": "00000406", "arp_op": "00001e02", "arp_spa": "00002004", "arp_tpa": "00002204",
    "arp_sha": "00012206", "arp_tha": "00012406", "ipv4_src": "00000e04", "ipv4_dst": "00001004"}.items()}


def plain(instructions: bytes) -> bytes:
    """Instructions in the one form in which equal ones are equal bytes."""
    return _MOVE.sub(_renamed, instructions)


def _renamed(move: re.Match[bytes]) -> bytes:
    source, target = (_OLDER.get(name, name) for name in move.group(2, 3))
    return move.group(0)[:16] + source + target
