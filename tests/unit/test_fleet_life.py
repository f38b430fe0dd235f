"""A switch refuses, says nothing, or obeys another daemon: what a fleet does then, and when."""
from __future__ import annotations

import pytest

from controller.switch import cutting
from controller.switch.events import Drop, Mastery, ReadFlows, Write
from controller.switch.patience import LIMIT
from controller.switch.session import State
from flows.tables import BR_INT, BR_TUN
from tests.model_switch import World
from tests.unit.test_fleet import BLUE, GREEN, cloud, device, running, sessions, touched

PLACE = ("compute1", BR_TUN)
FULL = "FLOW_MOD_FAILED TABLE_FULL: add table=22"


def refuse(world: World, *, bundles: int = 0) -> None:
    """The switch is read if that is due, and refuses what it is told then."""
    if isinstance(asked(world), ReadFlows):
        world.step(PLACE)
    assert isinstance(asked(world), Write)
    world.step(PLACE, refuse=FULL, bundles=bundles)


def asked(world: World) -> object:
    conn = world.fleet.hosts[PLACE[0]].sessions[PLACE[1]][0]
    return next((command for command in world.waiting() if getattr(command, "conn", None) == conn), None)


def waits(world: World) -> bool:
    """Whether anything but the routine of self-healing is due some time."""
    return world.fleet._vigil.due < float("inf")


def refusing() -> World:
    world = running(cloud(BLUE))
    world.apply(cloud(BLUE, GREEN))
    refuse(world)
    world.settle()
    return world


# ---- refusals

def test_a_switch_that_refuses_is_read_and_written_again_after_longer_and_longer() -> None:
    world, waits = refusing(), []
    for _ in range(9):
        before = world.now
        assert asked(world) is None
        while asked(world) is None:
            world.pass_time(0.5)
        waits.append(world.now - before)
        refuse(world)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert (sessions(world)[PLACE].state, sessions(world)[PLACE].reason) == (State.REFUSED, FULL)


def test_a_switch_that_takes_it_at_last_is_in_sync_and_the_next_refusal_starts_anew() -> None:
    world = refusing()
    for _ in range(3):
        world.pass_time(10)
        refuse(world)
    world.pass_time(60)
    world.settle()
    world.check()
    assert (sessions(world)[PLACE].state, sessions(world)[PLACE].reason) == (State.IN_SYNC, "")
    world.apply(cloud(BLUE))
    refuse(world)
    world.pass_time(1)
    assert isinstance(asked(world), ReadFlows)


def test_a_switch_is_told_when_it_has_all_or_all_that_it_takes() -> None:
    """Who carries its words while it waits (`tunbridge fill`) waits for that."""
    world = running(cloud(BLUE))
    assert sorted(world.settled) == sorted(world.switches)
    world.restart_daemon()
    world.settle()
    assert sorted(world.settled) == sorted([*world.switches] * 2), "also when nothing was to be written"
    world.apply(cloud(BLUE, GREEN))
    world.settled.clear()
    refuse(world)
    assert world.settled == [PLACE]


def test_a_refusal_holds_up_no_other_switch() -> None:
    world = refusing()
    assert touched(world) == {(host, bridge) for host in ("compute1", "compute2") for bridge in (BR_INT, BR_TUN)
                              } - {PLACE}
    assert [place for place, session in sessions(world).items() if session.state is not State.IN_SYNC] == [PLACE]


def test_a_change_is_not_made_to_wait_for_the_retry() -> None:
    world = refusing()
    world.apply(cloud(BLUE.replace("10.0.1.12", "10.0.1.77"), GREEN))
    world.settle()
    world.check()
    assert not waits(world)


def test_what_a_switch_took_before_it_refused_is_read_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "LIMIT", 2)
    world = running(cloud(BLUE))
    world.switches[PLACE].rows.clear()
    world.disconnect(PLACE)
    world.connect(PLACE)
    refuse(world, bundles=3)
    assert len(world.switches[PLACE].rows) == 6
    held = set(world.switches[PLACE].compiled().values())
    world.pass_time(1)
    world.settle()
    world.check()
    (plan,) = (plan for *place, plan in world.writes if tuple(place) == PLACE)
    assert not held & {cookie for cookie, _ in plan.add}
    assert not plan.delete


def test_who_leaves_while_a_retry_is_due_is_not_waited_for() -> None:
    world = refusing()
    world.disconnect(PLACE)
    assert not waits(world)


# ---- silence

def test_a_switch_that_owes_an_answer_for_too_long_is_dropped_and_comes_back() -> None:
    world = World(cloud(BLUE))
    world.plug_all(world.fleet.topology)
    world.connect(PLACE)
    assert world.fleet._vigil.due == world.now + LIMIT
    first = world.fleet.hosts["compute1"].sessions[BR_TUN][0]
    world.pass_time(LIMIT)
    assert [log.event for log in world.logs if log.level == "warning"] == ["no answer", "disconnected"]
    assert world.fleet.hosts["compute1"].sessions[BR_TUN][0] != first
    world.settle()
    assert not waits(world)


def test_a_switch_that_answers_in_parts_has_time_for_each() -> None:
    world = World(cloud(BLUE))
    world.connect(PLACE)
    conn = world.fleet.hosts["compute1"].sessions[BR_TUN][0]
    for _ in range(5):
        world.pass_time(LIMIT - 1)
        world.fleet.heard(conn)
    assert not [command for command in world.logs if command.event == "no answer"]


def test_who_owes_nothing_is_not_given_up() -> None:
    world = running(cloud(BLUE))
    world.fleet.heard(world.fleet.hosts["compute1"].sessions[BR_TUN][0])
    assert not waits(world)
    assert not [command for command in world.fleet.tick(world.now + 1e6) if isinstance(command, Drop)]


# ---- other daemons

def leave(world: World, place: tuple[str, str]) -> None:
    """The other daemon goes, and somebody notices."""
    world.rival(place, there=False)
    for _ in range(30):
        world.pass_time(5)
        world.settle()


def test_an_older_daemon_steps_back_and_writes_nothing() -> None:
    world = running(cloud(BLUE))
    world.rival(PLACE, there=True)
    assert sessions(world)[PLACE].state is State.STANDING_BACK
    assert [log.event for log in world.logs if log.level == "warning"] == ["standing back"]
    world.apply(cloud(BLUE, GREEN))
    world.recompute()
    world.port(*PLACE, "patch-int", None)
    for _ in range(20):
        world.pass_time(30)
        world.settle()
    assert PLACE not in touched(world)
    assert sessions(world)[PLACE].state is State.STANDING_BACK


def test_what_it_missed_meanwhile_is_made_good_when_the_other_has_gone() -> None:
    world = running(cloud(BLUE))
    world.rival(PLACE, there=True)
    world.apply(cloud(BLUE, GREEN))
    world.settle()
    leave(world, PLACE)
    world.check()
    assert sessions(world)[PLACE].state is State.IN_SYNC
    assert "master again" in [log.event for log in world.logs]


def test_what_was_under_way_when_another_took_over_is_not_believed() -> None:
    world = running(cloud(BLUE))
    world.apply(cloud(BLUE, GREEN))
    world.rival(PLACE, there=True)
    conn = world.fleet.hosts["compute1"].sessions[BR_TUN][0]
    assert world.fleet.committed(conn) == []
    assert world.fleet.flows_read(conn, []) == []
    assert sessions(world)[PLACE].state is State.STANDING_BACK


def test_routers_say_nothing_where_another_daemon_is_master() -> None:
    world = running(cloud(BLUE))
    world.rival(("compute1", BR_INT), there=True)
    assert world.fleet.hosts["compute1"].routing.conn is None


def test_a_newer_daemon_answers_knocking_and_goes_on() -> None:
    world = running(cloud(BLUE))
    conn, switch = world.fleet.hosts["compute1"].sessions[BR_TUN][0], world.switches[PLACE]
    assert switch.claimed is not None
    switch.claimed += 1  # an older one knocks
    world._obey(world.fleet.role(conn, Mastery(False, switch.claimed)), PLACE)
    assert switch.claimed == world.fleet.generation + 2
    assert sessions(world)[PLACE].state is State.IN_SYNC


def test_who_has_taken_over_does_not_ask_again_whether_it_may_after_a_short_absence() -> None:
    world = running(cloud(BLUE))
    world.rival(PLACE, there=True)
    leave(world, PLACE)
    world.disconnect(PLACE)
    world.connect(PLACE)
    world.settle()
    assert sessions(world)[PLACE].state is State.IN_SYNC


def test_a_switch_without_roles_is_written_as_ever() -> None:
    world = World(cloud(BLUE))
    conn = "no roles"
    commands = world.fleet.connected(conn, world.switches[PLACE].dpid, world.switches[PLACE].ports)
    assert ReadFlows in [type(command) for command in commands]
    assert Write in [type(command) for command in world.fleet.flows_read(conn, [])]


def test_a_port_that_comes_while_another_is_master_is_not_forgotten() -> None:
    world = running(cloud(BLUE))
    place = ("compute1", BR_INT)
    number = world.switches[place].ports[device(world, "web1")]
    world.rival(place, there=True)
    world.port(*place, device(world, "web1"), None)
    world.port(*place, device(world, "web1"), number + 50)
    leave(world, place)
    world.check()
