"""Lines of `ovs-ofctl dump-flows`, of any version of OpenFlow, as rows whose match and actions have one spelling.

The `ovs.flow` library reads them. What it cannot read is kept apart, so that the rest of a line can still be told.
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ovs.flow.kv import KeyValue, ParseError
from ovs.flow.ofp import OFPFlow

from controller.tools import ofwords

DEFAULT_PRIORITY: Final = 32768  # ovs-ofctl leaves it out (lib/ofp-flow.c)
_INFO: Final = ("cookie", "duration", "table", "n_packets", "n_bytes", "idle_timeout", "hard_timeout", "idle_age",
                "hard_age")  # of these the library knows the meaning
_ABOUT: Final = frozenset((*_INFO, "importance", "reset_counts", "send_flow_rem", "check_overlap", "no_packet_counts",
                           "no_byte_counts", "out_port", "out_group"))
_NAMES: Final = {"table_id": "table"}  # as `ovs-appctl bridge/dump-flows` has it
_KEY: Final = re.compile(r"[^=:(,\s]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")  # at a tab the library would wait for ever
_OLDER: Final = {"eth_type": "dl_type", "ip_src": "nw_src", "ip_dst": "nw_dst", "ip_proto": "nw_proto"}
_LEARNED: Final = re.compile(rf"\b({'|'.join(_OLDER)})=")
_REGISTER: Final = re.compile(r"NXM_NX_REG(\d+)(?=\[[\d.]*\]=0x)")
_REFUSED: Final = (ParseError, ValueError, TypeError, KeyError, IndexError, AttributeError)  # of damaged values


@dataclass(frozen=True)
class Row:
    """One flow as it was dumped. `strange` holds the words that nobody knows; they are in neither match nor actions."""

    table: int
    priority: int
    match: Mapping[str, str]
    actions: tuple[str, ...]
    cookie: int | None = None
    packets: int | None = None
    idle_timeout: int = 0
    hard_timeout: int = 0
    strange: tuple[str, ...] = field(default=())


class Damaged(Exception):
    """A line that is no whole flow: str() says what is known of it."""


def read(text: str) -> Row:
    """One line. Damaged if it has no actions, or its brackets do not close."""
    head, found, actions = _CONTROL.sub(" ", text).strip().partition("actions=")
    about, conditions = _sorted(head)
    if not found:
        raise Damaged(_known_of(about, "it ends before its actions"))
    if not actions or actions.endswith((",", ":", "->")) or not _closes(actions):
        raise Damaged(_known_of(about, "its actions are cut off"))
    match, strange = _match(conditions)
    words, unknown = _actions(actions)
    info = _info(about)
    priority = int(match.pop("priority", DEFAULT_PRIORITY))
    return Row(info.get("table", 0), priority, ofwords.conditions(match), words, info.get("cookie"),
               info.get("n_packets"), info.get("idle_timeout", 0), info.get("hard_timeout", 0), (*strange, *unknown))


def _closes(text: str) -> bool:
    return text.count("(") == text.count(")") and text.count('"') % 2 == 0


def _sorted(head: str) -> tuple[dict[str, str], list[str]]:
    """What stands before the actions: what is told about the flow, and its conditions."""
    about: dict[str, str] = {}
    conditions = []
    for word in ofwords.split(head):
        found = _KEY.match(word)
        key = found.group() if found else word
        key = _NAMES.get(key, key)
        if key in _ABOUT:
            about[key] = word.partition("=")[2]
        else:
            conditions.append(word)
    return about, conditions


def _known_of(about: Mapping[str, str], what: str) -> str:
    told = [f"{name} {about[name]}" for name in ("table", "cookie") if about.get(name)]
    return f"{what}; known of it: {', '.join(told)}" if told else what


def _info(about: Mapping[str, str]) -> dict[str, int]:
    text = ", ".join(f"{key}={about[key]}" for key in _INFO if about.get(key))
    try:
        return {key: int(value) for key, value in OFPFlow(f"{text} priority=0 actions=drop").info.items()}
    except _REFUSED as error:
        raise Damaged(_known_of(about, "its beginning cannot be read")) from error


def _match(conditions: list[str]) -> tuple[dict[str, str], list[str]]:
    """What is matched: the library's key -> the value as it stands there; and what is unknown."""
    parsed, strange = _parse("match_kv", conditions)
    return {pair.key: "" if pair.value is True else pair.meta.vstring for pair in parsed}, strange


def _actions(text: str) -> tuple[tuple[str, ...], list[str]]:
    parsed, strange = _parse("actions_kv", list(ofwords.split(text, " ")))
    words = []
    for pair in parsed:
        try:
            words.append(ofwords.action(pair))
        except _REFUSED:
            strange.append(pair.meta.kstring)
    return ofwords.joined(words), strange


def _parse(section: str, words: list[str]) -> tuple[list[KeyValue], list[str]]:
    """All words at once as a rule; one by one if the library refuses them, to find out which."""
    if not words:
        return [], []
    try:
        return list(_ask(section, words)), []
    except _REFUSED:
        good: list[KeyValue] = []
        strange = []
        for word in words:
            try:
                good += _ask(section, [word])
            except _REFUSED:
                strange.append(word)
        return good, strange


def _ask(section: str, words: list[str]) -> Iterator[Any]:
    # Inside of learn() the library knows only the older names.
    text = _REGISTER.sub(r"reg\1", _LEARNED.sub(lambda found: f"{_OLDER[found.group(1)]}=", ",".join(words)))
    flow = OFPFlow(f" {text} actions=drop" if section == "match_kv" else f" priority=0 actions={text}")
    yield from getattr(flow, section)
