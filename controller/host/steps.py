"""A step: one ordinary command with the reason for it. Plans are tuples of steps; `execute` runs them."""
from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """A command as an argument list; never a shell string."""

    argv: tuple[str, ...]
    why: str
    lines: tuple[str, ...] = ()  # standard input, for commands that read a batch
    tolerant: bool = False  # a failure is fine: what was to be removed is gone already


def vsctl(commands: Iterable[Sequence[str]], why: str) -> tuple[Step, ...]:
    """One ovs-vsctl transaction: all of it happens, or nothing. No commands, no step."""
    joined = [word for command in commands for word in ("--", *command)]
    return (Step(("ovs-vsctl", "--timeout=30", *joined), why),) if joined else ()


def ip_batch(lines: Iterable[str], why: str, *, tolerant: bool = False) -> tuple[Step, ...]:
    """Many `ip` commands in one process; a tolerant batch goes on after a line that fails. No lines, no step."""
    batch = tuple(lines)
    argv = ("ip", "-force", "-batch", "-") if tolerant else ("ip", "-batch", "-")
    return (Step(argv, why, batch, tolerant),) if batch else ()


def sysctl(settings: Iterable[str], why: str) -> tuple[Step, ...]:
    """Kernel settings as `path/of/key=value`; keys this kernel lacks (no IPv6) are passed over."""
    wanted = tuple(settings)
    return (Step(("sysctl", "-e", "-q", "-w", *wanted), why),) if wanted else ()


def as_commands(step: Step) -> tuple[str, ...]:
    """What a person would type for it, one line a command."""
    if step.argv[0] == "ip" and step.lines:
        return tuple(f"ip {line}" for line in step.lines)
    return (shlex.join(step.argv),)


def to_json(step: Step) -> dict[str, Any]:
    """The step as JSON values, as mininet/lab.py reads them."""
    return asdict(step)
