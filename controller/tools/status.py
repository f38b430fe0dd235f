"""`tunbridge status`, as a person reads it."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.markup import escape

from controller.tools import leases
from controller.tools.errors import Refusal
from controller.tools.rundir import Rundir

_SHOWN = 5  # names of missing ports before "and N more"


def with_dead(status: dict[str, Any], where: Rundir) -> dict[str, Any]:
    """The daemon's answer, and what it cannot know: which DHCP servers of the lab have died since it was converged.

    "in_sync" is what the daemon vouches for, its switches; "ok" is the whole: who is closed, or not served, is no less
    out of order than a flow that is missing.
    """
    try:
        dead = leases.dead(where.path)
    except (OSError, Refusal):  # not everybody may look into the lab
        dead = []
    troubles = [*status["troubles"], *dead]
    return {**status, "ok": status["ok"] and not troubles, "in_sync": status["ok"], "troubles": troubles}


def lines(status: dict[str, Any]) -> Iterator[str]:
    """One line a switch, then what is not as expected; rich's markup."""
    yield f"topology {escape(status['topology'])}, listening on {escape(', '.join(status['listening']))}"
    width = max((len(f"{one['host']}/{one['bridge']}") for one in status["switches"]), default=0)
    for switch in status["switches"]:
        name = f"{switch['host']}/{switch['bridge']}".ljust(width)
        colour = "green" if switch["in_sync"] else "red"
        flows = f"  {switch['flows']} flows" if switch["connected"] else ""
        strangers = f"  [yellow]{switch['strangers']} strangers[/yellow]" if switch.get("strangers") else ""
        reason = f": {escape(switch['reason'])}" if switch["reason"] else ""
        yield f"  {name}  [{colour}]{switch['state']}[/{colour}]{reason}{flows}{strangers}"
        yield from _done_by_others(switch)
    ports = status["ports"]
    yield f"VM ports plugged in: {ports['present']} of {ports['expected']}{_missing(ports['missing'])}"
    legs = status["router_ports"]
    if legs["expected"]:
        yield f"router ports plugged in: {legs['present']} of {legs['expected']}{_missing(legs['missing'])}"
    servers = status["dhcp_ports"]
    if servers["expected"]:
        yield f"DHCP servers plugged in: {servers['present']} of {servers['expected']}{_missing(servers['missing'])}"
    for trouble in status["troubles"]:
        yield _trouble(trouble)
    for one in status["routers_failed"]:
        yield (f"[red]router {escape(one['router'])} on {escape(one['host'])} failed on {one['failed']} packets[/red]; "
               + escape(f"the last time: {one['reason']}"))
    for stranger in status["strangers"]:
        yield f"[yellow]stranger[/yellow] datapath {stranger['dpid']} is left alone: {stranger['left_alone']}"
    if status["refusals"]:
        yield f"[red]OpenFlow errors since the start: {status['refusals']}; the log has them[/red]"
    if status["errors"] > status["refusals"]:
        yield f"[red]other errors since the start: {status['errors'] - status['refusals']}; the log has them[/red]"
    apply = status["last_apply"]
    if apply and not apply["ok"]:
        count = f"{apply['problems']} error{'s' * (apply['problems'] != 1)}"
        yield ("[red]the last change was refused[/red]: "
               + escape(f"{apply['file']} has {count} (`tunbridge check {apply['file']}`); "
                        f"{apply['in_force']} stays in force"))
    yield _verdict(status)


def _verdict(status: dict[str, Any]) -> str:
    if not status["in_sync"]:
        return "[red]not in sync[/red]"
    return "[green]in sync[/green]" if status["ok"] else "[red]in sync, but not all is set up[/red]"


def _done_by_others(switch: dict[str, Any]) -> Iterator[str]:
    """What was healed, and what is still not as it shall be."""
    if switch.get("healed"):
        yield f"    [yellow]healed {switch['healed']}[/yellow], the last time: {escape(switch['last_healed'])}"
    if switch["drift"]:
        named = switch["drifted"][:_SHOWN]
        for one in named:
            yield f"    [red]drift[/red]: {escape(one['words'])}"
        if switch["drift"] > len(named):
            yield f"    [red]drift[/red]: {switch['drift'] - len(named)} more"


def _trouble(trouble: dict[str, str]) -> str:
    """What could not be set up, and so is closed."""
    return (f"[red]{escape(trouble['object'])} on {escape(trouble['host'])} is not as it shall be[/red]: "
            + escape(trouble["problem"]))


def _missing(names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f" (missing: {', '.join(names[:_SHOWN])}{more})"
