"""The testbed: `tunbridge lab up|down|exec|cli`.

The lab's nodes outlive the command that made them: each is held by a sleeping process, and what runs is written
down in RUNDIR/lab. `up` compares what is wanted with the plan in force and does only what differs; `down` ends
whatever wears the lab's mark, also when nothing was written down.
"""
from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from controller.host import converge, daemons, lab, processes
from controller.host import execute as executor
from controller.host.lab import LabPlan
from controller.model.topology import Topology
from controller.tools.errors import BAD_INPUT, MISSING, Refusal

Say = Callable[[str], None]
Progress = Callable[[int, int, str], None]  # jobs done, jobs in all, what is being done

PYTHON: Final = "/usr/bin/python3"  # Debian's mininet is there for the system's Python only
OBEYS: Final = Path(__file__).resolve().parents[2] / "mininet" / "lab.py"
PACKAGES: Final = {"ovs-vswitchd": "openvswitch-switch", "ovsdb-server": "openvswitch-switch",
                   "ovs-vsctl": "openvswitch-switch", "ovsdb-tool": "openvswitch-common", "ip": "iproute2",
                   "ethtool": "ethtool", "sysctl": "procps", "mnexec": "mininet", PYTHON: "python3"}
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin"  # where daemons are, whatever PATH a user has
_SOCKET_ROOM: Final = 107  # bytes of a Unix socket's path (unix(7): 108 with the final zero)


@dataclass(frozen=True)
class Node:
    """A node of a running lab."""

    name: str
    kind: str  # vm | hypervisor | underlay
    pid: int  # of its anchor, which is in its network and mount namespaces
    start: int  # of that process, in clock ticks since boot

    @property
    def alive(self) -> bool:
        return processes.start_time(self.pid) == self.start


def directory(rundir: Path) -> Path:
    """Where all of a lab is; its path is also the mark of its processes."""
    return Path(os.path.realpath(rundir)) / "lab"


def plan(topology: Topology, rundir: Path, datapath: str = "netdev") -> dict[str, Any]:
    """The lab of a topology as JSON values: what `mn --custom mininet/lab.py --topo tunbridge,FILE` reads, too."""
    return {**lab.to_json(_plan(topology, rundir, datapath)), "directory": str(directory(rundir))}


def _plan(topology: Topology, rundir: Path, datapath: str) -> LabPlan:
    home = directory(rundir)
    both = sorted(set(topology.hosts) & set(topology.vms))
    if both:
        raise Refusal(f"{topology.source}: {both[0]!r} is a host and a VM; in a lab they need two names.", BAD_INPUT)
    for name in topology.hosts:
        socket = home / name / "ovsdb-server.4194304.ctl"
        if len(os.fsencode(socket)) > _SOCKET_ROOM:
            raise Refusal(f"{socket} is too long for a Unix socket ({_SOCKET_ROOM} bytes); "
                          f"choose a shorter --rundir.", BAD_INPUT)
    controllers = {name: f"unix:{home / name / 'tunbridge.sock'}" for name in topology.hosts}
    return lab.lab_plan(topology, datapath=datapath, controllers=controllers)


def state(rundir: Path) -> dict[str, Node]:
    """The nodes of the running lab by name; empty if there is no lab, or what is written about it is no use."""
    try:
        value = json.loads((directory(rundir) / "state.json").read_text())
    except PermissionError as error:
        raise Refusal(f"{error.filename} may be read by root only; run it with sudo.", MISSING) from error
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return {name: Node(name, node["kind"], node["pid"], node["start"]) for name, node in value["nodes"].items()}


def up(topology: Topology, rundir: Path, say: Say, progress: Progress | None = None) -> None:
    """Bring up the lab of a topology, or turn the running lab into it; returns when every VM is wired."""
    check_machine()
    want = _plan(topology, rundir, "netdev")
    home = directory(rundir)
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal(f"{home} cannot be made: {error.strerror}; choose another --rundir.", MISSING) from error
    with _alone(home.parent):
        have = _standing(rundir, say)
        todo = lab.stages(have, want)
        if not todo:
            say("The lab is as the topology wants it.")
            return
        say(_summary(have, want))
        with contextlib.suppress(FileNotFoundError):
            # Without plan.json a lab counts as half built, which it is until all stages are done.
            (home / "plan.json").rename(home / "plan.old.json")
        _obey(home, todo, progress or (lambda done, total, what: None))
        _write(home / "plan.json", lab.to_json(want))
        (home / "plan.old.json").unlink(missing_ok=True)


def _standing(rundir: Path, say: Say) -> LabPlan | None:
    """The plan of the lab that runs; the remains of one that cannot be mended are cleared away."""
    home, nodes = directory(rundir), state(rundir)
    dead = {name: node for name, node in nodes.items() if not node.alive}
    have = _in_force(home)
    if have and nodes.keys() == lab.kinds(have).keys() and all(node.kind == "vm" for node in dead.values()):
        for host in (name for name in have.hypervisors if daemons.missing(home / name)):
            say(f"Open vSwitch of {host} has died; it is started again.")
            _revive(rundir, host)
        return _mended(home, have, dead, say)
    if nodes or processes.of_lab(home):
        say("A lab stands here that is not whole; it is removed and built anew.")
    _clear(home)
    home.mkdir(mode=0o700)
    return None


def _in_force(home: Path) -> LabPlan | None:
    """The plan that was carried out to its end; None without one, or with half a file."""
    try:
        return lab.from_json(json.loads((home / "plan.json").read_text()))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _mended(home: Path, have: LabPlan, dead: Mapping[str, Node], say: Say) -> LabPlan:
    """The lab without the VMs that have died, which are then made again as if they were new."""
    if dead:
        say(f"{', '.join(dead)} died; made again.")
        written = json.loads((home / "state.json").read_text())
        _write(home / "state.json", {"nodes": {name: node for name, node in written["nodes"].items()
                                               if name not in dead}})
    return lab.without(have, dead)


def _summary(have: LabPlan | None, want: LabPlan) -> str:
    counts = f"{len(want.hypervisors)} hypervisors and {len(want.vms)} VMs"
    if have is None:
        return f"Building a lab of {counts}."
    old, new = {*have.hypervisors, *have.vms}, {*want.hypervisors, *want.vms}
    moved = [name for name, vm in want.vms.items() if name in have.vms and have.vms[name].host != vm.host]
    words = [f"{word}: {', '.join(sorted(names))}" for word, names in
             (("new", new - old), ("gone", old - new), ("moved", moved)) if names]
    return f"Converging the lab to {counts}" + (f" ({'; '.join(words)})." if words else ".")


def _obey(home: Path, stages: Sequence[lab.Stage], progress: Progress) -> None:
    argv = [PYTHON, str(OBEYS), "obey", str(home / "plan.json"), str(home / "state.json")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment(home),
                          stderr=subprocess.PIPE) as child:
        assert child.stdin and child.stdout and child.stderr
        child.stdin.write(json.dumps(stages))
        child.stdin.close()
        last: dict[str, Any] = {}
        for line in child.stdout:
            last = json.loads(line)
            if "of" in last:
                progress(last["done"], last["of"], last["stage"])
        words = child.stderr.read().strip().rpartition("\n")[2]
    if child.returncode:
        reason = last.get("error") or words or f"it ended with code {child.returncode}"
        raise Refusal(f"The lab cannot be built: {reason} `tunbridge lab down` removes what is there.", MISSING)


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '/usr/bin:/bin')}:{_SYSTEM_PATH}",
            processes.MARK: str(home)}


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


def exec_argv(rundir: Path, name: str, command: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Argument list and environment that run a command in a node; terminal, directory and exit code pass through."""
    node, home = _node(rundir, name), directory(rundir)
    environment = _environment(home)
    if node.kind == "hypervisor":
        place = str(home / name)
        environment |= {"OVS_RUNDIR": place, "OVS_DBDIR": place, "OVS_LOGDIR": place}
    argv = ["nsenter", f"--target={node.pid}", "--net", "--mount", "--wd=.", "--"]
    return [*argv, *(command or ("bash",))], environment


def execute(rundir: Path, name: str, command: Sequence[str]) -> NoReturn:
    """Become a command in a node: its exit code, its signals and its terminal are then this process's own."""
    argv, environment = exec_argv(rundir, name, command)
    os.execvpe(argv[0], argv, environment)


def _node(rundir: Path, name: str) -> Node:
    nodes = state(rundir)
    if not nodes:
        raise Refusal(f"No lab runs in {directory(rundir)}; `tunbridge lab up` brings one up.", MISSING)
    if name not in nodes:
        raise Refusal(f"The lab has no node {name!r}; it has {', '.join(nodes)}.", BAD_INPUT)
    if os.geteuid() != 0:
        raise Refusal("Entering a node of the lab needs root; run it with sudo.", MISSING)
    if not nodes[name].alive:
        raise Refusal(f"{name} has died; `tunbridge lab up` builds the lab anew.", MISSING)
    return nodes[name]


def prompt(rundir: Path) -> int:
    """Mininet's prompt on the running lab; its exit code when it is left."""
    home = directory(rundir)
    _node(rundir, next(iter(state(rundir)), ""))
    argv = [PYTHON, str(OBEYS), "cli", str(home / "plan.json"), str(home / "state.json")]
    # Control-C is for what runs at the prompt; we only wait.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.call(argv, env=_environment(home))
    finally:
        signal.signal(signal.SIGINT, before)


def restart_vswitchd(rundir: Path, host: str, kill9: bool = True) -> None:
    """End a hypervisor's ovs-vswitchd and start it anew; its database, and so its bridges, stay."""
    if _node(rundir, host).kind != "hypervisor":
        raise Refusal(f"{host} is not a hypervisor.", BAD_INPUT)
    daemons.end(directory(rundir) / host, "ovs-vswitchd", hard=kill9)
    _revive(rundir, host)


def _revive(rundir: Path, host: str) -> None:
    """Start what is missing of a hypervisor's daemons, and tell OVS what it forgets with its process."""
    place = directory(rundir) / host
    argv, environment = exec_argv(rundir, host, ())
    plan_ = _in_force(directory(rundir))
    if plan_ is None:
        raise Refusal("The lab is half built; `tunbridge lab up` builds it anew.", MISSING)
    want = plan_.hypervisors[host]
    todo = (*(daemons.start(place, program) for program in daemons.missing(place)), *converge.footing(want))
    executor.execute(todo, executor.Place(tuple(argv[:-1]), environment))


def check_machine() -> None:
    """Refuse with the cure if this machine lacks what a lab needs."""
    if os.geteuid() != 0:
        raise Refusal("A lab makes network namespaces, which needs root; run it with sudo.", MISSING)
    path = f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"
    missing = sorted({package for program, package in PACKAGES.items() if not shutil.which(program, path=path)})
    if missing:
        raise Refusal(f"The lab needs a package; `apt-get install {' '.join(missing)}` installs it.", MISSING)
    if not OBEYS.exists():
        raise Refusal(f"The lab needs {OBEYS}; run tunbridge from its source tree.", MISSING)


@contextlib.contextmanager
def _alone(rundir: Path) -> Iterator[None]:
    """No two `lab up` at once on one rundir; the lock goes with the process."""
    handle = os.open(rundir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise Refusal(f"Another `tunbridge lab up` is at work in {rundir}; wait for it to end.", MISSING) from error
    finally:
        os.close(handle)


def _write(path: Path, value: dict[str, Any]) -> None:
    """Whole or not at all."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value, indent=1))
    new.replace(path)
