"""An Open vSwitch of a test's own: ovsdb-server and ovs-vswitchd in a temporary directory, dummy ports, no devices."""
from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
PATIENCE = 20  # seconds; a tool that waits longer waits for a daemon that is not there

OFPT_HELLO, OFPT_ERROR, OFPT_BUNDLE_CONTROL = 0, 1, 33  # OpenFlow 1.4, 7.1
OFPBCT_COMMIT_REPLY = 5  # OpenFlow 1.4, 7.3.9.1


class PrivateOvs:
    """Use it as a context: nothing of it is left behind."""

    def __init__(self) -> None:
        # Not pytest's tmp_path: a Unix socket's path has 107 bytes.
        self.dir = Path(tempfile.mkdtemp(prefix="tb-ovs-"))
        self._env = {**os.environ, **{name: str(self.dir) for name in ("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR")}}

    def __enter__(self) -> PrivateOvs:
        database = self.dir / "conf.db"
        self.run("ovsdb-tool", "create", str(database), SCHEMA)
        self._daemon("ovsdb-server", f"--remote=punix:{self.dir}/db.sock", str(database))
        self.run("ovs-vsctl", "--no-wait", "init")
        self._daemon("ovs-vswitchd", "--enable-dummy=override", "--disable-system", f"unix:{self.dir}/db.sock")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for name in ("ovs-vswitchd", "ovsdb-server"):
            self._end(name)
        shutil.rmtree(self.dir)

    def _daemon(self, name: str, *words: str) -> None:
        with (self.dir / f"{name}.out").open("wb") as out:
            subprocess.run((name, "--no-chdir", "--detach", f"--pidfile={self.dir}/{name}.pid",
                            f"--log-file={self.dir}/{name}.log", *words), check=True, env=self._env,
                           stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=PATIENCE)

    def _end(self, name: str) -> None:
        with suppress(FileNotFoundError, ProcessLookupError):
            pid = int((self.dir / f"{name}.pid").read_text())
            os.kill(pid, signal.SIGKILL)  # nothing of it is wanted any more
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return  # it has ended; whoever adopted it has not looked yet
                time.sleep(0.02)
            raise AssertionError(f"{name} (process {pid}) does not end")

    def run(self, *words: str) -> str:
        """A tool's stdout; its failure is the test's, with its own words."""
        done = subprocess.run(words, env=self._env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=PATIENCE, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def vsctl(self, *words: str) -> str:
        return self.run("ovs-vsctl", f"--timeout={PATIENCE}", *words)

    def add_bridge(self, name: str, ports: Mapping[str, int] | None = None) -> None:
        """A bridge that does nothing by itself, with dummy ports of these OpenFlow numbers."""
        words = ["add-br", name, "--", "set", "bridge", name, "fail-mode=secure", "datapath_type=dummy",
                 "protocols=OpenFlow10,OpenFlow14", "other-config:disable-in-band=true"]
        for port, number in (ports or {}).items():
            words += ["--", "add-port", name, port, "--", "set", "interface", port, "type=dummy",
                      f"ofport_request={number}"]
        self.vsctl(*words)

    def del_bridge(self, name: str) -> None:
        self.vsctl("del-br", name)

    def dump(self, bridge: str) -> list[str]:
        """Its flows, one line each, as ovs-ofctl prints them."""
        text = self.run("ovs-ofctl", "-O", "OpenFlow14", "--no-stats", "--no-names", "dump-flows", bridge)
        return [line.strip() for line in text.splitlines() if "cookie=" in line]

    def add_flow(self, bridge: str, words: str) -> None:
        self.run("ovs-ofctl", "-O", "OpenFlow14", "add-flow", bridge, words)

    def add_flows(self, bridge: str, lines: Iterable[str]) -> None:
        file = self.dir / "flows"
        file.write_text("\n".join(lines))
        self.run("ovs-ofctl", "-O", "OpenFlow14", "add-flows", bridge, str(file))

    @contextmanager
    def control(self) -> Iterator[Control]:
        """ovs-vswitchd's own ear for ovs-appctl, for questions by the thousand."""
        pid = (self.dir / "ovs-vswitchd.pid").read_text().strip()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(f"{self.dir}/ovs-vswitchd.{pid}.ctl")
            yield Control(sock)

    @contextmanager
    def openflow(self, bridge: str) -> Iterator[OpenFlow]:
        """A connection to a bridge, hellos exchanged."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(f"{self.dir}/{bridge}.mgmt")
            yield OpenFlow(sock)


class Control:
    """JSON-RPC as ovs-appctl speaks it (lib/unixctl.c)."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def ask(self, method: str, *words: str) -> str:
        """The answer to a command; a refusal is the test's failure."""
        self._sock.sendall(json.dumps({"id": 0, "method": method, "params": words}).encode())
        text = ""
        while True:
            text += self._sock.recv(1 << 20).decode()
            with suppress(json.JSONDecodeError):
                answer = json.loads(text)
                assert answer["error"] is None, f"{method} {' '.join(words)}: {answer['error']}"
                return str(answer["result"])


class OpenFlow:
    """The least of OpenFlow 1.4 that sends ready-made bytes and reads answers."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        sock.sendall(struct.pack("!BBHI", 5, OFPT_HELLO, 8, 0))
        assert self.message()[0] == OFPT_HELLO

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def message(self) -> tuple[int, int, bytes]:
        """The next message: type, transaction id, body."""
        while len(self._buffer) < 8 or len(self._buffer) < self._length():
            data = self._sock.recv(65536)
            assert data, "the switch has closed the connection"
            self._buffer += data
        _, kind, length, xid = struct.unpack_from("!BBHI", self._buffer)
        body, self._buffer = self._buffer[8:length], self._buffer[length:]
        return kind, xid, body

    def _length(self) -> int:
        return int(struct.unpack_from("!H", self._buffer, 2)[0])

    def commit(self, data: bytes, commit_xid: int) -> dict[int, tuple[int, int]]:
        """Send a whole bundle and read until it is in or refused: transaction id -> (error type, code)."""
        self.send(data)
        errors: dict[int, tuple[int, int]] = {}
        while True:
            kind, xid, body = self.message()
            if kind == OFPT_ERROR:
                errors[xid] = struct.unpack_from("!HH", body)
            done = kind == OFPT_BUNDLE_CONTROL and struct.unpack_from("!H", body, 4)[0] == OFPBCT_COMMIT_REPLY
            if done or commit_xid in errors:
                return errors
