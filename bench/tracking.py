#!/usr/bin/env python3
"""What connection tracking costs a TCP connection in Open vSwitch's userspace datapath, without anything of Tunbridge.

Two ends on one switch, and the least flows that hand a connection over: with no, one or two passes of connection
tracking on its way. What one pass leaves of the rate is the most that any stateful filter of each packet could leave
there; two passes are what two filtered ports need that keep their conversations apart. Needs root; prints a table and
writes bench/tracking.json.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from labs import ROOT, machine

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
INSIDE = "TUNBRIDGE_BENCH_INSIDE"  # set where this process is in a network namespace of its own
SECONDS = 3
MTU = "1450"  # as on a network with VXLAN
OTHERS = ("priority=1,in_port=1,actions=2", "priority=1,in_port=2,actions=1")  # ARP
WAYS = {
    "handed over": ("priority=9,ip,in_port=1,nw_dst=10.0.0.2,actions=2",
                    "priority=9,ip,in_port=2,nw_dst=10.0.0.1,actions=1"),
    "tracked once": ("priority=9,ip,actions=ct(zone=1,table=1)",
                     "table=1,priority=9,ct_state=+new,ip,in_port=1,actions=ct(commit,zone=1),2",
                     "table=1,ct_state=-new,in_port=1,actions=2", "table=1,ct_state=-new,in_port=2,actions=1"),
    "tracked twice": ("priority=9,ip,in_port=1,actions=ct(zone=1,table=1)",
                      "priority=9,ip,in_port=2,actions=ct(zone=2,table=1)",
                      "table=1,ct_state=+new,ip,in_port=1,actions=ct(commit,zone=1),ct(zone=2,table=2)",
                      "table=1,ct_state=-new,ip,in_port=1,actions=ct(zone=2,table=2)",
                      "table=1,ct_state=-new,ip,in_port=2,actions=ct(zone=1,table=2)",
                      "table=2,ct_state=+new,ip,in_port=1,actions=ct(commit,zone=2),2",
                      "table=2,ct_state=-new,in_port=1,actions=2", "table=2,ct_state=-new,in_port=2,actions=1"),
}
PASSES = {"handed over": 0, "tracked once": 1, "tracked twice": 2}


def run(*argv: str) -> str:
    """A command's output; its failure ends the bench."""
    done = subprocess.run(argv, text=True, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(argv)}: {done.stderr}")
    return done.stdout


@contextlib.contextmanager
def switch() -> Iterator[tuple[Path, list[str]]]:
    """The directory of an Open vSwitch with two ends, and the pids of what holds these."""
    with tempfile.TemporaryDirectory(prefix="tb-ct-", dir="/tmp") as name, contextlib.ExitStack() as stack:
        home = Path(name)
        os.environ.update(dict.fromkeys(("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"), name))
        run("ovsdb-tool", "create", f"{home}/conf.db", SCHEMA)
        for program, words in (("ovsdb-server", (f"--remote=punix:{home}/db.sock", f"{home}/conf.db")),
                               ("ovs-vswitchd", (f"unix:{home}/db.sock",))):
            run(program, "--no-chdir", "--detach", f"--pidfile={home}/{program}.pid",
                f"--log-file={home}/{program}.log", *words)
            stack.callback(os.kill, int((home / f"{program}.pid").read_text()), signal.SIGKILL)
            if program == "ovsdb-server":
                run("ovs-vsctl", "--no-wait", "init")
        run("ovs-vsctl", "add-br", "br", "--", "set", "bridge", "br", "datapath_type=netdev", "fail-mode=secure")
        yield home, [stack.enter_context(end(number)) for number in (1, 2)]


@contextlib.contextmanager
def end(number: int) -> Iterator[str]:
    """A namespace with an address, behind a port of the switch; the pid of what holds it."""
    with subprocess.Popen(["unshare", "--net", "sleep", "infinity"]) as anchor:
        try:
            while os.readlink(f"/proc/{anchor.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
                time.sleep(0.01)
            inside = ("nsenter", f"--target={anchor.pid}", "--net")
            run("ip", "link", "add", f"p{number}", "mtu", MTU, "type", "veth", "peer", "name", "eth0", "netns",
                str(anchor.pid))
            run("ip", "link", "set", f"p{number}", "up")
            run(*inside, "ip", "link", "set", "eth0", "mtu", MTU, "up")
            run(*inside, "ip", "address", "add", f"10.0.0.{number}/24", "dev", "eth0")
            run(*inside, "ethtool", "-K", "eth0", "tx", "off")
            run("ovs-vsctl", "add-port", "br", f"p{number}", "--", "set", "interface", f"p{number}",
                f"ofport_request={number}")
            yield str(anchor.pid)
        finally:
            anchor.kill()


def measured(home: Path, ends: list[str], passes: int) -> tuple[float, float]:
    """(bits per second, microseconds of the switch's time for each packet) of one TCP connection."""
    first, second = ends
    with subprocess.Popen(["nsenter", f"--target={second}", "--net", "iperf3", "-s", "-1", "--forceflush"],
                          stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        while "listening" not in server.stdout.readline():
            if server.poll() is not None:
                sys.exit("iperf3 does not listen")
        run("ovs-appctl", "dpif-netdev/pmd-stats-clear")
        before = processor(home)
        said = json.loads(run("nsenter", f"--target={first}", "--net", "iperf3", "-c", "10.0.0.2", "-t", str(SECONDS),
                              "-J"))
        spent = processor(home) - before
        server.stdout.read()
    packets, again = (counted(words) for words in ("packets received", "packet recirculations"))
    if abs(again - passes * packets) > packets / 10:
        sys.exit(f"{again} recirculations of {packets} packets are not {passes} passes of connection tracking")
    return float(said["end"]["sum_received"]["bits_per_second"]), spent / packets * 1e6


def counted(words: str) -> int:
    """One of the datapath's counters."""
    shown = run("ovs-appctl", "dpif-netdev/pmd-stats-show").splitlines()
    return int(next(line for line in shown if f"{words}:" in line).rpartition(":")[2])


def processor(home: Path) -> float:
    """Seconds that the switch has had of a processor."""
    pid = (home / "ovs-vswitchd.pid").read_text().strip()
    return sum(int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
               for task in os.listdir(f"/proc/{pid}/task")) / 1e9


def obey(home: Path, flows: tuple[str, ...]) -> None:
    """The switch has these flows and no others, and acts on them."""
    (home / "flows").write_text("\n".join((*OTHERS, *flows)))
    run("ovs-ofctl", "del-flows", "br")
    run("ovs-ofctl", "add-flows", "br", str(home / "flows"))
    run("ovs-appctl", "revalidator/purge")  # the userspace datapath of 3.1.0 may go on as before


def main() -> None:
    """Medians of several rounds, each of all ways."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with switch() as (home, ends):
        for number in range(rounds):
            for way, flows in WAYS.items():
                obey(home, flows)
                found[way].append(measured(home, ends, PASSES[way]))
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    results = {"machine": machine(), "units": ["bit/s", "microseconds of the switch for a packet"], "rounds": found}
    (ROOT / "bench" / "tracking.json").write_text(json.dumps(results, indent=1) + "\n")
    bare = statistics.median(rate for rate, _ in found["handed over"])
    for way, values in found.items():
        rate, spent = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"  {way:<14} {rate / 1e6:6.0f} Mbit/s, {rate / bare:4.2f}; the switch has {spent:5.1f} us for a packet")


if __name__ == "__main__":
    if INSIDE not in os.environ:
        os.execvpe("unshare", ["unshare", "--net", sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})
    main()
