"""Routers and DHCP servers as namespaces, want against have: one job for each that differs.

A job is the steps of one of them and of nothing else, so that one that fails harms no other. What a connection that
stands can keep, it keeps: addresses, routes and rules change in place, rules by a single iptables-restore.
"""
from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Final

from controller.host import announce, dnsmasq, nat, steps
from controller.host.converge import port_commands
from controller.host.devices import Devices, Leg, Namespace, OvsPort
from controller.host.steps import Step

_BRIDGE: Final = "br-int"
_PROMISE: Final = 31  # a prefix this long or longer has no broadcast address (RFC 3021)


@dataclass(frozen=True)
class Job:
    """What is to be done for one router, or one network's DHCP."""

    namespace: Namespace  # as it shall be; of a router that goes, as it was
    steps: tuple[Step, ...]


def removals(want: Devices, have: Devices) -> tuple[Job, ...]:
    """Those that go, and those that can only be built anew."""
    wanted = {one.name for one in want.namespaces}
    return tuple(Job(one, tuple(_remove(one))) for one in have.namespaces if one.name not in wanted or not one.whole)


def additions(want: Devices, have: Devices) -> tuple[Job, ...]:
    """Those that come or change; assumes that `removals` has been done."""
    standing = {one.name: one for one in have.namespaces if one.whole}
    jobs = (Job(one, tuple(_build(one, standing.get(one.name), want.mark))) for one in want.namespaces)
    return tuple(job for job in jobs if job.steps)


def failed(want: Namespace, had: Namespace | None) -> Namespace:
    """What may stand of one whose job failed: to be removed before it is built anew."""
    legs = {leg.name: leg for one in (had, want) if one is not None for leg in one.legs}
    return replace(want, legs=tuple(legs.values()), whole=False)


def _remove(gone: Namespace) -> Iterator[Step]:
    why = f"what stands here of {gone.owner} goes"
    if gone.name.startswith(dnsmasq.PREFIX):
        yield from dnsmasq.forget(gone.name, why)
    yield from _unplug(gone.legs, why)
    yield Step(("ip", "netns", "del", gone.name), why, tolerant=True)


def _unplug(legs: Iterable[Leg], why: str) -> Iterator[Step]:
    names = [leg.name for leg in legs]
    yield from steps.vsctl((("--if-exists", "del-port", _BRIDGE, name) for name in names), why)
    yield from steps.ip_batch((f"link del dev {name}" for name in names), why, tolerant=True)


def _build(want: Namespace, now: Namespace | None, mark: str) -> Iterator[Step]:
    if now is None:
        yield Step(("ip", "netns", "add", want.name), f"the namespace of {want.owner}")
        yield from steps.ip_batch((f"link set dev lo alias {mark} up",), "whose it is stands on its own interface",
                                  inside=want.name)
        now = Namespace(want.name, want.owner, (), (), (), ())
    # Translation comes first: no packet shall pass, and no connection be known, without it.
    if want.rules != now.rules:
        yield Step((*steps.entering(want.name), "iptables-restore"), f"the address translation of {want.owner}",
                   nat.restore(want.rules))
    yield from steps.sysctl((one for one in want.sysctls if one not in now.sysctls),
                            f"the kernel's settings for {want.owner}",
                            inside=want.name)
    yield from _legs(want, now)
    yield from _routes(want, now)
    yield from _forget(want, now)
    yield from dnsmasq.serve(want, now)
    yield from _announce(want, now)


# Legs.

def _legs(want: Namespace, now: Namespace) -> Iterator[Step]:
    wanted = {leg.name: leg for leg in want.legs}
    kept = {leg.name: leg for leg in now.legs if leg.name in wanted and wanted[leg.name].mac == leg.mac}
    yield from _unplug((leg for leg in now.legs if leg.name not in kept), f"legs that {want.owner} no longer has")
    made = [leg for leg in want.legs if leg.name not in kept]
    yield from _make(want, made)
    commands = [command for leg in want.legs for command in port_commands(_port(leg), _known(kept.get(leg.name)))]
    yield from steps.vsctl(commands, f"plug {want.owner} into {_BRIDGE}")
    changed = [leg.name for leg in want.legs if leg.name in kept and leg.mtu != kept[leg.name].mtu]
    sizes = [f"link set dev {name} mtu {wanted[name].mtu}" for name in changed]
    yield from steps.ip_batch([*sizes, *(f"link set dev {leg.name} up" for leg in made)], "the ends on this host")
    inside = [*sizes, *(f"link set dev {leg.name} up" for leg in made)]
    inside += [line for leg in want.legs for line in _addresses(leg, kept.get(leg.name))]
    yield from steps.ip_batch(inside, f"the addresses of {want.owner}", inside=want.name)


def _make(want: Namespace, legs: list[Leg]) -> Iterator[Step]:
    lines = (f"link add name {leg.name} mtu {leg.mtu} type veth peer name {leg.name} address {leg.mac} mtu {leg.mtu} "
             f"netns {want.name}" for leg in legs)
    yield from steps.ip_batch(lines, f"the legs of {want.owner}")
    yield from steps.sysctl((f"net/ipv6/conf/{leg.name}/disable_ipv6=1" for leg in legs),
                            "the host itself never speaks on such a leg")
    for leg in legs if want.software_checksums else ():
        for where in ("", want.name):
            yield Step((*steps.entering(where), "ethtool", "-K", leg.name, "tx", "off"),
                       "checksums are computed before a packet leaves")


def _port(leg: Leg) -> OvsPort:
    return OvsPort(leg.name, _BRIDGE, external_ids=leg.external_ids)


def _known(leg: Leg | None) -> OvsPort | None:
    return _port(leg) if leg is not None else None


def _addresses(leg: Leg, now: Leg | None) -> Iterator[str]:
    """New ones first: an address that stays alone in its subnet becomes the primary one by itself."""
    had = now.addresses if now is not None else ()
    for address in leg.addresses:
        if address not in had:
            broadcast = " brd +" if ip_interface(address).network.prefixlen < _PROMISE else ""
            yield f"address replace {address}{broadcast} dev {leg.name}"
    yield from (f"address del {address} dev {leg.name}" for address in had if address not in leg.addresses)


# Routes.

def _routes(want: Namespace, now: Namespace) -> Iterator[Step]:
    """All of them again when a leg has changed: some go with an address, and come by themselves for none."""
    if set(want.routes) == set(now.routes) and set(map(_standing, want.legs)) == set(map(_standing, now.legs)):
        return
    kept = {_destination(line) for line in want.routes}
    yield from steps.ip_batch((f"route del {line}" for line in now.routes if _destination(line) not in kept),
                              f"routes that {want.owner} no longer has", tolerant=True, inside=want.name)
    yield from steps.ip_batch((f"route replace {line}" for line in want.routes), f"the routes of {want.owner}",
                              inside=want.name)


def _standing(leg: Leg) -> tuple[str, str, frozenset[str]]:
    """What of a leg routes hang on; a floating IP is in no subnet of its own."""
    return leg.name, leg.mac, frozenset(address for address in leg.addresses if not address.endswith("/32"))


def _destination(route: str) -> str:
    return route.split()[0]


# Connections, and neighbours.

def _forget(want: Namespace, now: Namespace) -> Iterator[Step]:
    """Connections by an address that is gone, or that now stands for another, would go on as before."""
    kept = {address for leg in want.legs for address in leg.addresses}
    gone = [address.partition("/")[0] for leg in now.legs for address in leg.addresses if address not in kept]
    new, old = nat.floating(want.rules), nat.floating(now.rules)
    gone += [address for address, fixed in old.items() if address in new and new[address] != fixed]
    for address in dict.fromkeys(gone):
        for side in ("--orig-dst", "--reply-dst"):
            yield Step((*steps.entering(want.name), "conntrack", "-D", side, address),
                       f"connections by {address} end", tolerant=True)


def _announce(want: Namespace, now: Namespace) -> Iterator[Step]:
    had = {(leg.name, leg.mac, address) for leg in now.legs for address in leg.addresses}
    new = [word for leg in want.legs for address in leg.addresses if (leg.name, leg.mac, address) not in had
           for word in (leg.name, leg.mac, address.partition("/")[0])]
    if new:
        yield announcement(new, f"neighbours hear where the addresses of {want.owner} are", inside=want.name)


def announcement(words: Iterable[str], why: str, *, inside: str = "") -> Step:
    """The step that announces addresses, given as (interface, MAC, address) one after the other."""
    argv = (sys.executable, "-I", str(Path(announce.__file__)), *words)
    return Step((*steps.entering(inside), *argv), why, background=True)
