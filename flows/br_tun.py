"""The flows of br-tun: between local VLANs and tunnel ids, and which tunnel a MAC lives behind.

`learning` fills the unicast table from traffic; `l2population` fills it from the topology and learns nothing.
"""
from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from flows import fields as f
from flows import models
from flows.cookie import LEARNED_COOKIE
from flows.fields import tagged
from flows.flow import ANY, Action, Flow, Goto, Learn, Move, Output, OutputBack, PopVlan, PushVlan, SetField, flow, when
from flows.host import Host, Network, Tunnel, Tunnels, wearers
from flows.host import alone as neighbours_alone
from flows.neighbours import Elsewhere, Everybody, Neighbour
from flows.sheet import Part, Sheet
from flows.stencil import Print, Stencil
from flows.tables import ARP_RESPONDER, FLOOD, FROM, LEARN, TO_TUNNEL, TUNNEL_TO_VLAN, UNICAST

_PIPELINE: Final = "pipeline"
_MANY: Final = 64  # tunnels of a network: there is a stencil for each number of them up to this
_BEFORE, _BEHIND = b"\0\0\0\x10", b"\xff\xff" + bytes(6)  # the port of an output action (OpenFlow 1.4, 7.2.5)
_OUTPUT: Final = struct.Struct("!4sI8s").pack


def base(host: Host) -> Iterator[Part]:
    """What br-tun holds whatever its networks are."""
    from_tunnel = TUNNEL_TO_VLAN[host.tunnel_type]
    yield from _constant(host.tunnel_type, host.l2population, host.arp_responder)
    if host.patch_int is not None:
        yield flow(FROM, "known", when(f.IN_PORT(host.patch_int)), Goto(TO_TUNNEL),
                   origin=_PIPELINE, why="from this host's br-int")
    if ofports := host.tunnels.ofports:
        model = flow(FROM, "known", when(f.IN_PORT(ofports[0])), Goto(from_tunnel), origin="", why="")
        yield Sheet(model, f.IN_PORT, ofports, partial(_from, host.tunnels))
    if host.strangers is not None:
        yield flow(FROM, "stranger", when(f.IN_PORT(host.strangers)), origin=_PIPELINE,
                   why="a tunnel packet of a host that the topology does not know")
    yield from _learn(host)


def _from(tunnels: Tunnels, index: int) -> tuple[str, str]:
    one = Tunnel(tunnels.remotes[index], tunnels.ofports[index])
    return one.origin, f"through the tunnel from {one.remote}"


@cache
def _constant(tunnel_type: str, l2population: bool, arp_responder: bool) -> tuple[Flow, ...]:
    """Of these, the same flows on every host."""
    return (flow(FROM, "miss", ANY, origin=_PIPELINE, why="neither br-int nor a tunnel of this cloud"),
            *_one_or_all(arp_responder),
            flow(TUNNEL_TO_VLAN[tunnel_type], "miss", ANY, origin=_PIPELINE,
                 why="no network of this host has this tunnel id"),
            *_misses(l2population, arp_responder))


def _one_or_all(arp_responder: bool) -> Iterator[Flow]:
    if arp_responder:
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


def _misses(l2population: bool, arp_responder: bool) -> Iterator[Flow]:
    if l2population:
        yield flow(UNICAST, "miss", ANY, origin=_PIPELINE, why="the topology has no such MAC: nobody to send it to")
    else:
        yield flow(UNICAST, "miss", ANY, Goto(FLOOD), origin=_PIPELINE, why="not learned yet: ask every host")
    if arp_responder:
        yield flow(ARP_RESPONDER, "miss", ANY, Goto(FLOOD), origin=_PIPELINE, why="we cannot answer: ask every host")
    yield flow(FLOOD, "miss", ANY, origin=_PIPELINE, why="no other host carries this network")


def network(host: Host, net: Network) -> Iterator[Part]:
    """What br-tun holds for one network: nothing if it is not in the overlay."""
    if net.tunnel_id is None:
        return
    numbers = _Numbers(net.vlan, net.tunnel_id, tuple(sorted(net.tunnels.ofports)))
    stencil = _stencil(host.tunnel_type, min(len(net.tunnels), _MANY + 1))
    yield Print(stencil, numbers, partial(_known, host, net, net.tunnel_id))
    if host.l2population:
        yield from _populate(net, _into_tunnel(net.tunnel_id))
    if host.arp_responder:
        yield from _respond(net, _reached(net))


def _reached(net: Network) -> list[Neighbour]:
    tunnels = net.tunnels.to
    return [one for one in net.neighbours if one.remote in tunnels]


def _known(host: Host, net: Network, tunnel_id: int) -> Iterator[Flow]:
    """In from any host, and out to all."""
    tag = tagged(net.vlan)
    # A tag inside the tunnel is never ours: no host of this cloud sends one.
    yield flow(TUNNEL_TO_VLAN[host.tunnel_type], "known", when(f.TUN_ID(tunnel_id), f.UNTAGGED),
               PushVlan(), SetField(tag), Goto(LEARN),
               origin=net.origin, why=f"tunnel id {tunnel_id} is {net.name}, here VLAN {net.vlan}")
    if net.tunnels:
        yield flow(FLOOD, "network", when(tag), *_into_tunnel(tunnel_id),
                   *map(Output, sorted(net.tunnels.ofports)), origin=net.origin,
                   why=f"{net.name} is also on {', '.join(sorted(net.tunnels.remotes))}")


class _Numbers(NamedTuple):
    """All that these flows of two networks can differ in."""

    vlan: int
    tunnel_id: int
    outputs: tuple[int, ...]

    def texts(self) -> tuple[str, ...]:
        """As they are written in flows; a tunnel is never the bridge's own interface, which has a name."""
        return (f"dl_vlan={self.vlan}", f"set_field:{tagged(self.vlan).value}->", f.TUN_ID.show(self.tunnel_id),
                f"output:{',output:'.join(map(str, self.outputs))}" if self.outputs else "no tunnel")

    def octets(self) -> tuple[bytes, ...]:
        """As they are written in messages; of more outputs than stencils are made for, nothing."""
        if len(self.outputs) > _MANY:
            return ()
        outputs = b"".join([_OUTPUT(_BEFORE, port, _BEHIND) for port in self.outputs])
        numbers = tagged(self.vlan).value.to_bytes(2), self.tunnel_id.to_bytes(8)
        return (*numbers, outputs) if outputs else numbers


@cache
def _stencil(tunnel_type: str, tunnels_: int) -> Stencil:
    """Of networks with so many tunnels: their messages are of one length."""
    def made(which: int) -> tuple[tuple[Flow, ...], _Numbers]:
        outputs = tuple(range(models.OFPORTS[which], models.OFPORTS[which] + tunnels_))
        numbers = _Numbers(models.VLANS[which], models.TUNNEL_IDS[which], outputs)
        tunnels = Tunnels(("",) * tunnels_, outputs)
        net = Network("", "", numbers.vlan, numbers.tunnel_id, (), tunnels, ())
        return tuple(_known(models.bare(tunnel_type=tunnel_type), net, numbers.tunnel_id)), numbers

    return Stencil(made(0), made(1))


def _populate(net: Network, into: tuple[Action, ...]) -> Iterator[Part]:
    """Where the MACs live that the topology knows; any other can only live behind a port without port security."""
    elsewhere = Elsewhere.of(net.neighbours)
    if elsewhere.everybody.plain:
        yield from _alone(net, into, elsewhere.everybody)
        return
    tunnels, reached = net.tunnels.to, _reached(net)
    alone = neighbours_alone(reached)
    yield from _alone(net, into, Everybody.of(alone))
    for mac, several in wearers(reached).items() if alone is not reached else ():
        if len(several) > 1 or mac != several[0].mac:
            yield flow(UNICAST, "populated", when(tagged(net.vlan), f.ETH_DST(mac)), *into,
                       *_through(several, tunnels), origin=several[0].origin,
                       why=f"{_named(several)} may wear this MAC")
    unguarded = [one for one in reached if not one.secured]
    if unguarded:
        yield flow(UNICAST, "unknown", when(tagged(net.vlan)), *into, *_through(unguarded, tunnels), origin=net.origin,
                   why=f"an unknown MAC may live behind {_named(unguarded)}, which has port security off")


def _alone(net: Network, into: tuple[Action, ...], everybody: Everybody) -> Iterator[Sheet]:
    """Those behind a tunnel, of whom each lives behind a MAC of its own."""
    ways = list(map(net.tunnels.to.get, everybody.remotes))
    outputs = tuple([way for way in ways if way is not None])
    if outputs:
        macs = everybody.macs if len(outputs) == len(ways) else tuple(
            [mac for mac, way in zip(everybody.macs, ways, strict=True) if way is not None])
        model = flow(UNICAST, "populated", when(tagged(net.vlan), f.ETH_DST(macs[0])), *into, Output(outputs[0]),
                     origin="", why="")
        yield Sheet(model, f.ETH_DST, macs, partial(_lives, everybody, macs), outputs)


def _lives(everybody: Everybody, macs: Sequence[int], index: int) -> tuple[str, str]:
    one = everybody.row(everybody.at[macs[index]])
    return one.origin, f"{one.name} lives on {one.remote}"


def _named(neighbours: Iterable[Neighbour]) -> str:
    return ", ".join(sorted(one.name for one in neighbours))


def _through(neighbours: Iterable[Neighbour], tunnels: Mapping[str, int]) -> Iterator[Output]:
    """The tunnels to where these live, each once."""
    return map(Output, sorted({tunnels[one.remote] for one in neighbours}))


def _respond(net: Network, reached: Iterable[Neighbour]) -> Iterator[Flow]:
    """Answers to ARP requests for those that live elsewhere."""
    for one in reached:
        if isinstance(one.address, IPv4Address):
            yield flow(ARP_RESPONDER, "known",
                       when(tagged(net.vlan), f.ETH_TYPE(f.ARP), f.ARP_OP(f.ARP_REQUEST), f.ARP_TPA(one.address)),
                       *_answer(one), origin=one.origin,
                       why=f"{one.address} is {one.name}: answered here, asked of nobody")


def _into_tunnel(tunnel_id: int) -> tuple[Action, ...]:
    return PopVlan(), SetField(f.TUN_ID(tunnel_id))


def _answer(neighbour: Neighbour) -> tuple[Action, ...]:
    """Turn an ARP request into its reply and send it back."""
    return (SetField(f.ARP_OP(f.ARP_REPLY)),
            Move(f.ARP_SHA, f.ARP_THA), Move(f.ARP_SPA, f.ARP_TPA),
            SetField(f.ARP_SHA(neighbour.mac)), SetField(f.ARP_SPA(neighbour.address)),
            Move(f.ETH_SRC, f.ETH_DST), SetField(f.ETH_SRC(neighbour.mac)),
            OutputBack())
