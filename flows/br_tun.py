"""The flows of br-tun: between local VLANs and tunnel ids, and which tunnel a MAC lives behind.

`learning` fills the unicast table from traffic; `l2population` fills it from the topology and learns nothing.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from typing import Final

from flows import fields as f
from flows.cookie import LEARNED_COOKIE
from flows.fields import tagged
from flows.flow import ANY, Action, Flow, Goto, Learn, Move, Output, OutputBack, PopVlan, PushVlan, SetField, flow, when
from flows.host import Host, Neighbour, Network, wearers
from flows.tables import ARP_RESPONDER, FLOOD, FROM, LEARN, TO_TUNNEL, TUNNEL_TO_VLAN, UNICAST

_PIPELINE: Final = "pipeline"


def base(host: Host) -> Iterator[Flow]:
    """What br-tun holds whatever its networks are."""
    from_tunnel = TUNNEL_TO_VLAN[host.tunnel_type]
    yield flow(FROM, "miss", ANY, origin=_PIPELINE, why="neither br-int nor a tunnel of this cloud")
    if host.patch_int is not None:
        yield flow(FROM, "known", when(f.IN_PORT(host.patch_int)), Goto(TO_TUNNEL),
                   origin=_PIPELINE, why="from this host's br-int")
    for tunnel in host.tunnels:
        yield flow(FROM, "known", when(f.IN_PORT(tunnel.ofport)), Goto(from_tunnel),
                   origin=tunnel.origin, why=f"through the tunnel from {tunnel.remote}")
    if host.strangers is not None:
        yield flow(FROM, "stranger", when(f.IN_PORT(host.strangers)), origin=_PIPELINE,
                   why="a tunnel packet of a host that the topology does not know")
    yield from _one_or_all(host)
    yield flow(from_tunnel, "miss", ANY, origin=_PIPELINE, why="no network of this host has this tunnel id")
    yield from _learn(host)
    yield from _misses(host)


def _one_or_all(host: Host) -> Iterator[Flow]:
    if host.arp_responder:
        yield flow(TO_TUNNEL, "arp", when(f.ETH_TYPE(f.ARP), f.ETH_DST(f.BROADCAST)), Goto(ARP_RESPONDER),
                   origin=_PIPELINE, why="somebody asks for a MAC: perhaps we can answer here")
    yield flow(TO_TUNNEL, "group", when(f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), Goto(FLOOD),
               origin=_PIPELINE, why="broadcast and multicast are for every host that carries the network")
    yield flow(TO_TUNNEL, "miss", ANY, Goto(UNICAST), origin=_PIPELINE, why="unicast is for one host, if we know it")


def _learn(host: Host) -> Iterator[Flow]:
    """Into br-int, and remember the way back."""
    if host.patch_int is None:
        yield flow(LEARN, "miss", ANY, origin=_PIPELINE, why="br-int is not plugged in: nobody to hand it to")
        return
    if host.l2population:
        yield flow(LEARN, "miss", ANY, Output(host.patch_int),
                   origin=_PIPELINE, why="into br-int; the topology says where MACs live, nothing is learned")
        return
    remember = Learn(UNICAST, "learned", hard_timeout=host.mac_aging_time, cookie=LEARNED_COOKIE)
    # Flows of their own get cache entries of their own in the switch, so a VM that moved is learned anew from its
    # first announcement and not only when an older cache entry of its traffic is revalidated (bug 2123911).
    advertisements = ((f.ND_ROUTER_ADVERTISEMENT, "a router advertisement"),
                      (f.ND_NEIGHBOR_ADVERTISEMENT, "a neighbour advertisement"))
    yield flow(LEARN, "announcement", when(f.ETH_TYPE(f.ARP)), remember, Output(host.patch_int),
               origin=_PIPELINE, why="remember at once which tunnel an ARP came by")
    for kind, name in advertisements:
        yield flow(LEARN, "announcement", when(f.ETH_TYPE(f.IPV6), f.IP_PROTO(f.ICMPV6), f.ICMPV6_TYPE(kind)),
                   remember, Output(host.patch_int), origin=_PIPELINE,
                   why=f"remember at once which tunnel {name} came by")
    yield flow(LEARN, "miss", ANY, remember, Output(host.patch_int),
               origin=_PIPELINE, why="remember which tunnel its MAC lives behind")


def _misses(host: Host) -> Iterator[Flow]:
    if host.l2population:
        yield flow(UNICAST, "miss", ANY, origin=_PIPELINE, why="the topology has no such MAC: nobody to send it to")
    else:
        yield flow(UNICAST, "miss", ANY, Goto(FLOOD), origin=_PIPELINE, why="not learned yet: ask every host")
    if host.arp_responder:
        yield flow(ARP_RESPONDER, "miss", ANY, Goto(FLOOD), origin=_PIPELINE, why="we cannot answer: ask every host")
    yield flow(FLOOD, "miss", ANY, origin=_PIPELINE, why="no other host carries this network")


def network(host: Host, net: Network) -> Iterator[Flow]:
    """What br-tun holds for one network: nothing if it is not in the overlay."""
    if net.tunnel_id is None:
        return
    # A tag inside the tunnel is never ours: no host of this cloud sends one.
    yield flow(TUNNEL_TO_VLAN[host.tunnel_type], "known", when(f.TUN_ID(net.tunnel_id), f.UNTAGGED),
               PushVlan(), SetField(tagged(net.vlan)), Goto(LEARN),
               origin=net.origin, why=f"tunnel id {net.tunnel_id} is {net.name}, here VLAN {net.vlan}")
    if net.tunnels:
        yield flow(FLOOD, "network", when(tagged(net.vlan)), *_into_tunnel(net.tunnel_id),
                   *(Output(tunnel.ofport) for tunnel in sorted(net.tunnels, key=lambda tunnel: tunnel.ofport)),
                   origin=net.origin, why=f"{net.name} is also on {', '.join(sorted(t.remote for t in net.tunnels))}")
    if host.l2population:
        yield from _populate(net, net.tunnel_id)
    for neighbour in net.neighbours:
        if host.arp_responder and neighbour.tunnel and isinstance(neighbour.address, IPv4Address):
            yield flow(ARP_RESPONDER, "known",
                       when(tagged(net.vlan), f.ETH_TYPE(f.ARP), f.ARP_OP(f.ARP_REQUEST), f.ARP_TPA(neighbour.address)),
                       *_answer(neighbour), origin=neighbour.origin,
                       why=f"{neighbour.address} is {neighbour.name}: answered here, asked of nobody")


def _populate(net: Network, tunnel_id: int) -> Iterator[Flow]:
    """Where the MACs live that the topology knows; any other can only live behind a port without port security."""
    for mac, neighbours in wearers(one for one in net.neighbours if one.tunnel).items():
        first, names = neighbours[0], ", ".join(sorted(one.name for one in neighbours))
        alone = len(neighbours) == 1 and mac == first.mac
        yield flow(UNICAST, "populated", when(tagged(net.vlan), f.ETH_DST(mac)), *_into_tunnel(tunnel_id),
                   *_through(neighbours), origin=first.origin,
                   why=f"{names} lives on {first.remote}" if alone else f"{names} may wear this MAC")
    unguarded = [one for one in net.neighbours if one.tunnel and not one.secured]
    if unguarded:
        names = ", ".join(sorted(one.name for one in unguarded))
        yield flow(UNICAST, "unknown", when(tagged(net.vlan)), *_into_tunnel(tunnel_id), *_through(unguarded),
                   origin=net.origin, why=f"an unknown MAC may live behind {names}, which has port security off")


def _through(neighbours: Iterable[Neighbour]) -> Iterator[Output]:
    """The tunnels to where these live, each once."""
    return map(Output, sorted({one.tunnel.ofport for one in neighbours if one.tunnel}))


def _into_tunnel(tunnel_id: int) -> tuple[Action, ...]:
    return PopVlan(), SetField(f.TUN_ID(tunnel_id))


def _answer(neighbour: Neighbour) -> tuple[Action, ...]:
    """Turn an ARP request into its reply and send it back."""
    return (SetField(f.ARP_OP(f.ARP_REPLY)),
            Move(f.ARP_SHA, f.ARP_THA), Move(f.ARP_SPA, f.ARP_TPA),
            SetField(f.ARP_SHA(neighbour.mac)), SetField(f.ARP_SPA(neighbour.address)),
            Move(f.ETH_SRC, f.ETH_DST), SetField(f.ETH_SRC(neighbour.mac)),
            OutputBack())
