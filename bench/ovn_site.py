"""OVN of Debian's packages, unpacked beside the system and run in namespaces of its own with databases of its own."""
from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from daemons import cache
from ovsdb import Ovsdb, select, update
from reports import say

PACKAGES = ("ovn-common", "ovn-central", "ovn-host")
LOCAL = 10  # ports on this hypervisor; all others are bound to chassis that do not exist
FAKE_CHASSIS = 10
SYNC_SECONDS = 600
BATCH = 1000  # ports of one call
SCHEMAS = {"conf": "/usr/share/openvswitch/vswitch.ovsschema", "nb": "ovn-nb.ovsschema", "sb": "ovn-sb.ovsschema"}


class Unavailable(Exception):
    """OVN cannot be had here; str() says why."""


def unpacked() -> Path:
    """The root of the unpacked packages; nothing is installed, and no service is started. Unavailable if that fails."""
    root = cache() / "ovn" / "root"
    if root.is_dir():
        return root
    for tool in ("apt-get", "dpkg", "ovs-vswitchd"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is missing")
    say("downloading OVN")
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        done = subprocess.run(["apt-get", "download", *PACKAGES], cwd=name, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"apt-get download: {(done.stderr.strip().splitlines() or ['no words'])[-1]}")
        for package in Path(name).glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, Path(name) / "root"], check=True)
        root.parent.mkdir(exist_ok=True)
        (Path(name) / "root").rename(root)
    return root


class Site:
    """One hypervisor with a logical switch `ls`, and two VMs on it, p1 and p2."""

    def __init__(self, where: Path, root: Path, *, tuned: bool) -> None:
        self.where = where
        self._root = root
        self._tuned = tuned
        path = f"{root}/usr/bin:{os.environ['PATH']}"
        rooms = ("OVS_RUNDIR", "OVN_RUNDIR", "OVS_LOGDIR", "OVN_LOGDIR", "OVS_DBDIR", "OVN_DBDIR")
        self._environment = {**os.environ, "PATH": path, **dict.fromkeys(rooms, str(where))}
        self.rooms = {name: f"tb{os.getpid()}-{name}" for name in ("hv", "p1", "p2")}

    def run(self, *words: object) -> str:
        """A tool's stdout, from within the hypervisor's namespace."""
        command = ["ip", "netns", "exec", self.rooms["hv"], *map(str, words)]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=SYNC_SECONDS)
        if done.returncode:
            sys.exit(f"{' '.join(command[4:12])}: {done.stderr[-500:]}")
        return done.stdout

    def vsctl(self, *words: object) -> str:
        return self.run("ovs-vsctl", f"--db=unix:{self.where}/db.sock", *words)

    def nbctl(self, *words: object) -> str:
        return self.run("ovn-nbctl", f"--db=unix:{self.where}/nb.sock", f"--timeout={SYNC_SECONDS}", *words)

    def sbctl(self, *words: object) -> str:
        return self.run("ovn-sbctl", f"--db=unix:{self.where}/sb.sock", f"--timeout={SYNC_SECONDS}", *words)

    def sync(self) -> float:
        """Wait until this hypervisor's switch has all; seconds."""
        start = time.monotonic()
        self.nbctl("--wait=hv", "sync")
        return time.monotonic() - start

    def flows(self) -> int:
        """How many br-int holds."""
        return int(self.run("ovs-ofctl", "-O", "OpenFlow15", "dump-aggregate", f"unix:{self.where}/br-int.mgmt")
                   .rpartition("flow_count=")[2])

    # ---- up and down

    def up(self, ports: int) -> None:
        """Everything but ovn-controller."""
        for room in self.rooms.values():
            subprocess.run(["ip", "netns", "add", room], check=True)
            subprocess.run(["ip", "-n", room, "link", "set", "lo", "up"], check=True)
        for name, schema in SCHEMAS.items():
            sock = self.where / ("db.sock" if name == "conf" else f"{name}.sock")
            file = schema if schema.startswith("/") else f"{self._root}/usr/share/ovn/{schema}"
            self.run("ovsdb-tool", "create", self.where / f"{name}.db", file)
            self._daemon(f"ovsdb-{name}", "ovsdb-server", self.where / f"{name}.db", f"--remote=punix:{sock}",
                         f"--unixctl={self.where}/ovsdb-{name}.ctl")
        self.vsctl("--no-wait", "init")
        self._daemon("ovs-vswitchd", "ovs-vswitchd", f"unix:{self.where}/db.sock")
        self.nbctl("init")
        self.sbctl("init")
        # As a large site sets them: with the defaults, a handler of ten seconds outlives the switch's patience.
        about = {"external_ids:system-id": "hv1", "external_ids:ovn-remote": f"unix:{self.where}/sb.sock",
                 "external_ids:ovn-encap-type": "geneve", "external_ids:ovn-encap-ip": "192.0.2.1",
                 "external_ids:ovn-openflow-probe-interval": "60", "other_config:bundle-idle-timeout": "180",
                 "external_ids:ovn-monitor-all": str(self._tuned).lower()}
        self.vsctl("set", "open", ".", *(f"{key}={value}" for key, value in about.items()))
        self.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev", "fail_mode=secure")
        self._daemon("ovn-northd", "ovn-northd", f"--ovnnb-db=unix:{self.where}/nb.sock",
                     f"--ovnsb-db=unix:{self.where}/sb.sock")
        self._plug()
        for number in range(FAKE_CHASSIS):
            self.sbctl("chassis-add", f"fake{number}", "geneve", f"192.0.2.{100 + number}")
        self._fill(ports)

    def _plug(self) -> None:
        for number in (1, 2):
            room, link = self.rooms[f"p{number}"], f"q{number}"
            for words in (("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", room),
                          ("link", "set", link, "up")):
                self.run("ip", *words)
            for words in (("link", "set", "eth0", "address", mac(number)), ("address", "add", f"{address(number)}/16",
                          "dev", "eth0"), ("link", "set", "eth0", "up")):
                subprocess.run(["ip", "-n", room, *words], check=True)
            subprocess.run(["ip", "netns", "exec", room, "ethtool", "-K", "eth0", "tx", "off"], check=True,
                           stdout=subprocess.DEVNULL)
            self.plug(number, link)
        for number in range(3, LOCAL + 1):
            self.plug(number, f"v{number}", "type=internal")

    def plug(self, number: int, device: str, *more: str) -> None:
        """A device of a logical port comes to this hypervisor."""
        self.vsctl("add-port", "br-int", device, "--", "set", "interface", device,
                   f"external_ids:iface-id=p{number}", *more)

    def _fill(self, ports: int) -> None:
        self.nbctl("ls-add", "ls")
        for first in range(1, ports + 1, BATCH):
            numbers = range(first, min(first + BATCH, ports + 1))
            self.nbctl(*(word for number in numbers for word in self.port(number)))
        self.nbctl("--wait=sb", "sync")
        self._bind()
        self.nbctl("--wait=sb", "sync")

    def _bind(self) -> None:
        """All ports but the local ones are elsewhere."""
        database = Ovsdb(self.where / "sb.sock")
        chassis, bindings = (one["rows"] for one in database.transact(
            "OVN_Southbound", select("Chassis", "name"), select("Port_Binding", "logical_port")))
        fakes = [one["_uuid"] for one in chassis if one["name"].startswith("fake")]
        ports = [(int(one["logical_port"][1:]), one["_uuid"]) for one in bindings]
        database.transact("OVN_Southbound", *(update("Port_Binding", uuid, {"chassis": fakes[number % FAKE_CHASSIS]})
                                              for number, uuid in ports if number > LOCAL))
        database.close()

    def port(self, number: int) -> tuple[str, ...]:
        """The words that make a logical port."""
        name, who = f"p{number}", f"{mac(number)} {address(number)}"
        return ("--", "lsp-add", "ls", name, "--", "lsp-set-addresses", name, who, "--", "lsp-set-port-security", name,
                who)

    def _daemon(self, name: str, *words: object) -> None:
        self.run(*words, "--detach", "--no-chdir", f"--pidfile={self.where}/{name}.pid",
                 f"--log-file={self.where}/{name}.log", "--verbose=console:off")

    def start(self) -> None:
        """ovn-controller."""
        (self.where / "ovn-controller.log").unlink(missing_ok=True)
        self._daemon("ovn-controller", "ovn-controller", f"unix:{self.where}/db.sock", "--overwrite-pidfile")

    def kill(self) -> None:
        """ovn-controller, with SIGKILL."""
        self._end("ovn-controller")

    def _end(self, name: str) -> None:
        file = self.where / f"{name}.pid"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pid = int(file.read_text())
            os.kill(pid, signal.SIGKILL)
            while Path(f"/proc/{pid}/status").exists() and "zombie" not in Path(f"/proc/{pid}/status").read_text():
                time.sleep(0.005)
            file.unlink(missing_ok=True)

    def down(self) -> None:
        """All of it."""
        for file in sorted(self.where.glob("*.pid")):
            self._end(file.stem)
        for room in self.rooms.values():
            subprocess.run(["ip", "netns", "del", room], check=False)


def mac(number: int) -> str:
    """Of a logical port."""
    return f"02:00:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


def address(number: int) -> str:
    """Of a logical port."""
    return f"10.0.{number >> 8}.{number & 255}"


@contextlib.contextmanager
def site(ports: int, *, tuned: bool) -> Iterator[Site]:
    """A hypervisor in sync with so many ports; it goes with the block. Unavailable if OVN cannot be had."""
    root = unpacked()
    with tempfile.TemporaryDirectory(prefix="tbovn", dir="/tmp") as name:
        made = Site(Path(name), root, tuned=tuned)
        try:
            made.up(ports)
            made.start()
            made.sbctl("wait-until", "chassis", "hv1")  # before, nobody waits for it
            made.sync()
            yield made
        finally:
            made.down()
