"""`tunbridge why-not`: where a packet dies, and the smallest edits of the topology that would deliver it.

Edits are proposed by what is known of the topology (`remedies`), and believed only when a trace on the edited file ends
well. The cheapest are looked for first, and of several together none is idle.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import Any, Final

from controller.model import reading
from controller.model.amending import amended, text_of
from controller.model.reachability import expected_pairs
from controller.model.topology import Topology
from controller.tools import remedies, remedies_routing
from controller.tools.case import Case
from controller.tools.journey import DROPPED, Journey
from controller.tools.remedies import ATTACHMENT, FLOATING, GATEWAY, INTERFACE, PAIR, ROUTE, RULE, Remedy
from controller.tools.services import PING, Service
from controller.tools.trace import trace

_MOST: Final = 5  # that edits may cost together
_A_PORT: Final = 3  # what a port more costs: it is a wire, an address and a card; everything else costs 1
_MOST_TRIES: Final = 50
_MOST_ANSWERS: Final = 5
_MANY_PORTS: Final = 300  # from here on it is not told who else gains or loses whom
_RANKS: Final = {kind: rank for rank, kind in enumerate((RULE, ROUTE, GATEWAY, PAIR, INTERFACE, FLOATING, ATTACHMENT))}
# In the order of the way. A stage that proposes nothing is not in the way, or cannot be helped.
_STAGES: Final[tuple[Callable[[Case], list[Remedy]], ...]] = (
    remedies.out_of_the_groups, remedies_routing.there, remedies_routing.outside, remedies.into_the_groups,
    remedies_routing.back, remedies.by_another_card)


@dataclass(frozen=True)
class Answer:
    """Edits that deliver the packet, and what else they do."""

    remedies: tuple[Remedy, ...]
    text: str  # of the edited file
    case: Case  # what was asked of it in the end
    journey: Journey
    gain: tuple[tuple[str, str], ...] | None = None  # pairs of ports; None: there are too many to look
    lose: tuple[tuple[str, str], ...] | None = None

    @property
    def rank(self) -> tuple[bool, int, list[int]]:
        """The smaller the better: nothing joined that was apart, few edits, and such as open little."""
        return (any(one.joins for one in self.remedies), _cost(self.remedies),
                sorted(_RANKS[one.kind] for one in self.remedies))


@dataclass(frozen=True)
class WhyNot:
    """What came of a question."""

    file: str
    text: str
    case: Case
    journey: Journey
    answers: tuple[Answer, ...] = ()
    by_design: str = ""  # that the file keeps the two apart
    nobody: str = ""  # that it knows nobody with that address
    refused: tuple[str, ...] = ()  # what would have helped, if it were legal
    tried: int = 0

    @property
    def delivered(self) -> bool:
        """Whether nothing needs to change."""
        return self.journey.verdict != DROPPED


def why_not(content: bytes, file: str, asked: tuple[str, str], service: Service = PING) -> WhyNot:
    """Ask a valid topology's content why the first does not reach the second; both named as for `trace`.

    Refusal for a name that there is not.
    """
    text = text_of(content)
    topology = reading.parse(content, file).topology
    assert topology is not None, "who asks has read it"
    journey = trace(topology, *asked, service=service)
    case = _case(topology, text, asked, service)
    if journey.verdict != DROPPED:
        return WhyNot(file, text, case, journey)
    search = _Search(file, text, case)
    answers = sorted(search.answers(), key=lambda one: one.rank)[:_MOST_ANSWERS]
    return WhyNot(file, text, case, journey, tuple(_with_effect(case.topology, one) for one in answers),
                  _by_design(case), _nobody(case), tuple(dict.fromkeys(search.refused)), search.tried)


def _case(topology: Topology, text: str, asked: tuple[str, str], service: Service) -> Case:
    ports = {port.name: port for port in topology.ports()}
    named = ports.get(asked[0]) or topology.vms[asked[0]].ports[0]
    return Case(topology, text, named, asked[1], service)


def _by_design(case: Case) -> str:
    """That the file keeps the two apart, if it does."""
    other = case.hearer
    if other is None or not case.apart:
        return ""
    here, there = case.subnet(case.source), case.subnet(other)
    twins = f", nor could one: {here.name} and {there.name} overlap" if here.cidr.overlaps(there.cidr) else ""
    return (f"{case.source.network} and {other.network} are different tenants, as far as the file says: no router "
            f"joins them{twins}")


def _nobody(case: Case) -> str:
    """That nobody has the address that is asked, where it is inside."""
    if case.hearer is not None or case.asked is None or case.floating is not None:
        return ""
    subnets = (subnet.name for name in case.topology.filters.joined(case.source.network)
               for subnet in case.topology.networks[name].subnets if case.asked in subnet.cidr)
    subnet = next(subnets, None)
    return f"no port, router or floating IP of the file has {case.asked}, an address of {subnet}" if subnet else ""


def _with_effect(before: Topology, answer: Answer) -> Answer:
    """With the pairs that gain and lose each other, but for the one that was asked for."""
    after = answer.case.topology
    if sum(1 for _ in after.ports()) > _MANY_PORTS or not answer.remedies:
        return answer
    # A VM that gets a second port has its first one called otherwise.
    names = {port.id: port.name for port in before.ports()}
    called = {port.name: names.get(port.id, port.name) for port in after.ports()}
    was, now = expected_pairs(before), {(called[one], called[other]) for one, other in expected_pairs(after)}
    if answer.case.hearer is not None:
        now -= {(called[answer.case.source.name], called[answer.case.hearer.name])} - was
    return replace(answer, gain=tuple(sorted(now - was)), lose=tuple(sorted(was - now)))


def _cost(chosen: Sequence[Remedy]) -> int:
    return sum((_A_PORT if one.source else 1) for one in chosen if one.edits)


def _key(chosen: Sequence[Remedy]) -> frozenset[str]:
    return frozenset(one.what for one in chosen)


@dataclass
class _Search:
    file: str
    text: str
    case: Case
    tried: int = 0
    refused: list[str] = field(default_factory=list)
    met: set[frozenset[str]] = field(default_factory=set)

    def answers(self) -> list[Answer]:
        """The cheapest, and what was found on the way to them."""
        found: dict[frozenset[str], Answer] = {}
        waiting: list[tuple[int, int, tuple[Remedy, ...], Case]] = [(0, 0, (), self.case)]
        while waiting and self.tried < _MOST_TRIES:
            cost, _, before, case = heappop(waiting)
            if cost >= max(1, min((_cost(one.remedies) for one in found.values()), default=_MOST)):
                break
            for answer in self._next(before, case):
                if answer.journey.verdict == DROPPED:
                    heappush(waiting, (_cost(answer.remedies), self.tried, answer.remedies, answer.case))
                else:
                    smaller = self._without_idle(answer)
                    found[_key(smaller.remedies)] = smaller
        return list(found.values())

    def _next(self, before: tuple[Remedy, ...], case: Case) -> Iterator[Answer]:
        """What comes of one remedy more, be it good or bad."""
        free = () if before else remedies.otherwise(self.case)
        for remedy in (*free, *self._proposed(case)):
            chosen = (*before, remedy)
            if _key(chosen) not in self.met:
                self.met.add(_key(chosen))
                answer = self._tried(chosen)
                if answer is not None:
                    yield answer

    @staticmethod
    def _proposed(case: Case) -> Sequence[Remedy]:
        return next((found for stage in _STAGES if (found := stage(case))), [])

    def _tried(self, chosen: tuple[Remedy, ...]) -> Answer | None:
        """What a trace says of the edited file; None if it cannot be written, or is no topology."""
        text = amended(self.text, [edit for one in chosen for edit in one.edits])
        if text is None:
            return None
        self.tried += 1
        found = reading.parse(text, self.file)
        if found.topology is None:
            self.refused += [f"{chosen[-1].what}: {problem.message}" for problem in found.problems
                             if problem.severity == "error"][:1]
            return None
        asked = (next((one.source for one in reversed(chosen) if one.source), self._names[0]),
                 next((one.target for one in reversed(chosen) if one.target), self._names[1]))
        journey = trace(found.topology, *asked, service=self.case.service)
        return Answer(chosen, text, _case(found.topology, text, asked, self.case.service), journey)

    @property
    def _names(self) -> tuple[str, str]:
        return self.case.source.name, self.case.target

    def _without_idle(self, answer: Answer) -> Answer:
        """Without edits that are not needed."""
        for remedy in answer.remedies if len(answer.remedies) > 1 else ():
            rest = tuple(one for one in answer.remedies if one is not remedy)
            smaller = self._tried(rest)
            if smaller is not None and smaller.journey.verdict != DROPPED:
                return self._without_idle(smaller)
        return answer


def where(journey: Journey) -> dict[str, Any] | None:
    """The last place that the packet came to."""
    keys = ("host", "device", "kind", "table", "flow", "why")
    return {key: getattr(journey.hops[-1], key) for key in keys} if journey.hops else None
