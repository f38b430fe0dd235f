"""Stories of simulated routers as the daemon runs them: what br-int asks, what is learned, asked again, and said."""
from __future__ import annotations

from dataclasses import replace

import pytest

from controller.model import placement
from controller.model.topology import Topology
from controller.switch.events import Asked, Learn, Log, NextHop, PacketOut, Removed, Unlearn
from controller.switch.hop import Hop
from controller.switch.routing import Routing
from flows import fields as f
from flows.host import SimulatedRouter
from flows.router import Leg
from flows.routing.wireformat import BROADCAST_MAC, Arp, Datagram, Frame
from flows.tables import LEAVE, TRANSLATE_OUT
from tests.routerkit import ping, udp_to
from tests.unit.test_fleet_routers import INT, R1, R2, VMS, cloud, running

HOST = "network1"
STRANGER, MAC, OTHER_MAC = "10.0.2.77", "02:00:00:00:00:77", "02:00:00:00:00:88"
CONN = "br-int"


def placed(topology: Topology) -> list[SimulatedRouter]:
    seen = placement.imagined(topology, HOST)
    return [placement.place_router(topology, HOST, name, seen) for name in placement.simulated(topology, HOST)]


def bytes_of(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


class Told:
    """The routers of a host, and a switch that remembers what it was told."""

    def __init__(self, topology: Topology | None = None, *, settled: bool = True) -> None:
        self.routing = Routing(HOST)
        self.routing.conn = CONN
        self.now = 1000.0
        self.rows: dict[tuple[int, int], NextHop] = {}
        self.logs: list[Log] = []
        self.intend(topology or cloud(), settled=settled)

    def intend(self, topology: Topology, *, settled: bool = True) -> list[PacketOut]:
        routers = placed(topology)
        return self.obey(self.routing.intend(routers, {one.router.name for one in routers} if settled else set()))

    def obey(self, commands: list[object]) -> list[PacketOut]:
        for command in commands:
            assert not hasattr(command, "conn") or command.conn == CONN
            if isinstance(command, Learn | Unlearn):
                written = {action.criterion.field: action.criterion for action in command.flow.actions
                           if hasattr(action, "criterion")}
                key = tuple(command.flow.match[field].value for field in (f.REG_LEAVES_BY, f.REG_NEXT_HOP))
                self.rows.pop(key, None)
                if isinstance(command, Learn):
                    macs = (f.ETH_DST.show(written[one].value) for one in (f.ETH_DST, f.ETH_SRC))
                    self.rows[key] = NextHop(*key, *macs)
            elif isinstance(command, Log):
                self.logs.append(command)
        return [command for command in commands if isinstance(command, PacketOut)]

    def hop(self, name: str = "r1") -> Hop:
        return self.routing.hops[name]

    def leg(self, subnet: str, router: str = "r1") -> tuple[Leg, int]:
        """A leg and its number."""
        hop = self.hop(router)
        numbers = next(one for one in hop.placed.legs if one.what == f"{router} on {subnet}")
        return hop.router.by_name[numbers.name], numbers.number

    def ask(self, subnet: str, packet: Datagram, mark: int = 0, router: str = "r1") -> list[PacketOut]:
        leg, number = self.leg(subnet, router)
        frame = packet.framed(bytes_of(OTHER_MAC), leg.hardware)
        asked = Asked(self.hop(router).placed.number, number, mark, frame)
        return self.obey(self.routing.asked(asked, self.now))

    def answer(self, subnet: str = "green-subnet", address: str = STRANGER, mac: str = MAC) -> list[PacketOut]:
        leg, number = self.leg(subnet)
        arp = Arp(f.ARP_REPLY, bytes_of(mac), int(udp_to(address, address).src), leg.hardware,
                  int(leg.addresses[0].ip)).framed(bytes_of(mac), leg.hardware)
        return self.obey(self.routing.asked(Asked(self.hop().placed.number, number, 0, arp), self.now))

    def meet(self) -> None:
        """The router learns who has STRANGER."""
        self.ask("blue-subnet", udp_to("10.0.1.11", STRANGER))
        self.answer()

    def wait(self, seconds: float) -> list[PacketOut]:
        end, said = self.now + seconds, []
        while (due := self.routing.due) <= end:
            self.now = max(self.now, due)
            said += self.obey(self.routing.tick(self.now))
            assert self.routing.due > self.now, "it would never sleep"
        self.now = end
        return said


@pytest.fixture
def told() -> Told:
    return Told()


def registers(packet: PacketOut) -> dict[f.Field, int]:
    return {one.field: one.value for one in packet.registers}


def question(packet: PacketOut) -> Arp:
    return Arp.parse(Frame.parse(packet.data).payload)


# ---- packets

def test_a_packet_that_waited_for_arp_goes_back_with_its_mark_and_the_switch_learns_first(told: Told) -> None:
    (asked,) = told.ask("blue-subnet", udp_to("10.0.1.11", STRANGER), mark=2)
    leg, number = told.leg("green-subnet")
    assert (asked.table, registers(asked)) == (LEAVE, {f.REG_LEAVES_BY: number})
    assert question(asked).target == int(udp_to(STRANGER, STRANGER).src)
    commands = told.routing.asked(Asked(told.hop().placed.number, number, 0, Arp(
        f.ARP_REPLY, bytes_of(MAC), question(asked).target, leg.hardware, question(asked).sender,
    ).framed(bytes_of(MAC), leg.hardware)), told.now)
    assert [type(command) for command in commands] == [Learn, PacketOut]
    (packet,) = told.obey(commands)
    assert packet.table == TRANSLATE_OUT
    assert registers(packet) == {f.REG_ROUTER: told.hop().placed.number, f.REG_LEAVES_BY: number, f.REG_TRANSLATED: 2}
    assert told.rows == {(number, question(asked).target): NextHop(number, question(asked).target, MAC, leg.mac)}


@pytest.mark.parametrize(("mark", "own"), [(0, 0), (1, 9), (2, 10), (3, 11)])
def test_what_the_router_says_itself_is_marked_as_its_own(told: Told, mark: int, own: int) -> None:
    (error,) = told.ask("blue-subnet", udp_to("10.0.1.11", "10.0.2.11", ttl=1), mark)
    assert registers(error)[f.REG_TRANSLATED] == own


def test_a_packet_of_a_router_or_leg_that_is_gone_is_counted_and_ends(told: Told) -> None:
    assert told.routing.asked(Asked(1, 2, 0, b"anything"), told.now) == []
    assert told.routing.unknown == 1


def test_what_came_of_packets_is_counted(told: Told) -> None:
    told.ask("blue-subnet", udp_to("10.0.1.11", "10.0.2.11", ttl=1))
    told.ask("blue-subnet", udp_to("10.0.1.11", STRANGER))
    told.ask("blue-subnet", ping("10.0.1.11", "10.0.1.1"))
    told.answer()
    counters = told.hop().counters
    assert (counters.asked, counters.forwarded, counters.answered, counters.kept) == (4, 1, 1, 1)
    assert counters.refused == {"its time to live ends here": 1}
    assert counters.sent == 4


def test_reasons_that_a_stranger_could_multiply_are_counted_together_at_some_point(told: Told) -> None:
    leg, number = told.leg("blue-subnet")
    for kind in range(0x900, 0xA00):
        frame = Frame(leg.hardware, bytes_of(MAC), kind, b"").to_bytes()
        told.routing.asked(Asked(told.hop().placed.number, number, 0, frame), told.now)
    assert len(told.hop().counters.refused) <= 65
    assert sum(told.hop().counters.refused.values()) == 256


def test_equal_addresses_behind_two_routers_do_not_meet() -> None:
    told = Told(cloud(R1 + R2))
    (packet,) = told.ask("blue-subnet", ping("10.0.1.11", "10.0.1.1"))
    (other,) = told.ask("amber-subnet", ping("10.0.1.11", "10.0.1.1"), router="r2")
    assert registers(packet)[f.REG_LEAVES_BY] == told.leg("blue-subnet")[1]
    assert registers(other)[f.REG_LEAVES_BY] == told.leg("amber-subnet", "r2")[1]
    assert Frame.parse(packet.data).dst != Frame.parse(other.data).dst


# ---- neighbours that were learned

def test_a_neighbour_that_answers_is_asked_every_half_minute_and_keeps_its_row(told: Told) -> None:
    told.meet()
    rows = dict(told.rows)
    for _ in range(5):
        asked = told.wait(30.5)
        assert [Frame.parse(one.data).dst for one in asked] == [bytes_of(MAC)]
        told.answer()
    assert told.rows == rows


def test_a_neighbour_that_falls_silent_loses_its_row(told: Told) -> None:
    told.meet()
    asked = told.wait(40)
    assert len(asked) == 3
    assert not told.rows


def test_a_neighbour_that_has_another_mac_now_gets_another_row(told: Told) -> None:
    told.meet()
    told.wait(31)
    told.answer(mac=OTHER_MAC)
    assert [row.mac for row in told.rows.values()] == [OTHER_MAC]


@pytest.mark.parametrize("op", [f.ARP_REQUEST, f.ARP_REPLY])
def test_an_address_that_moves_is_believed_by_its_gratuitous_arp(told: Told, op: int) -> None:
    told.meet()
    told.wait(2)
    leg, _ = told.leg("green-subnet")
    address, mac = int(udp_to(STRANGER, STRANGER).src), bytes_of(OTHER_MAC)
    claim = Arp(op, mac, address, mac, address).framed(mac, BROADCAST_MAC)

    def hear(vlan: int) -> list[PacketOut]:
        tagged = claim[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + claim[12:]
        return told.obey(told.routing.asked(Asked(0, 0, 0, tagged), told.now))

    vlan = told.hop().vlan_of(leg.name)
    assert not hear(vlan + 1)
    assert [row.mac for row in told.rows.values()] == [MAC]
    assert not hear(vlan)
    assert [row.mac for row in told.rows.values()] == [OTHER_MAC]


def test_a_row_that_nobody_uses_is_forgotten_and_its_neighbour_asked_no_more(told: Told) -> None:
    told.meet()
    (leg, address), = told.rows
    told.obey(told.routing.removed(leg, address))
    assert told.wait(500) == []
    (asked,) = told.ask("blue-subnet", udp_to("10.0.1.11", STRANGER))
    assert question(asked).target == address


def test_many_neighbours_are_asked_a_few_at_a_time(told: Told) -> None:
    addresses = [f"10.0.2.{n}" for n in range(100, 220)]
    for address in addresses:
        told.ask("blue-subnet", udp_to("10.0.1.11", address))
        told.answer(address=address)
    assert len(told.rows) == 120
    asked, end = [], told.now + 33.5
    while told.routing.due <= end:
        told.now = max(told.now, told.routing.due)
        said = told.obey(told.routing.tick(told.now))
        asked.append(len(said))
        for packet in said:
            told.answer(address=str(f.IPV4_DST.show(question(packet).target)))
    assert max(asked) <= 50
    assert sum(asked) == 120
    assert len(told.rows) == 120


def test_a_router_with_too_many_neighbours_forgets_the_oldest_and_its_row() -> None:
    told = Told()
    routers = [replace(one, router=replace(one.router, limits=replace(one.router.limits, neighbours=5)))
               for one in placed(cloud())]
    told.obey(told.routing.intend(routers))
    for n in range(100, 120):
        told.now += 1
        told.ask("blue-subnet", udp_to("10.0.1.11", f"10.0.2.{n}"))
        told.answer(address=f"10.0.2.{n}")
    assert sorted(address & 0xFF for _, address in told.rows) == [115, 116, 117, 118, 119]


def test_a_vm_of_the_topology_is_never_asked(told: Told) -> None:
    (packet,) = told.ask("blue-subnet", udp_to("10.0.1.11", "10.0.2.11"))
    assert packet.table == TRANSLATE_OUT
    assert not told.rows
    assert told.wait(100) == []


# ---- edits

def test_what_was_learned_behind_a_leg_that_stays_survives_an_edit_and_goes_with_its_leg(told: Told) -> None:
    told.meet()
    rows = dict(told.rows)
    told.intend(cloud(R1.replace("gateway:", "routes: [{destination: 198.51.100.0/24, nexthop: 10.0.1.50}], gateway:")))
    assert told.rows == rows
    told.intend(cloud(R1.replace("[blue-subnet, green-subnet]", "[blue-subnet]")))
    assert not told.rows
    assert told.wait(100) == [] or all(question(one).sender == question(one).target for one in told.wait(100))


def test_a_leg_that_changes_its_mac_takes_its_rows_along(told: Told) -> None:
    told.meet()
    told.intend(cloud(R1.replace("green-subnet]", "{subnet: green-subnet, mac: \"fa:16:3e:00:00:42\"}]")))
    assert not told.rows


def test_a_neighbour_that_the_topology_knows_now_has_no_learned_row_any_more(told: Told) -> None:
    told.meet()
    told.intend(cloud(vms=f"{VMS}  new: {{host: compute1, network: green, ip: {STRANGER}}}\n"))
    assert not told.rows


def test_a_router_that_goes_takes_its_rows_along(told: Told) -> None:
    told.meet()
    told.intend(cloud(R2))
    assert not told.rows
    assert told.routing.asked(Asked(1, 1, 0, b""), told.now) == []


# ---- restarts

def test_a_restarted_daemon_takes_over_what_the_switch_has_learned_and_asks_whether_it_is_still_so(told: Told) -> None:
    told.meet()
    again = Told()
    again.rows = dict(told.rows)
    assert again.obey(again.routing.adopt(told.rows.values())) == []
    assert again.rows == told.rows
    (asked,) = again.wait(0.5)
    assert Frame.parse(asked.data).dst == bytes_of(MAC)
    again.answer()
    assert again.rows == told.rows
    (packet,) = again.ask("blue-subnet", udp_to("10.0.1.11", STRANGER))
    assert packet.table == TRANSLATE_OUT


def test_a_restarted_daemon_deletes_rows_of_legs_that_are_gone_or_have_another_mac(told: Told) -> None:
    told.meet()
    (row,) = told.rows.values()
    stale = [replace(row, leg=0xFFFF), replace(row, source=OTHER_MAC)]
    for one in stale:
        again = Told()
        again.rows = {(one.leg, one.address): one}
        again.obey(again.routing.adopt([one]))
        assert not again.rows


def test_a_row_that_the_switch_has_lost_is_learned_again_when_it_is_needed(told: Told) -> None:
    told.meet()
    told.rows.clear()
    told.obey(told.routing.adopt([]))
    (asked,) = told.ask("blue-subnet", udp_to("10.0.1.11", STRANGER))
    assert asked.table == LEAVE
    told.answer()
    assert len(told.rows) == 1


def test_nothing_is_said_while_br_int_is_away(told: Told) -> None:
    told.meet()
    told.routing.conn = None
    assert told.routing.due == float("inf")
    assert told.routing.tick(told.now + 100) == []
    assert told.routing.intend(placed(cloud(R2))) == []


# ---- gratuitous ARP

def test_a_router_that_appears_announces_its_addresses_three_times_as_request_and_as_reply() -> None:
    told = Told(cloud(R1, floating="  203.0.113.50: {vm: web, network: blue}\n"), settled=False)
    rounds = [told.wait(1), told.wait(2), told.wait(2)]
    assert told.wait(100) == []
    for said in rounds:
        assert all(one.table == LEAVE and Frame.parse(one.data).dst == BROADCAST_MAC for one in said)
        told_of = sorted((f.IPV4_DST.show(question(one).sender), question(one).op) for one in said)
        addresses = ["10.0.1.1", "10.0.2.1", "203.0.113.10", "203.0.113.50"]
        assert told_of == [(address, op) for address in addresses for op in (1, 2)]


def test_a_router_that_was_at_work_before_announces_nothing(told: Told) -> None:
    assert told.wait(10) == []


def test_an_edit_announces_what_is_new_and_nothing_else(told: Told) -> None:
    told.intend(cloud(floating="  203.0.113.50: {vm: web, network: blue}\n"))
    said = told.wait(10)
    assert {f.IPV4_DST.show(question(one).sender) for one in said} == {"203.0.113.50"}
    assert len(said) == 6


def test_nothing_is_announced_of_a_leg_that_goes_meanwhile() -> None:
    told = Told(settled=False)
    told.wait(1)
    told.intend(cloud(R1.replace("[blue-subnet, green-subnet]", "[blue-subnet]")))
    assert {f.IPV4_DST.show(question(one).sender) for one in told.wait(10)} == {"10.0.1.1", "203.0.113.10"}


def test_a_fleet_announces_a_router_when_its_flows_are_there_and_not_again_after_a_restart() -> None:
    world = running(cloud(R1))
    assert len(world.pass_time(10)) == 3 * 3 * 2
    world.restart_daemon()
    world.settle()
    assert world.pass_time(10) == []
    world.apply(cloud(R1 + R2))
    world.settle()
    assert len(world.pass_time(10)) == 3 * 2


def test_a_fleet_keeps_what_was_learned_over_a_restart_of_the_daemon() -> None:
    world = running(cloud(R1))
    hop = world.fleet.hosts[HOST].routing.hops["r1"]
    green = next(one for one in hop.placed.legs if one.network == "green")
    leg = hop.router.by_name[green.name]
    packet = udp_to("10.0.1.11", STRANGER)
    world.ask(HOST, Asked(hop.placed.number, green.number, 0, packet.framed(bytes_of(MAC), leg.hardware)))
    answer = Arp(2, bytes_of(MAC), packet.dst, leg.hardware, int(leg.addresses[0].ip))
    world.ask(HOST, Asked(hop.placed.number, green.number, 0, answer.framed(bytes_of(MAC), leg.hardware)))
    world.settle()
    world.check()
    before = world.switches[INT].neighbours()
    assert list(before) == [(green.number, packet.dst)]
    world.restart_daemon()
    world.settle()
    world.check()
    assert not world.writes
    assert world.switches[INT].neighbours() == before
    world.drop_row(HOST, Removed(green.number, packet.dst, idle=True))
    world.settle()
    world.check()
    assert not world.fleet.hosts[HOST].routing.hops["r1"].rows


# ---- failures

def test_a_router_that_fails_on_a_packet_harms_no_other_and_is_logged_once() -> None:
    told = Told(cloud(R1 + R2))
    first, second = placed(cloud(R1 + R2))
    ghost = replace(first.legs[0], name="qr-ghost", number=0xFFF0)
    told.obey(told.routing.intend([replace(first, legs=(*first.legs, ghost)), second]))
    for _ in range(3):
        told.obey(told.routing.asked(Asked(first.number, ghost.number, 0, b"anything"), told.now))
    assert [(log.level, log.event, log.about["router"]) for log in told.logs] == [("error", "router failed", "r1")]
    assert told.hop().counters.failed == 3
    assert told.routing.failures == {"r1": "KeyError: 'qr-ghost'"}
    assert len(told.ask("blue-subnet", ping("10.0.1.11", "10.0.1.1"))) == 1
    assert len(told.ask("amber-subnet", ping("10.0.1.11", "10.0.1.1"), router="r2")) == 1


def test_a_router_whose_timers_fail_begins_anew_and_does_not_hold_the_others(told: Told) -> None:
    told.meet()
    hop = told.hop()
    hop.state = replace(hop.state, neighbours=hop.state.neighbours.with_(
        ("qr-ghost", 5), replace(next(entry for _, entry in hop.state.neighbours.items()), due=told.now)))
    told.wait(100)
    assert [log.about["reason"] for log in told.logs] == ["KeyError: 'qr-ghost'"]
    assert hop.counters.failed == 1


@pytest.mark.parametrize("size", range(0, 60, 7))
def test_no_frame_is_too_short(told: Told, size: int) -> None:
    leg, number = told.leg("blue-subnet")
    frame = ping("10.0.1.11", "10.0.1.1").framed(bytes_of(MAC), leg.hardware)[:size]
    told.obey(told.routing.asked(Asked(told.hop().placed.number, number, 0, frame), told.now))
    assert not told.logs
