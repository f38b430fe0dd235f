"""From a draft without errors to the values of a topology: every default filled in, every name resolved."""
from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from uuid import UUID

from controller.model import names, providers
from controller.model.allotting import Allotment
from controller.model.check_rules import ethertype_of
from controller.model.claims import Homes, fixed_network, floating_address, pinned_ip
from controller.model.draft import Draft, Group, Item, Leg, PortItem, SubnetItem
from controller.model.schema import HostShape, NetworkShape, PairShape, RouterShape, RouteShape, RuleShape
from controller.model.topology import (
    Address,
    AddressPair,
    AllocationPool,
    FloatingIp,
    Host,
    Network,
    Port,
    Route,
    Router,
    RouterGateway,
    RouterInterface,
    SecurityGroup,
    SecurityRule,
    Subnet,
    Topology,
    Tunnel,
    Underlay,
    Vm,
    port_device,
)

TUNNEL_PORTS = {"vxlan": 4789, "geneve": 6081, "gre": None}  # IANA's


def resolve(draft: Draft, source: str, allotment: Allotment) -> Topology:
    """The topology that a draft describes, with the addresses that were given out."""
    assert draft.underlay is not None
    assert draft.tunnel is not None
    kind, options = draft.tunnel.shape.type, draft.options
    needed, addresses = providers.needed(draft), allotment.addresses
    return Topology(
        cloud=draft.cloud,
        source=source,
        underlay=Underlay(draft.underlay.shape.cidr, draft.underlay.shape.mtu),
        tunnel=Tunnel(kind, None if kind == "gre" else draft.tunnel.shape.port or TUNNEL_PORTS[kind]),
        forwarding=str(options["forwarding"]),
        arp_responder=bool(options["arp_responder"]),
        firewall=str(options["firewall"]),
        mac_aging_time=int(str(options["mac_aging_time"])),
        hosts={host.name: _host(draft, host, needed.get(host.name, [])) for host in draft.hosts.values()},
        networks={network.name: _network(draft, network, allotment.servers) for network in draft.networks.values()},
        routers=_routers(draft, addresses),
        floating_ips=_floating_ips(draft),
        security_groups={group.name: _group(group) for group in draft.groups.values()},
        vms=_vms(draft, addresses),
    )


def _host(draft: Draft, host: Item[HostShape], physical: list[str]) -> Host:
    pinned, bridges = host.shape.datapath_ids or {}, providers.mappings(host, physical)
    ids = {bridge: pinned.get(bridge) or names.datapath_id(draft.cloud, host.name, bridge)
           for bridge in (*names.BRIDGES, *bridges.values())}
    return Host(host.name, host.shape.tunnel_ip, host.shape.role, ids, host.line, bridges)


def _network(draft: Draft, network: Item[NetworkShape], servers: Mapping[str, Address]) -> Network:
    shape = network.shape
    physical = providers.physical_network(shape)
    kind = shape.network_type or ("vlan" if shape.segmentation_id else "flat") if physical else None
    return Network(
        name=network.name, id=shape.id or draft.object_id(f"networks/{network.name}"), tunnel_id=shape.tunnel_id,
        external=shape.external,
        subnets=tuple(_subnet(subnet, servers.get(subnet.name)) for subnet in draft.subnets_by_network[network.name]),
        line=network.line, physical_network=physical, network_type=kind,
        segmentation_id=shape.segmentation_id if physical else None)


def _subnet(subnet: SubnetItem, server: Address | None) -> Subnet:
    shape = subnet.shape
    return Subnet(
        name=subnet.name, id=subnet.id, network=subnet.network, cidr=shape.cidr, gateway=shape.gateway, dhcp=shape.dhcp,
        dns=tuple(shape.dns), line=subnet.line, host_routes=tuple(_route(route) for route in shape.host_routes),
        allocation_pools=tuple(AllocationPool(pool.start, pool.end) for pool in shape.allocation_pools),
        dhcp_address=server)


def _route(route: RouteShape) -> Route:
    return Route(route.destination, route.nexthop)


def _routers(draft: Draft, addresses: Mapping[UUID, Address]) -> dict[str, Router]:
    legs: dict[str, list[Leg]] = {}
    for leg in draft.legs:
        legs.setdefault(leg.router, []).append(leg)
    return {name: _router(draft, router, legs.get(name, []), addresses) for name, router in draft.routers.items()}


def _router(draft: Draft, router: Item[RouterShape], legs: list[Leg], addresses: Mapping[UUID, Address]) -> Router:
    gateway = router.shape.gateway
    out = next((leg for leg in legs if leg.subnet is None), None)
    return Router(
        name=router.name, id=router.shape.id or draft.object_id(f"routers/{router.name}"), host=router.shape.host,
        driver=router.shape.driver,
        interfaces=tuple(RouterInterface(leg.subnet, leg.ip, leg.id, leg.mac)
                         for leg in legs if leg.subnet is not None and leg.ip is not None),
        gateway=RouterGateway(gateway.network, out.ip or addresses[out.id], gateway.snat, out.id, out.mac)
        if gateway is not None and out is not None else None,
        routes=tuple(_route(route) for route in router.shape.routes), line=router.line)


def _floating_ips(draft: Draft) -> tuple[FloatingIp, ...]:
    homes = Homes(draft)
    found = []
    for fip in draft.floating_ips.values():
        home = homes.of_floating(fip)
        assert home is not None  # or there had been a TB312
        fixed = fixed_network(draft, fip) or ""
        found.append(FloatingIp(floating_address(fip), fip.shape.vm, fixed, fip.line, home.network))
    return tuple(found)


def _group(group: Group) -> SecurityGroup:
    return SecurityGroup(group.name, group.id, tuple(_rule(rule) for rule in group.rules), group.node.place.line)


def _rule(rule: Item[RuleShape]) -> SecurityRule:
    shape, ethertype = rule.shape, ethertype_of(rule.shape)
    # As Neutron does: icmp in an IPv6 rule means icmpv6.
    protocol = "icmpv6" if shape.protocol == "icmp" and ethertype == "IPv6" else shape.protocol
    return SecurityRule(shape.direction, ethertype, protocol, shape.port, shape.icmp_type, shape.icmp_code,
                        shape.remote, shape.remote_group, rule.line, rule.path)


def _vms(draft: Draft, addresses: Mapping[UUID, Address]) -> dict[str, Vm]:
    homes, firewall = Homes(draft), str(draft.options["firewall"])
    ports: dict[str, list[Port]] = {}
    for item in draft.ports:
        ports.setdefault(item.vm, []).append(_port(item, firewall, homes, addresses))
    return {vm.name: Vm(vm.name, vm.shape.host, tuple(ports.get(vm.name, ())), vm.line) for vm in draft.vms.values()}


def _port(item: PortItem, firewall: str, homes: Homes, addresses: Mapping[UUID, Address]) -> Port:
    shape = item.shape
    address = pinned_ip(item) or addresses[item.id]
    subnet = homes.of(shape.network, address)
    assert subnet is not None  # or there had been a TB307
    return Port(
        name=item.name, path=item.path, id=item.id, vm=item.vm, index=item.index, host=item.host, network=shape.network,
        subnet=subnet.name, ip=address, mac=item.mac, dhcp=shape.ip == "dhcp", port_security=shape.port_security,
        security_groups=tuple(shape.security_groups),
        allowed_address_pairs=tuple(_pair(pair, item.mac) for pair in shape.allowed_address_pairs),
        device=shape.device or port_device(firewall, item.id), line=item.node.place.line)


def _pair(pair: PairShape, mac: str) -> AddressPair:
    return AddressPair(ip_network(pair.ip), pair.mac or mac)
