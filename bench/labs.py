"""A daemon and a lab for the measurements, driven by the commands that everybody uses."""
from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # a script that is run by path sees its own directory only
TUNBRIDGE = (sys.executable, "-m", "controller")


def environment(where: Path) -> dict[str, str]:
    """What a command of ours needs to find this daemon and lab, from any directory."""
    return {**os.environ, "TUNBRIDGE_RUNDIR": str(where), "PYTHONPATH": str(ROOT)}


def timed(where: Path, *arguments: str) -> tuple[float, str]:
    """Seconds and stdout of a command of ours."""
    start = time.monotonic()
    done = subprocess.run([*TUNBRIDGE, *arguments], cwd=ROOT, env=environment(where), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=600)
    if done.returncode:
        sys.exit(f"tunbridge {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    return time.monotonic() - start, done.stdout


@contextlib.contextmanager
def daemon(text: str) -> Iterator[Path]:
    """A run directory with `topology.yaml` and a daemon that obeys it; both end with the block."""
    with tempfile.TemporaryDirectory(prefix="tb", dir="/tmp") as name:
        where = Path(name)
        file = where / "topology.yaml"
        file.write_text(text)
        with (where / "daemon.log").open("w") as log:
            running = subprocess.Popen([*TUNBRIDGE, "run", str(file), "--listen", "none"], cwd=ROOT, stdout=log,
                                       stderr=log, stdin=subprocess.DEVNULL, env=environment(where))
        try:
            yield where
        finally:
            running.terminate()
            running.wait(30)


def ask(where: Path, request: dict[str, object]) -> dict[str, Any]:
    """The daemon's answer to a request, without a command of ours between."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as sock:
        sock.settimeout(60)
        sock.connect(str(where / "control.sock"))
        sock.sendall(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(sock.makefile("rb").readline())
    if "error" in answer:
        sys.exit(f"the daemon refuses: {answer['error']}")
    return answer


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {"cores": os.cpu_count(), "kernel": platform.release().split("-")[0], "python": platform.python_version()}
