"""A lab of two hypervisors, hv1 and hv2, for `clouds.crowd`: what its switches are asked and told by hand."""
from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import clouds
from daemons import Daemon
from labs import timed

PATIENCE = 600


class Stage:
    """hv1's switch, and the lab around it."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self._environment = {**os.environ, "OVS_RUNDIR": str(where / "lab" / "hv1")}

    def ofctl(self, *words: str, into: Path | None = None) -> str:
        """What ovs-ofctl says, or puts into a file."""
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(into.open("wb")) if into else subprocess.PIPE
            done = subprocess.run(["ovs-ofctl", "-O", "OpenFlow14", *words], env=self._environment, stdout=out,
                                  stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=PATIENCE)
        if done.returncode:
            sys.exit(f"ovs-ofctl {' '.join(words)}: {done.stderr.decode()}")
        return done.stdout.decode() if done.stdout else ""

    def timed_ofctl(self, *words: str, into: Path | None = None) -> float:
        """Seconds that it takes."""
        start = time.monotonic()
        self.ofctl(*words, into=into)
        return time.monotonic() - start

    def vsctl(self, *words: str) -> str:
        """What ovs-vsctl says."""
        return subprocess.run(["ovs-vsctl", "--timeout=20", *words], env=self._environment, capture_output=True,
                              text=True, check=True, stdin=subprocess.DEVNULL).stdout

    def count(self, bridge: str = "br-tun", *about: str) -> int:
        """How many flows a bridge holds."""
        return int(self.ofctl("dump-aggregate", bridge, *about).rpartition("flow_count=")[2])

    def tunnels_to_nowhere(self) -> None:
        """Tunnels to hosts of the cloud that do not exist."""
        options = self.vsctl("get", "interface", "vxlan-c0000202", "options").strip()
        words: list[str] = []
        for last in clouds.FAR:
            name, theirs = f"vxlan-c00002{last:02x}", options.replace("192.0.2.2\"", f"192.0.2.{last}\"")
            words += ["--", "add-port", "br-tun", name, "--", "set", "interface", name, "type=vxlan",
                      f"options={theirs}"]
        self.vsctl(*words[1:])


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """hv1 and hv2 with the VMs a0, c and b, and no daemon."""
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        where = Path(name)
        text = clouds.stage_text(networks=1)
        (where / "topology.yaml").write_text(text)
        daemon = Daemon(where)
        daemon.start(clouds.kept(clouds.read(text), where / "small"))
        try:
            daemon.first("ready")
            timed(where, "lab", "up", str(where / "topology.yaml"))
            daemon.kill()
            found = Stage(where)
            found.tunnels_to_nowhere()
            yield found
        finally:
            daemon.kill()
            timed(where, "lab", "down")
