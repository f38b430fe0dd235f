"""A step: one ordinary command with the reason for it. Plans are tuples of steps; `execute` runs them."""
from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from controller.host.plain import plain


@dataclass(frozen=True)
class Step:
    """A command as an argument list; never a shell string."""

    argv: tuple[str, ...]
    why: str
    lines: tuple[str, ...] = ()  # standard input, for commands that read a batch
    tolerant: bool = False  # a failure is fine: what was to be removed is gone already
    background: bool = False  # goes on by itself; nobody waits for it or asks how it ended


def vsctl(commands: Iterable[Sequence[str]], why: str) -> tuple[Step, ...]:
    """One ovs-vsctl transaction: all of it happens, or nothing. No commands, no step."""
    joined = [word for command in commands for word in ("--", *command)]
    return (Step(("ovs-vsctl", "--timeout=30", *joined), why),) if joined else ()


def ip_batch(lines: Iterable[str], why: str, *, tolerant: bool = False, inside: str = "") -> tuple[Step, ...]:
    """Many `ip` commands in one process; a tolerant batch goes on after a line that fails. No lines, no step.

    `inside`: the name of the namespace where they are done.
    """
    batch = tuple(lines)
    argv = ("ip", *(("-netns", inside) if inside else ()), *(("-force",) if tolerant else ()), "-batch", "-")
    return (Step(argv, why, batch, tolerant),) if batch else ()


def sysctl(settings: Iterable[str], why: str, *, inside: str = "") -> tuple[Step, ...]:
    """Kernel settings as `path/of/key=value`; keys this kernel lacks (no IPv6) are passed over."""
    wanted = tuple(settings)
    argv = ("sysctl", "-e", "-q", "-w", *wanted)
    return (Step((*entering(inside), *argv), why),) if wanted else ()


def entering(namespace: str) -> tuple[str, ...]:
    """What stands before a command that is done in a namespace; nothing if there is no namespace to enter."""
    return ("ip", "netns", "exec", namespace) if namespace else ()


def as_commands(step: Step) -> tuple[str, ...]:
    """What a person would type for it, one line a command."""
    if step.argv[0] == "ip" and "-batch" in step.argv:
        where = " ".join(word for word in step.argv[:-2] if word != "-force")
        return tuple(f"{where} {line}" for line in step.lines)
    if step.lines:
        return (f"{shlex.join(step.argv)} <<EOF", *step.lines, "EOF")
    return (shlex.join(step.argv) + (" &" if step.background else ""),)


def to_json(step: Step) -> dict[str, Any]:
    """The step as JSON values, as mininet/lab.py reads them."""
    found: dict[str, Any] = plain(step)
    return found
