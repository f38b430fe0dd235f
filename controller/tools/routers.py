"""`tunbridge routers`: each router's interfaces, routes, neighbours, NAT sessions and counters, as far as known.

The topology tells what shall be; the daemon, of simulated routers, what it knows; the lab that runs, what there is.
"""
from __future__ import annotations

import difflib
import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from itertools import zip_longest
from typing import Any, Final

from rich.markup import escape

from controller.model import names, placement, routing
from controller.model.topology import Router, Topology
from controller.tools import lab, sessions
from controller.tools.client import ask
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.rundir import Rundir
from controller.tools.topologies import valid
from flows import fields as f
from flows.tables import LEAVE, ROUTER

Json = dict[str, Any]
_NO_LAB: Final = "unknown: no lab runs here"
_PATIENCE: Final = 20.0  # seconds for a command in the lab


@dataclass(frozen=True)
class Sources:
    """Where what is told comes from; the daemon's part is empty without a daemon."""

    topology: Topology
    rundir: Rundir
    has_lab: bool
    simulated: dict[str, Json] = field(default_factory=dict)  # router -> what the daemon says of it
    vlans: dict[str, dict[str, int]] = field(default_factory=dict)  # host -> network -> local VLAN


def sources(where: Rundir, file: str | None) -> Sources:
    """What there is. `file` is the topology asked for, or None: the lab's, else the daemon's, else the default one.

    Refusal if that is not valid.
    """
    has_lab = bool(lab.state(where.path))
    try:
        status = ask(where, {"do": "status"})
        simulated = {one["name"]: one for one in ask(where, {"do": "routers"})["routers"]}
    except Refusal:
        status, simulated = {"switches": [], "topology": "topology.yaml"}, {}
    kept = lab.topology_file(where.path)
    chosen = file or (str(kept) if has_lab and kept.exists() else status["topology"])
    vlans = {one["host"]: one["vlans"] for one in status["switches"] if one["connected"]}
    return Sources(valid(chosen), where, has_lab, simulated, vlans)


def described(found: Sources, name: str | None = None) -> list[Json]:
    """Every router, or one. Refusal if there is none of that name."""
    routers = found.topology.routers
    if name is not None and name not in routers:
        near = difflib.get_close_matches(name, routers, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(routers) or 'none at all'}."
        raise Refusal(f"{found.topology.source} has no router named {name!r}; {hint}", BAD_INPUT)
    return [_described(found, router) for router in routers.values() if name in (None, router.name)]


def _described(found: Sources, router: Router) -> Json:
    told: Json = {"name": router.name, "host": router.host, "driver": router.driver, "state": "",
                  "interfaces": [], "routes": [], "gateway": None, "floating_ips": {}, "neighbours": [],
                  "sessions": None, "sessions_unknown": "", "counters": {}}
    if router.name not in found.topology.legs_by_router:
        return {**told, "state": "no interface, so nothing of it is there", "sessions": []}
    told |= _intended(found, router)
    told |= (_namespace if router.driver == "namespace" else _simulated)(found, router)
    return {**told, "routes": [route for route in told["routes"] if not _goes_without_saying(route, told["routes"])]}


def _goes_without_saying(route: Json, routes: Iterable[Json]) -> bool:
    """The way to the next hop outside, where the leg's own subnet says the same."""
    if route["via"] is not None or not route["destination"].endswith("/32"):
        return False
    host = IPv4Network(route["destination"])
    return any(one is not route and one["via"] is None and one["leg"] == route["leg"]
               and host.subnet_of(IPv4Network(one["destination"])) for one in routes)


# ---- from the topology

def _intended(found: Sources, router: Router) -> Json:
    value, topology = routing.router_value(found.topology, router.name), found.topology
    vlans = found.vlans.get(router.host) or placement.imagined(topology, router.host).vlans
    interfaces = [{"name": leg.device, "what": leg.name, "mac": leg.mac,
                   "addresses": [str(one) for one in value.by_name[leg.device].addresses],
                   "mtu": topology.mtu_of(leg.network), "network": leg.network, "vlan": vlans.get(leg.network)}
                  for leg in topology.legs_by_router[router.name]]
    routes = [{"destination": str(IPv4Network((network, mask.bit_count()))), "leg": target.leg.name,
               "via": None if target.gateway is None else str(IPv4Address(target.gateway)),
               "source": str(IPv4Address(target.source))} for network, mask, target in value.table]
    gateway = value.gateway and {"leg": value.gateway.leg, "via": value.gateway.nexthop and str(value.gateway.nexthop),
                                 "snat": value.gateway.snat}
    return {"interfaces": interfaces, "routes": routes, "gateway": gateway,
            "floating_ips": {str(one.external): str(one.fixed) for one in value.floating_ips}}


# ---- simulated: the daemon, its flows, and the switch's connection tracking

def _simulated(found: Sources, router: Router) -> Json:
    live = found.simulated.get(router.name)
    if live is None or live["host"] != router.host:
        return {"state": "the daemon does not run, or does not serve it", "sessions_unknown": _no_sessions(found)}
    counters = {**live["counters"], "interfaces": _flow_counters(found, router) if live["connected"] else {}}
    told = {**live, "counters": counters, "sessions": None, "sessions_unknown": _no_sessions(found),
            "state": "at work" if live["connected"] else "its switch is not connected"}
    if found.has_lab:
        dumps = [_run(found, router.host, "ovs-appctl", "dpctl/dump-conntrack", f"zone={zone}")
                 for zone in live["zones"]]
        if None not in dumps:
            told |= {"sessions": sessions.of_ovs("\n".join(one or "" for one in dumps)), "sessions_unknown": ""}
    return told


def _no_sessions(found: Sources) -> str:
    return "unknown: the lab does not answer" if found.has_lab else _NO_LAB


def _flow_counters(found: Sources, router: Router) -> Json:
    """Packets by leg: those that were for its MAC, and those that left by it."""
    bridge = ask(found.rundir, {"do": "flows", "host": router.host, "bridge": "br-int"})["bridges"][0]
    numbers = found.topology.numbers_by_host[router.host].legs
    return {leg.device: {"received": _packets(bridge["flows"], ROUTER.id, f"dl_dst={leg.mac}"),
                         "sent": _packets(bridge["flows"], LEAVE.id,
                                          f"{f.REG_LEAVES_BY.ofctl}={f.REG_LEAVES_BY.show(numbers[leg.id])}")}
            for leg in found.topology.legs_by_router[router.name] if leg.id in numbers}


def _packets(flows: Iterable[Json], table: int, condition: str) -> int:
    return sum(flow.get("packets", 0) for flow in flows
               if flow["table"] == table and condition in flow["match"].split(","))


# ---- namespaces: Linux

def _namespace(found: Sources, router: Router) -> Json:
    inside = ("ip", "netns", "exec", names.qrouter(router.id))
    links = _json(_run(found, router.host, *inside, "ip", "-j", "-s", "link")) if found.has_lab else None
    if links is None:
        return {"state": "not there" if found.has_lab else "unknown: no lab runs here",
                "sessions_unknown": _no_sessions(found)}
    counters = {link["ifname"]: {"received": link["stats64"]["rx"]["packets"], "sent": link["stats64"]["tx"]["packets"]}
                for link in links if link["ifname"] != "lo"}
    neighbours = [{"leg": one["dev"], "address": one["dst"], "mac": one.get("lladdr", ""),
                   "state": " ".join(one.get("state", [])).lower(), "learned": True}
                  for one in _json(_run(found, router.host, *inside, "ip", "-j", "-4", "neigh")) or []]
    dump = _run(found, router.host, *inside, "conntrack", "-L")
    if dump is None:
        dump = _run(found, router.host, *inside, "cat", "/proc/net/nf_conntrack")
    return {"state": "at work", "counters": {"interfaces": counters}, "neighbours": neighbours,
            "sessions": None if dump is None else sessions.of_linux(dump),
            "sessions_unknown": "unknown: `apt-get install conntrack`" if dump is None else ""}


def _run(found: Sources, host: str, *command: str) -> str | None:
    """What a command of the lab prints; None if it cannot be run, or fails."""
    try:
        argv, environment = lab.exec_argv(found.rundir.path, host, command)
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=_PATIENCE, check=False,
                              stdin=subprocess.DEVNULL)
    except (Refusal, OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout


def _json(text: str | None) -> Sequence[Json] | None:
    try:
        return None if text is None else json.loads(text or "[]")
    except ValueError:
        return None


# ---- for people

_LISTED: Final = 20  # neighbours, and sessions, before "and N more"


def lines(routers: Iterable[Json]) -> Iterator[str]:
    """A paragraph for each router, with rich's markup."""
    for router in routers:
        state = f": {escape(router['state'])}" if router["state"] else ""
        yield f"[bold]{router['name']}[/bold]  {router['driver']} on {router['host']}{state}"
        counted = router["counters"].get("interfaces", {})
        yield from _part("interfaces", [_interface(one, counted.get(one["name"])) for one in router["interfaces"]])
        yield from _part("routes", [_route(one) for one in router["routes"]])
        yield from _part("floating IPs", [(outside, f"stands for {inside}")
                                          for outside, inside in router["floating_ips"].items()])
        yield from _part("neighbours", [(one["address"], one["mac"], one["leg"], one["state"])
                                        for one in router["neighbours"]])
        if router["sessions"] is not None:
            yield from _part("NAT sessions", [(sessions.line(one),) for one in router["sessions"]] or [("none",)])
        elif router["interfaces"]:
            yield from _part("NAT sessions", [(router["sessions_unknown"],)])
        if "asked" in router["counters"]:
            yield from _part("the daemon", [(_asked(router["counters"]),)])
        if router.get("failure"):
            yield f"  [red]it failed on a packet: {escape(router['failure'])}[/red]"
        yield ""


def _part(title: str, rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """A heading and its rows, in columns."""
    if not rows:
        return
    yield f"  [cyan]{title}[/cyan]"
    shown = rows[:_LISTED]
    widths = [max(map(len, column)) for column in zip_longest(*shown, fillvalue="")]
    for row in shown:
        yield escape("    " + "  ".join(f"{word:<{width}}" for word, width in zip(row, widths, strict=False)).rstrip())
    if len(rows) > len(shown):
        yield f"    and {len(rows) - len(shown)} more"


def _interface(one: Json, counted: Json | None) -> tuple[str, ...]:
    place = f"{one['network']}, VLAN {one['vlan']}, MTU {one['mtu']}"
    packets = f"{counted['received']} packets in, {counted['sent']} out" if counted else ""
    return one["name"], " ".join(one["addresses"]), one["mac"], place, packets


def _route(one: Json) -> tuple[str, ...]:
    destination = "default" if one["destination"] == "0.0.0.0/0" else one["destination"]
    return destination, f"via {one['via']}" if one["via"] else "", one["leg"]


def _asked(counters: Json) -> str:
    """What the daemon did for a simulated router."""
    became = [f"{counters[word]} {word}" for word in ("forwarded", "answered", "kept") if counters[word]]
    became += [f"{count} refused ({reason})" for reason, count in counters["refused"].items()]
    return (f"was asked {counters['asked']} times{': ' if became else ''}{', '.join(became)}; "
            f"sent {counters['sent']} frames of its own or for others")
