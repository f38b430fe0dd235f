"""Large topologies as objects: a small file is read, and VMs are added to what came of it.

Reading a file of 100,000 VMs takes half a minute; what the measurements of this directory are about begins after that.
"""
from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from labs import ROOT

from controller.model import names, reading
from controller.model.objects import Vm
from controller.model.topology import Topology, port_device

Added = tuple[str, str, str, str, str]  # name, host, network, address, MAC
FAR = range(10, 20)  # the last bytes of the tunnel addresses of hosts that need not exist
_HEAD = "underlay: {cidr: 192.0.0.0/16}\nfirewall: none\nforwarding: l2population\n"


def read(text: str) -> Topology:
    """The topology of a text without errors."""
    found = reading.parse(text, f"{ROOT.name}/bench")
    assert found.topology is not None, found.problems[:5]
    return found.topology


def grown(base: Topology, more: Iterable[Added]) -> Topology:
    """A topology with more VMs of one port each, alike but for what is said of them."""
    like = next(base.ports())
    subnets = {name: network.subnets[0].name for name, network in base.networks.items()}
    vms = dict(base.vms)
    for name, host, network, address, mac in more:
        own = names.object_id(base.cloud, f"vms/{name}/ports/0")
        port = replace(like, name=name, path=f"vms.{name}", id=own, vm=name, host=host, network=network,
                       subnet=subnets[network], ip=ip_address(address), mac=mac,
                       device=port_device(base.firewall, own))
        vms[name] = Vm(name, host, (port,), 1)
    return replace(base, vms=vms)


def mac(number: int) -> str:
    """That no other VM has."""
    return f"0a:00:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


def stage_text(networks: int, far: Iterable[int] = ()) -> str:
    """hv1 has a VM on each network, `a0`, `a1` and so on, and `c` on the first; hv2 has `b` on the first."""
    lines = ["cloud: crowd", _HEAD + "hosts:", "  hv1: {tunnel_ip: 192.0.2.1}", "  hv2: {tunnel_ip: 192.0.2.2}"]
    lines += [f"  far{last}: {{tunnel_ip: 192.0.2.{last}}}" for last in far]
    lines.append("networks:")
    lines += [f"  net{n}: {{tunnel_id: {1000 + n}, subnets: {{subnet{n}: {{cidr: 10.0.0.0/16}}}}}}"
              for n in range(networks)]
    lines += ["vms:", "  b: {host: hv2, network: net0, ip: 10.0.250.2}",
              "  c: {host: hv1, network: net0, ip: 10.0.250.3}"]
    lines += [f"  a{n}: {{host: hv1, network: net{n}, ip: 10.0.250.1}}" for n in range(networks)]
    return "\n".join(lines) + "\n"


def crowd(remotes: int, networks: int = 100, moved: int = 0) -> Topology:
    """hv1 of `stage_text` knows the MACs of so many VMs elsewhere: `b`, and others on ten hosts that need not exist.

    The first `moved` of these are on other hosts than else.
    """
    def others() -> Iterator[Added]:
        for n in range(remotes - 1):
            network, place = n % networks, n // networks
            host = FAR[(n + place + (n < moved)) % len(FAR)]
            yield f"vm{n}", f"far{host}", f"net{network}", f"10.0.{place // 250}.{place % 250 + 1}", mac(n)
    return grown(read(stage_text(networks, FAR)), others())


def spread(hosts: int, ports: int, per_network: int = 20) -> Topology:
    """Many hosts with `l2population`; each network has so many VMs, each on another host."""
    lines = ["cloud: spread", _HEAD + "hosts:"]
    lines += [f"  host{n}: {{tunnel_ip: 192.0.{n // 250}.{n % 250 + 1}}}" for n in range(hosts)]
    lines.append("networks:")
    lines += [f"  net{n}: {{tunnel_id: {1000 + n}, subnets: {{subnet{n}: {{cidr: 10.0.0.0/24}}}}}}"
              for n in range(-(-ports // per_network))]
    lines += ["vms:", "  vm0: {host: host0, network: net0, ip: 10.0.0.1}"]

    def others() -> Iterator[Added]:
        for n in range(1, ports):
            network, place = divmod(n, per_network)
            yield f"vm{n}", f"host{(network * 7 + place * 41) % hosts}", f"net{network}", f"10.0.0.{place + 1}", mac(n)
    return grown(read("\n".join(lines) + "\n"), others())


def one_more(base: Topology, number: int) -> Topology:
    """Another VM, on one network of `spread` after the other, on a host that does not carry it yet."""
    hosts, networks = list(base.hosts), list(base.networks)
    network = networks[number * 13 % len(networks)]
    there = {port.host for port in base.ports_by_network[network]}
    where = next(host for host in hosts[number % len(hosts):] + hosts if host not in there)
    return grown(base, [(f"more{number}", where, network, f"10.0.0.{200 + number % 50}", mac((1 << 23) + number))])


def kept(topology: Topology, file: Path) -> Path:
    """For `Daemon.start`."""
    file.write_bytes(pickle.dumps(topology, 5))
    return file
