"""Packets out of VMs and into VMs of a running cloud: raw sockets on their interfaces, and a kernel that is mute."""
from __future__ import annotations

import contextlib
import random
import select
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from labkit import Cloud

from controller.host import netns
from controller.model.topology import Port
from tests.edge_cases import Case
from tests.edge_oracle import Edge
from tests.edge_packets import SCTP, arp, found, frame

_SOL_PACKET, _PACKET_IGNORE_OUTGOING, _ETH_P_ALL = 263, 23, 3
_SO_RCVBUFFORCE = 33
_BURST = 16  # frames, then a breath: the switches' own buffers are small
_QUIET = 0.7  # seconds without an arrival until what is missed is sent again
_TRIES = 4
_PATIENCE = 10.0  # seconds for a marker, which takes milliseconds


@dataclass
class Letter:
    """A frame that is sent, and where it should come."""

    source: str
    frame: bytes
    number: int
    expected: frozenset[str]
    what: str


class Post:
    """Every VM's interface: sends frames, and notes where each one came."""

    def __init__(self, cloud: Cloud) -> None:
        self._sockets: dict[str, socket.socket] = {}
        self._names: dict[int, str] = {}
        self._ports: dict[str, Port] = {port.name: port for port in cloud.topology.ports()}
        self._numbers = random.randrange(1 << 16) << 12
        self.seen: dict[int, set[str]] = {}
        self._poll = select.epoll()
        for vm in cloud.topology.vms.values():
            for command in ("iptables", "ip6tables"):  # what a VM's own kernel would say is not in the script
                cloud.run(vm.name, command, "-w", "-P", "OUTPUT", "DROP")
            for port in vm.ports:
                self._open(port, cloud.pid(vm.name))

    def _open(self, port: Port, pid: int) -> None:
        with netns.inside(netns.of_process(pid)):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        made.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        made.bind((port.interface, _ETH_P_ALL))
        made.setblocking(False)
        self._sockets[port.name] = made
        self._names[made.fileno()] = port.name
        self._poll.register(made, select.EPOLLIN)

    def close(self) -> None:
        self._poll.close()
        for each in self._sockets.values():
            each.close()

    def number(self) -> int:
        """A number for a token that no other frame has."""
        self._numbers += 1
        return self._numbers

    def put(self, source: str, raw: bytes) -> None:
        """A frame out of a VM."""
        for _ in range(100):
            try:
                self._sockets[source].send(raw)
                return
            except (BlockingIOError, OSError):  # its queue is full
                self.hear(0.005)
        raise AssertionError(f"{source} cannot send")

    def hear(self, seconds: float) -> bool:
        """Note what has arrived; wait so long for the first of it."""
        ready = self._poll.poll(seconds)
        for descriptor, _ in ready:
            name = self._names[descriptor]
            with contextlib.suppress(BlockingIOError):
                while True:
                    number = found(self._sockets[name].recv(65536))
                    if number is not None:
                        self.seen.setdefault(number, set()).add(name)
        return bool(ready)

    def deliver(self, letters: list[Letter]) -> list[str]:
        """Send all; what is missed is sent again. Sentences about what did not come as expected."""
        waiting = letters
        for _ in range(_TRIES):
            self._send(waiting)
            deadline = time.monotonic() + _QUIET
            while (waiting := [each for each in waiting if self._missed(each)]) and time.monotonic() < deadline:
                if self.hear(0.05):
                    deadline = time.monotonic() + _QUIET
            if not waiting:
                break
        self.settle()
        return list(self._differences(letters))

    def _send(self, letters: Iterable[Letter]) -> None:
        for count, letter in enumerate(letters, start=1):
            self.put(letter.source, letter.frame)
            if count % _BURST == 0:
                self.hear(0.002)

    def _missed(self, letter: Letter) -> bool:
        return not letter.expected <= self.seen.get(letter.number, set())

    def _differences(self, letters: list[Letter]) -> Iterator[str]:
        for letter in letters:
            seen = self.seen.get(letter.number, set())
            if seen != letter.expected:
                lost, leaked = sorted(letter.expected - seen), sorted(seen - letter.expected)
                yield (f"{letter.what}, from {letter.source}:" + (f" did not come to {', '.join(lost)}" if lost else "")
                       + (f" came to {', '.join(leaked)}" if leaked else ""))

    def settle(self) -> None:
        """Until all that was sent before has come where it goes: an ARP broadcast of every VM, which nobody filters."""
        wanted: dict[int, set[str]] = {}
        for port in self._ports.values():
            others = {other.name for other in self._ports.values() if other.network == port.network} - {port.name}
            number = self.number()
            address = port.ip if isinstance(port.ip, IPv4Address) else IPv4Address(0)
            if others and (isinstance(port.ip, IPv4Address) or not port.port_security):
                wanted[number] = others
                self.put(port.name, arp(port.mac, address, IPv4Address("192.0.2.250"), number))
        deadline = time.monotonic() + _PATIENCE
        while any(not others <= self.seen.get(number, set()) for number, others in wanted.items()):
            self.hear(0.1)
            if time.monotonic() > deadline:
                raise AssertionError("a broadcast of ARP does not come to everybody on its network")
        while self.hear(0.15):  # what a router still has
            pass


def play(post: Post, edge: Edge, cases: list[Case]) -> tuple[list[str], list[Case]]:
    """All cases at once, step by step.

    Sentences about what the switches did otherwise than the topology says; and what may follow after a change.
    """
    wrong: list[str] = []
    whole = [True] * len(cases)
    for at in range(max(len(case.steps) for case in cases)):
        letters = []
        for number, case in enumerate(cases):
            # An SCTP answer to what was refused: Linux calls it invalid, Open vSwitch a beginning.
            if len(case.steps) > at and (whole[number] or case.steps[0].packet.protocol != SCTP):
                letters.append(_letter(post, edge, case, at))
                whole[number] &= bool(letters[-1].expected)
        wrong += post.deliver(letters)
    return wrong, [case.later(good) for case, good in zip(cases, whole, strict=True)]


def _letter(post: Post, edge: Edge, case: Case, at: int) -> Letter:
    step, number = case.steps[at], post.number()
    mac = edge.meaning.ports[step.source].mac
    expected = edge.arrives(step.source, mac, step.packet, list(step.targets))
    return Letter(step.source, frame(step.packet, mac, step.mac, number), number, frozenset(expected),
                  f"{case.what}, step {at + 1}: {step.packet}")


@contextlib.contextmanager
def post(cloud: Cloud) -> Iterator[Post]:
    """A post whose sockets are closed at the end."""
    made = Post(cloud)
    try:
        yield made
    finally:
        made.close()
