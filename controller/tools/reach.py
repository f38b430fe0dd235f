"""`tunbridge lab reach`: ask the running lab who reaches whom, and hold the answers against the topology."""
from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from controller.host import netns, probe
from controller.host.campaign import Leak, Options
from controller.host.probe import Endpoint
from controller.model.reachability import Pair, all_pairs, expected_pairs
from controller.model.topology import Topology
from controller.tools import lab
from controller.tools.errors import MISSING, Refusal


@dataclass(frozen=True)
class Sample:
    """Ask only so many pairs, chosen by the seed: half of them allowed ones as far as there are that many."""

    size: int
    seed: int


@dataclass(frozen=True)
class Answer:
    """One ordered pair of VM ports: what the topology allows and what happened."""

    source: str
    target: str
    address: str  # of the target
    expected: bool
    observed: bool

    @property
    def ok(self) -> bool:
        return self.expected == self.observed


@dataclass(frozen=True)
class Reach:
    """All answers, in the order of the file, and the frames that were seen where they had no business."""

    answers: tuple[Answer, ...]
    leaks: tuple[Leak, ...]
    networks: Mapping[str, str]  # port name -> network name, of every port of the topology in the order of the file
    sample: Sample | None = None

    @property
    def ok(self) -> bool:
        return not self.leaks and not self.wrong

    @cached_property
    def wrong(self) -> tuple[Answer, ...]:
        return tuple(answer for answer in self.answers if not answer.ok)

    def document(self) -> dict[str, object]:
        """What `--json` prints; `sample` is there only if not all pairs were asked."""
        found: dict[str, object] = {"ok": self.ok}
        if self.sample is not None:
            found["sample"] = {"size": len(self.answers), "of": len(self.networks) * (len(self.networks) - 1),
                               "seed": self.sample.seed}
        found["pairs"] = [{"src": answer.source, "dst": answer.target, "address": answer.address,
                           "expected": answer.expected, "observed": answer.observed} for answer in self.answers]
        found["leaks"] = [{"src": leak.source, "dst": leak.target, "seen_at": leak.seen_at} for leak in self.leaks]
        return found


def reach(topology: Topology, pids: Mapping[str, int], sample: Sample | None = None,
          options: Options | None = None) -> Reach:
    """Probe a running lab, whose VMs are the processes `pids` (VM name -> process id). Needs root.

    Raises Refusal if a VM is missing or cannot be entered.
    """
    expected = expected_pairs(topology)
    pairs = chosen(topology, sample)
    try:
        seen = probe.observe(endpoints(topology, pids), pairs, expected, options)
    except (probe.ProbeError, netns.NamespaceError) as error:
        raise Refusal(str(error), MISSING) from error
    addresses = {port.name: str(port.ip) for port in topology.ports()}
    answers = (Answer(*pair, addresses[pair[1]], pair in expected, pair in seen.reached) for pair in pairs)
    return Reach(tuple(answers), seen.leaks, {port.name: port.network for port in topology.ports()}, sample)


def of_lab(topology: Topology, rundir: Path, sample: Sample | None = None, options: Options | None = None) -> Reach:
    """`reach` of the lab that runs in `rundir`."""
    nodes = lab.state(rundir)
    if not nodes:
        raise Refusal(f"No lab runs in {lab.directory(rundir)}; `tunbridge lab up` brings one up.", MISSING)
    pids = {node.name: node.pid for node in nodes.values() if node.kind == "vm" and node.alive}
    return reach(topology, pids, sample, options)


def endpoints(topology: Topology, pids: Mapping[str, int]) -> list[Endpoint]:
    """Every VM port, and the namespace it is in."""
    missing = [vm.name for vm in topology.vms.values() if vm.name not in pids]
    if missing:
        raise Refusal(f"{', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}: not in the running lab; "
                      "bring it up to date with: tunbridge lab up", MISSING)
    return [Endpoint(port.name, netns.of_process(pids[port.vm]), port.interface, port.ip, port.mac, port.network)
            for port in topology.ports()]


def chosen(topology: Topology, sample: Sample | None) -> tuple[Pair, ...]:
    """The pairs to ask, in the order of the file."""
    pairs = all_pairs(topology)
    if sample is None or sample.size >= len(pairs):
        return pairs
    expected = expected_pairs(topology)
    allowed = [pair for pair in pairs if pair in expected]
    forbidden = [pair for pair in pairs if pair not in expected]
    of_allowed = min(len(allowed), max((sample.size + 1) // 2, sample.size - len(forbidden)))
    dice = random.Random(sample.seed)
    picked = {*dice.sample(allowed, of_allowed), *dice.sample(forbidden, sample.size - of_allowed)}
    return tuple(pair for pair in pairs if pair in picked)
