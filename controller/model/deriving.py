"""The look-ups of a topology that follows another, made from those of the old one.

Every look-up says, in `Topology`, what it is; here stands only which of its entries an edit can change. What cannot be
told so is left out, and is found anew when somebody asks: an entry of here always equals one found anew.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from itertools import count, islice
from typing import Any, Final, TypeVar
from uuid import UUID

from controller.model.dhcp import ROLE, dhcp_port
from controller.model.differing import Change, Difference, Speaker
from controller.model.numbers import Numbers
from controller.model.objects import DhcpPort, Port, RouterPort
from controller.model.topology import Topology

_S = TypeVar("_S", bound=Speaker)
_BEFORE: Final = (-1, 0)  # the place of what stands before all that differs; its order stays


Changes = tuple[Change[Port], Change[RouterPort], Change[DhcpPort], frozenset[str]]


def derive(old: Topology, new: Topology, difference: Difference) -> Changes:
    """Fill the look-ups of `new`, and say whose ports, legs and servers, and which routers' floating IPs, differ."""
    step = _Step(old, new, difference)
    if not difference.sweeping:
        step.fill()
    return step.ports, step.legs, step.servers, step.floating


class _Step:
    """From one topology to the next."""

    def __init__(self, old: Topology, new: Topology, difference: Difference) -> None:
        self.old, self.new, self.difference = old, new, difference

    # ---- what differs

    @cached_property
    def ports(self) -> Change[Port]:
        gone: list[Port] = []
        come: list[Port] = []
        for name in self.difference.vms:
            before = self.old.vms[name].ports if name in self.old.vms else ()
            after = self.new.vms[name].ports if name in self.new.vms else ()
            gone += (port for port in before if port not in after)
            come += (port for port in after if port not in before)
        return Change(tuple(gone), tuple(come))

    @cached_property
    def _rerouted(self) -> frozenset[str]:
        """The routers that may have other legs."""
        over = (leg.router for name in self.difference.networks for leg in self.old.legs_by_network.get(name, ()))
        return self.difference.routers.union(over)

    @cached_property
    def legs(self) -> Change[RouterPort]:
        routers = self._rerouted if not self.difference.sweeping else {*self.old.routers, *self.new.routers}
        before = [leg for name in routers for leg in self.old.legs_by_router.get(name, ())]
        after = [leg for name in routers for leg in self.new.legs_by_router.get(name, ())]
        return _change(before, after)

    @cached_property
    def servers(self) -> Change[DhcpPort]:
        everywhere = self.difference.sweeping or self._serving_moves
        names = {*self.old.networks, *self.new.networks} if everywhere else self.difference.networks
        old, new = self.old.dhcp_by_network, self.new.dhcp_by_network
        return _change([old[name] for name in names if name in old], [new[name] for name in names if name in new])

    @cached_property
    def floating(self) -> frozenset[str]:
        old, new = self.old.floating_ips_by_router, self.new.floating_ips_by_router
        return frozenset(() if old is new else (name for name in {*old, *new} if old.get(name) != new.get(name)))

    @cached_property
    def _serving_moves(self) -> bool:
        """Whether the hosts that serve DHCP are others."""
        return any(topology.hosts[name].role == ROLE for topology in (self.old, self.new)
                   for name in self.difference.hosts if name in topology.hosts)

    # ---- look-ups

    def fill(self) -> None:
        """Those that can be made from old ones that somebody has asked for."""
        self._take("ports_by_network", lambda old: _regrouped(old, self.ports, _network, self._place_of_port))
        self._take("ports_by_host", lambda old: _regrouped(old, self.ports, _host, self._place_of_port))
        self._take_legs()
        if not self._serving_moves:
            self._take("dhcp_by_network", self._dhcp)
            self._take("dhcp_by_host", lambda old: _regrouped(old, self.servers, _host, self._place_of_server))
        if not self.difference.networks:
            self._take("subnets", lambda old: old)
        if not self.difference.hosts:
            self._take("bridges", lambda old: old)
            touched = self.ports, self.legs, self.servers
            hosts = set[str]().union(*(each.hosts for each in touched))
            networks = set[str]().union(*(each.networks for each in touched))
            self._take("whereabouts", lambda old: old.after(self.new, hosts, networks))
            self._take("neighbours", lambda old: old.after(self.new, networks))
        self._take_translations()
        if not self.legs:
            self._take("filters", lambda old: old.after(self.new, self.ports, self.difference))

    def _take(self, name: str, derive_it: Callable[[Any], Any]) -> None:
        if name in vars(self.old):  # where cached_property keeps it
            vars(self.new)[name] = derive_it(vars(self.old)[name])

    def _take_legs(self) -> None:
        self._take("legs_by_router", self._legs)
        self._take("legs_by_network", lambda old: _regrouped(old, self.legs, _network, self._place_of_leg))
        self._take("legs_by_host", lambda old: _regrouped(old, self.legs, _host, self._place_of_leg))

    def _legs(self, old: Mapping[str, tuple[RouterPort, ...]]) -> Mapping[str, tuple[RouterPort, ...]]:
        if not self._rerouted:
            return old
        found = ((name, self.new.legs_of(router) if name in self._rerouted else old.get(name, ()))
                 for name, router in self.new.routers.items())
        return {name: legs for name, legs in found if legs}

    def _dhcp(self, old: Mapping[str, DhcpPort]) -> Mapping[str, DhcpPort]:
        if not self.difference.networks:
            return old
        found = dict(old)
        for name in self.difference.networks:
            network = self.new.networks.get(name)
            server = dhcp_port(self.new.cloud, network, self.new.hosts.values()) if network else None
            if server is None:
                found.pop(name, None)
            else:
                found[name] = server
        return found

    def _take_translations(self) -> None:
        """Floating IPs, contested addresses and numbers, while all routers stay as they are."""
        inhabited = self.old.legs_by_network.keys()
        translated = {floating_ip.vm for floating_ip in self.old.floating_ips}
        if self.difference.floating_ips or self._rerouted or self.difference.vms & translated:
            return
        self._take("floating_ips_by_router", lambda old: old)
        joined = self.ports.networks & inhabited
        contested = {name: self.new.contested_on(name) for name in joined}
        self._take("contested_by_network", lambda old: {**old, **contested})
        hosts = {leg.host for name in joined for leg in self.new.legs_by_network[name]}
        self._take("numbers_by_host", lambda old: {**old, **{host: self._numbers(old[host], host) for host in hosts
                                                             if host in old}})

    def _numbers(self, old: Numbers, host: str) -> Numbers:
        """Of a host whose routers are as they were, with others behind their legs."""
        gone, come = self._senders(self.ports.gone, host), self._senders(self.ports.come, host)
        numbers = old if gone == come else old.with_senders(gone - come, come - gone) or self.new.numbers_of(host)
        assert numbers is not None  # routers are simulated there
        return numbers

    def _senders(self, ports: Iterable[Port], host: str) -> set[UUID]:
        """The ports on networks that a router which is simulated on the host has a leg on."""
        return {port.id for port in ports if any(leg.host == host and leg.driver == "simulated"
                                                 for leg in self.new.legs_by_network.get(port.network, ()))}

    # ---- the order of the file

    def _place_of_port(self, port: Port) -> tuple[int, int]:
        place = self._vms.get(port.vm)
        return _BEFORE if place is None else (place, port.index)

    def _place_of_leg(self, leg: RouterPort) -> tuple[int, int]:
        place = self._routers.get(leg.router)
        return _BEFORE if place is None else (place, self.new.legs_by_router[leg.router].index(leg))

    def _place_of_server(self, server: DhcpPort) -> tuple[int, int]:
        return self._networks.get(server.network, -1), 0

    @cached_property
    def _vms(self) -> Mapping[str, int]:
        return _places(self.new.vms, self.difference.vms)

    @cached_property
    def _routers(self) -> Mapping[str, int]:
        return _places(self.new.routers, self.difference.routers)

    @cached_property
    def _networks(self) -> Mapping[str, int]:
        return _places(self.new.networks, self.difference.networks)


def forget(topology: Topology) -> None:
    """Let go of look-ups that know a topology of the past: they would keep it till somebody looks for garbage.

    Who asks for one finds it anew.
    """
    for name in ("filters", "neighbours", "whereabouts"):
        vars(topology).pop(name, None)


def last(objects: Mapping[str, object], many: int) -> list[str]:
    """The names of so many at the end, in order. Nobody looks at those before them."""
    backwards = reversed(objects if isinstance(objects, dict) else dict(objects))
    return list(islice(backwards, many))[::-1]


def _places(objects: Mapping[str, object], differing: frozenset[str]) -> Mapping[str, int]:
    """Name -> its place. Mostly something came at the end of a file, and nobody need count what stands before it."""
    end = last(objects, len(differing))
    if sum(name in objects for name in differing) == len(differing.intersection(end)):
        return dict(zip(end, count()))
    return dict(zip(objects, count()))


def _network(one: Speaker) -> str:
    return one.network


def _host(one: Speaker) -> str:
    return one.host


def _change(before: Collection[_S], after: Collection[_S]) -> Change[_S]:
    was, now = {each.id: each for each in before}, {each.id: each for each in after}
    return Change(tuple(each for each in before if now.get(each.id) != each),
                  tuple(each for each in after if was.get(each.id) != each))


def _regrouped(groups: Mapping[str, tuple[_S, ...]], change: Change[_S], key: Callable[[Speaker], str],
               place: Callable[[_S], Any]) -> Mapping[str, tuple[_S, ...]]:
    """Groups without who is gone and with who came, each in the order of the file."""
    if not change:
        return groups
    found, gone = dict(groups), {each.id for each in change.gone}
    for name in {key(each) for each in (*change.gone, *change.come)}:
        mine = [each for each in groups.get(name, ()) if each.id not in gone]
        come = [each for each in change.come if key(each) == name]
        found[name] = tuple(sorted([*mine, *come], key=place) if come else mine)
        if not found[name]:
            del found[name]
    return found
