"""A plan as a person reads it: what comes and goes in each table, who gains or loses whom, and what is interrupted."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.markup import escape

Json = dict[str, Any]
_SHOWN: Final = 6  # flows of a table
_PAIRS: Final = 20
_NAMED: Final = 6  # ports
_SIGNS: Final = {"add": ("+", "green"), "delete": ("-", "red"), "change": ("~", "yellow")}


def lines(planned: Json) -> Iterator[str]:
    """With rich's markup."""
    for switch in planned["switches"]:
        if switch["add"] or switch["delete"]:
            yield from _switch(switch, [row for row in planned["tables"] if (row["host"], row["bridge"]) == (
                switch["host"], switch["bridge"])])
    for name in planned["left_alone"]:
        yield f"[yellow]{escape(name)}[/yellow] is not in the file: its switches keep their flows and are left alone"
    for word, colour, key in (("gains", "green", "gain"), ("loses", "red", "lose")):
        pairs = planned[key]
        yield from (f"{escape(source)} [{colour}]{word}[/{colour}] {escape(target)}"
                    for source, target in pairs[:_PAIRS])
        if len(pairs) > _PAIRS:
            yield f"and so on: {len(pairs)} pairs in all"
    if not any(switch["add"] or switch["delete"] for switch in planned["switches"]):
        yield "No flow would change."
    yield from (f"[green]opens[/green]  {_told(one)}" for one in planned["opened"])
    yield from _hitless(planned["hitless"])


def _switch(switch: Json, tables: Sequence[Json]) -> Iterator[str]:
    yield (f"[bold]{escape(switch['host'])}/{escape(switch['bridge'])}[/bold]  {len(switch['add'])} flows come, "
           f"{len(switch['delete'])} go" + _awaited(switch["awaited"]))
    places = {key: {_place(flow) for flow in switch[key]} for key in ("add", "delete")}
    for row in tables:
        counts = "  ".join(f"[{colour}]{sign}{row[key]}[/{colour}]" for key, (sign, colour) in _SIGNS.items()
                           if row[key])
        yield f"  table {row['table']:>2} {escape(row['name'])}  {counts}"
        for key, other in (("add", "delete"), ("delete", "add")):
            found = [flow for flow in switch[key] if flow["table"] == row["table"]]
            changed = [flow for flow in found if _place(flow) in places[other]]
            yield from _flows(key, [flow for flow in found if _place(flow) not in places[other]])
            if key == "add":
                yield from _flows("change", changed)


def _awaited(devices: Sequence[str]) -> str:
    if not devices:
        return ""
    more = f" and {len(devices) - _NAMED} more" if len(devices) > _NAMED else ""
    return f", as soon as {escape(', '.join(devices[:_NAMED]))}{more} is plugged in"


def _place(flow: Json) -> tuple[int, int, str]:
    """A flow that comes where another stands takes its place, in one step."""
    return flow["table"], flow["priority"], flow["match"]


def _flows(key: str, flows: Sequence[Json]) -> Iterator[str]:
    sign, colour = _SIGNS[key]
    yield from (f"    [{colour}]{sign}[/{colour}] {escape(flow['why'])}" for flow in flows[:_SHOWN])
    if len(flows) > _SHOWN:
        yield f"    [{colour}]{sign}[/{colour}] and {len(flows) - _SHOWN} more (--json has all)"


def _hitless(found: Json) -> Iterator[str]:
    if found["ok"]:
        yield "[green]Hitless[/green]: nobody who may talk before and after loses a packet."
    else:
        yield "[bold red]Not hitless[/bold red]: those who may talk before and after lose packets meanwhile."
        yield from (f"  {_told(one)}" for one in found["interrupted"])
    if found["ended"]:
        yield "Conversations end that may not go on:"
        yield from (f"  {_told(one)}" for one in found["ended"])


def _told(one: Json) -> str:
    words = f"{escape(one['what'])}: {escape(one['why'])}"
    ports = one["ports"]
    if not ports or ports == [one["what"]]:
        return words
    more = f" and {len(ports) - _NAMED} more" if len(ports) > _NAMED else ""
    return f"{words}  [dim]({escape(', '.join(ports[:_NAMED]))}{more})[/dim]"
