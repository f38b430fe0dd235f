"""The hypervisor node on its own: Mininet scripts that need no other part of this project, or only the daemon."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from labkit import ROOT, TUNBRIDGE, until

from controller.host.processes import of_lab as processes_of_lab
from controller.model import reading
from controller.tools import lab

pytestmark = [pytest.mark.system, pytest.mark.alone]

SYSTEM_PYTHON = "/usr/bin/python3"
EXAMPLES = ROOT / "mininet" / "examples"


def processes(*programs: str) -> set[int]:
    """Living processes of these programs."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                program = (entry / "cmdline").read_bytes().split(b"\0")[0].decode()
            except OSError:
                continue
            if os.path.basename(program) in programs:
                found.add(int(entry.name))
    return found


def devices() -> set[str]:
    """Network devices of the root namespace."""
    return set(os.listdir("/sys/class/net"))


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    before = devices(), processes("ovs-vswitchd", "ovsdb-server")
    yield
    assert devices() - before[0] == set()
    until(lambda: not processes("ovs-vswitchd", "ovsdb-server") - before[1], "the daemons of the script have ended")


def script(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SYSTEM_PYTHON, str(path)], text=True, capture_output=True, timeout=120, check=False,
                          env={**os.environ, **environment}, stdin=subprocess.DEVNULL)


def test_two_hypervisors_of_a_plain_script_ping_over_vxlan() -> None:
    done = script(EXAMPLES / "two_hypervisors.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0% dropped (2/2 received)" in done.stdout + done.stderr


def test_tcp_passes_between_hosts_of_a_plain_script_and_three_hypervisors_make_no_loop(tmp_path: Path) -> None:
    plain = tmp_path / "three.py"
    plain.write_text(f"""
import sys
sys.path.insert(0, {str(ROOT / "mininet")!r})
from hypervisor import Hypervisor
from mininet.net import Mininet
net = Mininet(topo=None, controller=None)
middle = net.addSwitch("middle", cls=Hypervisor)
for number in (1, 2, 3):
    others = [f"192.0.2.{{other}}" for other in (1, 2, 3) if other != number]
    here = net.addSwitch(f"hv{{number}}", cls=Hypervisor, tunnel_ip=f"192.0.2.{{number}}/24", remotes=others)
    net.addLink(here, middle)
    net.addLink(net.addHost(f"h{{number}}"), here)
middle.uplink = ""
try:
    net.start()
    net.pingAll()  # the packet for which Open vSwitch must ask who has a tunnel address is lost
    print("LOST", net.pingAll())
    h1, h3 = net.get("h1", "h3")
    server = h3.popen([sys.executable, "-c", "import socket; s = socket.create_server(('', 5000)); "
                       "print('ready', flush=True); c, _ = s.accept(); n = 0\\n"
                       "while data := c.recv(65536): n += len(data)\\nprint('GOT', n, flush=True)"])
    server.stdout.readline()
    h1.pexec([sys.executable, "-c", "import socket; c = socket.create_connection(('10.0.0.3', 5000), 20); "
              "c.sendall(bytes(3000000))"])
    print(server.stdout.readline().decode())
    print("COPIES", h1.pexec("ping -c 3 -i 0.2 10.0.0.3")[0].count("DUP"))
finally:
    net.stop()
""")
    done = script(plain)
    assert "LOST 0.0" in done.stdout, done.stdout + done.stderr
    assert "GOT 3000000" in done.stdout, done.stdout + done.stderr
    assert "COPIES 0" in done.stdout


def test_a_topo_of_ones_own_is_served_by_a_running_daemon(tmp_path: Path) -> None:
    rundir = tmp_path / "run"
    command = tmp_path / "tunbridge"
    command.write_text(f"#!/bin/sh\ncd {ROOT} && exec {' '.join(TUNBRIDGE)} \"$@\"\n")
    command.chmod(0o755)
    environment = {"TUNBRIDGE_RUNDIR": str(rundir), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen([*TUNBRIDGE, "run", str(EXAMPLES / "own_topo.yaml"), "--listen", "none"], cwd=ROOT,
                          env={**os.environ, **environment}, stderr=subprocess.DEVNULL) as daemon:
        try:
            until((rundir / "openflow.sock").exists, "the daemon listens")
            done = script(EXAMPLES / "own_topo.py", **environment)
        finally:
            daemon.terminate()
    said = done.stdout + done.stderr
    rows = dict(re.findall(r"^(\w+) -> (.*?) *$", said, re.MULTILINE))
    assert rows == {"r1": "X r2", "r2": "X r1", "g1": "X X"}, said


def test_mn_builds_the_whole_lab_from_a_plan_and_takes_it_away_again() -> None:
    rundir = Path(tempfile.mkdtemp(prefix="tbm", dir="/tmp"))
    (rundir / "lab").mkdir()
    found = reading.load(ROOT / "topology.yaml").topology
    assert found
    (rundir / "lab" / "plan.json").write_text(json.dumps(lab.plan(found, rundir)))
    environment = {**os.environ, "TUNBRIDGE_RUNDIR": str(rundir)}
    with subprocess.Popen([*TUNBRIDGE, "run", "topology.yaml", "--listen", "none"], cwd=ROOT, env=environment,
                          stderr=subprocess.DEVNULL) as daemon:
        try:
            until((rundir / "openflow.sock").exists, "the daemon listens")
            # Several pings, since the flows are there a moment after the wires.
            done = subprocess.run(["/usr/bin/mn", "--custom", "mininet/lab.py", "--topo", "tunbridge", "--controller",
                                   "none"], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=120,
                                  input="web1 ping -n -c 5 -i 0.5 -W 1 web2\n", check=False)
        finally:
            daemon.terminate()
    left = processes_of_lab(lab.directory(rundir)), sorted(os.listdir(rundir / "lab"))
    shutil.rmtree(rundir)
    said = done.stdout + done.stderr
    assert "bytes from 10.0.1.12" in said, said
    assert left == ({}, ["plan.json"])


def test_system_python_has_what_the_examples_need() -> None:
    """Else the tests above would tell of a missing package in riddles."""
    assert subprocess.run([SYSTEM_PYTHON, "-c", "import mininet.net"], check=False).returncode == 0
    assert sys.version_info >= (3, 11)
