"""Faults of a running cloud: bad changes, a killed daemon, garbage and strangers among switches, a bare machine."""
from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from labkit import Cloud, cloud, tunbridge, until

from controller.tools import lab
from tests.commands import NOBODY, PATIENCE, TUNBRIDGE, run

pytestmark = pytest.mark.system

TOPOLOGY = """
cloud: faults
underlay: {cidr: 192.0.2.0/24}
hosts:
  c1: {tunnel_ip: 192.0.2.11}
  c2: {tunnel_ip: 192.0.2.12}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24}}}
vms:
  blue1: {host: c1, network: blue, ip: 10.0.1.11}
  blue2: {host: c2, network: blue, ip: 10.0.1.12}
"""
BROKEN = TOPOLOGY.replace("blue, ip: 10.0.1.12", "bleu, ip: 10.0.1.12").replace("host: c1", "host: c9")
STRANGER = "00000000deadbeef"


@pytest.fixture(scope="module")
def module_cloud() -> Iterator[Cloud]:
    with cloud(TOPOLOGY) as running:
        yield running


@pytest.fixture
def running(module_cloud: Cloud) -> Iterator[Cloud]:
    """The cloud, which every test leaves as it found it: in sync, with the flows it had."""
    module_cloud.in_sync()
    before = dump(module_cloud)
    yield module_cloud
    module_cloud.in_sync()
    assert dump(module_cloud) == before
    assert module_cloud.pings("blue1", "10.0.1.12")


def dump(running: Cloud) -> dict[str, list[str]]:
    """Every bridge's compiled flows, whatever the file says at the moment."""
    return {f"{host}/{bridge}": [line for line in running.flows(host, bridge) if "cookie=0x5402" not in line]
            for host in ("c1", "c2") for bridge in ("br-int", "br-tun")}


def counters(running: Cloud) -> dict[str, dict[str, int]]:
    return {f"{one['host']}/{one['bridge']}": one["counters"] for one in running.status()["switches"]}


def events(running: Cloud) -> list[str]:
    return running.log.read_text().splitlines()


def seconds(running: Cloud, host: str, bridge: str) -> dict[str, float]:
    """How long each compiled flow has been there."""
    text = running.run(host, "ovs-ofctl", "-O", "OpenFlow14", "dump-flows", bridge)
    return {cookie: float(age) for cookie, age in re.findall(r"cookie=(0x5401\w+), duration=([\d.]+)s", text)}


# ---- changes

def test_an_invalid_change_leaves_the_old_topology_in_force(running: Cloud) -> None:
    before, work = dump(running), counters(running)
    bad = running.rundir / "bad.yaml"
    bad.write_text(BROKEN)
    done = tunbridge("apply", str(bad), rundir=running.rundir, check=False)
    assert done.returncode == 2
    for part in ('"c9"', '"bleu"', "Nothing has changed: the old topology stays in force."):
        assert part in done.stderr
    assert (dump(running), counters(running)) == (before, work)
    told = tunbridge("status", rundir=running.rundir)
    assert f"the last change was refused: {bad} has 2 errors" in told.stdout
    assert f"{running.file} stays in force" in told.stdout
    assert running.status()["last_apply"]["ok"] is False
    assert running.pings("blue1", "10.0.1.12")


def test_sighup_with_a_broken_file_changes_nothing_and_with_the_mended_one_neither_churns(running: Cloud) -> None:
    before, work = dump(running), counters(running)
    assert running.daemon
    running.file.write_text(BROKEN)
    running.daemon.send_signal(signal.SIGHUP)
    try:
        until(lambda: (running.status()["last_apply"] or {}).get("file") == str(running.file), "it is refused")
        assert running.status()["last_apply"]["ok"] is False
        assert (dump(running), counters(running)) == (before, work)
    finally:
        running.file.write_text(TOPOLOGY)
    running.daemon.send_signal(signal.SIGHUP)
    until(lambda: running.status()["last_apply"]["ok"], "the mended file is in force")
    assert (dump(running), counters(running)) == (before, work), "the same topology again costs no flow-mod"


# ---- ends and returns

@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -9)])
def test_the_flows_outlive_the_daemon_and_the_next_one_touches_none(running: Cloud, number: int, code: int) -> None:
    before = dump(running)
    ages = {bridge: seconds(running, "c1", bridge) for bridge in ("br-int", "br-tun")}
    assert running.kill_daemon(number) == code
    sockets = sorted(path.name for path in running.rundir.glob("*.sock"))
    assert sockets == (["control.sock", "openflow.sock"] if number == signal.SIGKILL else [])
    assert dump(running) == before
    assert running.pings("blue1", "10.0.1.12")
    running.start_daemon()
    running.in_sync()
    assert all((one["added"], one["deleted"], one["forgotten"]) == (0, 0, 0) for one in counters(running).values())
    for bridge, old in ages.items():
        now = seconds(running, "c1", bridge)
        assert now.keys() == old.keys()
        assert all(now[cookie] >= age for cookie, age in old.items()), "no flow is younger than it was"


def test_a_second_daemon_does_not_disturb_the_first(running: Cloud) -> None:
    work = counters(running)
    run("run", str(running.file), "--listen", "none", rundir=running.rundir).refused(3, "already runs")
    assert counters(running) == work
    assert running.status()["ok"]


# ---- garbage and strangers

def test_garbage_on_the_openflow_socket_disturbs_no_switch(running: Cloud) -> None:
    work, dropped = counters(running), sum("disconnected" in line for line in events(running))
    hello = struct.pack("!BBHI", 5, 0, 8, 1)
    endless = struct.pack("!BBHIHHI", 5, 0, 16, 1, 1, 0, 32)
    for data in (os.urandom(3000), hello + b"\x05\x13\xff\xff" + bytes(4), endless, hello[:3], b"") * 40:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(running.where.openflow))
            sock.sendall(data)
    until(lambda: sum("an item of 0 bytes" in line for line in events(running)) >= 40, "all are answered")
    assert (counters(running), running.status()["errors"]) == (work, 0)
    assert sum("disconnected" in line for line in events(running)) == dropped
    assert not [line for line in events(running) if not re.match(r"\d{4}-\S+Z (INFO|WARNING|ERROR) \S", line)]


@pytest.fixture
def own_bridge(running: Cloud) -> Iterator[str]:
    """Somebody's own bridge on c1, with a flow of its own, that comes to our daemon by mistake."""
    running.run("c1", "ovs-vsctl", "add-br", "br-own", "--", "set", "bridge", "br-own", "datapath_type=netdev",
                "fail_mode=secure", "other-config:disable-in-band=true", f"other-config:datapath-id={STRANGER}",
                "--", "set-controller", "br-own", f"unix:{running.rundir}/lab/c1/tunbridge.sock")
    running.run("c1", "ovs-ofctl", "-O", "OpenFlow14", "add-flow", "br-own", "cookie=0x5401000000000001,actions=drop")
    yield "br-own"
    running.run("c1", "ovs-vsctl", "del-br", "br-own")
    until(lambda: not running.status()["strangers"], "it is forgotten")


def test_a_stranger_is_reported_and_its_flows_are_left_alone(running: Cloud, own_bridge: str) -> None:
    until(lambda: running.status()["strangers"], "it is seen")
    assert running.status()["strangers"] == [
        {"dpid": STRANGER, "left_alone": "no bridge of the topology has this datapath id"}]
    told = tunbridge("status", rundir=running.rundir)
    assert f"stranger datapath {STRANGER} is left alone" in told.stdout
    flows = running.flows("c1", own_bridge)
    assert len(flows) == 1
    tunbridge("apply", str(running.file), rundir=running.rundir)
    tunbridge("recompute", rundir=running.rundir)
    assert running.flows("c1", own_bridge) == flows, "also one that wears a cookie like ours"
    assert sum(f"stranger dpid={STRANGER}" in line for line in events(running)) == 1


def test_a_switch_of_another_openflow_version_is_told_the_cure(running: Cloud, own_bridge: str) -> None:
    running.run("c1", "ovs-vsctl", "set", "bridge", own_bridge, "protocols=OpenFlow10")
    told = until(lambda: [line for line in events(running) if "wrong version" in line], "it is refused")
    assert "WARNING wrong version peer=unix" in told[0]
    assert "ovs-vsctl set bridge BRIDGE protocols=OpenFlow14" in told[0]
    running.run("c1", "ovs-vsctl", "set", "bridge", own_bridge, "protocols=OpenFlow14")
    until(lambda: running.status()["strangers"], "the cure cures")
    assert running.status()["errors"] == 0


def test_strangers_flows_on_our_bridges_are_counted_and_kept(running: Cloud) -> None:
    odd = ("table=99,actions=clone(drop)", "table=98,ip,actions=ct(commit,zone=1,nat(src=192.0.2.1))",
           "table=97,actions=controller(userdata=01.02.03,pause)", "table=96,actions=note:01.02",
           "table=95,actions=NORMAL")
    for words in odd:
        running.run("c1", "ovs-ofctl", "-O", "OpenFlow14", "add-flow", "br-int", f"cookie=0xbeef,{words}")
    try:
        running.kill_daemon()
        running.start_daemon()
        running.in_sync()
        assert next(one["strangers"] for one in running.status()["switches"]
                    if (one["host"], one["bridge"]) == ("c1", "br-int")) == len(odd)
        shown = json.loads(tunbridge("flows", "c1/br-int", "--json", rundir=running.rundir).stdout)
        assert shown["ok"], "they are not ours to judge"
        assert sum(flow["status"] == "stranger" for flow in shown["bridges"][0]["flows"]) == len(odd)
    finally:
        running.run("c1", "ovs-ofctl", "-O", "OpenFlow14", "del-flows", "br-int", "cookie=0xbeef/-1")


# ---- a running lab, asked wrongly

@pytest.mark.parametrize(("words", "code", "said"), [
    ("lab exec nobody -- true", 2, "blue1, blue2"),
    ("flows c9", 2, "c1, c2"),
    ("flows c1/br-ex", 2, "br-int, br-tun"),
    ("lab exec blue1 -- false", 1, ""),
    ("lab exec c1 -- sh -c exit\\ 7", 7, "")])
def test_a_running_lab_answers_with_the_right_code(running: Cloud, words: str, code: int, said: str) -> None:
    run(*shlex.split(words), rundir=running.rundir).refused(code, said)


def test_every_json_is_valid_and_alone_on_stdout(running: Cloud) -> None:
    for words in (("status", "--json"), ("flows", "--json"), ("flows", "--diff", "--json"), ("recompute", "--json"),
                  ("lab", "reach", "--json")):
        done = run(*words, rundir=running.rundir)
        assert done.code == 0, done
        assert json.loads(done.out)["ok"] is True


def test_nobody_may_neither_ask_the_daemon_nor_enter_the_lab(running: Cloud) -> None:
    running.rundir.chmod(0o755)  # what is in it keeps its own rights
    run("status", rundir=running.rundir, before=NOBODY).refused(3, "You may not ask the daemon", "as its owner")
    for words in (("lab", "exec", "blue1", "--", "true"), ("lab", "down"), ("lab", "up", str(running.file))):
        run(*words, rundir=running.rundir, before=NOBODY).refused(3, "root", "sudo")
    assert all(node.alive for node in lab.state(running.rundir).values())


# ---- a bare machine

def without(program: str, *words: str, rundir: Path) -> subprocess.CompletedProcess[str]:
    """A command of ours on a machine that lacks a program: it is covered, in a mount namespace of its own."""
    cover = 'mount --bind /dev/null "$0" && exec "$@"'
    return subprocess.run(["unshare", "--mount", "sh", "-c", cover, program, *TUNBRIDGE, *words], text=True,
                          capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, check=False,
                          env={**os.environ, "TUNBRIDGE_RUNDIR": str(rundir)})


@pytest.mark.parametrize(("program", "words", "package"), [
    ("/usr/sbin/ovs-vswitchd", ("lab", "up"), "openvswitch-switch"),
    ("/usr/bin/mnexec", ("lab", "up"), "mininet"),
    ("/usr/bin/mnexec", ("demo",), "mininet"),
    ("/usr/bin/ovs-vsctl", ("plumb", "--host", "compute1"), "openvswitch-switch")])
def test_a_missing_package_is_named_with_its_command(
        tmp_path: Path, program: str, words: tuple[str, ...], package: str) -> None:
    done = without(program, *words, rundir=tmp_path / "new")
    assert done.returncode == 3
    assert f"apt-get install {package}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "new").exists()
