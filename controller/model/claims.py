"""Who claims which address in which network: VMs, router ports and floating IPs, each with the subnet it lies in."""
from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

from controller.model.draft import Draft, Item, Leg, PortItem, SubnetItem
from controller.model.problems import Position
from controller.model.schema import FloatingIpShape, VmShape
from controller.model.topology import Address, Prefix


class Claim(NamedTuple):
    """Something of the file that has an address in a network."""

    what: tuple[str, Address]  # network and address
    path: str
    at: Position
    subnet: SubnetItem | None  # where the address lies; None if outside
    allowed: tuple[Prefix, ...]  # where it may lie
    is_interface: bool = False  # a router's, which may be the subnet's gateway


class Homes:
    """Finds the subnet of an address: one look-up per prefix length in use, however many subnets a network has."""

    def __init__(self, draft: Draft) -> None:
        self._by_length: dict[str, dict[tuple[int, int], dict[int, SubnetItem]]] = {}
        self._draft = draft
        self._ways = _ways_out(draft)
        self._external = [name for name, network in draft.networks.items() if network.shape.external]
        for network, subnets in draft.subnets_by_network.items():
            lengths = self._by_length.setdefault(network, {})
            for subnet in subnets:
                cidr = subnet.shape.cidr
                shift = cidr.max_prefixlen - cidr.prefixlen
                lengths.setdefault((cidr.version, shift), {}).setdefault(int(cidr.network_address) >> shift, subnet)

    def of(self, network: str, address: Address) -> SubnetItem | None:
        """The subnet of a network that holds the address."""
        for (version, shift), starts in self._by_length.get(network, {}).items():
            subnet = starts.get(int(address) >> shift) if version == address.version else None
            if subnet is not None:
                return subnet
        return None

    def of_floating(self, fip: Item[FloatingIpShape]) -> SubnetItem | None:
        """The subnet of an external network that holds a floating IP; of several the one that a router joins to it."""
        found = [home for name in self._external if (home := self.of(name, floating_address(fip)))]
        inside = fixed_network(self._draft, fip) if len(found) > 1 else None
        return next((home for home in found if inside and self.leads(home.network, inside, None)),
                    found[0] if found else None)

    def leads(self, external: str, network: str, address: Address | None) -> bool:
        """Whether a router joins an external network and the subnet of an address in another network.

        Without an address: any subnet of it.
        """
        subnets = self._ways.get((external, network), set())
        home = self.of(network, address) if address is not None else None
        return home.name in subnets if home is not None else bool(subnets)

    def claims(self) -> Iterator[Claim]:
        """Every address that the file gives away, in networks whose subnets are all known."""
        for port in self._draft.ports:
            address = pinned_ip(port)
            if address is not None and is_judged(self._draft, port.shape.network):
                yield self._of_port(port, address)
        for leg in self._draft.legs:
            if leg.ip is not None and leg.network is not None and is_judged(self._draft, leg.network):
                yield self._of_leg(leg, leg.network, leg.ip)
        for fip in self._draft.floating_ips.values():
            yield from self._of_floating_ip(fip)

    def _of_port(self, port: PortItem, address: Address) -> Claim:
        network = port.shape.network
        return Claim((network, address), port.path, port.at("ip"), self.of(network, address), self._cidrs(network))

    def _of_leg(self, leg: Leg, network: str, address: Address) -> Claim:
        if leg.subnet is None:
            return Claim((network, address), leg.path, leg.ip_at, self.of(network, address), self._cidrs(network))
        own = self._draft.subnets[leg.subnet]
        home = own if address in own.shape.cidr else None
        return Claim((network, address), leg.path, leg.ip_at, home, (own.shape.cidr,), True)

    def _of_floating_ip(self, fip: Item[FloatingIpShape]) -> Iterator[Claim]:
        address, home = floating_address(fip), self.of_floating(fip)
        if home is not None:
            yield Claim((home.network, address), fip.path, fip.at(), home, (home.shape.cidr,))

    def _cidrs(self, network: str) -> tuple[Prefix, ...]:
        return tuple(subnet.shape.cidr for subnet in self._draft.subnets_by_network[network][:8])


def _ways_out(draft: Draft) -> dict[tuple[str, str], set[str]]:
    """(external network, another network) -> the subnets of the latter that some router joins to the former."""
    found: dict[tuple[str, str], set[str]] = {}
    for router in draft.routers.values():
        gateway = router.shape.gateway
        for interface in router.shape.interfaces if gateway else ():
            subnet = draft.subnets.get(interface.subnet)
            if subnet is not None and gateway is not None:
                found.setdefault((gateway.network, subnet.network), set()).add(subnet.name)
    return found


def fixed_network(draft: Draft, fip: Item[FloatingIpShape]) -> str | None:
    """The network a floating IP leads to; without `network` in the file it is that of the VM's first port."""
    if fip.shape.network is not None:
        return fip.shape.network
    vm = draft.vms.get(fip.shape.vm)
    if vm is None:
        return None
    ports = vm.shape.ports if isinstance(vm.shape, VmShape) else [vm.shape]
    return next((port.network for port in ports), None)


def pinned_ip(port: PortItem) -> Address | None:
    """The address the file gives a port; None if we are to choose it."""
    return None if isinstance(port.shape.ip, str) else port.shape.ip


def floating_address(fip: Item[FloatingIpShape]) -> Address:
    """The address of a floating IP, which is its key in the file."""
    return ip_address(fip.name)


def is_judged(draft: Draft, network: str) -> bool:
    """Whether the network exists and all its subnets are known."""
    return network in draft.networks and network not in draft.unsure
