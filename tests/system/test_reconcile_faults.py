"""What goes wrong while a daemon makes its switches agree, a pulse meanwhile: of it not one packet is lost.

The daemon is a hasty one: it waits for a second or two where others wait for a minute.
"""
from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from between import TO_DAEMON, TO_SWITCH, Cut, Hold, between
from faultkit import (
    HASTY,
    Nursery,
    all_in_sync,
    another_daemon,
    controllers,
    later,
    log,
    obey,
    rows,
    small_disk,
    switch,
    switches_know,
)
from labkit import Cloud, tunbridge, until
from pulsekit import pulse

from controller.tools import client

pytestmark = [pytest.mark.system, pytest.mark.alone]

TOPOLOGY = """
cloud: reconcile
underlay: {cidr: 192.0.2.0/24}
firewall: openvswitch
forwarding: l2population
hosts:
  c1: {tunnel_ip: 192.0.2.11}
  c2: {tunnel_ip: 192.0.2.12}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24}}}
  crowd: {tunnel_id: 1002, subnets: {crowd-subnet: {cidr: 10.64.0.0/16}}}
security_groups:
  open: [{direction: ingress, protocol: any}, {direction: egress, protocol: any}]
vms:
  blue1: {host: c1, network: blue, ip: 10.0.1.11, security_groups: [open]}
  blue2: {host: c2, network: blue, ip: 10.0.1.12, security_groups: [open]}
  blue3: {host: c1, network: blue, ip: 10.0.1.13, security_groups: [open]}
  blue4: {host: c2, network: blue, ip: 10.0.1.14, security_groups: [open]}
  blue5: {host: c1, network: blue, ip: 10.0.1.15, security_groups: [open]}
  blue6: {host: c1, network: blue, ip: 10.0.1.16, security_groups: [open]}
  crowd-one: {host: c1, network: crowd, ip: 10.64.0.1}
"""
# A VM more on each host, which nobody has plugged in: a row more in br-tun of the other.
MORE = TOPOLOGY + """
  blue8: {host: c1, network: blue, ip: 10.0.1.18, mac: "fa:16:3e:00:00:88"}
  blue9: {host: c2, network: blue, ip: 10.0.1.19, mac: "fa:16:3e:00:00:99"}
"""
BLUE9 = bytes.fromhex("fa163e000099")
WAYS = (("blue1", "blue2"), ("blue4", "blue3"), ("blue5", "blue6"))
KILLS = 50
TELLING = " write switch=c1/br-tun ", " in sync switch=c1/br-tun "
CROWD = 20_000  # VMs; a flow for each on br-tun of the other host
LONGEST = 1.2  # seconds of a life at most

# OpenFlow 1.4: message types, and where things are in them.
MULTIPART_REPLY, BUNDLE_ADD, FLOW_MOD, FLOW_STATS = 19, 34, 14, b"\0\1"
INNER, INNER_MATCH = 16, 64  # of a bundled flow-mod: its own header, and its match


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    with small_disk() as made:
        yield made


@pytest.fixture(scope="module")
def module_cloud(disk: Path) -> Iterator[Cloud]:
    made = Cloud(TOPOLOGY, daemon=HASTY)
    failed = True
    try:
        made.start_daemon()
        made.up()
        made.in_sync()
        yield made
        failed = made.daemon is None
    finally:
        if made.daemon:  # who was refused a lot; the checks at the end are about one who was not
            made.kill_daemon()
            made.start_daemon()
        made.finish(failed=failed)


@pytest.fixture
def running(module_cloud: Cloud) -> Cloud:
    """The cloud as every test finds it, whatever became of the test before."""
    if not module_cloud.daemon:
        module_cloud.start_daemon()
    obey(module_cloud, TOPOLOGY)
    module_cloud.in_sync()
    return module_cloud


# ---- what a switch refuses

def refused_and_taken_later(running: Cloud, reason: str, lift: contextlib.ExitStack) -> None:
    """MORE is refused by br-tun of c1 as long as `lift` has not been closed, and by nobody else."""
    before, lines = running.dump(), len(log(running))
    obey(running, MORE)
    found = until(lambda: (one := switch(running, "c1/br-tun"))["reason"] and one, "it is refused")
    assert reason in found["reason"]
    told = tunbridge("status", rundir=running.rundir, check=False)
    assert (told.returncode, reason in told.stdout) == (1, True)
    until(lambda: all(one["in_sync"] for one in running.status()["switches"] if one["host"] == "c2"), "c2 is in sync")
    assert any("fa:16:3e:00:00:88" in line for line in running.flows("c2", "br-tun")), "the others obey"
    until(lambda: sum(" refused switch=c1/br-tun " in line for line in log(running)[lines:]) >= 2, "it is tried again")
    now = running.dump()
    assert now["c1/br-tun"] == before["c1/br-tun"], "nothing is half applied"
    lift.close()
    until(lambda: all_in_sync(running), "it takes it later, and nobody had to ask")
    assert any("fa:16:3e:00:00:99" in line for line in running.flows("c1", "br-tun"))
    obey(running, TOPOLOGY)
    until(lambda: all_in_sync(running) and running.dump() == before, "as before")


def test_a_full_table_refuses_a_bundle_whole_and_takes_it_when_there_is_room(running: Cloud) -> None:
    there = sum("table=20," in line for line in running.flows("c1", "br-tun"))
    running.run("c1", "ovs-vsctl", "--timeout=10", "--", "--id=@full", "create", "Flow_Table", f"flow_limit={there}",
                "overflow_policy=refuse", "--", "set", "Bridge", "br-tun", "flow_tables:20=@full")
    with pulse(running, *WAYS), contextlib.ExitStack() as lift:
        lift.callback(running.run, "c1", "ovs-vsctl", "--timeout=10", "clear", "Bridge", "br-tun", "flow_tables")
        refused_and_taken_later(running, "TABLE_FULL", lift)


def test_a_bad_flow_among_good_ones_refuses_them_all_and_its_words_are_told(running: Cloud) -> None:
    def spoil(way: str, message: bytes) -> bytes:
        if way == TO_SWITCH and message[1] == BUNDLE_ADD and message[INNER + 1] == FLOW_MOD and BLUE9 in message:
            return message[:INNER_MATCH] + b"\0\7" + message[INNER_MATCH + 2:]  # no such kind of match
        return message
    with pulse(running, *WAYS), contextlib.ExitStack() as lift:
        lift.enter_context(between(running, "c1", spoil))
        until(lambda: all_in_sync(running), "in sync by way of it")
        refused_and_taken_later(running, "blue9", lift)


# ---- connections that fail half-way

def test_a_switch_that_stops_reading_is_given_up_and_holds_up_nobody(running: Cloud) -> None:
    held: list[bytes] = []

    def stop(way: str, message: bytes) -> bytes:
        if way == TO_SWITCH and message[1] == BUNDLE_ADD and not held:
            held.append(message)
            raise Hold
        return message
    before = running.dump()
    with pulse(running, *WAYS), between(running, "c1", stop):
        until(lambda: all_in_sync(running), "in sync by way of it")
        lines = len(log(running))
        obey(running, MORE)
        until(lambda: held, "it stops")
        until(lambda: all(one["in_sync"] for one in running.status()["switches"] if one["host"] == "c2"), "c2 obeys")
        assert not switch(running, "c1/br-tun")["in_sync"]
        until(lambda: any(" disconnected switch=c1/br-tun " in line for line in log(running)[lines:]), "it is given up")
        until(lambda: all_in_sync(running), "it comes back and obeys")
        obey(running, TOPOLOGY)
        until(lambda: all_in_sync(running), "in sync")
    assert running.dump() == before


def test_a_dump_that_is_cut_in_the_middle_is_no_reason_to_write(running: Cloud, seed: int) -> None:
    """In a part, between two parts, and in the last one: what was not read is not missing."""
    rng, cuts = random.Random(seed), [0.5, 1.0, 0.1]
    strangers = "".join(f"cookie=0xbeef,table=99,priority={1 + number},actions=drop\n" for number in range(2500))
    words = running.rundir / "strangers"
    words.write_text(strangers)  # so that it takes several parts
    running.run("c1", "ovs-ofctl", "-O", "OpenFlow14", "add-flows", "br-int", str(words))
    parts: list[int] = []

    def cut(way: str, message: bytes) -> bytes:
        if way == TO_DAEMON and message[1] == MULTIPART_REPLY and message[8:10] == FLOW_STATS and cuts:
            if len(message) > 1 << 14:
                parts.append(len(message))
            share = cuts.pop()
            raise Cut(message[:int(len(message) * share) - rng.randrange(8) * (share < 1)])
        return message
    try:
        before, lines = running.dump(), len(log(running))
        with pulse(running, *WAYS):
            with between(running, "c1", cut):
                until(lambda: not cuts, "all cuts are made")
                until(lambda: sum(" read switch=c1/" in line for line in log(running)[lines:]) >= 2
                      and all_in_sync(running), "in sync")
            assert not [line for line in log(running)[lines:] if " write " in line]
            assert parts, "a dump of several parts was cut"
        assert running.dump() == before
    finally:
        running.run("c1", "ovs-ofctl", "-O", "OpenFlow14", "del-flows", "br-int", "cookie=0xbeef/-1")


# ---- two daemons, and one without room

def test_of_two_daemons_the_newer_one_writes_and_the_older_one_says_so_until_it_is_alone(
        running: Cloud, disk: Path) -> None:
    before = running.dump()
    with another_daemon(running, disk) as other, pulse(running, *WAYS), switches_know(running, other):
        other.start_daemon()
        controllers(running, "tunbridge", "other")
        until(lambda: all_in_sync(other), "the newer one is in sync")
        until(lambda: all(one["state"] == "another daemon is master" for one in running.status()["switches"]),
              "the older one steps back")
        told = tunbridge("status", rundir=running.rundir, check=False)
        assert (told.returncode, "another daemon is master" in told.stdout) == (1, True)
        assert any(" WARNING standing back switch=c1/br-tun " in line for line in log(running))
        lines = len(log(running))
        obey(running, MORE)
        obey(other, TOPOLOGY)
        assert running.dump() == before, "who has stepped back writes nothing"
        assert not [line for line in log(running)[lines:] if " write " in line]
        other.kill_daemon()
        until(lambda: all_in_sync(running), "the older one takes over again")
        assert any("fa:16:3e:00:00:99" in line for line in running.flows("c1", "br-tun")), "with what it was told"
        obey(running, TOPOLOGY)
        until(lambda: all_in_sync(running) and running.dump() == before, "as before")


def test_a_daemon_whose_run_directory_and_log_are_on_a_full_disk_goes_on_and_starts_again(
        running: Cloud, disk: Path) -> None:
    before = running.dump()
    with another_daemon(running, disk) as other, pulse(running, *WAYS), switches_know(running, other):
        running.kill_daemon()
        controllers(running, "other")
        other.start_daemon()
        until(lambda: all_in_sync(other), "in sync")
        with contextlib.suppress(OSError), open(other.rundir / "rubbish", "wb", buffering=0) as rubbish:
            while rubbish.write(bytes(4096)):
                pass
        assert os.statvfs(other.rundir).f_bavail == 0
        obey(other, MORE)
        until(lambda: all_in_sync(other), "it obeys")
        assert any("fa:16:3e:00:00:99" in line for line in running.flows("c1", "br-tun"))
        for number in (signal.SIGKILL, signal.SIGTERM):
            assert other.kill_daemon(number) == (0 if number == signal.SIGTERM else -number)
            other.start_daemon()
            until(lambda: all_in_sync(other), "it has started with a full disk")
        assert running.dump() == before
        assert not [one for one in other.status()["switches"] if one["counters"]["added"]]


# ---- too much at once

def test_topologies_that_come_while_others_are_reconciled_leave_the_last_one(running: Cloud, seed: int) -> None:
    rng, before = random.Random(seed), running.dump()
    with pulse(running, *WAYS):
        for _ in range(30):
            what = rng.choice([MORE, TOPOLOGY, None])
            if what is None:
                client.ask(running.where, {"do": "recompute"})
            else:
                obey(running, what)
        obey(running, TOPOLOGY)
        until(lambda: all_in_sync(running), "in sync")
    assert running.dump() == before


def test_a_daemon_that_is_killed_at_any_moment_of_a_reconcile_fifty_times_costs_no_packet(
        running: Cloud, seed: int) -> None:
    """Each life begins to put a crowd of other MACs in the place of the last one: 20,000 flows go, 20,000 come."""
    rng, before, found = random.Random(seed), running.dump(), []
    names = itertools.cycle(["again", "tunbridge"])  # ways to the same daemon
    again = running.rundir / "lab/c1/again.sock"
    again.symlink_to(running.where.openflow)
    running.kill_daemon()
    with contextlib.closing(Nursery(running, CROWD)) as nursery, pulse(running, *WAYS):
        nursery.start("crowded:b")
        began = time.monotonic()
        controllers(running, next(names), hosts=["c1"])
        until(lambda: switch(running, "c1/br-tun")["in_sync"], "a first life, undisturbed", 60)
        longest, full = min(time.monotonic() - began, LONGEST), rows(running)
        assert full > CROWD
        for life in range(KILLS):
            nursery.kill()
            found.append(rows(running))
            with later(running, *TELLING) as said:
                nursery.start(f"crowded:{'ab'[life % 2]}")
                controllers(running, next(names), hosts=["c1"])
                if life % 5 == 0:  # however busy the machine is, some come as far as that
                    until(said, "it writes", 60)
            time.sleep(rng.uniform(0, longest if life % 5 else longest / 4))  # the moment
        print("flows that a dead daemon left:", found)
        assert any(one != full for one in found), "some were killed while they wrote"
        until(lambda: all_in_sync(running), "the last one lives", 60)
        assert rows(running) == full
        told = json.loads(tunbridge("recompute", "--json", rundir=running.rundir).stdout)
        assert told == {"ok": True, "changed": 0}, "the flows are those of the last topology, and no others"
        nursery.kill()
        running.start_daemon()
        controllers(running, "tunbridge", hosts=["c1"])
        running.in_sync()
    again.unlink()
    assert running.dump() == before
