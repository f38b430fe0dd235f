"""When the prober asks, how long it waits, and what it concludes; the clock is a number."""
from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from controller.host.campaign import Campaign, Leak, Observation, Options, Probe, Way
from controller.model.reachability import INTERNET, Pair, Target

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
    assert run.result() == Observation(frozenset(), (Leak("a1", target, "b1", way is Way.ROUTED),))


def test_a_reply_that_strays_into_another_network_is_a_leak() -> None:
    def stray(run: Campaign, probe: Probe) -> None:
        answer(run, probe)
        if probe.way is Way.ROUTED:
            run.heard(probe.number, "b1", is_reply=True)

    run = campaign(("a1", "a2"))
    play(run, stray)
    assert run.result() == Observation(frozenset({("a1", "a2")}), (Leak("a1", "a2", "b1", routed=True),))


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


GATEWAY = Target("a1", "r1 on blue-subnet", IPv4Address("10.0.1.1"), True, None)
FLOATING = Target("a1", "floating IP of b1", IPv4Address("203.0.113.50"), True, "b1")
NOWHERE = Target("b1", INTERNET, IPv4Address("203.0.113.1"), False, None)
OUTSIDE = {**SEGMENTS, INTERNET: frozenset(("public",))}


def aimed(*targets: Target) -> Campaign:
    return Campaign((), EXPECTED, OUTSIDE, FAST, targets)


def test_a_gateway_is_answered_by_its_reply_alone_and_asked_until_then() -> None:
    run = aimed(GATEWAY)

    def the_third_time(run: Campaign, probe: Probe) -> None:
        if probe.attempt == 2:
            run.heard(probe.number, "a1", is_reply=True)

    sent, _ = play(run, the_third_time)
    assert [(probe.aim, probe.attempt) for _, probe in sent] == [(GATEWAY, 0), (GATEWAY, 1), (GATEWAY, 2)]
    assert run.result() == Observation(frozenset(), (), frozenset({GATEWAY}))


def test_a_floating_ip_is_reached_only_if_its_vm_has_seen_the_request_and_that_is_no_leak() -> None:
    run = aimed(FLOATING)
    play(run, lambda run, probe: run.heard(probe.number, "a1", is_reply=True))
    assert run.result() == Observation(frozenset(), ())
    run = aimed(FLOATING)

    def translated(run: Campaign, probe: Probe) -> None:
        run.heard(probe.number, "b1", is_reply=False)
        run.heard(probe.number, "a1", is_reply=True)

    play(run, translated)
    assert run.result() == Observation(frozenset(), (), frozenset({FLOATING}))


def test_a_frame_that_is_for_another_mac_reaches_nobody() -> None:
    def flooded(run: Campaign, probe: Probe) -> None:
        run.heard(probe.number, "a2", is_reply=False, for_it=False)
        run.heard(probe.number, "a1", is_reply=True)

    run = campaign(("a1", "a2"))
    play(run, flooded)
    assert run.result().reached == frozenset()


def test_what_shall_not_be_reached_is_asked_once_and_told_if_it_answers() -> None:
    run = aimed(NOWHERE)
    sent, over = play(run, silence)
    assert len(sent) == 1
    assert over >= FAST.listen
    run = aimed(NOWHERE)
    play(run, lambda run, probe: run.heard(probe.number, "b1", is_reply=True))
    assert run.result().answered == {NOWHERE}


@pytest.mark.parametrize(("target", "at", "leaks"), [
    (GATEWAY, "b1", (Leak("a1", "r1 on blue-subnet", "b1", True),)), (GATEWAY, INTERNET, ()), (FLOATING, "a2", ())])
def test_a_request_that_comes_where_it_has_no_business_is_a_leak(
        target: Target, at: str, leaks: tuple[Leak, ...]) -> None:
    run = aimed(target)
    play(run, lambda run, probe: run.heard(probe.number, at, is_reply=False))
    assert run.result().leaks == leaks


def test_a_broadcast_that_gets_outside_is_a_leak() -> None:
    run = Campaign([("a1", "a2")], EXPECTED, OUTSIDE, FAST)
    play(run, lambda run, probe: run.heard(probe.number, INTERNET, is_reply=False))
    assert run.result().leaks == (Leak("a1", None, INTERNET),)
