"""The flows of provider bridges (br-ex and its like): local VLAN to a physical network's VLAN, and out of its cards.

The way in is only passed on; br-int says which VLAN of the physical network is which network. What nobody named is
dropped: there is no NORMAL.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from flows import fields as f
from flows.fields import tagged
from flows.flow import ANY, Action, Flow, Output, PopVlan, SetField, flow, when
from flows.host import Host, Network, ProviderBridge
from flows.tables import pipeline

_PIPELINE: Final = "pipeline"


def base(host: Host) -> Iterator[Flow]:
    """What the provider bridges hold whatever the networks on them are."""
    for bridge in host.providers:
        translate = pipeline(bridge.name)[0]
        yield flow(translate, "miss", ANY, origin=_PIPELINE, why="neither a network of this host nor from outside")
        for uplink in bridge.uplinks:
            yield from _let(bridge, uplink, (bridge.phy_port, bridge.local), "from outside, for this host")
        if bridge.local is not None:
            yield from _let(bridge, bridge.local, (*bridge.uplinks, bridge.phy_port), "from the host itself")


def _let(bridge: ProviderBridge, came: int, to: tuple[int | None, ...], why: str) -> Iterator[Flow]:
    outputs = [Output(port) for port in to if port is not None]
    if outputs:
        yield flow(pipeline(bridge.name)[0], "host", when(f.IN_PORT(came)), *outputs, origin=_PIPELINE, why=why)


def network(net: Network) -> Iterator[Flow]:
    """What its provider bridge holds for one network: nothing if it is on none."""
    if net.segment is None:
        return
    bridge, vlan = net.segment.bridge, net.segment.vlan
    ports = (*bridge.uplinks, *(() if bridge.local is None else (bridge.local,)))
    if bridge.phy_port is None or not ports:
        return
    tag: Action = PopVlan() if vlan is None else SetField(tagged(vlan))
    there = "untagged" if vlan is None else f"VLAN {vlan}"
    yield flow(pipeline(bridge.name)[0], "known", when(f.IN_PORT(bridge.phy_port), tagged(net.vlan)), tag,
               *map(Output, ports), origin=net.origin, why=f"{net.name}, here VLAN {net.vlan}, is {there} outside")
