"""Flows as plain JSON values, wanted and installed side by side: what `tunbridge flows` and its peers read."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from controller.model.naming import Naming
from controller.switch.events import Row
from flows.compile import reading_order
from flows.cookie import cookie_of, is_compiled, is_learned, is_neighbour
from flows.flow import Flow
from flows.text import actions_text, match_words

Json = dict[str, Any]


def merge(want: dict[int, Flow], rows: Iterable[Row], learned: Callable[[Row], str]) -> list[Json]:
    """Every wanted flow and every installed row, once.

    `status` is installed, altered (it does something else than its flow, `wanted_actions`), missing, surplus, learned
    or stranger. A row without text is known to be as its flow. `learned` puts a learned row into words.
    """
    merged, seen = [], set()
    for row in rows:
        flow = want.get(row.cookie)
        if flow and (not row.actions or _is_at(row, flow)):
            seen.add(row.cookie)
            merged.append({**flow_json(flow, row.cookie), **_counters(row), **_altered(row, flow)})
        else:
            merged.append({"cookie": f"{row.cookie:#018x}", "table": row.table, "priority": row.priority,
                           "match": row.match, "actions": row.actions, **_counters(row), **_unwanted(row, learned)})
    for flow in sorted((flow for cookie, flow in want.items() if cookie not in seen), key=reading_order):
        merged.append({**flow_json(flow), "packets": 0, "bytes": 0, "seconds": 0, "status": "missing"})
    return sorted(merged, key=lambda one: (one["table"], -one["priority"], one["match"]))


def _is_at(row: Row, flow: Flow) -> bool:
    """Whether a row has table, priority and match of a flow."""
    return (row.table, row.priority, row.match) == (flow.table.id, flow.priority, ",".join(match_words(flow.match)))


def _altered(row: Row, flow: Flow) -> Json:
    if not row.actions:
        return {"status": "installed"}
    return {"status": "altered", "actions": row.actions, "wanted_actions": actions_text(flow.actions)}


def flow_json(flow: Flow, cookie: int = 0) -> Json:
    """A flow as plain values; its cookie is computed if it is not known."""
    return {"cookie": f"{cookie or cookie_of(flow):#018x}", "table": flow.table.id, "priority": flow.priority,
            "match": ",".join(match_words(flow.match)), "actions": actions_text(flow.actions),
            "origin": flow.origin, "why": flow.why}


def _counters(row: Row) -> Json:
    return {"packets": row.packets, "bytes": row.bytes, "seconds": row.seconds}


def _unwanted(row: Row, learned: Callable[[Row], str]) -> Json:
    if is_learned(row.cookie) or is_neighbour(row.cookie):
        return {"status": "learned", "origin": "", "why": learned(row)}
    if is_compiled(row.cookie):
        return {"status": "surplus", "origin": "", "why": "ours, but not wanted now"}
    return {"status": "stranger", "origin": "", "why": "not ours; left alone"}


def named(flow: Json, naming: Naming) -> Json:
    """The same with the names of its numbers: `names`, words of ports and networks -> name."""
    found = naming.of(f"{flow['match']} {flow['actions']}")
    known = {kind: words for kind, words in (("ports", found.ports), ("networks", found.networks)) if words}
    return {**flow, "names": known} if known else flow
