"""`tunbridge flows --watch`: what flows count from one look to the next, and which of them nobody uses."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from controller.tools.flows_lines import Line, duration, rate, size
from flows.tables import table

Json = dict[str, Any]
Key = tuple[str, str, int, int, str]  # host, bridge, table, priority, match
_RATE_WIDTH: Final = 9
_PLACE_WIDTH: Final = 34


@dataclass
class Watch:
    """Looks at the same flows, one after the other."""

    _before: dict[Key, tuple[Json, float]] = field(default_factory=dict)  # as it was, and since when it is idle
    _at: float | None = None

    def look(self, bridges: Iterable[Json], now: float) -> list[Json]:
        """The bridges with `packets_per_second`, `bytes_per_second` and `idle_seconds` at each flow.

        The rates are None at the first look, and where a flow has begun to count anew. `now` in seconds.
        """
        found: dict[Key, tuple[Json, float]] = {}
        looked = []
        for bridge in bridges:
            flows = []
            for flow in bridge["flows"]:
                key = (bridge["host"], bridge["bridge"], flow["table"], flow["priority"], flow["match"])
                rated, since = self._rated(flow, self._before.get(key), now)
                found[key] = flow, since
                flows.append({**rated, "idle_seconds": round(now - since, 1)})
            looked.append({**bridge, "flows": flows})
        self._before, self._at = found, now
        return looked

    def _rated(self, flow: Json, before: tuple[Json, float] | None, now: float) -> tuple[Json, float]:
        if before is None or self._at is None or flow["packets"] < before[0]["packets"]:
            since = now - (flow["seconds"] if not flow["packets"] else 0)
            return {**flow, "packets_per_second": None, "bytes_per_second": None}, since
        span = max(now - self._at, 1e-3)
        packets = (flow["packets"] - before[0]["packets"]) / span
        volume = (flow["bytes"] - before[0]["bytes"]) / span
        return ({**flow, "packets_per_second": round(packets, 3), "bytes_per_second": round(volume, 3)},
                now if packets else before[1])


def rounds(read: Callable[[], list[Json]], every: float, count: int) -> Iterator[list[Json]]:
    """Look after look, so many seconds apart; `count` of them that have rates, or (0) without end."""
    watch, done = Watch(), 0
    while True:
        begun = time.monotonic()
        yield watch.look(read(), begun)
        if count and done >= count:
            return
        done += 1
        time.sleep(max(0.0, every - (time.monotonic() - begun)))


def document(bridges: list[Json]) -> Json:
    """A look as plain values for JSON."""
    return {"at": datetime.now().astimezone().isoformat(timespec="milliseconds"), "bridges": bridges}


def lines(bridges: list[Json], idle: bool) -> Iterator[Line]:
    """A look for people: who is busy, the busiest first; then, if they are wanted, who is idle."""
    flows = [(bridge, flow) for bridge in bridges for flow in bridge["flows"] if flow.get("status") != "missing"]
    busy = sorted((one for one in flows if one[1]["packets_per_second"]),
                  key=lambda one: -one[1]["packets_per_second"])
    resting = [one for one in flows if one[1]["packets_per_second"] == 0]
    yield _head(len(flows), len(busy), len(resting))
    for bridge in bridges:
        if not bridge.get("connected", True):
            yield (("red", f"{bridge['host']}/{bridge['bridge']}: {bridge.get('trouble') or 'not connected'}"),)
    for bridge, flow in busy:
        yield (("green", f"{rate(flow['packets_per_second']):>{_RATE_WIDTH}} "),
               ("", f"{size(flow['bytes_per_second']) + '/s':>{_RATE_WIDTH}}  "), *_what(bridge, flow))
    for bridge, flow in resting if idle else ():
        yield (("yellow", f"{'idle ' + duration(int(flow['idle_seconds'])):>{2 * _RATE_WIDTH + 1}}  "),
               *_what(bridge, flow))


def _head(flows: int, busy: int, resting: int) -> Line:
    told = f"{busy} busy, {resting} idle" if busy or resting else "the first look; rates come with the next"
    return (("bold", f"{datetime.now():%H:%M:%S}  {flows} flows, {told}"),)


def _what(bridge: Json, flow: Json) -> Line:
    place = f"{bridge['host']}/{bridge['bridge']} {flow['table']} {_name(bridge['bridge'], flow['table'])}"
    return ("dim", f"{place:<{_PLACE_WIDTH}}  "), ("", flow["why"])


def _name(bridge: str, number: int) -> str:
    try:
        return table(bridge, number).name
    except KeyError:
        return ""
