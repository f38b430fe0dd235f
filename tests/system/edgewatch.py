"""Who blasts, and who counts: the counting is the kernel's, before any buffer, so that no frame goes uncounted."""
from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from labkit import Cloud

from controller.host import netns
from controller.tools import lab

BLASTER = Path(__file__).with_name("blaster.py")
FORBIDDEN, ALLOWED = b"\xbadNO", b"\xbadOK"  # the last bytes of a frame
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING, _ETH_P_ALL = 263, 6, 23, 3
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
# Classic BPF: A = length of the frame; A -= 4; X = A; A = the word there.
_LEN, _SUB, _TAX, _WORD_AT_X, _JEQ, _RET = 0x80, 0x14, 0x07, 0x40, 0x15, 0x06


class Tally:
    """Counts frames with an end of ours that arrive at any interface of a VM, those that are not there yet included."""

    def __init__(self, pid: int, end: bytes) -> None:
        with netns.inside(netns.of_process(pid)):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        program = b"".join(struct.pack("=HBBI", *each) for each in (
            (_LEN, 0, 0, 0), (_SUB, 0, 0, 4), (_TAX, 0, 0, 0), (_WORD_AT_X, 0, 0, 0),
            (_JEQ, 0, 1, int.from_bytes(end, "big")), (_RET, 0, 0, 256), (_RET, 0, 0, 0)))
        memory = ctypes.create_string_buffer(program, len(program))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER,
                                struct.pack("HL", len(program) // 8, ctypes.addressof(memory)))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 20)
        where = struct.pack("=HHiHBB8x", socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0, 0, 0, 0)
        assert ctypes.CDLL(None).bind(self._socket.fileno(), where, len(where)) == 0
        self._socket.setblocking(False)
        self._count = 0

    @property
    def count(self) -> int:
        """How many so far: packet(7), PACKET_STATISTICS counts what passes the filter, read by anybody or not."""
        found = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self._count += int(struct.unpack("II", found)[0])
        return self._count

    def some(self) -> list[str]:
        """What they looked like: each kind of frame once."""
        found: set[str] = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                found.add(self._socket.recv(256).hex())
        return sorted(found)

    def close(self) -> None:
        self._socket.close()


class Blaster:
    """A process in a VM that sends frames until it is stopped."""

    def __init__(self, cloud: Cloud, vm: str, interface: str, frames: list[bytes], rate: int) -> None:
        argv, environment = lab.exec_argv(cloud.rundir, vm, [sys.executable, str(BLASTER), interface, str(rate)])
        self._process = subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("\n".join(frame.hex() for frame in frames))
        self._process.stdin.close()
        assert self._process.stdout.readline() == "ready\n"

    def stop(self) -> int:
        """How many it has sent."""
        self._process.terminate()
        assert self._process.stdout
        with self._process.stdout as words:
            said = words.read()
        self._process.wait(20)
        return int(said or 0)


@contextlib.contextmanager
def tallies(cloud: Cloud, vms: list[str], end: bytes) -> Iterator[dict[str, Tally]]:
    """A tally in each of some VMs."""
    made: dict[str, Tally] = {}
    try:
        for vm in vms:
            made[vm] = Tally(cloud.pid(vm), end)
        yield made
    finally:
        for each in made.values():
            each.close()
