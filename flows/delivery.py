"""Where a frame of a network goes: to ports of this host, to br-tun, to a provider bridge; tables 60 to 62.

A filtered port is given its copy by way of table 81. Behind ports without port security live MACs that the topology
does not know: those that a port here, or br-tun, has brought are remembered in table 61.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import chain
from typing import Final, NamedTuple

from flows import fields as f
from flows import models, security
from flows.cookie import LEARNED_COOKIE
from flows.fields import tagged
from flows.flow import ANY, Action, Clone, Flow, Goto, LearnPort, LookUp, Output, PopVlan, Resubmit, flow, when
from flows.host import Device, Host, Network, Port, Tunnels, wearers
from flows.neighbours import Elsewhere, Neighbour
from flows.sheet import Part, Sheet
from flows.stencil import Print, Stencil
from flows.tables import BASE_INGRESS, BEHIND, DELIVER, UNKNOWN
from flows.text import actions_text

_PIPELINE: Final = "pipeline"
MACS_OF_A_PORT: Final = 64  # that are learned behind one port without port security
MACS_ELSEWHERE: Final = 1024  # of a network, so that one that has moved away is not looked for here
_OFPORT_BITS: Final = 32


def base() -> Iterator[Flow]:
    """What the tables hold whatever the networks are."""
    yield flow(DELIVER, "miss", ANY, origin=_PIPELINE, why="no network of this host has this VLAN")
    yield flow(BEHIND, "miss", ANY, origin=_PIPELINE, why="it has not come by any port yet")
    yield flow(UNKNOWN, "miss", ANY, origin=_PIPELINE, why="no network of this host has this VLAN")


def network(host: Host, net: Network) -> Iterator[Part]:
    """The rows of one network."""
    yield from _known(host, net)
    if unguarded(net):
        yield _flood(net, _to_all(host, net))
        yield from _unknown(host, net)
    elif away := _away(host, net):
        everybody = _to_all(host, net)
        filtered = any(security.filtered(host, port) for port in net.ports)
        yield Print(_stencil(host.firewall, filtered), _Numbers(net.vlan, (everybody, away)),
                    partial(_flood_or_away, net, everybody, away))
    else:
        yield _flood(net, _to_all(host, net))


def _to_all(host: Host, net: Network) -> tuple[Action, ...]:
    # The tag is still on for br-tun (or a provider bridge) and off for the VMs, so that comes first.
    return *_away(host, net), *_copies(host, net.here)


def _flood(net: Network, everybody: tuple[Action, ...]) -> Flow:
    return flow(DELIVER, "flood", when(tagged(net.vlan), f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), *everybody,
                origin=net.origin, why=f"broadcast and multicast go to all of {net.name}, here and elsewhere")


def _flood_or_away(net: Network, everybody: tuple[Action, ...], away: tuple[Action, ...]) -> Iterator[Flow]:
    """What every network has, but for one with ports without port security."""
    yield _flood(net, everybody)
    where = "br-tun may know where it lives in" if net.segment is None else "it may live elsewhere in"
    yield flow(DELIVER, "unknown", when(tagged(net.vlan)), *away, origin=net.origin,
               why=f"not on this host: {where} {net.name}")


def unguarded(net: Network) -> list[Port]:
    """The network's ports here without port security."""
    return [port for port in net.ports if not port.identities]


def remember(host: Host, port: Port) -> LearnPort:
    """Remember that the sender of this frame lives behind a port; the cookie says which, for the limit."""
    return LearnPort(BEHIND, "learned", hard_timeout=host.mac_aging_time, cookie=LEARNED_COOKIE | port.ofport,
                     limit=MACS_OF_A_PORT)


def remember_away(host: Host, net: Network, ofport: int) -> LearnPort:
    """Remember that the sender of this frame lives on another host; networks do not take each other's room."""
    return LearnPort(BEHIND, "learned", hard_timeout=host.mac_aging_time,
                     cookie=LEARNED_COOKIE | net.vlan << _OFPORT_BITS | ofport, limit=MACS_ELSEWHERE)


def way_out(host: Host, net: Network) -> int | None:
    """br-int's port to the network's other hosts: to br-tun, or to the physical network that it is on."""
    return host.patch_tun if net.segment is None else net.segment.bridge.int_port


def _known(host: Host, net: Network) -> Iterator[Part]:
    """Unicast for a MAC that a port of this host may wear."""
    here = wearers(net.here)
    # Of the thousands elsewhere, only those that wear a MAC of somebody here.
    elsewhere = wearers(Elsewhere.of(net.neighbours).wearing(here))
    for mac, ports in here.items():
        others = elsewhere.get(mac, [])
        to = *(_away(host, net) if others else ()), *_to(host, ports, bool(others))
        filtered = any(isinstance(port, Port) and security.filtered(host, port) for port in ports)
        yield Print(_stencil_of_one(host.firewall, filtered), _Numbers(net.vlan, (to,), mac),
                    partial(_lives_here, net, mac, to, ports, others))


def _lives_here(net: Network, mac: str, to: tuple[Action, ...], ports: Sequence[Port | Device],
                others: list[Neighbour]) -> Iterator[Flow]:
    yield flow(DELIVER, "known", when(tagged(net.vlan), f.ETH_DST(mac)), *to,
               origin=ports[0].origin, why=_whose(mac, ports, others))


def _whose(mac: str, ports: Sequence[Port | Device], others: list[Neighbour]) -> str:
    if mac == ports[0].mac and len(ports) + len(others) == 1:
        return f"{ports[0].name} lives on this host"
    names = sorted([*(port.name for port in ports), *(other.name for other in others)])
    return f"{', '.join(names)} may wear this MAC"


def _unknown(host: Host, net: Network) -> Iterator[Part]:
    """Unicast for a MAC that the topology does not know, where such a one may live behind a port of this host."""
    away, ports = _away(host, net), unguarded(net)
    names = ", ".join(sorted(port.name for port in ports))
    yield flow(DELIVER, "unknown", when(tagged(net.vlan)), LookUp(BEHIND), Goto(UNKNOWN), origin=net.origin,
               why=f"an unknown MAC of {net.name} may live elsewhere or behind {names}, which has port security off")
    yield flow(UNKNOWN, "anywhere", when(tagged(net.vlan)), *away, *_copies(host, ports), origin=net.origin,
               why=f"it has not been heard of yet: elsewhere, or behind {names}")
    for port in ports:
        yield flow(UNKNOWN, "behind", when(tagged(net.vlan), f.REG_OUT_PORT(port.ofport)), *_to(host, [port], False),
                   origin=port.origin, why=f"it came by {port.name} last")
    outside = way_out(host, net)
    if outside is None:
        return
    yield flow(UNKNOWN, "behind", when(tagged(net.vlan), f.REG_OUT_PORT(outside)), *away, origin=net.origin,
               why=f"it came from another host last, not from behind {names}")
    here = wearers(net.here)
    known = {mac: ones[0] for mac, ones in wearers(net.neighbours).items() if mac not in here}
    if known:
        model = flow(DELIVER, "known", when(tagged(net.vlan), f.ETH_DST(next(iter(known)))), *away, origin="", why="")
        words = partial(_elsewhere, tuple(known.values()), names)
        yield Sheet(model, f.ETH_DST, f.numbers(list(known)), words)


def _elsewhere(neighbours: Sequence[Neighbour], names: str, index: int) -> tuple[str, str]:
    one = neighbours[index]
    return one.origin, f"{one.name} lives on {one.remote}, not behind {names}"


def _away(host: Host, net: Network) -> tuple[Action, ...]:
    """To the network's other hosts, with the tag."""
    port = way_out(host, net)
    return () if port is None else (Output(port),)


def _to(host: Host, ports: Sequence[Port | Device], more: bool) -> tuple[Action, ...]:
    """To these ports; the one that is alone needs no copy of its own."""
    if len(ports) == 1 and not more and (through := _through(host, ports[0])):
        return *through, Goto(BASE_INGRESS)
    return _copies(host, ports)


def _copies(host: Host, ports: Iterable[Port | Device]) -> tuple[Action, ...]:
    """To each of these ports as the VM shall see it, without the tag; what is filtered, a copy each."""
    ordered = sorted(ports, key=lambda port: port.ofport)
    ways = {port.ofport: _through(host, port) for port in ordered}
    clones = [Clone((*way, Resubmit(BASE_INGRESS))) for way in ways.values() if way]
    outputs = [Output(ofport) for ofport, way in ways.items() if not way]
    return tuple(chain(clones, (PopVlan(), *outputs) if outputs else ()))


def _through(host: Host, port: Port | Device) -> tuple[Action, ...]:
    """What a filtered port needs to be known by in the tables of the security groups; nothing of any other."""
    return security.entering(host, port) if isinstance(port, Port) and security.filtered(host, port) else ()


# ---- what is alike in many networks

class _Numbers(NamedTuple):
    """All that the flows of two networks, or of two MACs, can differ in."""

    vlan: int
    to: tuple[tuple[Action, ...], ...]  # what each flow does
    mac: str = "no MAC"

    def texts(self) -> tuple[str, ...]:
        """As they are written in flows."""
        return (f"dl_vlan={self.vlan}", self.mac, *map(actions_text, self.to))

    def octets(self) -> tuple[bytes, ...]:
        """Actions are as many as there are ports."""
        return ()


@cache
def _stencil(firewall: str, filtered: bool) -> Stencil:
    """Of networks where each frame may go away; `filtered`: whether a port is."""
    def made(which: int) -> tuple[tuple[Flow, ...], _Numbers]:
        net, everybody = _model(firewall, filtered, which)
        away = (Output(models.OTHER_OFPORTS[which]),)
        return tuple(_flood_or_away(net, everybody, away)), _Numbers(net.vlan, (everybody, away))

    return Stencil(made(0), made(1))


@cache
def _stencil_of_one(firewall: str, filtered: bool) -> Stencil:
    """Of a MAC that lives here."""
    def made(which: int) -> tuple[tuple[Flow, ...], _Numbers]:
        net, to = _model(firewall, filtered, which)
        mac = models.MACS[which]
        return tuple(_lives_here(net, mac, to, net.ports, [])), _Numbers(net.vlan, (to,), mac)

    return Stencil(made(0), made(1))


def _model(firewall: str, filtered: bool, which: int) -> tuple[Network, tuple[Action, ...]]:
    """A network with one port, and the way to all of it."""
    net = Network("", "", models.VLANS[which], None, (models.port(which, filtered=filtered),), Tunnels(), ())
    return net, _to_all(models.bare(firewall, patch_tun=models.OTHER_OFPORTS[which]), net)
