"""Whatever others do to the tables, whenever they do it: in the end, switches hold what they shall."""
from __future__ import annotations

import random
from dataclasses import replace
from functools import partial

import pytest

from controller.switch import dumps, packing
from controller.switch.dumps import Update
from flows.cookie import is_compiled
from flows.flow import Flow, Match
from tests.clouds import golden
from tests.model_switch import STRANGER_COOKIE, World
from tests.updates import update

CLOUDS = ("l2population", "one-network-two-hosts", "learning-arp-responder", "pinned", "geneve")
ELSEWHERE = 30000  # a priority that no flow of ours has


class Vandal:
    """Somebody else at the tables of a world's switches, who is seen by their flow monitors."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world, self.dice = world, dice
        self.strangers: dict[tuple[str, str], set[Match]] = {place: set() for place in world.switches}

    def strike(self) -> None:
        place = self.dice.choice(list(self.world.switches))
        rows = self.world.switches[place].rows.values()
        mine = sorted((one for one in rows if is_compiled(one[0])), key=lambda one: one[0])
        if mine:
            cookie, row = self.dice.choice(mine)
            act = self.dice.choice((self._delete, self._alter, self._overwrite, self._copy, self._settle_beside))
            self.world.tell(place, [act(place, cookie, row)])

    def _delete(self, place: tuple[str, str], cookie: int, row: Flow) -> Update:
        del self.world.switches[place].rows[row.table.id, row.priority, row.match]
        return update(dumps.REMOVED, row, cookie=cookie)

    def _put(self, place: tuple[str, str], cookie: int, row: Flow, event: int = dumps.ADDED) -> Update:
        self.world.switches[place].put(cookie, row)
        return update(event, row, cookie=cookie)

    def _alter(self, place: tuple[str, str], cookie: int, row: Flow) -> Update:
        return self._put(place, cookie, replace(row, actions=row.actions[1:]), dumps.MODIFIED)

    def _overwrite(self, place: tuple[str, str], cookie: int, row: Flow) -> Update:
        return self._put(place, STRANGER_COOKIE, replace(row, actions=()))

    def _copy(self, place: tuple[str, str], cookie: int, row: Flow) -> Update:
        cookie ^= self.dice.choice((0, 1))  # our own, or one that nobody wants
        return self._put(place, cookie, replace(row, priority=ELSEWHERE))

    def _settle_beside(self, place: tuple[str, str], cookie: int, row: Flow) -> Update:
        row = replace(row, priority=ELSEWHERE + 1)
        self.strangers[place].add(row.match)
        return self._put(place, STRANGER_COOKIE, row)


def whole(world: World) -> bool:
    """Whether each row does what its cookie promises, too, which the model compares nowhere else."""
    for (host, bridge), switch in world.switches.items():
        want = world.fleet.hosts[host].sessions[bridge][1].want
        if any(packing.instructions(row.actions) != packing.instructions(want[cookie].actions)
               for cookie, row in switch.rows.values() if is_compiled(cookie)):
            return False
    return True


@pytest.mark.parametrize("cloud", CLOUDS)
def test_in_the_end_all_is_as_it_shall_be(cloud: str, seed: int) -> None:
    for number in range(5):
        dice = random.Random(f"{seed}/{cloud}/{number}")
        world = World(golden(cloud))
        vandal = Vandal(world, dice)
        world.connect()
        for _ in range(60):
            dice.choice((vandal.strike, vandal.strike, vandal.strike, world.step, world.settle,
                         partial(world.pass_time, 0.06), world.recompute))()
        for _ in range(12):  # fights end, too
            world.settle()
            world.pass_time(10)
        world.settle()
        world.check()
        assert whole(world)
        for place, switch in world.switches.items():
            kept = {row.match for row in switch.strangers() if row.priority == ELSEWHERE + 1}
            assert kept == vandal.strangers[place]
            assert not [row for row in switch.strangers() if row.priority < ELSEWHERE], "none has the place of ours"
