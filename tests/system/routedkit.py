"""What the tests of the routed hop share: a cloud with two tenants and an outside, and sockets inside its nodes."""
from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from labkit import PATIENCE, Cloud, Sniffer, vxlan

from controller.host import netns

DRIVERS = ("simulated", "namespace")
INTERNET = "203.0.113.1"  # the outside's own address; it answers for every other one, too
FAR = "198.51.100.77"  # somewhere in the world
MTU_INSIDE, MTU_OUTSIDE = 1450, 1500

# One tenant has blue, green and teal (with two subnets) behind r1; another has the same addresses behind r2.
HEAD = """
cloud: routed
underlay: {cidr: 192.0.2.0/24}
hosts:
  c1: {tunnel_ip: 192.0.2.11}
  c2: {tunnel_ip: 192.0.2.12}
  n1: {tunnel_ip: 192.0.2.21, role: network}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  green: {tunnel_id: 1002, subnets: {green-subnet: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
  teal:
    tunnel_id: 1003
    subnets:
      teal-left: {cidr: 10.0.3.0/24, gateway: 10.0.3.1}
      teal-right: {cidr: 10.0.4.0/24, gateway: 10.0.4.1}
  other-blue: {tunnel_id: 2001, subnets: {other-blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  other-green: {tunnel_id: 2002, subnets: {other-green-subnet: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
  public: {external: true, subnets: {public-subnet: {cidr: 203.0.113.0/24, gateway: 203.0.113.1}}}
"""
VMS = """
vms:
  blue1: {host: c1, network: blue, ip: 10.0.1.11}
  blue2: {host: c2, network: blue, ip: 10.0.1.12}
  blue3: {host: c1, network: blue, ip: 10.0.1.13}
  blue4: {host: c2, network: blue, ip: 10.0.1.14}
  blue5: {host: c1, network: blue, ip: 10.0.1.15}
  green1: {host: c1, network: green, ip: 10.0.2.11}
  green2: {host: c2, network: green, ip: 10.0.2.12}
  green3: {host: c1, network: green, ip: 10.0.2.13}
  green4: {host: c2, network: green, ip: 10.0.2.14}
  green5: {host: c1, network: green, ip: 10.0.2.15}
  teal1: {host: c1, network: teal, ip: 10.0.3.11}
  teal2: {host: c2, network: teal, ip: 10.0.4.12}
  other1: {host: c1, network: other-blue, ip: 10.0.1.11}
  other2: {host: c2, network: other-green, ip: 10.0.2.12}
floating_ips:
  203.0.113.50: {vm: blue1, network: blue}
  203.0.113.51: {vm: green2, network: green}
  203.0.113.60: {vm: other1, network: other-blue}
"""
ROUTERS = """
routers:
  r1:
    host: n1
    driver: %(driver)s
    interfaces: [blue-subnet, green-subnet, teal-left, teal-right]
    gateway: {network: public, ip: 203.0.113.10}
  r2:
    host: n1
    driver: %(driver)s
    interfaces: [other-blue-subnet, other-green-subnet]
    gateway: {network: public, ip: 203.0.113.20}
"""
INSIDE = [f"{network}{n}" for network in ("blue", "green") for n in range(1, 6)]


def routed_topology(driver: str) -> str:
    return HEAD + ROUTERS % {"driver": driver} + VMS


# ---- sockets of nodes

_IP_TRANSPARENT = 19  # ip(7)


def open_socket(cloud: Cloud, node: str, kind: int = socket.SOCK_DGRAM, address: tuple[str, int] | None = None,
                proto: int = 0) -> socket.socket:
    """A socket in a node's namespace, bound to an address of it if one is given."""
    with netns.inside(netns.of_process(cloud.pid(node))):
        made = socket.socket(socket.AF_INET, kind, proto)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(PATIENCE)
    if address:
        # The outside answers for addresses that no interface of it has.
        made.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
        made.bind(address)
    return made


def say(cloud: Cloud, source: str, target: str, address: str, token: bytes, *, listen: str = "") -> tuple[str, str]:
    """A UDP token from one node to another and back: the addresses that the target and the source saw it come from.

    `listen`: the address that the target binds, if it is another one than `address`.
    """
    with open_socket(cloud, target, address=(listen or address, 7000)) as far, open_socket(cloud, source) as near:
        near.sendto(token, (address, 7000))
        heard, peer = far.recvfrom(2048)
        assert heard == token
        far.sendto(token, peer)
        heard, back = near.recvfrom(2048)
        assert heard == token
        return peer[0], back[0]


def hears_nothing(sockets: list[socket.socket], seconds: float = 0.3) -> bool:
    """Whether none of them gets anything for a while."""
    return not select.select(sockets, [], [], seconds)[0]


class Echo:
    """A TCP server in a node: it answers every line with the caller's address and the line, until it is closed."""

    def __init__(self, cloud: Cloud, node: str, address: str, port: int) -> None:
        self._listener = open_socket(cloud, node, socket.SOCK_STREAM, (address, port))
        self._listener.listen(1024)
        self._listener.settimeout(0.2)
        self._over = threading.Event()
        self._open: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self.callers: list[tuple[str, int]] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._over.is_set():
            for number, _ in self._poll.poll(0.1):
                if number == self._listener.fileno():
                    self._accept()
                else:
                    self._answer(self._open[number])

    def _accept(self) -> None:
        made, caller = self._listener.accept()
        self.callers.append(caller)
        self._open[made.fileno()] = made
        self._poll.register(made, select.EPOLLIN)

    def _answer(self, caller: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = caller.recv(4096)
        if data:
            host, port = caller.getpeername()
            caller.sendall(f"{host} {port} ".encode() + data)
        else:
            self._poll.unregister(caller)
            del self._open[caller.fileno()]
            caller.close()

    def close(self) -> None:
        self._over.set()
        self._thread.join(PATIENCE)
        for one in (*self._open.values(), self._listener):
            one.close()
        self._poll.close()

    def __enter__(self) -> Echo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ask(cloud: Cloud, node: str, address: str, port: int, line: bytes = b"hello\n") -> str:
    """What an Echo answers: `<address that it sees> <port> <line>`."""
    with open_socket(cloud, node, socket.SOCK_STREAM) as caller:
        caller.connect((address, port))
        caller.sendall(line)
        return caller.recv(4096).decode()


# ---- ICMP errors

_IP_RECVERR, _MSG_ERRQUEUE, _IP_MTU_DISCOVER = 11, 0x2000, 10


@dataclass(frozen=True)
class IcmpError:
    """An ICMP error as a socket hears of it (ip(7), IP_RECVERR)."""

    sender: str
    type: int
    code: int
    info: int  # the next MTU, where one is told


def icmp_error(cloud: Cloud, node: str, address: str, *, ttl: int = 64, size: int = 10, port: int = 33434,
               fragment: bool = True, seconds: float = 2.0) -> IcmpError | None:
    """The error that a UDP packet of `size` bytes (with its headers, if above 28) causes; None if none comes."""
    with open_socket(cloud, node) as sock:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, 0 if fragment else 3)  # 3: DF, whatever the cache says
        sock.connect((address, port))
        sock.send(bytes(max(1, size - 28)))
        waiting = select.poll()
        waiting.register(sock, select.POLLERR)
        if not waiting.poll(seconds * 1000):
            return None
        _, extra, _, _ = sock.recvmsg(2048, 512, _MSG_ERRQUEUE)
        data = next(data for level, kind, data in extra if (level, kind) == (socket.IPPROTO_IP, _IP_RECVERR))
        _, _, type_, code, _, info, _ = struct.unpack_from("=IBBBBII", data)
        return IcmpError(socket.inet_ntoa(data[20:24]), type_, code, info)


def traceroute(cloud: Cloud, node: str, address: str, longest: int = 8) -> list[str]:
    """Who says on the way that the time to live is over, and last who says that nobody listens; `*` for silence."""
    hops = []
    for ttl in range(1, longest + 1):
        found = icmp_error(cloud, node, address, ttl=ttl, port=33433 + ttl)
        hops.append(found.sender if found else "*")
        if found and found.type == 3:
            break
    return hops


# ---- frames on the way

@dataclass(frozen=True)
class Carried:
    """An IPv4 packet inside a tunnel."""

    tunnel_id: int
    src_mac: str
    dst_mac: str
    ttl: int


def carried(sniffer: Sniffer, token: bytes) -> list[Carried]:
    """What of the frames with a token went through tunnels, in its order."""
    found = []
    for frame in sniffer.with_token(token):
        inner = vxlan(frame)
        if inner:
            tunnel_id, packet = inner
            found.append(Carried(tunnel_id, packet[6:12].hex(":"), packet[:6].hex(":"), packet[22]))
    return found


def addresses(frame: bytes) -> tuple[str, str]:
    """Source and destination of an untagged IPv4 frame."""
    return socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34])


def http_get(cloud: Cloud, node: str, address: str) -> bytes:
    """The whole answer of a web server."""
    with open_socket(cloud, node, socket.SOCK_STREAM) as caller:
        caller.connect((address, 80))
        caller.sendall(b"GET / HTTP/1.0\r\n\r\n")
        found = b""
        while part := caller.recv(65536):
            found += part
        return found


# ---- streams

class Stream:
    """UDP packets at an even pace from one node to another and back; who knows which of them came back."""

    def __init__(self, cloud: Cloud, source: str, target: str, address: str, *, listen: str = "", port: int = 7100,
                 pause: float = 0.01) -> None:
        self._near = open_socket(cloud, source)
        self._far = open_socket(cloud, target, address=(listen or address, port))
        self._near.connect((address, port))
        self._over, self._pause = threading.Event(), pause
        self.sent = 0
        self.back: set[int] = set()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._echo, self._hear)]

    def start(self) -> Stream:
        for thread in self._threads:
            thread.start()
        return self

    def _send(self) -> None:
        while not self._over.is_set():
            self._near.send(struct.pack("!Q", self.sent))
            self.sent += 1
            time.sleep(self._pause)  # the pace is the point; nothing waits for luck

    def _echo(self) -> None:
        self._until_over(self._far, lambda data, peer: self._far.sendto(data, peer))

    def _hear(self) -> None:
        self._until_over(self._near, lambda data, _: self.back.add(struct.unpack("!Q", data)[0]))

    def _until_over(self, sock: socket.socket, do: Callable[[bytes, Any], object]) -> None:
        """Half a second of silence after the last packet ends it: what is under way then is lost."""
        sock.settimeout(0.5)
        while True:
            try:
                do(*sock.recvfrom(2048))
            except TimeoutError:
                if self._over.is_set():
                    return

    def stop(self) -> list[int]:
        """The numbers of those that never came back."""
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._near.close()
        self._far.close()
        return sorted(set(range(self.sent)) - self.back)


# ---- the driver's traces on the network host

def namespaces(cloud: Cloud, host: str = "n1") -> list[str]:
    """The router namespaces of a host."""
    return re.findall(r"^(qrouter-\S+)", cloud.run(host, "ip", "netns", "list"), re.MULTILINE)


@contextlib.contextmanager
def streams(*made: Stream) -> Iterator[tuple[Stream, ...]]:
    """Streams under way; whatever happens, they end."""
    try:
        yield tuple(one.start() for one in made)
    finally:
        for one in made:
            one.stop()
