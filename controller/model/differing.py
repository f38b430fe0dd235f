"""What differs between two topologies, in the terms of the file: names of objects, and who speaks on networks."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from controller.model.objects import DhcpPort, Port, RouterPort

Speaker = Port | RouterPort | DhcpPort  # who has a MAC on a network
_S = TypeVar("_S", bound=Speaker)


@dataclass(frozen=True)
class Difference:
    """What only one of two topologies has, or each has otherwise: names of objects."""

    hosts: frozenset[str]
    networks: frozenset[str]
    routers: frozenset[str]
    groups: frozenset[str]
    vms: frozenset[str]
    floating_ips: bool
    sweeping: bool  # everything: a setting of the whole cloud, or what both have stands in another order


@dataclass(frozen=True)
class Change(Generic[_S]):
    """Who is gone, and who came; who is another now is in both."""

    gone: tuple[_S, ...] = ()
    come: tuple[_S, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.gone or self.come)

    @property
    def networks(self) -> set[str]:
        return {each.network for each in (*self.gone, *self.come)}

    @property
    def hosts(self) -> set[str]:
        return {each.host for each in (*self.gone, *self.come)}
