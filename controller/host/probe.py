"""Ask every pair of VMs, from inside every VM at once: one process, two sockets in each VM's network namespace.

An echo reply alone proves nothing where tenants reuse addresses. So a pair is reached only if the destination's
own interface saw the very request, and the source got the reply to it; and every interface is watched for
requests that should not have come there.
"""
from __future__ import annotations

import ctypes
import errno
import os
import resource
import secrets
import selectors
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.host import echo, netns
from controller.host.campaign import Campaign, Observation, Options, Probe, Way
from controller.host.echo import Address
from controller.model.reachability import Pair, Target

_ETH_P_ALL: Final = 3  # linux/if_ether.h
_OTHER_HOST: Final = 3  # linux/if_packet.h, PACKET_OTHERHOST
_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h
_SO_RCVBUFFORCE: Final = 33
_INSTRUCTION_BYTES: Final = 8  # struct sock_filter
_PING: Final = {4: (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
                6: (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)}
_ICMP_FILTER: Final = 1  # linux/icmp.h, linux/icmpv6.h: which types a raw socket does not want; we want none
_NONE_WANTED: Final = {4: (socket.IPPROTO_RAW, b"\xff" * 4), 6: (socket.IPPROTO_ICMPV6, b"\xff" * 32)}
_BUFFER: Final = 1 << 20  # bytes, enough for a burst of replies while other sockets are read
_CLOSERS: Final = 32  # threads
_STRIDE: Final = 8191  # between the ICMP identifiers of two tries: what an earlier run left behind is not met again
_NEIGHBOURS: Final = tuple(Path(f"/proc/sys/net/ipv4/neigh/default/gc_thresh{level}") for level in (2, 3))
_SPARE_NEIGHBOURS: Final = 1024


class ProbeError(Exception):
    """A VM cannot be probed; `str(error)` says which, why and what cures it."""


@dataclass(frozen=True)
class Endpoint:
    """A VM's port, or the world outside: where to stand, and how to be addressed."""

    name: str
    namespace: str  # the path of a network namespace, as `netns.of_process` gives it
    interface: str  # empty: all that are there, by the namespace's own routes
    address: Address
    mac: str
    segments: frozenset[str]  # the networks it is on; a frame may be flooded to all who share one with its sender


def observe(endpoints: Sequence[Endpoint], pairs: Sequence[Pair], expected: frozenset[Pair],
            options: Options | None = None, targets: Sequence[Target] = ()) -> Observation:
    """Probe `pairs` (names of endpoints) and `targets`, and watch all endpoints; needs root.

    `expected` are all pairs that may reach each other, asked or not: it tells a leak from a frame that is
    merely flooded, and an answer worth waiting for from a silence worth listening to.
    Raises ProbeError or netns.NamespaceError, each with a sentence.
    """
    run = secrets.randbits(32)
    versions = {endpoint.name: endpoint.address.version for endpoint in endpoints}
    segments = {endpoint.name: endpoint.segments for endpoint in endpoints}
    askable = [pair for pair in pairs if versions[pair[0]] == versions[pair[1]]]
    aims = [aim for aim in targets if versions.get(aim.source) == aim.address.version]
    campaign = Campaign(askable, expected, segments, options or Options(), aims)
    with _room_for(len(endpoints), len(pairs) + len(aims)), _stations(endpoints, run) as stations:
        _drive(campaign, stations, run)
    return campaign.result()


@dataclass(frozen=True)
class _Station:
    endpoint: Endpoint
    capture: socket.socket  # sees the probes that arrive, and sends whole frames
    ping: socket.socket  # sends as ping does: the kernel finds the route and the neighbour
    scope: int  # the interface's index in its namespace
    ident: int  # the ICMP identifier of its first tries; no two of a run have the same

    def send(self, probe: Probe, target: Endpoint | None, run: int) -> None:
        family = echo.family_of(self.endpoint.address)
        ident = (self.ident + probe.attempt * _STRIDE) % (1 << 16)
        address = probe.aim.address if probe.aim else target.address if target else family.everyone
        if probe.way is Way.ROUTED:
            where = (str(address), 0) + ((0, self.scope) if family is echo.V6 else ())
            self.ping.sendto(echo.request(family, run, probe.number, ident), where)
            return
        mac = target.mac if target else family.everyone_mac
        frame_to = (self.endpoint.interface, family.ethertype, 0, 0, bytes.fromhex(mac.replace(":", "")))
        self.capture.sendto(echo.packet(self.endpoint.address, address, run, probe.number, ident), frame_to)

    def arrivals(self) -> Iterator[tuple[echo.Heard, bool]]:
        """What has arrived since the last call, and whether in a frame to this station."""
        while True:
            try:
                data, (_, _, kind, *_) = self.capture.recvfrom(2048)
            except BlockingIOError:
                return
            heard = echo.parse(data)
            if heard is not None:
                yield heard, kind != _OTHER_HOST


def _drive(campaign: Campaign, stations: dict[str, _Station], run: int) -> None:
    with selectors.DefaultSelector() as selector:
        for station in stations.values():
            selector.register(station.capture, selectors.EVENT_READ, station)
        while not campaign.is_over:
            for probe in campaign.due(time.monotonic()):
                target = stations[probe.target].endpoint if probe.target else None
                _send(stations[probe.source], probe, target, run)
            for key, _ in selector.select(campaign.wait(time.monotonic())):
                _hear(campaign, key.data)


def _hear(campaign: Campaign, station: _Station) -> None:
    try:
        for heard, for_it in station.arrivals():
            campaign.heard(heard.number, station.endpoint.name, is_reply=heard.is_reply, for_it=for_it)
    except OSError as error:
        if error.errno != errno.ENETDOWN:  # said once by an interface that is down, which then just hears nothing
            raise ProbeError(_cannot(station.endpoint, error)) from error


def _send(station: _Station, probe: Probe, target: Endpoint | None, run: int) -> None:
    """A probe that has no route, or no room in a queue, is a probe that does not arrive: what we came to see."""
    try:
        station.send(probe, target, run)
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENXIO, errno.EBADF):
            raise ProbeError(_cannot(station.endpoint, error)) from error


def _cannot(endpoint: Endpoint, error: OSError) -> str:
    where = f"{endpoint.interface} in {endpoint.namespace}" if endpoint.interface else endpoint.namespace
    return (f"{endpoint.name}: cannot probe from {where}: {error.strerror}; "
            "take the lab down and up again (tunbridge lab down, tunbridge lab up).")


@contextmanager
def _stations(endpoints: Sequence[Endpoint], run: int) -> Iterator[dict[str, _Station]]:
    opened: list[socket.socket] = []
    try:
        yield {endpoint.name: _station(endpoint, run, number, opened) for number, endpoint in enumerate(endpoints)}
    finally:
        # The kernel lets 10 ms pass before it gives up a packet socket; many at once wait together.
        with ThreadPoolExecutor(_CLOSERS) as pool:
            list(pool.map(socket.socket.close, opened))


def _station(endpoint: Endpoint, run: int, number: int, opened: list[socket.socket]) -> _Station:
    """Two sockets in a VM, noted in `opened` as soon as they are, for they must be closed whatever comes."""
    try:
        with netns.inside(endpoint.namespace):
            scope = socket.if_nametoindex(endpoint.interface) if endpoint.interface else 0
            opened.append(capture := socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
            opened.append(ping := socket.socket(*_PING[endpoint.address.version]))
            _listen(capture, endpoint.interface, run)
            _bind(ping, endpoint)
    except OSError as error:
        raise ProbeError(_cannot(endpoint, error)) from error
    return _Station(endpoint, capture, ping, scope, run + number & 0xFFFF)


def _listen(capture: socket.socket, interface: str, run: int) -> None:
    """Hear this run's probes alone: a packet socket without a protocol is deaf until it is bound, after its filter."""
    program = echo.capture_filter(run)
    memory = ctypes.create_string_buffer(program, len(program))
    capture.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER,
                       struct.pack("HL", len(program) // _INSTRUCTION_BYTES, ctypes.addressof(memory)))
    capture.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    if interface:
        capture.bind((interface, _ETH_P_ALL))
    else:
        _bind_everywhere(capture)
    capture.setblocking(False)


def _bind_everywhere(capture: socket.socket) -> None:
    """To all interfaces (packet(7): index 0), which Python's own bind knows no way to say."""
    where = struct.pack("=HHiHBB8x", socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0, 0, 0, 0)
    if ctypes.CDLL(None, use_errno=True).bind(capture.fileno(), where, len(where)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _bind(ping: socket.socket, endpoint: Endpoint) -> None:
    level, none_wanted = _NONE_WANTED[endpoint.address.version]
    ping.setsockopt(level, _ICMP_FILTER, none_wanted)
    if endpoint.interface:
        ping.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, endpoint.interface.encode())
    ping.setblocking(False)


@contextmanager
def _room_for(endpoints: int, pairs: int) -> Iterator[None]:
    """Two descriptors for every endpoint; and neighbours for every pair.

    All namespaces of a machine share one neighbour table, of 1,024 entries unless told: too few for 50 VMs that
    all know each other. The limits are lifted while we probe and put back after. In a container they cannot be
    seen; there the probes that find no room are sent again.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * endpoints + 256
    if resource.RLIM_INFINITY != soft < wanted:
        granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    before = {path: path.read_text() for path in _NEIGHBOURS if os.access(path, os.W_OK)}
    neighbours = 2 * pairs + _SPARE_NEIGHBOURS
    try:
        for path, value in before.items():
            if int(value) < neighbours:
                path.write_text(str(neighbours))
        yield
    finally:
        for path, value in before.items():
            path.write_text(value)
