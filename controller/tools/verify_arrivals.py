"""Whether frames may come where they come: of the own network, or through a router, as they are, without a tag."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from controller.model.topology import DhcpPort, Port, RouterPort
from controller.tools import verify_findings as kinds
from controller.tools.verify_promise import Card, Promise, literal
from controller.tools.verify_wires import Laid, Outside
from flows import fields as f
from flows.flow import Learn
from flows.headerspace import EVERYTHING, Literal, Region, region
from flows.headerspace_rows import Now
from flows.prove import VLAN, Taught
from flows.prove_cloud import Arrival

_ETH_SRC, _ETH_DST = f.ETH_SRC.name, f.ETH_DST.name
_PRESENT = Literal(VLAN, f.VLAN_PRESENT, f.VLAN_PRESENT)


class Wrong(NamedTuple):
    """Frames that may not come there: a kind of breach, a sentence, and which they are."""

    kind: str
    what: str
    space: Region


class Arrivals:
    """Judges arrivals in one cloud."""

    def __init__(self, laid: Laid, promise: Promise) -> None:
        self._laid, self._promise, self._topology = laid, promise, laid.topology

    def wrong(self, name: str, source: Card | Outside | None, arrival: Arrival, space: Region) -> Iterator[Wrong]:
        """What is wrong with frames of a source that come to an end. No source: nobody may hear them."""
        target = self._laid.ends[arrival.end.name]
        held = dict(arrival.items)
        if source is None:
            yield Wrong(kinds.STRANGER, f"what comes by {name} comes to {target.name}", EVERYTHING)
        elif isinstance(target, Outside):
            yield from self._outside(name, source, target, held)
        else:
            yield from self._tag(name, target, arrival, held)
            if isinstance(source, Outside):
                yield from self._from_outside(source, target, held, space)
            elif _ETH_SRC in held:
                yield from self._rewritten(name, source, target, held, space)
            else:
                yield from self._bridged(source, target, held)

    @staticmethod
    def _tag(name: str, target: Card, arrival: Arrival, held: Mapping[str, Now]) -> Iterator[Wrong]:
        vlan = held.get(VLAN, VLAN)
        what = f"a frame of {name} comes to {target.name} with a tag"
        if isinstance(vlan, int) and (vlan or arrival.tags):
            yield Wrong(kinds.TAG, what, EVERYTHING)
        elif vlan == VLAN:
            yield Wrong(kinds.TAG, what, _some(_PRESENT))

    # ---- on one network

    def _bridged(self, source: Card, target: Card, held: Mapping[str, Now]) -> Iterator[Wrong]:
        if source.network != target.network:
            yield Wrong(kinds.ISOLATION, f"a frame of {source.name} ({source.network}) comes to {target.name} "
                                         f"({target.network})", EVERYTHING)
        elif source is target:
            yield Wrong(kinds.WRONG_PORT, f"a frame of {source.name} comes back to itself", EVERYTHING)
        elif changed := [name for name in held if name not in (VLAN, f.TUN_ID.name)]:
            yield Wrong(kinds.REWRITTEN, f"a frame of {source.name} comes to {target.name} with another "
                                         f"{', '.join(changed)}", EVERYTHING)
        else:
            for space in self._promise.wrong(target):
                yield Wrong(kinds.WRONG_PORT, f"a frame of {source.name} for somebody else comes to {target.name}",
                            space)

    def _rewritten(self, name: str, source: Card, target: Card, held: Mapping[str, Now], space: Region
                   ) -> Iterator[Wrong]:
        """With another sender: an answer to ARP on the way, or by a router."""
        if held.get(f.ARP_OP.name) == f.ARP_REPLY:
            yield from self._answered(source, target, held, space)
        elif not self._routed(source.network, target, held, space):
            kind = kinds.ISOLATION if source.network != target.network else kinds.REWRITTEN
            sender = held[_ETH_SRC]
            shown = f.ETH_SRC.show(sender) if isinstance(sender, int) else sender
            yield Wrong(kind, f"a frame of {name} comes to {target.name} as if {shown} had sent it", EVERYTHING)

    def _answered(self, source: Card, target: Card, held: Mapping[str, Now], space: Region) -> Iterator[Wrong]:
        """An answer to ARP that a flow has made: to who asked, and true."""
        address, mac = held.get(f.ARP_SPA.name), held.get(f.ARP_SHA.name)
        known = {(int(one.ip), literal(f.ARP_SHA, one.mac).value) for one in self._promise.cards(source.network)
                 if not isinstance(one, DhcpPort)} | self._floating.get(source.network, set())
        asked = space.cube.get(f.ARP_TPA.name)
        true = (address, mac) in known and asked == (address, f.ARP_TPA.full) and held.get(_ETH_SRC) == mac
        if not true or target.network != source.network:
            yield Wrong(kinds.REWRITTEN, f"a question of {source.name} for a MAC is answered wrongly, to {target.name}",
                        EVERYTHING)
        for wrong in self._promise.wrong(target):
            yield Wrong(kinds.WRONG_PORT, f"an answer for {source.name} comes to {target.name}",
                        _renamed(wrong, held.get(_ETH_DST, _ETH_DST)))

    @cached_property
    def _floating(self) -> dict[str, set[tuple[int, int]]]:
        found: dict[str, set[tuple[int, int]]] = {}
        for router, floating in self._topology.floating_ips_by_router.items():
            for leg in (leg for leg in self._topology.legs_by_router.get(router, ()) if leg.outside):
                found.setdefault(leg.network, set()).update(
                    (int(one.address), literal(f.ARP_SHA, leg.mac).value) for one in floating)
        return found

    # ---- routed, and outside

    def _routed(self, network: str, target: Card, held: Mapping[str, Now], space: Region) -> bool:
        """Whether a router of the network leads to the target, and the frame is as that router sends it."""
        sender, receiver = held.get(_ETH_SRC), held.get(_ETH_DST)
        leaves = [leg for leg in self._topology.legs_by_network.get(target.network, ())
                  if literal(f.ETH_SRC, leg.mac).value == sender]
        macs = [literal(f.ETH_DST, mac).value for mac in self._promise.macs(target)]
        if not leaves or receiver not in macs:
            return False
        asked = space.cube.get(_ETH_DST, (0, 0))
        came = [leg for leg in self._topology.legs_by_network.get(network, ())
                if asked == (literal(f.ETH_DST, leg.mac).value, f.ETH_DST.full)]
        return any(leave.router in self._beyond(leg.router) for leg in came for leave in leaves)

    def _beyond(self, router: str) -> set[str]:
        """A router, and those that it reaches by routes through others."""
        waiting, met = [router], {router}
        while waiting:
            legs = self._topology.legs_by_router.get(waiting.pop(), ())
            near = {other.router for leg in legs for other in self._topology.legs_by_network.get(leg.network, ())}
            fresh = near - met
            met |= fresh
            waiting += fresh
        return met

    def _outside(self, name: str, source: Card | Outside, target: Outside, held: Mapping[str, Now]) -> Iterator[Wrong]:
        """Out of a provider bridge: with the tag of a network that is there, and that the frame is of."""
        vlan = held.get(VLAN, VLAN)
        networks = [one for one in self._topology.networks.values() if one.physical_network == target.physical]
        if isinstance(source, Outside):
            return  # from outside to outside it has not been in the cloud
        fine = {self._promise.tag_outside(one) for one in networks
                if one.name == source.network or (_ETH_SRC in held and self._leaves(one.name, held))}
        if vlan not in fine:
            yield Wrong(kinds.ISOLATION, f"a frame of {name} ({source.network}) leaves the cloud on {target.physical} "
                                         f"where it is not of its network", EVERYTHING)

    def _leaves(self, network: str, held: Mapping[str, Now]) -> bool:
        return any(literal(f.ETH_SRC, leg.mac).value == held[_ETH_SRC]
                   for leg in self._topology.legs_by_network.get(network, ()))

    def _from_outside(self, source: Outside, target: Card, held: Mapping[str, Now], space: Region) -> Iterator[Wrong]:
        """Frames of a network's own tag on the physical network, or what a router there lets in."""
        network = self._topology.networks[target.network]
        here = [one for one in self._topology.networks.values() if one.physical_network == source.physical]
        if _ETH_SRC in held:
            if held.get(f.ARP_OP.name) != f.ARP_REPLY and not any(
                    self._routed(one.name, target, held, space) for one in here):
                yield Wrong(kinds.ISOLATION, f"a frame from outside comes to {target.name}, by no router", EVERYTHING)
        elif network not in here:
            yield Wrong(kinds.ISOLATION, f"a frame from outside comes to {target.name} ({target.network})", EVERYTHING)
        else:
            tag = Literal(VLAN, self._promise.tag_outside(network), f.VLAN_VID.full)
            yield Wrong(kinds.ISOLATION, f"a frame of another network outside comes to {target.name}",
                        _some_but(tag))
            for wrong in self._promise.wrong(target):
                yield Wrong(kinds.WRONG_PORT, f"a frame from outside for somebody else comes to {target.name}", wrong)

    # ---- what is learned

    def taught(self, taught: Taught) -> Iterator[Wrong]:
        """What br-tun learns leads to the network that the VLAN stands for."""
        if not isinstance(taught.action, Learn):
            return
        held = dict(taught.items)
        vlan, tunnel = held.get(VLAN), held.get(f.TUN_ID.name)
        if tunnel != self._tunnels.get(taught.host, {}).get(_vid(vlan)):
            yield Wrong(kinds.ISOLATION, f"{taught.host} learns to send VLAN {_vid(vlan)} with tunnel id {tunnel}",
                        EVERYTHING)

    @cached_property
    def _tunnels(self) -> dict[str, dict[int | None, int | None]]:
        return {host: {vlan: self._topology.networks[name].tunnel_id for name, vlan in seen.vlans.items()
                       if name in self._topology.networks} for host, seen in self._laid.seen.items()}


def _vid(vlan: Now | None) -> int | None:
    return vlan & ~f.VLAN_PRESENT if isinstance(vlan, int) else None


def _renamed(space: Region, held: Now) -> Region:
    """What is said of a receiver, said of the field that it was taken from."""
    if not isinstance(held, str):
        return space
    return Region({held if name == _ETH_DST else name: bits for name, bits in space.cube.items()},
                  tuple(tuple(one._replace(var=held) for one in clause) for clause in space.nots))


def _some(*literals: Literal) -> Region:
    return region(literals) or EVERYTHING


def _some_but(one: Literal) -> Region:
    return region((), [(one,)]) or EVERYTHING


__all__ = ("Arrivals", "Port", "RouterPort", "Wrong")
