"""What `why-not` says: for programs, and for people."""
from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.markup import escape

from controller.model.amending import Append
from controller.tools.remedies import Remedy
from controller.tools.whynot import Answer, WhyNot, where

_CONTEXT: Final = 1  # lines around a change
_NAMED: Final = 4  # pairs that are told one by one
_COLOURS: Final = {"+": "green", "-": "red", "@": "cyan"}


def document(found: WhyNot) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "delivered": found.delivered, "verdict": found.journey.verdict, "reason": found.journey.reason,
        "source": found.case.source.name, "target": found.case.target, "where": where(found.journey),
        "by_design": found.by_design or None, "nobody": found.nobody or None,
        "tried": found.tried, "refused": list(found.refused),
        "answers": [_document(found, one) for one in found.answers]}


def _document(found: WhyNot, answer: Answer) -> dict[str, Any]:
    return {
        "edits": [{"kind": one.kind, "what": one.what, "joins_networks": one.joins, "changes": _changes(one)}
                  for one in answer.remedies],
        "source": answer.case.source.name, "target": answer.case.target,
        "diff": "".join(f"{line}\n" for line in diff(found, answer)),
        "verdict": answer.journey.verdict, "reason": answer.journey.reason,
        "gain": None if answer.gain is None else [list(pair) for pair in answer.gain],
        "lose": None if answer.lose is None else [list(pair) for pair in answer.lose]}


def _changes(remedy: Remedy) -> list[dict[str, Any]]:
    return [{"path": list(edit.path), "append" if isinstance(edit, Append) else "put": edit.value}
            for edit in remedy.edits]


def diff(found: WhyNot, answer: Answer) -> Iterator[str]:
    """The edit of the file, as `patch -p0` takes it."""
    return difflib.unified_diff(found.text.splitlines(), answer.text.splitlines(), found.file, found.file,
                                n=_CONTEXT, lineterm="")


def lines(found: WhyNot) -> Iterator[str]:
    """For people, with rich's markup."""
    source, target = found.case.source.name, found.case.target
    if found.delivered:
        yield f"[green]{escape(source)} reaches {escape(target)}[/green]: {escape(found.journey.reason)}"
        return
    yield f"[bold]{escape(source)} does not reach {escape(target)}[/bold]: {escape(found.journey.reason)}"
    last = where(found.journey)
    if last is not None:
        place = " ".join(dict.fromkeys(word for word in (last["host"], last["device"], last["table"]) if word))
        why = f": {escape(last['why'])}" if last["why"] not in found.journey.reason else ""
        yield f"It ends at [cyan]{escape(place)}[/cyan]{why}"
    if found.by_design:
        yield f"[yellow]By design[/yellow]: {escape(found.by_design)}."
    if found.nobody:
        yield f"There is {escape(found.nobody)}."
    yield from (f"Not possible: {escape(one)}" for one in found.refused)
    if not found.answers:
        yield f"No small edit of {escape(found.file)} would deliver it (tried: {found.tried})."
        return
    yield (f"{escape(found.file)} would deliver it so, each found good by a trace:" if len(found.answers) > 1 else
           f"{escape(found.file)} would deliver it so, found good by a trace:")
    for number, answer in enumerate(found.answers, start=1):
        yield ""
        yield from _lines(found, answer, number)


def _lines(found: WhyNot, answer: Answer, number: int) -> Iterator[str]:
    yield f"[bold]{number}. {escape('; and '.join(one.what for one in answer.remedies))}[/bold]"
    if not any(one.edits for one in answer.remedies):
        yield "   Nothing is to be edited for that."
    if any(one.joins for one in answer.remedies):
        yield "   [yellow]This joins what the file keeps apart.[/yellow]"
    for line in diff(found, answer):
        colour = _COLOURS.get(line[0], "")
        yield f"   [{colour}]{escape(line)}[/{colour}]" if colour else f"   {escape(line)}".rstrip()
    yield f"   [green]{answer.journey.verdict}[/green]: {escape(answer.journey.reason)}"
    for words, pairs in (("These can ping then, too", answer.gain), ("These cannot ping any more", answer.lose)):
        if pairs:
            yield f"   {words}: {_pairs(pairs)}."


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    named = ", ".join(f"{one} -> {other}" for one, other in pairs[:_NAMED])
    return escape(named if len(pairs) <= _NAMED else f"{named} and {len(pairs) - _NAMED} more")
