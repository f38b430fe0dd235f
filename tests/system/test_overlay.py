"""The overlay on real Open vSwitch: who hears what, decided by captures."""
from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from labkit import PATIENCE, Cloud, cloud, tunbridge, udp_frame, until, vxlan

pytestmark = pytest.mark.system

# blue is on all three computes, green on two of them, red on one. Tenants share addresses, and one pair shares its MAC.
TOPOLOGY = """
cloud: overlay
underlay: {cidr: 192.0.2.0/24}
mac_aging_time: 300
hosts:
  c1: {tunnel_ip: 192.0.2.11}
  c2: {tunnel_ip: 192.0.2.12}
  c3: {tunnel_ip: 192.0.2.13}
  c4: {tunnel_ip: 192.0.2.14}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24}}}
  green: {tunnel_id: 1002, subnets: {green-subnet: {cidr: 10.0.1.0/24}}}
  amber: {tunnel_id: 1003, subnets: {amber-subnet: {cidr: 10.0.1.0/24}}}
vms:
  blue1: {host: c1, network: blue, ip: 10.0.1.11, mac: "fa:16:3e:00:00:11"}
  blue1b: {host: c1, network: blue, ip: 10.0.1.14}
  blue2: {host: c2, network: blue, ip: 10.0.1.12, mac: "fa:16:3e:00:00:12"}
  blue3: {host: c3, network: blue, ip: 10.0.1.13}
  green1: {host: c1, network: green, ip: 10.0.1.11, mac: "fa:16:3e:00:00:11"}
  green2: {host: c2, network: green, ip: 10.0.1.12, mac: "fa:16:3e:00:00:12"}
  amber2: {host: c2, network: amber, ip: 10.0.1.12}
  amber4: {host: c4, network: amber, ip: 10.0.1.13}
"""


@pytest.fixture(scope="module")
def overlay() -> Iterator[Cloud]:
    with cloud(TOPOLOGY) as running:
        yield running


def test_vms_of_a_network_on_different_hosts_ping_both_ways_in_its_tunnel(overlay: Cloud) -> None:
    wire = overlay.sniff_underlay("c1")
    assert overlay.pings("blue1", "10.0.1.12", count=3)
    assert overlay.pings("blue2", "10.0.1.11", count=3)
    carried = [found for frame in wire.frames() if (found := vxlan(frame))]
    echoes = [inner for _, inner in carried if inner[12:14] == b"\x08\x00" and inner[23] == 1]
    assert len(echoes) >= 12
    assert {tunnel_id for tunnel_id, _ in carried} == {1001}
    assert {inner[12:14] for _, inner in carried} <= {b"\x08\x00", b"\x08\x06"}, "no VLAN tag inside the tunnel"


def test_tcp_and_frames_as_large_as_the_mtu_pass_through_the_tunnel(overlay: Cloud) -> None:
    mtu = overlay.topology.network_mtu
    assert f"mtu {mtu} " in overlay.run("blue1", "ip", "link", "show", "eth0")
    overlay.run("blue1", "ping", "-n", "-c", "2", "-i", "0.1", "-W", "1", "-M", "do", "-s", str(mtu - 28), "10.0.1.12")
    data = bytes(range(256)) * 4096
    with overlay.socket("blue2") as listener, overlay.socket("blue1") as caller:
        listener.bind(("10.0.1.12", 5000))
        listener.listen()
        caller.connect(("10.0.1.12", 5000))
        answerer, (peer, _) = listener.accept()
        with answerer, ThreadPoolExecutor(1) as other:
            sent = other.submit(caller.sendall, data)
            heard = _all(answerer, len(data))
            sent.result(PATIENCE)
    assert peer == "10.0.1.11"
    assert heard == data


def _all(sock: socket.socket, size: int) -> bytes:
    """Exactly so many bytes of a stream."""
    found = bytearray()
    while len(found) < size:
        part = sock.recv(65536)
        assert part, f"the stream ended after {len(found)} bytes"
        found += part
    return bytes(found)


def test_frames_between_vms_of_one_host_never_reach_the_underlay(overlay: Cloud) -> None:
    assert overlay.pings("blue1", "10.0.1.14"), "ARP is over"
    wire, token = overlay.sniff_underlay("c1"), b"same-host-token"
    near = overlay.sniff("blue1b")
    overlay.send("blue1", udp_frame(overlay.port("blue1"), overlay.port("blue1b").mac, "10.0.1.14", token))
    until(lambda: near.with_token(token), "the neighbour has the frame")
    assert not wire.with_token(token)


def test_unicast_is_learned_and_a_third_host_hears_nothing(overlay: Cloud) -> None:
    assert overlay.pings("blue1", "10.0.1.12")
    third, token = overlay.sniff_underlay("c3"), b"only-for-blue2"
    target = overlay.sniff("blue2")
    overlay.send("blue1", udp_frame(overlay.port("blue1"), overlay.port("blue2").mac, "10.0.1.12", token))
    until(lambda: target.with_token(token), "blue2 has the frame")
    assert not third.with_token(token)
    mac = overlay.port("blue2").mac
    assert any(f"dl_dst={mac}" in line for line in overlay.learned("c1"))


def test_hosts_that_do_not_carry_the_network_see_not_even_a_broadcast(overlay: Cloud) -> None:
    stranger, carrier, token = overlay.sniff_underlay("c4"), overlay.sniff_underlay("c3"), b"for-all-of-blue"
    overlay.send("blue1", udp_frame(overlay.port("blue1"), "ff:ff:ff:ff:ff:ff", "10.0.1.255", token))
    until(lambda: carrier.with_token(token), "c3 carries blue and has the broadcast")
    assert not stranger.with_token(token)


def test_tenants_with_equal_addresses_and_macs_never_see_a_frame_of_each_other(overlay: Cloud) -> None:
    names = ["blue1", "blue1b", "blue2", "blue3", "green1", "green2", "amber2", "amber4"]
    seen = {name: overlay.sniff(name) for name in names}
    for network in ("blue", "green"):
        token = f"broadcast of {network}".encode()
        sender = overlay.port(f"{network}1")
        overlay.send(sender.name, udp_frame(sender, "ff:ff:ff:ff:ff:ff", "10.0.1.255", token))
        overlay.send(sender.name, udp_frame(sender, overlay.port(f"{network}2").mac, "10.0.1.12", token + b" to one"))
    until(lambda: seen["blue2"].with_token(b"broadcast of blue to one") and
          seen["green2"].with_token(b"broadcast of green to one"), "both tenants have their own frames")
    until(lambda: seen["blue3"].with_token(b"broadcast of blue"), "the broadcast is everywhere in blue")
    for name, sniffer in seen.items():
        for network in {"blue", "green"} - {overlay.port(name).network}:
            assert not sniffer.with_token(f"broadcast of {network}".encode()), f"{name} heard {network}"
    assert overlay.pings("green1", "10.0.1.12", count=3)
    assert overlay.pings("blue1", "10.0.1.12", count=3)


def test_the_local_vlan_of_a_network_differs_between_hosts(overlay: Cloud) -> None:
    assert overlay.vlan("c1", "green") != overlay.vlan("c2", "green")
    assert overlay.pings("green1", "10.0.1.12")


def test_a_vm_that_tags_its_frames_reaches_nobody(overlay: Cloud) -> None:
    names = ["blue1b", "blue2", "blue3", "green1", "green2"]
    seen = {name: overlay.sniff(name) for name in names}
    wire = overlay.sniff_underlay("c1")
    sender, target = overlay.port("blue1"), overlay.port("blue2")
    for vlan in {overlay.vlan("c1", "blue"), overlay.vlan("c1", "green"), overlay.vlan("c2", "green"), 0, 4095}:
        tag = struct.pack("!HH", 0x8100, vlan)
        for mac in ("ff:ff:ff:ff:ff:ff", target.mac, overlay.port("green1").mac):
            overlay.send("blue1", udp_frame(sender, mac, "10.0.1.12", b"tagged-frame", tag=tag))
            overlay.send("blue1", udp_frame(sender, mac, "10.0.1.12", b"tagged-frame", tag=tag + tag))
    overlay.send("blue1", udp_frame(sender, target.mac, "10.0.1.12", b"plain-frame"))
    until(lambda: seen["blue2"].with_token(b"plain-frame"), "a frame without a tag, sent last, arrives")
    assert not wire.with_token(b"tagged-frame")
    assert not [name for name, sniffer in seen.items() if sniffer.with_token(b"tagged-frame")]


def test_a_port_that_the_topology_does_not_know_reaches_nobody(overlay: Cloud) -> None:
    overlay.run("c1", "ip", "link", "add", "rogue", "type", "veth", "peer", "rogue-end")
    try:
        overlay.run("c1", "ip", "link", "set", "rogue", "up")
        overlay.run("c1", "ip", "link", "set", "rogue-end", "up")
        overlay.run("c1", "ovs-vsctl", "add-port", "br-int", "rogue")
        seen = {name: overlay.sniff(name) for name in ("blue1", "blue1b", "blue2", "green1")}
        wire, token = overlay.sniff_underlay("c1"), b"rogue-frame"
        sender = overlay.port("blue1")
        for tag in (b"", struct.pack("!HH", 0x8100, overlay.vlan("c1", "blue"))):
            for mac in ("ff:ff:ff:ff:ff:ff", overlay.port("blue2").mac, overlay.port("blue1b").mac):
                overlay.send("c1", udp_frame(sender, mac, "10.0.1.12", token, tag=tag), "rogue-end")
        overlay.send("blue1", udp_frame(sender, overlay.port("blue2").mac, "10.0.1.12", b"honest-frame"))
        until(lambda: seen["blue2"].with_token(b"honest-frame"), "an honest frame, sent last, arrives")
        assert not wire.with_token(token)
        assert not [name for name, sniffer in seen.items() if sniffer.with_token(token)]
    finally:
        overlay.run("c1", "ovs-vsctl", "--if-exists", "del-port", "br-int", "rogue")
        overlay.run("c1", "ip", "link", "del", "rogue")


def test_a_vm_with_another_mac_or_address_than_its_own_reaches_nobody(overlay: Cloud) -> None:
    sender, target = overlay.port("blue1"), overlay.port("blue2")
    seen = overlay.sniff("blue2")
    overlay.send("blue1", udp_frame(sender, target.mac, "10.0.1.12", b"forged", source_mac="fa:16:3e:99:99:99"))
    overlay.send("blue1", udp_frame(sender, target.mac, "10.0.1.12", b"forged", source_ip="10.0.1.13"))
    overlay.send("blue1", udp_frame(sender, target.mac, "10.0.1.12", b"honest"))
    until(lambda: seen.with_token(b"honest"), "the honest frame, sent last, arrives")
    assert not seen.with_token(b"forged")


def test_the_whole_matrix_is_as_the_topology_says(overlay: Cloud) -> None:
    tunbridge("lab", "reach", "--json", rundir=overlay.rundir)


def test_flows_diff_is_empty_and_intended_needs_no_daemon(overlay: Cloud, tmp_path: Path) -> None:
    assert tunbridge("flows", "--diff", rundir=overlay.rundir).returncode == 0
    told = tunbridge("flows", "c1/br-tun", "--intended", "--topology", str(overlay.file), rundir=tmp_path).stdout
    assert "tunnel id 1001 is blue, here VLAN 1" in told
