"""Routers come, change and go while VMs talk; the controller dies and comes back; a VM makes noise."""
from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from labkit import Cloud, cloud, mac_bytes, udp_frame, until
from routedkit import (
    DRIVERS,
    FAR,
    HEAD,
    Stream,
    namespaces,
    open_socket,
    routed_topology,
    say,
    streams,
)

pytestmark = pytest.mark.system

LIFE = HEAD.replace("networks:", "networks:\n  amber: {tunnel_id: 1009, subnets: {amber-subnet: {cidr: 10.0.9.0/24, "
                    "gateway: 10.0.9.1}}}") + """
vms:
  blue1: {host: c1, network: blue, ip: 10.0.1.11}
  green2: {host: c2, network: green, ip: 10.0.2.12}
  amber2: {host: c2, network: amber, ip: 10.0.9.12}
routers:
"""
ROUTER = "  %s: {host: n1, driver: %s, interfaces: [%s]%s}\n"


def life(driver: str, **interfaces: str) -> str:
    """The cloud with these routers; r1 has a way outside if it has an interface."""
    return LIFE + "".join(ROUTER % (name, driver, legs, ", gateway: {network: public, ip: 203.0.113.10}"
                                    if name == "r1" and legs else "") for name, legs in interfaces.items())


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def qrouter(running: Cloud, name: str) -> str:
    return f"qrouter-{running.topology.routers[name].id}"


def obeys(running: Cloud, text: str) -> None:
    """`apply` alone: it brings the lab along."""
    running.file.write_text(text)
    running.tunbridge("apply", str(running.file))
    running.in_sync()


def test_a_router_without_interfaces_has_no_namespace_and_no_flows(driver: str) -> None:
    with cloud(life(driver, r1="blue-subnet", r3="")) as running:
        with_it = running.dump()
        assert qrouter(running, "r3") not in namespaces(running)
        assert (qrouter(running, "r1") in namespaces(running)) is (driver == "namespace")
        obeys(running, life(driver, r1="blue-subnet"))
        assert running.dump() == with_it


def test_apply_attaches_and_detaches_subnets_live(driver: str) -> None:
    """Those who talk meanwhile notice nothing."""
    with cloud(life(driver, r1="blue-subnet, green-subnet", r3="")) as running:
        before = running.dump()
        assert running.pings("blue1", "10.0.2.12", count=2)
        assert not running.pings("amber2", "10.0.9.1", wait=0.3)
        with streams(Stream(running, "blue1", "green2", "10.0.2.12"),
                     Stream(running, "green2", "internet", FAR)) as talk:
            obeys(running, life(driver, r1="blue-subnet, green-subnet, amber-subnet", r3=""))
            until(lambda: running.pings("amber2", "10.0.1.11"), "the new subnet is joined")
            assert say(running, "blue1", "amber2", "10.0.9.12", b"to-amber") == ("10.0.1.11", "10.0.9.12")
            assert running.pings("amber2", "10.0.9.1") and running.pings("amber2", FAR)
            obeys(running, life(driver, r1="blue-subnet, green-subnet", r3=""))
            assert not running.pings("amber2", "10.0.9.1", wait=0.3)
            assert not running.pings("amber2", "10.0.1.11", wait=0.3)
            assert [one.stop() for one in talk] == [[], []]
        assert running.dump() == before


def test_the_first_subnet_brings_the_router_and_the_last_one_takes_it_away(driver: str) -> None:
    with cloud(life(driver, r1="")) as running:
        before = running.dump()
        assert not namespaces(running)
        obeys(running, life(driver, r1="blue-subnet, green-subnet"))
        assert (qrouter(running, "r1") in namespaces(running)) is (driver == "namespace")
        until(lambda: running.pings("blue1", "10.0.2.12"), "it routes")
        until(lambda: running.pings("blue1", FAR), "also to the outside")
        obeys(running, life(driver, r1=""))
        assert not namespaces(running)
        assert not running.pings("blue1", "10.0.1.1", wait=0.3)
        assert running.dump() == before


def test_a_router_that_changes_its_driver_goes_on_with_the_same_addresses(driver: str) -> None:
    other = next(one for one in DRIVERS if one != driver)
    with cloud(life(driver, r1="blue-subnet, green-subnet")) as running:
        assert running.pings("blue1", "10.0.2.12")
        obeys(running, life(other, r1="blue-subnet, green-subnet"))
        assert (qrouter(running, "r1") in namespaces(running)) is (other == "namespace")
        until(lambda: running.pings("blue1", "10.0.2.12") and running.pings("blue1", FAR), "it routes as before")


# ---- the controller dies

@pytest.fixture(scope="module", params=DRIVERS)
def routed(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    with cloud(routed_topology(request.param)) as running:
        yield running


def counters(running: Cloud) -> dict[str, dict[str, int]]:
    return {f"{one['host']}/{one['bridge']}": one["counters"] for one in running.status()["switches"]}


def test_no_packet_is_lost_when_the_controller_is_killed_and_none_when_it_returns(routed: Cloud) -> None:
    """Between networks, to the outside with and without a floating IP, and from there."""
    ways = (Stream(routed, "blue2", "green1", "10.0.2.11", port=7401),
            Stream(routed, "blue3", "internet", FAR, port=7402),
            Stream(routed, "blue1", "internet", FAR, port=7403),
            Stream(routed, "internet", "green2", "203.0.113.51", listen="10.0.2.12", port=7404),
            Stream(routed, "blue1", "green2", "203.0.113.51", listen="10.0.2.12", port=7405))
    before = routed.dump()
    with streams(*ways) as talk:
        until(lambda: all(len(one.back) > 30 for one in talk), "all are under way")
        routed.kill_daemon()
        seen = [one.sent for one in talk]
        until(lambda: all(one.sent > 250 + had for one, had in zip(talk, seen, strict=True)), "they go on without it")
        assert routed.dump() == before
        routed.start_daemon()
        routed.in_sync()
        seen = [one.sent for one in talk]
        until(lambda: all(one.sent > 150 + had for one, had in zip(talk, seen, strict=True)), "they go on with it")
        assert [one.stop() for one in talk] == [[], [], [], [], []]
    work = counters(routed)
    assert all(not one[what] for one in work.values() for what in ("added", "deleted", "forgotten", "metered")), work
    assert routed.dump() == before


def test_without_a_controller_established_ways_begin_new_conversations(routed: Cloud) -> None:
    """Neighbours that the topology or the switch knows need nobody: new connections start at the dead of night."""
    assert routed.pings("blue4", FAR) and routed.pings("green4", "10.0.1.14")
    routed.kill_daemon()
    try:
        assert routed.pings("blue4", "10.0.2.14", count=3)
        assert routed.pings("green4", FAR, count=3)
        assert routed.pings("internet", "203.0.113.51", count=3)
    finally:
        routed.start_daemon()
        routed.in_sync()


# ---- noise

def flood(running: Cloud, vm: str, frame: bytes, over: threading.Event) -> int:
    """About 5,000 frames a second until it is over; how many."""
    count, began = 0, time.monotonic()
    with running.raw(vm) as sock:
        while not over.is_set():
            for _ in range(50):
                sock.send(frame)
            count += 50
            time.sleep(max(0.0, began + count / 5000 - time.monotonic()))
    return count


@pytest.mark.parametrize("what", ["ttl", "stranger"])
def test_a_vm_that_floods_the_router_starves_nobody(routed: Cloud, what: str) -> None:
    """Every frame of it wants an answer that no flow can give; its neighbour's pings are all answered meanwhile."""
    sender = routed.port("blue3")
    gate = next(one.mac for one in routed.topology.routers["r1"].interfaces if str(one.ip) == "10.0.1.1")
    frame = udp_frame(sender, gate, "10.0.2.12" if what == "ttl" else "10.0.2.200", b"noise")
    if what == "ttl":
        frame = with_ttl(frame, 1)
    over = threading.Event()
    noise = threading.Thread(target=flood, args=(routed, "blue3", frame, over), daemon=True)
    noise.start()
    try:
        for vm, address in (("blue5", "10.0.1.1"), ("green3", "10.0.2.1"), ("blue5", "10.0.2.13"), ("blue5", FAR)):
            assert routed.pings(vm, address, count=10), f"{vm} to {address}"
    finally:
        over.set()
        noise.join(10)
    assert routed.pings("blue3", "10.0.2.13"), "it may still talk itself"


def with_ttl(frame: bytes, ttl: int) -> bytes:
    """An untagged IPv4 frame with another time to live."""
    head = bytearray(frame[14:34])
    head[8], head[10:12] = ttl, b"\0\0"
    total = sum(int.from_bytes(head[at:at + 2], "big") for at in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    head[10:12] = (~total & 0xFFFF).to_bytes(2, "big")
    return frame[:14] + bytes(head) + frame[34:]


def test_a_flood_of_arp_questions_for_the_gateway_needs_no_controller(routed: Cloud) -> None:
    sender = routed.port("green3")
    arp = (bytes.fromhex("0001080006040001") + mac_bytes(sender.mac) + bytes([10, 0, 2, 13]) + bytes(6) +
           bytes([10, 0, 2, 1]))
    frame = b"\xff" * 6 + mac_bytes(sender.mac) + b"\x08\x06" + arp + bytes(18)
    seen = routed.sniff("green3")
    for _ in range(200):
        routed.send("green3", frame)
    until(lambda: sum(one[12:14] == b"\x08\x06" and one[20:22] == b"\0\2" for one in seen.frames()) >= 200,
          "each is answered")


def test_questions_for_many_strangers_at_once_starve_nobody(routed: Cloud) -> None:
    with open_socket(routed, "blue5") as sock:
        for number in range(500):
            sock.sendto(b"x", (f"10.0.2.{100 + number % 100}", 9))
    until(lambda: routed.pings("blue5", "10.0.2.13", count=2), "its packets to VMs go on")
    until(lambda: routed.pings("green1", "10.0.2.1", count=2), "others are answered")
