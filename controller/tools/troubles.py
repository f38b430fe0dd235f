"""What the last convergence of this machine could not do: ports that stay closed, routers and DHCP servers that are
not there. Written by whoever converges; the next convergence that can do it takes it away.
"""
from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_LAB: Final = Path("lab") / "troubles.json"
_PLUMB: Final = Path("plumb-troubles.json")


@dataclass(frozen=True)
class Trouble:
    """One object that is not as the topology wants it."""

    host: str
    object: str  # port web1, DHCP of blue, router r1
    problem: str  # why, in the words of what failed


def read(rundir: Path) -> list[dict[str, str]]:
    """All troubles of the lab and of plumbing, each as {"host", "object", "problem"}."""
    found: list[dict[str, str]] = []
    for path in (rundir / _LAB, rundir / _PLUMB):
        try:
            found += json.loads(path.read_text())
        except (OSError, ValueError):
            continue
    return found


def write_lab(rundir: Path, troubles: Iterable[Trouble]) -> None:
    """What the lab's last convergence could not do."""
    _write(rundir / _LAB, troubles)


def write_plumb(rundir: Path, troubles: Iterable[Trouble]) -> None:
    """What the last `plumb` could not do. A run directory that is not there is not made for no trouble at all."""
    listed = list(troubles)
    if listed or (rundir / _PLUMB).exists():
        rundir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(rundir / _PLUMB, listed)


def sentences(troubles: Iterable[Trouble], mended_by: str) -> Iterator[str]:
    """One for each cause."""
    causes: dict[tuple[bool, str], list[str]] = {}
    for one in troubles:
        causes.setdefault((one.object.startswith("port "), one.problem), []).append(one.object)
    for (is_port, problem), objects in causes.items():
        names, verb = ", the ".join(objects), "is" if len(objects) == 1 else "are"
        yield (f"The {names} {verb} {'closed' if is_port else 'not set up'}, all else stands: {problem}; "
               f"`tunbridge {mended_by}` tries again when the cause is gone.")


def _write(path: Path, troubles: Iterable[Trouble]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps([asdict(one) for one in troubles], indent=1))
    new.replace(path)
