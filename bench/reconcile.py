#!/usr/bin/env python3
"""Cold, restarted and changed: how long 100,000 flows of br-tun take, beside ovs-ofctl, with a probe running.

One hypervisor of a lab knows the MACs of so many VMs elsewhere (`clouds.crowd`). Every round: `ovs-ofctl --bundle
add-flows` of the same flows and `dump-flows`; the daemon, to an empty br-tun; the daemon killed (SIGKILL) and
started, nothing changed; killed and started with a topology in which one VM of a hundred lives elsewhere; and as
long a time in which no daemon runs, for the gaps that the machine makes by itself. Times are the
daemon's own, from its log: from the connection of br-tun until it is in sync, which it says when the switch has
answered the last commit; without the time in which it waits for the switch to connect br-int, too. Needs root.
"""
from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections import defaultdict
from pathlib import Path

import clouds
from daemons import Daemon
from labs import ask
from probing import Heard, in_lab, probe
from reports import Report, finish, parser, say
from stage import Stage, stage

COLD, RESTART, CHANGED = 0.75, 2.0, 2.2  # times of ovs-ofctl's
GAP = 30.0  # ms
QUIET = 6.0  # seconds of nothing, about as long as a restart, for the gaps that the machine makes by itself
HOSTS = ("hv1", "hv2")
HERE = {"switch": "hv1/br-tun"}
Found = dict[str, list[float]]


def started(daemon: Daemon, topology: Path) -> dict[str, float]:
    """A daemon starts; seconds until br-tun is in sync, and what it has sent."""
    begin = daemon.start(topology)
    daemon.first("connected", **HERE)
    before = daemon.cpu()
    done = daemon.first("in sync", **HERE)
    for host in HOSTS:
        for bridge in ("br-int", "br-tun"):
            daemon.first("in sync", switch=f"{host}/{bridge}")
    switches = ask(daemon.where, {"do": "status"})["switches"]
    counters = next(one["counters"] for one in switches if (one["host"], one["bridge"]) == ("hv1", "br-tun"))
    warm = daemon.first("ready").at - daemon.first("loaded").at
    return {"s": done.at - daemon.first("connected", **HERE).at - waited(daemon), "warm": warm,
            "from start": done.at - begin, "cpu": daemon.cpu() - before, "added": counters["added"],
            "deleted": counters["deleted"], "memory": daemon.memory()}


def waited(daemon: Daemon) -> float:
    """Seconds for which br-tun had been read and the switch had not even connected br-int, which tries once a second.

    Not before both have been read does the daemon write either.
    """
    return max(0.0, daemon.first("connected", switch="hv1/br-int").at - daemon.first("read", **HERE).at)


def peers(here: Stage, flows: Path) -> dict[str, float]:
    """ovs-ofctl, to an empty br-tun, and reading it all."""
    here.ofctl("del-flows", "br-tun")
    added = here.timed_ofctl("--bundle", "add-flows", "br-tun", str(flows))
    return {"add": added, "dump": here.timed_ofctl("dump-flows", "br-tun", into=Path("/dev/null"))}


def keep(found: Found, name: str, took: dict[str, float], heard: Heard | None = None) -> None:
    """One run more."""
    for key, value in took.items():
        found[f"{name} {key}"].append(value)
    if heard is not None:
        found[f"{name} lost"].append(heard.lost)
        found[f"{name} gap"].append(heard.gap)
    say(f"  {name}: " + ", ".join(f"{key} {value:.3f}" for key, value in took.items())
        + (f"; {heard.words()}; sender paused {heard.pause:.1f} ms" if heard else ""))


def measure(flows: int, runs: int, only: str = "") -> Found:
    """Every run of everything, by name."""
    found: Found = defaultdict(list)
    with stage() as here:
        old, new = (clouds.kept(clouds.crowd(flows, moved=moved), here.where / f"moved{moved}")
                    for moved in (0, flows // 100))
        daemon = Daemon(here.where, HOSTS)
        local = in_lab(here.where, "a0", "c", "10.0.250.3")
        away = in_lab(here.where, "a0", "b", "10.0.250.2")
        try:
            started(daemon, old)
            daemon.kill()
            file = here.where / "flows"
            here.ofctl("--no-stats", "--no-names", "dump-flows", "br-tun", into=file)
            found["flows"].append(here.count())
            for number in range(runs):
                say(f"run {number + 1} of {runs}")
                one_round(here, daemon, found, {"cold": (local, old), "restart": (away, old), "changed": (away, new)},
                          only, file)
        finally:
            daemon.kill()
    return found


def one_round(here: Stage, daemon: Daemon, found: Found, ways: dict[str, tuple], only: str, file: Path) -> None:
    """All that is compared, once, one after the other."""
    if not only:
        with probe(ways["cold"][0]) as heard:
            took = peers(here, file)
        keep(found, "ovs-ofctl", took, heard)
        here.ofctl("del-flows", "br-tun")
    for name, (ends, topology) in ways.items():
        daemon.kill()
        if only not in ("", name):
            continue
        with probe(ends) as heard:
            took = started(daemon, topology)
        keep(found, name, took, heard)
        if name == "cold":
            with probe(ways["restart"][0]):  # so that the way is established: the cold start has emptied the caches
                pass
    daemon.kill()
    if not only:
        with probe(ways["restart"][0]) as heard:
            time.sleep(QUIET)
        keep(found, "nothing", {}, heard)


def report(asked: Namespace) -> Report:
    """Figures and verdicts."""
    found = measure(asked.flows, asked.runs)
    made = Report(f"reconcile: {found['flows'][0]:,.0f} flows of br-tun")
    names = {"ovs-ofctl add": "ovs-ofctl --bundle add-flows", "ovs-ofctl dump": "ovs-ofctl dump-flows",
             "cold s": "tunbridge, cold, connected to in sync",
             "restart s": "tunbridge restarted, unchanged, connected to in sync",
             "changed s": "tunbridge restarted, 1 % changed, connected to in sync",
             "cold cpu": "  processor time of the daemon, cold", "restart cpu": "  processor time, unchanged",
             "changed cpu": "  processor time, 1 % changed",
             "restart from start": "  unchanged, from the start of the process"}
    for key, words in names.items():
        made.add(words, "s", found[key])
    for name, words in (("ovs-ofctl", "ovs-ofctl"), ("cold", "cold"), ("restart", "restart"), ("changed", "1 %"),
                        ("nothing", "nobody does anything")):
        made.add(f"{words}: packets lost by the probe", "packets", found[f"{name} lost"])
        made.add(f"{words}: longest gap", "ms", found[f"{name} gap"])
    made.add("memory of the daemon at most", "MiB", found["cold memory"])
    medians = {figure.what: figure.median for figure in made.figures}
    medians[names["cold s"]] = made.add(
        "tunbridge, cold, from the topology object", "s",
        [sum(run) for run in zip(found["cold s"], found["cold warm"], strict=True)]).median
    add, dump = medians[names["ovs-ofctl add"]], medians[names["ovs-ofctl dump"]]
    for name, limit, theirs in (("cold", COLD, add), ("restart", RESTART, dump), ("changed", CHANGED, dump)):
        share = medians[names[f"{name} s"]] / theirs
        made.promise(f"{names[f'{name} s']}, at most {limit} x ovs-ofctl", f"{share:.2f} x", share <= limit)
    sent = {name: {int(a + d) for a, d in zip(found[f"{name} added"], found[f"{name} deleted"], strict=True)}
            for name in ("restart", "changed")}
    made.promise("no flow-mod on an unchanged restart", f"{sorted(sent['restart'])} sent", sent["restart"] == {0})
    exact = asked.flows // 100
    right = (set(found["changed added"]), set(found["changed deleted"])) == ({float(exact)}, {0.0})
    made.promise(f"exactly the {exact} changed flows sent", f"added {sorted(set(found['changed added']))}, deleted "
                 f"{sorted(set(found['changed deleted']))}", right)
    for name in ("cold", "restart", "changed"):
        lost, gap = max(found[f"{name} lost"]), max(found[f"{name} gap"])
        made.promise(f"{name}: nothing lost, no gap of {GAP:.0f} ms", f"{lost:.0f} lost, {gap:.1f} ms (median of the "
                     f"runs {statistics.median(found[f'{name} gap']):.1f}); where nobody did anything "
                     f"{max(found['nothing gap']):.1f} ms", lost == 0 and gap < GAP)
    return made


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--flows", type=int, default=100_000)
    finish(report, options.parse_args())
