"""A cloud under test: a daemon and a lab of its own, frames sent and seen inside its nodes, two checks at the end."""
from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from controller.host import netns
from controller.model import reading
from controller.model.topology import Port, Topology
from controller.tools import changes, client, demo, following, lab
from controller.tools.handover import hand_over
from controller.tools.rundir import Rundir
from flows.cookie import LEARNED_COOKIE, NEIGHBOUR_COOKIE

ROOT = Path(__file__).resolve().parents[2]
TUNBRIDGE = (sys.executable, "-m", "controller")
LEARNED, NEIGHBOUR = (f"cookie=0x{cookie >> 48:x}" for cookie in (LEARNED_COOKIE, NEIGHBOUR_COOKIE))
PATIENCE = 20.0  # seconds until a test gives up waiting; nothing is asserted about how long things take


def service_controllers(bridge: str, *targets: str) -> Iterator[str]:
    """The words for ovs-vsctl that give a bridge these controllers, and leave its flows where they are (see `plumb`);
    its `set-controller` makes primary ones.
    """
    names = [f"@{bridge}-{number}" for number in range(len(targets))]
    for name, target in zip(names, targets, strict=True):
        yield from ("--", f"--id={name}", "create", "Controller", f'target="{target}"', "type=service")
    yield from ("--", "set", "Bridge", bridge, f"controller={','.join(names)}")


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Poll until the condition is true and return its value; fail the test otherwise."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {patience} s in vain: {what}")
        time.sleep(0.02)


def tunbridge(*arguments: str, rundir: Path, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command of ours to its end."""
    done = subprocess.run([*TUNBRIDGE, *arguments], cwd=ROOT, text=True, capture_output=True, timeout=120,
                          env={**os.environ, "TUNBRIDGE_RUNDIR": str(rundir)}, stdin=subprocess.DEVNULL, **more)
    if check and done.returncode:
        pytest.fail(f"tunbridge {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


class Sniffer:
    """Every frame that arrives at or leaves an interface of a node, from the moment it is made."""

    def __init__(self, pid: int, interface: str) -> None:
        with netns.inside(netns.of_process(pid)):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        self._socket.bind((interface, 0))
        self._socket.setblocking(False)
        self._seen: list[bytes] = []

    def frames(self) -> list[bytes]:
        """All frames so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._seen.append(self._socket.recv(65535))
        return self._seen

    def with_token(self, token: bytes) -> list[bytes]:
        """All frames so far that carry these bytes."""
        return [frame for frame in self.frames() if token in frame]

    def close(self) -> None:
        self._socket.close()


def vxlan(frame: bytes) -> tuple[int, bytes] | None:
    """(tunnel id, inner frame) of an Ethernet frame that carries VXLAN over IPv4 (RFC 7348), else None."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[36:38] != struct.pack("!H", 4789):
        return None
    return int.from_bytes(frame[46:49], "big"), frame[50:]


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


class Cloud:
    """A running daemon and lab. Close it with `finish`, which makes the two checks.

    What every test needs is done in this process, as the commands do it: each would take a second to start.
    """

    def __init__(self, text: str, *, daemon: Sequence[str] = TUNBRIDGE, rundir: Path | None = None) -> None:
        self.rundir = rundir or Path(tempfile.mkdtemp(prefix="tb", dir="/tmp"))
        self.file = self.rundir / "topology.yaml"
        self.file.write_text(text)
        self.log = self.rundir / "daemon.log"
        self.where = Rundir(self.rundir)
        self._command = daemon
        self.daemon: subprocess.Popen[bytes] | None = None
        self._sniffers: list[Sniffer] = []
        self.said: list[str] = []
        self.expected_refusals = 0

    # ---- life

    def start_daemon(self) -> None:
        with self.log.open("a") as log:
            environment = {**os.environ, "TUNBRIDGE_RUNDIR": str(self.rundir), "PYTHONPATH": str(ROOT)}
            self.daemon = subprocess.Popen([*self._command, "run", str(self.file), "--listen", "none"], cwd=ROOT,
                                           env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        client.wait_for_status(self.where, 3 * PATIENCE, lambda _: True)

    def kill_daemon(self, number: int = signal.SIGKILL) -> int:
        assert self.daemon
        self.daemon.send_signal(number)
        code = self.daemon.wait(PATIENCE)
        self.daemon = None
        return code

    def up(self) -> None:
        demo.lab_up(str(self.file), self.where, self.said.append)

    def status(self) -> dict[str, Any]:
        return client.ask(self.where, {"do": "status"})

    def in_sync(self) -> dict[str, Any]:
        """Wait until every switch is in sync and every port is there."""
        return until(lambda: (found := self.status())["ok"] and not found["ports"]["missing"] and found,
                     "all switches in sync")

    def tunbridge(self, *arguments: str) -> str:
        """A command of ours for this cloud; what it prints."""
        return tunbridge(*arguments, rundir=self.rundir).stdout

    def change(self, text: str) -> None:
        """The daemon and the lab, which is made if there is none, obey another topology."""
        self.file.write_text(text)
        given = hand_over(self.where, "apply", str(self.file), io.BytesIO())
        if not following.follow(given, self.where, self.said.append):
            self.up()

    def finish(self, *, failed: bool = False) -> None:
        """The checks of every test's end, then everything is removed."""
        try:
            if not failed and self.daemon:
                self._checks()
        finally:
            for sniffer in self._sniffers:
                sniffer.close()
            if self.daemon:
                self.kill_daemon(signal.SIGTERM)
            lab.down(self.rundir, self.said.append)
            words = self.log.read_text() if self.log.exists() else ""
            subprocess.run(["rm", "-r", str(self.rundir)], check=True)
        assert "Traceback" not in words, f"the daemon logged an exception:\n{words}"

    def _checks(self) -> None:
        status = self.in_sync()
        assert (status["errors"], status["refusals"]) == (self.expected_refusals, self.expected_refusals), (
            self.log.read_text())
        before = self.dump()
        assert changes.recompute(self.where) == 0
        assert self.dump() == before, "a recompute from scratch changed the flows"

    # ---- looking

    @property
    def topology(self) -> Topology:
        found = reading.load(self.file).topology
        assert found
        return found

    def port(self, name: str) -> Port:
        return next(port for port in self.topology.ports() if port.name == name)

    def pid(self, node: str) -> int:
        return lab.state(self.rundir)[node].pid

    def run(self, node: str, *command: str, check: bool = True) -> str:
        """A command's output inside a node."""
        done = self.attempt(node, *command)
        if check and done.returncode:
            pytest.fail(f"{node}: {' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def attempt(self, node: str, *command: str) -> subprocess.CompletedProcess[str]:
        argv, environment = lab.exec_argv(self.rundir, node, command)
        return subprocess.run(argv, env=environment, text=True, capture_output=True, timeout=60,
                              stdin=subprocess.DEVNULL)

    def pings(self, source: str, address: str, *, count: int = 1, wait: float = 1.0) -> bool:
        """Whether every one of `count` echo requests was answered within `wait` seconds.

        Each by a `ping` of its own: one that has heard anything waits for the rest no longer than twice its longest
        round trip, whatever -W says, and calls an answer lost that a busy machine is late with.
        """
        asked = ("ping", "-n", "-q", "-c", "1", "-W", str(wait), address)
        return all(self.attempt(source, *asked).returncode == 0 for _ in range(count))

    def dump(self) -> dict[str, list[str]]:
        """Every bridge's compiled flows as ovs-ofctl prints them, sorted; what was learned is left out."""
        found = {}
        for host in self.topology.hosts:
            for bridge in self.topology.hosts[host].datapath_ids:
                found[f"{host}/{bridge}"] = [line for line in self.flows(host, bridge)
                                             if not line.startswith((LEARNED, NEIGHBOUR))]
        return found

    def flows(self, host: str, bridge: str) -> list[str]:
        """A bridge's flows as ovs-ofctl prints them, without counters."""
        text = self.run(host, "ovs-ofctl", "-O", "OpenFlow14", "--no-stats", "--no-names", "dump-flows", bridge)
        return sorted(line.strip() for line in text.splitlines() if "actions=" in line)

    def learned(self, host: str) -> list[str]:
        """What br-tun of a host has learned."""
        return [line for line in self.flows(host, "br-tun") if line.startswith(LEARNED)]

    def vlan(self, host: str, network: str) -> int:
        """The local VLAN of a network on a host, as the daemon says."""
        return next(switch["vlans"][network] for switch in self.status()["switches"] if switch["host"] == host)

    # ---- frames

    def sniff(self, node: str, interface: str = "eth0") -> Sniffer:
        sniffer = Sniffer(self.pid(node), interface)
        self._sniffers.append(sniffer)
        return sniffer

    def sniff_underlay(self, host: str) -> Sniffer:
        """What this hypervisor sends into the underlay and gets from it."""
        return self.sniff(host, "underlay0")

    def socket(self, node: str) -> socket.socket:
        """A TCP socket of a node."""
        with netns.inside(netns.of_process(self.pid(node))):
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(PATIENCE)
        return made

    def raw(self, node: str, interface: str = "eth0") -> socket.socket:
        """A socket for raw frames out of an interface of a node; it hears nothing."""
        with netns.inside(netns.of_process(self.pid(node))):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sock.bind((interface, 0))
        return sock

    def send(self, node: str, frame: bytes, interface: str = "eth0") -> None:
        """A raw frame out of a VM's interface."""
        with self.raw(node, interface) as sock:
            sock.send(frame)


@contextlib.contextmanager
def cloud(text: str, *, lab_too: bool = True) -> Iterator[Cloud]:
    """A cloud for one test, or for the tests of a module."""
    made = Cloud(text)
    failed = True
    try:
        made.start_daemon()
        if lab_too:
            made.up()
            made.in_sync()
        yield made
        failed = False
    finally:
        made.finish(failed=failed)


def udp_frame(source: Port, target_mac: str, target_ip: str, token: bytes, *, tag: bytes = b"",
              source_mac: str = "", source_ip: str = "") -> bytes:
    """An Ethernet frame with IPv4 and UDP around a token; `tag` goes between the MACs and the EtherType."""
    udp = struct.pack("!HHHH", 9999, 9999, 8 + len(token), 0) + token
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0,
                         socket.inet_aton(source_ip or str(source.ip)), socket.inet_aton(target_ip))
    checksum = sum(struct.unpack("!10H", header))
    checksum = ~((checksum & 0xFFFF) + (checksum >> 16)) & 0xFFFF
    header = header[:10] + struct.pack("!H", checksum) + header[12:]
    return mac_bytes(target_mac) + mac_bytes(source_mac or source.mac) + tag + b"\x08\x00" + header + udp
