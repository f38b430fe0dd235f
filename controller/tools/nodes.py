"""The nodes of a running lab and its routers: what is written down about them, and commands inside them."""
from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from controller.host import lab, routers, steps
from controller.host.lab import LabPlan, LabRouter
from controller.tools.anchors import Node, directory, environment, search_path, state, write
from controller.tools.client import ask
from controller.tools.errors import BAD_INPUT, MISSING, Refusal
from controller.tools.rundir import Rundir
from flows.routing.neighbours import Phase

__all__ = ["Node", "answer", "directory", "environment", "exec_argv", "execute", "find", "in_force", "search_path",
           "state", "write"]

_NUD: Final = {Phase.ASKING: "INCOMPLETE", Phase.REACHABLE: "REACHABLE", Phase.STALE: "STALE", Phase.DELAYED: "DELAY",
               Phase.PROBING: "PROBE", Phase.FAILED: "FAILED"}  # as Linux calls them


def in_force(rundir: Path) -> LabPlan | None:
    """The plan that was carried out to its end; None without one, or with half a file."""
    try:
        return lab.from_json(json.loads((directory(rundir) / "plan.json").read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def exec_argv(rundir: Path, name: str, command: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Argument list and environment that run a command in a node, or in the namespace of a router; terminal,
    directory and exit code pass through. Refusal if there is no such place, or none that a command could run in.
    """
    router = _router(rundir, name)
    if router is not None and router.driver != routers.NAMESPACE:
        raise Refusal(_only_simulated(name), BAD_INPUT)
    node = find(rundir, router.host if router else name)
    argv = ["nsenter", f"--target={node.pid}", "--net", "--mount", "--wd=.", "--"]
    inside = steps.entering(router.shown.name) if router else ()
    return [*argv, *inside, *(command or ("bash",))], environment(rundir, node)


def _router(rundir: Path, name: str) -> LabRouter | None:
    """The router of a name that no node has. Refusal if nothing of it is there."""
    plan = in_force(rundir)
    router = plan.routers.get(name) if plan and name not in lab.kinds(plan) else None
    if plan is None or router is None:
        return None
    if not router.shown.legs:
        raise Refusal(f"The router {name} has no interface, so nothing of it is on {router.host}; attach a subnet to "
                      f"it in the file.", BAD_INPUT)
    if any(one.name == router.shown.name and not one.whole for one in plan.hypervisors[router.host].namespaces):
        raise Refusal(f"The router {name} could not be set up; `tunbridge lab up` tries again and says why.", MISSING)
    return router


def _only_simulated(name: str) -> str:
    return (f"The router {name} is simulated by flows, so there is no namespace to run a command in; `ip route`, "
            f"`ip address` and `ip neighbour` are answered all the same, and `driver: namespace` makes a real one.")


def execute(rundir: Path, name: str, command: Sequence[str]) -> NoReturn:
    """Become a command in a node: its exit code, its signals and its terminal are then this process's own."""
    argv, found = exec_argv(rundir, name, command)
    os.execvpe(argv[0], argv, found)


def answer(rundir: Path, name: str, command: Sequence[str]) -> str | None:
    """What `ip route`, `ip address` or `ip neighbour` would print in a simulated router, if it were a namespace; None
    for anything that `execute` is for. Only for the last the daemon must run.
    """
    router = _router(rundir, name)
    if router is None or router.driver == routers.NAMESPACE:
        return None
    words = [word for word in command if word not in ("-4", "-c", "-color", "--color")]
    if len(words) > 1 and words[0] == "ip" and words[2:] in ([], ["show"], ["list"], ["ls"]):
        if "route".startswith(words[1]):
            return routers.ip_route(router.shown)
        if "address".startswith(words[1]):
            return routers.ip_address(router.shown)
        if "neighbour".startswith(words[1]) or words[1] == "neighbor":
            return _neighbours(rundir, name)
    raise Refusal(_only_simulated(name), BAD_INPUT)


def _neighbours(rundir: Path, name: str) -> str:
    """As `ip neighbour`: what the topology vouches for is permanent, the rest was asked for."""
    described: list[dict[str, Any]] = ask(Rundir(rundir), {"do": "routers"})["routers"]
    known = (one for router in described if router["name"] == name for one in router["neighbours"])
    return "".join(f"{one['address']} dev {one['leg']} {'lladdr ' + one['mac'] + ' ' if one['mac'] else ''}"
                   f"{_NUD[Phase(one['state'])] if one['learned'] else 'PERMANENT'} \n" for one in known)


def find(rundir: Path, name: str) -> Node:
    """A node that runs. Refusal, with the names that there are, if it does not."""
    nodes, plan = state(rundir), in_force(rundir)
    if not nodes:
        raise Refusal(f"No lab runs in {directory(rundir)}; `tunbridge lab up` brings one up.", MISSING)
    if name not in nodes:
        known = dict.fromkeys((*nodes, *(plan.routers if plan else ())))
        raise Refusal(f"The lab has no node {name!r}; it has {', '.join(known)}.", BAD_INPUT)
    if os.geteuid() != 0:
        raise Refusal("Entering a node of the lab needs root; run it with sudo.", MISSING)
    if not nodes[name].alive:
        raise Refusal(f"{name} has died; `tunbridge lab up` builds the lab anew.", MISSING)
    return nodes[name]
