#!/usr/bin/env python3
"""One VM more among 20,000 ports on 1,000 hosts, and all of them from nothing: computed and packed, without switches.

A fleet (`controller.switch.fleet`) with both bridges of every host connected: what a switch would say is said here, and
what would be sent is packed to bytes and dropped. `full` is placement, compilation, cookies and comparison with what an
empty switch holds; packing it is told apart. `edit` is from the next topology, as an object, to the bytes; each adds
another VM to a network of 20. That is repeated with a tenth and a twentieth of everything. `read anew` is the same edit
where the next topology shares no object with the one in force, as when a file has been read. Each size has a process of
its own, and memory is that process's. No root.
"""
from __future__ import annotations

import json
import pickle
import resource
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import clouds
from labs import ROOT, environment
from reports import Report, finish, parser, say
from whole import Runs

from controller.model import placement
from controller.model.topology import Topology
from controller.switch import additions, bundles
from controller.switch.diff import Plan
from controller.switch.events import Claim, Command, Mastery, ReadFlows, Write
from controller.switch.fleet import Fleet
from controller.tools import garbage

FULL_SECONDS, FULL_MIB, EDIT_MS = 10.0, 2048.0, 20.0
SIZES = (1000, 5000, 20_000)  # ports
PORTS = 20  # of a host, and of a network
AGAIN = 3  # tries of a run during which the machine's host took processors away; the one that lost least counts
FLAT, SLACK = 1.5, 1.0  # times the edit of the smallest cloud at most, or so many ms more


@dataclass(eq=False)
class Connection:
    """Stands for a switch: it counts transactions, as an os-ken Datapath does."""

    xid: int = 0


@dataclass
class Sent:
    """What would have been sent."""

    messages: int = 0
    bytes: int = 0
    switches: int = 0
    packing: float = 0.0  # seconds
    later: float = 0.0  # seconds that the fleet takes once the switches have it


def obey(fleet: Fleet, commands: Iterable[Command]) -> Sent:
    """Be the switches, which are empty and take everything."""
    sent, waiting = Sent(), list(commands)
    while waiting:
        command, answers = waiting.pop(0), []
        match command:
            case Claim(conn, generation):
                answers = fleet.role(conn, Mastery(True, generation))
            case ReadFlows(conn):
                answers = fleet.flows_read(conn, [], [])
            case Write(conn, plan):
                numbered(plan)
                start = time.perf_counter()
                for number, part in enumerate(command.parts):
                    bundle = bundles.bundle(conn, number, part)
                    sent.bytes += sum(map(len, bundle.staged)) + len(bundle.final)
                sent.packing += time.perf_counter() - start
                sent.messages += len(plan.add) + len(plan.delete) + len(plan.forget)
                sent.switches += 1
                start = time.perf_counter()
                answers = fleet.committed(conn)
                sent.later += time.perf_counter() - start
        waiting += answers
    return sent


def numbered(plan: Plan) -> None:
    """Have all cookies computed: those of a run of rows come with its packing, else, and would count as that."""
    for batch in additions.of(plan.add).batches:
        if isinstance(batch, additions.Run):
            assert len(batch.cookies) == len(batch)


def full(topology: Topology) -> tuple[Fleet, dict[str, float]]:
    """Every switch connects, and is given what it shall hold."""
    fleet, sent, start = Fleet(topology), Sent(), time.perf_counter()
    seen = {name: placement.imagined(topology, name).ports for name in topology.hosts}
    imagined = time.perf_counter() - start
    for host in topology.hosts.values():
        commands: list[Command] = []
        for bridge, dpid in host.datapath_ids.items():
            commands += fleet.connected(Connection(), dpid, dict(seen[host.name].get(bridge, {})))
        done = obey(fleet, commands)
        sent.messages, sent.bytes = sent.messages + done.messages, sent.bytes + done.bytes
        sent.packing += done.packing
    took = time.perf_counter() - start - imagined
    return fleet, {"full": took - sent.packing, "packing": sent.packing, "flows": sent.messages,
                   "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def edits(fleet: Fleet, count: int, *, anew: bool) -> list[dict[str, float]]:
    """One VM more, so many times."""
    found = []
    for number in range(count):
        topology = clouds.one_more(fleet.topology, len(fleet.topology.vms) + number)
        if anew:
            topology = pickle.loads(pickle.dumps(topology, 5))
        start, before = time.perf_counter(), time.process_time()
        commands = fleet.apply(topology)
        sent = obey(fleet, commands)
        took = (time.perf_counter() - start - sent.later) * 1e3
        busy = (time.process_time() - before) * 1e3
        found.append({"ms": took, "cpu": busy, "switches": sent.switches, "flow-mods": sent.messages})
    return found


def of_size(ports: int, count: int) -> None:
    """In a process of its own: prints JSON."""
    topology = clouds.spread(max(ports // PORTS, 1), ports)
    garbage.rest()  # as the daemon does, in its first minute
    fleet, found = full(topology)
    garbage.spare()
    edits(fleet, 2, anew=False)  # what is found once is found
    found_edits = edits(fleet, count, anew=False)
    print(json.dumps({**found, "edits": found_edits, "anew": edits(fleet, max(count // 4, 1), anew=True)}))


def in_process(ports: int, count: int) -> dict[str, Any]:
    """`of_size`, elsewhere."""
    done = subprocess.run([sys.executable, __file__, "--size", str(ports), "--edits", str(count)], text=True,
                          stdout=subprocess.PIPE, env=environment(ROOT), check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    say(f"  {ports} ports: " + ", ".join(f"{key} {value:.2f}" for key, value in found.items()
                                         if not isinstance(value, list)))
    return found


def report(asked: Namespace) -> Report:
    """Figures and verdicts."""
    made = Report("one VM more, and all from nothing")
    medians, least = {}, {}
    # In turns: a machine is not always equally quick, and what is to be flat is compared.
    tries: dict[int, Runs[dict[str, Any]]] = {ports: Runs() for ports in SIZES}
    rounds = [{ports: tries[ports].take(f"{ports} ports", lambda again: None, partial(in_process, ports, asked.edits),
                                        most=AGAIN) for ports in SIZES} for _ in range(asked.runs)]
    for ports in SIZES:
        runs = [one[ports] for one in rounds]
        words = f"{ports:,} ports on {ports // PORTS:,} hosts"
        one = made.add(f"{words}: a VM more", "ms", [edit["ms"] for run in runs for edit in run["edits"]])
        made.add(f"{words}: processor time", "ms", [edit["cpu"] for run in runs for edit in run["edits"]])
        made.add(f"{words}: a VM more, read anew", "ms", [edit["ms"] for run in runs for edit in run["anew"]])
        medians[ports], least[ports] = one.median, min(one.runs)
    last = runs[-1]["edits"][-1]
    made.notes.append(f"of 20,000 ports: {last['switches']} switches written to, {last['flow-mods']} flow-mods in all")
    if aside := tries[max(SIZES)].aside:
        made.add("  from nothing, in runs that were put aside", "s", [run["full"] for run in aside])
    compiled = made.add("all from nothing: placed, compiled, compared", "s", [run["full"] for run in runs])
    made.add("  and packed", "s", [run["packing"] for run in runs])
    made.add("  flow-mods", "", [run["flows"] for run in runs])
    memory = made.add("  memory", "MiB", [run["memory"] for run in runs])
    small, large = medians[min(SIZES)], medians[max(SIZES)]
    made.promise(f"a VM more among 20,000 ports in {EDIT_MS:.0f} ms", f"{large:.1f} ms", large <= EDIT_MS)
    made.promise("and flat from 1,000 to 20,000 ports", f"{small:.2f} to {large:.2f} ms; the quickest of each "
                 f"{least[min(SIZES)]:.2f} to {least[max(SIZES)]:.2f} ms", large <= max(FLAT * small, small + SLACK))
    made.promise(f"1,000 hosts and 20,000 ports compiled and placed in {FULL_SECONDS:.0f} s, {FULL_MIB:.0f} MiB",
                 f"{compiled.median:.1f} s, {max(memory.runs):.0f} MiB",
                 compiled.median <= FULL_SECONDS and max(memory.runs) <= FULL_MIB)
    say(f"edits of the largest: {statistics.quantiles(one.runs, n=100)[-1]:.1f} ms at the 99th percentile")
    return made


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--edits", type=int, default=20, help="of each run")
    options.add_argument("--size", type=int, help="so many ports alone, as JSON")
    if (wanted := options.parse_args()).size:
        of_size(wanted.size, wanted.edits)
    else:
        finish(report, wanted)
