"""All VM ports of a cloud, gathered by network and by host in one walk.

A hundred thousand ports do not fit into a processor's cache: to look at each of them once more costs as much as all
that is done with what was found. So what placement asks of every port is taken along, in columns.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from operator import attrgetter
from typing import Final, NamedTuple

from controller.model.objects import Port, Vm

# Asked of each port, without a function of Python's.
_PORTS: Final = attrgetter("ports")
_ASKED: Final = attrgetter("network", "host", "mac", "port_security", "allowed_address_pairs")


class Members(NamedTuple):
    """The VM ports on a network, in the order of the file."""

    ports: tuple[Port, ...] = ()
    hosts: tuple[str, ...] = ()  # of each port
    macs: tuple[str, ...] = ()  # its own
    alike: bool = True  # all of them have port security, and no MAC beside their own

    @classmethod
    def of(cls, ports: Iterable[Port]) -> Members:
        """Of these."""
        found = [(port, *_ASKED(port)[1:]) for port in ports]
        return _members(found) if found else cls()


class Gathered(NamedTuple):
    """Networks, and hosts, without ports are absent."""

    by_network: Mapping[str, Members]
    by_host: Mapping[str, tuple[Port, ...]]


_Asked = tuple[Port, str, str, bool, tuple[object, ...]]


def gather(vms: Iterable[Vm]) -> Gathered:
    """Every port of these VMs."""
    on: defaultdict[str, list[_Asked]] = defaultdict(list)
    by_host: dict[str, tuple[str, list[Port]]] = {}
    for port in chain.from_iterable(map(_PORTS, vms)):
        network, host, mac, secured, pairs = _ASKED(port)
        here = by_host.get(host)
        if here is None:
            here = by_host[host] = host, []
        host, ports = here  # the same text for all who live there: it stays in the cache
        on[network].append((port, host, mac, secured, pairs))
        ports.append(port)
    return Gathered({name: _members(found) for name, found in on.items()},
                    {name: tuple(ports) for name, ports in by_host.values()})


def _members(found: list[_Asked]) -> Members:
    ports, hosts, macs, secured, pairs = zip(*found, strict=True)
    return Members(ports, hosts, macs, all(secured) and not any(pairs))
