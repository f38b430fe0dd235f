"""The flows of a VM's port: printed where it is as nearly all ports are, with one MAC and one IP address of its own."""
from __future__ import annotations

from functools import cache, partial
from ipaddress import ip_network
from typing import Final, NamedTuple

from flows import br_int
from flows import fields as f
from flows.fields import tagged
from flows.flow import Flow
from flows.host import Filter, Host, Identity, Network, Port, Prefix, Tunnels
from flows.port_security import link_local
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
                str(link_local(self.mac)), f.VLAN_VID.show(tagged(self.vlan).value), f.REG_ZONE.show(self.zone),
                f.REG_PROFILE.show(self.profile))


# Such as no flow has by itself. That is looked at when a stencil is made.
_MODELS: Final = {version: (_Numbers(0xF1E2D3C4, "f2:9b:5d:c1:7e:43", ip_network(one), 4094, 0xA1B2C3D4, 0x9F8E7D6C),
                            _Numbers(0xE7D6C5B4, "e6:47:b1:3a:d8:0f", ip_network(other), 4093, 0x8A9BACBD, 0x7C6D5E4F))
                  for version, one, other in ((_IPV4, "198.51.100.217", "203.0.113.149"),
                                              (6, "2001:db8:5a:7::d9", "2001:db8:c3::4e1"))}


def port(host: Host, net: Network, plug: Port) -> tuple[Part, ...]:
    """What br-int holds for one port, whatever else is on its network."""
    make = partial(br_int.port, host, net, plug)
    if not _is_plain(plug):
        return tuple(make())
    (identity,) = plug.identities
    zone, profile = (plug.filter.zone, plug.filter.profile) if plug.filter else (0, 0)
    numbers = _Numbers(plug.ofport, plug.mac, identity.addresses[0], net.vlan, zone, profile)
    stencil = _stencil(host.firewall, plug.filter is not None, identity.addresses[0].version)
    return (Print(stencil, numbers, make),)


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
    host = Host("", None, None, "", Tunnels(), (), l2population=False, arp_responder=False, mac_aging_time=0,
                firewall=firewall)

    def flows(numbers: _Numbers) -> tuple[Flow, ...]:
        plug = Port("", "", numbers.ofport, numbers.mac, (Identity(numbers.mac, (numbers.address,)),),
                    Filter(numbers.zone, numbers.profile) if filtered else None)
        return tuple(br_int.port(host, Network("", "", numbers.vlan, None, (plug,), Tunnels(), ()), plug))

    first, second = _MODELS[version]
    return Stencil(flows(first), flows(second), (first, second))
