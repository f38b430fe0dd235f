"""A topology between file and value: the objects whose shape is right, each with its place in the file.

Made by `shapes`, read by the checks and by `resolving`. Objects with a wrong shape are missing here, but their names
are among the declared ones, so that nobody is told of a dangling name because of another mistake.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from uuid import UUID

from controller.model import names
from controller.model.problems import Position
from controller.model.schema import (
    FloatingIpShape,
    HostShape,
    NetworkShape,
    PortShape,
    RouterShape,
    RuleShape,
    SinglePortVmShape,
    SubnetShape,
    TunnelShape,
    UnderlayShape,
    VmShape,
)
from controller.model.topology import Address
from controller.model.tree import Node

S = TypeVar("S", covariant=True)

# Sections, and subnets, whose objects others call by name.
REFERRED = ("hosts", "networks", "subnets", "security_groups", "vms")
UNNAMED_CLOUD = "unnamed"  # seeds the ids we compare when the file's own cloud is missing or wrong


@dataclass(frozen=True)
class Item(Generic[S]):
    """An object of the file whose shape is right."""

    name: str
    path: str  # as messages show it: `vms.web1`
    shape: S
    node: Node

    def at(self, *path: str | int) -> Position:
        """Where a value inside the object stands; the object's key if it is not in the file."""
        return self.node.find(*path)

    @property
    def line(self) -> int:
        return self.node.place.line


@dataclass(frozen=True)
class SubnetItem(Item[SubnetShape]):
    network: str
    id: UUID


@dataclass(frozen=True)
class PortItem(Item[PortShape]):
    """A VM's port, in either form of writing it."""

    vm: str
    host: str
    index: int
    id: UUID
    mac: str


@dataclass(frozen=True)
class Leg:
    """A router's port: one interface, or the gateway."""

    router: str
    path: str
    network: str | None  # None if the file does not tell, or its subnet is unknown
    subnet: str | None  # None for a gateway
    ip: Address | None
    id: UUID
    mac: str
    at: Position
    ip_at: Position


@dataclass(frozen=True)
class Group:
    """A security group; rules with a wrong shape are left out."""

    name: str
    path: str
    node: Node
    id: UUID
    rules: tuple[Item[RuleShape], ...]


@dataclass(frozen=True)
class Draft:
    """Everything of a file that has the right shape."""

    root: Node
    cloud: str
    options: Mapping[str, object]  # the valid ones among the keys of schema.OptionsShape, defaults filled in
    underlay: Item[UnderlayShape] | None
    tunnel: Item[TunnelShape] | None
    hosts: dict[str, Item[HostShape]] = field(default_factory=dict)
    networks: dict[str, Item[NetworkShape]] = field(default_factory=dict)
    subnets: dict[str, SubnetItem] = field(default_factory=dict)
    routers: dict[str, Item[RouterShape]] = field(default_factory=dict)
    legs: list[Leg] = field(default_factory=list)
    floating_ips: dict[str, Item[FloatingIpShape]] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    vms: dict[str, Item[VmShape | SinglePortVmShape]] = field(default_factory=dict)
    ports: list[PortItem] = field(default_factory=list)
    # Section -> the names it declares, also of objects with a wrong shape; None if nobody can tell.
    declared: dict[str, frozenset[str] | None] = field(default_factory=lambda: dict.fromkeys(REFERRED))
    # Networks of which some subnet has a wrong shape: their addresses cannot be judged.
    unsure: set[str] = field(default_factory=set)
    subnets_by_network: dict[str, list[SubnetItem]] = field(default_factory=dict)

    def object_id(self, path: str) -> UUID:
        """The id of an object that the file gives none."""
        return names.object_id(self.cloud, path.encode("utf-8", "backslashreplace").decode())

    def section(self, name: str) -> Position:
        """Where a top-level key stands."""
        return self.root.key_of(name)

    def distinct_ports(self) -> list[PortItem]:
        """The ports without those that repeat an id, whose other likenesses need not be said."""
        return list({port.id: port for port in reversed(self.ports)}.values())[::-1]

    def judged_networks(self) -> Iterator[Item[NetworkShape]]:
        """The networks whose subnets are all known."""
        return (network for name, network in self.networks.items() if name not in self.unsure)
