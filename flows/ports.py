"""The flows of a VM's port: printed where it is as nearly all ports are, with one MAC and one IP address of its own."""
from __future__ import annotations

from functools import cache, partial
from ipaddress import ip_network
from typing import Final, NamedTuple

from flows import br_int, models
from flows import fields as f
from flows.fields import tagged
from flows.flow import Flow
from flows.host import Host, Network, Port, Prefix, Tunnels
from flows.port_security import link_local, link_local_text
from flows.sheet import Part
from flows.stencil import Print, Stencil

_IPV4: Final = 4


class _Numbers(NamedTuple):
    """All that the flows of two ports can differ in."""

    ofport: int
    mac: str
    address: Prefix
    vlan: int
    zone: int
    profile: int

    def texts(self) -> tuple[str, ...]:
        """As they are written in flows."""
        return (str(self.ofport), f.REG_OUT_PORT.show(self.ofport), self.mac, str(self.address.network_address),
                link_local_text(self.mac), f.VLAN_VID.show(tagged(self.vlan).value), f.REG_ZONE.show(self.zone),
                f.REG_PROFILE.show(self.profile))

    def octets(self) -> tuple[bytes, ...]:
        """As they are written in messages."""
        address, mac = self.address.network_address, bytes.fromhex(self.mac.replace(":", ""))
        return (self.ofport.to_bytes(4), mac, address.packed, link_local(self.mac).packed,
                tagged(self.vlan).value.to_bytes(2), self.zone.to_bytes(4), self.profile.to_bytes(4))


_ADDRESSES: Final = {_IPV4: ("198.51.100.217", "203.0.113.149"), 6: ("2001:db8:5a:7::d9", "2001:db8:c3::4e1")}


def port(host: Host, net: Network, plug: Port) -> tuple[Part, ...]:
    """What br-int holds for one port, whatever else is on its network."""
    make = partial(br_int.port, host, net, plug)
    if not _is_plain(plug):
        return tuple(make())
    stencil = _stencil(host.firewall, plug.filter is not None, plug.identities[0].addresses[0].version)
    return (Print(stencil, _numbers(net, plug), make),)


def _numbers(net: Network, plug: Port) -> _Numbers:
    zone, profile = (plug.filter.zone, plug.filter.profile) if plug.filter else (0, 0)
    return _Numbers(plug.ofport, plug.mac, plug.identities[0].addresses[0], net.vlan, zone, profile)


def _is_plain(plug: Port) -> bool:
    """Whether it has one MAC and, beside the link-local one, one address, and a number."""
    if len(plug.identities) != 1 or plug.ofport == f.LOCAL_PORT:
        return False
    (identity,) = plug.identities
    if identity.mac != plug.mac or len(identity.addresses) != 1:
        return False
    address = identity.addresses[0]
    return address.prefixlen == address.max_prefixlen and (
        address.version == _IPV4 or address.network_address != link_local(plug.mac))


@cache
def _stencil(firewall: str, filtered: bool, version: int) -> Stencil:
    """Of the plain ports of a firewall."""
    def made(which: int) -> tuple[tuple[Flow, ...], _Numbers]:
        plug = models.port(which, ip_network(_ADDRESSES[version][which]), filtered=filtered)
        net = Network("", "", models.VLANS[which], None, (plug,), Tunnels(), ())
        return tuple(br_int.port(models.bare(firewall), net, plug)), _numbers(net, plug)

    return Stencil(made(0), made(1))
