"""What is read of a dump's bytes is what os-ken reads of them."""
from __future__ import annotations

import random
import struct
from collections.abc import Iterable

import pytest
from os_ken.ofproto import ofproto_v1_4_parser as parser

from controller.switch import dumps, listing, packing
from controller.switch.events import Counted, Installed
from controller.switch.found import Found
from flows import fields as f
from flows import tables as t
from flows.cookie import LEARNED_COOKIE, NEIGHBOUR_COOKIE, cookie_of
from flows.fields import tagged
from flows.flow import Clone, Flow, Goto, Match, PushVlan, SetField, Track, when
from tests import oskenflow
from tests.clouds import CASES, golden, tables
from tests.wirekit import dumped


def row(flow: Flow, cookie: int | None = None) -> bytes:
    """As a switch says it (OpenFlow 1.4, 7.3.5.2)."""
    body = packing.match_bytes(flow.match) + packing.instructions(flow.actions)
    return struct.pack("!HBxIIHHHHHxxQQQ", 48 + len(body), flow.table.id, 9, 0, flow.priority, 0, 0, 0, 0,
                       cookie_of(flow) if cookie is None else cookie, 7, 700) + body


def by_osken(raw: bytes) -> Installed:
    return oskenflow.installed(parser.OFPFlowStats.parser(raw, 0))


def read(rows: Iterable[bytes]) -> Found:
    found = Found()
    dumps.take(dumped(rows), found)
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_golden_flow_is_read_back_as_osken_does(case: str) -> None:
    cloud = golden(case)
    for host in cloud.hosts:
        for flows in tables(cloud, host).values():
            rows = [row(flow) for flow in flows]
            assert read(rows) == Found.of(map(by_osken, rows))


LEG = (f.REG_LEAVES_BY(5), f.REG_NEXT_HOP(0x0A000107))
TELLING = {
    "a provider's VLAN": Flow(t.CLASSIFY, 2, when(f.IN_PORT(3), tagged(100)),
                              (SetField(tagged(4)), Goto(t.DELIVER)), "", ""),
    "untagged": Flow(t.CLASSIFY, 2, when(f.IN_PORT(3), f.UNTAGGED), (PushVlan(), SetField(tagged(4))), "", ""),
    "any tag": Flow(t.CLASSIFY, 2, when(f.IN_PORT(3), f.ANY_TAG), (SetField(tagged(4)),), "", ""),
    "a tunnel id": Flow(t.TUNNEL_TO_VLAN["vxlan"], 2, when(f.TUN_ID(2**24 - 1)), (PushVlan(), SetField(tagged(9))),
                        "", ""),
    "a zone of a port": Flow(t.CLASSIFY, 2, when(f.IN_PORT(3)), (SetField(f.REG_ZONE(0x8001)),), "", ""),
    "a zone of a router": Flow(t.ROUTER, 2, when(f.ETH_TYPE(f.IPV4)), (Track(6, None, commit=True), Track(7, t.ROUTER)),
                               "", ""),
    "a zone in a register": Flow(t.ROUTER, 2, when(f.ETH_TYPE(f.IPV4)), (Track(f.REG_ZONE, t.ROUTER),), "", ""),
    "a zone inside a copy": Flow(t.DELIVER, 2, Match(()), (Clone((SetField(f.REG_ZONE(5)),)),), "", ""),
    "a drop": Flow(t.CLASSIFY, 2, Match(()), (), "", ""),
}


@pytest.mark.parametrize("what", TELLING)
def test_what_a_row_tells_is_read(what: str) -> None:
    raw = row(TELLING[what])
    assert read([raw]) == Found.of([by_osken(raw)])


def test_a_neighbour_is_read_whole() -> None:
    raw = row(Flow(t.LEAVE, 2, Match(LEG), (SetField(f.ETH_DST("02:00:00:00:00:07")),
                                            SetField(f.ETH_SRC("fa:16:3e:00:00:01"))), "", ""), NEIGHBOUR_COOKIE)
    found = read([raw])
    assert found == Found.of([by_osken(raw)])
    assert found.others[0].neighbour


def test_of_rows_that_are_not_compiled_only_the_head_is_looked_at() -> None:
    """A stranger's row may hold whatever it likes."""
    nonsense = bytes(range(200, 240))
    rows = [struct.pack("!HBxIIHHHHHxxQQQ", 88, table, 0, 0, 3, 0, 0, 0, 0, cookie, 1, 2) + nonsense
            for table in (0, 4, 20) for cookie in (5, LEARNED_COOKIE)]
    assert read(rows) == Found(others=[
        Installed(cookie, table, priority=3) for table in (0, 4, 20) for cookie in (5, LEARNED_COOKIE)])
    found = listing.row(rows[0])
    assert (found.cookie, found.priority, found.packets, found.match) == (5, 3, 1, "(not understood)")


def test_counters_and_contents_are_read(seed: int) -> None:
    flow, dice = TELLING["a tunnel id"], random.Random(seed)
    cookies = [dice.getrandbits(64) for _ in range(100)]
    rows = dumped(row(flow, cookie) for cookie in cookies)
    assert list(dumps.counted(rows)) == [(cookie, Counted(7, 700)) for cookie in cookies]
    assert list(dumps.contents(rows)) == [
        dumps.Content(flow.table.id, 2, cookie, packing.fields(flow.match), packing.instructions(flow.actions))
        for cookie in cookies]


def test_a_row_that_is_known_has_counters_but_no_text() -> None:
    raw = row(TELLING["a drop"])
    found, whole = listing.row(raw, lambda row: row.cookie == cookie_of(TELLING["a drop"])), listing.row(raw)
    assert (found.packets, found.bytes, found.seconds, found.actions) == (7, 700, 9, "")
    assert (whole.packets, whole.bytes, whole.seconds, whole.actions) == (7, 700, 9, "drop")
