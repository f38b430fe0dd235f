"""Checks of the addresses and MACs that things in a network have: VMs, routers, gateways, floating IPs."""
from __future__ import annotations

from collections.abc import Iterator

from controller.model import names, providers
from controller.model.check_names import Use, duplicates, twins
from controller.model.check_networks import host_hint
from controller.model.claims import Claim, Homes, is_judged
from controller.model.draft import Draft
from controller.model.kinds import can_be_host
from controller.model.problems import Finding, quoted


def check_addresses(draft: Draft) -> Iterator[Finding]:
    """Each address lies in a subnet of its network, is one a host can have, and belongs to one thing."""
    claims = list(Homes(draft).claims())
    for claim in claims:
        yield from _placed(claim)
    for earlier, later in twins(claims):
        network, address = later.what
        hint = f"{earlier.path} in line {earlier.at.line} has it, too; each needs its own"
        yield Finding("TB303", later.at, f"{later.path}: {address} is used twice in network {quoted(network)}", hint)


def _placed(claim: Claim) -> Iterator[Finding]:
    network, address = claim.what
    subnet = claim.subnet
    if subnet is None:
        if claim.allowed:  # else TB512 says what is missing
            message = f"{claim.path}: {address} is outside the subnets of network {quoted(network)}"
            hint = "take an address of " + " or ".join(str(cidr) for cidr in claim.allowed)
            yield Finding("TB307", claim.at, message, hint)
    elif not can_be_host(address, subnet.shape.cidr):
        message = f"{claim.path}: no host can have {address}, the first or last of {subnet.shape.cidr}"
        yield Finding("TB308", claim.at, message, host_hint(subnet.shape.cidr))
    elif address == subnet.shape.gateway and not claim.is_interface:
        hint = f"line {subnet.at('gateway').line} keeps it for a router"
        yield Finding("TB310", claim.at, f"{claim.path}: {address} is the gateway of {quoted(subnet.name)}", hint)


def check_macs(draft: Draft) -> Iterator[Finding]:
    """No two ports of a network have one MAC address, whether the file gave it or it was made from the id."""
    uses = [Use((port.shape.network, port.mac), port.path, port.at("mac")) for port in draft.distinct_ports()]
    legs = {leg.id: leg for leg in reversed(draft.legs) if leg.network is not None}
    uses.extend(Use((str(leg.network), leg.mac), leg.path, leg.at) for leg in reversed(legs.values()))
    uses.extend(Use((server.network, names.mac_of(server.id)), server.path, server.at)
                for server in providers.servers(draft))
    yield from duplicates("TB304", uses, _mac, 'give one of them another "mac"')


def _mac(use: Use[tuple[str, str]]) -> str:
    network, mac = use.what
    return f"in network {quoted(network)} the MAC address {mac}"


def check_ports(draft: Draft) -> Iterator[Finding]:
    """A port's network has a subnet to take its address from, with DHCP if the port asks for it."""
    for port in draft.ports:
        network = port.shape.network
        if not is_judged(draft, network):
            continue
        subnets = draft.subnets_by_network[network]
        if not subnets:
            hint = f"add a subnet to network {quoted(network)} in line {draft.networks[network].line}"
            yield Finding("TB512", port.at("network"), f"{port.path}: network {quoted(network)} has no subnet", hint)
        elif port.shape.ip == "dhcp" and not any(subnet.shape.dhcp for subnet in subnets):
            hint = f'say "dhcp: true" in the subnet in line {subnets[0].line}'
            yield Finding("TB513", port.at("ip"), f"{port.path}: no subnet of {quoted(network)} has DHCP", hint)
