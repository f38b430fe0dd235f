"""A cloud with DHCP for two tenants of equal addresses, and what tests ask of its servers and clients."""
from __future__ import annotations

import json
import os
import re
import socket
import struct
from typing import Any

from labkit import PATIENCE, Cloud, mac_bytes, until

from controller.host import netns
from controller.model import names
from controller.model.topology import Port
from controller.tools import leases

ROUTES = ("host_routes: [{destination: 198.51.100.0/24, nexthop: 10.0.1.7}, "
          "{destination: 10.9.0.0/16, nexthop: 10.0.1.8}]")
FULL = f"gateway: 10.0.1.1, dhcp: true, dns: [9.9.9.9, 149.112.112.112], {ROUTES}"
BARE = "dhcp: true"
DECLINE, RELEASE = 4, 7  # message types (RFC 2132, 9.6)
VMS = {"a": "{host: c1, network: blue, ip: dhcp}",
       "b": "{host: c2, network: blue, ip: 10.0.1.20}",
       "t": "{host: c1, network: twin, ip: dhcp}",
       "six": "{host: c1, network: six, ip: dhcp}"}


def text_of(blue: str = FULL, vms: dict[str, str] | None = None, firewall: str = "none") -> str:
    """The cloud with these words in the subnet of blue, and these VMs."""
    lines = "".join(f"  {name}: {value}\n" for name, value in (VMS if vms is None else vms).items())
    return f"""
cloud: served
underlay: {{cidr: 192.0.2.0/24, mtu: 1500}}
firewall: {firewall}
hosts:
  c1: {{tunnel_ip: 192.0.2.11}}
  c2: {{tunnel_ip: 192.0.2.12}}
  n1: {{tunnel_ip: 192.0.2.21, role: network}}
networks:
  blue: {{tunnel_id: 7, subnets: {{blue-s: {{cidr: 10.0.1.0/24, {blue}}}}}}}
  twin: {{tunnel_id: 8, subnets: {{twin-s: {{cidr: 10.0.1.0/24, {BARE}}}}}}}
  six: {{tunnel_id: 9, subnets: {{six-s: {{cidr: '2001:db8::/64', dhcp: true, dns: ['2620:fe::fe']}}}}}}
security_groups: {{shut: []}}
vms:
{lines}"""


class Served(Cloud):
    """That cloud, running."""

    def change(self, text: str) -> None:
        """As any cloud's; nothing if it is so already."""
        if self.file.read_text() != text:
            super().change(text)

    def has_leases(self) -> None:
        """Wait until every VM that asks has its address."""
        assert leases.wait(self.topology, self.rundir) == ()

    def space(self, network: str) -> str:
        """The namespace of a network's DHCP."""
        return names.qdhcp(self.topology.networks[network].id)

    def spaces(self) -> set[str]:
        """All namespaces on the network host."""
        return {line.split()[0] for line in self.run("n1", "ip", "netns", "list").splitlines()}

    def plugged(self) -> set[str]:
        """Names of all servers' ports on br-int of the network host."""
        return {port for port in self.run("n1", "ovs-vsctl", "list-ports", "br-int").split() if port[:3] == "tap"}

    def server(self, network: str) -> str:
        """The pid of a network's dnsmasq; empty if none runs."""
        pids = self.attempt("n1", "ip", "netns", "pids", self.space(network)).stdout.split()
        return next((pid for pid in pids if self.run("n1", "cat", f"/proc/{pid}/comm").strip() == "dnsmasq"), "")

    def card(self, vm: str) -> dict[str, Any]:
        """`ip address` of a VM's first card."""
        found: dict[str, Any] = json.loads(self.run(vm, "ip", "-json", "address", "show", "dev", "eth0"))[0]
        return found

    def addresses(self, vm: str) -> list[str]:
        """Its IPv4 addresses, with their prefix lengths."""
        return [f"{one['local']}/{one['prefixlen']}" for one in self.card(vm)["addr_info"] if one["family"] == "inet"]

    def routes(self, vm: str) -> list[str]:
        """Those that a lease has brought."""
        return [line.strip() for line in self.run(vm, "ip", "route", "show", "proto", "dhcp").splitlines()]

    def renew(self, vm: str) -> None:
        """The VM's client asks again before its time."""
        self.run(vm, "pkill", "-USR1", "-F", "/run/tunbridge-vm/udhcpc.eth0.pid")

    def dropped(self, network: str) -> int:
        """How many questions the network's server has not heard, because they were in the name of another."""
        text = self.run("n1", "ip", "netns", "exec", self.space(network), "iptables-save", "-c", "-t", "filter")
        return int(next(re.findall(r"\[(\d+):", line)[0] for line in text.splitlines() if line.endswith("-j DROP")))

    def asks_anew(self, vm: str) -> None:
        """The VM loses its address, and asks for one as if it had just started."""
        pid = self.run(vm, "cat", "/run/tunbridge-vm/udhcpc.eth0.pid").strip()
        self.run(vm, "kill", "-USR2", pid)
        until(lambda: not self.addresses(vm), "the client has given its lease back")
        self.run(vm, "kill", "-USR1", pid)

    def gets(self, vm: str, address: str) -> None:
        """Wait until a VM has this address and no other."""
        until(lambda: self.addresses(vm) == [address], f"{vm} has {address}")

    def solicit(self, vm: str) -> bytes:
        """What a DHCPv6 server answers to a VM's first question (RFC 8415, 18.2.1): the options of its advertisement.

        Busybox has no client for IPv6, so this is all of one that is needed to ask.
        """
        with netns.inside(netns.of_process(self.pid(vm))):
            asker = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            scope = socket.if_nametoindex("eth0")
        with asker:
            asker.bind(("::", 546))
            asker.settimeout(1)
            number = os.urandom(3)
            identity = _option(1, struct.pack("!HH", 3, 1) + mac_bytes(self.port(vm).mac))
            question = identity + _option(3, bytes(12)) + _option(6, struct.pack("!H", 23)) + _option(8, bytes(2))

            def answer() -> bytes:
                asker.sendto(b"\1" + number + question, ("ff02::1:2", 547, 0, scope))
                try:
                    heard = asker.recv(2048)
                except TimeoutError:
                    return b""
                return heard[4:] if heard[:4] == b"\2" + number else b""

            found: bytes = until(answer, "a DHCPv6 server answers", PATIENCE)
            return found


def dhcp_frame(kind: int, sender: Port, client: Port, server: str) -> bytes:
    """A DHCP message of one port's card in the name of another client (RFC 2131, 4.4.4 and 4.4.6)."""
    releasing = kind == RELEASE
    body = struct.pack("!BBBBIHH4s12x", 1, 1, 6, 0, 7, 0, 0, client.ip.packed if releasing else bytes(4))
    body += mac_bytes(client.mac) + bytes(202) + b"\x63\x82\x53\x63" + bytes((53, 1, kind, 54, 4))
    body += socket.inet_aton(server) + (b"" if releasing else b"\x32\x04" + client.ip.packed)
    body += b"\x3d\x07\x01" + mac_bytes(client.mac) + b"\xff"
    udp = struct.pack("!HHHH", 68, 67, 8 + len(body), 0) + body
    source, target = ("0.0.0.0", "255.255.255.255") if not releasing else (str(sender.ip), server)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, socket.inet_aton(source),
                         socket.inet_aton(target))
    total = sum(struct.unpack("!10H", header))
    header = header[:10] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + header[12:]
    return b"\xff" * 6 + mac_bytes(sender.mac) + b"\x08\x00" + header + udp


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("!HH", code, len(value)) + value
