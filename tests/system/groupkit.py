"""A real Open vSwitch (userspace datapath) that holds the compiled br-int of a host made by hand, and its VMs' cards.

Every VM, and br-tun, is one end of a veth pair with a packet socket. What arrives is known by its token.
"""
from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import count
from typing import Final

from hopkit import HopOvs, Seen, _read

from flows.compile import compile_host
from flows.host import Host
from flows.tables import BR_INT
from flows.text import line
from tests import edge_packets as packets
from tests.private_ovs import PATIENCE

_NUMBERS = count()
_FIRST_RING: Final = 1 << 24
_TOKENS, _RINGS = count(1 << 16), count(_FIRST_RING)
_TAG: Final = 0x8100


@dataclass(frozen=True)
class Card:
    """Somebody on br-int. Behind br-tun's port, everything wears its VLAN."""

    port: int
    mac: str
    address: str
    address6: str = "::"
    vlan: int | None = None


class Site:
    """The switch, and everybody's cards."""

    def __init__(self, ovs: HopOvs, cards: Mapping[str, Card], sockets: Mapping[str, socket.socket]) -> None:
        self.ovs, self.cards, self._sockets = ovs, cards, sockets
        self._rows: set[str] = set()

    def hold(self, host: Host) -> None:
        """Hold the rows of this host's br-int: only what differs is touched, as the daemon does it."""
        wanted = {line(flow) for flow in compile_host(host)[BR_INT]}
        words = [f"add {row}" for row in sorted(wanted - self._rows)]
        kept = {_match(row) for row in wanted}
        words += [f"delete_strict {_match(row)}" for row in sorted(self._rows - wanted) if _match(row) not in kept]
        file = self.ovs.dir / "rows"
        file.write_text("\n".join(words))
        self.ovs.run("ovs-ofctl", "-O", "OpenFlow14", "--bundle", "add-flows", BR_INT, str(file))
        self._rows = wanted
        self.settle()

    def reaches(self, sender: str, packet: packets.Packet, mac: str) -> list[str]:
        """Who gets a packet that somebody sends to a MAC."""
        number = next(_TOKENS)
        return self.gets(sender, packets.frame(packet, self.cards[sender].mac, mac, number))

    def gets(self, sender: str, frame: bytes) -> list[str]:
        """Who gets a frame with a token, sorted; who gets it twice is there twice."""
        wanted = packets.found(frame)
        return sorted(seen.where for seen in self.sent(sender, frame) if packets.found(seen.frame.to_bytes()) == wanted)

    def sent(self, sender: str, frame: bytes) -> list[Seen]:
        """Everything that arrived because of a frame, without the ARP that rings after it."""
        self.put(sender, frame)
        # What comes in together is worked on in any order, so only the second ring comes after everything else.
        found = [*self._ring(sender), *self._ring(sender), *self._poll(0)]
        return [seen for seen in found if (packets.found(seen.frame.to_bytes()) or 0) < _FIRST_RING]

    def put(self, sender: str, frame: bytes) -> None:
        """Send, and look at nothing."""
        vlan = self.cards[sender].vlan
        tag = b"" if vlan is None else struct.pack("!HH", _TAG, vlan)
        self._sockets[sender].send(frame[:12] + tag + frame[12:])

    def _ring(self, sender: str) -> Iterator[Seen]:
        """What arrives until somebody hears an ARP question of the sender's."""
        card, number = self.cards[sender], next(_RINGS)
        address = IPv4Address(card.address)
        self.put(sender, packets.arp(card.mac, address, address, number))
        deadline = time.monotonic() + PATIENCE
        heard = False
        while not heard:
            assert time.monotonic() < deadline, f"nobody hears {sender}"
            for seen in self._poll(0.1):
                heard |= packets.found(seen.frame.to_bytes()) == number
                yield seen

    def _poll(self, seconds: float) -> Iterator[Seen]:
        names = {opened.fileno(): name for name, opened in self._sockets.items()}
        for number in select.select(list(names), [], [], seconds)[0]:
            with suppress(BlockingIOError):
                while True:
                    yield _read(names[number], self._sockets[names[number]])

    def settle(self) -> None:
        """Wait until nothing that is cached follows rows of before."""
        self.ovs.run("ovs-appctl", "revalidator/wait")

    def hits(self, table: int, words: str) -> int:
        """How many packets the rows of a table have taken whose text holds these words."""
        self.settle()
        text = self.ovs.run("ovs-ofctl", "-O", "OpenFlow14", "--no-names", "dump-flows", BR_INT, f"table={table}")
        return sum(int(row.split("n_packets=")[1].split(",")[0]) for row in text.splitlines() if words in row)

    def learned(self, port: int) -> int:
        """How many MACs are remembered behind a port."""
        rows = self.ovs.run("ovs-ofctl", "-O", "OpenFlow14", "dump-flows", BR_INT, "table=61")
        return sum(f"cookie=0x5402{port:012x}," in row for row in rows.splitlines())


def _match(row: str) -> str:
    return row.partition(" actions=")[0]


@contextmanager
def site(host: Host, cards: Mapping[str, Card], meters: Iterable[int] = ()) -> Iterator[Site]:
    """The switch with the rows of a host, and a card for everybody."""
    with HopOvs(f"tbgrp{os.getpid()}x{next(_NUMBERS)}") as ovs, ExitStack() as stack:
        ovs.bridge(BR_INT)
        sockets = {name: ovs.wire(BR_INT, name, card.port) for name, card in cards.items()}
        for opened in sockets.values():
            stack.callback(opened.close)
        for number in meters:
            ovs.run("ovs-ofctl", "-O", "OpenFlow14", "add-meter", BR_INT,
                    f"meter={number} pktps burst stats bands=type=drop rate=1000 burst_size=1000")
        made = Site(ovs, cards, sockets)
        made.hold(host)
        yield made
