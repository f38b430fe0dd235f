"""A cloud with a network host, for tests of labs whose routers are namespaces."""
from __future__ import annotations

import re

from labsite import Site

from controller.model import names, reading
from controller.model.topology import Topology

CLOUD = """
cloud: routed
underlay: {cidr: 192.0.2.0/24, mtu: 1500}
firewall: none
hosts:
  c1: {tunnel_ip: 192.0.2.11}
  n1: {tunnel_ip: 192.0.2.21, role: network}
networks:
  blue: {tunnel_id: 7, subnets: {blue-s: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  green: {tunnel_id: 8, subnets: {green-s: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
  public: {external: true, subnets: {public-s: {cidr: 203.0.113.0/24, gateway: 203.0.113.1}}}
vms:
  a: {host: c1, network: blue, ip: 10.0.1.11}
  b: {host: c1, network: green, ip: 10.0.2.11}
"""
GATEWAY = "gateway: {network: public, ip: 203.0.113.10}"
ROUTES = "routes: [{destination: 198.51.100.0/24, nexthop: 10.0.1.11}]"
FLOATING = "floating_ips:\n  203.0.113.50: {vm: a, network: blue}\n"


def router(*subnets: str, more: str = GATEWAY, driver: str = "namespace") -> str:
    return f"{{host: n1, driver: {driver}, interfaces: [{', '.join(subnets)}], {more}}}"


def text_of(floating: str = "", **routers: str) -> str:
    lines = "".join(f"  {name}: {value}\n" for name, value in routers.items())
    return f"{CLOUD}{floating}" + (f"routers:\n{lines}" if routers else "")


def topology(floating: str = "", **routers: str) -> Topology:
    found = reading.parse(text_of(floating, **routers), "routed.yaml")
    assert found.topology, found.problems
    return found.topology


class Routed(Site):
    """A site for labs of that cloud."""

    def up(self, floating: str = "", **routers: str) -> None:
        self.build(topology(floating, **routers))

    def says(self, node: str, *command: str) -> str:
        done = self.run(node, *command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def namespaces(self, host: str = "n1") -> set[str]:
        return {line.split()[0] for line in self.says(host, "ip", "netns", "list").splitlines()}

    def legs(self, name: str) -> list[str]:
        """Names of a router's legs, as its namespace has them."""
        return re.findall(r"\b(q[rg]-[0-9a-f-]{11})@", self.says(name, "ip", "-o", "link", "show"))

    def plugged(self) -> set[str]:
        """Names of all legs that are ports of br-int."""
        return {port for port in self.says("n1", "ovs-vsctl", "list-ports", "br-int").split() if port[:3] in "qr-qg-"}


def qrouter(name: str) -> str:
    return names.qrouter(topology(**{name: router("blue-s")}).routers[name].id)
