"""The testbed: `tunbridge lab up|down|exec|cli`.

The lab's nodes outlive the command that made them: each is held by a sleeping process, and what runs is written
down in RUNDIR/lab. `up` compares what is wanted with the plan in force and does only what differs; `down` ends
whatever wears the lab's mark, also when nothing was written down.
"""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from controller.host import converge, daemons, lab, processes
from controller.host import execute as executor
from controller.host.devices import Devices
from controller.host.lab import LabPlan
from controller.host.stages import Stage, stages
from controller.model.topology import Topology
from controller.tools import filling, machine, mending, troubles
from controller.tools.anchors import alone, filters_file, topology_file
from controller.tools.errors import BAD_INPUT, MISSING, Refusal
from controller.tools.machine import OBEYS, PYTHON
from controller.tools.machine import check as check_machine
from controller.tools.nodes import (
    Node,
    answer,
    directory,
    environment,
    exec_argv,
    execute,
    find,
    in_force,
    state,
    write,
)
from controller.tools.troubles import Trouble

__all__ = ["Node", "alone", "answer", "check_machine", "directory", "down", "exec_argv", "execute", "follow", "plan",
           "prompt", "restart", "restart_vswitchd", "state", "topology_file", "up", "wanted"]

Say = Callable[[str], None]
Progress = Callable[[int, int, str], None]  # jobs done, jobs in all, what is being done

_FILLED: Final = 10.0  # seconds in which an ovs-vswitchd that starts again is filled; then it forwards what it has
_SOCKET_ROOM: Final = 107  # bytes of a Unix socket's path (unix(7): 108 with the final zero)


class PartFailed(Refusal):
    """The lab stands, but for a router, a DHCP server or some ports."""


def plan(topology: Topology, rundir: Path, datapath: str = "netdev") -> dict[str, Any]:
    """The lab of a topology as JSON values: what `mn --custom mininet/lab.py --topo tunbridge,FILE` reads, too."""
    shall = wanted(topology, rundir, datapath)
    return {**lab.to_json(shall), "stages": stages(None, shall), "directory": str(directory(rundir))}


def wanted(topology: Topology, rundir: Path, datapath: str = "netdev") -> LabPlan:
    """The lab of a topology in a run directory. Refusal if it cannot be one."""
    home = directory(rundir)
    both = sorted(set(topology.hosts) & set(topology.vms))
    if both:
        raise Refusal(f"{topology.source}: {both[0]!r} is a host and a VM; in a lab they need two names.", BAD_INPUT)
    for name in (*topology.hosts, lab.INTERNET):
        socket = home / name / "ovsdb-server.4194304.ctl"
        if len(os.fsencode(socket)) > _SOCKET_ROOM:
            raise Refusal(f"{socket} is too long for a Unix socket ({_SOCKET_ROOM} bytes); "
                          f"choose a shorter --rundir.", BAD_INPUT)
    controllers = {name: f"unix:{home / name / 'tunbridge.sock'}" for name in topology.hosts}
    return lab.lab_plan(topology, datapath=datapath, controllers=controllers)


def up(topology: Topology, rundir: Path, say: Say, progress: Progress | None = None) -> None:
    """Bring up the lab of a topology, or turn the running lab into it; returns when every VM is wired.

    Refusal if that cannot be. PartFailed, in the end, if all of it stands but for some part.
    """
    check_machine(topology)
    for note in machine.lacks(topology):
        say(note)
    want = wanted(topology, rundir, "netdev")
    home = directory(rundir)
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal(f"{home} cannot be made: {error.strerror}; choose another --rundir.", MISSING) from error
    with alone(home.parent):
        have = _standing(rundir, say)
        todo = stages(have, want)
        say(_summary(have, want) if todo else "The lab is as the topology wants it.")
        with contextlib.suppress(FileNotFoundError):
            # Without plan.json a lab counts as half built, which it is until all stages are done.
            (home / "plan.json").rename(home / "plan.old.json")
        filters_file(rundir).unlink(missing_ok=True)
        failed = _obey(rundir, todo, progress or (lambda done, total, what: None)) if todo else {}
        write(home / "plan.json", lab.to_json(lab.damaged(want, failed, have)))
        (home / "plan.old.json").unlink(missing_ok=True)
        found = tuple(_troubles(want, have, failed))
        troubles.write_lab(rundir, found)
    if found:
        raise PartFailed("\n".join(troubles.sentences(found, "lab up")), MISSING)


def follow(topology: Topology, content: bytes, rundir: Path, say: Say) -> bool:
    """Turn the lab that runs in a run directory into a topology, whose file has this content; False if none runs."""
    if not state(rundir):
        return False
    try:
        up(topology, rundir, say)
    finally:
        if in_force(rundir) is not None:
            topology_file(rundir).write_bytes(content)
    return True


def _troubles(want: LabPlan, have: LabPlan | None, failed: Mapping[tuple[str, str], str]) -> Iterator[Trouble]:
    """What is not there, or closed, since the jobs of some namespaces have failed."""
    owners = {(host, one.name): one.owner for host, there in want.hypervisors.items() for one in there.namespaces}
    for (host, name), reason in sorted(failed.items()):
        if name == lab.FIREWALL:
            yield from (Trouble(host, one.name, reason) for one in lab.changing(want, have, host))
        else:
            yield Trouble(host, owners.get((host, name), name), reason)


def _standing(rundir: Path, say: Say) -> LabPlan | None:
    """The plan of the lab that runs; the remains of one that cannot be mended are cleared away."""
    home, nodes = directory(rundir), state(rundir)
    dead = {name: node for name, node in nodes.items() if not node.alive}
    have = in_force(rundir)
    if have and nodes.keys() == lab.kinds(have).keys() and all(node.kind == "vm" for node in dead.values()):
        for host in _switches(have):
            if daemons.missing(home / host):
                say(f"Open vSwitch of {host} has died; it is started again.")
                _revive(rundir, host)
            elif daemons.waiting(home / host).exists():
                say(f"Open vSwitch of {host} was left waiting; it is let go.")
                _revive(rundir, host)
        if dead:
            say(f"{', '.join(dead)} died; made again.")
        return mending.without_dead(home, mending.looked_at(have, home, nodes), dead)
    if nodes or processes.of_lab(home):
        say("A lab stands here that is not whole; it is removed and built anew.")
    _clear(home)
    home.mkdir(mode=0o700)
    return None


def _switches(plan_: LabPlan) -> dict[str, Devices]:
    """The nodes with an Open vSwitch."""
    return {**plan_.hypervisors, **({plan_.outside.name: plan_.outside.devices} if plan_.outside else {})}


def _summary(have: LabPlan | None, want: LabPlan) -> str:
    counts = f"{len(want.hypervisors)} hypervisors and {len(want.vms)} VMs"
    if have is None:
        return f"Building a lab of {counts}."
    old, new = (set(lab.kinds(one)) | {name for name, router in one.routers.items() if router.shown.legs}
                for one in (have, want))
    moved = [name for name, vm in want.vms.items() if name in have.vms and have.vms[name].host != vm.host]
    words = [f"{word}: {', '.join(sorted(names))}" for word, names in
             (("new", new - old), ("gone", old - new), ("moved", moved)) if names]
    return f"Converging the lab to {counts}" + (f" ({'; '.join(words)})." if words else ".")


def _obey(rundir: Path, todo: Sequence[Stage], progress: Progress) -> dict[tuple[str, str], str]:
    """Have all stages done; the (host, namespace) of the routers that failed, with the reason."""
    home, failed = directory(rundir), {}
    argv = [PYTHON, str(OBEYS), "obey", str(home / "plan.json"), str(home / "state.json")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(rundir),
                          stderr=subprocess.PIPE) as child:
        assert child.stdin and child.stdout and child.stderr
        child.stdin.write(json.dumps(todo))
        child.stdin.close()
        last: dict[str, Any] = {}
        for line in child.stdout:
            last = json.loads(line)
            if "failed" in last:
                failed[last["failed"][0], last["failed"][1]] = str(last["error"])
            elif "of" in last:
                progress(last["done"], last["of"], last["stage"])
        words = child.stderr.read().strip().rpartition("\n")[2]
    if child.returncode:
        reason = last.get("error") or words or f"it ended with code {child.returncode}"
        raise Refusal(f"The lab cannot be built: {reason} `tunbridge lab down` removes what is there.", MISSING)
    return failed


def down(rundir: Path, say: Say) -> None:
    """Remove all of a lab: its processes, with them its namespaces and devices, and its files. Twice is fine."""
    if os.geteuid() != 0:
        raise Refusal("Removing a lab needs root; run it with sudo.", MISSING)
    home = directory(rundir)
    ended = _clear(home)
    say(f"The lab in {home} is gone ({ended} processes ended)." if ended else f"There is no lab in {home}.")


def _clear(home: Path) -> int:
    """How many processes there were."""
    ended = 0
    try:
        while pids := processes.of_lab(home):
            ended += processes.end(pids, processes.unchanged(pids), hard=True)
    except processes.StillThere as error:
        raise Refusal(f"These processes of the lab do not end: {error}; look at them with `ps`.", MISSING) from error
    shutil.rmtree(home, ignore_errors=True)
    return ended


def prompt(rundir: Path) -> int:
    """Mininet's prompt on the running lab; its exit code when it is left."""
    home = directory(rundir)
    find(rundir, next(iter(state(rundir)), ""))
    argv = [PYTHON, str(OBEYS), "cli", str(home / "plan.json"), str(home / "state.json")]
    # Control-C is for what runs at the prompt; we only wait.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.call(argv, env=environment(rundir))
    finally:
        signal.signal(signal.SIGINT, before)


def restart_vswitchd(rundir: Path, host: str, kill9: bool = True) -> None:
    """End a hypervisor's ovs-vswitchd and start it anew; its database, and so its bridges, stay."""
    restart(rundir, host, daemons.SWITCH, kill9=kill9)


def restart(rundir: Path, host: str, program: str, *, kill9: bool) -> None:
    """End one of a hypervisor's two daemons and start it anew."""
    if find(rundir, host).kind not in ("hypervisor", "internet"):
        raise Refusal(f"{host} has no Open vSwitch.", BAD_INPUT)
    daemons.end(directory(rundir) / host, program, hard=kill9)
    _revive(rundir, host)


def _revive(rundir: Path, host: str) -> None:
    """Start what is missing of a hypervisor's daemons, and give OVS back what it forgets with its process."""
    place = directory(rundir) / host
    argv, found = exec_argv(rundir, host, ())
    inside = executor.Place(tuple(argv[:-1]), found)
    standing = in_force(rundir)
    if standing is None:
        raise Refusal("The lab is half built; `tunbridge lab up` builds it anew.", MISSING)
    devices = _switches(standing)[host]
    daemons.waiting(place).touch()
    try:
        executor.execute(daemons.revival(place), inside)
        with ThreadPoolExecutor(1) as beside:
            filled = beside.submit(_fill, place, devices, inside)
            executor.execute(converge.footing(devices), inside)
            filled.result()
    finally:  # also without all that: what then reaches nobody is seen, and a host that waits forever is not
        executor.execute((daemons.release(),), inside)
        daemons.waiting(place).unlink()


def _fill(place: Path, devices: Devices, inside: executor.Place) -> None:
    """Have an ovs-vswitchd filled if it waits; one that lost only its database has its flows, and its controller."""
    if "true" in executor.output(daemons.held(), inside):
        targets = {bridge.name: (bridge.controller,) for bridge in devices.bridges if bridge.controller}
        filling.fill(place, targets, _FILLED)
