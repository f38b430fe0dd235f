"""What a measurement found: every run of every figure, and which promises were kept."""
from __future__ import annotations

import json
import signal
import statistics
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from math import isinf
from pathlib import Path
from typing import Any

from labs import machine


@dataclass(frozen=True)
class Figure:
    """What was measured, in which unit, and what each run found."""

    what: str
    unit: str
    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def line(self) -> str:
        """As a row of the table."""
        return (f"  {self.what:<64} {shown(self.median):>9} {self.unit:<12}"
                f" ({shown(min(self.runs))} to {shown(max(self.runs))}, {len(self.runs)} runs)")


@dataclass(frozen=True)
class Verdict:
    """A promise of issue 5, and whether it was kept; None if nothing could be compared, and then `found` says why."""

    promise: str
    found: str
    kept: bool | None

    def line(self) -> str:
        """As a row of the table."""
        word = "skipped" if self.kept is None else "pass" if self.kept else "FAIL"
        return f"  {word:<8} {self.promise}: {self.found}"


@dataclass
class Report:
    """All that one script found."""

    name: str
    figures: list[Figure] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, unit: str, runs: Iterable[float]) -> Figure:
        """A figure more."""
        figure = Figure(what, unit, tuple(round(run, 6) for run in runs))
        self.figures.append(figure)
        return figure

    def promise(self, words: str, found: str, kept: bool | None) -> None:
        """A verdict more."""
        self.verdicts.append(Verdict(words, found, kept))

    def lines(self) -> list[str]:
        """The table."""
        return [self.name, *(figure.line() for figure in self.figures), *(f"  note: {note}" for note in self.notes),
                *(verdict.line() for verdict in self.verdicts)]

    def to_json(self) -> dict[str, Any]:
        """For machines; `from_json` reads it back."""
        medians = [{**asdict(figure), "median": figure.median} for figure in self.figures]
        return {"name": self.name, "machine": machine(), "figures": medians, "notes": self.notes,
                "verdicts": [asdict(verdict) for verdict in self.verdicts]}


def from_json(found: dict[str, Any]) -> Report:
    """What `to_json` made."""
    figures = [Figure(one["what"], one["unit"], tuple(one["runs"])) for one in found["figures"]]
    return Report(found["name"], figures, [Verdict(**one) for one in found["verdicts"]], found["notes"])


def shown(value: float) -> str:
    """Three digits that say something."""
    if isinf(value) or value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def parser(words: str | None) -> ArgumentParser:
    """The options that every script has."""
    made = ArgumentParser(description=(words or "").split("\n")[0])
    made.add_argument("--runs", type=int, default=5)
    made.add_argument("--json", type=Path, help="write the figures there, too")
    return made


def say(words: str) -> None:
    """Progress."""
    print(words, file=sys.stderr, flush=True)


def finish(measure: Callable[[Namespace], Report], asked: Namespace) -> None:
    """Measure, print the table, write JSON; exit code 1 if a promise was not kept."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that labs are taken down
    report = measure(asked)
    if asked.json:
        asked.json.write_text(json.dumps(report.to_json(), indent=1) + "\n")
    print("\n".join(report.lines()))
    sys.exit(any(verdict.kept is False for verdict in report.verdicts))
