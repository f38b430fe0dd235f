"""What the switches' tables make of each question of `lab reach`, beside what is intended and what was observed.

The tables are those that are installed, as the daemon reads them: what each bridge shall hold without what it lacks,
and rows that are altered, learned or somebody else's, as far as they can be read. Where no daemon answers, they are
computed from the topology alone.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from controller.host import cards, netns
from controller.model.placement import Seen
from controller.model.reachability import INTERNET
from controller.model.topology import Port, Topology
from controller.tools import lab, verify_text
from controller.tools.client import ask
from controller.tools.errors import Refusal
from controller.tools.hosttables import Deviation
from controller.tools.journey import DELIVERED, DROPPED, Journey
from controller.tools.reach import Answer, Reach
from controller.tools.rundir import Rundir
from controller.tools.simulate import Cloud
from controller.tools.trace import trace_in
from flows.flow import Flow

Json = dict[str, Any]
MOST: Final = 1000  # questions that are computed; each takes some 10 ms
INSTALLED, TOPOLOGY = "installed", "topology"  # what tables are computed from
_NAMED: Final = 2  # flows that a host lacks, or has besides
_GONE: Final = ("missing", "altered")
_BESIDES: Final = ("surplus", "stranger")
_OTHERS: Final = ("altered", "learned", *_BESIDES)


def with_computed(found: Reach, topology: Topology, where: Rundir) -> Reach:
    """The same with a third opinion, and a reason for each cell in which the three differ; too many are left alone."""
    if len(found.answers) + len(found.targets) > MOST:
        return found
    judge = Judge(topology, where, _bridges(where))
    return replace(found, answers=tuple(map(judge.pair, found.answers)),
                   targets=tuple(map(judge.target, found.targets)),
                   computed_from=INSTALLED if judge.bridges else TOPOLOGY)


def _bridges(where: Rundir) -> list[Json]:
    try:
        found: list[Json] = ask(where, {"do": "flows"})["bridges"]
    except Refusal:
        return []
    return [one for one in found if one["connected"]]


@dataclass(frozen=True)
class Judge:
    """Computes what becomes of each question."""

    topology: Topology
    where: Rundir
    bridges: list[Json]  # as the daemon shows them

    @cached_property
    def cloud(self) -> Cloud:
        """With the tables as they are."""
        seen = {host: Seen({one["bridge"]: one["ports"] for one in mine}, mine[0]["vlans"])
                for host, mine in self._by_host.items()}
        return Cloud(self.topology, seen, whole=True, installed={
            (one["host"], one["bridge"]): Deviation(frozenset(_cookies(one, _GONE)), tuple(_others(one)))
            for one in self.bridges})

    @cached_property
    def _by_host(self) -> Mapping[str, list[Json]]:
        found: dict[str, list[Json]] = {}
        for one in self.bridges:
            found.setdefault(one["host"], []).append(one)
        return found

    @cached_property
    def ports(self) -> Mapping[str, Port]:
        """By name."""
        return {port.name: port for port in self.topology.ports()}

    # ---- each question

    def pair(self, answer: Answer) -> Answer:
        """One port asks another."""
        journey = self._journey(answer.source, answer.target)
        return self._judged(answer, journey, journey.verdict == DELIVERED)

    def target(self, answer: Answer) -> Answer:
        """A gateway, a floating IP, the world outside; what this asks is not computed."""
        if answer.source == INTERNET:
            return answer
        journey = self._journey(answer.source, answer.address)
        return self._judged(answer, journey, journey.verdict != DROPPED)

    def _journey(self, source: str, target: str) -> Journey:
        self.cloud.forget()
        return trace_in(self.cloud, self.topology, (source, target))

    def _judged(self, answer: Answer, journey: Journey, computed: bool) -> Answer:
        judged = replace(answer, computed=computed)
        return judged if judged.ok else replace(judged, reason=self._reason(judged, journey))

    # ---- why they differ

    def _reason(self, answer: Answer, journey: Journey) -> str:
        hosts = self._hosts(answer, journey)
        if answer.computed != answer.expected:
            said = f"the tables do so: {journey.reason}"
            return "; ".join([said, *self._flows(answer, hosts, _GONE, "lacks"),
                              *self._flows(answer, hosts, _BESIDES, "also has")])
        do = "would deliver it" if answer.computed else "would not"
        besides = [*self._trouble(answer, hosts), *self._flows(answer, hosts, _BESIDES, "also has")]
        return "; ".join([f"the tables {do}", *(besides or ["nothing else is known to be wrong; "
                          "`tunbridge trace --live` shows where it gets to"])])

    def _hosts(self, answer: Answer, journey: Journey) -> list[str]:
        """Those that may have a part in it."""
        ends = [self.ports[name].host for name in (answer.source, answer.target) if name in self.ports]
        return list(dict.fromkeys([*ends, *(hop.host for hop in journey.hops if hop.host in self.topology.hosts)]))

    def _flows(self, answer: Answer, hosts: Iterable[str], statuses: Iterable[str], verb: str) -> Iterator[str]:
        """What bridges lack, or have besides; what is about the two ends first."""
        ends = {self.ports[name].path for name in (answer.source, answer.target) if name in self.ports}
        for bridge in (one for host in hosts for one in self._by_host.get(host, ())):
            found = [flow for flow in bridge["flows"] if flow["status"] in statuses]
            found.sort(key=lambda flow: flow["origin"] not in ends)
            if found:
                named = ", ".join(_words(flow) for flow in found[:_NAMED])
                more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
                yield f"{bridge['host']}/{bridge['bridge']} {verb}: {named}{more}"

    def _trouble(self, answer: Answer, hosts: Iterable[str]) -> Iterator[str]:
        """What is wrong beside the tables."""
        for port in (self.ports[name] for name in (answer.source, answer.target) if name in self.ports):
            node = lab.state(self.where.path).get(port.vm)
            if node is None or not node.alive:
                yield f"{port.vm} does not run"
            elif not cards.is_up(netns.of_process(node.pid), port.interface):
                yield f"{port.interface} of {port.vm} is down"
            if port.host in self._by_host and not any(port.device in one["ports"] for one in self._by_host[port.host]):
                yield f"{port.device} of {port.name} is not plugged into {port.host}"
        for host in hosts if self.bridges else ():
            there = {one["bridge"] for one in self._by_host.get(host, ())}
            yield from (f"{host}/{bridge} is not connected" for bridge in self.topology.hosts[host].datapath_ids
                        if bridge not in there)


def _cookies(bridge: Json, statuses: Iterable[str]) -> Iterator[int]:
    return (int(flow["cookie"], 16) for flow in bridge["flows"] if flow["status"] in statuses)


def _others(bridge: Json) -> Iterator[Flow]:
    """The rows that are not simply as wanted, but there."""
    for row in bridge["flows"]:
        if row["status"] in _OTHERS:
            with contextlib.suppress(verify_text.Unreadable):
                yield verify_text.flow(bridge["bridge"], row)


def _words(flow: Json) -> str:
    known = flow["status"] not in _BESIDES
    return f"table {flow['table']} ({flow['why']})" if known else \
        f"table {flow['table']} priority={flow['priority']},{flow['match']} actions={flow['actions']} ({flow['why']})"
