"""The outside, by each driver of a router: source NAT, floating IPs, hairpin, tenants that share addresses."""
from __future__ import annotations

import contextlib
import resource
import selectors
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from labkit import PATIENCE, Cloud, cloud, until
from routedkit import (
    DRIVERS,
    FAR,
    INSIDE,
    INTERNET,
    Echo,
    addresses,
    ask,
    hears_nothing,
    http_get,
    open_socket,
    routed_topology,
    say,
    traceroute,
)

pytestmark = pytest.mark.system

OWN, OTHER_OWN = "203.0.113.10", "203.0.113.20"
FLOATING, FLOATING_GREEN, FLOATING_OTHER = "203.0.113.50", "203.0.113.51", "203.0.113.60"


@pytest.fixture(scope="module", params=DRIVERS)
def routed(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    with cloud(routed_topology(request.param)) as running:
        yield running


@pytest.fixture
def many_files() -> Iterator[None]:
    """2,000 sockets are more than a process usually may have open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


# ---- source NAT

def test_a_vm_reaches_the_internet_and_is_seen_as_its_router(routed: Cloud) -> None:
    assert routed.pings("blue2", FAR, count=3)
    assert say(routed, "blue2", "internet", FAR, b"to-the-world") == (OWN, FAR)
    assert say(routed, "green1", "internet", "8.8.8.8", b"to-the-world") == (OWN, "8.8.8.8")
    assert b"200" in http_get(routed, "blue2", FAR)[:20]


def test_a_thousand_connections_of_ten_vms_at_once_are_not_mixed_up(routed: Cloud, many_files: None) -> None:
    """All use the same hundred source ports towards one server, so that nine in ten must get another one."""
    each = 100
    with Echo(routed, "internet", FAR, 7777) as server, contextlib.ExitStack() as stack:
        callers: dict[socket.socket, str] = {}
        for vm in INSIDE:
            own = str(routed.port(vm).ip)
            for number in range(each):
                caller = stack.enter_context(open_socket(routed, vm, socket.SOCK_STREAM, (own, 20000 + number)))
                caller.setblocking(False)
                callers[caller] = f"{vm} {number}\n"
                caller.connect_ex((FAR, 7777))
        heard = _told(callers)
        peers = [tuple(line.split(" ")[:2]) for line in heard.values()]
        # blue1 has a floating IP and leaves by it; all others share the router's address.
        assert Counter(address for address, _ in peers) == {OWN: 8 * each, FLOATING: each, FLOATING_GREEN: each}
        assert len(set(peers)) == len(callers) == 10 * each, "each has an address and port of its own"
        assert all(line.split(" ", 2)[2] == callers[caller] for caller, line in heard.items()), "own words came back"
        assert sorted(server.callers) == sorted((address, int(port)) for address, port in peers)


def _told(callers: dict[socket.socket, str]) -> dict[socket.socket, str]:
    """What each caller was answered, having said its line when it was connected."""
    heard: dict[socket.socket, str] = {}
    with selectors.DefaultSelector() as selector:
        for caller in callers:
            selector.register(caller, selectors.EVENT_WRITE)
        while len(heard) < len(callers):
            ready = selector.select(PATIENCE)
            assert ready, f"{len(callers) - len(heard)} of {len(callers)} connections got no answer"
            for key, events in ready:
                caller = key.fileobj
                assert isinstance(caller, socket.socket)
                if events & selectors.EVENT_WRITE:
                    caller.sendall(callers[caller].encode())
                    selector.modify(caller, selectors.EVENT_READ)
                else:
                    heard[caller] = heard.get(caller, "") + caller.recv(4096).decode()
                    selector.unregister(caller)
    return heard


def test_ten_vms_ping_the_same_host_outside_at_once(routed: Cloud) -> None:
    found = [routed.pings(vm, FAR, count=3) for vm in INSIDE]
    assert all(found), dict(zip(INSIDE, found, strict=True))


def test_what_comes_to_the_router_s_address_without_being_an_answer_reaches_no_vm(routed: Cloud) -> None:
    assert routed.pings("blue2", FAR)
    seen = [routed.sniff(vm) for vm in INSIDE]
    with open_socket(routed, "internet") as caller:
        caller.sendto(b"to-the-router", (OWN, 7000))
        caller.sendto(b"to-a-floating-ip", (FLOATING, 7000))
    until(lambda: seen[0].with_token(b"to-a-floating-ip"), "what was sent last arrives")
    assert not [one for one in seen if one.with_token(b"to-the-router")]


def test_errors_about_a_translated_packet_find_the_vm_that_sent_it(routed: Cloud) -> None:
    assert traceroute(routed, "green1", FAR) == ["10.0.2.1", FAR]
    assert traceroute(routed, "green2", FAR) == ["10.0.2.1", FAR]


# ---- floating IPs

def test_a_floating_ip_reaches_its_vm_from_outside(routed: Cloud) -> None:
    assert routed.pings("internet", FLOATING, count=3)
    assert routed.pings("internet", FLOATING_GREEN, count=3)
    assert say(routed, "internet", "blue1", FLOATING, b"from-outside", listen="10.0.1.11") == (INTERNET, FLOATING)
    with Echo(routed, "green2", "10.0.2.12", 7300):
        assert ask(routed, "internet", FLOATING_GREEN, 7300).split(" ")[0] == INTERNET


def test_a_vm_with_a_floating_ip_leaves_by_it(routed: Cloud) -> None:
    assert say(routed, "blue1", "internet", FAR, b"by-floating") == (FLOATING, FAR)
    assert say(routed, "green2", "internet", FAR, b"by-floating") == (FLOATING_GREEN, FAR)
    with Echo(routed, "internet", FAR, 7301):
        assert ask(routed, "blue1", FAR, 7301).split(" ")[0] == FLOATING


def test_traceroute_from_outside_shows_the_floating_ip_as_the_router_too(routed: Cloud) -> None:
    assert traceroute(routed, "internet", FLOATING) == [FLOATING, FLOATING]


def test_two_vms_meet_by_their_floating_ips(routed: Cloud) -> None:
    """Hairpin: each sees the other as the outside would."""
    assert routed.pings("blue1", FLOATING_GREEN, count=3)
    assert routed.pings("green2", FLOATING, count=3)
    assert say(routed, "blue1", "green2", FLOATING_GREEN, b"hairpin", listen="10.0.2.12") == (FLOATING, FLOATING_GREEN)
    assert say(routed, "green2", "blue1", FLOATING, b"hairpin", listen="10.0.1.11") == (FLOATING_GREEN, FLOATING)
    with Echo(routed, "green2", "10.0.2.12", 7302):
        assert ask(routed, "blue1", FLOATING_GREEN, 7302).split(" ")[0] == FLOATING


def test_a_vm_without_a_floating_ip_reaches_one_inside(routed: Cloud) -> None:
    assert say(routed, "blue2", "green2", FLOATING_GREEN, b"hairpin", listen="10.0.2.12") == (OWN, FLOATING_GREEN)
    assert say(routed, "blue2", "blue1", FLOATING, b"hairpin", listen="10.0.1.11") == (OWN, FLOATING)


def test_a_vm_reaches_itself_by_its_floating_ip(routed: Cloud) -> None:
    assert routed.pings("blue1", FLOATING, count=2)


# ---- tenants

def test_two_tenants_with_the_same_addresses_both_have_their_own(routed: Cloud) -> None:
    seen = {vm: routed.sniff(vm) for vm in ("green2", "other2")}
    assert say(routed, "blue1", "green2", "10.0.2.12", b"of-the-first") == ("10.0.1.11", "10.0.2.12")
    assert say(routed, "other1", "other2", "10.0.2.12", b"of-the-second") == ("10.0.1.11", "10.0.2.12")
    assert not seen["green2"].with_token(b"of-the-second")
    assert not seen["other2"].with_token(b"of-the-first")


def test_two_tenants_with_the_same_addresses_and_ports_reach_one_server_at_once(routed: Cloud) -> None:
    with Echo(routed, "internet", FAR, 7303), contextlib.ExitStack() as stack:
        callers = {vm: stack.enter_context(open_socket(routed, vm, socket.SOCK_STREAM, ("10.0.1.11", 20500)))
                   for vm in ("blue1", "other1")}
        for caller in callers.values():
            caller.connect((FAR, 7303))
        for vm, caller in callers.items():
            caller.sendall(f"{vm}\n".encode())
        told = {vm: caller.recv(100).decode().split(" ") for vm, caller in callers.items()}
    assert told == {"blue1": [FLOATING, "20500", "blue1\n"], "other1": [FLOATING_OTHER, "20500", "other1\n"]}


def test_neither_tenant_reaches_the_other_inside_and_both_meet_outside(routed: Cloud) -> None:
    """By its own addresses nobody finds the other tenant; by a floating IP, as everybody outside."""
    with (open_socket(routed, "other2", address=("10.0.2.12", 7005)) as other,
          open_socket(routed, "green2", address=("10.0.2.12", 7005)) as own,
          open_socket(routed, "blue1") as caller):
        caller.sendto(b"mine", ("10.0.2.12", 7005))
        assert own.recv(100) == b"mine"
        assert hears_nothing([other])
    assert say(routed, "blue1", "other1", FLOATING_OTHER, b"to-a-tenant", listen="10.0.1.11") == (
        FLOATING, FLOATING_OTHER)
    assert say(routed, "other2", "blue1", FLOATING, b"to-a-tenant", listen="10.0.1.11") == (OTHER_OWN, FLOATING)


def test_no_inside_address_is_ever_seen_outside(routed: Cloud) -> None:
    wire = routed.sniff("internet", outside_interface(routed))
    for vm in ("blue1", "blue2", "other1", "other2"):
        assert routed.pings(vm, FAR, count=2)
    assert routed.pings("internet", FLOATING)
    seen = {address for frame in wire.frames() if frame[12:14] == b"\x08\x00" for address in addresses(frame)}
    assert seen
    assert not [address for address in seen if address.startswith("10.")]


def outside_interface(routed: Cloud) -> str:
    """The interface of the outside that has the gateway's address."""
    for line in routed.run("internet", "ip", "-o", "-4", "addr").splitlines():
        if f"{INTERNET}/" in line:
            return line.split()[1]
    raise AssertionError("nobody outside has the gateway's address")
