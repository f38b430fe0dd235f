"""The short way to other rules: a lab that differs from what is wanted in its packet filters alone.

A large group has rules on hundreds of taps. To change them, nobody need look at every node, read every rule, or start
the lab's hands: this process writes what differs from what it wrote last. It does so only if that still stands, which
is so if no node has died, nothing failed the last time, and nobody else has touched a packet filter since. In doubt,
and when rules do not get in, the long way of `lab.up` looks at everything, mends it, and closes what lacks its rules.
"""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from controller.host import daemons, execute, generation, netns, refilter, sweep
from controller.host import lab as plans
from controller.host.execute import StepFailed
from controller.host.firewall import AddressSet, Firewall
from controller.host.lab import LabPlan
from controller.host.plain import plain
from controller.model.topology import Topology
from controller.tools import lab, troubles
from controller.tools.errors import MISSING, Refusal
from controller.tools.nodes import Node, directory, environment, in_force, state, write

Say = Callable[[str], None]
_WRITTEN: Final = "filters.json"
_HANDS: Final = 8  # hypervisors at once


def follow(topology: Topology, content: bytes, rundir: Path, say: Say) -> bool:
    """As `lab.follow`, by the short way where that leads there."""
    if _only_rules(topology, rundir, say):
        lab.topology_file(rundir).write_bytes(content)
        return True
    followed = lab.follow(topology, content, rundir, say)
    if followed:
        remember(lab.wanted(topology, rundir), rundir)
    return followed


def remember(plan: LabPlan, rundir: Path) -> None:
    """Write down the packet filters of a lab that has just been converged to a plan, all of it."""
    nodes = state(rundir)
    filters = {host: devices.firewall for host, devices in plan.hypervisors.items() if devices.firewall is not None}
    write(directory(rundir) / _WRITTEN,
          {host: {**plain(replace(one, guarded=())), "generation": generation.of(nodes[host].pid)}
           for host, one in filters.items()})


def _only_rules(topology: Topology, rundir: Path, say: Say) -> bool:
    have, nodes = in_force(rundir), state(rundir)
    if have is None or not _whole(have, nodes, rundir):
        return False
    want, stands = lab.wanted(topology, rundir), _standing(nodes, rundir)
    filters = {host: devices.firewall for host, devices in want.hypervisors.items() if devices.firewall is not None}
    if want != have or filters.keys() != stands.keys():  # a plan's packet filters are not compared
        return False
    changes = {host: change for host, one in filters.items() if (change := refilter.change(one, stands[host])).touched}
    if not changes:
        return False
    with lab.alone(rundir), ThreadPoolExecutor(_HANDS) as pool:
        if not all(pool.map(lambda host: _obeyed(changes[host], nodes[host], rundir), changes)):
            return False
    remember(want, rundir)
    say(f"The rules of {sum(len(change.touched) for change in changes.values())} ports have changed.")
    return True


def _whole(have: LabPlan, nodes: Mapping[str, Node], rundir: Path) -> bool:
    """Whether all of a lab is there that was built."""
    return (nodes.keys() == plans.kinds(have).keys() and all(node.alive for node in nodes.values())
            and not troubles.read(rundir)
            and not any(daemons.missing(directory(rundir) / host) for host in have.hypervisors))


def _standing(nodes: Mapping[str, Node], rundir: Path) -> dict[str, Firewall]:
    """The packet filters that have been written down and have not been touched since."""
    try:
        written: dict[str, dict[str, Any]] = json.loads((directory(rundir) / _WRITTEN).read_text())
    except (OSError, ValueError):
        return {}
    return {host: _firewall(one) for host, one in written.items()
            if one["generation"] is not None and one["generation"] == generation.of(nodes[host].pid)}


def _firewall(written: Mapping[str, Any]) -> Firewall:
    return Firewall(tuple(written["v4"]), tuple(written["v6"]),
                    tuple(AddressSet(one["name"], one["version"], tuple(one["members"])) for one in written["sets"]),
                    switched_on=written["switched_on"])


def _obeyed(change: refilter.Change, node: Node, rundir: Path) -> bool:
    """Whether a hypervisor has its other rules. Refusal if conversations go on that these do not allow."""
    place = execute.Place(("nsenter", f"--target={node.pid}", "--net", "--mount", "--"), environment(rundir, node))
    try:
        execute.execute(change.rules, place)
    except StepFailed:
        return False
    try:
        with netns.inside(netns.of_process(node.pid)):
            if change.judging:
                sweep.carry_out(json.loads(change.judging))
    except (OSError, netns.NamespaceError) as error:
        raise Refusal(f"{node.name} has the new rules, but what was begun under the old ones goes on: {error}; "
                      f"`conntrack -F` there ends it.", MISSING) from error
    return True
