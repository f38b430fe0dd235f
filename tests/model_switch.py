"""A switch as a value that obeys plans like Open vSwitch, and a world of them around a fleet; no I/O, no clock."""
from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field, replace
from itertools import count

from controller.model import placement
from controller.model.placement import Seen
from controller.model.topology import Topology
from controller.switch.diff import Forget, Plan
from controller.switch.dumps import Update
from controller.switch.events import (
    Asked,
    Claim,
    Command,
    Count,
    Drop,
    Inspect,
    Installed,
    Learn,
    Log,
    Mastery,
    NextHop,
    PacketOut,
    Quit,
    ReadFlows,
    Removed,
    Settled,
    Unlearn,
    Watch,
    Write,
)
from controller.switch.fleet import Fleet
from controller.switch.roles import generation
from controller.switch.zones import Tenant, tenants
from flows import fields as f
from flows.compile import compile_host
from flows.cookie import (
    LEARNED_COOKIE,
    NEIGHBOUR_COOKIE,
    OWNER,
    OWNER_MASK,
    cookie_of,
    is_compiled,
    is_learned,
    is_neighbour,
)
from flows.fields import tagged
from flows.flow import Flow, Match, Metered, Output, SetField, Track, flow, when
from flows.host import CONTROLLER_METER, Meter
from flows.sheet import flow_of
from flows.tables import BR_INT, BR_TUN, UNICAST
from flows.text import line

Key = tuple[int, int, Match]
_DAEMON = generation(1 << 20)  # the least by which two daemons' generations differ
_GENERATION = 1000 * _DAEMON
STRANGER_COOKIE = 0x7700000000000001


@dataclass
class ModelSwitch:
    """Rows by table, priority and match, as a switch keeps them: an add overwrites what has the same."""

    dpid: int
    bridge: str
    ports: dict[str, int]
    rows: dict[Key, tuple[int, Flow]] = field(default_factory=dict)
    meters: dict[int, Meter] = field(default_factory=dict)
    filled: dict[int, Tenant] = field(default_factory=dict)  # zone -> who has filled it since it was emptied
    claimed: int | None = None  # generation id of the last claim of the master's role
    rival: bool = False  # another daemon, a newer one, is connected

    def put(self, cookie: int, row: Flow) -> None:
        assert all(action.meter in self.meters for action in row.actions if isinstance(action, Metered))
        self.rows[row.table.id, row.priority, row.match] = (cookie, row)

    def obey_all(self, parts: Iterable[Plan]) -> None:
        """The bundles of one write."""
        emptied: set[int] = set()
        for part in parts:
            emptied.update(part.flush)
            self.obey(part, emptied)

    def obey(self, plan: Plan, emptied: Set[int] = frozenset()) -> None:
        """A bundle. `emptied`: zones by the bundles before it in one write."""
        for meter in plan.meters_add:
            assert meter.id not in self.meters
            self.meters[meter.id] = meter
        for meter in plan.meters_change:
            assert meter.id in self.meters
            self.meters[meter.id] = meter
        for zone in plan.flush:
            self.filled.pop(zone, None)
        before = self.tenants()
        self.rows = {key: held for key, held in self.rows.items() if held[0] not in plan.renew}
        for cookie, row in plan.add:
            self.put(cookie, flow_of(row))
        self._delete(plan)
        for zone in plan.flush_again:
            assert zone in plan.flush
            self.filled.pop(zone, None)
        for tenant in self.tenants():
            assert self.filled.setdefault(tenant.zone, tenant) == tenant, "it inherits what another has filled"
            assert tenant in before or tenant.zone in plan.flush or tenant.zone in emptied
        for number in plan.meters_delete:
            del self.meters[number]
            assert Metered(number) not in [action for _, row in self.rows.values() for action in row.actions]

    def _delete(self, plan: Plan) -> None:
        self.rows = {key: (cookie, row) for key, (cookie, row) in self.rows.items()
                     if cookie not in plan.delete
                     and not (is_learned(cookie) and any(_concerns(one, cookie, row) for one in plan.forget))}

    def tenants(self) -> frozenset[Tenant]:
        """Those that any row has tracked."""
        return frozenset[Tenant]().union(*(tenants(row) for _, row in self.rows.values()))

    def grant(self, claim: Claim) -> Iterator[Mastery]:
        """What it says to a claim, and because of it: a rival claims again at once."""
        if claim.generation is None:
            yield Mastery(False, self.claimed)
        elif self.claimed is not None and claim.generation < self.claimed:
            yield Mastery(False, stale=True)
        else:
            self.claimed = claim.generation
            yield Mastery(True, self.claimed)
            if self.rival:
                self.claimed += 1
                yield Mastery(False, self.claimed)

    def learn(self, vlan: int, mac: str, tunnel_id: int, ofport: int) -> None:
        """What its learn action would have added."""
        self.put(LEARNED_COOKIE, flow(UNICAST, "learned", when(tagged(vlan), f.ETH_DST(mac)), SetField(
            f.TUN_ID(tunnel_id)), Output(ofport), origin="learned", why="learned"))

    def dump(self) -> list[Installed]:
        return [_installed(cookie, row) for cookie, row in self.rows.values()]

    def compiled(self) -> dict[Key, int]:
        return {key: cookie for key, (cookie, _) in self.rows.items() if is_compiled(cookie)}

    def neighbours(self) -> dict[tuple[int, int], tuple[str, str]]:
        """(Leg, address) -> (its MAC, the leg's)."""
        found = [one.neighbour for one in self.dump() if one.neighbour]
        return {(one.leg, one.address): (one.mac, one.source) for one in found}

    def obey_at_once(self, command: Learn | Unlearn) -> None:
        row = command.flow
        if isinstance(command, Learn):
            self.put(NEIGHBOUR_COOKIE, row)
        elif is_neighbour(self.rows.get((row.table.id, row.priority, row.match), (0, row))[0]):
            del self.rows[row.table.id, row.priority, row.match]

    def learned(self) -> list[Flow]:
        return [row for cookie, row in self.rows.values() if is_learned(cookie)]

    def strangers(self) -> list[Flow]:
        return [row for cookie, row in self.rows.values() if cookie & OWNER_MASK != OWNER << 56]


def _concerns(forget: Forget, cookie: int, row: Flow) -> bool:
    vlan, mac = row.match[f.VLAN_VID], row.match[f.ETH_DST]
    return ((forget.vlan is None or (vlan is not None and vlan == tagged(forget.vlan)))
            and (forget.mac is None or (mac is not None and mac == f.ETH_DST(forget.mac)))
            and (forget.source is None or cookie == LEARNED_COOKIE | forget.source)
            and (forget.ofport is None or Output(forget.ofport) in row.actions))


def _installed(cookie: int, row: Flow) -> Installed:
    written = {action.criterion.field: action.criterion.value for action in row.actions if isinstance(action, SetField)}
    if is_neighbour(cookie):
        mac, source = (f.ETH_DST.show(written[one]) for one in (f.ETH_DST, f.ETH_SRC))
        return Installed(cookie, row.table.id, priority=row.priority, neighbour=NextHop(
            _value(row, f.REG_LEAVES_BY) or 0, _value(row, f.REG_NEXT_HOP) or 0, mac, source))
    tracked = [action.zone for action in row.actions if isinstance(action, Track) and isinstance(action.zone, int)]
    zone = written.get(f.REG_ZONE) or next(iter(tracked), None)
    if f.VLAN_VID not in written:
        return Installed(cookie, row.table.id, zone=zone, priority=row.priority)
    segment = _value(row, f.VLAN_VID)
    return Installed(cookie, row.table.id, _value(row, f.TUN_ID), written[f.VLAN_VID] & ~f.VLAN_PRESENT,
                     _value(row, f.IN_PORT), segment & ~f.VLAN_PRESENT if segment else None, zone=zone,
                     priority=row.priority)


def _value(row: Flow, wanted: f.Field) -> int | None:
    criterion = row.match[wanted]
    return criterion.value if criterion else None


class World:
    """A fleet and its switches. What the fleet asks of a switch waits until `settle` or `step`."""

    def __init__(self, topology: Topology, *, bare: bool = False) -> None:
        self.switches = {(host, bridge): ModelSwitch(dpid, bridge, {})
                         for host in topology.hosts for bridge, dpid in topology.hosts[host].datapath_ids.items()}
        if not bare:
            self.plug_all(topology)
        self.logs: list[Log] = []
        self.packets: list[PacketOut] = []
        self.now = 1000.0
        self.writes: list[tuple[str, str, Plan]] = []  # host, bridge, plan: all that was ever obeyed
        self.settled: list[tuple[str, str]] = []  # who was told that it has all that it takes for now
        self._conns: dict[tuple[str, str], object] = {}
        self._names = count()
        self._started = _GENERATION
        self._waiting: deque[tuple[tuple[str, str], object, Command]] = deque()
        self.start_daemon(topology)

    def start_daemon(self, topology: Topology, serve: frozenset[str] | None = None) -> None:
        """A new daemon, a moment younger than the one before. No switch knows of it yet."""
        self.fleet = Fleet(topology, serve, clock=lambda: self.now)
        self._started += _DAEMON
        self.fleet.generation = self._started

    def plug_all(self, topology: Topology) -> None:
        """Every device that the hosts of a topology shall have."""
        for host in topology.hosts:
            for bridge, ports in placement.imagined(topology, host).ports.items():
                self.switches[host, bridge].ports = dict(ports)

    # ---- what switches do

    def connect(self, *places: tuple[str, str]) -> None:
        """These bridges (all of them, if none is named) connect, or connect again."""
        for place in places or self.switches:
            conn = f"{'/'.join(place)}#{next(self._names)}"
            self._conns[place] = conn
            switch = self.switches[place]
            self._obey(self.fleet.connected(conn, switch.dpid, switch.ports), place)

    def disconnect(self, *places: tuple[str, str]) -> None:
        """What was asked and not yet answered never will be."""
        for place in places or tuple(self._conns):
            conn = self._conns.pop(place, None)
            if conn is not None:
                self._waiting = deque(one for one in self._waiting if one[1] != conn)
                self._obey(self.fleet.disconnected(conn), place)

    def is_connected(self, place: tuple[str, str]) -> bool:
        return place in self._conns

    def port(self, host: str, bridge: str, name: str, ofport: int | None) -> None:
        """A port comes (with a number) or goes (None), and the switch says so if it is connected."""
        switch = self.switches[host, bridge]
        switch.ports.pop(name, None)
        if ofport is not None:
            switch.ports[name] = ofport
        if (host, bridge) in self._conns:
            self._obey(self.fleet.ports_changed(self._conns[host, bridge], {name: ofport}), (host, bridge))

    def rival(self, place: tuple[str, str], *, there: bool) -> None:
        """Another daemon, a newer one, connects to a bridge, or goes."""
        switch = self.switches[place]
        if there and not switch.rival:
            self._started += _DAEMON
            switch.claimed = self._started
            if place in self._conns:
                self._obey(self.fleet.role(self._conns[place], Mastery(False, switch.claimed)), place)
        switch.rival = there

    # ---- what people do

    def apply(self, topology: Topology) -> None:
        for host in topology.hosts:
            for bridge, dpid in topology.hosts[host].datapath_ids.items():
                self.switches.setdefault((host, bridge), ModelSwitch(dpid, bridge, {}))
        self._obey(self.fleet.apply(topology))

    def tell(self, place: tuple[str, str], updates: Iterable[Update]) -> None:
        """A switch's flow monitor says this, if it is connected."""
        if place in self._conns:
            self.fleet.healing.told(self._conns[place], updates, self.now)

    def restart_daemon(self) -> None:
        self._conns.clear()
        self._waiting.clear()
        self.start_daemon(self.fleet.topology)
        self.connect()

    def recompute(self) -> None:
        self._obey(self.fleet.recompute())

    # ---- what routers are asked

    def ask(self, host: str, asked: Asked) -> list[PacketOut]:
        """A packet that br-int cannot route alone; returns what is sent because of it."""
        place = host, BR_INT
        before = len(self.packets)
        self._obey(self.fleet.asked(self._conns[place], asked, self.now), place)
        return self.packets[before:]

    def drop_row(self, host: str, row: Removed) -> None:
        """A learned neighbour's row has expired."""
        switch = self.switches[host, BR_INT]
        for key, (cookie, held) in list(switch.rows.items()):
            if is_neighbour(cookie) and (_value(held, f.REG_LEAVES_BY), _value(held, f.REG_NEXT_HOP)) == (
                    row.leg, row.address):
                del switch.rows[key]
        self._obey(self.fleet.removed(self._conns[host, BR_INT], row), (host, BR_INT))

    def pass_time(self, seconds: float) -> list[PacketOut]:
        """What is said meanwhile."""
        end, before = self.now + seconds, len(self.packets)
        while self.fleet.due <= end:
            self.now = max(self.now, self.fleet.due)
            self._obey(self.fleet.tick(self.now))
            assert self.fleet.due > self.now, "it would never sleep"
        self.now = end
        return self.packets[before:]

    # ---- time

    def _obey(self, commands: Iterable[Command], place: tuple[str, str] | None = None) -> None:
        for command in commands:
            if isinstance(command, Log):
                self.logs.append(command)
            elif isinstance(command, Settled):
                self.settled.append(self._place(command.conn, place))
            elif isinstance(command, Drop):
                self._dropped(command.conn)
            elif isinstance(command, Claim):
                where = self._place(command.conn, place)
                for said in self.switches[where].grant(command):
                    self._obey(self.fleet.role(command.conn, said), where)
            elif isinstance(command, Watch | Count | Inspect):
                continue  # nobody else writes to a model's switch
            elif isinstance(command, Quit):
                self._waiting = deque(one for one in self._waiting if one[1] != command.conn)
            elif isinstance(command, PacketOut):
                assert command.conn is not None
                self.packets.append(command)
            else:
                self._waiting.append((self._place(command.conn, place), command.conn, command))

    def _place(self, conn: object, default: tuple[str, str] | None) -> tuple[str, str]:
        for place, mine in self._conns.items():
            if mine == conn:
                return place
        assert default is not None
        return default

    def _dropped(self, conn: object) -> None:
        self._waiting = deque(one for one in self._waiting if one[1] != conn)
        place = next((place for place, mine in self._conns.items() if mine == conn), None)
        if place is not None:
            del self._conns[place]
        self._obey(self.fleet.disconnected(conn))
        if place is not None:
            self.connect(place)  # a switch always comes back

    def step(self, place: tuple[str, str] | None = None, *, refuse: str = "", bundles: int = 0) -> bool:
        """The oldest question (to one switch, if named) is answered. False if nobody waits.

        `refuse`: why a write is not taken, but for its first `bundles`, which are never all.
        """
        for index, (where, conn, command) in enumerate(self._waiting):
            if place is None or where == place:
                del self._waiting[index]
                self._answer(where, conn, command, refuse, bundles)
                return True
        return False

    def _answer(self, place: tuple[str, str], conn: object, command: Command, refuse: str, bundles: int) -> None:
        switch = self.switches[place]
        if isinstance(command, ReadFlows):
            assert command.meters == (switch.bridge == BR_INT)
            self._obey(self.fleet.flows_read(conn, switch.dump(), switch.meters.values()), place)
        elif isinstance(command, Learn | Unlearn):
            switch.obey_at_once(command)
        elif isinstance(command, Write) and refuse:
            switch.obey_all(command.parts[:-1][:bundles])
            self._obey(self.fleet.refused(conn, refuse), place)
        elif isinstance(command, Write):
            switch.obey_all(command.parts)
            self.writes.append((*place, command.plan))
            self._obey(self.fleet.committed(conn), place)

    def lose_write(self, place: tuple[str, str], bundles: int | None = None) -> None:
        """The connection breaks when the switch has obeyed (all, or so many bundles) and before its answer has come."""
        for where, _, command in self._waiting:
            if where == place and isinstance(command, Write):
                self.switches[place].obey_all(command.parts[:bundles])
                break
        self.disconnect(place)

    def settle(self) -> None:
        while self.step() or self._reach_some():
            pass

    def _reach_some(self) -> bool:
        """Time passes as far as an edit needs it to reach all hosts."""
        waits = bool(self.fleet.backlog)
        if waits:
            self._obey(self.fleet.tick(self.now))
        return waits

    # ---- what is true

    def waiting(self) -> list[Command]:
        return [command for _, _, command in self._waiting]

    def session(self, host: str, bridge: str) -> object:
        return self.fleet.hosts[host].sessions[bridge][1]

    def wanted(self, host: str, bridge: str) -> dict[Key, int]:
        """What a bridge shall hold, computed from nothing but the topology, the ports and the VLANs in use."""
        return self._computed(host)[bridge]

    def _anew(self) -> Topology:
        """The topology in force without look-ups that were made from those of an earlier one."""
        return replace(self.fleet.topology)

    def _computed(self, host: str, topology: Topology | None = None) -> dict[str, dict[Key, int]]:
        """The same for all bridges of a host."""
        ports = {name: self.switches[host, name].ports for name in self.fleet.topology.hosts[host].datapath_ids}
        vlans = self.fleet.hosts[host].vlans
        assert vlans is not None
        found = compile_host(placement.place(topology or self._anew(), host, Seen(ports, vlans)))
        return {bridge: {(row.table.id, row.priority, row.match): cookie_of(row) for row in rows}
                for bridge, rows in found.items()}

    def check(self) -> None:
        """Every connected switch holds what it shall hold, and learned nothing that leads into another network."""
        mine = [(host, bridge) for host, bridge in self._conns
                if host in self.fleet.hosts and bridge in self.fleet.topology.hosts[host].datapath_ids]
        anew = self._anew()
        wanted = {host: self._computed(host, anew) for host in dict(mine)}
        for host, bridge in mine:
            assert self.switches[host, bridge].compiled() == wanted[host][bridge], f"{host}/{bridge}"
        for host, bridge in self._conns:
            if host in self.fleet.hosts and bridge == BR_INT:
                self._check_routers(host)
        for host in self.fleet.hosts:
            if (host, BR_TUN) in self._conns:
                self._check_learned(host)

    def _check_routers(self, host: str) -> None:
        """Every meter that a flow names is there and no other, and what was learned is known and of a leg that is."""
        switch, routing = self.switches[host, BR_INT], self.fleet.hosts[host].routing
        named = {action.meter for _, row in switch.rows.values() for action in row.actions
                 if isinstance(action, Metered)}
        assert set(switch.meters) >= named
        assert set(switch.meters) <= named | {CONTROLLER_METER} | {
            neighbour.meter for router in routing.placed.values() for neighbour in router.neighbours}
        known = {(leg.number, address): (mac, hop.router.by_name[name].mac) for hop in routing.hops.values()
                 for (name, address), mac in hop.rows.items() for leg in hop.placed.legs if leg.name == name}
        assert switch.neighbours() == {key: (f.ETH_DST.show(int.from_bytes(mac, "big")), source)
                                       for key, (mac, source) in known.items()}

    def _check_learned(self, host: str) -> None:
        state, topology = self.fleet.hosts[host], self.fleet.topology
        tunnels = {vlan: topology.networks[name].tunnel_id for name, vlan in (state.vlans or {}).items()}
        for row in self.switches[host, BR_TUN].learned():
            vlan = row.match[f.VLAN_VID]
            assert vlan is not None
            leads_to = [action.criterion.value for action in row.actions if isinstance(action, SetField)]
            assert leads_to == [tunnels.get(vlan.value & ~f.VLAN_PRESENT)], f"{host}: {line(row)}"
