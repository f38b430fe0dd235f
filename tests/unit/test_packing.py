"""Our bytes are os-ken's: of every flow of the golden topologies, of any flow, and of whole plans."""
from __future__ import annotations

import random
from collections.abc import Mapping
from ipaddress import IPv4Address

import pytest

from controller.switch import bundles, packing, wire
from controller.switch.diff import Forget, Plan
from flows import fields as f
from flows import tables as t
from flows.cookie import LEARNED_COOKIE
from flows.fields import Criterion, Field, tagged
from flows.flow import (
    Action,
    AnyPort,
    Ask,
    CheckLarger,
    Clone,
    Conjunction,
    DecTtl,
    Flow,
    Goto,
    Learn,
    LearnPort,
    LookUp,
    Match,
    Metered,
    Move,
    Output,
    OutputBack,
    OutputTo,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    Track,
    Translation,
    flow,
    when,
)
from flows.host import Meter
from flows.sheet import Sheet, Spliced
from tests import oskenflow
from tests.clouds import CASES, golden, tables
from tests.wirekit import Counting, bundle_bytes


def of_osken(cookie: int, row: Flow, **more: int) -> bytes:
    connection = Counting()
    return connection.bytes(oskenflow.add_flow(connection, cookie, row, **more))


@pytest.mark.parametrize("case", CASES)
def test_every_golden_flow_is_packed_as_osken_does(case: str) -> None:
    cloud = golden(case)
    for host in cloud.hosts:
        for flows in tables(cloud, host).values():
            for number, row in enumerate(flows):
                assert packing.add(1, number, row) == of_osken(number, row), row


ACTIONS = (
    PushVlan(), PopVlan(), OutputBack(), DecTtl(), AnyPort(), Ask(), Output(7), Output(f.LOCAL_PORT),
    SetField(tagged(5)), SetField(f.TUN_ID(2**63)), SetField(f.ETH_SRC("fa:16:3e:00:00:01")),
    SetField(f.IPV6_SRC("2001:db8::1")), SetField(f.REG_ZONE(9)), SetField(f.IP_TTL(63)),
    OutputTo(f.REG_OUT_PORT), Resubmit(t.ROUTER), LookUp(t.BEHIND), CheckLarger(1464, f.REG_TOO_LARGE),
    Conjunction(2**31, 1, 2), Conjunction(5, 3, 3), Move(f.ETH_SRC, f.ETH_DST), Move(f.ARP_SPA, f.ARP_TPA),
    Move(f.ARP_SHA, f.ARP_THA), Move(f.REG_NEXT_HOP, f.ARP_TPA), Move(f.IPV4_SRC, f.IPV4_DST),
    Move(f.IPV6_SRC, f.IPV6_DST),
    Learn(t.UNICAST, next(iter(t.UNICAST.ranks)), 300, LEARNED_COOKIE),
    LearnPort(t.BEHIND, "learned", 300, LEARNED_COOKIE | 5, 0), LearnPort(t.BEHIND, "learned", 30, 5, 64),
    Track(5, t.ROUTER), Track(0xFFFF, None, commit=True), Track(f.REG_ZONE, t.ROUTER, nat=True),
    Track(7, t.ROUTER, commit=True, translation=Translation("src", IPv4Address("203.0.113.9"))),
    Track(7, None, commit=True, translation=Translation("dst", IPv4Address("10.0.0.1"))),
    Clone((SetField(f.REG_OUT_PORT(5)), Output(1), Clone((Resubmit(t.BASE_INGRESS),)))),
)


@pytest.mark.parametrize("action", ACTIONS, ids=repr)
def test_every_action_is_packed_as_osken_does(action: Action) -> None:
    row = Flow(t.CLASSIFY, 5, Match(()), (action,), "", "")
    assert packing.add(1, 2**64 - 1, row) == of_osken(2**64 - 1, row)


def criterion(field: Field, dice: random.Random) -> Criterion:
    mask = dice.getrandbits(field.bits) or field.full
    mask = mask if field.maskable and dice.random() < 0.5 else field.full
    return Criterion(field, dice.getrandbits(field.bits) & mask, mask)


def test_any_flow_is_packed_as_osken_does(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(300):
        criteria = sorted(dice.sample(f.FIELDS, dice.randrange(9)), key=f.FIELDS.index)
        actions = [*dice.choices((Metered(3),), k=dice.randrange(2)), *dice.choices(ACTIONS, k=dice.randrange(5)),
                   *dice.choices((Goto(t.DELIVER),), k=dice.randrange(2))]
        row = Flow(dice.choice(t.pipeline(t.BR_INT)), dice.randrange(1 << 16),
                   Match(tuple(criterion(field, dice) for field in criteria)), tuple(actions), "", "")
        cookie = dice.getrandbits(64)
        assert packing.add(1, cookie, row) == of_osken(cookie, row), row
        assert packing.add(1, cookie, row, 300, 1) == of_osken(cookie, row, idle_timeout=300, flags=1), row


def known(mac: str, vlan: int = 5, *, to: int = 3) -> Flow:
    return flow(t.UNICAST, "populated", when(tagged(vlan), f.ETH_DST(mac)), PopVlan(), SetField(f.TUN_ID(1001)),
                Output(to), origin="networks.blue", why="it lives there")


MACS = tuple(range(0xFA163E000000, 0xFA163E000000 + 7))
SHEETS = {
    "MAC addresses": Sheet(known("fa:16:3e:00:00:00"), f.ETH_DST, MACS, lambda index: ("", f"row {index}")),
    "MAC addresses and ports": Sheet(known("fa:16:3e:00:00:00"), f.ETH_DST, MACS, lambda index: ("", f"row {index}"),
                                     outputs=tuple(range(2**31, 2**31 + 7))),
    "ports": Sheet(Flow(t.CLASSIFY, 2, when(f.IN_PORT(5)), (Goto(t.DELIVER),), "", ""), f.IN_PORT, (1, 65279),
                   lambda index: ("", "")),
    "drops": Sheet(Flow(t.CLASSIFY, 2, when(f.ETH_TYPE(f.IPV4), f.IPV4_SRC("10.0.0.1"), f.IN_PORT(1)), (), "", ""),
                   f.IPV4_SRC, (0, 2**32 - 1), lambda index: ("", "")),
}


def rows(sheet: Sheet) -> tuple[tuple[int, Spliced], ...]:
    return tuple((2**63 + index, Spliced(sheet, index)) for index in range(len(sheet)))


@pytest.mark.parametrize("name", SHEETS)
def test_what_is_spliced_is_what_would_be_packed(name: str) -> None:
    plan = Plan(add=rows(SHEETS[name])[::-1])
    alone = Plan(add=tuple((cookie, row.flow) for cookie, row in rows(SHEETS[name])[::-1]))
    assert bundle_bytes(Counting(), 9, plan) == bundle_bytes(Counting(), 9, alone)
    assert bundle_bytes(Counting(), 9, plan) == oskenflow.bundle(Counting(), 9, plan)


PLAN = Plan(
    add=(*rows(SHEETS["ports"]), (5, known("fa:16:3e:00:00:09")), *rows(SHEETS["drops"]), *rows(SHEETS["ports"])),
    delete=(7, 2**64 - 1),
    forget=(Forget(), Forget(vlan=5), Forget(vlan=5, mac="fa:16:3e:00:00:01"), Forget(ofport=9), Forget(source=4)),
    meters_add=(Meter(1, 100, 50), Meter(2**31, 2**32 - 1, 0)), meters_change=(Meter(3, 5, 6),),
    meters_delete=(9, 10), flush=(5, 0xFFFF), flush_again=(7,))


def test_a_plan_of_everything_is_packed_as_osken_does() -> None:
    connection, theirs = Counting(), Counting()
    connection.xid = theirs.xid = 1000
    assert bundle_bytes(connection, 2**32 - 1, PLAN) == oskenflow.bundle(theirs, 2**32 - 1, PLAN)
    assert connection.xid == theirs.xid


def test_transaction_ids_of_one_bundle_do_not_start_anew_in_its_middle() -> None:
    connection = Counting()
    connection.xid = 2**32 - 5
    found = bundles.bundle(connection, 1, PLAN)
    assert list(found.blame) == list(range(1, len(found.blame) + 1))
    assert wire.next_xid(connection) == len(found.blame) + 1


def test_each_message_of_a_bundle_is_blamed_by_its_own_words() -> None:
    found = bundles.bundle(Counting(), 1, PLAN)
    staged, words = said(b"".join(found.staged), found.blame), said(found.final, found.blame)
    assert [*staged, *words] == list(found.blame.values())
    assert staged[:6] == ["set meter 1", f"set meter {2**31}", "set meter 3", "empty zone 5", "empty zone 65535",
                          "open the bundle"]
    assert staged[8] == "add table=20 (it lives there)"
    assert staged[13:15] == ["delete cookie=0x7", "delete cookie=0xffffffffffffffff"]
    assert staged[20:] == ["close the bundle"]
    assert words == ["commit", "empty zone 7", "delete meter 9", "delete meter 10"]
    assert found.blame.get(0) is None
    assert found.blame.get(len(found.blame) + 1) is None


def said(data: bytes, blame: Mapping[int, str]) -> list[str]:
    """The words of each message."""
    words = []
    while data:
        words.append(blame[int.from_bytes(data[4:8])])
        data = data[int.from_bytes(data[2:4]):]
    return words


def test_a_large_plan_comes_in_pieces_and_a_bundle_can_be_thrown_away() -> None:
    large = Plan(delete=tuple(range(5000)))
    pieces = list(bundles.bundle(Counting(), 9, large).staged)
    assert max(map(len, pieces)) < 70_000 < len(b"".join(pieces))
    assert bundles.discard(Counting(), 9).hex() == "05210010" "00000001" "00000009" "0006" "0003"
