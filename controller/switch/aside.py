"""Long work in a copy of this process, so that switches are served meanwhile: reading a topology, planning an edit.

The copy knows all that the daemon knows at that moment. It sends back values, one after the other, and ends; what it
changes in its memory nobody sees. It costs a copied page table, and no second start of Python.
"""
from __future__ import annotations

import gc
import os
import pickle
import signal
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Final, TypeVar

import eventlet
from eventlet.hubs import trampoline
from eventlet.semaphore import Semaphore

from controller.switch.applying import Failed

_T = TypeVar("_T")
_LENGTH: Final = 8  # bytes before each value that say how long it is
_PIECE: Final = 1 << 20  # bytes that are read at once, at most
_FAILED: Final = 1  # exit status of a copy whose work raised something


class Aside:
    """One copy at a time: what the next one starts with is what the one before has led to."""

    def __init__(self) -> None:
        self._turn = Semaphore(1)

    def __call__(self, work: Callable[[], Iterable[_T]]) -> Iterator[_T]:
        """What `work` yields in a copy of this process; others run in between. Failed if it does not get to its end."""
        with self._turn:
            reader, writer = os.pipe()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # eventlet's: a copy must not use it, and does not
                copy = os.fork()
            if copy == 0:
                _be_the_copy(work, writer)
            os.close(writer)
            status: int | None = None
            try:
                os.set_blocking(reader, False)
                yield from _values(reader)
                status = os.waitpid(copy, 0)[1]
            finally:
                os.close(reader)
                if status is None:
                    os.kill(copy, signal.SIGKILL)
                    os.waitpid(copy, 0)
            if status != 0:
                raise Failed(f"The process that read the topology ended with {os.waitstatus_to_exitcode(status)}.")


def _values(reader: int) -> Iterator[Any]:
    for packed in _packed(reader):
        eventlet.sleep(0)
        value = pickle.loads(packed)
        if isinstance(value, Failed):
            raise value
        yield value


def _packed(reader: int) -> Iterator[bytes]:
    """The values as they arrive, until the copy has ended."""
    data = bytearray()
    while True:
        trampoline(reader, read=True)
        piece = os.read(reader, _PIECE)
        if not piece:
            return
        data += piece
        while len(data) >= _LENGTH:
            end = _LENGTH + int.from_bytes(data[:_LENGTH], "big")
            if len(data) < end:
                break
            packed = bytes(data[_LENGTH:end])
            del data[:end]
            yield packed


def _be_the_copy(work: Callable[[], Iterable[Any]], writer: int) -> None:
    """Does not return. Nothing of the daemon's is touched: not its sockets, not its lock, not its log."""
    status = _FAILED
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        gc.disable()  # it would only write to pages that are shared
        _close_all_but(writer)
        with open(writer, "wb") as out:
            try:
                for value in work():
                    _send(out, value)
            except Exception:
                words = " | ".join(traceback.format_exc(limit=-3).split("\n"))
                _send(out, Failed(f"Reading the topology failed: {words}"))
        status = 0
    finally:
        os._exit(status)


def _send(out: BinaryIO, value: object) -> None:
    packed = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    out.write(len(packed).to_bytes(_LENGTH, "big") + packed)
    out.flush()


def _close_all_but(writer: int) -> None:
    """A copy that outlives the daemon must not keep its connections, nor its lock."""
    os.closerange(3, writer)
    os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
