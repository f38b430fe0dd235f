"""Edits of a topology that may bring a packet to another subnet or outside: gateways, interfaces, routes, ports."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from controller.model.amending import Append, Edit, Put
from controller.model.topology import Address, Port, RouterPort, Subnet
from controller.tools.case import Case
from controller.tools.remedies import ATTACHMENT, FLOATING, GATEWAY, INTERFACE, ROUTE, Remedy


def there(case: Case) -> list[Remedy]:
    """What may bring the packet to whom is asked, if routers are needed and do not."""
    if case.source.ip.version != 4 or (case.asked is not None and case.asked.version != 4):
        return []
    if case.is_near() and not (case.hearer and case.hearer.subnet != case.source.subnet):
        return []
    found = list(_there(case)) if not case.is_near() else []
    if case.hearer is not None and case.floating is None and (found or case.is_near()):
        found += [*_attached(case), *_floating(case)]
    return found


def back(case: Case) -> list[Remedy]:
    """The same for the answer, where it is for the source's own address."""
    if case.hearer is None or case.is_outside or case.is_near() or case.seen_as() != case.source.ip:
        return []
    return list(_there(case.reversed()))


def outside(case: Case) -> list[Remedy]:
    """What may give the source an address that the world outside can answer."""
    leg = case.gateway()
    if not case.is_outside or leg is None or case.seen_as() != case.source.ip:
        return []
    router = case.topology.routers[case.way(leg.router).routers[-1]]
    if router.gateway is None or router.gateway.snat:
        return []
    on = Remedy(GATEWAY, f"let {router.name} translate addresses, so that answers find their way back",
                (Put(("routers", router.name, "gateway", "snat"), True),))
    return [on, *_floating_for(case, case.source, router.gateway.network)]


def _there(case: Case) -> Iterator[Remedy]:
    """Of the first thing that lacks on the way."""
    leg = case.gateway()
    if leg is None:
        yield from _gateways(case)
        return
    if case.arrives(case.way(leg.router)):
        return
    if case.is_outside:
        yield from _doors(case, leg.router)
        return
    assert case.hearer is not None
    yield from _interfaces(case, [leg.router], case.hearer.subnet)
    yield from _routes(case, leg.router)


# ---- the source's own gateway

def _gateways(case: Case) -> Iterator[Remedy]:
    subnet = case.subnet(case.source)
    for leg in case.legs_on(subnet.name):
        words = f"make {leg.ip}, which is {leg.name}, the gateway of {subnet.name}"
        yield Remedy(GATEWAY, words, (Put(("networks", subnet.network, "subnets", subnet.name, "gateway"),
                                          str(leg.ip)),))
        if isinstance(subnet.gateway, IPv4Address):
            yield Remedy(INTERFACE, f"give {leg.name} the address of the gateway, {subnet.gateway}",
                         _moved(case, leg, subnet.gateway))
    if not case.legs_on(subnet.name):
        routers = case.routers_towards()
        yield from _interfaces(case, routers, subnet.name)
        if not routers:
            yield from _new_router(case, subnet)


def _moved(case: Case, leg: RouterPort, address: Address) -> tuple[Edit, ...]:
    given = case.raw["routers"][leg.router]["interfaces"]
    names = [one if isinstance(one, str) else one["subnet"] for one in given]
    place = names.index(leg.subnet)
    before = {"subnet": given[place]} if isinstance(given[place], str) else given[place]
    return (Put(("routers", leg.router, "interfaces", place), {**before, "ip": str(address)}),)


def _new_router(case: Case, subnet: Subnet) -> Iterator[Remedy]:
    host = next((host.name for host in case.topology.hosts.values() if host.role == "network"), None)
    if host is None or case.hearer is None:
        return
    names = (f"{subnet.network}-router{n or ''}" for n in range(len(case.topology.routers) + 1))
    taken = {*case.topology.routers, *case.topology.vms, *case.topology.hosts}
    name = next(name for name in names if name not in taken)
    far = case.subnet(case.hearer)
    interfaces: list[Any] = [_interface(case, one) for one in (subnet, far)]
    yield Remedy(INTERFACE, f"make a router between {subnet.name} and {far.name}",
                 (Put(("routers", name), {"host": host, "interfaces": interfaces}),), joins=case.apart)


# ---- from router to router

def _interfaces(case: Case, routers: list[str], name: str) -> Iterator[Remedy]:
    subnet = case.topology.subnets[name]
    if not isinstance(subnet.cidr, IPv4Network):
        return
    for router in routers[:3]:
        made = _interface(case, subnet)
        at = f" as {made['ip']}" if isinstance(made, dict) else ""
        yield Remedy(INTERFACE, f"give {router} an interface on {name}{at}",
                     (Append(("routers", router, "interfaces"), made),), joins=case.apart)


def _interface(case: Case, subnet: Subnet) -> Any:
    """As the gateway of a subnet, if nobody is that; else beside it."""
    held: set[Address] = {leg.ip for leg in case.topology.legs_by_network.get(subnet.network, ())}
    held |= {port.ip for port in case.topology.ports_by_network.get(subnet.network, ())}
    if subnet.gateway is not None and subnet.gateway not in held:
        return subnet.name
    return {"subnet": subnet.name, "ip": str(next(case.free(subnet.name), ""))}


def _routes(case: Case, router: str) -> Iterator[Remedy]:
    """By way of another router that leads there and is a neighbour of this one."""
    assert case.hearer is not None
    own, towards = case.topology.legs_by_router[router], case.subnet(case.hearer).cidr
    for other in case.routers_towards():
        for leg in case.topology.legs_by_router[other] if other != router else ():
            if any(mine.network == leg.network and mine.subnet == leg.subnet for mine in own):
                yield Remedy(ROUTE, f"give {router} a route to {towards} by {leg.ip}, which is {leg.name}",
                             (Append(("routers", router, "routes"),
                                     {"destination": str(towards), "nexthop": str(leg.ip)}),), joins=case.apart)


def _doors(case: Case, router: str) -> Iterator[Remedy]:
    """Gateways to networks outside."""
    if case.topology.routers[router].gateway is not None:
        return
    for network in case.topology.networks.values():
        if network.external and any(isinstance(one.cidr, IPv4Network) for one in network.subnets):
            yield Remedy(GATEWAY, f"give {router} a gateway on {network.name}",
                         (Put(("routers", router, "gateway"), {"network": network.name}),))


# ---- other ways to meet

def _attached(case: Case) -> Iterator[Remedy]:
    """A port of the source's VM on the hearer's own subnet."""
    hearer, vm = case.hearer, case.source.vm
    assert hearer is not None
    subnet, cards = case.subnet(hearer), case.topology.vms[vm].ports
    if any(case.subnet(card).cidr.overlaps(subnet.cidr) for card in cards if card.ip.version == 4):
        return
    made = {"network": hearer.network, "ip": str(next(case.free(subnet.name), ""))}
    given, name = case.raw["vms"][vm], f"{vm}:eth{len(cards)}"
    words = f"give {vm} a port on {hearer.network}, {name}, and ask from there"
    if "ports" in given:
        yield Remedy(ATTACHMENT, words, (Append(("vms", vm, "ports"), made),), joins=case.apart, source=name)
        return
    # Its one port is to stay who it is, and its id and MAC come from where it stands in the file.
    first = {"id": str(case.source.id), "mac": case.source.mac, **given}
    del first["host"]
    yield Remedy(ATTACHMENT, words, (Put(("vms", vm), {"host": given["host"], "ports": [first, made]}),),
                 joins=case.apart, source=name)


def _floating(case: Case) -> Iterator[Remedy]:
    """An address outside for the hearer, where both have a way there."""
    assert case.hearer is not None
    here, there = (_way_out(case, port) for port in (case.source, case.hearer))
    if here and there and case.apart:
        yield from _floating_for(case, case.hearer, there, ask=True)


def _floating_for(case: Case, port: Port, network: str, *, ask: bool = False) -> Iterator[Remedy]:
    if any(case.topology.fixed_port(one) == port for one in case.topology.floating_ips):
        return
    for subnet in case.topology.networks[network].subnets:
        address = next(case.free(subnet.name), None)
        if isinstance(address, IPv4Address):
            words = f"give {port.name} the floating IP {address}{', and ask that' if ask else ''}"
            yield Remedy(FLOATING, words, (Put(("floating_ips", str(address)),
                                               {"vm": port.vm, "network": port.network}),),
                         target=str(address) if ask else "")
            return


def _way_out(case: Case, port: Port) -> str | None:
    """The network by which a port's router leads outside."""
    leg = replace(case, source=port).gateway()
    gateway = case.topology.routers[leg.router].gateway if leg is not None else None
    return gateway.network if gateway is not None else None
