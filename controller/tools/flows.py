"""`tunbridge flows`: tables with names, counters and each flow's reason; intended, installed, or the difference."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from rich.markup import escape

from controller.model import placement
from controller.model.topology import Topology
from controller.switch.rows import flow_json
from controller.tools.errors import BAD_INPUT, Refusal
from flows.compile import compile_host
from flows.tables import table

Json = dict[str, Any]
_DRIFT: Final = ("missing", "altered", "surplus")


def split_target(target: str | None) -> tuple[str | None, str | None]:
    """`compute1/br-tun` -> (compute1, br-tun); a host alone means all its bridges; None means all hosts."""
    if target is None:
        return None, None
    host, _, bridge = target.partition("/")
    return host, bridge or None


def check_target(host: str | None, bridge: str | None, known: Iterable[tuple[str, str]]) -> None:
    """Refusal if there is no such host, or it has no such bridge; `known` are all (host, bridge)."""
    bridges: dict[str, list[str]] = {}
    for name, own in known:
        bridges.setdefault(name, []).append(own)
    if host is not None and host not in bridges:
        raise Refusal(f"There is no host {host}, only {', '.join(bridges)}.", BAD_INPUT)
    if host is not None and bridge is not None and bridge not in bridges[host]:
        raise Refusal(f"{host} has no bridge {bridge}, only {', '.join(bridges[host])}.", BAD_INPUT)


def intended(topology: Topology, host: str | None = None, bridge: str | None = None) -> list[Json]:
    """What every asked bridge shall hold, with the numbers that a freshly built host would have. No switch is asked."""
    check_target(host, bridge, topology.bridges.values())
    found = []
    for name in topology.hosts:
        if host in (None, name):
            tables = compile_host(placement.place(topology, name, placement.imagined(topology, name)))
            found += [{"host": name, "bridge": one, "flows": [flow_json(flow) for flow in flows]}
                      for one, flows in tables.items() if bridge in (None, one)]
    return found


def differing(bridges: Iterable[Json]) -> list[Json]:
    """Only what is not as wanted: missing, altered, surplus and strangers."""
    return [{**bridge, "flows": [flow for flow in bridge["flows"] if flow["status"] in {*_DRIFT, "stranger"}]}
            for bridge in bridges]


def in_sync(bridges: Iterable[Json]) -> bool:
    """Whether every bridge was asked and holds exactly what is wanted of us; strangers are not ours to judge."""
    return all(bridge.get("connected", True) and
               not any(flow["status"] in _DRIFT for flow in bridge["flows"]) for bridge in bridges)


def ofctl_lines(bridge: Json) -> Iterator[str]:
    """A bridge in the form that `ovs-ofctl add-flows` reads."""
    for flow in bridge["flows"]:
        match = f",{flow['match']}" if flow["match"] else ""
        yield (f"cookie={flow['cookie']},table={flow['table']},priority={flow['priority']}{match}"
               f" actions={flow['actions']}")


def lines(bridges: Iterable[Json], source: str) -> Iterator[str]:
    """For people, with rich's markup: a table's question, then each flow's reason above its match and actions."""
    for bridge in bridges:
        yield f"[bold]{bridge['host']}/{bridge['bridge']}[/bold]" + (
            "" if bridge.get("connected", True) else "  [red]not connected[/red]")
        current = None
        for flow in bridge["flows"]:
            if flow["table"] != current:
                current = flow["table"]
                yield f"  [cyan]table {current} {_question(bridge['bridge'], current)}[/cyan]"
            yield from _flow_lines(flow, source)
        yield ""


def _question(bridge: str, number: int) -> str:
    try:
        found = table(bridge, number)
    except KeyError:
        return "(not one of ours)"
    return f"{found.name}: {found.question}"


_COLOURS = {**dict.fromkeys(_DRIFT, "red"), "stranger": "yellow", "learned": "green"}


def _flow_lines(flow: Json, source: str) -> Iterator[str]:
    status = flow.get("status", "intended")
    mark = "" if status not in _COLOURS else f"[{_COLOURS[status]}]{status.upper()}[/] "
    count = f"  ({flow['packets']} packets)" if "packets" in flow else ""
    origin = f"  [dim]{escape(source)}: {flow['origin']}[/dim]" if flow["origin"] not in ("", "pipeline") else ""
    yield f"    {mark}{escape(flow['why'])}{count}{origin}"
    yield f"      [dim]{flow['priority']:>2} {escape(flow['match']) or 'any packet'} -> {escape(flow['actions'])}[/dim]"
    if "wanted_actions" in flow:
        yield f"      [red]instead of[/red] [dim]{escape(flow['wanted_actions'])}[/dim]"
