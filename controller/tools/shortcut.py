"""The short way to other rules: a lab that differs from what is wanted in its packet filters alone.

A large group has rules on hundreds of taps. The daemon, which holds the topology that was and reads the one that comes,
says what that changes in which packet filter; this process writes it, and looks at no node, no rule and no file's
meaning. It does so only if what the daemon started from still stands here: the lab was converged to just that file, no
node has died, nothing failed the last time, and nobody else has touched a packet filter since. In doubt, and when rules
do not get in, the long way of `lab.up` looks at everything, mends it, and closes what lacks its rules.
"""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from controller.host import daemons, execute, generation, netns, orders, sweep
from controller.host.execute import StepFailed
from controller.host.orders import Orders
from controller.tools import anchors, troubles
from controller.tools.anchors import Node
from controller.tools.errors import MISSING, Refusal

Say = Callable[[str], None]
_HANDS: Final = 8  # hypervisors at once


def whole(rundir: Path) -> dict[str, Node]:
    """The nodes of a lab if all of it is there; empty if there is none, or anything of it has died or failed."""
    nodes, home = anchors.state(rundir), anchors.directory(rundir)
    there = ((home / "plan.json").exists() and not troubles.read(rundir)
             and all(node.alive for node in nodes.values())
             and not any(daemons.missing(home / node.name) for node in nodes.values() if node.kind == "hypervisor"))
    return nodes if there else {}


def follow(sent: Mapping[str, Any] | None, content: bytes, rundir: Path, nodes: Mapping[str, Node], say: Say) -> bool:
    """Whether a lab with these nodes, seen `whole` a moment ago, has been turned into the topology of a file.

    `sent`: "filters" of the daemon's answer, see switch.applying. False: the long way is to be gone.
    """
    changes, file = _changes(sent), anchors.filters_file(rundir)
    if sent is None or not changes or not changes.keys() <= nodes.keys():
        return False
    with anchors.alone(rundir), ThreadPoolExecutor(_HANDS) as pool:
        if not _as_written(sent["from"], nodes, file):
            return False
        file.unlink()  # until all of it is done, nobody can say what stands
        if not all(pool.map(lambda host: _obeyed(changes[host], nodes[host], rundir), changes)):
            return False
        anchors.topology_file(rundir).write_bytes(content)
        remember(content, rundir)
    say(f"The rules of {sum(change.ports for change in changes.values())} ports have changed.")
    return True


def remember(content: bytes, rundir: Path) -> None:
    """Write down that the lab has just been converged to a file with this content, all of it."""
    anchors.write(anchors.filters_file(rundir), {"topology": digest(content), **_seen(anchors.state(rundir))})


def digest(content: bytes) -> str:
    """What a topology's file is called between the daemon and the lab."""
    return sha256(content).hexdigest()


def _changes(sent: Mapping[str, Any] | None) -> dict[str, Orders]:
    try:
        return {host: orders.from_json(one) for host, one in sent["hosts"].items()} if sent is not None else {}
    except (KeyError, orders.Strange):
        return {}


def _as_written(topology: str, nodes: Mapping[str, Node], file: Path) -> bool:
    """Whether the lab is as it was when it was converged to the topology that the daemon started from."""
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    seen = _seen(nodes)
    return known == {"topology": topology, **seen} and None not in seen["generations"].values()


def _seen(nodes: Mapping[str, Node]) -> dict[str, Any]:
    """Who the nodes are, and the generations of their packet filters."""
    return {"nodes": {name: [node.pid, node.start] for name, node in nodes.items()},
            "generations": {name: generation.of(node.pid) for name, node in nodes.items() if node.kind == "hypervisor"}}


def _obeyed(change: Orders, node: Node, rundir: Path) -> bool:
    """Whether a hypervisor has its other rules. Refusal if conversations go on that these do not allow."""
    place = execute.Place(("nsenter", f"--target={node.pid}", "--net", "--mount", "--"),
                          anchors.environment(rundir, node))
    try:
        execute.execute(change.steps, place)
    except StepFailed:
        return False
    try:
        with netns.inside(netns.of_process(node.pid)):
            if change.judging:
                sweep.carry_out(change.judging)
    except (OSError, netns.NamespaceError) as error:
        raise Refusal(f"{node.name} has the new rules, but what was begun under the old ones goes on: {error}; "
                      f"`conntrack -F` there ends it.", MISSING) from error
    return True
