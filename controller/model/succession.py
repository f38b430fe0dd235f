"""One topology follows another: what differs, and everything else shared.

Whoever reads a file anew gets values that are equal to those in force, but are others. Here the old ones take their
places, so that `is` tells what is as it was, and the look-ups of the new topology are made from those of the old one
(see `deriving`): an edit costs what it changes, and a pointer comparison for what it does not. What is shared keeps
the line that it had in the old file.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final, Generic, TypeVar

from controller.model import deriving
from controller.model.differing import Change, Difference
from controller.model.objects import DhcpPort, Port, RouterPort
from controller.model.topology import Topology

_T = TypeVar("_T")
_OBJECTS: Final = ("hosts", "networks", "routers", "security_groups", "vms")
_SETTINGS: Final = tuple(each.name for each in fields(Topology)
                         if each.name not in (*_OBJECTS, "floating_ips", "source"))


@dataclass(frozen=True)
class Succession:
    """`new` follows `old`, and holds its values where these are equal."""

    old: Topology
    new: Topology
    difference: Difference
    ports: Change[Port]
    legs: Change[RouterPort]
    servers: Change[DhcpPort]
    floating: frozenset[str]  # routers that translate other floating IPs


@dataclass(frozen=True)
class _Shared(Generic[_T]):
    """The objects of one kind."""

    objects: Mapping[str, _T]
    differing: frozenset[str]
    reordered: bool


def succeed(old: Topology, topology: Topology) -> Succession:
    """What follows from a topology that comes after another, be it made of its values or not."""
    hosts, networks = _share(old.hosts, topology.hosts), _share(old.networks, topology.networks)
    routers, vms = _share(old.routers, topology.routers), _share(old.vms, topology.vms)
    groups = _share(old.security_groups, topology.security_groups)
    translated = old.floating_ips == topology.floating_ips
    difference = Difference(
        hosts=hosts.differing, networks=networks.differing, routers=routers.differing, groups=groups.differing,
        vms=vms.differing, floating_ips=not translated,
        sweeping=any(getattr(old, name) != getattr(topology, name) for name in _SETTINGS)
        or any((networks.reordered, routers.reordered, vms.reordered)))
    new = replace(topology, hosts=hosts.objects, networks=networks.objects, routers=routers.objects, vms=vms.objects,
                  security_groups=groups.objects,
                  floating_ips=old.floating_ips if translated else topology.floating_ips)
    return Succession(old, new, difference, *deriving.derive(old, new, difference))


def _share(old: Mapping[str, _T], new: Mapping[str, _T]) -> _Shared[_T]:
    """A pointer comparison for each object that is the old one already, or is not there twice."""
    if old is new:
        return _Shared(old, frozenset(), False)
    differing: set[str] = set()
    equal: dict[str, _T] = {}
    for name, one in new.items():
        before = old.get(name)
        if before is None or (before is not one and before != one):
            differing.add(name)
        elif before is not one:
            equal[name] = before
    came = {name for name in differing if name not in old}
    gone = {name for name in old if name not in new} if len(new) - len(came) != len(old) else set()
    stayed, stay = [name for name in old if name not in gone], [name for name in new if name not in came]
    return _Shared({**new, **equal} if equal else new, frozenset(differing | gone), stayed != stay)
