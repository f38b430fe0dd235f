"""Stories of one switch connection, told to the state machine without a switch."""
from __future__ import annotations

from controller.switch.diff import Forget, Plan, diff
from controller.switch.session import Piece, Session, State
from flows.cookie import LEARNED_COOKIE, cookie_of
from flows.fields import tagged
from flows.flow import Flow, Output, flow, when
from flows.tables import BR_INT, DELIVER
from tests.model_switch import STRANGER_COOKIE, ModelSwitch


def row(vlan: int, port: int = 9) -> Flow:
    return flow(DELIVER, "unknown", when(tagged(vlan)), Output(port), origin=f"networks.n{vlan}", why="test")


def cookies(*rows: Flow) -> set[int]:
    return {cookie_of(one) for one in rows}


def added(plan: Plan | None) -> set[int]:
    return {cookie for cookie, _ in plan.add} if plan else set()


def in_sync(*rows: Flow) -> Session:
    """A session that has read these flows, one piece each, and wants them."""
    session = Session("compute1", BR_INT)
    session.flows_read(cookies(*rows))
    assert session.intend_all({one.origin: Piece((one,)) for one in rows}) is None
    assert session.state is State.IN_SYNC
    return session


def test_nothing_is_written_before_the_switch_has_been_read() -> None:
    session = Session("compute1", BR_INT)
    assert session.state is State.READING
    assert not session.takes_changes
    session.flows_read([])
    assert session.state is State.WAITING
    assert not session.takes_changes


def test_an_empty_switch_gets_everything_in_one_write() -> None:
    session = Session("compute1", BR_INT)
    session.flows_read([])
    plan = session.intend_all({"a": Piece((row(1),)), "b": Piece((row(2),))})
    assert added(plan) == cookies(row(1), row(2))
    assert session.state is State.WRITING
    assert session.committed() is None
    assert (session.state, session.have) == (State.IN_SYNC, frozenset(cookies(row(1), row(2))))
    assert (session.counters.compiled, session.counters.added, session.counters.writes) == (2, 2, 1)


def test_what_is_there_is_not_written_again() -> None:
    session = in_sync(row(1), row(2))
    assert session.counters.writes == 0


def test_what_is_not_wanted_any_more_is_deleted_but_strangers_and_learned_flows_are_not() -> None:
    session = Session("compute1", BR_INT)
    session.flows_read([cookie_of(row(1)), cookie_of(row(2)), LEARNED_COOKIE, STRANGER_COOKIE])
    assert session.strangers == 1
    plan = session.intend_all({"a": Piece((row(1),))})
    assert plan == Plan(delete=(cookie_of(row(2)),))


def test_a_change_of_one_piece_writes_only_what_differs() -> None:
    session = in_sync(row(1), row(2))
    plan = session.intend({"networks.n2": Piece((row(2), row(3)))})
    assert plan == Plan(add=((cookie_of(row(3)), row(3)),))
    assert session.intend({}) is None


def test_a_piece_that_is_gone_takes_its_flows_along() -> None:
    session = in_sync(row(1), row(2))
    assert session.intend({}, gone=["networks.n2"]) == Plan(delete=(cookie_of(row(2)),))
    session.committed()
    assert session.want.keys() == cookies(row(1))


def test_a_flow_that_two_pieces_want_stays_until_neither_does() -> None:
    session = in_sync(row(1))
    session.intend({"other": Piece((row(1),))})
    assert session.intend({}, gone=["networks.n1"]) is None
    assert session.intend({}, gone=["other"]) == Plan(delete=(cookie_of(row(1)),))


def test_a_flow_that_moves_from_one_piece_to_another_is_not_touched() -> None:
    session = in_sync(row(1), row(2))
    assert session.intend({"networks.n1": Piece((row(2),)), "networks.n2": Piece((row(1),))}) is None


def test_what_changes_during_a_write_waits_and_goes_out_with_the_next() -> None:
    session = in_sync()
    first = session.intend({"a": Piece((row(1),))})
    assert added(first) == cookies(row(1))
    assert session.intend({"b": Piece((row(2),))}) is None
    assert session.intend({}, gone=["a"], forget=[Forget(vlan=1)]) is None
    second = session.committed()
    assert second == Plan(((cookie_of(row(2)), row(2)),), (cookie_of(row(1)),), (Forget(vlan=1),))
    assert session.committed() is None
    assert session.have == frozenset(cookies(row(2)))


def test_a_flow_wanted_again_while_its_deletion_is_under_way_is_added_again() -> None:
    session = in_sync(row(1))
    assert session.intend({}, gone=["networks.n1"]) == Plan(delete=(cookie_of(row(1)),))
    assert session.intend({"networks.n1": Piece((row(1),))}) is None
    assert added(session.committed()) == cookies(row(1))


def test_a_refusal_is_remembered_with_its_reason_and_takes_no_changes_until_it_has_been_read_again() -> None:
    session = in_sync(row(1))
    session.intend({"b": Piece((row(2),))})
    session.refused("TABLE_FULL: add table=60")
    assert (session.state, session.reason) == (State.REFUSED, "TABLE_FULL: add table=60")
    assert not session.takes_changes


def test_after_a_refusal_what_the_switch_took_of_it_is_read_and_not_believed() -> None:
    session = in_sync(row(1))
    session.intend({"b": Piece((row(2),))}, gone=["networks.n1"])
    session.refused("it took the deletion, but not the addition")
    session.reread()
    session.flows_read([])
    assert added(session.intend_all({"b": Piece((row(2),))})) == cookies(row(2))
    session.committed()
    assert (session.state, session.reason) == (State.IN_SYNC, "")


def test_what_shall_be_forgotten_is_not_lost_with_a_refused_write() -> None:
    session = in_sync(row(1))
    session.intend({}, forget=[Forget(vlan=5)])
    session.intend({}, forget=[Forget(vlan=6)])
    assert session.unsaid == [Forget(vlan=5), Forget(vlan=6)]
    session.refused("not now")
    assert session.unsaid == [Forget(vlan=5), Forget(vlan=6)]
    session.reread()
    assert session.unsaid == [Forget(vlan=5), Forget(vlan=6)]


def test_a_reply_to_a_write_of_before_a_reread_changes_nothing() -> None:
    session = in_sync(row(1))
    session.intend({"b": Piece((row(2),))})
    session.reread()
    assert session.committed() is None
    assert session.state is State.READING
    session.refused("late")
    assert session.state is State.READING


# ---- the diff itself

def test_obeying_a_diff_leaves_what_is_wanted_and_the_next_diff_is_empty() -> None:
    switch = ModelSwitch(1, BR_INT, {})
    for one in (row(1), row(2, port=8), row(3)):
        switch.put(cookie_of(one), one)
    switch.put(STRANGER_COOKIE, row(7))
    switch.put(LEARNED_COOKIE, row(8))
    want = {cookie_of(one): one for one in (row(1), row(2, port=9), row(4))}
    switch.obey(diff(want, [one.cookie for one in switch.dump()]))
    assert set(switch.compiled().values()) == want.keys()
    assert len(switch.rows) == len(want) + 2
    assert not diff(want, [one.cookie for one in switch.dump()])


def test_a_plan_adds_before_it_deletes_so_that_a_changed_flow_has_no_gap() -> None:
    want = {cookie_of(row(2, port=9)): row(2, port=9)}
    plan = diff(want, cookies(row(2, port=8)))
    assert (added(plan), plan.delete) == (want.keys(), tuple(cookies(row(2, port=8))))


def test_what_shall_be_forgotten_is_said_once() -> None:
    assert diff({}, (), [Forget(vlan=6), Forget(ofport=2), Forget(vlan=6)]).forget == (
        Forget(vlan=6), Forget(ofport=2))


def test_compiled_flows_are_told_from_others_by_the_cookie() -> None:
    everything = [cookie_of(row(1)), LEARNED_COOKIE, STRANGER_COOKIE, 0]
    assert diff({}, everything).delete == (cookie_of(row(1)),)
