"""What stands in the bytes of a write beside its flows, and what does not fit into any."""
from __future__ import annotations

import pytest

from controller.switch import bundles, packing
from controller.switch.diff import Forget, Plan
from flows import fields as f
from flows.cookie import LEARNED_COOKIE
from flows.fields import tagged
from flows.flow import Clone, Flow, Resubmit, SetField, flow, when
from flows.tables import BASE_INGRESS, DELIVER
from tests.wirekit import Counting, bundle_bytes

ADD, CONTROL, EXPERIMENTER = 34, 33, 4  # message types (OpenFlow 1.4, 7.1.1)


def messages(plan: Plan) -> list[bytes]:
    data, found = bundle_bytes(Counting(), 1, plan), []
    while data:
        size = int.from_bytes(data[2:4], "big")
        found.append(data[:size])
        data = data[size:]
    return found


def flood(ports: int) -> Flow:
    copies = (Clone((SetField(f.REG_OUT_PORT(port)), SetField(f.REG_ZONE(port)), SetField(f.REG_PROFILE(port)),
                     Resubmit(BASE_INGRESS))) for port in range(1, ports + 1))
    return flow(DELIVER, "flood", when(tagged(1), f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), *copies, origin="networks.blue",
                why="broadcast goes to all of blue")


def test_zones_are_emptied_before_the_bundle_and_once_more_behind_it() -> None:
    found = messages(Plan(add=((1, flood(1)),), flush=(5, 0x1234), flush_again=(5,)))
    assert [one[1] for one in found] == [EXPERIMENTER, EXPERIMENTER, CONTROL, ADD, CONTROL, CONTROL, EXPERIMENTER]
    # nicira-ext.h: vendor, NXT_CT_FLUSH_ZONE, 6 bytes of zeros, the zone
    assert [one[8:].hex() for one in found if one[1] == EXPERIMENTER] == [
        "000023200000001d0000000000000005", "000023200000001d0000000000001234", "000023200000001d0000000000000005"]


def test_every_message_has_a_name_for_complaints() -> None:
    bundle = bundles.bundle(Counting(), 1, Plan(add=((1, flood(1)),), flush=(5,)))
    assert list(bundle.blame.values()) == [
        "empty zone 5", "open the bundle", "add table=60 (broadcast goes to all of blue)", "close the bundle", "commit"]


@pytest.mark.parametrize("source", [7, 3 << 32 | 7])
def test_what_one_port_taught_is_found_by_its_cookie_alone(source: int) -> None:
    inner = messages(Plan(forget=(Forget(source=source),)))[1][16:]
    assert (int.from_bytes(inner[8:16], "big"), inner[16:24]) == (LEARNED_COOKIE | source, b"\xff" * 8)


def test_a_flow_that_no_message_holds_is_named() -> None:
    with pytest.raises(packing.TooLarge, match=r"broadcast goes to all of blue"):
        bundle_bytes(Counting(), 1, Plan(add=((1, flood(1000)),)))
