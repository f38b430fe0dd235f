"""What can be wrong with a topology.yaml: stable codes, the value that says one thing is wrong, and its two renderings.

Checks yield a `Finding` (a code and a position); `reading` turns it into a `Problem` by adding the file's name and the
offending line. Codes never change their meaning; a retired code is not given out again.
"""
from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

ERROR: Final = "error"
WARNING: Final = "warning"

EXCERPT_CHARS: Final = 120  # of an offending line; a longer one is cut around the column
QUOTED_CHARS: Final = 60  # of a user's text inside a message
# Comparisons with difflib cost microseconds each; past this many in one run the hints go without a nearest name.
NEAREST_BUDGET: Final = 100_000

# Code -> what it means. 1xx YAML and shape, 2xx names, 3xx addresses, 4xx exhaustion, 5xx meaning, 6xx warnings.
CODES: Final[Mapping[str, str]] = MappingProxyType({
    "TB100": "the file cannot be read",
    "TB101": "the file is not UTF-8 text",
    "TB102": "the file is not YAML",
    "TB103": "a tab indents a line",
    "TB104": "the file is empty",
    "TB105": "the file holds more than one document",
    "TB106": "the file is too big",
    "TB107": "the values are nested too deep",
    "TB108": "an alias stands for too much, or for itself",
    "TB109": "a feature of YAML that topologies do not use",
    "TB110": "a key is given twice",
    "TB111": "an unknown key",
    "TB112": "a required key is missing",
    "TB113": "a value of the wrong type",
    "TB114": "not one of the possible values",
    "TB115": "a control character",
    "TB116": "a number out of range",
    "TB117": "not a UUID",
    "TB118": "not a MAC address",
    "TB119": "not an IP address",
    "TB120": "not an address prefix",
    "TB121": "an address prefix with host bits set",
    "TB122": "keys that exclude each other",
    "TB123": "not a datapath id",
    "TB124": "not a device name",
    "TB125": "something that must not be empty is",
    "TB126": "not a port or a range of ports",
    "TB127": "not an IP protocol",
    "TB201": "an illegal name",
    "TB202": "a name used for two things",
    "TB203": "an unknown host",
    "TB204": "an unknown network",
    "TB205": "an unknown subnet",
    "TB206": "an unknown security group",
    "TB207": "an unknown VM",
    "TB208": "an id used twice",
    "TB209": "a device name used twice on a host",
    "TB210": "a datapath id used twice",
    "TB211": "a bridge of two physical networks",
    "TB301": "overlapping subnets in one network",
    "TB302": "overlapping subnets on one router",
    "TB303": "an address used twice in a network",
    "TB304": "a MAC address used twice in a network",
    "TB305": "a tunnel id used twice",
    "TB306": "a tunnel address used twice",
    "TB307": "an address outside the subnets of its network",
    "TB308": "the address of the network itself, or its broadcast address",
    "TB309": "a gateway outside its subnet",
    "TB310": "an address that is the gateway's",
    "TB311": "a tunnel address outside the underlay",
    "TB312": "a floating IP outside the external networks",
    "TB313": "a MAC address that no port can have",
    "TB314": "an address that no host can have",
    "TB315": "a next hop that is not reached directly",
    "TB316": "an impossible allocation pool",
    "TB317": "a provider segment used twice",
    "TB318": "a next hop of the other version of IP",
    "TB319": "a route to what is reached otherwise",
    "TB401": "a subnet without a free address",
    "TB402": "a host without a free local VLAN",
    "TB403": "a tunnel id out of the tunnel type's range",
    "TB404": "an underlay MTU too small for the tunnel",
    "TB405": "more simulated routers on a host than there are numbers",
    "TB406": "more ports with security groups on a host than there are zones",
    "TB407": "more ports with security groups of a network on a host than a broadcast reaches",
    "TB501": "a network without a tunnel id",
    "TB502": "a gateway on a network that is not external",
    "TB503": "a router on a host that is not a network host",
    "TB504": "a subnet on two interfaces of a router",
    "TB505": "a router interface without an address",
    "TB506": "a floating IP for a network its VM is not on",
    "TB507": "ports in a rule for a protocol without ports",
    "TB508": "a rule with two remotes",
    "TB509": "an ICMP type or code in a rule that is not for ICMP",
    "TB510": "IPv4 and IPv6 mixed in a rule",
    "TB511": "contradictory provider keys",
    "TB512": "a port on a network without subnets",
    "TB513": "DHCP asked of a network without it",
    "TB514": "a router's gateway without an IPv4 address",
    "TB515": "a floating IP without an IPv4 address on both sides",
    "TB603": "a network without a VM",
    "TB604": "a network without a subnet",
    "TB607": "a key without effect",
    "TB608": "a floating IP that no router leads to",
    "TB609": "IPv6 on a router",
    "TB610": "DHCP that nobody serves",
    "TB611": "a rule that can never match",
    "TB612": "a rule that another one of its group covers",
    "TB613": "a security group that nobody uses",
    "TB614": "an address pair of every address",
    "TB615": "address pairs that contradict or repeat each other",
    "TB616": "an address pair that claims what another has",
    "TB617": "security groups on a port without port security",
    "TB618": "a rule that the firewall driver cannot do",
    "TB619": "security groups without a firewall",
})
# Never to be given out again.
RETIRED: Final[Mapping[str, str]] = MappingProxyType({
    "TB601": "security groups were not enforced",
    "TB602": "routers were not built",
    "TB605": "DHCP was not served",
    "TB606": "networks of a segment were local",
})


def severity_of(code: str) -> str:
    """`warning` for the 6xx codes, which leave a file valid; `error` for all others."""
    return WARNING if code.startswith("TB6") else ERROR


class Position(NamedTuple):
    """A place in the file, both counted from 1 in characters."""

    line: int
    column: int


@dataclass(frozen=True)
class Finding:
    """One thing wrong at one place, before it knows its file."""

    code: str
    at: Position
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a file; `line` and `column` always lie inside it."""

    code: str
    severity: str  # error | warning
    file: str
    line: int
    column: int  # one past the last character of the line at most
    message: str
    hint: str  # may be empty
    excerpt: str = ""  # the offending line

    def __str__(self) -> str:
        """`file:line:column: TB204 message`, the offending line, a caret under the column, and the hint."""
        word = "warning: " if self.severity == WARNING else ""
        lines = [f"{self.file}:{self.line}:{self.column}: {self.code} {word}{self.message}"]
        if self.excerpt.strip():
            lines.extend(_with_caret(self.excerpt, self.column))
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


def render(problems: Iterable[Problem]) -> str:
    """All problems as text for a terminal, an empty line between two; ends with a newline unless there are none."""
    return "\n".join(f"{problem}\n" for problem in problems)


def to_json(problems: Collection[Problem], file: str = "") -> dict[str, Any]:
    """What `check --json` prints: {"ok", "file", "problems": [{code, severity, file, line, column, message, hint}]}.

    Without `file` it is that of the first problem.
    """
    shown = ("code", "severity", "file", "line", "column", "message", "hint")
    return {
        "ok": not has_errors(problems),
        "file": file or next((problem.file for problem in problems), ""),
        "problems": [{key: getattr(problem, key) for key in shown} for problem in problems],
    }


def has_errors(problems: Iterable[Problem]) -> bool:
    """Whether any of the problems makes the file invalid."""
    return any(problem.severity == ERROR for problem in problems)


def quoted(value: object) -> str:
    """A user's value inside a message: short, on one line, without control characters."""
    text = str(value)
    if len(text) > QUOTED_CHARS:
        text = text[: QUOTED_CHARS - 3] + "..."
    return '"' + "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text) + '"'


def describe(value: object) -> str:
    """What a value is, for messages about a wrong type."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {quoted(value)}"
        case list():
            return "a list"
        case _:
            return "a mapping"


class Nearest:
    """The legal name nearest to a wrong one. Remembers answers and stops guessing when a file asks too much."""

    def __init__(self, budget: int = NEAREST_BUDGET) -> None:
        self._budget = budget
        self._known: dict[tuple[str, frozenset[str]], str] = {}

    def hint(self, word: str, names: frozenset[str]) -> str:
        """`did you mean "blue"?`, or the few names there are, or nothing helpful (the empty string)."""
        key = (word, names)  # a frozenset computes its hash once
        if key not in self._known:
            self._known[key] = self._guess(word, names)
        return self._known[key]

    def _guess(self, word: str, names: frozenset[str]) -> str:
        if not names:
            return "there is none in this file"
        if len(names) <= self._budget and len(word) <= QUOTED_CHARS:
            self._budget -= len(names)
            close = difflib.get_close_matches(word, sorted(names), n=1)
            if close:
                return f"did you mean {quoted(close[0])}?"
        if len(names) <= 8:
            return "known: " + ", ".join(quoted(name)[1:-1] for name in sorted(names))
        return ""


def _with_caret(line: str, column: int) -> tuple[str, str]:
    """The line, cut around the column if it is long, and a line whose caret stands under that column."""
    start = 0 if len(line) <= EXCERPT_CHARS else max(0, min(column - EXCERPT_CHARS // 2, len(line) - EXCERPT_CHARS))
    shown = "".join(char if char.isprintable() else " " for char in line[start : start + EXCERPT_CHARS])
    return f"    {shown.rstrip()}", "    " + " " * (column - 1 - start) + "^"
