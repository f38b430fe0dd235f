"""The prober against real namespaces: what it says must be what a frame did."""
from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address
from itertools import permutations
from pathlib import Path

import pytest

from controller.host import netns, probe
from controller.host.campaign import Leak, Observation, Options
from controller.host.probe import Endpoint

pytestmark = [pytest.mark.system, pytest.mark.shared]

QUICK = Options(listen=0.3, tries=4, patience=0.1)
Wire = Callable[..., Endpoint]


def ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True, capture_output=True, text=True)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """`wire("a1", "blue", "10.0.0.1")` plugs a new namespace into a Linux bridge; all is gone after the test."""
    prefix = f"tp{os.getpid() % 100000}"
    with ExitStack() as undo:
        bridges: dict[str, str] = {}

        def bridge_of(segment: str) -> str:
            if segment not in bridges:
                bridges[segment] = f"{prefix}-br{len(bridges)}"
                ip("link", "add", bridges[segment], "type", "bridge")
                undo.callback(ip, "link", "del", bridges[segment])
                ip("link", "set", bridges[segment], "up")
            return bridges[segment]

        def plug(name: str, segment: str, address: str, mac: str = "fa:16:3e:00:00:01") -> Endpoint:
            space, outer = f"{prefix}{name}", f"{prefix}{name}"
            ip("netns", "add", space)
            undo.callback(ip, "netns", "del", space)
            ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", space)
            undo.callback(ip, "link", "del", outer)  # with its namespace it would go as well, but some time later
            ip("link", "set", outer, "master", bridge_of(segment), "up")
            ip("-n", space, "link", "set", "lo", "up")
            bits = "64" if ":" in address else "24"
            ip("-n", space, "address", "add", f"{address}/{bits}", "dev", "eth0", *(["nodad"] if bits == "64" else []))
            ip("-n", space, "link", "set", "eth0", "up")
            return Endpoint(name, f"/run/netns/{space}", "eth0", ip_address(address), mac, frozenset((segment,)))

        yield plug


def joined(endpoints: list[Endpoint]) -> frozenset[tuple[str, str]]:
    return frozenset((a.name, b.name) for a, b in permutations(endpoints, 2) if a.segments == b.segments)


def everyone(endpoints: list[Endpoint]) -> list[tuple[str, str]]:
    return [(a.name, b.name) for a, b in permutations(endpoints, 2)]


def two_islands(wire: Wire) -> list[Endpoint]:
    """Two tenants with the same addresses and the same MACs."""
    return [wire(f"{tenant}{n}", tenant, f"10.0.0.{n}", f"fa:16:3e:00:00:0{n}") for tenant in "ab" for n in (1, 2)]


def test_neighbours_reach_each_other_and_a_namesake_in_another_tenant_is_not_taken_for_them(wire: Wire) -> None:
    endpoints = two_islands(wire)
    seen = probe.observe(endpoints, everyone(endpoints), joined(endpoints), QUICK)
    assert seen.reached == {("a1", "a2"), ("a2", "a1"), ("b1", "b2"), ("b2", "b1")}
    assert seen.leaks == ()


def test_an_expected_neighbour_that_is_silent_is_not_reached(wire: Wire) -> None:
    endpoints = two_islands(wire)
    ip("-n", Path(endpoints[1].namespace).name, "address", "flush", "dev", "eth0")
    seen = probe.observe(endpoints, everyone(endpoints), joined(endpoints), QUICK)
    assert seen.reached == {("b1", "b2"), ("b2", "b1")}


def test_islands_that_are_joined_by_mistake_are_caught(wire: Wire) -> None:
    wired = [wire("a1", "both", "10.0.0.1", "fa:16:3e:00:00:01"), wire("b2", "both", "10.0.0.2", "fa:16:3e:00:00:02")]
    endpoints = [replace(endpoint, segments=frozenset((endpoint.name,))) for endpoint in wired]
    seen = probe.observe(endpoints, everyone(endpoints), frozenset(), QUICK)
    assert seen.reached == {("a1", "b2"), ("b2", "a1")}
    assert {replace(leak, routed=False) for leak in seen.leaks} == {
        Leak("a1", "b2", "b2"), Leak("b2", "a1", "a1"), Leak("a1", None, "b2"), Leak("b2", None, "a1")}


def test_a_frame_that_goes_one_way_only_is_a_leak_and_no_reachability(wire: Wire) -> None:
    victim = replace(wire("a1", "both", "10.0.1.1", "fa:16:3e:00:00:01"), segments=frozenset("a"))
    attacker = replace(wire("b1", "both", "10.0.2.1", "fa:16:3e:00:00:02"), segments=frozenset("b"))
    seen = probe.observe([victim, attacker], [("b1", "a1")], frozenset(), QUICK)
    assert seen.reached == frozenset()
    assert {replace(leak, routed=False) for leak in seen.leaks} == {Leak("b1", "a1", "a1"), Leak("b1", None, "a1")}


def test_two_subnets_on_one_network_may_flood_each_other_but_do_not_reach_each_other(wire: Wire) -> None:
    one = wire("a1", "both", "10.0.1.1", "fa:16:3e:00:00:01")
    other = wire("a2", "both", "10.0.2.1", "fa:16:3e:00:00:02")
    seen = probe.observe([one, other], everyone([one, other]), frozenset(), QUICK)
    assert seen == Observation(frozenset(), ())


def test_ipv6_is_probed_as_well(wire: Wire) -> None:
    endpoints = [wire("a1", "a", "fd00::1", "fa:16:3e:00:00:01"), wire("a2", "a", "fd00::2", "fa:16:3e:00:00:02"),
                 wire("b2", "b", "fd00::2", "fa:16:3e:00:00:02"), wire("a4", "a", "10.0.0.4", "fa:16:3e:00:00:04")]
    expected = frozenset({("a1", "a2"), ("a2", "a1")})
    seen = probe.observe(endpoints, everyone(endpoints), expected, QUICK)
    assert seen.reached == expected
    assert seen.leaks == ()


MAC, BLUE = "fa:16:3e:00:00:01", frozenset(("blue",))


def test_a_namespace_that_is_gone_is_said_in_a_sentence() -> None:
    gone = Endpoint("web1", "/proc/4194305/ns/net", "eth0", ip_address("10.0.0.1"), MAC, BLUE)
    with pytest.raises(netns.NamespaceError, match=r"is the lab still up\? \(tunbridge lab up\)"):
        probe.observe([gone], [], frozenset())


def test_an_interface_that_is_gone_is_said_in_a_sentence() -> None:
    here = Endpoint("web1", netns.of_process(os.getpid()), "none", ip_address("10.0.0.1"), MAC, BLUE)
    with pytest.raises(probe.ProbeError, match=r"web1: cannot probe from none .* take the lab down and up"):
        probe.observe([here], [], frozenset())


def test_probing_leaves_the_limits_of_the_machine_as_they_were(wire: Wire) -> None:
    limit = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
    before = limit.read_text()
    endpoints = two_islands(wire)
    probe.observe(endpoints, everyone(endpoints) * 200, joined(endpoints), Options(listen=0.1, tries=2))
    assert limit.read_text() == before
