"""Documents whose commands are run: each `$ line` of a ```console block, and what it printed below it.

`renew` writes what the commands print now; `differing` tells where a document says something else. What changes from
run to run (numbers and their plurals, addresses that count, how wide a column is) is not compared, the words are. A
command that ends with ` &` goes on while the next one runs; its output stands below it all the same. Lines that begin
with `#` are words.
"""
from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60  # seconds for one command
USUAL = "/run/tunbridge"  # the run directory of the documents
_BLOCK = re.compile(r"(^```console\n)(.*?)(^```$)", re.M | re.S)
_PLURAL = re.compile(r"\bpackets\b")
_WORD = re.compile(r"[0-9a-fx:.\-]*\d[0-9a-fx:.,\-]*")


@dataclass
class Said:
    """A command of a document, and the lines below it."""

    command: str
    output: list[str] = field(default_factory=list)


def blocks(text: str) -> Iterator[list[Said]]:
    for _, body, _ in _BLOCK.findall(text):
        said: list[Said] = []
        for line in body.splitlines():
            if line.startswith("$ "):
                said.append(Said(line[2:]))
            elif said:
                said[-1].output.append(line)
        yield said


def run(said: list[Said], environment: Mapping[str, str]) -> list[Said]:
    """The same commands with what they print today, stdout and stderr as a terminal would have them."""
    found, waiting = [], []
    for one in said:
        begun = subprocess.Popen(["bash", "-c", _shell(one.command.removesuffix(" &"))], cwd=ROOT, text=True,
                                 env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT)
        found.append(Said(one.command))
        waiting.append((begun, found[-1]))
        if not one.command.endswith(" &"):
            for process, its in waiting:
                its.output = process.communicate(timeout=PATIENCE)[0].rstrip().splitlines()
            waiting.clear()
    return found


def _shell(command: str) -> str:
    """`tunbridge` is the one of this checkout, whatever is installed."""
    return f'tunbridge() {{ {shlex.quote(sys.executable)} -m controller "$@"; }}; {command}'


def renew(text: str, environment: Mapping[str, str], rundir: str = "") -> str:
    """The document with today's outputs; a run directory of the test's own is told as the usual one."""
    fresh = iter([run(block, environment) for block in blocks(text)])

    def printed(found: re.Match[str]) -> str:
        lines = [line for one in next(fresh) for line in (f"$ {one.command}", *one.output)]
        told = "\n".join(line.rstrip() for line in lines)
        return found[1] + (told.replace(rundir, USUAL) if rundir else told) + "\n" + found[3]

    return _BLOCK.sub(printed, text)


def differing(text: str, fresh: str) -> list[str]:
    """A line for each command that prints other words today than the document says."""
    pairs = zip((one for block in blocks(text) for one in block),
                (one for block in blocks(fresh) for one in block), strict=True)
    return [f"{old.command}: {_first(old.output, new.output)}" for old, new in pairs
            if _words(old.output) != _words(new.output)]


def _words(lines: list[str]) -> list[str]:
    return [" ".join(_PLURAL.sub("packet", _WORD.sub("#", line)).split()) for line in lines]


def _first(old: list[str], new: list[str]) -> str:
    for before, now in zip(old, new, strict=False):
        if _words([before]) != _words([now]):
            return f"{before.strip()!r} is now {now.strip()!r}"
    return f"{len(old)} lines are now {len(new)}"
