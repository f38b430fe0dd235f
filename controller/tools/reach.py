"""`tunbridge lab reach`: ask the running lab who reaches whom, and hold the answers against the topology."""
from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, TypeVar

from controller.host import netns, probe
from controller.host.campaign import Leak, Options
from controller.host.probe import Endpoint
from controller.model.reachability import INTERNET, Pair, Target, all_pairs, expected_pairs, expected_targets
from controller.model.topology import Topology
from controller.model.walking import World
from controller.tools import lab
from controller.tools.errors import MISSING, Refusal

_ANYWHERE: Final = IPv4Address(0)  # the world outside speaks from whatever address it is called by
_T = TypeVar("_T")


@dataclass(frozen=True)
class Sample:
    """Ask only so many pairs, and targets, chosen by the seed: half of them allowed ones if there are as many."""

    size: int
    seed: int


@dataclass(frozen=True)
class Answer:
    """What the topology allows and what happened: between two VM ports, or from one to something that is no port."""

    source: str
    target: str
    address: str  # that was asked
    expected: bool
    observed: bool
    computed: bool | None = None  # what the tables make of it; None: nobody has computed it
    reason: str = ""  # where the three are not one

    @property
    def ok(self) -> bool:
        return self.expected == self.observed and self.computed in (None, self.expected)

    def document(self) -> dict[str, object]:
        """As plain values; the last two are there only if there is something to say."""
        found: dict[str, object] = {"src": self.source, "dst": self.target, "address": self.address,
                                    "expected": self.expected, "observed": self.observed}
        if self.computed is not None:
            found["computed"] = self.computed
        if self.reason:
            found["reason"] = self.reason
        return found


@dataclass(frozen=True)
class Reach:
    """All answers, in the order of the file, and the frames that were seen where they had no business."""

    answers: tuple[Answer, ...]
    leaks: tuple[Leak, ...]
    networks: Mapping[str, str]  # port name -> network name, of every port of the topology in the order of the file
    sample: Sample | None = None
    targets: tuple[Answer, ...] = ()  # gateways, floating IPs, the outside
    computed_from: str = ""  # `installed` tables, the `topology`, or nothing at all (see threeways)

    @property
    def ok(self) -> bool:
        return not self.leaks and not self.wrong

    @cached_property
    def wrong(self) -> tuple[Answer, ...]:
        return tuple(answer for answer in (*self.answers, *self.targets) if not answer.ok)

    def document(self) -> dict[str, object]:
        """What `--json` prints; `sample` is there only if not all pairs were asked, and `computed_from` if any were
        computed.
        """
        found: dict[str, object] = {"ok": self.ok}
        if self.sample is not None:
            found["sample"] = {"size": len(self.answers), "of": len(self.networks) * (len(self.networks) - 1),
                               "seed": self.sample.seed}
        if self.computed_from:
            found["computed_from"] = self.computed_from
        for key, answers in (("pairs", self.answers), ("targets", self.targets)):
            found[key] = [answer.document() for answer in answers]
        found["leaks"] = [{"src": leak.source, "dst": leak.target, "seen_at": leak.seen_at} for leak in self.leaks]
        return found


def reach(topology: Topology, pids: Mapping[str, int], sample: Sample | None = None,
          options: Options | None = None) -> Reach:
    """Probe a running lab. `pids` has a process of each VM, by its name, and of the node outside, as INTERNET.

    Needs root. Raises Refusal if a VM is missing or cannot be entered.
    """
    expected = expected_pairs(topology)
    pairs, targets = chosen(topology, sample), chosen_targets(topology, sample)
    try:
        seen = probe.observe(endpoints(topology, pids), pairs, expected, options, targets)
    except (probe.ProbeError, netns.NamespaceError) as error:
        raise Refusal(str(error), MISSING) from error
    addresses = {port.name: str(port.ip) for port in topology.ports()}
    answers = (Answer(*pair, addresses[pair[1]], pair in expected, pair in seen.reached) for pair in pairs)
    others = (Answer(aim.source, aim.name, str(aim.address), aim.expected, aim in seen.answered) for aim in targets)
    leaks = unexplained(topology, seen.leaks, targets)
    return Reach(tuple(answers), leaks, {port.name: port.network for port in topology.ports()}, sample,
                 tuple(others))


def unexplained(topology: Topology, leaks: Sequence[Leak], targets: Iterable[Target]) -> tuple[Leak, ...]:
    """The leaks without those that are routers' work: what arrives, though no answer can come back, is routed, too."""
    if not any(leak.routed for leak in leaks):
        return tuple(leaks)
    world, ports = World(topology), {port.name: port for port in topology.ports()}
    addresses = {(aim.source, aim.name): aim.address for aim in targets}

    def is_routed(leak: Leak) -> bool:
        target = ports.get(leak.target or "")
        address = target.ip if target else addresses.get((leak.source, leak.target or ""))
        sources = [ports[leak.source]] if leak.source in ports else [*world.internets.values()]
        return isinstance(address, IPv4Address) and any(
            ports.get(leak.seen_at) in world.ends(source, address) for source in sources)

    return tuple(dict.fromkeys(replace(leak, routed=False) for leak in leaks if not leak.routed or not is_routed(leak)))


def of_lab(topology: Topology, rundir: Path, sample: Sample | None = None, options: Options | None = None) -> Reach:
    """`reach` of the lab that runs in `rundir`."""
    nodes = lab.state(rundir)
    if not nodes:
        raise Refusal(f"No lab runs in {lab.directory(rundir)}; `tunbridge lab up` brings one up.", MISSING)
    pids = {_called(node): node.pid for node in nodes.values() if node.kind in ("vm", INTERNET) and node.alive}
    return reach(topology, pids, sample, options)


def _called(node: lab.Node) -> str:
    """The node outside has another name where a VM or a host is called so."""
    return INTERNET if node.kind == INTERNET else node.name


def endpoints(topology: Topology, pids: Mapping[str, int]) -> list[Endpoint]:
    """Every VM port, and the world outside if there is one, each with the namespace it is in."""
    outside = _outside(topology)
    wanted = [*topology.vms, *([INTERNET] if outside else [])]
    missing = [name for name in wanted if name not in pids]
    if missing:
        raise Refusal(f"{', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}: not in the running lab; "
                      "bring it up to date with: tunbridge lab up", MISSING)
    found = [Endpoint(port.name, netns.of_process(pids[port.vm]), port.interface, port.ip, port.mac,
                      frozenset((port.network,))) for port in topology.ports()]
    if outside:
        found.append(Endpoint(INTERNET, netns.of_process(pids[INTERNET]), "", _ANYWHERE, "", outside))
    return found


def _outside(topology: Topology) -> frozenset[str]:
    """The networks that the world outside is on: those on a physical network, if anybody uses them."""
    used = {*topology.ports_by_network, *topology.legs_by_network}
    return frozenset(name for name in used if topology.networks[name].physical_network is not None)


def chosen(topology: Topology, sample: Sample | None) -> tuple[Pair, ...]:
    """The pairs to ask, in the order of the file."""
    pairs = all_pairs(topology)
    if sample is None or sample.size >= len(pairs):
        return pairs
    return _picked(pairs, expected_pairs(topology), sample)


def chosen_targets(topology: Topology, sample: Sample | None) -> tuple[Target, ...]:
    """The targets to ask, in the order of the file."""
    targets = tuple(expected_targets(topology))
    if sample is None or sample.size >= len(targets):
        return targets
    return _picked(targets, {aim for aim in targets if aim.expected}, sample)


def _picked(everything: Sequence[_T], expected: Set[_T], sample: Sample) -> tuple[_T, ...]:
    allowed = [one for one in everything if one in expected]
    forbidden = [one for one in everything if one not in expected]
    of_allowed = min(len(allowed), max((sample.size + 1) // 2, sample.size - len(forbidden)))
    dice = random.Random(sample.seed)
    picked = {*dice.sample(allowed, of_allowed), *dice.sample(forbidden, sample.size - of_allowed)}
    return tuple(one for one in everything if one in picked)
