"""What `tunbridge explain` reads and shows; `explain` has the meaning."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from rich.markup import escape

from controller.tools import topologies
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.explain import Told, explain
from controller.tools.labels import Labels
from controller.tools.ours import Ours

MOST: Final = 256 << 20  # bytes of a file that is read
USUAL: Final = "topology.yaml"


def told(file: str, names: Iterable[str], bridge: str, topology: str | None, stdin: TextIO,
         say: Callable[[str], None]) -> list[Told]:
    """Every flow of a file, explained as far as it can be. Refusal if one of the files cannot be used."""
    text, labels = text_of(file, stdin), labels_of(names, stdin)
    cloud = topology or (USUAL if Path(USUAL).exists() else None)
    read = topologies.valid(cloud, say) if cloud and (topology or _has_ours(text)) else None
    return explain(text, labels, Ours(read, cloud or "", labels), bridge)


def _has_ours(text: str) -> bool:
    """Whether a cookie of ours is in it (flows.cookie.OWNER): only then a topology must be read."""
    return "cookie=0x54" in text


def text_of(file: str, stdin: TextIO) -> str:
    """A file's text, or stdin's for `-`. Refusal if it cannot be read, or is no text."""
    try:
        data = stdin.buffer.read(MOST + 1) if file == "-" else _some(file)
    except OSError as error:
        raise Refusal(f"{file}: {(error.strerror or str(error)).lower()}.", BAD_INPUT) from error
    if len(data) > MOST:
        raise Refusal(f"{file}: it is too big, more than {MOST >> 20} MiB.", BAD_INPUT)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(f"{'stdin' if file == '-' else file}: byte {error.start} is not UTF-8.", BAD_INPUT) from error


def _some(file: str) -> bytes:
    with Path(file).open("rb") as opened:
        return opened.read(MOST + 1)


def labels_of(files: Iterable[str], stdin: TextIO) -> Labels:
    """The names that files tell. Refusal if one of them tells none."""
    found = Labels()
    for file in files:
        found.read(text_of(file, stdin), file)
    return found


def document(told: list[Told]) -> dict[str, Any]:
    """For programs."""
    return {"ok": all(one.known for one in told), "flows": len(told), "unknown": sum(not one.known for one in told),
            "lines": [{"line": one.line, "bridge": one.bridge, "table": one.table, "title": one.title,
                       "sentence": one.sentence, "owner": one.owner, "known": one.known, "packets": one.packets,
                       "origin": one.origin, "text": one.text} for one in told]}


def lines(told: Iterable[Told]) -> Iterator[str]:
    """For people, with rich's markup: the table, then each sentence above its flow."""
    bridge, table = None, object()
    for one in told:
        if one.bridge != bridge:
            if bridge is not None:
                yield ""
            bridge, table = one.bridge, object()
            yield f"[bold]{escape(one.bridge)}[/bold]"
        if one.table != table:
            table = one.table
            if one.table is not None:
                yield f"  [cyan]table {one.table}{' ' if one.title else ''}{escape(one.title)}[/cyan]"
        yield from _one(one)


def _one(one: Told) -> Iterator[str]:
    mark = "" if one.known else "[yellow]?[/yellow] "
    count = f"  ({one.packets} packet{'s' * (one.packets != 1)})" if one.packets else ""
    origin = f"  [dim]{escape(one.origin)}[/dim]" if one.origin else ""
    yield f"    {mark}{escape(one.sentence)}{count}{origin}"
    yield f"      [dim]line {one.line}: {escape(bare(one.text))}[/dim]"


def bare(text: str) -> str:
    """The flow without what only counts."""
    _, found, flow = text.rpartition(", ") if "actions=" in text else ("", "", text)
    place = text.find("priority=")
    if place >= 0:
        return text[place:]
    return flow if found and "actions=" in flow else text
