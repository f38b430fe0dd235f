"""Between networks, by each driver of a router: the packet's way, decided by captures on the underlay."""
from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from labkit import PATIENCE, Cloud, cloud, mac_bytes, udp_frame, until
from routedkit import (
    DRIVERS,
    FAR,
    INTERNET,
    MTU_INSIDE,
    Carried,
    IcmpError,
    carried,
    icmp_error,
    open_socket,
    routed_topology,
    say,
    traceroute,
)

pytestmark = pytest.mark.system

BLUE, GREEN, TEAL = 1001, 1002, 1003


@pytest.fixture(scope="module", params=DRIVERS)
def routed(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    with cloud(routed_topology(request.param)) as running:
        yield running


def leg(routed: Cloud, address: str) -> str:
    """The MAC of r1's leg with this address."""
    return next(one.mac for one in routed.topology.routers["r1"].interfaces if str(one.ip) == address)


def test_a_packet_goes_to_the_router_in_one_tunnel_and_leaves_it_in_the_other(routed: Cloud) -> None:
    assert routed.pings("blue1", "10.0.2.12"), "all MACs are learned"
    near, far = routed.sniff_underlay("c1"), routed.sniff_underlay("c2")
    one, two = routed.port("blue1"), routed.port("green2")
    assert say(routed, "blue1", "green2", "10.0.2.12", b"token-of-a-way") == ("10.0.1.11", "10.0.2.12")
    gate, other = leg(routed, "10.0.1.1"), leg(routed, "10.0.2.1")
    assert carried(near, b"token-of-a-way") == [Carried(BLUE, one.mac, gate, 64), Carried(BLUE, gate, one.mac, 63)]
    assert carried(far, b"token-of-a-way") == [Carried(GREEN, other, two.mac, 63), Carried(GREEN, two.mac, other, 64)]


def test_two_subnets_of_one_network_are_joined_with_one_tunnel_id(routed: Cloud) -> None:
    assert routed.pings("teal1", "10.0.4.12"), "all MACs are learned"
    wire = routed.sniff_underlay("n1")
    assert say(routed, "teal1", "teal2", "10.0.4.12", b"token-of-teal") == ("10.0.3.11", "10.0.4.12")
    found = carried(wire, b"token-of-teal")
    assert [one.tunnel_id for one in found] == [TEAL] * 4
    assert sorted(one.ttl for one in found) == [63, 63, 64, 64]


def test_vms_of_two_networks_ping_each_other_whichever_hosts_they_are_on(routed: Cloud) -> None:
    for source, address in (("blue1", "10.0.2.11"), ("blue1", "10.0.2.12"), ("green2", "10.0.1.12"),
                            ("green4", "10.0.3.11"), ("teal2", "10.0.1.15"), ("teal1", "10.0.4.12")):
        assert routed.pings(source, address, count=3), f"{source} to {address}"


def test_within_a_network_nothing_goes_by_the_router(routed: Cloud) -> None:
    assert routed.pings("blue1", "10.0.1.12"), "all MACs are learned"
    wire = routed.sniff_underlay("n1")
    assert say(routed, "blue1", "blue2", "10.0.1.12", b"token-of-blue") == ("10.0.1.11", "10.0.1.12")
    assert not carried(wire, b"token-of-blue")


def test_tcp_passes_by_the_router_with_segments_as_large_as_the_mtu(routed: Cloud) -> None:
    routed.run("blue1", "ping", "-n", "-c", "2", "-i", "0.1", "-W", "1", "-M", "do", "-s", str(MTU_INSIDE - 28),
               "10.0.2.12")
    data = bytes(range(256)) * 4096
    with (open_socket(routed, "green2", socket.SOCK_STREAM, ("10.0.2.12", 5000)) as listener,
          open_socket(routed, "blue1", socket.SOCK_STREAM) as caller):
        listener.listen()
        caller.connect(("10.0.2.12", 5000))
        answerer, (peer, _) = listener.accept()
        answerer.settimeout(PATIENCE)
        with answerer, ThreadPoolExecutor(1) as other:
            sent = other.submit(caller.sendall, data)
            heard = bytearray()
            while len(heard) < len(data):
                part = answerer.recv(65536)
                assert part, f"the stream ended after {len(heard)} bytes"
                heard += part
            sent.result(PATIENCE)
    assert peer == "10.0.1.11"
    assert heard == data


def test_traceroute_shows_the_gateway(routed: Cloud) -> None:
    assert traceroute(routed, "blue1", "10.0.2.12") == ["10.0.1.1", "10.0.2.12"]
    assert traceroute(routed, "green2", "10.0.1.11") == ["10.0.2.1", "10.0.1.11"]
    assert traceroute(routed, "teal1", "10.0.4.12") == ["10.0.3.1", "10.0.4.12"]
    assert traceroute(routed, "blue2", FAR) == ["10.0.1.1", FAR]


def test_each_address_of_the_router_answers_a_ping_from_everywhere_inside(routed: Cloud) -> None:
    for vm in ("blue1", "green2", "teal1"):
        for address in ("10.0.1.1", "10.0.2.1", "10.0.3.1", "10.0.4.1", "203.0.113.10"):
            assert routed.pings(vm, address, count=2), f"{vm} to {address}"


def test_a_packet_whose_time_to_live_ends_is_told_so_by_the_leg_it_came_in_by(routed: Cloud) -> None:
    assert icmp_error(routed, "blue3", "10.0.2.12", ttl=1) == IcmpError("10.0.1.1", 11, 0, 0)
    assert icmp_error(routed, "green3", "10.0.1.12", ttl=1) == IcmpError("10.0.2.1", 11, 0, 0)
    assert icmp_error(routed, "green3", FAR, ttl=1) == IcmpError("10.0.2.1", 11, 0, 0)


def test_a_packet_from_outside_that_is_too_large_inside_is_told_the_mtu(routed: Cloud) -> None:
    """The answer comes from the address that was asked: the outside knows no other."""
    assert icmp_error(routed, "internet", "203.0.113.50", size=MTU_INSIDE + 1, fragment=False) == IcmpError(
        "203.0.113.50", 3, 4, MTU_INSIDE)
    with contextlib.closing(open_socket(routed, "blue1", address=("10.0.1.11", 7001))) as listener:
        assert icmp_error(routed, "internet", "203.0.113.50", size=MTU_INSIDE, fragment=False, port=7001,
                          seconds=0.2) is None
        assert len(listener.recv(2048)) == MTU_INSIDE - 28


def test_a_large_packet_without_df_is_cut_and_arrives_whole(routed: Cloud) -> None:
    assert heard_whole(routed, 1472)


def test_fragments_are_translated_where_they_can_be_put_together(routed: Cloud) -> None:
    """The userspace datapath puts none together: it would do so in one place for all tenants (docs/decisions.md)."""
    assert heard_whole(routed, 4000) == (routed.topology.routers["r1"].driver == "namespace")


def heard_whole(routed: Cloud, size: int) -> bool:
    """Whether a datagram from outside comes to a floating IP's VM as it was sent, in whatever pieces."""
    with (contextlib.closing(open_socket(routed, "blue1", address=("10.0.1.11", 7002))) as listener,
          contextlib.closing(open_socket(routed, "internet")) as caller):
        # IP_MTU_DISCOVER: IP_PMTUDISC_OMIT, whatever the kernel has been told of the way (linux/in.h).
        caller.setsockopt(socket.IPPROTO_IP, 10, 5)
        data = bytes(n % 251 for n in range(size))
        caller.sendto(data, ("203.0.113.50", 7002))
        listener.settimeout(2)
        try:
            return listener.recv(65536) == data
        except TimeoutError:
            return False


def test_fragments_pass_between_networks(routed: Cloud) -> None:
    with contextlib.closing(open_socket(routed, "green2", address=("10.0.2.12", 7003))) as listener:
        with contextlib.closing(open_socket(routed, "blue1")) as caller:
            data = bytes(n % 251 for n in range(5000))
            caller.sendto(data, ("10.0.2.12", 7003))
        assert listener.recv(65536) == data


def test_an_address_that_nobody_has_is_unreachable_and_says_so(routed: Cloud) -> None:
    assert icmp_error(routed, "blue1", "10.0.2.99", seconds=6) == IcmpError("10.0.1.1", 3, 1, 0)


def test_a_closed_port_of_the_router_is_unreachable(routed: Cloud) -> None:
    assert icmp_error(routed, "blue1", "10.0.1.1", port=9) == IcmpError("10.0.1.1", 3, 3, 0)
    assert icmp_error(routed, "blue1", "10.0.2.1", port=9) == IcmpError("10.0.2.1", 3, 3, 0)
    with open_socket(routed, "blue1", socket.SOCK_STREAM) as caller, pytest.raises(ConnectionRefusedError):
        caller.connect(("10.0.1.1", 9))


def test_only_the_network_host_that_has_the_router_sees_what_is_routed(routed: Cloud) -> None:
    """Two VMs of one host on two networks still meet at the router alone, and a third host sees nothing."""
    assert routed.pings("blue1", "10.0.2.11"), "all MACs are learned"
    near, hop, third = (routed.sniff_underlay(host) for host in ("c1", "n1", "c2"))
    assert say(routed, "blue1", "green1", "10.0.2.11", b"token-of-one-host") == ("10.0.1.11", "10.0.2.11")
    ids = [one.tunnel_id for one in carried(near, b"token-of-one-host")]
    assert sorted(ids) == [BLUE, BLUE, GREEN, GREEN]
    assert len(carried(hop, b"token-of-one-host")) == 4
    assert not carried(third, b"token-of-one-host")


def test_a_vm_that_wears_a_leg_s_address_or_mac_disturbs_nobody(routed: Cloud) -> None:
    thief, victim = routed.port("blue3"), routed.sniff("green2")
    gate = leg(routed, "10.0.1.1")
    arp = bytes.fromhex("0001080006040001") + mac_bytes(thief.mac) + socket.inet_aton("10.0.1.1")
    routed.send("blue3", b"\xff" * 6 + mac_bytes(thief.mac) + b"\x08\x06" + arp + bytes(6) +
                socket.inet_aton("10.0.1.1") + bytes(18))
    routed.send("blue3", udp_frame(thief, gate, "10.0.2.12", b"as-the-leg", source_mac=gate))
    routed.send("blue3", udp_frame(thief, gate, "10.0.2.12", b"as-another", source_ip="10.0.1.14"))
    routed.send("blue3", udp_frame(thief, gate, "10.0.2.12", b"as-myself"))
    until(lambda: victim.with_token(b"as-myself"), "the honest frame, sent last, arrives")
    assert not victim.with_token(b"as-the-leg") + victim.with_token(b"as-another")
    assert routed.pings("blue1", "10.0.1.1") and routed.pings("blue1", "10.0.2.12")


def test_a_router_s_own_packets_reach_the_internet_s_address(routed: Cloud) -> None:
    assert routed.pings("blue2", INTERNET, count=2)
