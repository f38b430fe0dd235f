"""Frames over a whole cloud, on paper: out of a VM's port, through every bridge they come to, to where they end.

Each host's flows are compiled as the daemon would; patch ports, tunnels and physical networks are the wires between
them. Routers think for themselves (`crossing`), and the VMs answer their questions; the world outside answers, too.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controller.model import names, placement
from controller.model.names import PATCH_INT, PATCH_TUN
from controller.model.placement import Seen
from controller.model.topology import Port, Topology
from controller.tools import world
from controller.tools.crossing import Put, Routers
from controller.tools.gates import Gates
from controller.tools.hosttables import HostTables, Installed
from controller.tools.stops import Crossing, Ending, Gate, Stop, Visit
from flows import fields as f
from flows import packet as packets
from flows.fields import Criterion
from flows.packet import Packet
from flows.tables import BR_INT, BR_TUN, Table
from flows.tracking import Conntrack

_TOO_FAR = 64  # stops in a row; the longest way of a sound pipeline has a dozen


class Loop(Exception):
    """A frame goes round. The tables never do that; a fault of theirs must not hang a tool."""


@dataclass(frozen=True)
class _Entry:
    host: str
    bridge: str
    device: str
    packet: Packet
    before: Stop | None = None
    start: Table | None = None  # else the first one
    registers: tuple[Criterion, ...] = ()
    by: int | None = None  # the OpenFlow port by which it left `before`


class Cloud:
    """A topology's hosts with their tables, and what these and the routers learn from the frames sent here."""

    def __init__(self, topology: Topology, seen: Mapping[str, Seen] | None = None, *, whole: bool = False,
                 installed: Installed | None = None) -> None:
        """`whole`: compile all networks of the hosts that frames come to, and not only those of the frames.

        `installed`: what of that the switches have, where somebody has looked.
        """
        self._topology = topology
        self._tables = HostTables(topology, seen, whole=whole, installed=installed)
        self._tracked: dict[str, Conntrack] = {}
        self._routers = Routers(topology)
        self._gates = Gates(topology)
        self.let_out = ""  # why the sender's groups let the last frame out, where they look at it before br-int does
        self._waiting: dict[str, Crossing] = {}  # router -> the last frame that waits there
        self._port_of = {(port.host, port.device): port for port in topology.ports()}
        legs = [leg for own in topology.legs_by_router.values() for leg in own]
        self._leg_of = {(leg.host, leg.device): leg for leg in legs if leg.driver == "namespace"}
        self._server_of = {(server.host, server.device): server for server in topology.dhcp_by_network.values()}
        self._leg_macs = {f.ETH_SRC(leg.mac).value for leg in legs}
        self._host_of = {placement.tunnel_device(topology, host): name for name, host in topology.hosts.items()}

    def seen(self, host: str) -> Seen:
        """The host's numbers: those given, and for the rest those of a host that has just been built."""
        return self._tables.seen(host)

    def compiled(self) -> dict[str, int]:
        """Host -> how many of its networks were compiled so far, for the hosts that frames came to."""
        return self._tables.compiled()

    def device(self, host: str, bridge: str, ofport: int) -> str:
        """The device behind an OpenFlow port; empty if there is none."""
        return self._tables.device(host, bridge, ofport)

    def send(self, port: Port, packet: Packet) -> tuple[Ending, ...]:
        """Put a frame on a VM's wire. Every copy's end, nearest first; bridges and routers learn.

        What a router asks, and what it is told, is left out. Loop if the frame goes round.
        """
        said = self._gates.out(port, packet)
        self.let_out = said.why if said is not None and said.passes else ""
        if said is not None and not said.passes:
            return (Ending(Gate(port, True, said.why, packet, None), None, packet),)
        return self._run([_Entry(port.host, BR_INT, port.device, packet)])

    def send_from_outside(self, network: str, packet: Packet) -> tuple[Ending, ...]:
        """The same from the world outside, on one of the networks that it is on."""
        physical = self._topology.networks[network].physical_network or ""
        self.let_out = ""
        return self._run(self._into_hosts(physical, world.dressed(self._topology, network, packet), None, None))

    def forget(self) -> None:
        """As if no frame had been sent."""
        self._tables.forget()
        self._tracked.clear()
        self._gates.forget()
        self._routers = Routers(self._topology)

    # ---- the wheel

    def _run(self, first: list[_Entry] | Iterator[_Entry]) -> tuple[Ending, ...]:
        endings: list[Ending] = []
        self._waiting.clear()
        entries = deque(first)
        while entries:
            visit = self._visit(entries.popleft())
            if len(visit.way) > _TOO_FAR:
                raise Loop(f"{visit.packet} goes round between {visit.host}/{visit.bridge} and its neighbours")
            onward = list(self._leave(visit))
            endings += [one for one in onward if isinstance(one, Ending)]
            entries += [one for one in onward if isinstance(one, _Entry)]
            entries += [answer for one in onward if isinstance(one, Ending) for answer in self._answer(one)]
            if not onward:
                endings.append(Ending(visit, None, visit.walk.last.after))
        endings += [Ending(waiting, None, waiting.packet) for waiting in self._waiting.values()]
        return tuple(one for one in endings if not self._is_of_router(one.packet))

    def _is_of_router(self, packet: Packet) -> bool:
        """ARP that a router asks, or is told."""
        field = f.ARP_SHA if packet.get(f.ARP_OP) == f.ARP_REQUEST else f.ARP_THA
        return packet.get(field) in self._leg_macs

    def _answer(self, ending: Ending) -> Iterator[_Entry]:
        """A VM that a router asks for its MAC says it."""
        port, packet = ending.port, ending.packet
        if port is not None and packet.get(f.ARP_OP) == f.ARP_REQUEST and self._is_of_router(packet) \
                and packet.shown(f.ARP_TPA) == str(port.ip):
            reply = packets.arp_reply(port.mac, port.ip, packet.shown(f.ARP_SHA), packet.shown(f.ARP_SPA))
            yield _Entry(port.host, BR_INT, port.device, reply, ending.stop)

    # ---- bridges

    def _visit(self, entry: _Entry) -> Visit:
        pipeline = self._tables.pipeline(entry.host, entry.bridge, self._networks(entry))
        ofport = self.seen(entry.host).ofport(entry.bridge, entry.device)
        packet = entry.packet
        for criterion in entry.registers:
            packet = packet.set(criterion)
        walk = pipeline.walk(packet, -1 if ofport is None else ofport, self._tracked.get(entry.host), entry.start)
        self._tracked[entry.host] = walk.conntrack
        if walk.learned:
            self._tables.learn(entry.host, entry.bridge, walk.learned)
        return Visit(entry.host, entry.bridge, entry.device, walk, entry.before, entry.by)

    def _networks(self, entry: _Entry) -> list[str]:
        """Those that a frame may be of as it comes in."""
        plug = self._port_of.get((entry.host, entry.device)) or self._leg_of.get((entry.host, entry.device))
        if plug is not None:
            return [plug.network]
        if entry.start is not None:  # the daemon puts it back where it was asked
            return []
        if entry.packet.tunnel_id:
            return [name for name in self._carried(entry.host)
                    if self._topology.networks[name].tunnel_id == entry.packet.tunnel_id]
        if entry.device in (PATCH_TUN, PATCH_INT):
            return [name for name, vlan in self.seen(entry.host).vlans.items() if vlan == entry.packet.vlan]
        networks = self._topology.networks
        return [name for name in self._carried(entry.host) if networks[name].physical_network is not None]

    def _carried(self, host: str) -> tuple[str, ...]:
        return self._topology.whereabouts.carried(host)

    def _leave(self, visit: Visit) -> Iterator[Ending | _Entry]:
        for ofport, copy in visit.walk.outputs:
            yield from self._out_of(visit, ofport, copy)
        for packet in visit.walk.asked:
            passage = self._routers.in_daemon(self._tables.routers(visit.host), packet)
            if passage is not None:
                yield from self._through(Crossing(visit.host, passage, packet, visit))

    def _out_of(self, visit: Visit, by: int, copy: Packet) -> Iterator[Ending | _Entry]:
        # Beyond the bridge nobody knows of its registers, nor, but for a tunnel, of the tunnel id.
        host, bare = visit.host, copy.with_(tunnel_id=0)
        device = self._tables.device(host, visit.bridge, by)
        if device == PATCH_TUN:
            yield _Entry(host, BR_TUN, PATCH_INT, bare, visit, by=by)
        elif device == PATCH_INT:
            yield _Entry(host, BR_INT, PATCH_TUN, bare, visit, by=by)
        elif device in self._host_of:
            back = placement.tunnel_device(self._topology, self._topology.hosts[host])
            yield _Entry(self._host_of[device], BR_TUN, back, copy, visit, by=by)
        elif port := self._port_of.get((host, device)):
            yield self._at(port, bare, visit, by)
        elif leg := self._leg_of.get((host, device)):
            yield from self._through(Crossing(host, self._routers.in_namespace(leg, bare), bare, visit, by))
        elif server := self._server_of.get((host, device)):
            yield Ending(visit, None, bare, by=by, server=server)
        elif device:
            yield from self._to_provider(visit, by, device, bare)

    def _at(self, port: Port, packet: Packet, visit: Visit, by: int) -> Ending:
        said = self._gates.into(port, packet)
        if said is not None and not said.passes:
            return Ending(Gate(port, False, said.why, packet, visit, by), None, packet)
        return Ending(visit, port, packet, allowed=said.why if said is not None else "", by=by)

    # ---- routers

    def _through(self, crossing: Crossing) -> Iterator[Ending | _Entry]:
        passage = crossing.passage
        told = crossing.packet.get(f.ETH_TYPE) == f.ARP
        for put in passage.puts:
            asks = put.packet.get(f.ETH_TYPE) == f.ARP
            if told and not asks and passage.router in self._waiting:  # what it sends came before, and waited for this
                yield self._entry(put, self._waiting.pop(passage.router))
                continue
            if asks and not told:
                self._waiting[passage.router] = crossing
            yield self._entry(put, crossing)
        if not passage.puts:
            yield Ending(crossing, None, crossing.packet)

    @staticmethod
    def _entry(put: Put, before: Crossing) -> _Entry:
        return _Entry(before.host, BR_INT, put.device, put.packet, before, put.start, put.registers)

    # ---- physical networks

    def _to_provider(self, visit: Visit, by: int, device: str, packet: Packet) -> Iterator[Ending | _Entry]:
        """Between br-int and a provider bridge, and out of it."""
        mappings = self._topology.hosts[visit.host].bridge_mappings
        for physical, bridge in mappings.items():
            if (visit.bridge, device) == (BR_INT, names.int_device(bridge)):
                yield _Entry(visit.host, bridge, names.phy_device(bridge), packet, visit, by=by)
            elif (visit.bridge, device) == (bridge, names.phy_device(bridge)):
                yield _Entry(visit.host, BR_INT, names.int_device(bridge), packet, visit, by=by)
            elif visit.bridge == bridge and device != bridge:
                yield from self._onto(physical, packet, visit, by)

    def _onto(self, physical: str, packet: Packet, visit: Visit, by: int) -> Iterator[Ending | _Entry]:
        """A frame on a physical network: to the other hosts there, and to the world outside."""
        network, bare = world.undressed(self._topology, physical, packet)
        if network is not None and world.is_for(self._topology, network, bare):
            reply = world.answer(self._topology, network, bare)
            if reply is None:
                yield Ending(visit, None, bare, network, by=by)
            else:
                yield from self._into_hosts(physical, world.dressed(self._topology, network, reply), visit, by)
        if network is None or not world.is_its_own(self._topology, network, bare):
            yield from (one for one in self._into_hosts(physical, packet, visit, by) if one.host != visit.host)

    def _into_hosts(self, physical: str, packet: Packet, before: Stop | None, by: int | None) -> Iterator[_Entry]:
        for host in self._topology.hosts.values():
            if bridge := host.bridge_mappings.get(physical):
                yield _Entry(host.name, bridge, self._uplink(host.name, bridge), packet, before, by=by)

    def _uplink(self, host: str, bridge: str) -> str:
        ports = self.seen(host).ports.get(bridge, {})
        return next((one for one in ports if one not in (bridge, names.phy_device(bridge))), placement.UPLINK)
