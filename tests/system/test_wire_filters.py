"""The security groups' rows on the wire: what a real Open vSwitch holds, what the daemon reads of it, and zones."""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from controller.switch import listing, wire
from controller.switch.diff import Plan
from flows.cookie import LEARNED_COOKIE, cookie_of, is_learned
from flows.flow import Learn, LearnPort
from flows.routing.wireformat import mac_bytes
from flows.text import actions_text, match_words
from tests import filter_rows
from tests.private_ovs import PrivateOvs
from tests.routerkit import udp_to
from tests.wirekit import BRIDGE, Counting, asked, held, plan_for, send, texts

pytestmark = [pytest.mark.system, pytest.mark.shared]

VM, OTHER, STRANGER = (filter_rows.VMS[5][0], "10.0.0.5"), (filter_rows.VMS[6][0], "10.0.0.6"), (
    "fa:16:3e:00:00:09", "10.0.1.3")


@pytest.fixture(scope="module")
def ovs() -> Iterator[PrivateOvs]:
    with PrivateOvs() as running:
        yield running


@pytest.fixture
def bridge(ovs: PrivateOvs) -> Iterator[PrivateOvs]:
    ovs.add_bridge(BRIDGE, {f"vm{port}": port for port in (*filter_rows.VMS, filter_rows.UNSECURED)})
    yield ovs
    ovs.del_bridge(BRIDGE)


def test_every_row_of_the_firewall_is_held_as_our_text_says_byte_for_byte(bridge: PrivateOvs) -> None:
    assert send(bridge, plan_for(filter_rows.rows())) == {}
    assert held(bridge) == texts(filter_rows.rows())


def test_the_daemon_lists_the_rows_in_the_words_of_ovs_ofctl(bridge: PrivateOvs) -> None:
    assert send(bridge, plan_for(filter_rows.rows())) == {}
    with bridge.openflow(BRIDGE) as connection:
        rows = [listing.row(row) for row in asked(connection, wire.read_flows(Counting()))]
    taught = [row for row in rows if "learn(" in row.actions]
    assert len(taught) == 2 and all(row.actions.endswith(",limit=2,...),goto_table:40") or "limit" not in row.actions
                                    for row in taught)
    assert sorted((row.cookie, row.table, row.priority, row.match, row.actions) for row in rows if row not in taught) \
        == sorted((cookie_of(row), row.table.id, row.priority, ",".join(match_words(row.match)),
                   actions_text(row.actions)) for row in filter_rows.rows()
                  if not any(isinstance(action, Learn | LearnPort) for action in row.actions))


def say(ovs: PrivateOvs, port: int, source: tuple[str, str], target: tuple[str, str], ports: tuple[int, int]) -> None:
    """A datagram comes in; when this returns, the switch has taken it."""
    frame = udp_to(source[1], target[1], ports).framed(mac_bytes(source[0]), mac_bytes(target[0]))
    with ovs.control() as control:
        control.ask("netdev-dummy/receive", f"vm{port}", frame.hex())
        control.ask("dpif/show")


def test_a_flushed_zone_forgets_its_conversations_and_no_other_does(bridge: PrivateOvs) -> None:
    assert send(bridge, plan_for(filter_rows.rows())) == {}
    say(bridge, filter_rows.UNSECURED, STRANGER, VM, (4000, 80))
    say(bridge, 5, VM, STRANGER, (4000, 5000))
    say(bridge, filter_rows.UNSECURED, STRANGER, OTHER, (4000, 22))

    def zones() -> Counter[str]:
        with bridge.control() as control:
            return Counter(re.findall(r"zone=(\d+)", control.ask("dpctl/dump-conntrack")))

    assert zones() == {"21": 2, "22": 1}
    assert send(bridge, Plan(flush=(21,))) == {}
    assert zones() == {"22": 1}


def test_macs_behind_a_port_are_learned_up_to_its_limit_and_listed_with_the_port(bridge: PrivateOvs) -> None:
    assert send(bridge, plan_for(filter_rows.rows())) == {}
    macs = [f"fa:16:3e:00:77:{number:02x}" for number in range(5)]
    for mac in macs:
        say(bridge, filter_rows.UNSECURED, (mac, "10.0.0.77"), VM, (1, 2))
    with bridge.openflow(BRIDGE) as connection:
        rows = [listing.row(row) for row in asked(connection, wire.read_flows(Counting()))]
    learned = [row for row in rows if is_learned(row.cookie)]
    assert [(row.mac, row.vlan, row.out_port) for row in learned] == [
        (mac, filter_rows.VLAN, filter_rows.UNSECURED) for mac in macs[:2]]
    assert {row.cookie for row in learned} == {LEARNED_COOKIE | filter_rows.UNSECURED}
    assert {row.actions for row in learned} == {"load:0x9->NXM_NX_REG6[0..15]"}
