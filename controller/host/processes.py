"""Processes by what they are, never by number alone: a pid may have changed hands since it was written down."""
from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

MARK = "TUNBRIDGE_LAB"  # in the environment of every process of a lab: the directory of its lab
ANCHOR = b"tunbridge:"  # how the command line of a node's anchor starts

_PROC = Path("/proc")
_START = 19  # of the fields after the name in /proc/PID/stat: field 22 of proc(5)


class StillThere(Exception):
    """A process does not end."""


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none. Pid and start time are an identity."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[_START])


def environment_has(pid: int, setting: str) -> bool:
    """Whether a process was started with `KEY=value` in its environment."""
    return setting.encode() in _read(pid, "environ").split(b"\0")


def namespace(pid: int) -> str | None:
    """A process's network namespace; None if there is no such process any more."""
    try:
        return os.readlink(_PROC / str(pid) / "ns/net")
    except OSError:
        return None


def of_lab(directory: Path) -> dict[int, int]:
    """All processes of the lab in a directory (pid -> start time): those that wear its mark, and whatever else
    runs inside its nodes. This process and its ancestors are never among them.
    """
    spared = set(_ancestors(os.getpid()))
    everyone, marked, rooms = _looked_around(directory)
    return {pid: start for pid, start in everyone.items()
            if pid not in spared and (pid in marked or namespace(pid) in rooms)}


def stray(directory: Path) -> dict[int, int]:
    """Those processes of a lab (pid -> start time) that are in none of its nodes any more: a node has died, and what
    was at work in it has not.
    """
    everyone, marked, rooms = _looked_around(directory)
    homes = {*rooms, namespace(os.getpid()), None}
    return {pid: everyone[pid] for pid in marked if namespace(pid) not in homes}


def _looked_around(directory: Path) -> tuple[dict[int, int], set[int], set[str | None]]:
    """Everyone's start times, who wears the mark of a lab, and the namespaces of its nodes."""
    # The start times come first: a number that changes hands while we look then belongs to nobody.
    everyone = {pid: start for entry in _PROC.iterdir() if entry.name.isdigit()
                and (start := start_time(pid := int(entry.name))) is not None}
    marked = {pid for pid in everyone if environment_has(pid, f"{MARK}={directory}")}
    anchors = [pid for pid in marked if _read(pid, "cmdline").startswith(ANCHOR)]
    rooms = {room for pid in anchors for room in (namespace(pid), *_inner(pid))} - {None, namespace(os.getpid())}
    return everyone, marked, rooms


def _inner(anchor: int) -> Iterator[str]:
    """The namespaces that `ip netns` has made in a hypervisor, which has a directory of its own for them."""
    here, there = Path("/run/netns"), _PROC / str(anchor) / "root/run/netns"
    with contextlib.suppress(OSError):
        if not (here.is_dir() and there.samefile(here)):
            yield from (f"net:[{name.stat().st_ino}]" for name in there.iterdir())


def unchanged(born: Mapping[int, int]) -> Callable[[int], bool]:
    """Whether a pid still belongs to the process that started at the time written down."""
    return lambda pid: start_time(pid) == born[pid]


def end(pids: Iterable[int], still_ours: Callable[[int], bool], hard: bool, patience: float = 20.0) -> int:
    """End processes and wait until they are gone; how many there were.

    `still_ours` is asked when the process can no longer be mistaken for another. StillThere if one does not end.
    """
    handles = {}
    with contextlib.ExitStack() as stack:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                stack.callback(os.close, handle)
                if still_ours(pid):
                    signal.pidfd_send_signal(handle, signal.SIGKILL if hard else signal.SIGTERM)
                    handles[handle] = pid
        left = _await(set(handles), patience)
        if left:
            raise StillThere(", ".join(str(handles[handle]) for handle in sorted(left)))
    return len(handles)


def _await(handles: set[int], patience: float) -> set[int]:
    """The process handles that are still not readable, which is to say alive, when patience ends."""
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    left, deadline = set(handles), time.monotonic() + patience
    while left and (rest := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(rest * 1000):
            poll.unregister(handle)
            left.discard(handle)
    return left


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 0:
        yield pid
        fields = _read(pid, "stat").rpartition(b")")[2].split()
        pid = int(fields[1]) if fields else 0


def _read(pid: int, name: str) -> bytes:
    try:
        return (_PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""
