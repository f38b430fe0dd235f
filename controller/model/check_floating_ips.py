"""Checks of floating IPs."""
from __future__ import annotations

from collections.abc import Iterator

from controller.model.claims import Homes, fixed_network, floating_address, is_judged, pinned_ip
from controller.model.draft import Draft, Item, PortItem
from controller.model.problems import Finding, quoted
from controller.model.schema import FloatingIpShape


def check_floating_ips(draft: Draft) -> Iterator[Finding]:
    """A floating IP lies in an external network and belongs to a VM on the named network, behind a router."""
    homes = Homes(draft)
    certain = draft.declared["networks"] is not None and not draft.unsure
    ports: dict[str, list[PortItem]] = {}
    for port in draft.ports:
        ports.setdefault(port.vm, []).append(port)
    for fip in draft.floating_ips.values():
        if homes.of_floating(fip) is None and certain:
            known = [str(subnet.shape.cidr) for subnet in draft.subnets.values()
                     if subnet.network in draft.networks and draft.networks[subnet.network].shape.external]
            hint = f"take an address of {' or '.join(known[:8])}" if known else 'say "external: true" in a network'
            yield Finding("TB312", fip.at(), f"{fip.path}: {fip.name} is in no external network", hint)
        yield from _fixed(draft, homes, fip, ports.get(fip.shape.vm, []))


def _fixed(draft: Draft, homes: Homes, fip: Item[FloatingIpShape], ports: list[PortItem]) -> Iterator[Finding]:
    network, home = fixed_network(draft, fip), homes.of_floating(fip)
    if fip.shape.vm not in draft.vms or network is None or network not in draft.networks:
        return
    on = [port for port in ports if port.shape.network == network]
    if not on:
        yield _not_on(fip, network, [port.shape.network for port in ports])
    elif floating_address(fip).version == 6 or all(_is_ipv6(draft, port) for port in on):
        what = fip.name if floating_address(fip).version == 6 else f"the address of {quoted(fip.shape.vm)}"
        yield Finding("TB515", fip.at(), f"{fip.path}: {what} is not an IPv4 address", "only these are translated")
    elif home is not None and not any(homes.leads(home.network, network, pinned_ip(port)) for port in on):
        pinned = pinned_ip(on[0])
        subnet = homes.of(network, pinned) if pinned is not None else None
        message = f"{fip.path}: no router joins {quoted(subnet.name if subnet else network)} and {quoted(home.network)}"
        yield Finding("TB608", fip.at(), message, "packets to this address find no way to the VM")


def _is_ipv6(draft: Draft, port: PortItem) -> bool:
    pinned, network = pinned_ip(port), port.shape.network
    if pinned is not None:
        return pinned.version == 6
    subnets = draft.subnets_by_network[network]
    return is_judged(draft, network) and bool(subnets) and all(each.shape.cidr.version == 6 for each in subnets)


def _not_on(fip: Item[FloatingIpShape], network: str, networks: list[str]) -> Finding:
    others = ", ".join(quoted(each) for each in networks[:8])
    message = f"{fip.path}: VM {quoted(fip.shape.vm)} has no port on network {quoted(network)}"
    return Finding("TB506", fip.at("network"), message, f"it is on {others}" if others else "")
