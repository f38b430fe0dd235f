"""The flows of br-int: who sent this, and with which local VLAN it goes on.

A VM's frame is tagged with its network's local VLAN, must show its own addresses (flows.port_security), leaves as its
security groups allow (flows.security), passes a router of this host if it is for one (flows.routed), and is handed to
a local port, to br-tun or to a provider bridge (flows.delivery). Nothing is output that a flow of these modules does
not name: there is no NORMAL.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Final

from flows import delivery, port_security, routed, rules, security
from flows import fields as f
from flows.fields import Criterion, tagged
from flows.flow import ANY, Action, Flow, Goto, PushVlan, SetField, flow, when
from flows.host import Device, Host, Network, Port, Segment, wearers
from flows.neighbours import Neighbour
from flows.sheet import Part, Sheet
from flows.tables import ARP_SPOOF, CANARY, CLASSIFY, ROUTER

_PIPELINE: Final = "pipeline"


def base(host: Host) -> Iterator[Flow]:
    """What br-int holds whatever its networks are."""
    yield from _constant(host.firewall)
    if host.patch_tun is not None:
        yield flow(CLASSIFY, "admit", when(f.IN_PORT(host.patch_tun)), Goto(ROUTER),
                   origin=_PIPELINE, why="from br-tun, already tagged with the local VLAN")
    for bridge in host.providers:
        if bridge.int_port is not None:
            yield flow(CLASSIFY, "tagged", when(f.IN_PORT(bridge.int_port)),
                       origin=_PIPELINE, why=f"no network of this host has that VLAN on {bridge.name}")


@cache
def _constant(firewall: str) -> tuple[Flow, ...]:
    """Of these, the same flows on every host."""
    return (flow(CANARY, "miss", ANY, origin=_PIPELINE, why="nothing goes here; it is gone when the switch restarted"),
            flow(CLASSIFY, "miss", ANY, origin=_PIPELINE, why="a port that the topology does not know reaches nobody"),
            *port_security.base(), *routed.base(), *delivery.base(), *security.base(firewall))


def port(host: Host, net: Network, plug: Port) -> Iterator[Flow]:
    """What br-int holds for one port, whatever else is on its network."""
    yield from _classify(host, net, plug)
    if plug.identities:
        yield from port_security.secured(plug, security.entry(host, plug))
    yield from security.denied(host, plug)


def network(host: Host, net: Network) -> Iterator[Part]:
    """What br-int holds for one network, but for its ports and the rules of its security groups."""
    for device in net.devices:
        yield from _admit(net, device, f"{device.name} is attached to {net.name}", (Goto(ROUTER),))
    if net.segment is not None:
        yield from _from_provider(host, net, net.segment)
    elif delivery.unguarded(net) and host.patch_tun is not None:
        yield from _from_tunnel(host, net, host.patch_tun)
    yield from delivery.network(host, net)


def groups(host: Host, net: Network) -> Iterator[Flow]:
    """The rules of the security groups of a network's ports here: none if Open vSwitch does not filter."""
    if host.firewall == security.OPENVSWITCH:
        yield from rules.network(net)


def _classify(host: Host, net: Network, port: Port) -> Iterator[Flow]:
    marks = security.leaving(host, port)
    if port.identities:
        yield from _admit(net, port, f"{port.name} is attached to {net.name}", (*marks, Goto(ARP_SPOOF)))
    else:
        learn = delivery.remember(host, port)
        yield from _admit(net, port, f"{port.name} is attached to {net.name}, port security off",
                          (*marks, learn, Goto(security.entry(host, port))))


def _admit(net: Network, port: Port | Device, why: str, then: tuple[Action, ...]) -> Iterator[Flow]:
    yield flow(CLASSIFY, "admit", when(f.IN_PORT(port.ofport), f.UNTAGGED),
               PushVlan(), SetField(tagged(net.vlan)), *then, origin=port.origin, why=why)
    yield flow(CLASSIFY, "tagged", when(f.IN_PORT(port.ofport)),
               origin=port.origin, why=f"{port.name} may not choose a VLAN itself")


def _from_provider(host: Host, net: Network, segment: Segment) -> Iterator[Flow]:
    """Frames of the network's own VLAN on its physical network, in exchange for the local one."""
    bridge = segment.bridge
    if bridge.int_port is None:
        return

    def admit(tag: Criterion, what: str, *push: Action) -> Flow:
        return flow(CLASSIFY, "admit", when(f.IN_PORT(bridge.int_port or 0), tag), *push, SetField(tagged(net.vlan)),
                    *_from_elsewhere(host, net), Goto(ROUTER), origin=net.origin,
                    why=f"{what} on {bridge.name} is {net.name}, here VLAN {net.vlan}")

    if segment.vlan is None:
        yield admit(f.UNTAGGED, "untagged", PushVlan())
    else:
        yield admit(tagged(segment.vlan), f"VLAN {segment.vlan}")


def _from_tunnel(host: Host, net: Network, patch_tun: int) -> Iterator[Part]:
    """Frames of a network whose MACs the topology does not all know."""
    came = (f.IN_PORT(patch_tun), tagged(net.vlan))
    yield flow(CLASSIFY, "relearn", when(*came), *_from_elsewhere(host, net), Goto(ROUTER), origin=net.origin,
               why=f"from another host that carries {net.name}: remember that its sender lives there")
    known = {mac: ones[0] for mac, ones in wearers(net.neighbours).items()}
    if known:
        model = flow(CLASSIFY, "named", when(*came, f.ETH_SRC(next(iter(known)))), Goto(ROUTER), origin="", why="")
        yield Sheet(model, f.ETH_SRC, f.numbers(list(known)),
                    partial(_lives, tuple(known.values())))


def _lives(neighbours: Sequence[Neighbour], index: int) -> tuple[str, str]:
    one = neighbours[index]
    return one.origin, f"the topology says that {one.name} lives on {one.remote}"


def _from_elsewhere(host: Host, net: Network) -> tuple[Action, ...]:
    """Where a MAC may live behind a port here, remember which ones live elsewhere: a virtual address moves."""
    port = delivery.way_out(host, net)
    if port is None or not delivery.unguarded(net):
        return ()
    return (delivery.remember_away(host, net, port),)
