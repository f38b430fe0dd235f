"""One topology follows another: what differs, and everything else shared.

Whoever reads a file anew gets values that are equal to those in force, but are others. Here the old ones take their
places, so that `is` tells what is as it was, and the look-ups of the new topology are made from those of the old one
(see `deriving`): an edit costs what it changes, and a pointer comparison for what it does not. What is shared keeps
the line that it had in the old file.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from operator import indexOf, is_
from typing import Final, Generic, TypeVar

from controller.model import deriving
from controller.model.differing import Change, Difference
from controller.model.objects import DhcpPort, Port, RouterPort
from controller.model.topology import Topology

_T = TypeVar("_T")
OBJECTS: Final = ("hosts", "networks", "routers", "security_groups", "vms")
_SETTINGS: Final = tuple(each.name for each in fields(Topology)
                         if each.name not in (*OBJECTS, "floating_ips", "source"))


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
    """A pointer comparison for each object that is the old one already and stands where it stood."""
    if old is new:
        return _Shared(old, frozenset(), False)
    before, after = _middles(old, new)
    differing: set[str] = set()
    equal: dict[str, _T] = {}
    for name, one in after.items():
        was = before.get(name)
        if was is None or (was is not one and was != one):
            differing.add(name)
        elif was is not one:
            equal[name] = was
    stayed, stay = [name for name in before if name in after], [name for name in after if name in before]
    differing |= before.keys() - after.keys()
    return _Shared({**new, **equal} if equal else new, frozenset(differing), stayed != stay)


def _middles(old: Mapping[str, _T], new: Mapping[str, _T]) -> tuple[dict[str, _T], dict[str, _T]]:
    """Both without what is the same at the beginning and at the end: of a VM that was added, nothing, and the VM."""
    start = _same(old.values(), new.values(), min(len(old), len(new)))
    names, names_of_new = deriving.last(old, len(old) - start), deriving.last(new, len(new) - start)
    end = _same(map(old.__getitem__, reversed(names)), map(new.__getitem__, reversed(names_of_new)),
                min(len(names), len(names_of_new)))
    return ({name: old[name] for name in names[:len(names) - end]},
            {name: new[name] for name in names_of_new[:len(names_of_new) - end]})


def _same(ones: Iterable[_T], others: Iterable[_T], every: int) -> int:
    """How many of so many values are the same, from the beginning; without a step of Python for each."""
    try:
        return indexOf(map(is_, ones, others), False)
    except ValueError:
        return every
