"""A real Linux namespace as a router, wired to this process: frames go in by a leg and come out by legs."""
from __future__ import annotations

import ctypes
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address

from flows.fields import ARP
from flows.router import Leg, Router
from flows.routing.wireformat import BROADCAST_MAC, NO_MAC, Arp, Frame

_ETH_P_ALL, _CLONE_NEWNET = 0x0003, 0x40000000
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_MARKER = bytes.fromhex("02eeeeeeeeee")  # no host has it: its probes are answered when all before them is done
_PATIENCE = 10.0  # seconds to wait for a marker, which takes microseconds on an idle machine
_SYSCTLS = {"net.ipv4.ip_forward": 1, "net.ipv4.conf.all.arp_ignore": 1, "net.ipv4.conf.all.arp_announce": 2,
            "net.netfilter.nf_conntrack_tcp_be_liberal": 1, "net.ipv4.conf.all.rp_filter": 0,
            "net.ipv4.conf.default.rp_filter": 0, "net.ipv6.conf.all.disable_ipv6": 1,
            "net.ipv6.conf.default.disable_ipv6": 1}


def run(*argv: str, stdin: str | None = None) -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def nat_rules(router: Router, *, random_ports: bool) -> str:
    """Neutron's chains of the nat table, and the mark of what comes from outside."""
    chain, fully = "neutron-l3-agent", " --random-fully" if random_ports else ""
    lines = ["*nat", *(f":{chain}-{name} - [0:0]" for name in ("PREROUTING", "POSTROUTING", "OUTPUT", "snat",
                                                               "float-snat")), ":neutron-postrouting-bottom - [0:0]"]
    lines += [f"-A {hook} -j {chain}-{hook}" for hook in ("PREROUTING", "OUTPUT", "POSTROUTING")]
    lines += ["-A POSTROUTING -j neutron-postrouting-bottom", f"-A neutron-postrouting-bottom -j {chain}-snat",
              f"-A {chain}-snat -j {chain}-float-snat"]
    if router.gateway and router.outside:
        leg, gateway = router.gateway.leg, IPv4Address(router.snat_address or 0)
        for one in router.floating_ips:
            lines += [f"-A {chain}-{hook} -d {one.external}/32 -j DNAT --to-destination {one.fixed}"
                      for hook in ("PREROUTING", "OUTPUT")]
            lines += [f"-A {chain}-float-snat -s {one.fixed}/32 -j SNAT --to-source {one.external}{fully}"]
        lines += [f"-A {chain}-POSTROUTING ! -o {leg} -m conntrack ! --ctstate DNAT -j ACCEPT"]
        if router.gateway.snat:
            lines += [f"-A {chain}-snat -o {leg} -j SNAT --to-source {gateway}{fully}"]
        lines += [f"-A {chain}-snat -m mark ! --mark 0x2/0xffff -m conntrack --ctstate DNAT -j SNAT"
                  f" --to-source {gateway}{fully}"]
    # The metadata rule; with it, connections are tracked in a router without a gateway, too.
    lines += [f"-A {chain}-PREROUTING -d 169.254.169.254/32 -i qr-+ -p tcp -m tcp --dport 80 -j REDIRECT"
              " --to-ports 9697"]
    mangle = ["*mangle"]
    if router.gateway:
        mangle += [f"-A PREROUTING -i {router.gateway.leg} -j MARK --set-xmark 0x2/0xffff"]
    return "\n".join([*lines, "COMMIT", *mangle, "COMMIT", ""])


class LinuxRouter:
    """One router namespace (`name`) and one with the other ends of its legs (`name`w)."""

    def __init__(self, router: Router, name: str, *, random_ports: bool = False) -> None:
        self.router, self.name, self._wires = router, name, f"{name}w"
        self._random = random_ports
        self._sockets: dict[str, socket.socket] = {}

    def build(self) -> None:
        for namespace in (self.name, self._wires):
            run("ip", "netns", "add", namespace)
            for key in ("net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.default.disable_ipv6"):
                run("ip", "netns", "exec", namespace, "sysctl", "-qw", f"{key}=1")
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        settings = {**_SYSCTLS, "net.ipv4.icmp_ratelimit": int(self.router.limits.interval * 1000),
                    "net.ipv4.icmp_msgs_per_sec": self.router.limits.per_second or 1_000_000,
                    "net.ipv4.icmp_msgs_burst": 1_000_000 if not self.router.limits.per_second else 50}
        rules = nat_rules(self.router, random_ports=self._random)
        run("ip", "netns", "exec", self.name, "iptables-restore", stdin=rules)
        run("ip", "netns", "exec", self.name, "sysctl", "-qw", *(f"{key}={value}" for key, value in settings.items()))
        for leg in self.router.legs:
            self._wire(leg)
        self._addresses()

    def _wire(self, leg: Leg) -> None:
        run("ip", "-n", self._wires, "link", "add", leg.name, "type", "veth", "peer", "name", leg.name,
            "netns", self.name)
        for namespace, mtu in ((self._wires, 9000), (self.name, leg.mtu)):
            run("ip", "netns", "exec", namespace, "ethtool", "-K", leg.name, "tx", "off", "gro", "off")
            run("ip", "-n", namespace, "link", "set", leg.name, "mtu", str(mtu))
        run("ip", "-n", self.name, "link", "set", leg.name, "address", leg.mac)
        run("ip", "-n", self._wires, "link", "set", leg.name, "arp", "off")
        for namespace in (self._wires, self.name):
            run("ip", "-n", namespace, "link", "set", leg.name, "up")
        self._sockets[leg.name] = self._open(leg.name)

    def _addresses(self) -> None:
        for leg in self.router.legs:
            for one in leg.addresses:
                run("ip", "-n", self.name, "addr", "add", str(one), "brd", "+", "dev", leg.name)
        for route in self.router.routes:
            run("ip", "-n", self.name, "route", "replace", str(route.destination), "via", str(route.nexthop))
        if self.router.gateway:
            leg = self.router.gateway.leg
            run("ip", "-n", self.name, "route", "replace", "default", "via", str(self.router.gateway.nexthop),
                "dev", leg)
            for floating in self.router.floating_ips:
                run("ip", "-n", self.name, "addr", "add", f"{floating.external}/32", "dev", leg)

    def _open(self, leg: str) -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self._wires}") as there:
            if libc.setns(there.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
                opened.bind((leg, _ETH_P_ALL))
            finally:
                libc.setns(home.fileno(), _CLONE_NEWNET)
        opened.setblocking(False)
        return opened

    def remove(self) -> None:
        for opened in self._sockets.values():
            opened.close()
        for namespace in (self.name, self._wires):
            with suppress(RuntimeError):
                run("ip", "netns", "del", namespace)

    def send(self, leg: str, frame: bytes) -> list[tuple[str, bytes]]:
        """A frame, and what left because of it, as (leg, frame): all that came before the marker was answered."""
        self._sockets[leg].send(frame)
        own = self.router.by_name[leg]
        probe = Arp(1, _MARKER, 0, NO_MAC, int(own.addresses[0].ip))
        self._sockets[leg].send(probe.framed(_MARKER, BROADCAST_MAC))
        found: list[tuple[str, bytes]] = []
        deadline = time.monotonic() + _PATIENCE
        while not any(self._is_marker(frame) for _, frame in found):
            found += self.poll(_PATIENCE)  # nothing may also mean that something of no interest has come
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} did not answer the marker on {leg}")
        found += self.poll(0)
        return [(where, frame) for where, frame in found if not self._is_marker(frame)]

    @staticmethod
    def _is_marker(frame: bytes) -> bool:
        return Frame.parse(frame).dst == _MARKER

    def poll(self, seconds: float) -> list[tuple[str, bytes]]:
        """What has left meanwhile; waits so long for the first frame."""
        names = {opened.fileno(): leg for leg, opened in self._sockets.items()}
        ready, _, _ = select.select(list(names), [], [], seconds)
        found = []
        for number in ready:
            with suppress(BlockingIOError):
                while True:
                    found.append((names[number], self._sockets[names[number]].recv(65536)))
        return [(leg, frame) for leg, frame in found if _of_interest(frame)]


def _of_interest(frame: bytes) -> bool:
    kind = Frame.parse(frame).kind
    return kind == ARP or (kind == 0x0800 and frame[23] != 2)  # the kernel's own IGMP is nobody's answer


@contextmanager
def linux_router(router: Router, tag: str, *, random_ports: bool = False) -> Iterator[LinuxRouter]:
    """Built, and removed whatever happens. The process stays on one CPU, so frames are handled in order."""
    cpus = os.sched_getaffinity(0)
    made = LinuxRouter(router, f"tbqr{os.getpid()}{tag}", random_ports=random_ports)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        made.build()
        yield made
    finally:
        os.sched_setaffinity(0, cpus)
        made.remove()
