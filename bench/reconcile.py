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
from collections.abc import Callable
from pathlib import Path

import clouds
from daemons import Daemon
from labs import ask
from probing import Ends, Heard, in_lab, probe
from reports import Report, finish, parser, say
from stage import Stage, stage
from whole import MOST, Runs

COLD, RESTART, CHANGED = 0.75, 2.0, 2.2  # times of ovs-ofctl's
GAP = 30.0  # ms
QUIET = 6.0  # seconds of nothing, about as long as a restart, for the gaps that the machine makes by itself
HOSTS = ("hv1", "hv2")
HERE = {"switch": "hv1/br-tun"}
PHASES = ("ovs-ofctl", "cold", "restart", "changed", "nothing")
Found = dict[str, list[float]]
Tries = dict[str, Runs[tuple[dict[str, float], Heard]]]  # of each phase


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


class Rounds:
    """The stage with its daemon, and all that is compared on it."""

    def __init__(self, here: Stage, daemon: Daemon, old: Path, new: Path) -> None:
        self.here, self.daemon, self.old, self.new = here, daemon, old, new
        self.flows = here.where / "flows"
        self.tries: Tries = {name: Runs() for name in PHASES}
        self._local = in_lab(here.where, "a0", "c", "10.0.250.3")  # goes on while br-tun is empty
        self._away = in_lab(here.where, "a0", "b", "10.0.250.2")

    def prepare(self) -> float:
        """Fill br-tun once, so that ovs-ofctl has a file of its flows; how many there are."""
        started(self.daemon, self.old)
        self.daemon.kill()
        self.here.ofctl("--no-stats", "--no-names", "dump-flows", "br-tun", into=self.flows)
        return self.here.count()

    def once(self) -> None:
        """Every phase, one after the other: each finds the flows that the one before it has left."""
        self._take("ovs-ofctl", lambda again: None, self._local, lambda: peers(self.here, self.flows))
        self._take("cold", lambda again: self.here.ofctl("del-flows", "br-tun"), self._local,
                   lambda: started(self.daemon, self.old))
        self.restart()
        self._take("changed", self._undo, self._away, lambda: started(self.daemon, self.new))
        self._take("nothing", lambda again: None, self._away, _nothing)

    def restart(self) -> None:
        """One of the phases: nothing has changed."""
        self._take("restart", lambda again: self._establish(), self._away, lambda: started(self.daemon, self.old))

    def _take(self, name: str, ready: Callable[[bool], object], ends: Ends,
              work: Callable[[], dict[str, float]]) -> None:
        """A phase, while a probe runs from end to end."""
        def measure() -> tuple[dict[str, float], Heard]:
            with probe(ends) as heard:
                took = work()
            self.daemon.kill()
            return took, heard

        took, heard = self.tries[name].take(name, ready, measure)
        say(f"  {name}: " + ", ".join(f"{key} {value:.3f}" for key, value in took.items())
            + f"; {heard.words()}; sender paused {heard.pause:.1f} ms")

    def _establish(self) -> None:
        """Some packets on their way: a cold start has emptied the caches."""
        with probe(self._away):
            pass

    def _undo(self, again: bool) -> None:
        """The flows as they were, where a try before this one has left the new ones."""
        if again:
            started(self.daemon, self.old)
            self.daemon.kill()


def _nothing() -> dict[str, float]:
    time.sleep(QUIET)
    return {}


def measure(flows: int, runs: int, work: Callable[[Rounds], None] = Rounds.once) -> tuple[Found, Tries]:
    """Every run of everything that counts, by name; and all tries."""
    found: Found = defaultdict(list)
    with stage() as here:
        daemon = Daemon(here.where, HOSTS)
        old, new = (clouds.kept(clouds.crowd(flows, moved=moved), here.where / f"moved{moved}")
                    for moved in (0, flows // 100))
        rounds = Rounds(here, daemon, old, new)
        try:
            found["flows"].append(rounds.prepare())
            for number in range(runs):
                say(f"run {number + 1} of {runs}")
                work(rounds)
        finally:
            daemon.kill()
    for name, tries in rounds.tries.items():
        for took, heard in tries.counted:
            for key, value in took.items():
                found[f"{name} {key}"].append(value)
            found[f"{name} gap"].append(heard.gap)
        # A packet that is lost is lost, whatever the machine's host did meanwhile.
        found[f"{name} lost"] = [heard.lost for _, heard in (*tries.counted, *tries.aside)]
        found[f"{name} sent"] = [heard.sent for _, heard in (*tries.counted, *tries.aside)]
        found[f"{name} gap aside"] = [heard.gap for _, heard in tries.aside]
    return found, rounds.tries


def report(asked: Namespace) -> Report:
    """Figures and verdicts."""
    found, tries = measure(asked.flows, asked.runs)
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
        if found[f"{name} gap aside"]:
            made.add("  and in runs that were put aside", "ms", found[f"{name} gap aside"])
    made.add("memory of the daemon at most", "MiB", found["cold memory"])
    whole = "tunbridge, cold, from the topology object"
    made.add(whole, "s", [sum(run) for run in zip(found["cold s"], found["cold warm"], strict=True)])
    medians = {figure.what: figure.median for figure in made.figures}
    add, dump = medians[names["ovs-ofctl add"]], medians[names["ovs-ofctl dump"]]
    for what, limit, theirs in ((whole, COLD, add), (names["restart s"], RESTART, dump),
                                (names["changed s"], CHANGED, dump)):
        share = medians[what] / theirs
        made.promise(f"{what}, at most {limit} x ovs-ofctl", f"{share:.2f} x", share <= limit)
    sent = {name: {int(a + d) for a, d in zip(found[f"{name} added"], found[f"{name} deleted"], strict=True)}
            for name in ("restart", "changed")}
    made.promise("no flow-mod on an unchanged restart", f"{sorted(sent['restart'])} sent", sent["restart"] == {0})
    exact = asked.flows // 100
    right = (set(found["changed added"]), set(found["changed deleted"])) == ({float(exact)}, {0.0})
    made.promise(f"exactly the {exact} changed flows sent", f"added {sorted(set(found['changed added']))}, deleted "
                 f"{sorted(set(found['changed deleted']))}", right)
    for name in ("cold", "restart", "changed"):
        lost, packets = max(found[f"{name} lost"]), sum(found[f"{name} sent"])
        gaps, every = found[f"{name} gap"], [*found[f"{name} gap"], *found[f"{name} gap aside"]]
        made.promise(f"{name}: nothing lost, no gap of {GAP:.0f} ms",
                     f"{lost:.0f} of {packets:,.0f} lost, {max(gaps):.1f} ms (median of the runs "
                     f"{statistics.median(gaps):.1f}; of all {len(every)} tries {max(every):.1f}); where nobody did "
                     f"anything {max(found['nothing gap']):.1f} ms", lost == 0 and max(gaps) < GAP)
    made.notes.append(f"put aside, as more than {MOST:.0%} of the machine was stolen meanwhile: " + ", ".join(
        f"{len(one.aside)} tries of {name}" for name, one in tries.items())
        + f"; counted all the same, as no try was better: {sum(one.disturbed for one in tries.values())}")
    return made


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--flows", type=int, default=100_000)
    finish(report, options.parse_args())
