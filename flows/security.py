"""Security groups by the `openvswitch` firewall: what leaves a filtered port, and what enters one.

Tables 71, 81 to 85. A packet from a VM passes them before it goes anywhere (REG_OUT_PORT is 0), a packet for a VM
before it is handed over, each time in the zone of connection tracking of that VM's own port. Rules are compared with
the first packet of the conversation that a packet belongs to, as connection tracking remembers it: the same rows judge
answers and related ICMP errors, and a rule that goes takes its conversations with it at the next packet.

With `iptables_hybrid`, the rules are on the tap; then these tables only keep out what iptables does not see.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from flows import fields as f
from flows.fields import Criterion, ct_state
from flows.flow import ANY, Action, Flow, Goto, OutputTo, PopVlan, Resubmit, SetField, Track, flow, when
from flows.host import Host, Port
from flows.tables import ACCEPTED, BASE_EGRESS, BASE_INGRESS, CONVERSATION, ONWARD, ROUTER, RULES, Table

OPENVSWITCH: Final = "openvswitch"
_NONE: Final = "none"
_PIPELINE: Final = "pipeline"
_IP_VERSIONS: Final = ((f.IPV4, "IPv4"), (f.IPV6, "IPv6"))
_DHCP_CLIENT, _DHCP_SERVER = 68, 67  # RFC 2131, 4.1
_DHCPV6_CLIENT, _DHCPV6_SERVER = 546, 547  # RFC 8415, 7.2
# What IPv6 does not work without: multicast listeners (130 to 132, 143: RFC 2710, 3810), neighbours and routers.
_LEAVES_FREELY: Final = (130, 131, 132, 133, 135, 136, 143)
_ENTERS_FREELY: Final = (130, 134, 135, 136)
# A lease goes to the address that it is for, or to all: these prefixes are every address that is not multicast.
_TO_ONE_OR_ALL: Final = ("0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3", "255.255.255.255")


def filtered(host: Host, port: Port) -> bool:
    """Whether security groups hold for a port."""
    return port.filter is not None and host.firewall != _NONE


def entry(host: Host, port: Port) -> Table:
    """Where a packet of a port goes on when port security has nothing to say against it."""
    if not filtered(host, port):
        return ROUTER
    # With `iptables_hybrid`, port security lets nothing through that iptables does not see.
    return BASE_EGRESS if host.firewall == OPENVSWITCH or not port.identities else ROUTER


def leaving(host: Host, port: Port) -> tuple[Action, ...]:
    """Note down by which rules a packet of this port is judged."""
    if port.filter is None or host.firewall != OPENVSWITCH:
        return ()
    return SetField(f.REG_ZONE(port.filter.zone)), SetField(f.REG_PROFILE(port.filter.profile))


def entering(host: Host, port: Port) -> tuple[Action, ...]:
    """Note down which filtered port a packet is for, before it goes on in BASE_INGRESS."""
    return SetField(f.REG_OUT_PORT(port.ofport)), *leaving(host, port)


def denied(host: Host, port: Port) -> Iterator[Flow]:
    """The end of what no rule of a port's groups allows, for its counters."""
    if not filtered(host, port) or host.firewall != OPENVSWITCH:
        return
    ways = ((when(f.IN_PORT(port.ofport), f.REG_OUT_PORT(0)), f"no group of {port.name} lets it begin this"),
            (when(f.REG_OUT_PORT(port.ofport)), f"no group of {port.name} lets others begin this"))
    for match, why in ways:
        yield flow(RULES, "denied", match, origin=port.origin, why=why)


def base(firewall: str) -> Iterator[Flow]:
    """What the tables hold whatever the networks are."""
    if firewall == OPENVSWITCH:
        yield from _leaves_freely()
        yield from _enters_freely()
        yield from _tracked()
    elif firewall != _NONE:
        yield from _seen_by_iptables()
    yield from _misses()


def _leaves_freely() -> Iterator[Flow]:
    def free(why: str, *criteria: Criterion) -> Flow:
        return flow(BASE_EGRESS, "free", when(*criteria), Resubmit(ROUTER), origin=_PIPELINE, why=why)

    yield free("ARP is for everybody; port security has seen to its addresses", f.ETH_TYPE(f.ARP))
    yield free("a VM may say where it lives now", f.ETH_TYPE(f.RARP))
    yield free("a VM may ask for an address", f.ETH_TYPE(f.IPV4), *_udp(_DHCP_CLIENT, _DHCP_SERVER))
    yield free("a VM may ask for an IPv6 address", f.ETH_TYPE(f.IPV6), *_udp(_DHCPV6_CLIENT, _DHCPV6_SERVER))
    for kind in _LEAVES_FREELY:
        yield free("IPv6 does not work without it", f.ETH_TYPE(f.IPV6), f.IP_PROTO(f.ICMPV6), f.ICMPV6_TYPE(kind))
    for version, name in _IP_VERSIONS:
        yield flow(BASE_EGRESS, "ip", when(f.ETH_TYPE(version)), Track(f.REG_ZONE, CONVERSATION), origin=_PIPELINE,
                   why=f"{name} leaves a VM as its security groups allow")


def _enters_freely() -> Iterator[Flow]:
    def free(why: str, *criteria: Criterion) -> Flow:
        return flow(BASE_INGRESS, "free", when(*criteria), Goto(ONWARD), origin=_PIPELINE, why=why)

    yield free("ARP is for everybody", f.ETH_TYPE(f.ARP))
    yield free("somebody says where it lives now", f.ETH_TYPE(f.RARP))
    for receiver in _TO_ONE_OR_ALL:
        yield free("a VM may be given an address", f.ETH_TYPE(f.IPV4), f.IPV4_DST(receiver),
                   *_udp(_DHCP_SERVER, _DHCP_CLIENT))
    yield free("a VM may be given an IPv6 address", f.ETH_TYPE(f.IPV6), *_udp(_DHCPV6_SERVER, _DHCPV6_CLIENT))
    for kind in _ENTERS_FREELY:
        yield free("IPv6 does not work without it", f.ETH_TYPE(f.IPV6), f.IP_PROTO(f.ICMPV6), f.ICMPV6_TYPE(kind))
    for version, name in _IP_VERSIONS:
        yield flow(BASE_INGRESS, "ip", when(f.ETH_TYPE(version)), Track(f.REG_ZONE, CONVERSATION), origin=_PIPELINE,
                   why=f"{name} enters a VM as its security groups allow")


def _tracked() -> Iterator[Flow]:
    """From connection tracking to the rules, and from these to whom the packet is for."""
    yield flow(CONVERSATION, "invalid", when(ct_state("+inv")), origin=_PIPELINE,
               why="connection tracking cannot make sense of it")
    out = f.REG_OUT_PORT(0)
    for rank, more, begun, answers in (("leaves", (out,), f.BY_VM, f.BY_OTHERS), ("enters", (), f.BY_OTHERS, f.BY_VM)):
        for state, who in (("-inv-rpl", begun), ("-inv+rpl", answers)):
            name = "the VM" if who == f.BY_VM else "somebody else"
            yield flow(CONVERSATION, rank, when(ct_state(state), *more), SetField(f.REG_BEGAN(who)), Goto(RULES),
                       origin=_PIPELINE, why=f"it {rank} a VM, in a conversation that {name} began")
    for version, name in _IP_VERSIONS:
        yield flow(ACCEPTED, "new", when(ct_state("+new"), f.ETH_TYPE(version)),
                   Track(f.REG_ZONE, None, commit=True), Goto(ONWARD), origin=_PIPELINE,
                   why=f"a conversation over {name} that may be is remembered, for its answers")
    yield flow(ONWARD, "leaves", when(out), Resubmit(ROUTER), origin=_PIPELINE, why="it may leave its VM")
    yield _hand_over("it may enter the VM that it is for")


def _seen_by_iptables() -> Iterator[Flow]:
    """The rules are on the tap, and see these kinds of frames alone."""
    kinds = ((f.ARP, "ARP"), (f.RARP, "RARP"), (f.IPV4, "IPv4"), (f.IPV6, "IPv6"))
    for kind, name in kinds:
        yield flow(BASE_EGRESS, "free", when(f.ETH_TYPE(kind)), Resubmit(ROUTER), origin=_PIPELINE,
                   why=f"{name} has left a VM as iptables allows")
        yield flow(BASE_INGRESS, "free", when(f.ETH_TYPE(kind)), Goto(ONWARD), origin=_PIPELINE,
                   why=f"{name} enters a VM as iptables allows")
    yield _hand_over("to the VM that it is for, behind iptables")


def _hand_over(why: str) -> Flow:
    return flow(ONWARD, "enters", when(f.ANY_TAG), PopVlan(), OutputTo(f.REG_OUT_PORT), origin=_PIPELINE, why=why)


def _misses() -> Iterator[Flow]:
    for table in (BASE_EGRESS, BASE_INGRESS):
        yield flow(table, "miss", ANY, origin=_PIPELINE, why="security groups allow no other kind of frame")
    yield flow(CONVERSATION, "miss", ANY, origin=_PIPELINE, why="connection tracking has not looked at it")
    yield flow(RULES, "miss", ANY, origin=_PIPELINE, why="no security group of the VM allows this conversation")
    yield flow(ACCEPTED, "miss", ANY, Goto(ONWARD), origin=_PIPELINE, why="it is remembered already")
    yield flow(ONWARD, "miss", ANY, origin=_PIPELINE, why="it wears no VLAN, so it is for nobody")


def _udp(source: int, destination: int) -> tuple[Criterion, ...]:
    return f.IP_PROTO(f.UDP), f.UDP_SRC(source), f.UDP_DST(destination)
