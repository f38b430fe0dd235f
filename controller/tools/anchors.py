"""The nodes of a running lab as they are written down: who they are, whether they live, and who may change them.

Nothing is loaded for it but what it takes: `apply` looks here before it knows whether it has anything to do.
"""
from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from controller.host import processes
from controller.tools.errors import MISSING, Refusal

SYSTEM_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin"  # where daemons are, whatever PATH a user has
_WITH_SWITCHES: Final = ("hypervisor", "internet")


@dataclass(frozen=True)
class Node:
    """A node of a running lab."""

    name: str
    kind: str  # vm | hypervisor | underlay | internet
    pid: int  # of its anchor, which is in its network and mount namespaces
    start: int  # of that process, in clock ticks since boot

    @property
    def alive(self) -> bool:
        return processes.start_time(self.pid) == self.start


def directory(rundir: Path) -> Path:
    """Where all of a lab is; its path is also the mark of its processes."""
    return Path(os.path.realpath(rundir)) / "lab"


def state(rundir: Path) -> dict[str, Node]:
    """The nodes of the running lab by name; empty if there is no lab, or what is written about it is no use."""
    try:
        value = json.loads((directory(rundir) / "state.json").read_text())
    except PermissionError as error:
        raise Refusal(f"{error.filename} may be read by root only; run it with sudo.", MISSING) from error
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return {name: Node(name, node["kind"], node["pid"], node["start"]) for name, node in value["nodes"].items()}


def topology_file(rundir: Path) -> Path:
    """The file that the running lab was built from, kept."""
    return directory(rundir) / "topology.yaml"


def filters_file(rundir: Path) -> Path:
    """Which topology's packet filters stand, and how to see that they still do; not there while that is uncertain."""
    return directory(rundir) / "filters.json"


def write(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value))
    new.replace(path)


def search_path() -> str:
    """PATH, and where daemons are."""
    return f"{os.environ.get('PATH', '/usr/bin:/bin')}:{SYSTEM_PATH}"


def environment(rundir: Path, node: Node | None = None) -> dict[str, str]:
    """What processes of the lab find in their environment; in a hypervisor, where its Open vSwitch is."""
    home = directory(rundir)
    found = {**os.environ, "PATH": search_path(), processes.MARK: str(home)}
    if node is not None and node.kind in _WITH_SWITCHES:
        found |= dict.fromkeys(("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"), str(home / node.name))
    return found


@contextlib.contextmanager
def alone(rundir: Path) -> Iterator[None]:
    """No two `lab up` at once on one rundir; the lock goes with the process."""
    handle = os.open(rundir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise Refusal(f"Another `tunbridge lab up` is at work in {rundir}; wait for it to end.", MISSING) from error
    finally:
        os.close(handle)
