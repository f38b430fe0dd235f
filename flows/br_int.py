"""The flows of br-int: classify, anti-spoof, deliver.

A VM's frame is tagged with its network's local VLAN, must show its own addresses, passes a router of this host if it
is for one (flows.routed), and is handed to a local port, to br-tun or to a provider bridge. Nothing is output that a
flow of this module does not name: there is no NORMAL.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from flows import fields as f
from flows import routed
from flows.fields import Criterion, tagged
from flows.flow import ANY, Action, Flow, Goto, Output, PopVlan, PushVlan, SetField, flow, when
from flows.host import Device, Host, Identity, Neighbour, Network, Port, Segment, wearers
from flows.tables import ARP_SPOOF, CANARY, CLASSIFY, DELIVER, MAC_SPOOF, ROUTER, Table

_PIPELINE: Final = "pipeline"
_DHCP_CLIENT, _DHCP_SERVER = 68, 67  # RFC 2131, 4.1
_UNSPECIFIED4, _UNSPECIFIED6 = "0.0.0.0", "::"
_EVERY_IPV6: Final = IPv6Network("::/0")
_ND_SOLICITATION = 135  # RFC 4861, 4.3
_ROUTER_SOLICITATION = 133
_MLD_REPORT2 = 143  # RFC 3810: sent before an address is confirmed


def base(host: Host) -> Iterator[Flow]:
    """What br-int holds whatever its networks are."""
    yield flow(CANARY, "miss", ANY, origin=_PIPELINE, why="nothing goes here; it is gone when the switch restarted")
    yield flow(CLASSIFY, "miss", ANY, origin=_PIPELINE, why="a port that the topology does not know reaches nobody")
    if host.patch_tun is not None:
        yield flow(CLASSIFY, "admit", when(f.IN_PORT(host.patch_tun)), Goto(ROUTER),
                   origin=_PIPELINE, why="from br-tun, already tagged with the local VLAN")
    for bridge in host.providers:
        if bridge.int_port is not None:
            yield flow(CLASSIFY, "tagged", when(f.IN_PORT(bridge.int_port)),
                       origin=_PIPELINE, why=f"no network of this host has that VLAN on {bridge.name}")
    yield flow(ARP_SPOOF, "miss", ANY, Goto(MAC_SPOOF), origin=_PIPELINE, why="it claims no address")
    yield flow(MAC_SPOOF, "miss", ANY, origin=_PIPELINE, why="it wears a MAC or an IP address that is not its own")
    yield from routed.base()
    yield flow(DELIVER, "miss", ANY, origin=_PIPELINE, why="no network of this host has this VLAN")


def network(host: Host, net: Network) -> Iterator[Flow]:
    """What br-int holds for one network."""
    for port in net.ports:
        yield from _classify(net, port)
        for identity in port.identities:
            yield from _own_claims(port, identity)
            yield from _own_source(port, identity)
        if port.identities:
            yield from _foreign_claims(port)
    for device in net.devices:
        yield from _admit(net, device, f"{device.name} is attached to {net.name}", ROUTER)
    if net.segment is not None:
        yield from _from_provider(net, net.segment)
    yield from _deliver_known(host, net)
    yield from _deliver_group(host, net)
    yield from _deliver_unknown(host, net)


def _classify(net: Network, port: Port) -> Iterator[Flow]:
    if port.identities:
        yield from _admit(net, port, f"{port.name} is attached to {net.name}", ARP_SPOOF)
    else:
        yield from _admit(net, port, f"{port.name} is attached to {net.name}, port security off", ROUTER)


def _admit(net: Network, port: Port | Device, why: str, onward: Table) -> Iterator[Flow]:
    yield flow(CLASSIFY, "admit", when(f.IN_PORT(port.ofport), f.UNTAGGED),
               PushVlan(), SetField(tagged(net.vlan)), Goto(onward), origin=port.origin, why=why)
    yield flow(CLASSIFY, "tagged", when(f.IN_PORT(port.ofport)),
               origin=port.origin, why=f"{port.name} may not choose a VLAN itself")


def _from_provider(net: Network, segment: Segment) -> Iterator[Flow]:
    """Frames of the network's own VLAN on its physical network, in exchange for the local one."""
    bridge = segment.bridge
    if bridge.int_port is None:
        return
    came, tag = f.IN_PORT(bridge.int_port), (SetField(tagged(net.vlan)), Goto(ROUTER))
    if segment.vlan is None:
        yield flow(CLASSIFY, "admit", when(came, f.UNTAGGED), PushVlan(), *tag, origin=net.origin,
                   why=f"untagged on {bridge.name} is {net.name}, here VLAN {net.vlan}")
    else:
        yield flow(CLASSIFY, "admit", when(came, tagged(segment.vlan)), *tag, origin=net.origin,
                   why=f"VLAN {segment.vlan} on {bridge.name} is {net.name}, here VLAN {net.vlan}")


def _own_claims(port: Port, identity: Identity) -> Iterator[Flow]:
    """ARP and neighbour advertisements in which the port speaks of itself."""
    def own(kind: str, *criteria: Criterion) -> Flow:
        return flow(ARP_SPOOF, "own", when(f.IN_PORT(port.ofport), *criteria), Goto(MAC_SPOOF),
                    origin=port.origin, why=f"{port.name} {kind}")

    sender = (f.ETH_TYPE(f.ARP), f.ARP_SHA(identity.mac))
    # RFC 5227, 1.1: a probe claims nothing, it asks whether an address is free.
    yield own("probes whether an address is free", *sender, f.ARP_OP(f.ARP_REQUEST), f.ARP_SPA(_UNSPECIFIED4))
    for address in _of_version(identity, 4):
        yield own("claims its own IP address by ARP", *sender, f.ARP_SPA(address))
    for target in _ipv6(identity):
        yield own("claims its own IPv6 address", *_advertisement(), f.ND_TARGET(target))


def _foreign_claims(port: Port) -> Iterator[Flow]:
    yield flow(ARP_SPOOF, "foreign", when(f.IN_PORT(port.ofport), f.ETH_TYPE(f.ARP)),
               origin=port.origin, why=f"{port.name} claims an IP address that is not its own")
    if _EVERY_IPV6 not in (address for identity in port.identities for address in identity.addresses):
        yield flow(ARP_SPOOF, "foreign", when(f.IN_PORT(port.ofport), *_advertisement()),
                   origin=port.origin, why=f"{port.name} claims an IPv6 address that is not its own")


def _own_source(port: Port, identity: Identity) -> Iterator[Flow]:
    """Frames that wear the port's own MAC, and inside it the port's own IP address."""
    def own(what: str, *criteria: Criterion) -> Flow:
        return flow(MAC_SPOOF, "own", when(f.IN_PORT(port.ofport), f.ETH_SRC(identity.mac), *criteria), Goto(ROUTER),
                    origin=port.origin, why=f"{port.name} {what}")

    yield own("asks or answers with its own MAC", f.ETH_TYPE(f.ARP))
    # QEMU announces a migrated guest by RARP (migration.c, qemu_announce_self).
    yield own("announces where it lives now", f.ETH_TYPE(f.RARP))
    for address in _of_version(identity, 4):
        yield own("speaks with its own MAC and IP address", f.ETH_TYPE(f.IPV4), f.IPV4_SRC(address))
    yield own("asks for an IP address", f.ETH_TYPE(f.IPV4), f.IPV4_SRC(_UNSPECIFIED4), f.IP_PROTO(f.UDP),
              f.UDP_SRC(_DHCP_CLIENT), f.UDP_DST(_DHCP_SERVER))
    for source in _ipv6(identity):
        yield own("speaks with its own MAC and IPv6 address", f.ETH_TYPE(f.IPV6), f.IPV6_SRC(source))
    for kind in (_ROUTER_SOLICITATION, _ND_SOLICITATION, _MLD_REPORT2):
        yield own("looks around before it has an IPv6 address", f.ETH_TYPE(f.IPV6), f.IPV6_SRC(_UNSPECIFIED6),
                  f.IP_PROTO(f.ICMPV6), f.ICMPV6_TYPE(kind))


def _deliver_known(host: Host, net: Network) -> Iterator[Flow]:
    """Unicast for a MAC that a port of this host may wear."""
    elsewhere = wearers(net.neighbours)
    for mac, ports in wearers(net.here).items():
        others = elsewhere.get(mac, [])
        yield flow(DELIVER, "known", when(tagged(net.vlan), f.ETH_DST(mac)), *(_away(host, net) if others else ()),
                   *_here(ports), origin=ports[0].origin, why=_whose(mac, ports, others))


def _whose(mac: str, ports: Sequence[Port | Device], others: list[Neighbour]) -> str:
    if mac == ports[0].mac and len(ports) + len(others) == 1:
        return f"{ports[0].name} lives on this host"
    names = sorted([*(port.name for port in ports), *(other.name for other in others)])
    return f"{', '.join(names)} may wear this MAC"


def _deliver_group(host: Host, net: Network) -> Iterator[Flow]:
    # The tag is still on for br-tun (or a provider bridge) and off for the VMs, so that comes first.
    yield flow(DELIVER, "flood", when(tagged(net.vlan), f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)),
               *_away(host, net), *_here(net.here),
               origin=net.origin, why=f"broadcast and multicast go to all of {net.name}, here and elsewhere")


def _deliver_unknown(host: Host, net: Network) -> Iterator[Flow]:
    """Unicast for somebody who does not live here; MACs that nobody knows live behind ports without port security."""
    away, unguarded = _away(host, net), [port for port in net.ports if not port.identities]
    if not unguarded:
        if away:
            where = "br-tun may know where it lives in" if net.segment is None else "it may live elsewhere in"
            yield flow(DELIVER, "unknown", when(tagged(net.vlan)), *away, origin=net.origin,
                       why=f"not on this host: {where} {net.name}")
        return
    names, here = ", ".join(sorted(port.name for port in unguarded)), wearers(net.here)
    yield flow(DELIVER, "unknown", when(tagged(net.vlan)), *away, *_here(unguarded), origin=net.origin,
               why=f"an unknown MAC of {net.name} may live elsewhere or behind {names}, which has port security off")
    for mac, neighbours in wearers(net.neighbours).items():
        if away and mac not in here:
            yield flow(DELIVER, "known", when(tagged(net.vlan), f.ETH_DST(mac)), *away, origin=neighbours[0].origin,
                       why=f"{neighbours[0].name} lives on {neighbours[0].remote}, not behind {names}")


def _away(host: Host, net: Network) -> tuple[Action, ...]:
    """To the network's other hosts: through br-tun, or over the physical network that it is on."""
    port = host.patch_tun if net.segment is None else net.segment.bridge.int_port
    return () if port is None else (Output(port),)


def _here(ports: Iterable[Port | Device]) -> tuple[Action, ...]:
    """To these ports, as the VMs sent it: without the tag."""
    outputs = [Output(ofport) for ofport in sorted(port.ofport for port in ports)]
    return (PopVlan(), *outputs) if outputs else ()


def _advertisement() -> tuple[Criterion, ...]:
    return f.ETH_TYPE(f.IPV6), f.IP_PROTO(f.ICMPV6), f.ICMPV6_TYPE(f.ND_NEIGHBOR_ADVERTISEMENT)


def _of_version(identity: Identity, version: int) -> Iterator[IPv4Network | IPv6Network]:
    return (address for address in identity.addresses if address.version == version)


def _ipv6(identity: Identity) -> Iterable[IPv4Network | IPv6Network]:
    """The IPv6 addresses of a MAC, each once: an address pair may spell out the link-local one."""
    return dict.fromkeys((ip_network(link_local(identity.mac)), *_of_version(identity, 6)))


def link_local(mac: str) -> IPv6Address:
    """The link-local address of a MAC (RFC 4291, appendix A: modified EUI-64)."""
    octets = [int(part, 16) for part in mac.split(":")]
    octets[0] ^= 0x02
    suffix = bytes([*octets[:3], 0xFF, 0xFE, *octets[3:]])
    return IPv6Address(b"\xfe\x80" + bytes(6) + suffix)
