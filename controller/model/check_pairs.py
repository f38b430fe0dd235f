"""Allowed address pairs that contradict each other, or what others have; and ports whose keys do not go together."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_network

from controller.model.claims import Homes, is_judged
from controller.model.draft import Draft, PortItem
from controller.model.problems import Finding, quoted
from controller.model.schema import PairShape
from controller.model.topology import Address

Owners = Mapping[tuple[str, Address], tuple[str, int]]  # network and address -> whose it is, and in which line


def warn_of_ports(draft: Draft) -> Iterator[Finding]:
    """Ports that will not do what their keys seem to say."""
    owners: Owners | None = None
    for port in draft.ports:
        shape = port.shape
        if shape.security_groups and not shape.port_security:
            message = f'{port.path}: with "port_security: false" the VM may forge the addresses that its groups look at'
            yield Finding("TB617", port.at("security_groups"), message,
                          "keep port security on, or list no group (Neutron refuses the two together)")
        if not shape.allowed_address_pairs:
            continue
        if not shape.port_security:
            message = f'{port.path}: with "port_security: false" every address is allowed'
            yield Finding("TB607", port.at("allowed_address_pairs"), message, "remove one of the two keys")
        owners = owners if owners is not None else dict(_owners(draft))
        yield from _pairs(port)
        yield from _claims(port, owners)
    if draft.options.get("firewall") == "none" and any(port.shape.security_groups for port in draft.ports):
        yield Finding("TB619", draft.section("firewall"), "firewall: with none the security groups are not enforced",
                      "use openvswitch or iptables_hybrid")
    if draft.tunnel is not None and draft.tunnel.shape.type == "gre" and draft.tunnel.shape.port is not None:
        yield Finding("TB607", draft.tunnel.at("port"), "tunnel: GRE has no ports", "remove the key")


def _pairs(port: PortItem) -> Iterator[Finding]:
    """Each pair beside those before it."""
    met: dict[tuple[object, str], str] = {}
    macs: dict[object, str] = {}
    address = port.shape.ip
    if address is not None and not isinstance(address, str):
        met[ip_network(address), port.mac] = "the port's own address and MAC"
        macs[ip_network(address)] = port.mac
    for index, pair in enumerate(port.shape.allowed_address_pairs):
        at, path = port.at("allowed_address_pairs", index), f"{port.path}.allowed_address_pairs[{index}]"
        mac, earlier = pair.mac or port.mac, met.get((pair.ip, pair.mac or port.mac))
        if pair.ip.prefixlen == 0:
            message = f"{path}: {pair.ip} lets this port use every address of IPv{pair.ip.version}"
            yield Finding("TB614", at, message, "name the addresses that it needs; rules that name its group do not "
                                                "count this pair")
        if earlier is not None:
            yield Finding("TB615", at, f"{path}: the same as {earlier}", "remove it")
        elif macs.setdefault(pair.ip, mac) != mac:
            message = f"{path}: {pair.ip} goes with {macs[pair.ip]}, too"
            yield Finding("TB615", at, message, "keep one of the two, so that it is clear who answers for the address")
        met.setdefault((pair.ip, mac), f"allowed_address_pairs[{index}]")


def _claims(port: PortItem, owners: Owners) -> Iterator[Finding]:
    """Pairs of one address that somebody else has."""
    for index, pair in enumerate(port.shape.allowed_address_pairs):
        path, owner = _owner(port, pair, owners)
        if owner is not None and path != port.path:
            message = (f"{port.path}.allowed_address_pairs[{index}]: {pair.ip.network_address} is that of {path} "
                       f"in line {owner}")
            yield Finding("TB616", port.at("allowed_address_pairs", index), message,
                          "leave it out, unless this port is to answer in its place")


def _owner(port: PortItem, pair: PairShape, owners: Owners) -> tuple[str, int | None]:
    if pair.ip.prefixlen != pair.ip.max_prefixlen:
        return "", None
    return owners.get((port.shape.network, pair.ip.network_address), ("", None))


def _owners(draft: Draft) -> Iterator[tuple[tuple[str, Address], tuple[str, int]]]:
    """What the file gives to somebody: addresses of ports, routers and floating IPs; and each subnet's gateway."""
    for subnet in draft.subnets.values():
        if subnet.shape.gateway is not None and is_judged(draft, subnet.network):
            line = subnet.at("gateway").line
            yield (subnet.network, subnet.shape.gateway), (f"the gateway of {quoted(subnet.name)}", line)
    for claim in Homes(draft).claims():
        yield claim.what, (claim.path, claim.at.line)
