"""Clouds of any size for the measurements."""
from __future__ import annotations


def cloud(hosts: int, vms: int, networks: int) -> str:
    """The text of a topology: VMs dealt over hosts and networks; all networks use the same addresses."""
    lines = ["cloud: bench", "underlay: {cidr: 192.0.2.0/24}", "hosts:"]
    lines += [f"  host{n}: {{tunnel_ip: 192.0.2.{n + 1}}}" for n in range(hosts)]
    lines.append("networks:")
    for n in range(networks):
        lines.append(f"  net{n}: {{tunnel_id: {1000 + n}, subnets: {{subnet{n}: {{cidr: 10.0.0.0/16}}}}}}")
    lines.append("vms:")
    for n in range(vms):
        network, place = n % networks, n // networks
        lines.append(f"  vm{n}: {{host: host{(place * 7 + network) % hosts}, network: net{network}, "
                     f"ip: 10.0.{place // 250}.{place % 250 + 1}}}")
    return "\n".join(lines) + "\n"


def crowd(remotes: int, networks: int = 100, moved: int = 0) -> str:
    """A cloud in which one hypervisor, hv1, knows the MACs of many VMs elsewhere.

    hv1 has a VM on each network, `a0`, `a1` and so on, and `c` on the first; hv2 has `b` on the first. All others are
    dealt over ten hosts that need not exist. The first `moved` of them are on other hosts than else.
    """
    lines = ["cloud: crowd", "underlay: {cidr: 192.0.2.0/24}", "firewall: none", "forwarding: l2population", "hosts:",
             "  hv1: {tunnel_ip: 192.0.2.1}", "  hv2: {tunnel_ip: 192.0.2.2}"]
    lines += [f"  far{n}: {{tunnel_ip: 192.0.2.{n + 10}}}" for n in range(10)] if remotes else []
    lines.append("networks:")
    lines += [f"  net{n}: {{tunnel_id: {1000 + n}, subnets: {{subnet{n}: {{cidr: 10.0.0.0/16}}}}}}"
              for n in range(networks if remotes else 1)]
    lines += ["vms:", "  b: {host: hv2, network: net0, ip: 10.0.250.2}",
              "  c: {host: hv1, network: net0, ip: 10.0.250.3}"]
    lines += [f"  a{n}: {{host: hv1, network: net{n}, ip: 10.0.250.1}}" for n in range(networks if remotes else 1)]
    for n in range(max(remotes - 1, 0)):  # `b` is one of them
        network, place = n % networks, n // networks
        lines.append(f"  vm{n}: {{host: far{(n + place + (n < moved)) % 10}, network: net{network}, "
                     f"ip: 10.0.{place // 250}.{place % 250 + 1}, "
                     f'mac: "0a:00:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}"}}')  # else some would be alike
    return "\n".join(lines) + "\n"


def spread(hosts: int, ports: int, per_network: int = 20, more: int = 0) -> str:
    """A cloud of many hosts with `l2population`: each network has so many VMs, each on another host.

    `more`: VMs that come after the others, all on the first network, each on another host.
    """
    lines = ["cloud: spread", "underlay: {cidr: 192.0.0.0/16}", "firewall: none", "forwarding: l2population", "hosts:"]
    lines += [f"  host{n}: {{tunnel_ip: 192.0.{n // 250}.{n % 250 + 1}}}" for n in range(hosts)]
    lines.append("networks:")
    lines += [f"  net{n}: {{tunnel_id: {1000 + n}, subnets: {{subnet{n}: {{cidr: 10.0.0.0/24}}}}}}"
              for n in range(ports // per_network)]
    lines.append("vms:")
    lines += [f"  vm{n}: {{host: host{_dealt(n, per_network) % hosts}, network: net{n // per_network}, "
              f"ip: 10.0.0.{n % per_network + 1}}}" for n in range(ports)]
    lines += [f"  more{n}: {{host: host{n * 37 % hosts}, network: net0, ip: 10.0.0.{n + 100}}}" for n in range(more)]
    return "\n".join(lines) + "\n"


def _dealt(n: int, per_network: int) -> int:
    """Neighbouring networks share some hosts, not all."""
    network, place = divmod(n, per_network)
    return network * 7 + place * 41
