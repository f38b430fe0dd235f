"""What `verify` walks: the bridges of a cloud with their tables, the wires between them, and who sends and hears."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from controller.model import names, placement
from controller.model.placement import Seen
from controller.model.topology import DhcpPort, Port, RouterPort, Topology
from flows import br_ex, br_int, br_tun, routed
from flows import host as narrow
from flows.compile import bridges, compile_groups, compile_network
from flows.flow import Flow
from flows.prove_cloud import End, Plug, Wire, Wiring
from flows.sheet import Part, whole
from flows.tables import BR_INT, BR_TUN

Flows = Mapping[tuple[str, str], tuple[Flow, ...]]  # (host, bridge) -> its flows
Card = Port | RouterPort | DhcpPort
STRANGE_PORT: Final = 0xFFFE  # stands for a port that the topology does not know: no device has this number


@dataclass(frozen=True)
class Outside:
    """The world on a physical network, as one host's provider bridge meets it."""

    physical: str
    host: str

    @property
    def name(self) -> str:
        return f"the world outside on {self.physical}"


class Laid:
    """A topology's bridges as they are plugged together, by the numbers of each host."""

    def __init__(self, topology: Topology, seen: Mapping[str, Seen] | None = None) -> None:
        self.topology = topology
        self.seen = {host: completed(topology, host, (seen or {}).get(host)) for host in topology.hosts}
        self.ends: dict[str, Card | Outside] = {}
        self.plugs: dict[str, Plug] = {}  # name of an end -> where its frames come in

    @cached_property
    def hosts(self) -> Mapping[str, narrow.Host]:
        """As the compilers see them."""
        return {host: placement.place(self.topology, host, self.seen[host]) for host in self.topology.hosts}

    @cached_property
    def wiring(self) -> Wiring:
        """What is behind each port."""
        behind: dict[Plug, tuple[Wire | End, ...]] = {}
        for host in self.topology.hosts:
            behind.update(self._inside(host))
            behind.update(self._tunnels(host))
            behind.update(self._cards(host))
            behind.update(self._outside(host))
        return Wiring(behind)

    def port(self, host: str, bridge: str, device: str) -> Plug | None:
        """A device's place, None while the switch does not have it."""
        number = self.seen[host].ofport(bridge, device)
        return None if number is None else (host, bridge, number)

    def strange(self) -> Iterator[tuple[str, Plug]]:
        """Ports that nobody may speak by: of unknown devices, and of tunnels from unknown hosts."""
        for host in self.topology.hosts:
            yield f"an unknown port of {host}", (host, BR_INT, STRANGE_PORT)
            yield f"an unknown port of {host}'s {BR_TUN}", (host, BR_TUN, STRANGE_PORT)
            if (plug := self.port(host, BR_TUN, names.STRANGERS)) is not None:
                yield f"a tunnel to {host} from a host that the topology does not know", plug

    # ---- parts

    def _inside(self, host: str) -> Iterator[tuple[Plug, tuple[Wire | End, ...]]]:
        yield from self._patched(host, (BR_INT, names.PATCH_TUN), (BR_TUN, names.PATCH_INT))
        for bridge in self.topology.hosts[host].bridge_mappings.values():
            yield from self._patched(host, (BR_INT, names.int_device(bridge)), (bridge, names.phy_device(bridge)))

    def _patched(self, host: str, one: tuple[str, str], other: tuple[str, str]
                 ) -> Iterator[tuple[Plug, tuple[Wire | End, ...]]]:
        first, second = self.port(host, *one), self.port(host, *other)
        if first is not None and second is not None:
            yield first, (Wire(*second),)
            yield second, (Wire(*first),)

    def _tunnels(self, host: str) -> Iterator[tuple[Plug, tuple[Wire | End, ...]]]:
        own = self.topology.whereabouts.tunnels
        for other in self.topology.hosts:
            here, there = self.port(host, BR_TUN, own[other]), self.port(other, BR_TUN, own[host])
            if other != host and here is not None and there is not None:
                yield here, (Wire(*there, tunnel=True),)

    def _cards(self, host: str) -> Iterator[tuple[Plug, tuple[Wire | End, ...]]]:
        topology = self.topology
        legs = (leg for leg in topology.legs_by_host.get(host, ()) if leg.driver == "namespace")
        cards: Iterable[Card] = (*topology.ports_by_host.get(host, ()), *legs, *topology.dhcp_by_host.get(host, ()))
        for card in cards:
            plug = self.port(host, BR_INT, card.device)
            if plug is not None:
                self.ends[card.name], self.plugs[card.name] = card, plug
                yield plug, (End(card.name),)

    def _outside(self, host: str) -> Iterator[tuple[Plug, tuple[Wire | End, ...]]]:
        """A card of a provider bridge leads to the world outside, and to the other hosts on that physical network."""
        for physical, bridge in self.topology.hosts[host].bridge_mappings.items():
            own = (bridge, names.phy_device(bridge))
            others = [Wire(other.name, other.bridge_mappings[physical], number)
                      for other in self.topology.hosts.values() if other.name != host
                      and physical in other.bridge_mappings for number in self._uplinks(other.name, physical)]
            for device, number in self.seen[host].ports.get(bridge, {}).items():
                end = Outside(physical, host)
                if device not in own:
                    self.ends[end.name] = end
                    self.plugs.setdefault(f"{end.name} at {host}", (host, bridge, number))
                    yield (host, bridge, number), (End(end.name), *others)

    def _uplinks(self, host: str, physical: str) -> list[int]:
        bridge = self.topology.hosts[host].bridge_mappings[physical]
        return [number for device, number in self.seen[host].ports.get(bridge, {}).items()
                if device not in (bridge, names.phy_device(bridge))]


def completed(topology: Topology, host: str, given: Seen | None) -> Seen:
    """A host's numbers: those given, and VLANs for networks that have none yet; else as on a host just built."""
    imagined = placement.imagined(topology, host)
    if given is None:
        return imagined
    return Seen(given.ports, placement.allot_vlans(sorted(imagined.vlans), given.vlans))


def compiled(hosts: Iterable[narrow.Host]) -> dict[tuple[str, str], tuple[Flow, ...]]:
    """What each bridge shall hold, in no order: nobody reads it."""
    found: dict[tuple[str, str], list[Flow]] = {}
    for host in hosts:
        for bridge in bridges(host):
            found[host.name, bridge] = []
        for flow in whole(_parts(host)):
            found[host.name, flow.table.bridge].append(flow)
    return {key: tuple(flows) for key, flows in found.items()}


def _parts(host: narrow.Host) -> Iterator[Part]:
    yield from br_int.base(host)
    yield from br_tun.base(host)
    yield from br_ex.base(host)
    for network in host.networks:
        yield from compile_network(host, network)
        yield from compile_groups(host, network)
    yield from dict.fromkeys(row for simulated in host.routers for row in routed.router(simulated))
