"""The flows of one dumped bridge, and which of them takes a packet: by priority and by conjunctions, as Open vSwitch
decides it. What cannot be decided from the dump is said.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Final

from controller.tools import dumptrace_fields as fields
from controller.tools import ofwords
from controller.tools.dumps import Dump, Line
from controller.tools.dumptrace_fields import Condition
from controller.tools.explain import Reader
from controller.tools.ofctl import Damaged, read

_CLAUSE: Final = re.compile(r"conj\((\d+):(\d+)/(\d+)\)")
_TCI: Final = re.compile(r"\bvlan_tci=([^,\s]+)")
_COMPLETE: Final = re.compile(r"\b(table|priority)=(\d+)[, ]")
_HIGHEST: Final = 65535


@dataclass(frozen=True)
class Entry:
    """One flow. `doubts` are conditions of which nobody knows whether a packet fulfils them."""

    line: Line
    table: int
    priority: int
    conditions: tuple[Condition, ...]
    doubts: tuple[str, ...] = ()
    clauses: tuple[tuple[int, int, int], ...] = ()  # conjunction, clause, of how many

    def takes(self, packet: Mapping[str, int]) -> bool:
        """Whether all conditions that are known hold."""
        return all(one.holds(packet) for one in self.conditions)


@dataclass(frozen=True)
class Found:
    """What a table says to a packet; `doubt`: why that is not sure; `tie`: which flows may be chosen."""

    entry: Entry | None
    clauses: tuple[Entry, ...] = ()
    doubt: str = ""
    tie: str = ""


class Numbers:
    """OpenFlow numbers of ports, of which a dump, or a person, may give names."""

    _FIRST_UNKNOWN: Final = 0x1_0000

    def __init__(self, devices: Mapping[tuple[str, str], str]) -> None:
        self._numbers = {(bridge, name): fields.LOCAL if number == "LOCAL" else int(number)
                         for (bridge, number), name in devices.items()}
        self._named: list[str] = []  # names of which nobody knows the number

    def number(self, bridge: str, text: str) -> int:
        """Of a port's number or name."""
        if re.fullmatch(r"\d+|0x[0-9a-f]+", text):
            number = int(text, 0)
            return number if number < fields.LOCAL else number & 0xFFFF
        if text in ("LOCAL", bridge):
            return fields.LOCAL
        known = self._numbers.get((bridge, text))
        if known is not None:
            return known
        if text not in self._named:
            self._named.append(text)
        return self._FIRST_UNKNOWN + self._named.index(text)

    def text(self, number: int) -> str:
        """As a dump would have it."""
        if number == fields.LOCAL:
            return "LOCAL"
        return str(number) if number < self._FIRST_UNKNOWN else self._named[number - self._FIRST_UNKNOWN]


class Board:
    """One bridge's tables."""

    def __init__(self, dump: Dump, reader: Reader, numbers: Numbers, source: str) -> None:
        self.name, self.reader, self.source, self._numbers = reader.called, reader, source, numbers
        self._tables: dict[int, list[Entry]] = {}
        self._damaged: list[tuple[int, Entry]] = []  # with the table from which on all may be missing
        last = 0
        for line in dump.lines:
            entry = self._entry(line, line.row.table if line.row else last)
            if entry is None:
                continue
            last = entry.table if line.row else last
            if line.row:
                self._tables.setdefault(entry.table, []).append(entry)
            else:
                self._damaged.append((last, entry))
        self._torn = _is_torn(dump.lines[-1])
        for rows in self._tables.values():
            rows.sort(key=lambda row: -row.priority)

    def entries(self) -> Iterator[Entry]:
        """All of its whole flows."""
        for rows in self._tables.values():
            yield from rows

    def _entry(self, line: Line, table: int) -> Entry | None:
        if line.row is None:
            return self._rest(line, table)
        found, doubts = self._conditions(line.row.match, line.text)
        head = set(ofwords.split(line.text.partition("actions=")[0]))
        doubts += [word for word in line.row.strange if word in head]
        clauses = tuple((int(one[0]), int(one[1]), int(one[2])) for word in line.row.actions
                        for one in _CLAUSE.findall(word))
        return Entry(line, line.row.table, line.row.priority, tuple(found), tuple(doubts), clauses)

    def _rest(self, line: Line, table: int) -> Entry | None:
        """Of a damaged line what stands there whole, as little as that may be."""
        if line.damage == "this is no flow":
            return Entry(line, -1, _HIGHEST, ()) if _is_torn(line) else None
        about = {name: int(value) for name, value in _COMPLETE.findall(line.text)}
        head, whole, _ = line.text.partition("actions=")
        if not whole:
            head = head[:max(head.rfind(","), head.rfind(" "), 0)]
        try:
            row = read(f"{head} actions=drop")
        except Damaged:
            return Entry(line, about.get("table", -1), about.get("priority", _HIGHEST), ())
        found, _ = self._conditions(row.match, head)
        return Entry(line, about.get("table", -1), about.get("priority", _HIGHEST), tuple(found))

    def _conditions(self, match: Mapping[str, str], text: str) -> tuple[list[Condition], list[str]]:
        found: list[Condition] = []
        doubts = []
        exact = _TCI.search(text.partition("actions=")[0])
        for name, value in match.items():
            try:
                if name == "in_port":
                    found.append(Condition(name, self._numbers.number(self.name, value), 0xFFFFFFFF))
                elif exact and name in ("dl_vlan", "vlan_tci"):
                    found.append(Condition("vlan_tci", *fields.PARTS["vlan_tci"].masked(exact[1])))
                else:
                    found += fields.conditions(name, value)
            except (KeyError, ValueError):
                doubts.append(f"{name}={value}")
        return found, doubts

    # ---- looking up

    def look(self, table: int, packet: Mapping[str, int], *, last: bool = False) -> Found:
        """Which flow of a table takes a packet; of several that may, the first, or the last."""
        taken = [row for row in self._tables.get(table, ()) if row.takes(packet)]
        sure = [row for row in taken if not row.doubts]
        equal = _equal(row for row in sure if not row.clauses)
        found = equal[-1 if last else 0] if equal else None
        for number, together in _complete(row for row in sure if row.clauses
                                          and (not found or row.priority > found.priority)):
            both = self._plain(table, {**packet, "conj_id": number})
            if both:
                return Found(both, together, self._doubt(table, packet, taken, both))
        tie = " and ".join(str(row.line.number) for row in equal) if len(equal) > 1 else ""
        return Found(found, (), self._doubt(table, packet, taken, found),
                     tie and f"lines {tie} both take it with the same priority: which one does is not defined")

    def _plain(self, table: int, packet: Mapping[str, int]) -> Entry | None:
        return next((row for row in self._tables.get(table, ())
                     if not row.clauses and not row.doubts and row.takes(packet)), None)

    def _doubt(self, table: int, packet: Mapping[str, int], taken: list[Entry], found: Entry | None) -> str:
        least = found.priority if found else -1
        for row in taken:
            if row.doubts and row.priority >= least:
                return f"whether line {row.line.number} takes it is not known: nobody knows {', '.join(row.doubts)}"
        for last, entry in self._damaged:
            if self._torn and entry is self._damaged[-1][1] and table >= max(last, entry.table):
                return (f"the dump is cut in line {entry.line.number}: what table {table} has there and after it is "
                        "missing")
            if entry.table in (-1, table) and entry.priority >= least and entry.takes(packet):
                return f"line {entry.line.number} is damaged ({entry.line.damage}): whether it takes it is not known"
        return ""


def _equal(rows: Iterable[Entry]) -> list[Entry]:
    """Of rows by priority the first, and those that are as good and do another thing."""
    found: list[Entry] = []
    for row in rows:
        if found and row.priority < found[0].priority:
            break
        if all(row.line.row and one.line.row and row.line.row.actions != one.line.row.actions for one in found):
            found.append(row)
    return found


def _complete(clauses: Iterable[Entry]) -> Iterator[tuple[int, tuple[Entry, ...]]]:
    """Conjunctions of which every clause is among these: their numbers and flows, by priority, then by number."""
    for _, group in groupby(clauses, key=lambda row: row.priority):
        met: dict[int, dict[int, Entry]] = {}
        size: dict[int, int] = {}
        for row in group:
            for number, clause, of in row.clauses:
                met.setdefault(number, {})[clause] = row
                size[number] = of
        for number in sorted(met):
            if len(met[number]) == size[number]:
                yield number, tuple(met[number][clause] for clause in sorted(met[number]))


def _is_torn(line: Line) -> bool:
    """Of a dump's last line, whether it ends in the middle: what came after is missing, too."""
    return line.row is None and (line.damage != "this is no flow" or "cookie=".startswith(line.text))


@lru_cache(maxsize=4096)
def deed(word: str) -> str | None:
    """One action in `ofwords`' spelling; None if nobody knows it."""
    try:
        row = read(f"actions={word}")
    except Damaged:
        return None
    return row.actions[0] if len(row.actions) == 1 and not row.strange else None


def deeds(line: Line) -> list[str]:
    """The actions of a flow as they stand there."""
    return list(ofwords.split(line.text.partition("actions=")[2], " "))
