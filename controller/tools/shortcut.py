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


def follow(sent: Mapping[str, Any] | None, content: bytes, rundir: Path, say: Say) -> bool:
    """Whether the lab has been turned into the topology of a file by what the daemon has sent for it (`answer`'s
    "filters", see switch.applying). False: nothing is spoilt, but the long way is to be gone.
    """
    changes, file = _changes(sent), anchors.filters_file(rundir)
    if not (changes and file.exists()):
        return False
    with anchors.alone(rundir), ThreadPoolExecutor(_HANDS) as pool:
        nodes = anchors.state(rundir)
        if not (changes.keys() <= nodes.keys() and _stands(sent, nodes, rundir)):
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


def _stands(sent: Mapping[str, Any] | None, nodes: Mapping[str, Node], rundir: Path) -> bool:
    """Whether the lab is whole, and as it was when it was converged to the topology that the daemon started from."""
    try:
        known = json.loads(anchors.filters_file(rundir).read_text())
    except (OSError, ValueError):
        return False
    home, seen = anchors.directory(rundir), _seen(nodes)
    return (sent is not None and known == {"topology": sent["from"], **seen}
            and None not in seen["generations"].values()
            and (home / "plan.json").exists() and not troubles.read(rundir)
            and all(node.alive for node in nodes.values())
            and not any(daemons.missing(home / host) for host in seen["generations"]))


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
