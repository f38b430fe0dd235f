"""The one place where steps become processes."""
from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.host.steps import Step


class StepFailed(Exception):
    """A step failed; the text says what it was for, the command and what it answered."""


@dataclass(frozen=True)
class Place:
    """Where steps run: this machine, or a node of a lab by way of a command in front and an environment."""

    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = field(default=None, compare=False)


def execute(steps: Iterable[Step], place: Place = Place()) -> int:
    """Run steps in order; how many there were. Stops at the first that fails, with StepFailed."""
    count = 0
    for step in steps:
        output(step, place)
        count += 1
    return count


def output(step: Step, place: Place = Place()) -> str:
    """Run one step; what it wrote to its standard output."""
    try:
        if step.background:
            _begin(step, place)
            return ""
        done = subprocess.run([*place.prefix, *step.argv], input="".join(f"{line}\n" for line in step.lines),
                              capture_output=True, text=True, check=False, env=place.environment)
    except FileNotFoundError as error:
        if step.tolerant:
            return ""
        raise StepFailed(f"{step.why}: there is no command {error.filename!r} on this machine; "
                         f"install the package that has it.") from error
    if done.returncode and not step.tolerant:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise StepFailed(f"{step.why}: {complaint(step, said)}")
    return done.stdout


def complaint(step: Step, said: str) -> str:
    """Which command failed and what it said, on one line; of a batch of `ip`, the one command of it."""
    words, command = said.splitlines(), shlex.join(step.argv)
    if step.lines and words and (found := re.fullmatch(r"Command failed -:(\d+)", words[-1])):
        command = f"{shlex.join(step.argv[:-2])} {step.lines[int(found[1]) - 1]}"
        words = words[:-1] or ["it did not say why"]
    return f"`{command[:300]}` failed: {'; '.join(words)}"


def _begin(step: Step, place: Place) -> None:
    with open(os.devnull, "r+b") as nothing:
        subprocess.Popen([*place.prefix, *step.argv], stdin=nothing, stdout=nothing, stderr=nothing,
                         env=place.environment, start_new_session=True)
