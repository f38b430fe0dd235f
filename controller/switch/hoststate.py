"""What is known of one host: its ports and local VLANs as its switches say them, its sessions, its routers."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Final

from controller.model import names, placement
from controller.model.differing import Speaker
from controller.model.placement import Seen
from controller.model.topology import Topology
from controller.switch.diff import Forget
from controller.switch.events import NextHop
from controller.switch.foresight import Foresight, foresight
from controller.switch.found import Found
from controller.switch.routing import Routing
from controller.switch.session import Session
from flows.cookie import KIND_MASK, is_learned
from flows.sheet import Part
from flows.tables import BR_INT, BR_TUN

_GONE: Final = "gone:"  # no network's name has a colon
PortRows = dict[tuple[object, ...], tuple[Part, ...]]  # all that the flows of a port are made of -> its flows
Ways = tuple[tuple[object, ...], tuple[Part, ...]]  # all that other flows are made of, and these
_A_VLAN: Final = 1 << 32  # in what br-int has learned from: see flows.delivery.remember_away


@dataclass
class HostState:
    """A host. All but the ports and the sessions outlives a connection."""

    name: str
    routing: Routing
    ports: dict[str, dict[str, int]] = field(default_factory=dict)  # bridge -> port name -> OpenFlow port
    vlans: dict[str, int] | None = None  # network -> local VLAN; None until the switches have been read
    sessions: dict[str, tuple[object, Session]] = field(default_factory=dict)  # bridge -> (connection, session)
    forget: list[Forget] = field(default_factory=list)  # what br-tun learned and shall forget, once it can be told
    behind: list[Forget] = field(default_factory=list)  # and br-int: who is behind a port without port security
    compiled: dict[str, PortRows] = field(default_factory=dict)  # network -> its ports' flows as they are
    ways: dict[str, Ways] = field(default_factory=dict)  # network -> its other flows in br-int as they are
    taught: set[int] = field(default_factory=set)  # by whom br-int was when it was read the last time: see Forget
    neighbours: list[NextHop] = field(default_factory=list)  # learned ones, as br-int was read the last time
    ahead: Foresight | None = None  # what its networks come to, while a switch is being read
    # Where local VLANs are in use, until they have been taken over; None: the bridge has not been read.
    tunnels: list[tuple[int | None, int]] | None = None  # in br-tun: (tunnel id, VLAN)
    segments: list[tuple[str, int | None, int]] | None = None  # in br-int: (port, VLAN there or None, local VLAN)

    @property
    def seen(self) -> Seen:
        return Seen(self.ports, self.vlans or {})

    def take_rows(self, topology: Topology, bridge: str, rows: Found) -> None:
        """A bridge has been read: take over the local VLANs in use, as soon as all that know of them are read.

        The VLANs of the overlay stand in br-tun. Those of provider networks are taken from br-int, by the row that lets
        them in from their bridge, and not from that bridge: it may connect later. While no port leads there, nothing
        comes in, and the VLAN is not kept.
        """
        if bridge == BR_INT:
            self.neighbours = [row.neighbour for row in rows.others if row.neighbour is not None]
            self.taught = {row.cookie & ~KIND_MASK for row in rows.others if is_learned(row.cookie)}
            devices = {ofport: name for name, ofport in self.ports[BR_INT].items()}
            self.segments = [(devices.get(row.in_port, ""), row.segment, vlan)
                             for row in rows.telling if (vlan := row.vlan) and row.in_port is not None]
        elif bridge == BR_TUN:
            self.tunnels = [(row.tunnel_id, vlan) for row in rows.telling if (vlan := row.vlan)]
        self._recover(topology)

    def foresee(self, topology: Topology, bridge: str, rows: Found) -> Iterator[None]:
        """Compute what will be wanted, piece by piece: `rows` of a bridge that is being read say the VLANs in use."""
        if bridge != BR_TUN:
            return
        told = HostState(self.name, self.routing, self.ports, vlans=self.vlans, segments=self.segments)
        told.take_rows(topology, bridge, rows)
        if told.vlans is not None:
            ahead = self.ahead = foresight(topology, self.name, told.seen)
            for _ in ahead.work():
                yield
                if self.ahead is not ahead:
                    return

    def _may_teach(self, topology: Topology, source: int) -> bool:
        """Whether br-int shall know who is behind this: a port, or all other hosts of the network of a VLAN."""
        vlan, device = source // _A_VLAN, self.device_of(source)
        unsecured = topology.whereabouts.unsecured(self.name)
        if not vlan:
            return device in {port.device for port in unsecured}
        network = next((name for name, mine in (self.vlans or {}).items() if mine == vlan), None)
        bridges = topology.hosts[self.name].bridge_mappings.values()
        return (network in {port.network for port in unsecured}
                and device in {names.PATCH_TUN, *map(names.int_device, bridges)})

    def device_of(self, cookie: int) -> str:
        """The port that taught br-int a flow with this cookie; empty if it is gone."""
        return next((name for name, number in self.ports.get(BR_INT, {}).items() if number == cookie % _A_VLAN), "")

    def forgets_of(self, bridge: str) -> list[Forget]:
        """What is to be forgotten there and has not been said yet; to be added to, or taken from."""
        return {BR_INT: self.behind, BR_TUN: self.forget}.get(bridge, [])

    def take_ports(self, topology: Topology, bridge: str, ports: Mapping[str, int]) -> None:
        """All ports of a bridge, as it says them when it connects."""
        before, self.ports[bridge] = self.ports.get(bridge, {}), dict(ports)
        for name, ofport in before.items():
            if ports.get(name) != ofport:
                self.port_gone(topology, bridge, name, ofport)

    def change_ports(self, topology: Topology, bridge: str, changes: Mapping[str, int | None]) -> None:
        """Ports have come to a bridge (with their numbers), have other numbers, or are gone (None)."""
        ports = self.ports.setdefault(bridge, {})
        for name, ofport in changes.items():
            if name in ports:
                self.port_gone(topology, bridge, name, ports.pop(name))
            if ofport is not None:
                ports[name] = ofport

    def port_gone(self, topology: Topology, bridge: str, name: str, ofport: int) -> None:
        """A port has left a bridge, or has another number there: what was learned from it is of no use."""
        if bridge == BR_TUN:
            self.forget.append(Forget(ofport=ofport))
        elif bridge == BR_INT and any(port.device == name for port in topology.whereabouts.unsecured(self.name)):
            self.behind.append(Forget(source=ofport))

    def _recover(self, topology: Topology) -> None:
        overlay = self._overlay(topology)
        if self.vlans is None:
            if self.tunnels is None or (self.segments is None and topology.hosts[self.name].bridge_mappings):
                return
            # The VLAN of a network that is gone is not free yet: until both bridges have been written, frames wear it.
            self.vlans = {name if name is not None else f"{_GONE}{vlan}": vlan
                          for vlan, name in [*self._outside(topology), *overlay]}
            self.allot(topology)
        network_of = {vlan: name for name, vlan in self.vlans.items()}
        # A VLAN whose tunnel id is another network's now is stale.
        self.forget += [Forget(vlan=vlan) for vlan, name in overlay if name is None or network_of.get(vlan) != name]
        self.tunnels = None
        self.behind += [Forget(source=one) for one in sorted(self.taught) if not self._may_teach(topology, one)]
        self.taught = set()

    def _overlay(self, topology: Topology) -> list[tuple[int, str | None]]:
        """The local VLANs in use in br-tun, and the network that each is of; None: of none that the topology has."""
        if not self.tunnels:
            return []
        by_tunnel = {network.tunnel_id: name for name, network in topology.networks.items()
                     if network.tunnel_id is not None}
        return [(vlan, by_tunnel.get(tunnel_id)) for tunnel_id, vlan in self.tunnels if tunnel_id is not None]

    def _outside(self, topology: Topology) -> Iterator[tuple[int, str | None]]:
        """The same for br-int, where provider networks come in."""
        bridges = topology.hosts[self.name].bridge_mappings
        if not bridges:
            return
        physical = {names.int_device(bridge): network for network, bridge in bridges.items()}
        network_at = {(network.physical_network, network.segmentation_id): name
                      for name, network in topology.networks.items() if network.physical_network is not None}
        for device, segment, vlan in self.segments or ():
            if device in physical:
                yield vlan, network_at.get((physical[device], segment))

    def edit(self, old: Topology, new: Topology, networks: Set[str], moved: Iterable[Speaker]) -> None:
        """Another topology is in force: what was learned and is wrong now is forgotten, what comes gets its VLAN.

        `networks`: those that differ; `moved`: whose MACs live on another host now.
        """
        vlans = self.vlans or {}
        self.forget += [Forget(vlan=vlans[port.network], mac=port.mac) for port in moved
                        if port.network in vlans and self.name != port.host]
        # What was learned under a VLAN carries the tunnel id of its network in its actions.
        self.forget += [Forget(vlan=vlans[name]) for name in sorted(networks & vlans.keys()) if name in new.networks
                        and old.networks[name].tunnel_id != new.networks[name].tunnel_id]
        if old.forwarding != new.forwarding:
            self.forget.append(Forget())
        self.behind += self._unlearned(old, new)
        if vlans.keys() != self.carried(new):
            self.allot(new)

    def _unlearned(self, old: Topology, new: Topology) -> Iterator[Forget]:
        """What br-int has learned from ports that have port security now, or are gone, or in another network."""
        before, after = (one.whereabouts.unsecured(self.name) for one in (old, new))
        here, still = self.ports.get(BR_INT, {}), {(port.id, port.network) for port in after}
        over = [port for port in before if (port.id, port.network) not in still]
        yield from (Forget(source=here[port.device]) for port in over if port.device in here)
        # And from br-tun, for them.
        left = {port.network for port in over} - {network for _, network in still}
        yield from (Forget(vlan=vlan) for name, vlan in sorted((self.vlans or {}).items()) if name in left)

    def allot(self, topology: Topology) -> None:
        """Local VLANs for what the host carries now; what was learned under one that changes hands is forgotten."""
        before = self.vlans or {}
        self.vlans = placement.allot_vlans(sorted(self.carried(topology)), before)
        self.compiled = {name: rows for name, rows in self.compiled.items() if name in self.vlans}
        self.ways = {name: ways for name, ways in self.ways.items() if name in self.vlans}
        self.forget += [Forget(vlan=vlan) for name, vlan in before.items() if self.vlans.get(name) != vlan]

    def carried(self, topology: Topology) -> set[str]:
        """The networks that it carries."""
        return set(topology.whereabouts.carried(self.name))

    def touched(self, topology: Topology, bridge: str, changed: Set[str]) -> tuple[bool, set[str]]:
        """Which pieces depend on ports of these names, on a bridge: (the base, networks)."""
        if changed & {names.PATCH_INT, names.PATCH_TUN}:
            return True, set(self.carried(topology))
        where, physical = topology.whereabouts, self._leads_to(topology, bridge, changed)
        found = {name for name in self.carried(topology) if topology.networks[name].physical_network in physical} \
            if physical else set()
        if bridge == BR_INT:
            plugs = where.plugs(self.name)
            found.update(plugs[name] for name in changed if name in plugs)
        elif bridge == BR_TUN:
            others = {where.tunnel_to[name] for name in changed if name in where.tunnel_to} - {self.name}
            found = {name for other in others for name in where.carried(other)} & self.carried(topology)
            return bool(others) or names.STRANGERS in changed, found
        return bool(physical), found

    def _leads_to(self, topology: Topology, bridge: str, changed: Set[str]) -> set[str]:
        """The physical networks that these ports lead to: every port of a provider bridge, and br-int's to one."""
        return {physical for physical, provider in topology.hosts[self.name].bridge_mappings.items()
                if provider == bridge or (bridge == BR_INT and names.int_device(provider) in changed)}
