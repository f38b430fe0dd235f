"""What a flow monitor's updates mean, by flows of ours and the bytes that Open vSwitch sends of them."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from controller.switch import damage, dumps
from controller.switch.damage import Damage, Finding, What
from controller.switch.dumps import Update
from flows import fields as f
from flows.cookie import LEARNED_COOKIE, cookie_of
from flows.fields import tagged
from flows.flow import ANY, Flow, Move, Output, OutputBack, PopVlan, SetField, flow, when
from flows.sheet import Part, Sheet, Spliced, whole
from flows.tables import ARP_RESPONDER, DELIVER, UNICAST
from tests.clouds import CASES, golden, tables
from tests.updates import update

MACS = tuple(f"fa:16:3e:00:00:{last:02x}" for last in range(1, 9))


def known(mac: str, port: int = 7) -> Flow:
    return flow(DELIVER, "known", when(tagged(1), f.ETH_DST(mac)), PopVlan(), Output(port), origin="vms.a", why="a")


def number(mac: str) -> int:
    return int(mac.replace(":", ""), 16)


SHEET = Sheet(flow(UNICAST, "populated", when(tagged(1), f.ETH_DST(MACS[0])), PopVlan(), SetField(f.TUN_ID(9)),
                   Output(3), origin="vms.b", why="b"),
              f.ETH_DST, tuple(map(number, MACS)), lambda index: (f"vms.b{index}", f"b{index}"))
PARTS: tuple[Part, ...] = (*(known(mac) for mac in MACS), SHEET)
STRANGE = 0x77


def found(*updates: Update, parts: Iterable[Part] = PARTS) -> list[Finding]:
    parts = tuple(parts)
    rows = {cookie_of(one): one for one in whole(parts)}
    return list(damage.findings(updates, rows.get, lambda keys: damage.owners(parts, keys)))


ROWS = [pytest.param(known(MACS[2]), id="flow"), pytest.param(SHEET.flow(5), id="row of a sheet")]


@pytest.mark.parametrize("row", ROWS)
def test_a_flow_that_is_gone_is_deleted(row: Flow) -> None:
    cookie = cookie_of(row)
    assert found(update(dumps.REMOVED, row)) == [Finding(cookie, False, Damage(What.DELETED, cookie))]


@pytest.mark.parametrize("row", ROWS)
def test_a_flow_that_does_something_else_is_altered_though_it_keeps_its_cookie(row: Flow) -> None:
    cookie, other = cookie_of(row), replace(row, actions=())
    for event in (dumps.MODIFIED, dumps.ADDED):
        assert found(update(event, row, doing=other)) == [Finding(cookie, False, Damage(What.ALTERED, cookie))]


@pytest.mark.parametrize("row", ROWS)
def test_a_flow_that_is_put_back_by_others_is_well(row: Flow) -> None:
    assert found(update(dumps.ADDED, row)) == [Finding(cookie_of(row), False, None)]


def test_a_flow_that_would_expire_is_altered() -> None:
    row = known(MACS[0])
    (one,) = found(replace(update(dumps.ADDED, row), timeouts=(1, 0)))
    assert one.damage == Damage(What.ALTERED, cookie_of(row))


@pytest.mark.parametrize("row", ROWS)
def test_a_foreign_flow_with_the_same_match_has_overwritten_ours_and_its_end_leaves_a_gap(row: Flow) -> None:
    came, went = (update(event, row, cookie=STRANGE, doing=replace(row, actions=()))
                  for event in (dumps.ADDED, dumps.REMOVED))
    cookie = cookie_of(row)
    assert found(came, went) == [Finding(cookie, False, Damage(What.OVERWRITTEN, cookie, by=STRANGE)),
                                 Finding(cookie, False, Damage(What.DELETED, cookie))]


def test_strangers_and_learned_flows_are_nobodys_business() -> None:
    row = known(MACS[0])
    elsewhere = replace(row, match=when(tagged(2), f.ETH_DST(MACS[0])))
    higher = replace(row, priority=32768)
    wider = replace(row, match=when(tagged(1)))
    unknown = Update(dumps.ADDED, 60, 3, STRANGE, bytes.fromhex("80000a021234"), b"")
    beyond = Update(dumps.ADDED, 60, 3, STRANGE, bytes.fromhex("00010a0412345678"), b"")
    assert found(*(update(event, one, cookie=cookie) for event in (dumps.ADDED, dumps.REMOVED, dumps.MODIFIED)
                   for one in (elsewhere, higher, wider) for cookie in (STRANGE, LEARNED_COOKIE, 0)),
                 unknown, beyond) == []


def test_another_flow_with_our_cookie_is_one_too_many() -> None:
    row = known(MACS[0])
    copy = replace(row, match=when(tagged(2), f.ETH_DST(MACS[0])))
    unwanted = cookie_of(known(MACS[0], port=9))
    odd = Update(dumps.ADDED, 60, 3, cookie_of(row), bytes.fromhex("00011e0400000001"), b"")  # it compares reg15
    assert found(odd) == [Finding(cookie_of(row), True, Damage(What.COPIED, cookie_of(row)))]
    told = found(update(dumps.ADDED, copy, cookie=cookie_of(row)), update(dumps.REMOVED, copy, cookie=cookie_of(row)),
                 update(dumps.ADDED, copy, cookie=unwanted))
    assert told == [Finding(cookie_of(row), True, Damage(What.COPIED, cookie_of(row))),
                    Finding(cookie_of(row), True, None),
                    Finding(unwanted, True, Damage(What.SURPLUS, unwanted))]


def test_a_flow_that_went_with_its_meter_says_so() -> None:
    (one,) = found(replace(update(dumps.REMOVED, known(MACS[0])), reason=damage.METER_GONE))
    assert one.damage
    assert one.damage.meterless


def test_where_nothing_was_told_no_flow_is_looked_at() -> None:
    parts: Iterable[Part] = (pytest.fail("every switch is attended to each second") for _ in "a flow")
    assert damage.owners(parts, frozenset()) == {}


def test_abbreviated_updates_say_nothing() -> None:
    assert found(Update(dumps.ABBREVIATED, xid=7), Update(dumps.PAUSED)) == []


def test_of_very_many_updates_cookies_must_do() -> None:
    rows = {cookie_of(row): row for row in map(known, MACS[:3])}
    gone, changed, other = rows.values()
    unwanted = cookie_of(known(MACS[0], port=9))
    told = list(damage.hasty((update(dumps.REMOVED, gone), update(dumps.MODIFIED, changed),
                              update(dumps.ADDED, other, cookie=STRANGE), update(dumps.ADDED, other, cookie=unwanted)),
                             rows.get))
    assert told == [Finding(cookie_of(gone), False, Damage(What.DELETED, cookie_of(gone))),
                    Finding(cookie_of(changed), False, Damage(What.ALTERED, cookie_of(changed))),
                    Finding(unwanted, True, Damage(What.SURPLUS, unwanted))]


def test_moves_are_the_same_by_openflows_and_by_nicira_s_numbers() -> None:
    """As Open vSwitch 3.1 gives back what answers an ARP request."""
    answer = flow(ARP_RESPONDER, "known",
                  when(tagged(1), f.ETH_TYPE(f.ARP), f.ARP_OP(1), f.ARP_TPA(IPv4Address("10.0.1.12"))),
                  SetField(f.ARP_OP(2)), Move(f.ARP_SHA, f.ARP_THA), Move(f.ARP_SPA, f.ARP_TPA),
                  SetField(f.ARP_SHA("fa:16:3e:d3:3a:72")), SetField(f.ARP_SPA(IPv4Address("10.0.1.12"))),
                  Move(f.ETH_SRC, f.ETH_DST), SetField(f.ETH_SRC("fa:16:3e:d3:3a:72")), OutputBack(),
                  origin="test", why="test")
    given = bytes.fromhex(
        "000400a0000000000019001080002a020002000000000000ffff00180000232000060030000000000001220600012406"
        "ffff001800002320000600200000000000002004000022040019001080003006fa163ed33a7200000019001080002c040a00010c"
        "00000000ffff001800002320000600300000000000000406000002060019001080000806fa163ed33a72000000000010fffffff8"
        "ffff000000000000")
    assert damage.does(Update(dumps.ADDED, instructions=given), answer)


@pytest.mark.parametrize("case", CASES)
def test_every_golden_flow_is_found_by_the_bytes_of_its_match(case: str) -> None:
    cloud = golden(case)
    for host in cloud.hosts:
        for rows in tables(cloud, host).values():
            told = found(*(update(dumps.REMOVED, row) for row in rows), parts=rows)
            assert [one.cookie for one in told] == [cookie_of(row) for row in rows]


def test_a_match_is_read_whatever_the_order_of_its_fields() -> None:
    row = SHEET.flow(0)
    mac_first = bytes.fromhex("80000606") + number(MACS[0]).to_bytes(6) + bytes.fromhex("80000c021001")
    assert damage.match_of(mac_first) == row.match
    assert damage.match_of(b"") == ANY
    assert Spliced(SHEET, 0).flow == row
