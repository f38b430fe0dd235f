"""`tunbridge explain`: every line of a dump of flows in a sentence; ours by cookie, Neutron's by table and shape.

A line is explained only if all of its conditions and actions are accounted for. Of any other it is said that it is not
known, with what can be told of it.
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from controller.tools import neutron_int, neutron_tun
from controller.tools.dumps import Dump, Line, dumps, rows
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.labels import Labels
from controller.tools.neutron_firewall import INT
from controller.tools.neutron_rules import Rule
from controller.tools.ofctl import Row
from controller.tools.ours import Ours
from controller.tools.phrases import Phrases, Unspeakable

NEUTRON: Final = "neutron"
TUNBRIDGE: Final = "tunbridge"
UNKNOWN: Final = "unknown"
SAMPLE: Final = 500  # flows that tell what kind of bridge has them
_KINDS: Final[Mapping[str, tuple[Mapping[int, tuple[Rule, ...]], Mapping[int, tuple[str, str]]]]] = {
    "int": (INT, neutron_int.INT_TABLES),
    "tun": (neutron_tun.TUN, neutron_tun.TUN_TABLES),
    "phys": (neutron_tun.PHYS, neutron_tun.PHYS_TABLES),
}
_NAMED: Final = re.compile(r"\{\w+:(?:port|mac|ip)\}")  # a name keeps its small letter
_CALLED: Final = {"int": "br-int", "tun": "br-tun", "phys": "a physical bridge"}


@dataclass(frozen=True)
class Told:
    """One line of the dump, explained or not."""

    line: int
    text: str
    bridge: str  # as it is called, or as it must be called
    table: int | None
    title: str  # the table's name and question, if there is one
    sentence: str
    owner: str  # neutron, tunbridge, unknown
    known: bool
    packets: int | None = None
    origin: str = ""  # FILE:LINE in the topology


def explain(text: str, labels: Labels, ours: Ours, bridge: str = "") -> list[Told]:
    """Every flow of a text. Refusal if there is none in it."""
    told = [one for dump in dumps(text, bridge) for one in Reader(dump, labels, ours).told()]
    if not any(one.table is not None or "it ends" in one.sentence or "cut off" in one.sentence for one in told):
        raise Refusal("There is no flow in this: give the output of `ovs-ofctl dump-flows BRIDGE`.", BAD_INPUT)
    return told


class Reader:
    """The lines of one dump, and what each of them is for."""

    def __init__(self, dump: Dump, labels: Labels, ours: Ours) -> None:
        self._dump, self._labels, self._ours = dump, labels, ours
        found = list(rows(dump.lines))
        bridge = dump.bridge or ours.bridge_of(found)
        self._kind = _kind_by_name(bridge) or _kind_by_rules(found, labels)
        self._bridge = bridge or labels.bridge(self._kind)
        self._phrases = Phrases(labels, self._bridge)
        self._host = dump.host or ours.host_of(found, self.called)

    def told(self) -> Iterator[Told]:
        """All of them."""
        for line in self._dump.lines:
            yield self.one(line)

    def one(self, line: Line) -> Told:
        """What one of its lines is for."""
        return self._told(line) if line.row else self._damaged(line)

    def title(self, table: int) -> str:
        """A table's name and question, empty if nobody knows it."""
        names = _KINDS[self._kind][1].get(table)
        return f"{names[0]}: {names[1]}" if names else ""

    def _damaged(self, line: Line) -> Told:
        return Told(line.number, line.text, self.called, None, "", f"Not understood: {line.damage}.", UNKNOWN, False)

    @property
    def called(self) -> str:
        """The bridge's name, or what it must be."""
        return self._bridge or _CALLED[self._kind]

    def _told(self, line: Line) -> Told:
        row = line.row
        assert row
        mine = self._ours.told(row, self._host, self.called)
        if mine:
            return Told(line.number, line.text, self.called, row.table, mine.title, mine.sentence, TUNBRIDGE,
                        mine.known, row.packets, mine.origin)
        sentence = _sentence(self._kind, row, self._phrases)
        title = self.title(row.table)
        if sentence:
            return Told(line.number, line.text, self.called, row.table, title, sentence, NEUTRON, True, row.packets)
        return Told(line.number, line.text, self.called, row.table, title, self._partly(row, title), UNKNOWN, False,
                    row.packets)

    def _partly(self, row: Row, title: str) -> str:
        """What is known of a flow that nobody here knows."""
        words = [f"Not known: {self._phrases.matched(row.match)} -> {self._phrases.done(row.actions)}"]
        words += [f"no meaning is known of {', '.join(row.strange)}"] if row.strange else []
        words += ["Neutron has no such flow in this table" if title else "Neutron has no such table here"]
        return "; ".join(words) + "."


def _kind_by_name(bridge: str) -> str:
    return {"br-int": "int", "br-tun": "tun"}.get(bridge, "phys" if bridge else "")


def _kind_by_rules(found: list[Row], labels: Labels) -> str:
    """The bridge of which Neutron would install most of these flows."""
    some, phrases = found[::len(found) // SAMPLE + 1], Phrases(labels, "")
    counts = {kind: sum(_sentence(kind, row, phrases) is not None for row in some) for kind in _KINDS}
    return max(counts, key=lambda kind: counts[kind])


def _sentence(kind: str, row: Row, phrases: Phrases) -> str | None:
    if row.strange:
        return None
    for rule in _KINDS[kind][0].get(row.table, ()):
        values = rule.tells(row)
        if values is not None:
            try:
                said = phrases.fill(rule.says, {**values, "hard_timeout": str(row.hard_timeout)})
            except Unspeakable:
                continue
            named = _NAMED.match(rule.says) and not said.startswith(("port ", "the "))
            return said if named else said[0].upper() + said[1:]
    return None
