"""The way from a VM to br-int: tap, qbr, qvb and qvo with the hybrid firewall, else the tap itself.

On a real host the tap is libvirt's and is only plugged in; in the lab it is a veth whose other end is the
VM's own interface.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from controller.host.devices import GIVEN, MARK, FarEnd, Link, OvsPort
from controller.model import names
from controller.model.topology import Port, Topology


def ports_of(topology: Topology, host: str) -> tuple[Port, ...]:
    """The VM ports that live on a host, in the order of the file."""
    return tuple(port for port in topology.ports() if port.host == host)


def ovs_port(topology: Topology, port: Port) -> OvsPort:
    """The VM's port on br-int, labelled as Nova labels it, so that other tools know it, too."""
    labels = (("iface-id", str(port.id)), ("attached-mac", port.mac), ("iface-status", "active"),
              (MARK, topology.cloud))
    return OvsPort(port.device, "br-int", external_ids=labels)


def links(topology: Topology, port: Port, *, lab: bool) -> Iterator[Link]:
    """The devices between the VM and br-int; with `lab` they reach into the VM's namespace."""
    mtu = topology.mtu_of(port.network)
    mark = f"{MARK}:{topology.cloud}"
    near = _tap(port, topology.has_qbr())
    if lab:
        tap = Link(near, "veth", mtu, far=FarEnd(port.vm, port.interface, port.mac), alias=mark)
    else:
        tap = Link(near, GIVEN, mtu)
    if not topology.has_qbr():
        yield from (tap,) if lab else ()
        return
    qbr, qvb = names.device("qbr", port.id), names.device("qvb", port.id)
    yield Link(qbr, "bridge", mtu, alias=mark)
    yield Link(qvb, "veth", mtu, peer=port.device, master=qbr, alias=mark)
    yield Link(port.device, "veth", mtu, peer=qvb, alias=mark)
    yield replace(tap, master=qbr)


def _tap(port: Port, hybrid: bool) -> str:
    return names.device("tap", port.id) if hybrid else port.device
