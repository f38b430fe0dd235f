"""topology.yaml in, a topology or all of its problems out. Whatever the bytes are, nothing here raises."""
from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from controller.model import source
from controller.model.allotting import allot
from controller.model.bounds import MAX_BYTES
from controller.model.checking import check
from controller.model.problems import ERROR, Finding, Position, Problem, has_errors, severity_of
from controller.model.resolving import resolve
from controller.model.shapes import Shaper
from controller.model.topology import Topology

UNREADABLE = "TB100"
FOLLOWING = ("TB112", "TB113")  # a value that YAML could not give is missing or nothing


@dataclass(frozen=True)
class Reading:
    """What came of a file. `topology` is None if and only if one of the problems is an error."""

    topology: Topology | None
    problems: tuple[Problem, ...]  # errors and warnings, in the order of the file
    content: bytes = b""  # what was read, once

    @property
    def ok(self) -> bool:
        return self.topology is not None


def load(path: str | os.PathLike[str]) -> Reading:
    """Read a file once and parse it. A file that is missing or cannot be read is a problem, too (TB100)."""
    name = os.fspath(path)
    try:
        with Path(name).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        return Reading(None, (_unreadable(name, error),))
    return parse(content, name)


def parse(text: bytes | str, source_name: str) -> Reading:
    """A topology from the content of a file; messages call the file by `source_name`."""
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    with _without_looking_for_garbage():
        return _parse(content, source_name)


@contextmanager
def _without_looking_for_garbage() -> Iterator[None]:
    """A file becomes millions of objects, all of them needed: looking through them takes a fifth of the time."""
    looked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looked:
            gc.enable()


def _parse(content: bytes, source_name: str) -> Reading:
    document = source.read(content)
    findings = list(document.findings)
    if document.root is None:
        return Reading(None, _problems(findings, document, source_name), content)
    shaper = Shaper(document.root)
    draft = shaper.draft()
    allotment = allot(draft)
    findings += [*_beside(document.findings, shaper.findings), *check(draft), *allotment.findings]
    problems = _problems(findings, document, source_name)
    topology = None if has_errors(problems) else resolve(draft, source_name, allotment)
    return Reading(topology, problems, content)


def _beside(yaml: Iterable[Finding], shape: Iterable[Finding]) -> list[Finding]:
    """The findings about shapes without those that only follow from an error of YAML in the same line."""
    lines = {finding.at.line for finding in yaml}
    return [each for each in shape if each.code not in FOLLOWING or each.at.line not in lines]


def _problems(findings: Iterable[Finding], document: source.Document, file: str) -> tuple[Problem, ...]:
    ordered = sorted(set(findings), key=lambda each: (each.at, each.code, each.message))
    if not ordered:
        return ()
    lines = document.lines()
    return tuple(_problem(finding, lines, file) for finding in ordered)


def _problem(finding: Finding, lines: list[str], file: str) -> Problem:
    """A finding with its line; a position past the end, as of a list that is never closed, becomes the end."""
    at = finding.at
    if at.line > len(lines):
        at = Position(len(lines), len(lines[-1]) + 1)
    while at.line > 1 and not lines[at.line - 1].strip() and at.line == len(lines):
        at = Position(at.line - 1, len(lines[at.line - 2]) + 1)  # not at the empty line after the last line break
    excerpt = lines[at.line - 1]
    column = max(1, min(at.column, len(excerpt) + 1))
    severity = severity_of(finding.code)
    return Problem(finding.code, severity, file, at.line, column, finding.message, finding.hint, excerpt)


def _unreadable(file: str, error: OSError | ValueError) -> Problem:
    if isinstance(error, FileNotFoundError):
        message, hint = "there is no such file", "name another one, or start from the topology.yaml of tunbridge"
    else:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        message, hint = f"the file cannot be read: {reason.lower()}", "name a file that you may read"
    return Problem(UNREADABLE, ERROR, file, 1, 1, message, hint)
