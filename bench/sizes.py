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
