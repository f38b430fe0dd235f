#!/usr/bin/env python3
"""Neutron's native OpenFlow driver programs br-tun, as its agent does: flow after flow, each with a barrier.

Neutron comes from the Python package index into an environment of its own, and talks to an Open vSwitch of its own in a
namespace of its own. 10,000 flows take it long enough; per flow it is no faster with 100,000. Ours is measured right
before and right after each run of it, from an empty br-tun and the topology as an object, as in `reconcile.py`: what
else happens on the machine in that half minute happens to both. Needs root.
"""
from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import clouds
from daemons import Daemon, cache
from labs import ROOT
from reconcile import HOSTS, started
from reports import Report, finish, parser, say
from stage import stage

FASTER = 200.0
VERSION = "29.0.0"
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
FLOWS = ROOT / "bench" / "peers" / "neutron_flows.py"
OVSDB, OPENFLOW = "6640", "6643"
PATIENCE = 600


class Unavailable(Exception):
    """Neutron cannot be had here; str() says why."""


def environment() -> Path:
    """The Python of an environment with Neutron. Unavailable if it cannot be made."""
    root = cache() / f"neutron-{VERSION}"
    if not (root / "ready").exists():
        say(f"installing Neutron {VERSION} into its own environment (some minutes)")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(root)], check=True)
        done = subprocess.run([str(root / "bin" / "pip"), "install", "-q", f"neutron=={VERSION}"], capture_output=True,
                              text=True)
        if done.returncode:
            raise Unavailable(f"pip install neutron: {(done.stderr.strip().splitlines() or ['no words'])[-1]}")
        (root / "ready").touch()
    return root / "bin" / "python"


class Switch:
    """Open vSwitch in a namespace of its own, with a bridge `br-tun` and ten tunnels; its database listens on TCP."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.room = f"tb{os.getpid()}-neutron"
        self.environment = {**os.environ, **dict.fromkeys(("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"), str(where))}

    def argv(self, *words: object) -> list[str]:
        return ["ip", "netns", "exec", self.room, *map(str, words)]

    def run(self, *words: object) -> str:
        return subprocess.run(self.argv(*words), env=self.environment, check=True, stdout=subprocess.PIPE, text=True,
                              stdin=subprocess.DEVNULL, timeout=PATIENCE).stdout

    def up(self) -> None:
        subprocess.run(["ip", "netns", "add", self.room], check=True)
        self.run("ip", "link", "set", "lo", "up")
        self.run("ovsdb-tool", "create", self.where / "conf.db", SCHEMA)
        self._daemon("ovsdb-server", self.where / "conf.db", f"--remote=punix:{self.where}/db.sock",
                     f"--remote=ptcp:{OVSDB}:127.0.0.1")
        self.run("ovs-vsctl", "--no-wait", "init")
        self._daemon("ovs-vswitchd", f"unix:{self.where}/db.sock")
        words: list[str] = []
        for number in range(1, 11):
            words += ["--", "add-port", "br-tun", f"vxlan{number}", "--", "set", "interface", f"vxlan{number}",
                      "type=vxlan", f"options:remote_ip=192.0.2.{number}", "options:key=flow",
                      f"ofport_request={number}"]
        self.run("ovs-vsctl", "add-br", "br-tun", "--", "set", "bridge", "br-tun", "datapath_type=netdev",
                 "fail_mode=secure", *words)

    def _daemon(self, name: str, *words: object) -> None:
        self.run(name, *words, "--detach", "--no-chdir", f"--pidfile={self.where}/{name}.pid",
                 f"--log-file={self.where}/{name}.log", "--verbose=console:off")

    def count(self) -> int:
        return int(self.run("ovs-ofctl", "-O", "OpenFlow13", "dump-aggregate", f"unix:{self.where}/br-tun.mgmt",
                            "table=20").rpartition("flow_count=")[2])

    def clear(self) -> None:
        self.run("ovs-ofctl", "-O", "OpenFlow13", "del-flows", f"unix:{self.where}/br-tun.mgmt")

    def down(self) -> None:
        for file in self.where.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.read_text()), 9)
        subprocess.run(["ip", "netns", "del", self.room], check=False)


@contextlib.contextmanager
def switch() -> Iterator[Switch]:
    """It goes with the block."""
    with tempfile.TemporaryDirectory(prefix="tbneu", dir="/tmp") as name:
        made = Switch(Path(name))
        try:
            made.up()
            yield made
        finally:
            made.down()


@contextlib.contextmanager
def driver(flows: int) -> Iterator[Callable[[], float]]:
    """The function that lets Neutron program so many flows, and returns the seconds. Unavailable if there is none."""
    if shutil.which("ovs-vswitchd") is None:
        raise Unavailable("ovs-vswitchd is missing")
    python = environment()
    with switch() as here, (here.where / "neutron.log").open("w") as log:
        running = subprocess.Popen(here.argv(python, FLOWS, "br-tun", OVSDB, OPENFLOW, flows),
                                   env={**here.environment, "PATH": f"{python.parent}:{os.environ['PATH']}"},
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)

        def once() -> float:
            assert running.stdin and running.stdout
            here.clear()
            time.sleep(0.5)
            running.stdin.write("go\n")
            running.stdin.flush()
            seconds = float(running.stdout.readline())
            assert here.count() == flows
            return seconds

        try:
            assert running.stdout
            if running.stdout.readline() != "ready\n":
                raise Unavailable(f"its driver does not start: {(here.where / 'neutron.log').read_text()[-600:]}")
            yield once
        finally:
            running.kill()
            running.wait(30)


@contextlib.contextmanager
def cold(flows: int) -> Iterator[tuple[float, Callable[[], float]]]:
    """How many flows of br-tun ours are, and the function that has them all written, and returns the seconds."""
    with stage() as here:
        daemon, topology = Daemon(here.where, HOSTS), clouds.kept(clouds.crowd(flows), here.where / "crowd")

        def once() -> float:
            here.ofctl("del-flows", "br-tun")
            try:
                took = started(daemon, topology)
            finally:
                daemon.kill()
            return took["s"] + took["warm"]

        once()
        yield here.count(), once


def report(asked: Namespace) -> Report:
    """Figures and the verdict."""
    made = Report("Neutron's native driver")
    words = f"cold, {FASTER:.0f} x faster than Neutron's native driver"
    theirs, ours, ratios = [], [], []
    try:
        with driver(asked.flows) as neutron, cold(asked.ours) as (count, tunbridge):
            for number in range(asked.runs):
                before = tunbridge()
                theirs.append(neutron())
                ours.append((before + tunbridge()) / 2)
                ratios.append(theirs[-1] / asked.flows * count / ours[-1])
                say(f"  run {number + 1} of {asked.runs}: {asked.flows} flows in {theirs[-1]:.1f} s, {count:.0f} "
                    f"of ours in {ours[-1]:.2f} s, {ratios[-1]:.0f} x")
    except Unavailable as error:
        made.promise(words, str(error), None)
        return made
    made.add(f"Neutron {VERSION}, native driver, {asked.flows:,} flows", "s", theirs)
    made.add(f"  by that, {count:,.0f} flows", "s", [run * count / asked.flows for run in theirs])
    made.add(f"tunbridge, cold, {count:,.0f} flows, from the topology object; before and after", "s", ours)
    share = made.add("times faster", "x", ratios).median
    made.promise(words, f"{share:.0f} x (rounds {min(ratios):.0f} to {max(ratios):.0f})", share >= FASTER)
    return made


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--flows", type=int, default=10_000, help="that Neutron programs")
    options.add_argument("--ours", type=int, default=100_000, help="that ours does")
    finish(report, options.parse_args())
