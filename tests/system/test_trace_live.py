"""`trace --live`: what captures at every device of a running lab see is what was computed; and what is told if not.

The cloud is the demo, with its two tenants, both kinds of routers, translation and the world outside, and IPv6 beside.
"""
from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator

import pytest
from labkit import Cloud, cloud, tunbridge, until

from controller.model.reachability import INTERNET, all_pairs
from controller.tools.journey import Journey
from controller.tools.live import live
from controller.tools.trace import service

pytestmark = pytest.mark.system

PACKETS = 100  # heard at every device of their way
SIX = """
  six1: {host: compute1, network: six, ip: "2001:db8:1::11"}
  six2: {host: compute2, network: six, ip: "2001:db8:1::12"}
"""


def text() -> str:
    from tests.clouds import ROOT

    demo = (ROOT / "topology.yaml").read_text()
    network = 'six: {tunnel_id: 1006, subnets: {six-subnet: {cidr: "2001:db8:1::/64"}}}'
    return demo.replace("networks:\n", f"networks:\n  {network}\n", 1).replace("\nvms:", f"\nvms:{SIX.rstrip()}", 1)


@pytest.fixture(scope="module")
def demo() -> Iterator[Cloud]:
    with cloud(text()) as running:
        yield running


def problems(journey: Journey) -> tuple[str, ...]:
    assert journey.live
    return (*journey.live.differs, *journey.live.unknown)


def heard(journey: Journey) -> int:
    """The packets that were heard at every device where one can listen."""
    whole = [leg for leg in journey.legs if leg.hops and all(
        hop.observed and hop.observed.seen for hop in leg.hops if hop.observed and hop.observed.how == "captured")]
    return len(whole)


def test_captures_at_every_device_see_what_was_computed(demo: Cloud, seed: int) -> None:
    pick = random.Random(seed)
    pairs = sorted(all_pairs(demo.topology))
    names = [port.name for port in demo.topology.ports() if port.ip.version == 4]
    always = [("six1", "six2", None), ("db1", INTERNET, None), ("shop1", INTERNET, None),
              ("shop1", "203.0.113.50", None), ("web1", "db1", 5432), ("web1", "10.0.2.1", None),
              ("web1", "broadcast", None), ("six1", "broadcast", None)]
    packets = 0
    while packets < PACKETS:
        source, target = pick.choice(pairs)
        asked = always.pop() if always else pick.choice(
            [(source, target, None), (source, target, 80), (pick.choice(names), INTERNET, None)])
        journey = live(demo.where, asked[0], asked[1], service(asked[2], None) if asked[2] else None, counting=False)
        assert problems(journey) == (), (asked, journey.verdict, journey.reason)
        packets += heard(journey)


def test_each_flow_of_the_way_counts_the_packet(demo: Cloud) -> None:
    journey = live(demo.where, "web1", "web2")
    assert problems(journey) == ()
    counted = [hop.observed for leg in journey.legs for hop in leg.hops if hop.kind == "table"]
    assert all(one and one.how == "counted" and one.seen for one in counted)


def test_a_port_that_is_down_is_named(demo: Cloud) -> None:
    device = demo.port("web2").device
    demo.run("compute2", "ip", "link", "set", device, "down")
    try:
        done = tunbridge("trace", "web1", "web2", "--live", rundir=demo.rundir, check=False)
    finally:
        demo.run("compute2", "ip", "link", "set", device, "up")
    assert done.returncode == 1
    assert f"{device} on compute2 is down." in done.stdout
    assert "web1 pings 10.0.1.12: it was not heard at" in done.stdout
    until(lambda: demo.pings("web1", "10.0.1.12"), "web2 is there again")


def test_a_flow_that_takes_the_packet_away_is_named(demo: Cloud) -> None:
    vlan, mac = demo.vlan("compute2", "blue"), demo.port("web2").mac
    match = f"table=60,priority=99,dl_vlan={vlan},dl_dst={mac}"
    demo.run("compute2", "ovs-ofctl", "-O", "OpenFlow14", "add-flow", "br-int", f"cookie=0x77,{match},actions=drop")
    try:
        journey = live(demo.where, "web1", "web2")
    finally:
        demo.run("compute2", "ovs-ofctl", "-O", "OpenFlow14", "--strict", "del-flows", "br-int", match)
    (told,) = problems(journey)
    assert told.startswith("web1 pings 10.0.1.12: it was not counted at deliver on compute2, after vxlan-")
    assert told.endswith("There the flow with cookie 0x77 has counted.")


def test_a_switch_that_does_not_answer_is_what_is_not_known(demo: Cloud) -> None:
    pid = int((demo.rundir / "lab" / "compute2" / "ovs-vswitchd.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        done = tunbridge("trace", "web1", "web2", "--live", rundir=demo.rundir, check=False)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert done.returncode == 3
    assert "Open vSwitch of compute2 does not answer" in done.stdout
    assert "compute1  eth0                           web1 sends it  seen" in done.stdout
    demo.in_sync()


def test_without_a_lab_there_is_a_sentence_and_exit_code_3(demo: Cloud) -> None:
    done = tunbridge("trace", "web1", "web2", "--live", rundir=demo.rundir / "elsewhere", check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "lab up" in done.stderr
