"""`ofproto/trace` of Open vSwitch, read: which rows a packet hit, where it left, who was asked, and what it became.

A packet that is tracked, or whose length is compared, has several ways there: each piece of tracking is told its answer
(`--ct-next`), and of a comparison both outcomes are shown, the longer one first.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Outputs = list[tuple[int, int | None]]  # OpenFlow port and the VLAN that the frame wears there

_HIT = re.compile(r"^ *(\d+)\. .*?priority (\d+)(?:, cookie (0x[0-9a-f]+))?$")
_CHECK = re.compile(r"^( *)check_pkt_larger")
_CHECKED = re.compile(r"check_pkt_len\(size=\d+,gt\(")


@dataclass(frozen=True)
class Traced:
    """One packet's way in Open vSwitch's own words."""

    hits: list[tuple[int, int, int]]  # table, priority, cookie
    outputs: Outputs
    asked: int
    final: dict[str, str] | None  # fields; None where it does not say them


def traced(text: str, vlan: int | None, ofports: Mapping[int, int], *, large: bool = False) -> Traced:
    """The way of a packet that wears this VLAN at first, or that is larger than anything (and so tracked no more)."""
    hits, outputs, asked, final = [], [], 0, None
    for number, part in enumerate(re.split(r"^=+\n(?=recirc)", text, flags=re.MULTILINE)):
        lines = _lines(part.splitlines(), large)
        hits += [(int(hit[1]), int(hit[2]), int(hit[3] or "0", 16)) for line in lines if (hit := _HIT.match(line))]
        found = re.search(r"^Datapath actions: (.*)$", part, re.MULTILINE)
        assert found, text
        actions = _actions(found[1], large)
        outputs += _outputs(actions, _vlan(part) if number else vlan, ofports)
        asked += actions.count("userspace(pid=")
        final = None if "check_pkt_larger" in part else _final(part)
        if large and "check_pkt_larger" in part:
            break
    return Traced(hits, outputs, asked, final)


def larger_too(text: str) -> bool:
    """Whether the length of the packet was compared."""
    return "check_pkt_larger" in text


def _lines(lines: list[str], large: bool) -> list[str]:
    """Without those of the other outcomes of comparisons."""
    kept: list[str] = []
    while lines:
        line, *lines = lines
        kept.append(line)
        if not (check := _CHECK.match(line)):
            continue
        again = lines.index(lines[0], 1)
        assert lines[0].startswith(check[1]), lines
        lines = lines[:again] if large else lines[again:]
    return kept


def _actions(actions: str, large: bool) -> str:
    """Without those of the other outcomes of comparisons."""
    while check := _CHECKED.search(actions):
        longer, after = _bracket(actions, check.end())
        rest = actions[after:].removeprefix(",le(")
        shorter, end = _bracket(rest, 0)
        chosen = longer if large else shorter
        actions = actions[:check.start()] + chosen + rest[end:].removeprefix(")")
    return actions


def _bracket(text: str, start: int) -> tuple[str, int]:
    """What is inside a bracket that is open at `start`, and where it is closed."""
    depth = 1
    for at, letter in enumerate(text[start:], start):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if not depth:
            return text[start:at], at + 1
    raise AssertionError(f"no end of a bracket in {text}")


def _outputs(actions: str, vlan: int | None, ofports: Mapping[int, int]) -> Outputs:
    found: Outputs = []
    at = 0
    while action := re.compile(r"([a-z_0-9]+)(\()?").search(actions, at):
        inside, at = _bracket(actions, action.end()) if action[2] else ("", action.end())
        if action[1] == "push_vlan":
            pushed = re.match(r"vid=(\d+)", inside)
            assert pushed, actions
            vlan = int(pushed[1])
        elif action[1] == "pop_vlan":
            vlan = None
        elif action[1].isdecimal():
            found.append((ofports[int(action[1])], vlan))
    return found


def _vlan(part: str) -> int | None:
    found = re.search(r"^Flow: .*dl_vlan=(\d+)", part, re.MULTILINE)
    return int(found[1]) if found else None


def _final(part: str) -> dict[str, str]:
    start, end = (re.search(rf"^{name}: (.*)$", part, re.MULTILINE) for name in ("Flow", "Final flow"))
    last = start if end and end[1] == "unchanged" else end
    assert last, part
    return dict(one.split("=", 1) for one in last[1].split(",") if "=" in one)
