"""`tunbridge demo`, and what it is made of: a lab that waits for the daemon, and the daemon in the background."""
from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Final

from rich.console import RenderableType

from controller.model import placement
from controller.model.placement import Seen
from controller.model.reachability import INTERNET
from controller.model.topology import Topology
from controller.tools import lab, leases, matrix, shortcut, threeways
from controller.tools import reach as reaching
from controller.tools.client import ask, wait_for_status
from controller.tools.errors import MISSING, Refusal
from controller.tools.following import settle
from controller.tools.journey import REQUEST, Journey
from controller.tools.rundir import DEFAULT, Rundir, make
from controller.tools.topologies import valid

Say = Callable[[str], None]
_LEASES: Final = 15.0  # seconds for DHCP clients to have their addresses
_START: Final = 15.0  # seconds for a daemon to answer


def lab_up(file: str, where: Rundir, say: Say, progress: lab.Progress | None = None) -> None:
    """Build or converge the lab of a file; with a daemon at work, wait until every VM's flows are in.

    Refusal if the file is invalid, the machine lacks something, or the switches are not in sync in time.
    """
    topology = valid(file)
    try:
        lab.up(topology, where.path, say, progress)
    except lab.PartFailed:
        shutil.copyfile(file, _kept(where))
        raise
    shutil.copyfile(file, _kept(where))
    shortcut.remember(_kept(where).read_bytes(), where.path)
    try:
        ask(where, {"do": "status"})
    except Refusal:
        say(f"Every VM is wired. No daemon runs at {where.path}, so nothing is forwarded yet: "
            f"start `tunbridge run {file}`.")
        return
    settle(where, say, f"Has it this topology? `tunbridge apply {file}`, then `tunbridge status`.")


def _kept(where: Rundir) -> Path:
    """The file that the lab was built from."""
    return lab.topology_file(where.path)


def lab_reach(where: Rundir, sample: int, seed: int | None, say: Say) -> reaching.Reach:
    """Who reaches whom in the running lab, against the topology it was built from. Leases are waited for."""
    if not _kept(where).exists():
        raise Refusal(f"No lab runs at {where.path}: bring one up with `tunbridge lab up`.", MISSING)
    chosen = seed if seed is not None else random.SystemRandom().randrange(1 << 32)
    topology = valid(str(_kept(where)))
    await_leases(topology, where, say)
    found = reaching.of_lab(topology, where.path, reaching.Sample(sample, chosen) if sample else None)
    judged = threeways.with_computed(found, topology, where)
    if not judged.computed_from:
        say(f"More than {threeways.MOST} questions: what the tables make of them was not computed. Take a --sample.")
    return judged


def await_leases(topology: Topology, where: Rundir, say: Say) -> None:
    """Wait until VMs with `ip: dhcp` have their addresses, and say which have none in the end."""
    without = leases.wait(topology, where.path, _LEASES)
    if without:
        say(f"No lease after {_LEASES:.0f} s: {', '.join(without)}. Do the daemon and the DHCP server run? "
            "`tunbridge status` tells.")


@dataclass
class Show:
    """A running demo."""

    topology: Topology
    file: str
    where: Rundir
    say: Say
    ok: bool = False

    def report(self) -> Iterator[RenderableType]:
        """The ping matrix, one packet's way, another's through a router, and where to look next."""
        from controller.tools import trace

        found = lab_reach(self.where, 0, None, self.say)
        self.ok = found.ok
        yield "\n[bold]Who reaches whom[/bold]  (rows ping columns)"
        yield matrix.Matrix(found)
        pair, routed = _across_hosts(self.topology), _routed(self.topology, found)
        seen = self._seen()
        if pair:
            yield f"\n[bold]One packet's way: {pair[0]} pings {pair[1]}[/bold]  (its answer's, too: `trace`)"
            yield from trace.story(_requests(trace.trace(self.topology, *pair, seen)))
        if routed:
            journey = trace.trace(self.topology, *routed, seen)
            router = next(iter(journey.routers), "a router")
            yield (f"\n[bold]Another's, to another network: {routed[0]} pings {routed[1]}[/bold]  "
                   f"(after it has asked {router} for its MAC)")
            yield from trace.story(_requests(journey))
        yield from self._further(pair, routed)

    def prompt(self) -> None:
        """Mininet's prompt, until it is left."""
        lab.prompt(self.where.path)

    def _seen(self) -> dict[str, Seen]:
        """The local VLANs that the daemon allotted; the ports of a freshly built host."""
        status = ask(self.where, {"do": "status"})
        return {one["host"]: replace(placement.imagined(self.topology, one["host"]), vlans=one["vlans"])
                for one in status["switches"] if one["connected"]}

    def _further(self, pair: tuple[str, str] | None, routed: tuple[str, str] | None) -> Iterator[str]:
        source, target = pair or (next(iter(self.topology.vms), "VM"),) * 2
        host = next(iter(self.topology.hosts))
        address = next((str(port.ip) for port in self.topology.ports() if port.name == target), "ADDRESS")
        yield "\n[bold]Look further[/bold]  (in another terminal, while the lab runs)"
        lines = [(f"lab exec {source} -- ping -c 3 {address}", "any command inside a VM"),
                 (f"lab exec {host} -- ovs-vsctl show", "and inside a hypervisor"),
                 (f"flows {host}/br-tun", "each flow with its reason and its counters"),
                 (f"trace {source} {target}", "the way of a packet, table by table"),
                 ("lab reach --json", "the matrix, for a program"),
                 (f"attack {source}", "a VM turns hostile: who sees what it sends, and what stops it"),
                 ("spoofers", "who was refused what, and by which rule")]
        if routed:
            router = next(iter(self.topology.legs_by_router))
            outside = any(leg.outside for leg in self.topology.legs_by_router[router])
            lines += [(f"trace {routed[0]} {INTERNET}", "and of one that leaves the cloud")] if outside else []
            lines += [(f"lab exec {router} -- ip route", "the routes of a router"),
                      ("routers", "its neighbours, NAT sessions and counters, too")]
        for command, what in lines:
            yield f"  {_command(self.where)} {command:<44} [dim]{what}[/dim]"


def _requests(journey: Journey) -> Journey:
    """A journey without the questions for MACs, and without the way back: `trace` tells of these, too."""
    return replace(journey, legs=tuple(leg for leg in journey.legs if leg.part == REQUEST))


def _command(where: Rundir) -> str:
    """How this person can call us from this directory."""
    name = sys.argv[0] if Path(sys.argv[0]).name == "tunbridge" and not shutil.which("tunbridge") else "tunbridge"
    return name if str(where.path) == DEFAULT else f"TUNBRIDGE_RUNDIR={where.path} {name}"


def _across_hosts(topology: Topology) -> tuple[str, str] | None:
    """Two ports of one network, on different hosts if there are such."""
    pairs = [(one, other) for one, other in permutations(topology.ports(), 2) if one.network == other.network]
    apart = [(one.name, other.name) for one, other in pairs if one.host != other.host]
    return apart[0] if apart else (pairs[0][0].name, pairs[0][1].name) if pairs else None


def _routed(topology: Topology, found: reaching.Reach) -> tuple[str, str] | None:
    """Two ports of different networks that a router joins, on different hosts if there are such."""
    hosts = {port.name: port.host for port in topology.ports()}
    pairs = [(one.source, one.target) for one in found.answers
             if one.expected and found.networks[one.source] != found.networks[one.target]]
    apart = [(source, target) for source, target in pairs if hosts[source] != hosts[target]]
    return next(iter([*apart, *pairs]), None)


@contextlib.contextmanager
def running(file: str, where: Rundir, say: Say, progress: lab.Progress | None = None) -> Iterator[Show]:
    """A daemon and a lab of a file; both are gone at the end, whatever happens in between."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal is an end like any other
        signal.signal(number, lambda signum, _: sys.exit(128 + signum))
    topology = valid(file)
    lab.check_machine(topology)
    make(where)
    with _daemon(file, where, say):
        try:
            lab_up(file, where, say, progress)
            yield Show(topology, file, where, say)
        finally:
            lab.down(where.path, say)


@contextlib.contextmanager
def _daemon(file: str, where: Rundir, say: Say) -> Iterator[None]:
    say(f"Starting the daemon; its log is {where.log}.")
    argv = [sys.executable, "-m", "controller", "run", file, "--listen", "none", "--rundir", str(where.path)]
    with where.log.open("w") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        _await(process, where)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], where: Rundir) -> None:
    """Until the daemon answers. Refusal with its last words if it ends instead."""
    def settled(_: object) -> bool:
        return True

    for _ in range(int(_START * 10)):
        if process.poll() is not None:
            words = where.log.read_text().strip().splitlines()[-1:]
            raise Refusal(f"The daemon did not start: {' '.join(words) or 'it said nothing.'}", MISSING)
        try:
            wait_for_status(where, 0.1, settled)
            return
        except Refusal:
            continue
    raise Refusal(f"The daemon does not answer after {_START:.0f} s; its log is {where.log}.", MISSING)
