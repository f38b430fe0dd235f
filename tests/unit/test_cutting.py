"""A large write as several bundles: what each holds, and what a switch does between two of them."""
from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest

from controller.model import placement
from controller.switch import additions, bundles
from controller.switch.additions import Imprint
from controller.switch.cutting import LIMIT, cut, place_of
from controller.switch.cutting import places as places_of_all
from controller.switch.diff import Forget, Plan, diff
from controller.switch.intent import Piece
from controller.switch.session import Session, State
from flows.compile import compile_base, compile_host, compile_network
from flows.cookie import cookie_of
from flows.evaluate import Pipeline
from flows.fields import tagged
from flows.flow import Flow, Output, flow, when
from flows.host import Meter
from flows.sheet import Part, Sheet, flow_of
from flows.tables import BR_INT, BR_TUN, DELIVER, FLOOD, TUNNEL_TO_VLAN, UNICAST, Table
from tests.clouds import parse
from tests.edge_clouds import sketch
from tests.model_switch import ModelSwitch
from tests.unit.test_session import read
from tests.unit.test_two_states import packets
from tests.wirekit import Counting

SMALL = 5  # messages of a bundle, for these tests


def row(number: int, port: int = 1, table: Table = FLOOD) -> Flow:
    return flow(table, "network" if table is FLOOD else "unknown", when(tagged(number)), Output(port), origin="test",
                why="test")


def numbered(rows: Iterable[Flow]) -> dict[int, Flow]:
    return {cookie_of(one): one for one in rows}


def places(rows: Iterable[Flow]) -> dict[int, int]:
    return {cookie: place_of(one) for cookie, one in numbered(rows).items()}


def between(old: Iterable[Flow], new: Iterable[Flow], forget: tuple[Forget, ...] = ()) -> Plan:
    return diff(numbered(new), numbered(old), forget)


def rows_of(part: Plan) -> list[Flow]:
    return [one for _, one in part.add if isinstance(one, Flow)]


def sizes(parts: Iterable[Plan]) -> list[int]:
    return [len(part.add) + len(part.delete) for part in parts]


# ---- what is cut

@pytest.mark.parametrize("bridge", [BR_INT, BR_TUN])
def test_a_write_that_fits_into_one_bundle_is_not_cut(bridge: str) -> None:
    plan = between([], [row(number) for number in range(1, SMALL + 1)])
    assert cut(plan, bridge, {}, SMALL) == (plan,)
    assert len(cut(plan, bridge, {}, SMALL - 1)) == 2


def test_all_is_in_some_bundle_once() -> None:
    old, new = [row(number, 1) for number in range(1, 60)], [row(number, 2) for number in range(30, 90)]
    plan = between(old, new)
    parts = cut(plan, BR_TUN, places(old), SMALL)
    assert sorted(one[0] for part in parts for one in part.add) == sorted(one[0] for one in plan.add)
    assert sorted(cookie for part in parts for cookie in part.delete) == sorted(plan.delete)
    assert max(sizes(parts)) <= SMALL


def test_who_is_led_to_comes_before_who_leads_and_goes_after_it() -> None:
    mixed = [flow(table, "miss", when(), Output(number), origin="test", why=str(number))
             for number, table in enumerate((UNICAST, TUNNEL_TO_VLAN["vxlan"], FLOOD, FLOOD, UNICAST) * 4, 1)]
    come = [place_of(one) for part in cut(between([], mixed), BR_TUN, {}, SMALL) for one in rows_of(part)]
    assert come == sorted(come, reverse=True)
    gone = [places(mixed)[cookie] for part in cut(between(mixed, []), BR_TUN, places(mixed), SMALL)
            for cookie in part.delete]
    assert gone == sorted(gone)


def test_additions_come_before_deletions() -> None:
    old, new = [row(number, 1) for number in range(1, 20)], [row(number, 2) for number in range(20, 40)]
    parts = cut(between(old, new), BR_TUN, places(old), SMALL)
    kinds = [bool(part.delete) for part in parts]
    assert kinds == sorted(kinds)
    assert not any(part.add and part.delete for part in parts)


def test_what_is_learned_is_forgotten_when_the_new_rows_are_there_and_again_when_the_old_ones_are_gone() -> None:
    old, new, forget = [row(number, 1) for number in range(1, 20)], [row(30), row(31)], (Forget(vlan=7),)
    parts = cut(between(old, new, forget), BR_TUN, places(old), SMALL)
    assert [part.forget for part in parts] == [forget, (), (), (), forget]
    (first, *rest) = cut(between([], [row(number) for number in range(1, 20)], forget), BR_INT, {}, SMALL)
    assert first.forget == forget
    assert not any(part.forget for part in rest)


def test_meters_and_zones_are_dealt_with_at_the_ends() -> None:
    plan = Plan(add=tuple(numbered([row(number, table=DELIVER) for number in range(1, 30)]).items()),
                meters_add=(Meter(1, 2, 3),), meters_change=(Meter(4, 5, 6),), flush=(7,), meters_delete=(8,))
    first, *middle, last = cut(plan, BR_INT, {}, SMALL)
    assert (first.meters_add, first.meters_change, first.flush) == (plan.meters_add, plan.meters_change, (7,))
    assert last.meters_delete == (8,)
    assert not any((part.meters_add, part.flush, part.meters_delete) != ((), (), ()) for part in middle)


# ---- rows that come together

def of_a_host(pick: random.Random, firewall: str) -> Iterator[Part]:
    topology = parse(sketch(pick, firewall).text())
    host = placement.place(topology, "c1", placement.imagined(topology, "c1"))
    yield from compile_base(host)
    for network in host.networks:
        yield from compile_network(host, network)


def with_imprints(pick: random.Random, firewall: str) -> list[Part]:
    """Those of the first host drawn on both of whose bridges some rows come together; nearly every one is so."""
    while True:
        every = list(of_a_host(pick, firewall))
        if all(imprints(additions.everything([part for part in every if part.table.bridge == bridge]))
               for bridge in (BR_INT, BR_TUN)):
            return every


def imprints(add: additions.Additions) -> int:
    return sum(isinstance(batch, Imprint) for batch in add.batches)


def written(plan: Plan, bridge: str, limit: int) -> Iterator[tuple[bytes, bytes, list[str]]]:
    connection = Counting()
    for number, part in enumerate(cut(plan, bridge, {}, limit)):
        bundle = bundles.bundle(connection, number, part)
        yield b"".join(bundle.staged), bundle.final, list(bundle.blame.values())


@pytest.mark.parametrize("firewall", ["iptables_hybrid", "openvswitch"])
@pytest.mark.parametrize("limit", [1, 2, 7, 40, LIMIT])
def test_what_is_printed_is_written_as_its_flows_are(seed: int, limit: int, firewall: str) -> None:
    print(f"seed {seed}")
    pick = random.Random(f"{seed}/{limit}/{firewall}")
    every = with_imprints(pick, firewall)
    for bridge in (BR_INT, BR_TUN):
        parts = [part for part in every if part.table.bridge == bridge]
        again = pick.sample([part for part in parts if not isinstance(part, Sheet)], 5)
        whole, twice = additions.everything(parts), additions.everything([*parts, *again])
        some = additions.of([pair for pair in whole if pick.random() < 0.7])
        assert imprints(whole) and imprints(twice)
        for add in (whole, twice, some):
            alone = Plan(tuple((cookie, flow_of(row)) for cookie, row in add))
            assert list(written(Plan(add), bridge, limit)) == list(written(alone, bridge, limit))
            assert list(places_of_all(add).items()) == [(cookie, place_of(row)) for cookie, row in add]


# ---- what is not cut

@pytest.mark.parametrize("plan", [
    between([row(1)], [row(number, 2, DELIVER) for number in range(1, 30)]),
    between([row(number, 2, DELIVER) for number in range(1, 30)], [])])
def test_a_br_int_that_holds_other_rows_is_changed_in_one_go(plan: Plan) -> None:
    have = dict.fromkeys(plan.delete, 5)
    assert cut(plan, BR_INT, have, SMALL) == (plan,)
    assert len(cut(plan, BR_TUN, have, SMALL)) > 1


def test_a_zone_that_changes_hands_does_so_in_one_go() -> None:
    plan = Plan(add=tuple(numbered([row(number) for number in range(1, 30)]).items()), flush=(7,), flush_again=(7,))
    for bridge in (BR_INT, BR_TUN):
        assert cut(plan, bridge, {}, SMALL) == (plan,)


def test_rows_that_are_renewed_are_deleted_and_added_in_one_go() -> None:
    plan = Plan(add=tuple(numbered([row(number) for number in range(1, 30)]).items()), renew=(7,))
    assert cut(plan, BR_TUN, {}, SMALL) == (plan,)


# ---- between two bundles

def test_a_switch_ends_where_one_bundle_would_have_taken_it(seed: int) -> None:
    pick = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(50):
        old, new = ([row(number, pick.randrange(1, 3), pick.choice((FLOOD, UNICAST))) for number in range(1, 40)
                     if pick.random() < 0.6] for _ in range(2))
        plan = between(old, new)
        one, many = ModelSwitch(1, BR_TUN, {}), ModelSwitch(1, BR_TUN, {})
        for switch in (one, many):
            for cookie, each in numbered(old).items():
                switch.put(cookie, each)
        one.obey(plan)
        for part in cut(plan, BR_TUN, places(old), SMALL):
            here, wanted = set(many.compiled().values()), numbered(new)
            many.obey(part)
            assert (here & wanted.keys()) <= set(many.compiled().values()), "what stays is never away"
        assert one.rows == many.rows


@pytest.mark.parametrize("run", range(3))
def test_a_br_int_that_is_being_filled_lets_nobody_through_whom_it_will_not_let_through(seed: int, run: int) -> None:
    number = seed * 100 + run
    print(f"seed {number}")
    pick = random.Random(number)
    topology = parse(sketch(pick, "openvswitch").text())
    seen = placement.imagined(topology, "c1")
    flows = compile_host(placement.place(topology, "c1", seen))[BR_INT]
    whole, there, said = Pipeline(BR_INT, flows), list[Flow](), packets(pick, topology, "c1", seen)
    parts = cut(between([], flows), BR_INT, {}, 10)
    assert len(parts) > 5
    for part in parts:
        there += rows_of(part)
        now = Pipeline(BR_INT, there)
        for packet, in_port in (next(said) for _ in range(5)):
            mine, finally_ = (walked.walk(packet, in_port) for walked in (now, whole))
            assert {port for port, _ in mine.outputs} <= {port for port, _ in finally_.outputs}, f"{packet}, {in_port}"
    assert len(there) == len(flows)


# ---- of a session

def many(count: int = 2 * LIMIT + 10) -> list[Flow]:
    return [row(number % 4000 + 1, number, DELIVER) for number in range(1, count)]


def test_a_session_counts_its_bundles_and_is_in_sync_after_the_last() -> None:
    session = Session("compute1", BR_INT)
    session.flows_read([])
    plan = session.intend_all({"a": Piece(tuple(many()))})
    assert plan is not None
    assert len(session.parts) == 3
    assert session.state is State.WRITING
    assert session.committed() is None
    assert (session.state, session.counters.writes, session.held) == (State.IN_SYNC, 3, len(many()))


def test_a_daemon_that_died_while_it_filled_br_int_goes_on_where_it_was() -> None:
    flows = many()
    first = cut(between([], flows), BR_INT, {})[0]
    session = Session("compute1", BR_INT)
    session.flows_read(read(*rows_of(first)))
    plan = session.intend_all({"a": Piece(tuple(flows))})
    assert plan is not None
    assert len(plan.add) == len(flows) - LIMIT
    assert len(session.parts) == 2


def test_each_bundle_is_as_large_as_it_may_be() -> None:
    assert [len(part.add) for part in cut(between([], many()), BR_TUN, {})] == [LIMIT, LIMIT, 9]
    assert all(place_of(one) >= place_of(other) for one, other in pairwise(
        one for part in cut(between([], many()), BR_TUN, {}) for one in rows_of(part)))
