"""Stories of one switch connection, told to the state machine without a switch."""
from __future__ import annotations

from controller.switch.diff import Forget, Plan, diff
from controller.switch.events import Installed
from controller.switch.intent import Piece
from controller.switch.session import Session, State
from flows import fields as f
from flows.cookie import LEARNED_COOKIE, cookie_of
from flows.fields import tagged
from flows.flow import Clone, Flow, Goto, Output, PushVlan, Resubmit, SetField, Track, flow, when
from flows.tables import ARP_SPOOF, BASE_INGRESS, BR_INT, CLASSIFY, DELIVER, TRANSLATE_IN, TRANSLATED_IN
from tests.model_switch import STRANGER_COOKIE, ModelSwitch


def row(vlan: int, port: int = 9) -> Flow:
    return flow(DELIVER, "unknown", when(tagged(vlan)), Output(port), origin=f"networks.n{vlan}", why="test")


def cookies(*rows: Flow) -> set[int]:
    return {cookie_of(one) for one in rows}


def read(*rows: Flow, others: tuple[int, ...] = ()) -> list[Installed]:
    """A dump of these flows, and of others by their cookies."""
    zones = {one: [action.criterion.value for action in one.actions
                   if isinstance(action, SetField) and action.criterion.field == f.REG_ZONE] for one in rows}
    return [*(Installed(cookie_of(one), one.table.id, in_port=port.value if (port := one.match[f.IN_PORT]) else None,
                        zone=next(iter(zones[one]), None), priority=one.priority) for one in rows),
            *(Installed(cookie, DELIVER.id) for cookie in others)]


def added(plan: Plan | None) -> set[int]:
    return {cookie for cookie, _ in plan.add} if plan else set()


def in_sync(*rows: Flow) -> Session:
    """A session that has read these flows, one piece each, and wants them."""
    session = Session("compute1", BR_INT)
    session.flows_read(read(*rows))
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
    session.flows_read(read(row(1), row(2), others=(LEARNED_COOKIE, STRANGER_COOKIE)))
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
    session.refused("TABLE_FULL: add table=60", 0.0)
    assert (session.state, session.reason) == (State.REFUSED, "TABLE_FULL: add table=60")
    assert not session.takes_changes


def test_after_a_refusal_what_the_switch_took_of_it_is_read_and_not_believed() -> None:
    session = in_sync(row(1))
    session.intend({"b": Piece((row(2),))}, gone=["networks.n1"])
    session.refused("it took the deletion, but not the addition", 0.0)
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
    session.refused("not now", 0.0)
    assert session.unsaid == [Forget(vlan=5), Forget(vlan=6)]
    session.reread()
    assert session.unsaid == [Forget(vlan=5), Forget(vlan=6)]


def test_a_reply_to_a_write_of_before_a_reread_changes_nothing() -> None:
    session = in_sync(row(1))
    session.intend({"b": Piece((row(2),))})
    session.reread()
    assert session.committed() is None
    assert session.state is State.READING
    session.refused("late", 0.0)
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


# ---- zones of connection tracking

def admit(port: int, zone: int, profile: int = 1) -> Flow:
    return flow(CLASSIFY, "admit", when(f.IN_PORT(port), f.UNTAGGED), PushVlan(), SetField(f.REG_ZONE(zone)),
                SetField(f.REG_PROFILE(profile)), Goto(ARP_SPOOF), origin="test", why="test")


def flood(*ports: tuple[int, int]) -> Flow:
    """To (port, zone) each."""
    clones = (Clone((SetField(f.REG_OUT_PORT(port)), SetField(f.REG_ZONE(zone)), Resubmit(BASE_INGRESS)))
              for port, zone in ports)
    return flow(DELIVER, "flood", when(tagged(1), f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), *clones, origin="n",
                why="test")


def translated(zone: int, *more: f.Criterion) -> Flow:
    return flow(TRANSLATE_IN, "own", when(f.REG_ROUTER(zone), f.ETH_TYPE(f.IPV4), *more), Track(zone, TRANSLATED_IN),
                origin="r", why="test")


def flushes(plan: Plan | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (plan.flush, plan.flush_again) if plan else ((), ())


def after(session: Session, plan: Plan | None) -> Session:
    while plan:
        plan = session.committed()
    return session


def holding(piece: Piece) -> Session:
    """A session whose switch has got this piece."""
    session = in_sync()
    return after(session, session.intend({"a": piece}))


def test_a_zone_is_emptied_before_its_first_flows_come() -> None:
    session = in_sync()
    plan = session.intend({"a": Piece((admit(3, 30), flood((3, 30), (4, 40)), translated(0x8000)))})
    assert flushes(plan) == ((30, 40, 0x8000), ())
    session.committed()
    assert session.counters.flushed == 3


def test_who_has_a_zone_keeps_what_it_remembers_while_its_flows_change() -> None:
    session = holding(Piece((admit(3, 30), flood((3, 30)), translated(9))))
    changed = Piece((admit(3, 30, profile=2), flood((3, 30), (4, 40)), translated(9, f.IPV4_DST("10.0.0.1"))))
    assert flushes(session.intend({"a": changed})) == ((40,), ())


def test_who_returns_finds_its_zone_empty() -> None:
    session = holding(Piece((admit(3, 30),)))
    after(session, session.intend({"a": Piece(())}))
    assert flushes(session.intend({"a": Piece((admit(3, 30),))})) == ((30,), ())


def test_a_zone_that_changes_hands_is_emptied_before_and_after() -> None:
    session = holding(Piece((admit(3, 30), admit(4, 40))))
    assert flushes(session.intend({"a": Piece((admit(4, 30),))})) == ((30,), (30,))


def test_flows_that_were_found_keep_their_zones_and_others_get_empty_ones() -> None:
    session = Session("compute1", BR_INT)
    session.flows_read(read(admit(3, 30), admit(4, 40)))
    plan = session.intend_all({"a": Piece((admit(3, 30), admit(4, 40, profile=2), admit(5, 50), admit(6, 40)))})
    assert flushes(plan) == ((40, 50), (40,))


def test_a_switch_that_was_found_right_keeps_all_zones() -> None:
    session = Session("compute1", BR_INT)
    session.flows_read(read(admit(3, 30)))
    assert session.intend_all({"a": Piece((admit(3, 30),))}) is None


def test_zones_are_emptied_with_the_first_of_two_writes_that_bring_their_flows() -> None:
    session = in_sync()
    assert flushes(session.intend({"a": Piece((admit(3, 30),))})) == ((30,), ())
    session.intend({"b": Piece((flood((3, 30)),))})
    assert flushes(session.committed()) == ((), ())
