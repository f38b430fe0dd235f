"""What a rule of Neutron's flows is: in which table, of which shape, and the sentence that tells what it is for.

A rule tells a row only if it accounts for every condition and every action of it. Nothing else counts as explained.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from controller.tools.ofctl import Row

PACKET: Final = frozenset(("kind", "nw_src", "nw_dst", "ipv6_src", "ipv6_dst", "tp_src", "tp_dst", "icmp_type",
                           "icmp_code", "nw_proto", "dl_type", "dl_src"))  # what a security group's rule is about
_PLACE: Final = re.compile(r"\\\{(\w+)(\\\*)?\\\}")


@dataclass(frozen=True)
class Rule:
    """`match`: words of `key`, `key=value`, `?key` (may be there), `*` (anything of PACKET). `actions`: the
    row's actions joined by commas, {name} for a value and {name*} for several. `says`: the sentence, with {name:form}.
    """

    tables: tuple[int, ...]
    priorities: tuple[int, ...]  # none: any
    match: str
    actions: str
    says: str

    def tells(self, row: Row) -> dict[str, str] | None:
        """The values for the sentence, or None if this is not the rule of the row."""
        if (self.priorities and row.priority not in self.priorities) or not self._matches(row.match):
            return None
        found = self._pattern.fullmatch(",".join(row.actions))
        if not found:
            return None
        values = {**row.match, "priority": str(row.priority), "table": str(row.table)}
        for key, value in found.groupdict().items():
            if values.setdefault(key, value) != value:
                return None  # the same name stands for the same value
        return values

    def _matches(self, match: Mapping[str, str]) -> bool:
        needed, optional, fixed, anything = self._conditions
        if not (needed <= match.keys() and all(match[key] in value for key, value in fixed.items())):
            return False
        rest = match.keys() - needed - optional
        return rest <= PACKET if anything else not rest

    @cached_property
    def _conditions(self) -> tuple[frozenset[str], frozenset[str], dict[str, tuple[str, ...]], bool]:
        words = [word for word in self.match.split() if word != "*"]
        fixed = {key: tuple(value.split("|")) for key, _, value in (word.partition("=") for word in words) if value}
        optional = frozenset(word[1:] for word in words if word.startswith("?"))
        needed = frozenset(word.partition("=")[0] for word in words if not word.startswith("?"))
        return needed, optional, fixed, "*" in self.match.split()

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        seen: set[str] = set()

        def group(found: re.Match[str]) -> str:
            name, many = found.groups()
            if name in seen:
                return f"(?P={name})"
            seen.add(name)
            return f"(?P<{name}>{'.+' if many else '[^,();]+'})"

        return re.compile(_PLACE.sub(group, re.escape(self.actions)))


def rule(tables: int | tuple[int, ...], priorities: int | tuple[int, ...], match: str, actions: str, says: str) -> Rule:
    """A rule; one table or priority may stand for itself."""
    return Rule(_tuple(tables), _tuple(priorities), match, actions, says)


def _tuple(numbers: int | tuple[int, ...]) -> tuple[int, ...]:
    return numbers if isinstance(numbers, tuple) else (numbers,)


def by_table(*groups: Iterable[Rule]) -> dict[int, tuple[Rule, ...]]:
    """The rules of each table, in their order."""
    found: dict[int, list[Rule]] = {}
    for one in _all(groups):
        for table in one.tables:
            found.setdefault(table, []).append(one)
    return {table: tuple(rules) for table, rules in found.items()}


def _all(groups: Iterable[Iterable[Rule]]) -> Iterator[Rule]:
    for group in groups:
        yield from group
