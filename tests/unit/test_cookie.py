"""Cookies: the digest of a flow's text, under an owner and a kind."""
from __future__ import annotations

from dataclasses import replace

from flows.cookie import COMPILED, LEARNED_COOKIE, OWNER, cookie_of, is_compiled, is_learned
from flows.fields import tagged
from flows.flow import Output, flow, when
from flows.tables import DELIVER
from tests.clouds import CASES, golden, tables

FLOW = flow(DELIVER, "unknown", when(tagged(5)), Output(7), origin="networks.blue", why="test")


def test_owner_and_kind_stand_in_front_of_the_digest() -> None:
    assert cookie_of(FLOW) >> 48 == OWNER << 8 | COMPILED
    assert is_compiled(cookie_of(FLOW))
    assert not is_learned(cookie_of(FLOW))


def test_a_digest_is_the_same_in_every_release() -> None:
    """Another value here means that every flow of every running cloud is rewritten by the upgrade."""
    assert f"{cookie_of(FLOW):#x}" == "0x54012e840b7921fa"


def test_the_reason_does_not_count_but_every_other_difference_does() -> None:
    assert cookie_of(replace(FLOW, why="another", origin="networks.green")) == cookie_of(FLOW)
    others = [replace(FLOW, priority=2), replace(FLOW, match=when(tagged(6))), replace(FLOW, actions=(Output(8),)),
              replace(FLOW, actions=())]
    assert len({cookie_of(other) for other in [FLOW, *others]}) == 5


def test_learned_flows_and_strangers_are_not_ours_to_reconcile() -> None:
    assert is_learned(LEARNED_COOKIE)
    assert not is_compiled(LEARNED_COOKIE)
    for stranger in (0, 1, cookie_of(FLOW) ^ 1 << 60, 0xFFFFFFFFFFFFFFFF):
        assert not is_compiled(stranger)
        assert not is_learned(stranger)


def test_no_two_flows_of_a_bridge_share_a_cookie() -> None:
    for case in CASES:
        cloud = golden(case)
        for host in cloud.hosts:
            for flows in tables(cloud, host).values():
                assert len({cookie_of(row) for row in flows}) == len(flows)
