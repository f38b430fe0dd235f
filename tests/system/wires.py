"""The dummy ports of a bridge: frames go in, and what has left stands in a file for each."""
from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flows.flow import Flow
from tests.private_ovs import PATIENCE, Control, PrivateOvs
from tests.wirekit import BRIDGE, plan_for, send

PCAP, RECORD = 24, struct.Struct("=IIII")  # bytes of a capture file's header; of each frame's (pcap-savefile(5))
Left = tuple[int, bytes]  # port and frame


@dataclass
class Wires:
    """A bridge with flows and dummy ports."""

    ovs: PrivateOvs
    control: Control
    ports: Sequence[int]
    _read: dict[int, int] = field(default_factory=dict)

    def pass_on(self, port: int, frame: bytes, expected: int) -> list[Left]:
        """What leaves because of a frame. What is not expected may come late, and is then the next frame's surplus."""
        self.control.ask("netdev-dummy/receive", f"p{port}", frame.hex())
        found: list[Left] = []
        deadline = time.monotonic() + PATIENCE
        while True:
            self.control.ask("dpif/show")  # the switch has gone round its main loop once more
            found += (one for out in self.ports for one in self._left(out))
            if len(found) >= expected or time.monotonic() > deadline:
                return found

    def _left(self, port: int) -> Iterator[Left]:
        data = _capture(self.ovs, port).read_bytes()
        at = self._read.get(port, PCAP)
        while at + RECORD.size <= len(data):
            start = at + RECORD.size
            end = start + RECORD.unpack_from(data, at)[2]
            if end > len(data):
                break
            yield port, data[start:end]
            at = end
        self._read[port] = at


def _capture(ovs: PrivateOvs, port: int) -> Path:
    return ovs.dir / f"p{port}.pcap"


@contextmanager
def wired(ports: Sequence[int], rows: tuple[Flow, ...]) -> Iterator[Wires]:
    """A switch of its own with these OpenFlow ports and flows."""
    with PrivateOvs() as ovs, ovs.control() as control:
        ovs.add_bridge(BRIDGE, {f"p{number}": number for number in ports})
        for number in ports:
            ovs.vsctl("set", "interface", f"p{number}", f"options:tx_pcap={_capture(ovs, number)}")
        assert send(ovs, plan_for(rows)) == {}
        yield Wires(ovs, control, ports)
