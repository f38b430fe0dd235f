"""What is done about what others do: stories of one switch, told without one. Time is what the story says."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import inf

import pytest

from controller.switch import damage, dumps
from controller.switch.diff import Plan
from controller.switch.dumps import Content, Update
from controller.switch.events import Command, Count, Inspect, Installed, Log, ReadFlows, Watch, Write
from controller.switch.healing import Hands, Healing
from controller.switch.intent import Piece
from controller.switch.pieces import BASE
from controller.switch.session import Session, State
from flows.cookie import COMPILED, EXACT, KIND_MASK, cookie_of, of_kind
from flows.fields import tagged
from flows.flow import ANY, Flow, Goto, Output, PopVlan, flow, when
from flows.tables import BR_TUN, FLOOD, UNICAST
from tests.updates import content, update

CONN = "conn"
MISS = flow(UNICAST, "miss", ANY, Goto(FLOOD), origin="pipeline", why="not learned yet: ask every host")
STRANGE = 0x77


def row(number: int, port: int = 9) -> Flow:
    return flow(FLOOD, "network", when(tagged(number)), PopVlan(), Output(port), origin=f"networks.n{number}",
                why=f"n{number} is also on c2")


def installed(*rows: Flow) -> list[Installed]:
    return [Installed(cookie_of(one), one.table.id, priority=one.priority) for one in rows]


class Story:
    """A switch in sync with these rows and a miss that no monitor sees, and a healing that minds it."""

    def __init__(self, *rows: Flow, heal: bool = True) -> None:
        self.rows, self.now, self.logs = rows, 1000.0, list[Log]()
        self.healing = Healing(Hands(self._write, self._reread), heal=heal)
        self.session = Session("c1", BR_TUN)
        (watch,) = self.healing.begin(CONN, self.session)
        assert isinstance(watch, Watch)
        assert {monitor.table for monitor in watch.monitors} >= {FLOOD, UNICAST}
        self.read(*rows, MISS)

    def _write(self, conn: object, session: Session, plan: Plan | None) -> list[Command]:
        assert (conn, session, session.state) == (CONN, self.session, State.WRITING)
        return [Write(conn, plan, session.parts)] if plan else []

    def _reread(self, conn: object, session: Session) -> list[Command]:
        session.reread()
        return [ReadFlows(conn)]

    def read(self, *rows: Flow, twice: tuple[Flow, ...] = ()) -> Plan | None:
        """The switch has these rows."""
        self.healing.reading(CONN)
        self.session.flows_read(installed(*rows, *twice))
        self.healing.seen(CONN)
        plan = self.session.intend_all({BASE: Piece((MISS,)), "all": Piece(self.rows)})
        if plan is None:
            self.healing.in_sync(CONN, self.now)
        return plan

    def committed(self) -> None:
        self.session.committed()
        self.healing.in_sync(CONN, self.now)

    def tells(self, *updates: Update) -> list[Command]:
        """A flow monitor says this; what is done about it at once."""
        self.healing.told(CONN, updates, self.now)
        return self.passes(0.1)

    def passes(self, seconds: float) -> list[Command]:
        """What is done meanwhile, but for words and questions."""
        end, found = self.now + seconds, list[Command]()
        while self.healing.due <= end:
            self.now = max(self.now, self.healing.due)
            found += self.healing.tick(self.now)
            assert self.healing.due > self.now, "it would never sleep"
        self.now = end
        self.logs += [one for one in found if isinstance(one, Log)]
        return [one for one in found if not isinstance(one, Log | Count | Inspect)]

    @property
    def described(self) -> dict[str, object]:
        return self.healing.described(CONN)

    def said(self, event: str) -> list[str]:
        return [str(one.about.get("flow", one.about.get("why", ""))) for one in self.logs if one.event == event]


def plan_of(commands: Iterable[Command]) -> Plan:
    (command,) = commands
    assert isinstance(command, Write)
    return command.plan


def added(commands: Iterable[Command]) -> set[int]:
    return {cookie for cookie, _ in plan_of(commands).add}


def deleted(row: Flow) -> Update:
    return replace(update(dumps.REMOVED, row), reason=2)


def altered(row: Flow) -> Update:
    return update(dumps.MODIFIED, row, doing=replace(row, actions=()))


# ---- healing

def test_a_deleted_flow_is_back_in_one_write_with_nothing_else() -> None:
    story = Story(row(1), row(2))
    plan = plan_of(story.tells(deleted(row(1))))
    assert plan == Plan(add=((cookie_of(row(1)), row(1)),))
    story.committed()
    assert story.described == {"watched_by": "flow monitors", "healed": 1, "drift": 0, "drifted": [],
                               "last_healed": "deleted: table 22 flood, dl_vlan=1 (n1 is also on c2)"}
    assert story.said("healed") == ["deleted: table 22 flood, dl_vlan=1 (n1 is also on c2)"]


def test_an_altered_and_an_overwritten_flow_are_written_over() -> None:
    story = Story(row(1), row(2), row(3))
    plan = plan_of(story.tells(altered(row(1)), update(dumps.ADDED, row(2), cookie=STRANGE)))
    assert {cookie for cookie, _ in plan.add} == {cookie_of(row(1)), cookie_of(row(2))}
    assert (plan.renew, plan.delete) == ((), ())
    assert story.said("healed")[1].startswith("overwritten by one with cookie 0x77: table 22 flood, dl_vlan=2")


def test_a_flow_that_wears_our_cookie_goes_and_the_true_one_comes_again_in_the_same_bundle() -> None:
    story = Story(row(1))
    copy = update(dumps.ADDED, row(7), cookie=cookie_of(row(1)))
    plan = plan_of(story.tells(copy))
    assert plan == Plan(add=((cookie_of(row(1)), row(1)),), renew=(cookie_of(row(1)),))
    assert story.session.parts == (plan,)
    story.committed()
    surplus = update(dumps.ADDED, row(7), cookie=cookie_of(row(7)))
    assert plan_of(story.tells(surplus)) == Plan(delete=(cookie_of(row(7)),))


def test_strangers_and_our_own_writes_cause_nothing() -> None:
    story = Story(row(1))
    assert story.tells(update(dumps.ADDED, row(7), cookie=STRANGE), update(dumps.REMOVED, row(7), cookie=STRANGE),
                       Update(dumps.ABBREVIATED, xid=5)) == []
    assert story.tells(deleted(row(1)), update(dumps.ADDED, row(1))) == [], "somebody has put it back"
    assert story.described["healed"] == 0


def test_what_happens_during_a_write_is_seen_to_after_it() -> None:
    story = Story(row(1), row(2))
    story.tells(deleted(row(1)))
    assert story.session.state is State.WRITING
    assert story.tells(deleted(row(2))) == []
    assert story.passes(10) == []
    assert story.healing.due == inf, "nothing polls"
    story.committed()
    assert added(story.passes(0)) == {cookie_of(row(2))}


def test_what_the_topology_does_not_want_any_more_is_not_healed() -> None:
    story = Story(row(1), row(2))
    story.healing.told(CONN, [deleted(row(1))], story.now)
    plan = story.session.intend({"all": Piece((row(2),))})
    assert plan
    assert plan.delete == (cookie_of(row(1)),)
    story.committed()
    assert story.passes(1) == []
    assert story.described["drift"] == 0


def test_a_fight_is_told_and_fought_less_and_less_often() -> None:
    story, tries = Story(row(1)), 0
    for _ in range(600):
        if story.session.state is State.IN_SYNC:
            story.healing.told(CONN, [deleted(row(1))], story.now)
        if story.passes(0.5):
            tries += 1
            story.committed()
    assert story.now == 1300
    assert tries == 10, "at once, after 1, 2, 4, 8, 16 and 32 seconds, then each minute"
    assert len(story.said("fought over")) == tries - 1
    assert story.described["drift"] == 1
    assert story.passes(600)
    story.committed()
    assert added(story.tells(deleted(row(1)))), "after a long peace it is at once again"


def test_a_fight_about_one_flow_does_not_hold_up_another() -> None:
    story = Story(row(1), row(2))
    for _ in range(2):
        story.tells(deleted(row(1)))
        story.committed()
    assert added(story.tells(deleted(row(2)))) == {cookie_of(row(2))}


# ---- when updates are not enough

def test_when_much_has_changed_the_switch_is_read_again_and_altered_flows_are_not_believed() -> None:
    rows = tuple(row(number) for number in range(1, 4001))
    story = Story(*rows)
    commands = story.tells(*(altered(one) for one in rows[:2000]), *(deleted(one) for one in rows[2000:]))
    assert commands == [ReadFlows(CONN)]
    plan = story.read(*rows[:2000], MISS)
    assert plan
    assert {cookie for cookie, _ in plan.add} == {cookie_of(one) for one in rows}
    assert (plan.delete, plan.renew) == ((), ())
    story.committed()
    assert story.passes(1) == []
    assert (story.described["healed"], story.described["drift"]) == (4000, 0)


def test_a_switch_that_held_updates_back_is_read_again_and_not_again_at_once() -> None:
    story = Story(row(1))
    resumed = [Update(dumps.PAUSED), Update(dumps.RESUMED)]
    assert story.tells(*resumed) == [ReadFlows(CONN)]
    for wait in (1.0, 2.0, 4.0):
        assert story.read(row(1), MISS) is None
        assert story.tells(*resumed) == []
        assert story.passes(wait - 0.6) == []
        assert story.passes(0.6) == [ReadFlows(CONN)]


def test_flows_that_went_with_their_meter_are_no_use_without_it() -> None:
    metered = flow(FLOOD, "network", when(tagged(1)), Output(9), origin="test", why="test")
    story = Story(metered)
    assert story.tells(replace(deleted(metered), reason=damage.METER_GONE)) == [ReadFlows(CONN)]


def test_two_rows_with_one_cookie_are_renewed_when_they_are_read() -> None:
    story = Story(row(1))
    story.session.reread()
    plan = story.read(row(1), MISS, twice=(row(1),))
    assert plan == Plan(add=((cookie_of(row(1)), row(1)),), renew=(cookie_of(row(1)),))


def test_what_was_told_before_the_switch_had_been_read_is_compared_with_what_was_read() -> None:
    """Deleted before its row was read: written anyway. Deleted after that: only the update says so."""
    story = Story(row(1), row(2))
    story.session.reread()
    story.healing.told(CONN, [deleted(row(1)), deleted(row(2))], story.now)
    plan = story.read(row(2), MISS)
    assert plan
    assert {cookie for cookie, _ in plan.add} == {cookie_of(row(1))}
    story.committed()
    assert added(story.passes(1)) == {cookie_of(row(2))}
    assert story.described["healed"] == 1


# ---- what no monitor sees

def questions(story: Story, seconds: float) -> list[Command]:
    end, found = story.now + seconds, list[Command]()
    while story.healing.due <= end:
        story.now = max(story.now, story.healing.due)
        found += story.healing.tick(story.now)
    story.now = end
    return found


def exact(story: Story, seconds: float) -> list[Inspect]:
    """What is asked for rows that no monitor sees."""
    return [one for one in questions(story, seconds) if isinstance(one, Inspect) and one.mask == EXACT]


def look(story: Story, seconds: float) -> Inspect | None:
    """The next look at rows, if one is due by then."""
    end = story.now + seconds
    while story.healing.due <= end:
        story.now = max(story.now, story.healing.due)
        if found := [one for one in story.healing.tick(story.now) if isinstance(one, Inspect) and one.mask != EXACT]:
            return found[0]
    story.now = end
    return None


@pytest.mark.parametrize("there", [(), (content(MISS, doing=replace(MISS, actions=())),)])
def test_a_row_that_no_monitor_sees_is_asked_for_each_second_and_put_right(there: tuple[Content, ...]) -> None:
    story = Story(row(1))
    asked = exact(story, 2.9)
    assert asked == [Inspect(CONN, cookie_of(MISS), EXACT, 0)] * 2
    story.healing.inspected(CONN, asked[0], held(MISS), story.now)
    assert story.passes(0.5) == []
    story.healing.inspected(CONN, asked[0], there, story.now)
    assert added(story.passes(0)) == {cookie_of(MISS)}


def test_a_switch_without_monitors_is_counted_whole_and_read_again_when_something_is_missing() -> None:
    story = Story(row(1), row(2))
    (log,) = story.healing.blind(CONN)
    assert isinstance(log, Log)
    assert story.healing.blind(CONN) == [], "said once"
    (asked,) = questions(story, 1)
    assert asked == Count(CONN, of_kind(COMPILED), KIND_MASK)
    story.healing.counted(CONN, asked, 3, story.now)
    assert story.passes(0.5) == []
    story.healing.counted(CONN, asked, 2, story.now)
    assert story.passes(0) == [ReadFlows(CONN)]
    assert added_by(story.read(row(1), MISS)) == {cookie_of(row(2))}


def added_by(plan: Plan | None) -> set[int]:
    return {cookie for cookie, _ in plan.add} if plan else set()


def test_counts_of_many_switches_are_spread() -> None:
    story = Story(row(1))
    for number in range(999):
        story.healing.begin(number, Session(f"c{number}", BR_TUN))
    assert questions(story, 50) == [], "others are being reconciled: they come first, for a minute"
    questions(story, 20)
    assert len(exact(story, 10)) == 2, "200 a second for 1,000 switches: each every five seconds"


# ---- what was done before we came

def held(*rows: Flow) -> list[Content]:
    return [content(one) for one in rows]


def test_rows_are_looked_at_once_a_switch_has_come_into_sync_and_then_each_hour() -> None:
    story = Story(row(1), row(2))
    assert look(story, 2.9) is None
    asked = look(story, 2)
    assert asked == Inspect(CONN, 0, 0, 0)
    story.healing.inspected(CONN, asked, held(row(1), row(2), MISS), story.now)
    assert look(story, 3500) is None
    assert look(story, 100) == asked


def test_a_row_that_was_changed_before_we_came_is_found_and_healed() -> None:
    story = Story(row(1), row(2))
    asked = look(story, 4)
    assert asked
    wrong = content(row(1), doing=replace(row(1), actions=()))
    story.healing.inspected(CONN, asked, [wrong, *held(row(2), MISS)], story.now)
    assert added(story.passes(0)) == {cookie_of(row(1))}


def test_many_rows_are_looked_at_group_by_group() -> None:
    rows = tuple(row(number, port) for number in range(1, 4001) for port in (8, 9))
    story = Story(*rows)
    seen = 0
    for group in range(16):
        asked = look(story, 4)
        assert asked == Inspect(CONN, group, 15, group)
        mine = [one for one in (*rows, MISS) if cookie_of(one) & 15 == group]
        seen += len(mine)
        story.healing.inspected(CONN, asked, held(*mine[1:]), story.now)
        assert added(story.passes(0)) == {cookie_of(mine[0])}, "and the first of each is missed"
        story.committed()
    assert seen == len(rows) + 1


def test_switches_are_looked_at_one_after_the_other() -> None:
    story, other = Story(row(1)), Session("c2", BR_TUN)
    story.healing.begin("other", other)
    other.flows_read([])
    assert other.intend_all({}) is None
    story.healing.in_sync("other", story.now)
    first = look(story, 4)
    assert first
    assert look(story, 5) is None
    assert first.conn == CONN
    story.healing.inspected(CONN, first, held(row(1), MISS), story.now)
    second = look(story, 2)
    assert second
    assert second.conn == "other"


def test_rows_that_were_asked_for_before_a_write_do_not_count() -> None:
    story = Story(row(1), row(2))
    asked = look(story, 4)
    assert asked
    story.tells(deleted(row(1)))
    story.committed()
    story.healing.inspected(CONN, asked, held(row(2), MISS), story.now)
    assert story.described["drift"] == 0
    assert look(story, 11) == Inspect(CONN, 0, 0, 1), "so they are asked for again"


# ---- only telling

def test_who_only_tells_looks_at_all_rows_when_updates_are_not_enough() -> None:
    story = Story(row(1), row(2), heal=False)
    story.healing.told(CONN, [Update(dumps.RESUMED)], story.now)
    asked = look(story, 1)
    assert asked
    story.healing.inspected(CONN, asked, held(row(2), MISS), story.now)
    assert story.passes(1) == []
    assert story.said("drift") == ["deleted: table 22 flood, dl_vlan=1 (n1 is also on c2)"]


def test_who_only_tells_changes_nothing_and_says_what_is_wrong_until_it_is_right() -> None:
    story = Story(row(1), row(2), heal=False)
    assert story.tells(deleted(row(1)), altered(row(2))) == []
    assert story.passes(100) == []
    assert story.said("drift") == ["deleted: table 22 flood, dl_vlan=1 (n1 is also on c2)",
                                   "altered: table 22 flood, dl_vlan=2 (n2 is also on c2)"]
    assert (story.described["healed"], story.described["drift"]) == (0, 2)
    story.tells(update(dumps.ADDED, row(1)))
    drifted = story.described["drifted"]
    assert drifted == [{"what": "altered", "cookie": f"{cookie_of(row(2)):#018x}",
                        "words": "altered: table 22 flood, dl_vlan=2 (n2 is also on c2)"}]


@pytest.mark.parametrize("heal", [True, False])
def test_a_switch_that_is_gone_is_forgotten(*, heal: bool) -> None:
    story = Story(row(1), heal=heal)
    story.healing.told(CONN, [deleted(row(1))], story.now)
    story.healing.end(CONN)
    assert story.healing.due == inf
    assert story.passes(10) == []
