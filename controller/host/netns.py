"""Entering a network namespace and coming back. Only the calling thread moves."""
from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h; setns(2) refuses another kind of namespace


class NamespaceError(Exception):
    """A namespace cannot be entered; `str(error)` says which, why and what cures it."""


def of_process(pid: int) -> str:
    """The path of a process's network namespace."""
    return f"/proc/{pid}/ns/net"


@contextmanager
def inside(path: str) -> Iterator[None]:
    """Be in the network namespace at `path`; sockets opened there stay there after the way back."""
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise NamespaceError(f"{path}: entering a network namespace needs root; run the command as root.") from error
    except OSError as error:
        raise NamespaceError(f"{path}: {error.strerror}; is the lab still up? (tunbridge lab up)") from error
    here = os.open(of_process(os.getpid()), os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(there, path)
        try:
            yield
        finally:
            _enter(here, "the namespace this process came from")
    finally:
        os.close(there)
        os.close(here)


def _enter(descriptor: int, path: str) -> None:
    # os.setns came with Python 3.12; we promise 3.11.
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise NamespaceError(f"{path}: cannot enter the network namespace: {reason}; run the command as root.")


_LIBC: Final = ctypes.CDLL(None, use_errno=True)
