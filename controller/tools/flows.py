"""`tunbridge flows`: the tables of bridges as a daemon tells them, and what of them differs from what is wanted.

Bridges come one after the other, and a large one in portions: whoever shows them need not wait for the last flow.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from controller.tools.client import ask
from controller.tools.errors import BAD_INPUT, MISSING, Refusal
from controller.tools.rundir import Rundir

Json = dict[str, Any]
DRIFT: Final = ("missing", "altered", "surplus")
_NAMED: Final = 12  # hosts, before "and more"
_AT_ONCE: Final = 2000  # flows of a bridge that are asked for in one


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
        more = ", ..." if len(bridges) > _NAMED else ""
        raise Refusal(f"There is no host {host}, only {', '.join(list(bridges)[:_NAMED])}{more}.", BAD_INPUT)
    if host is not None and bridge is not None and bridge not in bridges[host]:
        raise Refusal(f"{host} has no bridge {bridge}, only {', '.join(bridges[host])}.", BAD_INPUT)


# ---- from a daemon

def installed(where: Rundir, host: str | None = None, bridge: str | None = None) -> tuple[str, Iterator[Json]]:
    """The topology's file as the daemon calls it, and what every asked bridge holds. Refusal if no daemon runs.

    A bridge that cannot be asked has `connected` false, and says in `trouble` why. A large one comes in portions, which
    follow each other.
    """
    status = ask(where, {"do": "status"})
    switches = status["switches"]
    check_target(host, bridge, ((switch["host"], switch["bridge"]) for switch in switches))
    asked = [one for one in switches if host in (None, one["host"]) and bridge in (None, one["bridge"])]
    return status["topology"], (part for one in asked for part in _read(where, one))


def _read(where: Rundir, switch: Json) -> Iterator[Json]:
    about = {"host": switch["host"], "bridge": switch["bridge"]}
    try:
        if switch.get("flows", 0) + switch.get("strangers", 0) <= _AT_ONCE:
            yield ask(where, {"do": "flows", **about})["bridges"][0]
            return
        for table, group, of in ask(where, {"do": "outline", **about})["portions"]:
            yield ask(where, {"do": "flows", **about, "table": table, "group": group, "of": of})["bridges"][0]
    except Refusal as refusal:
        if refusal.code != MISSING:
            raise
        yield {**about, "connected": False, "trouble": str(refusal), "flows": []}


def together(parts: Iterable[Json]) -> list[Json]:
    """Every bridge once, its portions joined."""
    found: dict[tuple[str, str], Json] = {}
    for part in parts:
        known = found.setdefault((part["host"], part["bridge"]), {**part, "flows": []})
        known.update({key: value for key, value in part.items() if key != "flows"})
        known["flows"] += part["flows"]
    return list(found.values())


# ---- what of it

def differing(bridges: Iterable[Json]) -> list[Json]:
    """Only what is not as wanted: missing, altered, surplus and strangers."""
    return [{**bridge, "flows": [flow for flow in bridge["flows"] if flow["status"] in {*DRIFT, "stranger"}]}
            for bridge in bridges]


def in_sync(bridges: Iterable[Json]) -> bool:
    """Whether every bridge was asked and holds exactly what is wanted of us; strangers are not ours to judge."""
    return all(bridge.get("connected", True) and
               not any(flow.get("status") in DRIFT for flow in bridge["flows"]) for bridge in bridges)


def ofctl_line(flow: Json) -> str:
    """A flow in the form that `ovs-ofctl add-flows` reads."""
    match = f",{flow['match']}" if flow["match"] else ""
    return f"cookie={flow['cookie']},table={flow['table']},priority={flow['priority']}{match} actions={flow['actions']}"


def ofctl_lines(bridge: Json) -> Iterator[str]:
    """A bridge in that form."""
    return map(ofctl_line, bridge["flows"])
