"""The ping matrix: who reached whom, as wide as the terminal allows.

Every mark can be read without colours: `yes` and `-` are as the topology says, `YES!` and `no!` are not; and with `?`,
as the tables compute, neither are they.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from controller.host.campaign import Leak
from controller.model.reachability import INTERNET
from controller.tools.reach import Answer, Reach

_GOOD, _BAD, _QUIET = "green", "bold red", "dim"
_GAP: Final = 2  # columns of padding between cells
_LISTED: Final = 10  # wrong pairs, and leaks, said one by one
_MARKS: Final = {(True, True): "yes", (False, False): "-", (False, True): "YES!", (True, False): "no!"}
_LEGEND: Final = "yes: reached, -: not reached, both as the topology says; YES! and no!: not as it says"
_LEGEND_OF_COUNTS: Final = "reached/asked; (!n): n of them not as the topology says"
_BEYOND: Final = "beyond"  # the heading of what is asked and is no VM
_GATEWAYS, _FLOATING = "gateways", "floating IPs"

Label = tuple[str, str]  # a network, and a port on it or nothing
Cells = Mapping[tuple[Label, Label], Text]


@dataclass(frozen=True)
class Matrix:
    """A rich renderable: port by port; if that is too wide, network by network; or else network by the others."""

    reach: Reach

    @property
    def _legend(self) -> str:
        """What the marks of the third opinion mean, if there are any."""
        doubtful = any(one.computed not in (None, one.expected) for one in (*self.reach.answers, *self.reach.targets))
        return "; ?: the tables do not make of it what the topology says" if doubtful else ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        layouts = [layout(self.reach) for layout in (_by_port, _by_network, _by_own_and_others)]
        fitting = [each for each in layouts if each.width() <= options.max_width]
        best = fitting[0] if fitting else layouts[-1]
        yield best.table()
        yield Text(best.legend + self._legend, style=_QUIET)
        yield from complaints(self.reach)
        yield verdict(self.reach)


def complaints(reach: Reach) -> Iterator[Text]:
    """What is not as it should be, in sentences; a long list is cut."""
    for sentences in ([_wrong(answer) for answer in reach.wrong], [_leak(leak) for leak in reach.leaks]):
        cut = [f"and {len(sentences) - _LISTED} more"] if len(sentences) > _LISTED else []
        yield from (Text(sentence, style=_BAD) for sentence in [*sentences[:_LISTED], *cut])


def verdict(reach: Reach) -> Text:
    """One line: how many pairs, how many as expected, and how to ask the same sample again."""
    answers = (*reach.answers, *reach.targets)
    others = f" and {len(reach.targets)} others" if reach.targets else ""
    sampled = f" (a sample; seed {reach.sample.seed})" if reach.sample else ""
    asked = f"{len(reach.answers)} pairs{others} asked{sampled}"
    if reach.ok:
        reached = sum(answer.observed for answer in answers)
        computed = f" and tables compute ({reach.computed_from})" if reach.computed_from else ""
        apart = len(answers) - reached
        return Text(f"{asked}: {reached} reached, {apart} kept apart, all as the topology says{computed}", style=_GOOD)
    return Text(f"{asked}: {len(reach.wrong)} not as the topology says, "
                f"{len(reach.leaks)} {'leak' if len(reach.leaks) == 1 else 'leaks'}", style=_BAD)


def _wrong(answer: Answer) -> str:
    if answer.observed == answer.expected:
        what = f"was {'reached' if answer.observed else 'not reached'} as it should be, but not by these tables"
    else:
        what = "was reached and must not be" if answer.observed else "was not reached and should be"
    reason = f": {answer.reason}" if answer.reason else ""
    return f"wrong: {answer.source} -> {answer.target} ({answer.address}) {what}{reason}"


def _leak(leak: Leak) -> str:
    whom = f"for {leak.target}" if leak.target else "to everyone"
    return f"leak: a frame of {leak.source} {whom} was seen by {leak.seen_at}"


@dataclass(frozen=True)
class _Layout:
    rows: Sequence[Label]
    columns: Sequence[Label]
    cells: Cells
    legend: str

    def width(self) -> int:
        """What the table needs, in characters."""
        networks = max((len(network) for network, _ in self.rows), default=0)
        ports = max((_GAP + len(port) for _, port in self.rows if port), default=0)
        return networks + ports + sum(_GAP + self._column_width(column) for column in self.columns)

    def table(self) -> Table:
        """Sources as rows, targets as columns, a word in each cell."""
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_edge=False)
        by_port = any(port for _, port in self.rows)
        for _ in range(2 if by_port else 1):
            table.add_column("", no_wrap=True)
        for column, header in zip(self.columns, self._headers(), strict=True):
            table.add_column(Text(header), justify="center", no_wrap=True, min_width=self._column_width(column))
        above = ""
        for row in self.rows:
            cells = (self.cells.get((row, column), Text("")) for column in self.columns)
            label = [Text(row[0] if row[0] != above else "", style="bold"), *([Text(row[1])] if by_port else [])]
            table.add_row(*label, *cells)
            above = row[0]
        return table

    def _headers(self) -> list[str]:
        """The network above the first of its ports, the ports' names below."""
        before = ["", *(network for network, _ in self.columns)]
        return [f"{network if network != last else ''}\n{port}" if port else network
                for (network, port), last in zip(self.columns, before, strict=False)]

    def _column_width(self, column: Label) -> int:
        return max([*map(len, column), *(len(self.cells.get((row, column), "")) for row in self.rows)])


def _by_port(reach: Reach) -> _Layout:
    labels = {port: (network, port) for port, network in reach.networks.items()}
    beyond, more = _beyond(reach, labels.get, lambda kind: (_BEYOND, kind))
    cells = {(labels[answer.source], labels[answer.target]): _mark(answer) for answer in reach.answers}
    cells |= {(label, label): Text(".", style=_QUIET) for label in labels.values()}
    ordered = sorted(labels.values(), key=_order_of_networks(reach))
    return _Layout([*ordered, *_outside(reach)], [*ordered, *beyond], {**cells, **more},
                   f"{_LEGEND}; n/m: n of m reached" if beyond else _LEGEND)


def _by_network(reach: Reach) -> _Layout:
    networks = [(network, "") for network in dict.fromkeys(reach.networks.values())]
    cells = _counts(reach, lambda answer: (reach.networks[answer.target], ""))
    beyond, more = _beyond_networks(reach)
    return _Layout([*networks, *_outside(reach)], [*networks, *beyond], {**cells, **more}, _LEGEND_OF_COUNTS)


def _by_own_and_others(reach: Reach) -> _Layout:
    own, others = ("own network", ""), ("others", "")
    networks = [(network, "") for network in dict.fromkeys(reach.networks.values())]
    cells = _counts(reach, lambda answer: own if _stays(reach, answer) else others)
    beyond, more = _beyond_networks(reach)
    return _Layout([*networks, *_outside(reach)], [own, others, *beyond], {**cells, **more}, _LEGEND_OF_COUNTS)


def _outside(reach: Reach) -> list[Label]:
    """The row of the world outside, if it asked."""
    return [(INTERNET, "")] if any(answer.source not in reach.networks for answer in reach.targets) else []


def _beyond_networks(reach: Reach) -> tuple[list[Label], Cells]:
    rows = {port: (network, "") for port, network in reach.networks.items()}
    return _beyond(reach, rows.get, lambda kind: (kind, ""))


def _beyond(reach: Reach, row_of: Callable[[str], Label | None], column_of: Callable[[str], Label]
            ) -> tuple[list[Label], Cells]:
    """The columns of what is no VM, and their cells."""
    groups: dict[tuple[Label, Label], list[Answer]] = defaultdict(list)
    for answer in reach.targets:
        groups[row_of(answer.source) or (INTERNET, ""), column_of(_kind(answer))].append(answer)
    columns = dict.fromkeys(column_of(kind) for kind in (_GATEWAYS, _FLOATING, INTERNET))
    asked = {column for _, column in groups}
    return [column for column in columns if column in asked], {
        place: _mark(answers[0]) if place[0][1] and len(answers) == 1 else _count(answers)
        for place, answers in groups.items()}


def _kind(answer: Answer) -> str:
    if answer.target == INTERNET:
        return INTERNET
    return _FLOATING if answer.target.startswith("floating IP") else _GATEWAYS


def _mark(answer: Answer) -> Text:
    doubt = "?" if answer.computed not in (None, answer.expected) else ""
    return Text(_MARKS[answer.expected, answer.observed] + doubt, style=_GOOD if answer.ok else _BAD)


def _stays(reach: Reach, answer: Answer) -> bool:
    return reach.networks[answer.source] == reach.networks[answer.target]


def _counts(reach: Reach, column_of: Callable[[Answer], Label]) -> Cells:
    groups: dict[tuple[Label, Label], list[Answer]] = defaultdict(list)
    for answer in reach.answers:
        groups[(reach.networks[answer.source], ""), column_of(answer)].append(answer)
    return {place: _count(answers) for place, answers in groups.items()}


def _count(answers: Sequence[Answer]) -> Text:
    wrong = sum(not answer.ok for answer in answers)
    text = f"{sum(answer.observed for answer in answers)}/{len(answers)}"
    return Text(f"{text} (!{wrong})" if wrong else text, style=_BAD if wrong else _GOOD)


def _order_of_networks(reach: Reach) -> Callable[[Label], int]:
    order = {network: place for place, network in enumerate(dict.fromkeys(reach.networks.values()))}
    return lambda label: order[label[0]]
