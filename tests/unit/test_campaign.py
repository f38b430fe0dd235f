"""When the prober asks, how long it waits, and what it concludes; the clock is a number."""
from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from controller.host.campaign import Campaign, Leak, Observation, Options, Probe, Way
from controller.model.reachability import Pair

SEGMENTS = {"a1": frozenset("a"), "a2": frozenset("a"), "b1": frozenset("b")}
EXPECTED = frozenset({("a1", "a2"), ("a2", "a1")})
FAST = Options(tries=3, patience=1.0, longest=2.0, listen=5.0, rate=1000.0)

Network = Callable[[Campaign, Probe], None]


def campaign(*pairs: Pair, options: Options = FAST) -> Campaign:
    return Campaign(pairs, EXPECTED, SEGMENTS, options)


def play(run: Campaign, network: Network) -> tuple[list[tuple[float, Probe]], float]:
    """Drive a campaign over a network that is a function; what was sent when, and when it was over."""
    now, sent = 0.0, []
    while not run.is_over:
        assert now < 1000
        for probe in run.due(now):
            sent.append((now, probe))
            network(run, probe)
        now += max(run.wait(now), 0.001)
    return sent, now


def answer(run: Campaign, probe: Probe) -> None:
    """A network as it should be."""
    if probe.way is Way.ROUTED and (probe.source, probe.target) in EXPECTED:
        run.heard(probe.number, probe.target or "", is_reply=False)
        run.heard(probe.number, probe.source, is_reply=True)


def silence(run: Campaign, probe: Probe) -> None:
    pass


def test_an_answer_ends_the_waiting_for_it() -> None:
    run = campaign(("a1", "a2"))
    sent, _ = play(run, answer)
    assert [probe.way for _, probe in sent] == [Way.ROUTED, Way.FLOOD]
    assert run.result() == Observation(frozenset({("a1", "a2")}), ())


def test_an_expected_pair_is_asked_again_ever_more_patiently_and_then_given_up() -> None:
    run = campaign(("a1", "a2"))
    sent, over = play(run, silence)
    times = [round(when, 1) for when, probe in sent if probe.way is Way.ROUTED]
    assert times == [0.0, 1.0, 3.0]
    assert round(over, 1) == 5.0
    assert run.result().reached == frozenset()


def test_a_forbidden_pair_is_asked_by_route_and_by_force_and_listened_for() -> None:
    run = campaign(("a1", "b1"))
    sent, over = play(run, answer)
    assert [probe.way for _, probe in sent] == [Way.ROUTED, Way.DIRECT, Way.FLOOD]
    assert over >= FAST.listen
    assert run.result() == Observation(frozenset(), ())


def test_the_reply_of_a_namesake_is_not_the_destination_s() -> None:
    def namesake(run: Campaign, probe: Probe) -> None:
        if probe.way is Way.ROUTED:
            run.heard(probe.number, "a2", is_reply=False)
            run.heard(probe.number, "a1", is_reply=True)

    run = campaign(("a1", "b1"))
    play(run, namesake)
    assert run.result() == Observation(frozenset(), ())


def test_a_request_without_a_reply_is_not_reached() -> None:
    run = campaign(("a1", "a2"))
    play(run, lambda run, probe: run.heard(probe.number, "a2", is_reply=False))
    assert run.result() == Observation(frozenset(), ())


@pytest.mark.parametrize(("way", "target"), [(Way.ROUTED, "b1"), (Way.DIRECT, "b1"), (Way.FLOOD, None)])
def test_whatever_is_seen_in_another_network_is_a_leak_said_once(way: Way, target: str | None) -> None:
    def leaky(run: Campaign, probe: Probe) -> None:
        if probe.way is way:
            run.heard(probe.number, "b1", is_reply=False)
            run.heard(probe.number, "b1", is_reply=False)

    run = campaign(("a1", "b1"))
    play(run, leaky)
    assert run.result() == Observation(frozenset(), (Leak("a1", target, "b1"),))


def test_a_reply_that_strays_into_another_network_is_a_leak() -> None:
    def stray(run: Campaign, probe: Probe) -> None:
        answer(run, probe)
        if probe.way is Way.ROUTED:
            run.heard(probe.number, "b1", is_reply=True)

    run = campaign(("a1", "a2"))
    play(run, stray)
    assert run.result() == Observation(frozenset({("a1", "a2")}), (Leak("a1", "a2", "b1"),))


def test_a_frame_flooded_in_its_own_network_is_no_leak() -> None:
    run = campaign(("a1", "b1"))
    play(run, lambda run, probe: run.heard(probe.number, "a2", is_reply=False))
    assert run.result().leaks == ()


def test_a_number_nobody_sent_is_ignored() -> None:
    run = campaign(("a1", "a2"))
    run.heard(4_000_000_000, "a2", is_reply=False)
    play(run, answer)
    assert run.result() == Observation(frozenset({("a1", "a2")}), ())


def test_nothing_to_ask_is_over_at_once() -> None:
    assert campaign().is_over


def test_no_more_is_sent_than_the_rate_allows_and_no_more_waits_than_the_window(seed: int) -> None:
    ports = [f"p{n}" for n in range(40)]
    pairs = [(a, b) for a in ports for b in ports if a != b]
    options = Options(window=10, rate=500.0, patience=0.5, listen=0.5)
    run = Campaign(pairs, frozenset(pairs), dict.fromkeys(ports, frozenset(("one",))), options)
    dice, waiting, most, now, sent = random.Random(seed), {}, 0, 0.0, 0
    while not run.is_over:
        for probe in run.due(now):
            sent += 1
            if probe.way is Way.ROUTED:
                waiting[probe.number] = probe
        most = max(most, len(waiting))
        assert sent <= 500 * now + 6
        for probe in dice.sample(list(waiting.values()), min(3, len(waiting))):
            run.heard(probe.number, probe.target or "", is_reply=False)
            run.heard(probe.number, probe.source, is_reply=True)
            del waiting[probe.number]
        now += max(run.wait(now), 0.01)
    assert most <= 10
    assert run.result().reached == frozenset(pairs)
