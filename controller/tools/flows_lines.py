"""Flows as a person reads them: by table with its question; each flow's reason, its origin, its counters, its names."""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final

from controller.model.places import Places
from controller.model.wording import annotated
from flows.tables import table

Json = dict[str, Any]
Line = tuple[tuple[str, str], ...]  # (style, text), one after the other
_COLOURS: Final = {"missing": "red", "altered": "red", "surplus": "red", "stranger": "yellow", "learned": "green"}
_ONWARD: Final = re.compile(r"goto_table:(\d+)|resubmit\(,(\d+)\)")
_UNITS: Final = (("GB", 10 ** 9), ("MB", 10 ** 6), ("kB", 10 ** 3))
_ABOUT_ONE: Final = 0.95  # a second; below, it is told by the minute
_TIMES: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))
NOTHING: Final = ("", "pipeline", "learned")  # origins that are no place in a file


def lines(parts: Iterable[Json], places: Places, source: str, empty: str = "no flows") -> Iterator[Line]:
    """Every bridge; `places`: of the topology's file, `source`: its name. `empty` is said of a bridge with no flow."""
    for (host, bridge), mine in groupby(parts, lambda part: (part["host"], part["bridge"])):
        yield (("bold", f"{host}/{bridge}"),)
        current, away = -1, False
        for part in mine:
            if not part.get("connected", True):
                away = True
                yield (("red", f"  {part.get('trouble') or 'not connected'}"),)
            for flow in part["flows"]:
                if flow["table"] != current:
                    current = flow["table"]
                    yield (("cyan", f"  table {current} {question(bridge, current)}"),)
                yield from _flow_lines(flow, bridge, where(flow, places, source))
        yield from ((("dim", f"  {empty}"),),) if current < 0 and not away else ()
        yield (("", ""),)


def question(bridge: str, number: int) -> str:
    """`unicast: Do we know which host has this MAC?`"""
    try:
        found = table(bridge, number)
    except KeyError:
        return "(not one of ours)"
    return f"{found.name}: {found.question}"


def line_of(flow: Json, places: Places) -> int | None:
    """The line of the file that a flow comes from; None where there is none, or it cannot be read."""
    return places.line_of(flow["origin"]) if flow["origin"] not in NOTHING else None


def where(flow: Json, places: Places, source: str) -> str:
    """`topology.yaml:83 vms.web1`; empty if a flow has no place in the file."""
    path = flow["origin"]
    if path in NOTHING:
        return ""
    line = line_of(flow, places)
    return f"{source}:{line} {path}" if line else f"{source}: {path}"


def _flow_lines(flow: Json, bridge: str, origin: str) -> Iterator[Line]:
    status = flow.get("status", "")
    mark = ((_COLOURS[status], f"{status.upper()} "),) if status in _COLOURS else ()
    counted = ((("yellow" if idle(flow) else "", f"  ({counters(flow)})"),)) if "packets" in flow else ()
    yield (("", "    "), *mark, ("", flow["why"]), *counted, *((("dim", f"  {origin}"),) if origin else ()))
    match = words(flow["match"], flow, bridge) or "any packet"
    yield (("dim", f"      {flow['priority']:>2} {match} -> {words(flow['actions'], flow, bridge)}"),)
    if "wanted_actions" in flow:
        yield (("red", "      instead of "), ("dim", words(flow["wanted_actions"], flow, bridge)))


def words(text: str, flow: Json, bridge: str) -> str:
    """A match, or actions, with the names of ports, networks and tables behind their numbers."""
    names = flow.get("names", {})
    told = annotated(text, {**names.get("ports", {}), **names.get("networks", {})})
    return _ONWARD.sub(lambda word: f"{word[0]} ({_title(bridge, int(word[1] or word[2]))})", told)


def _title(bridge: str, number: int) -> str:
    try:
        return table(bridge, number).name
    except KeyError:
        return "not one of ours"


def idle(flow: Json) -> bool:
    """Whether an installed flow has not been used: since it is there, or while it was watched."""
    if "packets_per_second" in flow:
        return not flow["packets_per_second"]
    return flow.get("status") != "missing" and not flow.get("packets", 0)


def counters(flow: Json) -> str:
    """`1,204 packets, 118 kB, on average 2.3/s`; of an idle flow, for how long."""
    if flow.get("status") == "missing":
        return "not there"
    packets, age = flow["packets"], flow["seconds"]
    count = f"{packets:,} packet{'s' * (packets != 1)}"
    if not packets:
        return f"idle: no packet in {duration(age)}"
    return f"{count}, {size(flow['bytes'])}, on average {rate(packets / max(age, 1))}"


def size(count: float) -> str:
    """Bytes for people: `118 kB`."""
    for unit, factor in _UNITS:
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} B"


def rate(per_second: float) -> str:
    """`2.3/s`, and of what is rarer, `4/min`."""
    if per_second >= _ABOUT_ONE:
        return f"{per_second:,.1f}/s" if per_second < 1000 else f"{per_second:,.0f}/s"
    return f"{per_second * 60:.2g}/min" if per_second * 60 >= 1 else f"{per_second * 3600:.2g}/h"


def duration(seconds: int) -> str:
    """`42 s`, `3 min`, `2.5 h`."""
    for factor, unit in _TIMES:
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds} s"
