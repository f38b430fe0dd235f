"""`tunbridge trace --html FILE`: a journey as one page that needs no server, no network and no other file.

What is read is HTML that stands there as it is; the script walks the packet over the map. A browser is told to fetch
nothing, whatever the page says.
"""
from __future__ import annotations

import json
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, Final

from controller.model.topology import Topology
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.page_map import Map
from controller.tools.page_steps import name_of, steps

Json = dict[str, Any]
_ASSETS: Final = "assets"
_VERDICTS: Final = {"delivered": "good", "answered": "good", "dropped": "bad"}
# Of a hop, and of a leg, what the script needs.
_HOP: Final = ("host", "device", "kind", "table", "table_id", "question", "why", "flow", "headers", "leg", "after")
_LEG: Final = ("first", "last", "outcome")


def page(document: Json, topology: Topology) -> str:
    """The page of a journey's JSON (docs/trace.md)."""
    maps = {kind: Map(topology, document, narrow=kind == "narrow").drawn() for kind in ("wide", "narrow")}
    data = {"hops": [{key: hop[key] for key in _HOP} for hop in document["hops"]],
            "legs": [{key: leg[key] for key in _LEG} for leg in document["legs"]],
            "names": {name: name_of(name) for hop in document["hops"] for name in hop["headers"]},
            "points": {kind: drawn.points for kind, drawn in maps.items()}}
    title = f"{document['source']} to {document['target']}: {document['service']}"
    return Template(_asset("page.html")).substitute(
        title=escape(title), source=escape(document["source"]), target=escape(document["target"]),
        service=escape(document["service"]), verdict=escape(document["verdict"]),
        style=_VERDICTS.get(document["verdict"], ""), reason=escape(_sentence(document["reason"])),
        cloud=escape(topology.cloud), file=escape(topology.source), live=_live(document["live"]),
        css=_asset("page.css"), js=_asset("page.js"), wide=maps["wide"].svg, narrow=maps["narrow"].svg,
        steps="".join(steps(document, topology.source)), empty="" if document["hops"] else " empty",
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"))


def write(document: Json, topology: Topology, file: str) -> None:
    """The page of a journey into a file. Refusal if it cannot be written."""
    try:
        Path(file).write_text(page(document, topology), "utf-8")
    except OSError as error:
        raise Refusal(f"The page cannot be written to {file}: {error.strerror or error}. Name another file.",
                      BAD_INPUT) from None


def _asset(name: str) -> str:
    return resources.files("controller.tools").joinpath(_ASSETS, name).read_text("utf-8")


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."  # it may begin with a name, so its first letter stays


def _live(live: Json | None) -> str:
    """What the running lab showed, beside what was computed."""
    if live is None:
        return ""
    head = "What was observed agrees with what was computed." if live["agrees"] else "What was observed differs:"
    told = [("bad", one) for one in live["differs"]] + [("", one) for one in live["unknown"]]
    items = "".join(f'<li class="{style}">{escape(_sentence(words))}</li>' for style, words in told)
    listed = f"<ul>{items}</ul>" if items else ""
    return f'<div class="live {"good" if live["agrees"] else "bad"}"><p>{head}</p>{listed}</div>'
