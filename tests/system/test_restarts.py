"""What restarts, a pulse meanwhile: the daemon, by every signal and into another topology; ovs-vswitchd; ovsdb-server;
and a connection that flaps. Over ways that carried packets before, none is lost.
"""
from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from labkit import Cloud, cloud, service_controllers, tunbridge, until
from pulsekit import RATE, Pulse, pulse

from controller.host import daemons, execute
from controller.tools import lab
from controller.tools.nodes import directory

pytestmark = [pytest.mark.system, pytest.mark.alone]

TOPOLOGY = """
cloud: restarts
underlay: {cidr: 192.0.2.0/24}
firewall: openvswitch
hosts:
  c1: {tunnel_ip: 192.0.2.11}
  c2: {tunnel_ip: 192.0.2.12}
networks:
  amber: {tunnel_id: 1000, subnets: {amber-subnet: {cidr: 10.0.0.0/24}}}
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24}}}
security_groups:
  open: [{direction: ingress, protocol: any}, {direction: egress, protocol: any}]
vms:
  blue1: {host: c1, network: blue, ip: 10.0.1.11, security_groups: [open]}
  blue2: {host: c2, network: blue, ip: 10.0.1.12, security_groups: [open]}
  blue3: {host: c1, network: blue, ip: 10.0.1.13, security_groups: [open]}
  blue4: {host: c2, network: blue, ip: 10.0.1.14, security_groups: [open]}
  blue5: {host: c1, network: blue, ip: 10.0.1.15, security_groups: [open]}
  blue6: {host: c1, network: blue, ip: 10.0.1.16, security_groups: [open]}
  amber1: {host: c1, network: amber, ip: 10.0.0.11}
"""
WITHOUT_AMBER = "".join(line for line in TOPOLOGY.splitlines(keepends=True) if "amber" not in line)
# There, back, and on one host. Each VM sends on one way only: its switch's socket holds a quarter of a second of that.
WAYS = (("blue1", "blue2"), ("blue4", "blue3"), ("blue5", "blue6"))
FAR_WAY = ("blue2", "blue4")  # not by c1


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(TOPOLOGY) as made:
        yield made


def work(running: Cloud) -> dict[str, dict[str, int]]:
    return {f"{one['host']}/{one['bridge']}": one["counters"] for one in running.status()["switches"]}


def mods(running: Cloud) -> dict[str, tuple[int, int, int]]:
    """(added, deleted, forgotten) of every switch."""
    return {name: (one["added"], one["deleted"], one["forgotten"]) for name, one in work(running).items()}


NOTHING = dict.fromkeys(("c1/br-int", "c1/br-tun", "c2/br-int", "c2/br-tun"), (0, 0, 0))


# ---- the daemon

def test_a_daemon_that_is_killed_or_ended_and_returns_loses_no_packet_and_writes_nothing(running: Cloud) -> None:
    before = running.dump()
    with pulse(running, *WAYS) as beating:
        for number in (signal.SIGKILL, signal.SIGTERM):
            running.kill_daemon(number)
            beating.beats(200)
            assert running.dump() == before
            running.start_daemon()
            running.in_sync()
            assert mods(running) == NOTHING
    assert running.dump() == before


def test_a_daemon_that_returns_with_another_topology_changes_what_differs_and_no_vlan(running: Cloud) -> None:
    """Without its first network: numbers by the file alone would put every network on another local VLAN."""
    vlans = {host: running.vlan(host, "blue") for host in ("c1", "c2")}
    assert running.vlan("c1", "amber") < vlans["c1"], "else this test would show nothing"
    before = running.dump()
    with pulse(running, *WAYS) as beating:
        running.kill_daemon(signal.SIGTERM)
        running.file.write_text(WITHOUT_AMBER)
        running.start_daemon()
        running.in_sync()
        beating.beats(100)
        assert {host: running.vlan(host, "blue") for host in ("c1", "c2")} == vlans
        gone = {name: len(set(before[name]) - set(lines)) for name, lines in running.dump().items()}
        assert {name: (0, count, 0) for name, count in gone.items()} == {
            name: (added, deleted, 0) for name, (added, deleted, _) in mods(running).items()}
        assert gone["c1/br-int"] > 0
        running.kill_daemon(signal.SIGKILL)
        running.file.write_text(TOPOLOGY)
        running.start_daemon()
        running.in_sync()
    assert {host: running.vlan(host, "blue") for host in ("c1", "c2")} == vlans


# ---- others at the tables

def test_a_foreign_flow_that_comes_and_goes_and_a_flow_that_is_healed_cost_no_packet(running: Cloud) -> None:
    """Not one of the ways that are under the pulse: what is deleted there is missed until it is back."""
    before, stranger = running.dump(), "table=0,priority=99,dl_type=0x1234"

    def ofctl(host: str, *words: str) -> None:
        running.run(host, "ovs-ofctl", "-O", "OpenFlow14", "--strict", *words)

    def ours(name: str) -> list[str]:
        return [line for line in running.dump()[name] if stranger.rpartition(",")[2] not in line]

    with pulse(running, *WAYS) as beating:
        for name in before:
            host, bridge = name.split("/")
            ofctl(host, "add-flow", bridge, f"cookie=0xbeef,{stranger},actions=drop")
            ofctl(host, "del-flows", bridge, "table=0,priority=0")
            ofctl(host, "add-flow", bridge, "cookie=0xbeef,table=0,priority=0,actions=drop")
            until(partial(lambda name: ours(name) == before[name], name), "all is as it was beside the stranger")
            ofctl(host, "del-flows", bridge, stranger)
            beating.beats(100)
    assert running.dump() == before
    assert all(one["healed"] for one in running.status()["switches"])


# ---- the connection

def test_connections_that_flap_ten_times_a_second_cost_no_packet_and_no_flow(running: Cloud) -> None:
    """A bridge that is told of another controller goes there at once, where one that lost it waits for a second; here
    the two are one daemon.
    """
    home = directory(running.rundir) / "c1"
    names = [f"unix:{home}/tunbridge.sock", f"unix:{home}/again.sock"]
    (home / "again.sock").symlink_to(running.where.openflow)
    before, since = running.dump(), len(running.log.read_text().splitlines())
    with pulse(running, *WAYS) as beating:
        for target in names[::-1] * 10:
            running.run("c1", "ovs-vsctl", "--timeout=10", *(  # which returns when it is so
                word for bridge in ("br-int", "br-tun") for word in service_controllers(bridge, target)))
            beating.beats(100)  # which takes a tenth of a second
        running.in_sync()
    (home / "again.sock").unlink()
    told = running.log.read_text().splitlines()[since:]
    assert sum(" connected " in line for line in told) >= 20, "it flapped"
    assert not [line for line in told if " write " in line]
    assert running.dump() == before


# ---- Open vSwitch

@pytest.mark.parametrize("kill9", [True, False], ids=["killed", "ended"])
def test_a_database_that_restarts_costs_no_flow_and_others_notice_nothing(running: Cloud, kill9: bool) -> None:
    """An ovs-vswitchd without its database does nothing, and the userspace datapath forwards in its main thread; it
    tries again after a second or two. The kernel's datapath would go on.
    """
    before, done = running.dump(), work(running)
    interrupted = Pulse(running, WAYS)
    with pulse(running, FAR_WAY) as beating:
        lab.restart(running.rundir, "c1", daemons.DATABASE, kill9=kill9)
        beating.beats(200)
        running.run("c1", "ovs-vsctl", "--timeout=10", "add-port", "br-int", "other", "--", "set", "interface",
                    "other", "type=internal", "--", "del-port", "br-int", "other")  # it is heeded again
        until(lambda: running.pings("blue1", "10.0.1.12", wait=0.2), "they reach each other again")
    carried_again(interrupted)
    assert (running.dump(), work(running)) == (before, done)


def carried_again(interrupted: Pulse) -> None:
    """After one cut all comes through; nothing twice."""
    interrupted.beats(200)
    for way, one in interrupted.stop().items():
        print(way, one)
        assert one["doubled"] == 0
        last = [when + count / RATE for when, count in one["outages"]][-1:]
        assert all(when < one["sent"] / RATE - 0.15 for when in last), (way, one)
        assert len(one["outages"]) <= 3, (way, one)  # the cut, and what of it the first answers put right


@pytest.mark.parametrize("kill9", [True, False], ids=["killed", "ended"])
def test_a_switch_that_restarts_carries_again_what_it_carried_and_others_notice_nothing(
        running: Cloud, kill9: bool) -> None:
    before, vlan, told = running.dump(), running.vlan("c1", "blue"), work(running)
    interrupted = Pulse(running, WAYS)
    with pulse(running, FAR_WAY):
        lab.restart_vswitchd(running.rundir, "c1", kill9)
        running.in_sync()
        until(lambda: running.pings("blue1", "10.0.1.12", wait=0.2), "they reach each other again")
    carried_again(interrupted)
    assert (running.dump(), running.vlan("c1", "blue")) == (before, vlan)
    assert {name: one for name, one in work(running).items() if name.startswith("c2/")} == {
        name: one for name, one in told.items() if name.startswith("c2/")}


def held(running: Cloud) -> Path:
    """c1, whose ovs-vswitchd has been killed and started again, and waits: its run directory."""
    home = directory(running.rundir) / "c1"
    argv, environment = lab.exec_argv(running.rundir, "c1", ())
    daemons.end(home, daemons.SWITCH, hard=True)
    daemons.waiting(home).touch()
    execute.execute(daemons.revival(home), execute.Place(tuple(argv[:-1]), environment))
    assert "false" in running.run("c1", "ovs-vsctl", "get", "Controller", "br-int", "is_connected")
    return home


def fill(running: Cloud, *words: str) -> CompletedProcess[str]:
    return running.attempt("c1", sys.executable, "-m", "controller", "fill", *words)


def test_a_switch_that_waits_is_filled_before_it_forwards_and_then_nothing_is_left_to_do(running: Cloud) -> None:
    before, home = running.dump(), held(running)
    assert running.dump() == {name: [] if name.startswith("c1/") else flows for name, flows in before.items()}
    told = fill(running)
    assert told.returncode == 0 and "Filled in" in told.stderr, told
    assert running.dump() == before
    assert "false" in running.run("c1", "ovs-vsctl", "get", "Controller", "br-int", "is_connected")
    assert not running.pings("blue1", "10.0.1.13", wait=0.2), "it waits"
    tunbridge("lab", "up", str(running.file), rundir=running.rundir)  # which lets it go
    assert not daemons.waiting(home).exists()
    running.in_sync()
    assert {name: done for name, done in mods(running).items() if name.startswith("c1/")} == {
        "c1/br-int": (0, 0, 0), "c1/br-tun": (0, 0, 0)}, "since it calls by itself"
    assert running.dump() == before
    until(lambda: running.pings("blue1", "10.0.1.13") and running.pings("blue1", "10.0.1.12"), "they reach each other")
    told = fill(running)
    assert (told.returncode, told.stderr) == (0, "ovs-vswitchd does not wait: it calls its controllers by itself.\n")


def test_a_switch_that_waits_forwards_nothing_whatever_its_tables_say_and_lab_up_lets_it_go(running: Cloud) -> None:
    """As when who started it was killed half-way; nobody else would ever let it go."""
    home = held(running)
    running.run("c1", "ovs-ofctl", "-O", "OpenFlow14", "add-flow", "br-int", "actions=flood")
    ear = running.sniff("blue3")
    for _ in range(20):
        running.send("blue1", b"\xff" * 12 + b"\x88\xb5" + b"while it waits" + bytes(40))
    assert not running.pings("blue1", "10.0.1.13", count=3, wait=0.1)
    assert not ear.with_token(b"while it waits")
    tracked = running.run("c1", "ovs-appctl", "dpctl/ipf-get-status")
    assert "v4 enabled: 1" in tracked, "else this shows nothing of its footing"
    running.run("c1", "ovs-ofctl", "-O", "OpenFlow14", "del-flows", "br-int")  # nobody else would: it is a stranger's
    told = tunbridge("lab", "up", str(running.file), rundir=running.rundir)
    assert "Open vSwitch of c1 was left waiting; it is let go." in told.stdout + told.stderr
    assert not daemons.waiting(home).exists()
    running.in_sync()
    until(lambda: running.pings("blue1", "10.0.1.13") and running.pings("blue1", "10.0.1.12"), "they reach each other")
    assert not ear.with_token(b"while it waits"), "what came meanwhile is not kept for later"
    assert reassembling(running) == ["0", "0"]


def reassembling(running: Cloud) -> list[str]:
    """Whether Open vSwitch of c1 puts fragments together, of both families."""
    lines = running.run("c1", "ovs-appctl", "dpctl/ipf-get-status").splitlines()
    return [line.rpartition(" ")[2] for line in lines if "enabled:" in line]
