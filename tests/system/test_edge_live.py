"""Security groups by the openvswitch driver while things change: conversations, zones, counters, who was refused."""
from __future__ import annotations

import re
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from labkit import Cloud, cloud, mac_bytes, udp_frame, until
from test_changes import Stream

from controller.tools import client, lab

pytestmark = [pytest.mark.system, pytest.mark.alone]

TOPOLOGY = """
cloud: edge-live
firewall: openvswitch
underlay: {cidr: 192.0.2.0/24}
hosts:
  c1: {tunnel_ip: 192.0.2.11}
  c2: {tunnel_ip: 192.0.2.12}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24}}}
security_groups:
  ping: [{direction: ingress, protocol: icmp, remote_group: ping}]
  more: [{direction: ingress, protocol: tcp, port: 22, remote: 10.0.0.0/8}]
  web: [{direction: ingress, protocol: tcp, port: 80, remote: 0.0.0.0/0}]
vms:
  web1: {host: c1, network: blue, ip: 10.0.1.11, security_groups: [ping, web]}
  web2: {host: c2, network: blue, ip: 10.0.1.12, security_groups: [ping]}
  web3: {host: c1, network: blue, ip: 10.0.1.13, security_groups: [ping]}
  nat1: {host: c1, network: blue, ip: 10.0.1.41, port_security: false}
"""
MAC = "02:00:00:00:00:99"


@pytest.fixture(scope="module")
def shared() -> Iterator[Cloud]:
    with cloud(TOPOLOGY) as found:
        yield found


@pytest.fixture
def running(shared: Cloud) -> Iterator[Cloud]:
    """The cloud as it was at the beginning."""
    yield shared
    apply(shared, TOPOLOGY)


def counted(where: Cloud) -> dict[str, dict[str, int]]:
    """Bridge -> its counters, once all are in sync."""
    return {f"{one['host']}/{one['bridge']}": one["counters"] for one in where.in_sync()["switches"]}


def rows(where: Cloud, port: str, **more: Any) -> list[dict[str, Any]]:
    """The rows that stand against what a port may not do."""
    found = client.ask(where.where, {"do": "spoofers", **more})
    assert found["not_connected"] == []
    return [one for one in found["refused"] if one["port"] == port]


def refused(where: Cloud, port: str) -> Counter[str]:
    """Offence -> how often it was refused."""
    found: Counter[str] = Counter()
    for one in rows(where, port):
        found[one["offence"]] += one["packets"]
    return found


def apply(where: Cloud, text: str) -> None:
    """The daemon alone obeys another topology; nothing is plugged."""
    where.file.write_text(text)
    assert client.ask(where.where, {"do": "apply", "text": text, "source": str(where.file)})["ok"]
    where.in_sync()


def conversation(where: Cloud, source: str, target: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection between two VMs."""
    address = str(where.port(target).ip)
    server = where.socket(target)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    server.listen()
    near = where.socket(source)
    near.connect((address, port))
    with server:
        return near, server.accept()[0]


def talks(near: socket.socket, far: socket.socket) -> bool:
    """Whether a word comes through within a second, and back."""
    for one, other in ((near, far), (far, near)):
        one.send(b"x")
        other.settimeout(1.0)
        try:
            assert other.recv(1)
        except TimeoutError:
            return False
    return True


def test_rules_and_groups_that_change_cost_no_packet_of_what_is_still_allowed(running: Cloud) -> None:
    assert running.pings("web1", "10.0.1.12") and running.pings("web1", "10.0.1.13")
    streams = [Stream(running, "web1", "10.0.1.12"), Stream(running, "web3", "10.0.1.11")]
    before = counted(running)
    for port in range(81, 86):  # a rule, and then the groups of a port
        apply(running, TOPOLOGY.replace("port: 80", f"port: {port}"))
    for _ in range(3):
        apply(running, TOPOLOGY.replace("security_groups: [ping, web]", "security_groups: [ping, more]"))
        apply(running, TOPOLOGY)
    after = counted(running)
    assert [stream.stop()[1] for stream in streams] == [0, 0]
    assert all(after[name]["flushed"] == before[name]["flushed"] for name in after)
    assert after["c2/br-int"]["writes"] == before["c2/br-int"]["writes"], "nobody there is in these groups"


def test_a_rule_that_goes_takes_its_conversations_along_and_no_other(running: Cloud) -> None:
    near, far = conversation(running, "web2", "web1", 80)
    with near, far:
        assert talks(near, far)
        stream = Stream(running, "web2", "10.0.1.11")
        apply(running, TOPOLOGY.replace("port: 80", "port: 81"))
        assert not talks(near, far) or not talks(near, far)
        assert not talks(far, near)
        assert stream.stop()[1] == 0


def test_a_daemon_that_restarts_writes_nothing_empties_nothing_and_costs_no_packet(running: Cloud) -> None:
    near, far = conversation(running, "web2", "web1", 80)
    stream = Stream(running, "web1", "10.0.1.12")
    with near, far:
        before = running.dump()
        running.kill_daemon()
        assert talks(near, far), "without a daemon"
        running.start_daemon()
        for counters in counted(running).values():
            assert not any(counters[name] for name in ("added", "deleted", "forgotten", "writes", "flushed"))
        assert talks(near, far)
        assert stream.stop()[1] == 0
        assert running.dump() == before


def test_a_daemon_that_restarts_with_other_rules_keeps_the_zones_in_use(running: Cloud) -> None:
    stream = Stream(running, "web1", "10.0.1.12")
    running.kill_daemon()
    running.file.write_text(TOPOLOGY.replace("port: 80", "port: 8080"))
    running.start_daemon()
    assert not any(counters["flushed"] for counters in counted(running).values())
    assert stream.stop()[1] == 0


def test_a_vm_that_goes_and_returns_finds_its_zone_empty_and_other_zones_stay_as_they_are(running: Cloud) -> None:
    def known(target: str) -> list[str]:
        """The pings from web2 that c1 remembers: each in the zone of their target alone."""
        text = running.run("c1", "ovs-appctl", "dpctl/dump-conntrack")
        return [line for line in text.splitlines() if f"src=10.0.1.12,dst={target}," in line]

    assert running.pings("web2", "10.0.1.13") and running.pings("web2", "10.0.1.11")
    zones = [{found[1] for line in known(target) if (found := re.search(r"zone=(\d+)", line))}
             for target in ("10.0.1.11", "10.0.1.13")]
    assert (len(zones[0]), len(zones[1]), len(zones[0] | zones[1])) == (1, 1, 2)
    before = counted(running)["c1/br-int"]["flushed"]
    apply(running, TOPOLOGY.replace("  web3:", "  # web3:"))
    apply(running, TOPOLOGY)
    assert counted(running)["c1/br-int"]["flushed"] == before + 1
    assert not known("10.0.1.13")
    assert known("10.0.1.11")


def test_the_daemon_says_who_was_refused_what(running: Cloud) -> None:
    web1, web2 = running.port("web1"), running.port("web2")
    own, victim = mac_bytes(web1.mac), mac_bytes(web2.mac)
    arp = b"\x08\x06" + bytes.fromhex("0001080006040002") + own + bytes([10, 0, 1, 12]) + victim + bytes([10, 0, 1, 12])
    frames = {
        "mac": udp_frame(web1, web2.mac, "10.0.1.12", b"", source_mac=MAC),
        "address": udp_frame(web1, web2.mac, "10.0.1.12", b"", source_ip="10.0.1.77"),
        "arp": victim + own + arp,
        "vlan": udp_frame(web1, web2.mac, "10.0.1.12", b"", tag=b"\x81\x00\x00\x05"),
        "dhcp-server": _udp(udp_frame(web1, web2.mac, "10.0.1.12", b""), 67, 68),
    }
    before, wanted = refused(running, "web1"), Counter[str]()
    for number, (offence, frame) in enumerate(frames.items(), start=1):
        wanted[offence] = number
        for _ in range(number):
            running.send("web1", frame)
    until(lambda: refused(running, "web1") - before == wanted, f"{wanted} more than {before}")
    (found,) = (one for one in rows(running, "web1", host="c1") if one["offence"] == "arp")
    assert (found["host"], found["bridge"], found["network"], found["origin"]) == ("c1", "br-int", "blue", "vms.web1")
    assert found["why"] == "web1 claims an IP address that is not its own"
    assert not rows(running, "web1", host="c2")
    offences = {one["offence"] for one in rows(running, "web1", all=True)}
    assert offences > frames.keys()


def test_the_daemon_says_whom_groups_refused(running: Cloud) -> None:
    before = refused(running, "web2")["groups"]
    assert running.attempt("web1", "python3", "-c", "import socket; socket.create_connection(('10.0.1.12', 9), 1)"
                           ).returncode
    until(lambda: refused(running, "web2")["groups"] > before, "web2's row has counted")
    assert [one["host"] for one in rows(running, "web2") if one["offence"] == "groups"] == ["c2"]


def test_status_has_the_filters_counters_and_no_troubles(running: Cloud) -> None:
    status = running.status()
    assert status["troubles"] == []
    assert status["dhcp_ports"] == {"expected": 0, "present": 0, "missing": []}
    assert all("flushed" in switch["counters"] for switch in status["switches"])


def test_who_is_behind_a_port_is_forgotten_with_it(running: Cloud) -> None:
    nat1, everybody = running.port("nat1"), "ff:ff:ff:ff:ff:ff"
    for number in range(3):
        running.send("nat1", udp_frame(nat1, everybody, "10.0.1.255", b"", source_mac=f"02:00:00:00:00:0{number}"))

    def behind() -> list[str]:
        return [line for line in running.flows("c1", "br-int") if "table=61" in line and "dl_dst=02:00" in line]

    until(lambda: len(behind()) == 3, "all three are known")
    apply(running, TOPOLOGY.replace("port: 80", "port: 81"))
    assert len(behind()) == 3
    apply(running, TOPOLOGY.replace("port_security: false", "port_security: true"))
    assert not behind()


def test_a_switch_that_restarts_filters_as_before(running: Cloud) -> None:
    lab.restart_vswitchd(running.rundir, "c1", True)
    running.in_sync()
    until(lambda: running.pings("web1", "10.0.1.12", wait=0.2), "pinging again")
    assert running.attempt("web2", "python3", "-c", "import socket; socket.create_connection(('10.0.1.13', 9), 1)"
                           ).returncode


def _udp(frame: bytes, source: int, destination: int) -> bytes:
    """The same UDP frame between other ports."""
    return frame[:34] + struct.pack("!HH", source, destination) + frame[38:]
