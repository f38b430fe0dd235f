"""The daemon and simulated routers on a real Open vSwitch with dummy ports: no lab, so that a story takes seconds."""
from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.model import placement
from controller.model.topology import RouterPort
from flows.packet import ICMP
from flows.routing.transport import TIME_EXCEEDED
from flows.routing.wireformat import Arp, Datagram, Frame, mac_bytes
from tests.clouds import parse
from tests.commands import Daemon, daemon, place
from tests.private_ovs import Control, PrivateOvs
from tests.routerkit import arp_in, number, ping

pytestmark = [pytest.mark.system, pytest.mark.shared]
PORT = 26653
PATIENCE = 20  # seconds
CLOUD = """
cloud: smoke
underlay: {cidr: 192.0.2.0/24}
firewall: none
hosts:
  n1: {tunnel_ip: 192.0.2.11, role: network}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  green: {tunnel_id: 1002, subnets: {green-subnet: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
  public: {external: true, subnets: {public-subnet: {cidr: 203.0.113.0/24, gateway: 203.0.113.1}}}
routers:
  r1:
    host: n1
    driver: simulated
    interfaces: [blue-subnet, green-subnet]
    gateway: {network: public, ip: 203.0.113.10}
vms:
  web: {host: n1, network: blue, ip: 10.0.1.11}
  db: {host: n1, network: green, ip: 10.0.2.11}
  odd: {host: n1, network: green, ip: 10.0.2.12, port_security: false}
"""
TOPOLOGY = parse(CLOUD)
PORTS = {port.name: port for port in TOPOLOGY.ports()}
LEGS: dict[str, RouterPort] = {leg.subnet: leg for leg in TOPOLOGY.legs_by_router["r1"]}
WAYS_IN = {"web": "blue-subnet", "db": "green-subnet", "odd": "green-subnet"}


class Site:
    """The host n1: its bridges, whose VMs are the test."""

    def __init__(self, ovs: PrivateOvs, control: Control, rundir: Path) -> None:
        self.ovs, self.rundir = ovs, rundir
        self._control = control
        self._read: dict[str, int] = {}

    def send(self, vm: str, packet: Datagram) -> None:
        """To its router."""
        self.give(vm, packet.framed(mac_bytes(PORTS[vm].mac), mac_bytes(LEGS[WAYS_IN[vm]].mac)))

    def give(self, vm: str, frame: bytes) -> None:
        self._control.ask("netdev-dummy/receive", PORTS[vm].device, frame.ljust(60, b"\0").hex())

    def got(self, vm: str) -> list[bytes]:
        """The frames that a VM has got and this test has not yet seen."""
        data = (self.ovs.dir / f"{vm}.pcap").read_bytes()
        found, start = [], self._read.get(vm, 24)
        while start + 16 <= len(data):
            length = struct.unpack_from("<I", data, start + 8)[0]
            found.append(data[start + 16:start + 16 + length])
            start += 16 + length
        self._read[vm] = start
        return found

    def waits_for_packet(self, vm: str, proto: int, source: str, kind: int) -> Datagram:
        """An ICMP packet of this type from an address."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for frame in map(Frame.parse, self.got(vm)):
                if frame.kind == 0x0800:
                    packet = Datagram.parse(frame.payload)
                    if (packet.proto, packet.src, packet.payload[0]) == (proto, number(source), kind):
                        return packet
            time.sleep(0.02)
        raise AssertionError(f"{vm} got no ICMP {kind} of {source}")

    def waits_for_question(self, vm: str, target: str) -> Arp:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for question in filter(None, map(arp_in, self.got(vm))):
                if question.op == 1 and question.target == number(target):
                    return question
            time.sleep(0.02)
        raise AssertionError(f"nobody asked {vm} for {target}")

    def neighbours(self) -> list[str]:
        """The rows of learned neighbours."""
        return [row for row in self.ovs.dump("br-int") if "table=45" in row and "cookie=0x5403" in row]

    def meters(self) -> str:
        return self.ovs.run("ovs-ofctl", "-O", "OpenFlow14", "dump-meters", "br-int")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    seen, host = placement.imagined(TOPOLOGY, "n1"), TOPOLOGY.hosts["n1"]
    with place() as rundir, PrivateOvs() as ovs, ovs.control() as control:
        (rundir / "topology.yaml").write_text(CLOUD)
        for bridge, ports in seen.ports.items():
            ovs.add_bridge(bridge, ports)
            ovs.vsctl("set", "bridge", bridge, f"other-config:datapath-id={host.datapath_ids[bridge]:016x}",
                      "--", "set-controller", bridge, f"tcp:127.0.0.1:{PORT}",
                      "--", "set", "controller", bridge, "max_backoff=1000")
        for name, port in PORTS.items():
            ovs.vsctl("set", "interface", port.device, f"options:tx_pcap={ovs.dir}/{name}.pcap")
        yield Site(ovs, control, rundir)


@contextmanager
def served(site: Site) -> Iterator[Daemon]:
    """A daemon that is in sync."""
    with daemon(site.rundir, site.rundir / "topology.yaml", "--listen", f"tcp:127.0.0.1:{PORT}") as made:
        deadline = time.monotonic() + PATIENCE
        while not asked(made, "status")["ok"]:
            assert time.monotonic() < deadline, made.words()
            time.sleep(0.05)
        yield made
        assert " ERROR " not in made.words(), made.words()


def asked(made: Daemon, verb: str) -> Any:
    return json.loads(made.asks(json.dumps({"do": verb}).encode()))


def counters(made: Daemon) -> Any:
    return asked(made, "routers")["routers"][0]["counters"]


def test_a_packet_whose_time_ends_is_answered_by_the_gateway_that_it_came_to(site: Site) -> None:
    with served(site):
        site.send("web", ping("10.0.1.11", "10.0.2.11", ttl=1))
        error = site.waits_for_packet("web", ICMP, "10.0.1.1", TIME_EXCEEDED)
        assert error.dst == number("10.0.1.11")
        site.send("web", ping("10.0.1.11", "10.0.2.1"))
        site.waits_for_packet("web", ICMP, "10.0.2.1", 0)


def test_a_vm_of_the_topology_is_reached_without_a_question_and_without_a_daemon(site: Site) -> None:
    with served(site):
        pass
    site.got("db")
    site.send("web", ping("10.0.1.11", "10.0.2.11"))
    packet = site.waits_for_packet("db", ICMP, "10.0.1.11", 8)
    assert packet.ttl == 63


def test_a_neighbour_is_learned_used_without_a_daemon_and_taken_over_by_the_next(site: Site) -> None:
    with served(site) as made:
        site.send("web", ping("10.0.1.11", "10.0.2.12"))
        question = site.waits_for_question("odd", "10.0.2.12")
        answer = Arp(2, mac_bytes(PORTS["odd"].mac), question.target, question.sender_mac, question.sender)
        site.give("odd", answer.framed(answer.sender_mac, question.sender_mac))
        site.waits_for_packet("odd", ICMP, "10.0.1.11", 8)
        assert len(site.neighbours()) == 1
        flows = asked(made, "flows")["bridges"]
        assert [one["why"] for bridge in flows for one in bridge["flows"] if one["status"] == "learned"] == [
            "10.0.2.12 answered r1 on green-subnet", "odd (green) was last seen behind odd"]
    before, meters = site.ovs.dump("br-int"), site.meters()
    site.send("web", ping("10.0.1.11", "10.0.2.12"))
    site.waits_for_packet("odd", ICMP, "10.0.1.11", 8)
    with served(site) as made:
        assert site.waits_for_question("odd", "10.0.2.12")  # is it still so?
        assert site.ovs.dump("br-int") == before
        assert site.meters() == meters
        writes = [one["counters"] for one in asked(made, "status")["switches"]]
        assert {(one["writes"], one["metered"], one["added"]) for one in writes} == {(0, 0, 0)}


def test_a_vm_that_floods_the_router_takes_nothing_from_the_others(site: Site) -> None:
    with served(site) as made:
        begun, before, meters = time.monotonic(), counters(made)["asked"], 2
        for sequence in range(5000):
            site.send("web", ping("10.0.1.11", "10.0.2.11", ident=sequence, ttl=1))
            if sequence % 1000 == 0:
                site.send("db", ping("10.0.2.11", "10.0.2.1"))
                site.waits_for_packet("db", ICMP, "10.0.2.1", 0)
        elapsed = time.monotonic() - begun
        assert counters(made)["asked"] - before <= meters * (50 + 100 * (elapsed + 1))
        assert asked(made, "status")["packets_lost"] == 0


def test_a_router_that_goes_takes_its_rows_and_meters_along_and_comes_back_whole(site: Site) -> None:
    file = site.rundir / "topology.yaml"
    with served(site) as made:
        before = sorted(site.ovs.dump("br-int"))
        for text, rows in ((CLOUD.replace("interfaces: [blue-subnet, green-subnet]", "interfaces: []"), 0), (CLOUD, 1)):
            file.write_text(text)
            answer = json.loads(made.asks(json.dumps({"do": "apply", "text": text, "source": "t.yaml"}).encode()))
            assert answer["ok"], answer
            deadline = time.monotonic() + PATIENCE
            while bool("rate=100 " in site.meters()) != bool(rows) or not asked(made, "status")["ok"]:
                assert time.monotonic() < deadline, made.words()
                time.sleep(0.05)
            assert bool(asked(made, "routers")["routers"]) == bool(rows)
        learned = [row for row in before if "cookie=0x5403" in row]
        assert sorted(site.ovs.dump("br-int") + learned) == before
