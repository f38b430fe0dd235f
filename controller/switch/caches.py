"""The cache of a userspace datapath, emptied after the flows above it have changed.

Open vSwitch caches what its tables say as megaflows, and after a change its revalidator gives each its new actions.
In 3.1.0's userspace datapath that fails where megaflows overlap: some keep their old actions as long as packets use
them, so that what new rules deny still passes (tests/system/test_edge_oracle.py shows it). So what has been written
holds when the cache has been emptied, which costs each active flow one look at the tables.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from eventlet.green import socket

_PATIENCE: Final = 5.0  # seconds; ovs-vswitchd answers between two rounds of its main loop
_ENOUGH: Final = 1 << 16  # bytes of an answer
_PURGE: Final = json.dumps({"id": 0, "method": "revalidator/purge", "params": []}).encode()


def purge(rundir: Path) -> str | None:
    """Empty the caches of the ovs-vswitchd that runs in a directory: None, or why that failed.

    The socket and what is said there are those of ovs-appctl(8). Nobody runs there: nothing to do.
    """
    try:
        pid = int((rundir / "ovs-vswitchd.pid").read_text())
    except (FileNotFoundError, ValueError):
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(_PATIENCE)
            channel.connect(str(rundir / f"ovs-vswitchd.{pid}.ctl"))
            channel.sendall(_PURGE)
            return _complaint(channel.recv(_ENOUGH))
    except (ConnectionRefusedError, FileNotFoundError):
        return None  # it has died: its cache, too
    except OSError as error:
        return str(error)


def _complaint(answer: bytes) -> str | None:
    try:
        said = json.loads(answer)
    except ValueError:
        return f"ovs-vswitchd answers {answer[:60]!r}"
    return None if said.get("error") is None else str(said["error"])
