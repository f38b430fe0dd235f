"""What runs out, and what is allowed but probably not meant."""
from __future__ import annotations

from collections.abc import Iterator

from controller.model import numbers, providers
from controller.model.draft import Draft
from controller.model.problems import Finding

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


def warn_of_what_is_not_built(draft: Draft) -> Iterator[Finding]:
    """Parts of the file that this version reads and checks, and then leaves alone."""
    if draft.groups:
        yield Finding("TB601", draft.section("security_groups"),
                      "security groups are checked but not enforced by this version")
    served = next((subnet for subnet in draft.subnets.values() if subnet.shape.dhcp), None)
    if served is not None:
        yield Finding("TB605", served.at("dhcp"), "DHCP is checked but not served by this version",
                      "addresses are reserved, and the lab sets them")


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


def warn_of_ports(draft: Draft) -> Iterator[Finding]:
    """Ports that will not do what their keys seem to say."""
    for port in draft.ports:
        if port.shape.security_groups and not port.shape.port_security:
            message = f'{port.path}: with "port_security: false" the security groups have no effect'
            yield Finding("TB607", port.at("security_groups"), message, "remove one of the two keys")
    if draft.tunnel is not None and draft.tunnel.shape.type == "gre" and draft.tunnel.shape.port is not None:
        yield Finding("TB607", draft.tunnel.at("port"), "tunnel: GRE has no ports", "remove the key")
