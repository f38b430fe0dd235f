"""What runs out, and what is allowed but probably not meant."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from controller.model import numbers, providers
from controller.model.dhcp import ROLE
from controller.model.draft import Draft
from controller.model.problems import Finding, quoted

# 80 bytes for each, in an OpenFlow message of 64 KiB; Open vSwitch 3.1 took 800.
FLOODED: Final = 750
LOCAL_VLANS = 4094  # 802.1Q: 12 bits without 0 and 4095


def check_vlans(draft: Draft) -> Iterator[Finding]:
    """A host carries no more networks than there are local VLANs."""
    for name, networks in providers.carried(draft).items():
        host = draft.hosts.get(name)
        if host is not None and len(networks) > LOCAL_VLANS:
            message = f"{host.path}: {len(networks)} networks need a local VLAN here, and there are {LOCAL_VLANS}"
            yield Finding("TB402", host.at(), message, "move some of its VMs to another host")


def check_numbers(draft: Draft) -> Iterator[Finding]:
    """A host simulates no more routers, with no more legs, than there are numbers for."""
    legs: dict[str, list[str]] = {}
    for leg in providers.live_legs(draft):
        router = draft.routers[leg.router].shape
        if router.driver == "simulated":
            legs.setdefault(router.host, []).append(leg.router)
    for host in draft.hosts.values():
        own = legs.get(host.name, [])
        for what, count, limit in (("routers", len(set(own)), numbers.ROUTERS), ("legs", len(own), numbers.LEGS)):
            if count > limit:
                message = f"{host.path}: {count} {what} are simulated here, and there are numbers for {limit}"
                yield Finding("TB405", host.at(), message, "move some of its routers to another network host")


def check_zones(draft: Draft) -> Iterator[Finding]:
    """A host has no more ports with security groups than there are zones of connection tracking for them."""
    count = Counter(port.host for port in draft.ports if port.shape.security_groups)
    for host in draft.hosts.values() if draft.options.get("firewall") != "none" else ():
        if count[host.name] > numbers.PORT_ZONES:
            message = (f"{host.path}: {count[host.name]} ports with security groups are here, and there are zones of "
                       f"connection tracking for {numbers.PORT_ZONES}")
            yield Finding("TB406", host.at(), message, "move some of its VMs to another host")


def check_flooding(draft: Draft) -> Iterator[Finding]:
    """Broadcasts of a network go to no more filtered ports of a host than one flow has room for."""
    if draft.options.get("firewall") != "openvswitch":
        return
    count = Counter((port.host, port.shape.network) for port in draft.ports if port.shape.security_groups)
    for (name, network), ports in count.items():
        host = draft.hosts.get(name)
        if host is not None and ports > FLOODED:
            message = (f"{host.path}: {ports} ports of {quoted(network)} with security groups are here, and with "
                       f"openvswitch a broadcast reaches {FLOODED}")
            yield Finding("TB407", host.at(), message, "move some of its VMs to another host, or use iptables_hybrid")


def warn_of_networks(draft: Draft) -> Iterator[Finding]:
    """Networks that nothing uses, or that cannot be used as they are."""
    vms = draft.declared["vms"]
    all_known = vms is not None and len(vms) == len(draft.vms)
    used = {port.shape.network for port in draft.ports} | {leg.network for leg in draft.legs}
    for network in draft.judged_networks():
        if not draft.subnets_by_network[network.name]:
            yield Finding("TB604", network.at(), f"{network.path}: this network has no subnet", "add one, or remove it")
        elif all_known and network.name not in used and not network.shape.external:
            yield Finding("TB603", network.at(), f"{network.path}: no VM is on this network")


def warn_of_dhcp(draft: Draft) -> Iterator[Finding]:
    """Networks that want DHCP in a cloud without a host that could serve it."""
    hosts = draft.declared["hosts"]
    if hosts is None or len(hosts) != len(draft.hosts) or any(host.shape.role == ROLE for host in draft.hosts.values()):
        return
    for network in draft.judged_networks():
        subnet = next((each for each in draft.subnets_by_network[network.name] if each.shape.dhcp), None)
        if subnet is not None:
            message = f"{subnet.path}: no host has the role network, so nobody serves DHCP"
            yield Finding("TB610", subnet.at("dhcp"), message, 'say "role: network" at one of the hosts')
