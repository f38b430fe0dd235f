#!/usr/bin/env python3
"""Neutron's native OpenFlow driver programs br-tun, as its agent does: flow after flow, each with a barrier.

Neutron comes from the Python package index into an environment of its own, and talks to an Open vSwitch of its own in a
namespace of its own. 10,000 flows take it long enough; per flow it is no faster with 100,000. Needs root.
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
from collections.abc import Iterator
from pathlib import Path

from daemons import cache
from labs import ROOT
from reports import Report, finish, parser, say

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


def measure(flows: int, runs: int) -> list[float]:
    """Seconds of each run. Unavailable if Neutron cannot be had."""
    if shutil.which("ovs-vswitchd") is None:
        raise Unavailable("ovs-vswitchd is missing")
    python, found = environment(), []
    with switch() as here, (here.where / "neutron.log").open("w") as log:
        driver = subprocess.Popen(here.argv(python, FLOWS, "br-tun", OVSDB, OPENFLOW, flows),
                                  env={**here.environment, "PATH": f"{python.parent}:{os.environ['PATH']}"},
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        assert driver.stdin and driver.stdout
        try:
            if driver.stdout.readline() != "ready\n":
                raise Unavailable(f"its driver does not start: {(here.where / 'neutron.log').read_text()[-600:]}")
            for number in range(runs):
                here.clear()
                time.sleep(0.5)
                driver.stdin.write("go\n")
                driver.stdin.flush()
                found.append(float(driver.stdout.readline()))
                assert here.count() == flows
                say(f"  run {number + 1} of {runs}: {flows} flows in {found[-1]:.1f} s")
        finally:
            driver.kill()
            driver.wait(30)
    return found


def report(asked: Namespace) -> Report:
    """Figures alone: `reach.py` compares them with ours."""
    made = Report("Neutron's native driver")
    try:
        runs = measure(asked.flows, asked.runs)
    except Unavailable as error:
        made.notes.append(f"skipped: {error}")
    else:
        made.add(f"Neutron {VERSION}, native driver, {asked.flows:,} flows", "s", runs)
        made.add("  by that, 100,000 flows", "s", [run * 100_000 / asked.flows for run in runs])
    return made


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--flows", type=int, default=10_000)
    finish(report, options.parse_args())
