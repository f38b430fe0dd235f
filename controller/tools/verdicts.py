"""What came of attacks: values, JSON, and a table for people."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from controller.tools.counters import Stopper

STOPPED: Final = "stopped"
GOT_THROUGH: Final = "got through"
NOT_APPLICABLE: Final = "not applicable"
_STYLES: Final = {STOPPED: "green", GOT_THROUGH: "bold red", NOT_APPLICABLE: "dim"}
_NAMED: Final = 3  # places that saw it, in words


@dataclass(frozen=True)
class Result:
    """One attack and what came of it. `what` says why it was not tried, if it was not."""

    name: str
    what: str
    verdict: str  # stopped | got through | not applicable
    sent: int = 0  # frames
    seen: tuple[tuple[str, int], ...] = ()  # who saw how many that it should not have
    complaints: tuple[str, ...] = ()  # what it did beside being seen
    stopped_by: tuple[Stopper, ...] = ()  # the best first

    def document(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {"name": self.name, "what": self.what, "verdict": self.verdict, "sent": self.sent,
                "seen_by": [{"place": place, "frames": frames} for place, frames in self.seen],
                "complaints": list(self.complaints), "stopped_by": [one.document() for one in self.stopped_by]}

    @property
    def words(self) -> str:
        """What stopped it, or who saw it, for people."""
        if self.verdict == NOT_APPLICABLE:
            return self.what
        if self.verdict == GOT_THROUGH:
            more = f" and {len(self.seen) - _NAMED} more" if len(self.seen) > _NAMED else ""
            places = ", ".join(f"{place} ({frames} frames)" for place, frames in self.seen[:_NAMED])
            return "; ".join([*([f"seen by {places}{more}"] if places else []), *self.complaints])
        if not self.stopped_by:
            return "nobody saw it, and no rule counted it"
        best, alike = self.stopped_by[0], self._alike
        hosts = ", ".join(dict.fromkeys(one.host for one in alike)) if best.drops else best.host
        why = best.why if best.drops else f"its frames stay in {best.origin.partition('.')[2]}"
        return f"{why} ({hosts}: {best.place})"

    @property
    def counter(self) -> str:
        """How often that counted."""
        return str(sum(one.counter for one in self._alike)) if self.verdict == STOPPED and self.stopped_by else ""

    @property
    def _alike(self) -> list[Stopper]:
        """What says the same as the best, here and on other hosts."""
        return [one for one in self.stopped_by if one.why == self.stopped_by[0].why]


@dataclass(frozen=True)
class Report:
    """All attacks of one VM."""

    port: str
    host: str
    network: str
    results: tuple[Result, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing got through."""
        return all(result.verdict != GOT_THROUGH for result in self.results)

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {"ok": self.ok, "attacker": {"port": self.port, "host": self.host, "network": self.network},
                "seconds": round(self.seconds, 1), "attacks": [result.document() for result in self.results]}


def table(report: Report) -> Iterator[RenderableType]:
    """For people: a line for each attack, then one for all."""
    yield f"[bold]{escape(report.port)}[/bold] on {escape(report.host)} attacks everybody it can reach"
    found = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for title in ("attack", "verdict", "sent"):
        found.add_column(title, no_wrap=True, justify="right" if title == "sent" else "left")
    found.add_column("by", no_wrap=False, overflow="fold")
    found.add_column("counted", no_wrap=True, justify="right")
    for result in report.results:
        style = _STYLES[result.verdict]
        found.add_row(result.name, Text(result.verdict, style=style), str(result.sent or ""), Text(result.words),
                      result.counter)
    yield found
    count = {verdict: sum(result.verdict == verdict for result in report.results) for verdict in _STYLES}
    colour = "green" if report.ok else "bold red"
    yield (f"[{colour}]{count[STOPPED]} stopped, {count[GOT_THROUGH]} got through[/{colour}], "
           f"{count[NOT_APPLICABLE]} not applicable, in {report.seconds:.0f} s")
