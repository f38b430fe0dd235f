"""`tunbridge spoofers`: which port was refused what, how often, and by which flow or rule.

The daemon counts the switches' rows; with the hybrid firewall iptables in the hypervisors has counted before them.
"""
from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from rich.markup import escape

from controller.model import reading
from controller.model.topology import Topology
from controller.tools import counters, lab, nodes
from controller.tools.client import ask
from controller.tools.counters import Stopper
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.rundir import Rundir

Json = dict[str, Any]
_WORDS: Final = {  # offence -> what was tried, for people
    "vlan": "a VLAN tag of its own", "arp": "ARP for others", "nd": "IPv6 addresses of others", "mac": "other MACs",
    "address": "other addresses", "dhcp-server": "a DHCP server", "router-advertisement": "a router",
    "redirect": "redirects", "groups": "what no rule allows", "invalid": "packets of no conversation",
    "ethertype": "other protocols", "tunnel": "tunnel packets", "tunnel-id": "unknown tunnel ids",
    "unknown-port": "an unknown port"}
# What the match of a rule says of the offence, the first that fits; then the letter of the chain.
_MATCHES: Final = (("--sport 67", "dhcp-server"), ("--sport 547", "dhcp-server"), ("134", "router-advertisement"),
                   ("137", "redirect"), ("INVALID", "invalid"))
_CHAINS: Final = {"s": "address", "i": "groups", "o": "groups"}
_NAMED: Final = 12  # hosts, before "and more"


@dataclass(frozen=True)
class Asked:
    """Which rows are wanted."""

    vm: str | None = None  # or a port
    host: str | None = None
    everything: bool = False  # also those that have refused nothing yet


def refused(where: Rundir, asked: Asked = Asked()) -> Json:
    """{"refused": rows, most packets first, "not_connected": bridges that could not be asked}.

    A row: port, network, host, offence, packets, kind (flow | iptables), place, match, why. `port` is empty where a
    row is for all of them. Refusal without a daemon.
    """
    host = asked.host
    request: Json = {"do": "spoofers", "all": asked.everything, **({"host": host} if host is not None else {})}
    status = ask(where, {"do": "status"})
    known = list(dict.fromkeys(switch["host"] for switch in status["switches"]))
    if host is not None and host not in known:
        raise Refusal(f"There is no host {host}, only {', '.join(known[:_NAMED])}.", BAD_INPUT)
    topology = _topology(where, status)
    ports = {name for port in topology.ports() for name in (port.name, port.vm)} if topology is not None else set()
    if ports and asked.vm is not None and asked.vm not in ports:
        raise Refusal(f"There is no VM or port {asked.vm}; known: {', '.join(sorted(ports))}.", BAD_INPUT)
    answer = ask(where, request)
    rows = [_of_switch(row) for row in answer["refused"]]
    if topology is not None and topology.has_qbr() and os.geteuid() == 0:
        rows += [row for row in _of_iptables(where, topology, host) if row["packets"] or asked.everything]
    rows = [row for row in rows if asked.vm in (None, row["port"], row["port"].partition(":")[0])]
    rows.sort(key=lambda row: (-row["packets"], row["host"], row["port"], row["place"]))
    return {"refused": rows, "not_connected": answer["not_connected"]}


def _of_switch(row: Json) -> Json:
    return {"port": row["port"], "network": row["network"], "host": row["host"], "offence": row["offence"],
            "packets": row["packets"], "kind": "flow",
            "place": f"{row['bridge']} table {row['table']} {row['table_name']}", "match": row["match"],
            "why": row["why"]}


def _of_iptables(where: Rundir, topology: Topology, host: str | None) -> Iterator[Json]:
    """Where a lab runs, of its hypervisors; else of this machine, should it be one of the hosts."""
    running = lab.state(where.path)
    ports = {port.path: port for port in topology.ports()}
    for name in topology.hosts:
        if host in (None, name) and (not running or name in running):
            for one in _counted(topology, where, name, in_lab=bool(running)):
                port = ports[one.origin]
                yield {"port": port.name, "network": port.network, "host": name, "offence": offence(one),
                       "packets": one.counter, "kind": one.kind, "place": one.place, "match": one.match,
                       "why": one.why}


def _topology(where: Rundir, status: Json) -> Topology | None:
    """The lab's file, else the daemon's."""
    kept = lab.topology_file(where.path)
    return reading.load(kept if kept.exists() else status["topology"]).topology


def _counted(topology: Topology, where: Rundir, host: str, *, in_lab: bool) -> Iterable[Stopper]:
    if in_lab:
        return counters.of_iptables(topology, where, host).values()
    ports = counters.by_chain(topology, host)
    return [one for command in counters.SAVES
            for _, one in counters.rules_of(_here(command), command.removesuffix("-save"), host, ports)]


def _here(command: str) -> str:
    """What a command prints on this machine; nothing if it cannot be run."""
    try:
        done = subprocess.run([command, "-c", "-t", "filter"], capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, env={**os.environ, "PATH": nodes.search_path()})
    except OSError:
        return ""
    return done.stdout


def offence(rule: Stopper) -> str:
    """What a rule of iptables stands against."""
    kind = rule.place.partition(counters.CHAIN)[2][:1]
    told = next((word for sign, word in _MATCHES if sign in rule.match), None)
    return told or ("groups" if "connmark" in rule.match else _CHAINS.get(kind, "groups"))


def lines(found: Json) -> Iterator[str]:
    """For people, with rich's markup: a line for each row that has refused something."""
    rows = found["refused"]
    names = [row["port"] or "anybody" for row in rows]
    tried = [_WORDS.get(row["offence"], row["offence"]) for row in rows]
    widths = [max(map(len, column), default=0) for column in (names, tried, [str(row["packets"]) for row in rows])]
    for row, name, what in zip(rows, names, tried, strict=True):
        yield (f"[bold]{name:<{widths[0]}}[/bold]  {what:<{widths[1]}}  {row['packets']:>{widths[2]}}  "
               f"{escape(row['why'])}  [dim]{escape(row['host'])}: {escape(row['place'])}[/dim]")
    if not rows:
        yield "[green]Nothing was refused.[/green]"
    for bridge in found["not_connected"]:
        yield f"[red]{escape(bridge)} is not connected, so that its counters are not known[/red]"
