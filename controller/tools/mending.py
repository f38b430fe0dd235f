"""What has become of a lab since it was last converged: who has died, and what that leaves to be made again."""
from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

from controller.host import execute, lab, observe_firewall, processes, steps
from controller.host.devices import Devices
from controller.host.lab import LabPlan
from controller.tools import leases
from controller.tools.nodes import Node, exec_argv, write

_EYES: Final = 8  # hypervisors looked at at once


def looked_at(have: LabPlan, home: Path, nodes: Mapping[str, Node]) -> LabPlan:
    """The plan without what somebody has taken away since: a router's namespace, a dnsmasq, a VM's DHCP client,
    or the web server outside; and with the rules that stand, whoever has changed them.
    """
    have = _as_filtered(have, home)
    lost = {(host, one.name) for host, devices in have.hypervisors.items() for one in devices.namespaces
            if not _is_namespace(Path(f"/proc/{nodes[host].pid}/root/run/netns") / one.name)}
    have = lab.unserved(lab.damaged(have, lost, None), leases.without_server(have, nodes))
    have = leases.without_clients(have, nodes)
    if have.outside is not None and not _serves(home / have.outside.name / "web.json"):
        return replace(have, outside=replace(have.outside, serving=False))
    return have


def _as_filtered(have: LabPlan, home: Path) -> LabPlan:
    def seen(host: str) -> Devices:
        devices = have.hypervisors[host]
        if devices.firewall is None:
            return devices
        argv, found = exec_argv(home.parent, host, ())
        place = execute.Place(tuple(argv[:-1]), found)
        return replace(devices, firewall=observe_firewall.observe(lambda step: execute.output(step, place)))
    with ThreadPoolExecutor(_EYES) as pool:
        return replace(have, hypervisors=dict(zip(have.hypervisors, pool.map(seen, have.hypervisors), strict=True)))


def _is_namespace(path: Path) -> bool:
    """Whether a namespace is mounted there, and not only the empty file on which it was."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except OSError:
        return False


def _serves(written: Path) -> bool:
    try:
        server: dict[str, int] = json.loads(written.read_text())
        return processes.start_time(server["pid"]) == server["start"]
    except (OSError, ValueError, KeyError):
        return False


def without_dead(home: Path, have: LabPlan, dead: Mapping[str, Node]) -> LabPlan:
    """The lab without the VMs that have died, which are then made again as if they were new."""
    if not dead:
        return have
    # What goes on in a VM that has no anchor, its DHCP client for one, keeps its cards, and so the wires.
    stray = processes.stray(home)
    processes.end(stray, processes.unchanged(stray), hard=True)
    for host, devices in have.hypervisors.items():
        wires = [link.name for link in devices.links if link.far and link.far.node in dead]
        argv, found = exec_argv(home.parent, host, ())
        execute.execute(steps.ip_batch((f"link del dev {name}" for name in wires), "wires of VMs that have died",
                                       tolerant=True), execute.Place(tuple(argv[:-1]), found))
    written = json.loads((home / "state.json").read_text())
    write(home / "state.json", {"nodes": {name: node for name, node in written["nodes"].items() if name not in dead}})
    return lab.without(have, dead)
