"""What is computed while a switch is being read is what is wanted in the end, or nobody looks at it."""
from __future__ import annotations

from controller.switch.found import Found
from controller.switch.session import State
from flows.tables import BR_INT, BR_TUN
from tests.model_switch import World
from tests.unit.test_fleet import BLUE, GREEN, HEAD, cloud, running, sessions, tunnel, vlan

PLACE = "compute1", BR_TUN
POPULATED = f"forwarding: l2population\n{HEAD}"


def returning() -> World:
    """A daemon has been started again, and its switches are being read."""
    world = running(cloud(BLUE, GREEN, head=POPULATED))
    world.restart_daemon()
    return world


def foresee(world: World) -> int:
    """All the work that can be done ahead; how many portions it had."""
    state = world.fleet.hosts["compute1"]
    return len(list(world.fleet.foresee(state.sessions[BR_TUN][0], Found.of(world.switches[PLACE].dump()))))


def test_what_was_foreseen_is_what_the_switch_shall_hold() -> None:
    world = returning()
    assert foresee(world) == 2
    ahead = world.fleet.hosts["compute1"].ahead
    assert ahead is not None
    before = len(world.writes)
    world.settle()
    world.check()
    assert len(world.writes) == before
    held = {id(part) for part in sessions(world)[PLACE].intent.parts()}
    assert ahead.tunnels and all(id(part) in held for parts in ahead.tunnels.values() for part in parts)
    assert world.fleet.hosts["compute1"].ahead is None


def test_a_port_that_changes_its_number_meanwhile_makes_it_worthless() -> None:
    world = returning()
    foresee(world)
    world.port("compute1", BR_TUN, tunnel(world, "compute2"), 77)
    world.settle()
    world.check()


def test_so_does_a_topology_that_comes_meanwhile() -> None:
    world = returning()
    work = world.fleet.foresee(world.fleet.hosts["compute1"].sessions[BR_TUN][0],
                               Found.of(world.switches[PLACE].dump()))
    next(work)
    world.apply(cloud(BLUE.replace("10.0.1.12", "10.0.1.77"), head=POPULATED))
    world.settle()
    world.check()
    assert not list(work), "who has been read needs it no more"


def test_nothing_is_foreseen_of_an_empty_switch_or_a_bridge_that_gives_no_vlans() -> None:
    world = returning()
    state = world.fleet.hosts["compute1"]
    assert not list(world.fleet.foresee(state.sessions[BR_INT][0], Found()))
    assert not list(world.fleet.foresee("a stranger", Found()))
    assert foresee(world) == 2
    assert state.vlans is None, "what is foreseen decides nothing"
    assert sessions(world)[PLACE].state is State.READING


def test_the_vlans_of_before_are_foreseen() -> None:
    world = running(cloud(BLUE, GREEN, head=POPULATED))
    kept = vlan(world, "compute1", "green")
    world.apply(cloud(GREEN, head=POPULATED))
    world.settle()
    world.restart_daemon()
    foresee(world)
    ahead = world.fleet.hosts["compute1"].ahead
    assert ahead is not None and ahead.seen.vlans["green"] == kept
    world.settle()
    world.check()
