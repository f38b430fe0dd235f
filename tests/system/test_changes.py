"""The overlay while things change: ageing, moves, live edits."""
from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator

import pytest
from labkit import Cloud, cloud, mac_bytes, tunbridge, udp_frame, until

from controller.tools import changes, handover, lab

pytestmark = [pytest.mark.system, pytest.mark.alone]

HEAD = """
cloud: changes
underlay: {cidr: 192.0.2.0/24}
mac_aging_time: %(age)s
forwarding: %(forwarding)s
arp_responder: %(responder)s
hosts:
  c1: {tunnel_ip: 192.0.2.11}
  c2: {tunnel_ip: 192.0.2.12}
  c3: {tunnel_ip: 192.0.2.13}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24}}}
  green: {tunnel_id: 1002, subnets: {green-subnet: {cidr: 10.0.1.0/24}}}
vms:
"""
BLUE = """
  blue1: {host: c1, network: blue, ip: 10.0.1.11, mac: "fa:16:3e:00:00:11"}
  blue2: {host: c2, network: blue, ip: 10.0.1.12, mac: "fa:16:3e:00:00:12"}
  blue3: {host: c3, network: blue, ip: 10.0.1.13, mac: "fa:16:3e:00:00:13"}
"""
GREEN = """
  green1: {host: c1, network: green, ip: 10.0.1.11, mac: "fa:16:3e:00:00:11"}
  green2: {host: c2, network: green, ip: 10.0.1.12, mac: "fa:16:3e:00:00:12"}
"""


def topology(vms: str = BLUE + GREEN, *, age: int = 300, forwarding: str = "learning", responder: bool = False) -> str:
    return HEAD % {"age": age, "forwarding": forwarding, "responder": str(responder).lower()} + vms


@pytest.fixture
def running() -> Iterator[Cloud]:
    with cloud(topology()) as found:
        yield found


class Stream:
    """Echo requests every 10 ms from a VM until it is stopped."""

    def __init__(self, where: Cloud, source: str, address: str) -> None:
        argv, environment = lab.exec_argv(where.rundir, source, ("ping", "-n", "-i", "0.01", "-W", "1", address))
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  a pipe would be full after ten seconds
        self._process = subprocess.Popen(argv, env=environment, stdout=self._said, stdin=subprocess.DEVNULL)

    def stop(self) -> tuple[int, int]:
        """(sent, lost); the requests of the last half second may still be under way and do not count."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)
        with self._said:
            self._said.seek(0)
            words = self._said.read()
        found = re.search(r"(\d+) packets transmitted", words)
        assert found, words
        sent, answered = int(found[1]), {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", words)}
        last = max(answered, default=0)
        return sent, last - len(answered) + max(0, sent - last - 50)


def test_learned_flows_age_out() -> None:
    with cloud(topology(age=1)) as short:
        assert short.pings("blue1", "10.0.1.12")
        assert short.learned("c1")
        until(lambda: not short.learned("c1"), "what nobody confirms is forgotten")


def test_a_vm_that_moves_is_reached_where_it_is_now(running: Cloud) -> None:
    assert running.pings("blue3", "10.0.1.12", count=3)
    bystander = Stream(running, "green1", "10.0.1.12")
    running.change(topology(BLUE.replace("blue2: {host: c2", "blue2: {host: c1") + GREEN))
    assert any(running.pings("blue3", "10.0.1.12", wait=0.05) for _ in range(20))
    assert running.pings("blue1", "10.0.1.12"), "and from its new host"
    sent, lost = bystander.stop()
    assert sent > 10
    assert lost == 0, "the other tenant notices nothing"


def test_a_gratuitous_arp_corrects_what_was_learned(running: Cloud) -> None:
    assert running.pings("blue3", "10.0.1.12")
    vlan, mac = running.vlan("c3", "blue"), running.port("blue2").mac
    right = next(line for line in running.learned("c3") if mac in line)
    port = re.search(r"output:(\d+)", right)
    wrong = next(number for number in re.findall(r"in_port=(\d+)", "".join(running.flows("c3", "br-tun")))
                 if port and number != port[1] and f"in_port={number} actions=goto_table:4" in
                 "".join(running.flows("c3", "br-tun")))
    running.run("c3", "ovs-ofctl", "-O", "OpenFlow14", "add-flow", "br-tun",
                f"cookie=0x5402000000000000,table=20,priority=2,vlan_tci={vlan:#06x}/0x0fff,dl_dst={mac},"
                f"actions=load:0->NXM_OF_VLAN_TCI[],load:0x3e9->NXM_NX_TUN_ID[],output:{wrong}")
    assert not running.pings("blue3", "10.0.1.12", wait=0.2), "the stale entry leads astray"
    garp = (b"\xff" * 6 + mac_bytes(mac) + b"\x08\x06" + bytes.fromhex("0001080006040001") + mac_bytes(mac)
            + bytes([10, 0, 1, 12]) + bytes(6) + bytes([10, 0, 1, 12]))
    running.send("blue2", garp)
    assert any(running.pings("blue3", "10.0.1.12", wait=0.05) for _ in range(20))


def test_l2population_reaches_the_same_and_learns_nothing() -> None:
    with cloud(topology(forwarding="l2population", responder=True)) as populated:
        wire = {host: populated.sniff_underlay(host) for host in ("c1", "c3")}
        assert populated.pings("blue1", "10.0.1.12", count=3)
        assert not any(populated.learned(host) for host in ("c1", "c2", "c3"))
        arp = b"\x08\x06\x00\x01\x08\x00\x06\x04"
        assert not wire["c1"].with_token(arp + b"\x00\x01" + mac_bytes("fa:16:3e:00:00:11")), "answered at home"
        port, token = populated.port("blue1"), b"for nobody"
        populated.send("blue1", udp_frame(port, "fa:16:3e:00:00:99", "10.0.1.99", token))
        populated.send("blue1", udp_frame(port, "fa:16:3e:00:00:12", "10.0.1.12", b"for blue2"))
        until(lambda: wire["c1"].with_token(b"for blue2"), "what was sent last is on the wire")
        assert not wire["c1"].with_token(token), "an unknown MAC is not flooded"
        tunbridge("lab", "reach", "--json", rundir=populated.rundir)


def test_networks_and_vms_come_and_go_live(running: Cloud) -> None:
    bystander = Stream(running, "blue1", "10.0.1.12")
    vlan = running.vlan("c1", "green")
    running.change(topology(BLUE))
    assert not any(f"dl_vlan={vlan}," in line for line in running.flows("c1", "br-int"))
    running.change(topology(BLUE + GREEN + "  green3: {host: c3, network: green, ip: 10.0.1.13}\n"))
    running.in_sync()
    assert running.pings("green3", "10.0.1.11") and running.pings("green3", "10.0.1.12")
    sent, lost = bystander.stop()
    assert (sent > 20, lost) == (True, 0)
    tunbridge("lab", "reach", "--json", rundir=running.rundir)


def test_a_plan_says_what_apply_then_does_and_changes_nothing(running: Cloud) -> None:
    before = running.dump()
    wanted = running.rundir / "wanted.yaml"
    wanted.write_text(topology(BLUE))
    plan = json.loads(tunbridge("apply", "--plan", "--json", str(wanted), rundir=running.rundir).stdout)
    assert running.dump() == before
    assert plan["lose"] == [["green1", "green2"], ["green2", "green1"]]
    assert plan["gain"] == []
    assert plan["hitless"] == {"ok": True, "interrupted": [], "ended": []}
    assert sum(row["delete"] for row in plan["tables"]) == sum(len(switch["delete"]) for switch in plan["switches"])
    told = tunbridge("apply", "--plan", str(wanted), rundir=running.rundir).stdout
    assert "green1 loses green2" in told
    assert "Hitless: " in told
    tunbridge("apply", str(wanted), rundir=running.rundir)
    running.file.write_text(wanted.read_text())
    until(lambda: running.status()["ok"], "in sync")
    for switch in plan["switches"]:
        name = f"{switch['host']}/{switch['bridge']}"
        gone = {line.partition(",")[0].removeprefix("cookie=") for line in before[name]} - {
            line.partition(",")[0].removeprefix("cookie=") for line in running.flows(switch["host"], switch["bridge"])}
        assert {int(flow["cookie"], 16) for flow in switch["delete"]} == {int(cookie, 16) for cookie in gone}
        assert switch["add"] == []
    running.up()


def test_a_vlan_that_changes_its_network_takes_nothing_learned_along(running: Cloud) -> None:
    assert running.pings("green1", "10.0.1.12")
    vlan = running.vlan("c1", "green")
    assert any(f"vlan_tci={vlan:#06x}/0x0fff" in line for line in running.learned("c1"))
    running.change(topology(BLUE))  # a VLAN is given to another network only after the edit that frees it
    running.change(topology(BLUE + GREEN).replace("green", "teal").replace("1002", "1003"))
    assert running.vlan("c1", "teal") == vlan
    assert not any("->NXM_NX_TUN_ID" in line and "0x3ea" in line for line in running.learned("c1"))
    running.in_sync()
    assert running.pings("teal1", "10.0.1.12")


def test_a_network_with_another_tunnel_id_keeps_talking(running: Cloud) -> None:
    assert running.pings("green1", "10.0.1.12")
    wanted = topology().replace("1002", "2002")
    planned = changes.plan(running.where, handover.STDIN, io.BytesIO(wanted.encode()))
    assert [(one["what"], one["ports"]) for one in planned["hitless"]["interrupted"]] == [
        ("network green", ["green1", "green2"])]
    running.change(wanted)
    running.in_sync()
    assert running.pings("green1", "10.0.1.12", count=3)
