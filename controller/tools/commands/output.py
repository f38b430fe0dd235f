"""What commands print: data on stdout, words on stderr, colours on terminals only."""
from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from controller.model.topology import Topology
    from controller.tools.rundir import Rundir

PAGE = 160  # columns of a matrix or a story that goes to a file


def say(sentence: str) -> None:
    """A word to the person, on stderr."""
    print(sentence, file=sys.stderr, flush=True)


def show_json(value: Any) -> None:
    """Data for a program, on stdout."""
    print(json.dumps(value, indent=1))


def console(width: int = 100_000) -> Console:
    """Coloured text on stdout: colours on a terminal only, and `width` columns elsewhere."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False, emoji=False)
    return Console(highlight=False, emoji=False, width=width, no_color=True, force_terminal=False)


def show_lines(lines: Iterable[RenderableType]) -> None:
    """Lines for a person, with rich's markup, on stdout."""
    out = console()
    for line in lines:
        out.print(line)


def where(rundir: str | None) -> Rundir:
    from controller.tools import rundir as rundirs

    return rundirs.rundir(rundir)


def valid(file: str) -> Topology:
    """The topology of a file; its warnings are said, its errors refuse it."""
    from controller.tools import topologies

    return topologies.valid(file, say)


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal, nothing elsewhere; it disappears when the work is done."""
    if not sys.stderr.isatty():
        yield lambda done, total, what: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True, emoji=False), transient=True)
    task = bar.add_task("", total=None)

    def progress(done: int, total: int, what: str) -> None:
        bar.start()
        bar.update(task, completed=done, total=total, description=what)
        if done >= total:
            bar.stop()

    try:
        yield progress
    finally:
        bar.stop()
