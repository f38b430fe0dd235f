"""The change of a host's packet filter on its way from who computes it to who may carry it out.

The daemon need not be root, the lab's owner is. What comes from the daemon is data for three programs that are named
here, and each of its lines must be about chains and sets of ours: the daemon can say who may speak to a VM, which it is
there for, and nothing else of the machine.
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controller.host.steps import Step

_OPTIONS: Final = ("[dspmj]|-(?:comment|dports?|icmp-type|icmpv6-type|mac-source|mark|match-set|set-xmark|sport|state|"
                   "u32)")  # none that starts a program, as --modprobe does
_WORDS: Final = rf'(?: (?:-(?:{_OPTIONS})|"[ !#-~]*"|[!#-,./-~][!#-~]*))*'
_CHAIN: Final = r"neutron-openvswi-[ios][0-9a-f-]{10}"
_RULES: Final = re.compile(rf"\*filter|COMMIT|:{_CHAIN} - \[0:0\]|-A {_CHAIN}{_WORDS}|-R {_CHAIN} \d+{_WORDS}")
_MEMBER: Final = re.compile(r"(?:add|del) NIPv[46][0-9a-f-]{26} [0-9a-f.:/]+|(?:flush|destroy) NIPv[46][0-9a-f-]{26}|"
                            r"create NIPv[46][0-9a-f-]{26} hash:net family inet6? maxelem \d+")
_PROGRAMS: Final[Mapping[str, tuple[tuple[str, ...], re.Pattern[str]]]] = {
    "ipset": (("ipset", "restore", "-exist"), _MEMBER),
    "iptables-restore": (("iptables-restore", "--noflush"), _RULES),
    "ip6tables-restore": (("ip6tables-restore", "--noflush"), _RULES)}


class Strange(ValueError):
    """What was sent is no change of rules; `str(error)` says what it is instead."""


@dataclass(frozen=True)
class Orders:
    """A host's part."""

    steps: tuple[Step, ...]  # the rules are in force when they are done
    judging: Mapping[str, Any]  # as `sweep` reads it; empty: nobody need be judged
    ports: int  # whose rules change


def to_json(steps: tuple[Step, ...], judging: str, ports: int) -> dict[str, Any]:
    """As `from_json` reads it."""
    return {"steps": [[step.argv[0], list(step.lines)] for step in steps], "judging": judging, "ports": ports}


def from_json(value: Mapping[str, Any]) -> Orders:
    """What `to_json` made. Strange if it holds anything but rules and members."""
    try:
        judging = json.loads(value["judging"] or "{}")
        return Orders(tuple(_steps(value["steps"])), judging, int(value["ports"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Strange(f"no change of rules: {error}") from error


def _steps(value: list[tuple[str, list[str]]]) -> Iterator[Step]:
    for program, lines in value:
        argv, allowed = _PROGRAMS[program]
        strange = next((line for line in lines if not allowed.fullmatch(line)), None)
        if strange is not None:
            raise ValueError(f"{program} is given {strange!r}")
        yield Step(argv, "the rules that the daemon has sent", tuple(lines))
