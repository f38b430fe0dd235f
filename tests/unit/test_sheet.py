"""Many flows as one: spliced, they are what they would be alone."""
from __future__ import annotations

import os
import random
from dataclasses import replace
from ipaddress import IPv4Address
from uuid import UUID

import pytest

from controller.model import placement
from controller.model.topology import SecurityGroup, Topology
from flows import compile as compiler
from flows import fields as f
from flows.cookie import cookie_of
from flows.fields import UNTAGGED, VLAN_VID, Field, tagged
from flows.flow import ANY, Flow, Goto, Output, PopVlan, SetField, Track, Undeclared, flow, when
from flows.forms import Fixed, Form
from flows.sheet import Part, Sheet, Spliced, flow_of, numbered, whole
from flows.tables import (
    ARP_SPOOF,
    BASE_INGRESS,
    CLASSIFY,
    CONVERSATION,
    DELIVER,
    FROM,
    MAC_SPOOF,
    ROUTER,
    RULES,
    TO_TUNNEL,
    UNICAST,
)
from flows.text import line
from tests.clouds import CASES, golden
from tests.wideclouds import wide

SEED = int(os.environ.get("TUNBRIDGE_SEED", "0")) or random.SystemRandom().getrandbits(32)


def nowhere(_: int) -> tuple[str, str]:
    raise AssertionError("nobody wants to know")


def row(mac: int, port: int) -> Flow:
    return flow(UNICAST, "populated", when(tagged(7), f.ETH_DST(mac)), PopVlan(), SetField(f.TUN_ID(1001)),
                Output(port), origin="", why="")


def ways(count: int, rng: random.Random) -> Sheet:
    macs = tuple(rng.sample(range(1 << 48), count))
    return Sheet(row(macs[0], 1), f.ETH_DST, macs, lambda index: (f"vms.vm{index}", f"vm{index} lives there"),
                 tuple(rng.choice((1, 9, 10, 65279, 70000)) for _ in macs))


def test_rows_are_what_they_would_be_alone() -> None:
    sheet = ways(300, random.Random(SEED))
    assert sheet.outputs is not None
    alone = [row(mac, port) for mac, port in zip(sheet.values, sheet.outputs, strict=True)]
    assert list(sheet) == alone, f"TUNBRIDGE_SEED={SEED}"
    assert sheet.cookies() == [cookie_of(one) for one in alone]
    assert [line(one) for one in sheet] == [line(one) for one in alone]


@pytest.mark.parametrize(("field", "values", "model"), [
    (f.IN_PORT, (1, 2, 1000, 65279), flow(FROM, "known", when(f.IN_PORT(3)), Goto(TO_TUNNEL), origin="", why="")),
    (f.ETH_SRC, (0, 1, 0xFFFFFFFFFFFF), flow(MAC_SPOOF, "foreign-address", when(f.IN_PORT(3), f.ETH_SRC(5)),
                                             origin="", why="")),
    (f.ARP_SPA, (0, 0x0A000001, 0xFFFFFFFF), flow(ARP_SPOOF, "own", when(f.ETH_TYPE(f.ARP), f.ARP_SPA(9)),
                                                  origin="", why=""))])
def test_a_sheet_without_ports_of_its_own_compares_any_kind_of_field(field: Field, values: tuple[int, ...],
                                                                     model: Flow) -> None:
    sheet = Sheet(model, field, values, lambda _: ("", ""))
    assert sheet.cookies() == [cookie_of(one) for one in sheet]
    assert [one.match[field] for one in sheet] == [field(value) for value in values]


def test_nobody_is_asked_for_words_before_somebody_reads_them() -> None:
    sheet = Sheet(row(5, 1), f.ETH_DST, (5, 6), nowhere, (1, 2))
    rows = numbered([sheet])
    assert [one.value for one in rows.values() if isinstance(one, Spliced)] == [5, 6]
    with pytest.raises(AssertionError, match="nobody"):
        _ = rows[sheet.cookies()[0]].why


def test_the_rows_of_a_sheet_stay_together_and_flows_are_found_among_them() -> None:
    sheet, miss = ways(3, random.Random(1)), flow(UNICAST, "miss", ANY, origin="pipeline", why="unknown")
    parts: list[Part] = [miss, sheet]
    rows = list(numbered(parts).items())
    assert rows == [(cookie_of(miss), miss), *zip(sheet.cookies(), sheet.rows(), strict=False)]
    assert [flow_of(one) for _, one in rows] == list(whole(parts)) == [miss, *sheet]
    assert [one.why for _, one in rows] == ["unknown", "vm0 lives there", "vm1 lives there", "vm2 lives there"]
    assert {(one.table, one.priority) for _, one in rows[1:]} == {(UNICAST, row(1, 1).priority)}


def test_what_cannot_be_spliced_is_refused() -> None:
    model = row(5, 1)
    for field, values, outputs in ((f.IN_PORT, (1,), None), (f.VLAN_VID, (0x1001,), None), (f.ETH_DST, (1, 2), (1,)),
                                   (f.ETH_DST, (1 << 48,), None), (f.ETH_DST, (1,), (f.LOCAL_PORT,))):
        with pytest.raises(ValueError):
            Sheet(model, field, values, nowhere, outputs)
    masked = flow(TO_TUNNEL, "group", when(f.ETH_DST(f.GROUP_BIT, f.GROUP_BIT)), origin="", why="")
    with pytest.raises(ValueError, match="does not compare"):
        Sheet(masked, f.ETH_DST, (1,), nowhere)
    to_vm = flow(CLASSIFY, "admit", when(f.IN_PORT(1)), SetField(f.REG_ZONE(5)), Goto(ROUTER), origin="", why="")
    with pytest.raises(ValueError, match="tracked"):
        Sheet(to_vm, f.IN_PORT, (1,), nowhere)


def cookies_alone(cloud: Topology) -> int:
    """How many unbuilt parts a cloud has, whose cookies are those of their flows."""
    count = 0
    for name in cloud.hosts:
        host = placement.place(cloud, name, placement.imagined(cloud, name))
        parts = [*compiler.compile_base(host), *(part for net in host.networks
                                                 for part in compiler.compile_network(host, net))]
        for part in parts:
            if not isinstance(part, Flow):
                assert part.cookies() == [cookie_of(one) for one in part], line(next(iter(part)))
                count += 1
    return count


@pytest.mark.parametrize("case", CASES)
def test_what_is_unbuilt_in_a_golden_cloud_has_the_cookies_of_its_flows(case: str) -> None:
    assert cookies_alone(golden(case))


@pytest.mark.parametrize("firewall", ["none", "iptables_hybrid", "openvswitch"])
@pytest.mark.parametrize("forwarding", ["learning", "l2population"])
def test_so_it_has_in_a_wide_one(firewall: str, forwarding: str) -> None:
    """Several ports of a network on a host, and networks without tunnels."""
    for hosts in (1, 5):
        cloud = wide(hosts, 40, 7, forwarding=forwarding, firewall=firewall, groups=("web",))
        assert cookies_alone(replace(cloud, security_groups={"web": SecurityGroup("web", UUID(int=1), (), 1)}))
        assert cookies_alone(wide(hosts, 40, 7, forwarding=forwarding, firewall=firewall))


def test_who_lives_elsewhere_makes_rows_and_no_flows() -> None:
    counts = []
    for ports in (40, 400):
        cloud = wide(2, ports, ports)
        host = placement.place(cloud, "compute0", placement.imagined(cloud, "compute0"))
        (net,) = host.networks
        parts = compiler.compile_ways(host, net)
        rows = len(list(whole(parts)))
        counts.append((sum(isinstance(part, Sheet) for part in parts), rows - len(net.neighbours) - len(net.ports)))
    assert counts[0] == counts[1] and counts[0][0] == 1


# ---- shapes, that are checked once

def test_that_one_flow_may_be_does_not_let_another_be() -> None:
    assert flow(DELIVER, "known", when(tagged(1), f.ETH_DST(5)), PopVlan(), Output(1), origin="", why="")
    for tag in (UNTAGGED, VLAN_VID(0, 0x1000)):
        with pytest.raises(Undeclared, match="must match one"):
            flow(DELIVER, "known", when(tag, f.ETH_DST(5)), PopVlan(), Output(1), origin="", why="")
    ip = when(f.ETH_TYPE(f.IPV4))
    assert flow(CONVERSATION, "miss", ip, Goto(RULES), origin="", why="")
    with pytest.raises(Undeclared, match="must match its EtherType"):
        flow(CONVERSATION, "miss", when(f.ETH_TYPE(f.ARP)), Track(5, None, commit=True), origin="", why="")
    for zone in (0, 0x10000):
        with pytest.raises(Undeclared, match="no zone"):
            flow(CONVERSATION, "miss", ip, Track(zone, None, commit=True), origin="", why="")


def test_a_broadcast_has_the_shape_of_another_and_still_its_own_ports() -> None:
    def flood(count: int, *last: Goto) -> Flow:
        return flow(DELIVER, "flood", when(tagged(1)), PopVlan(), *map(Output, range(1, count + 1)), *last, origin="",
                    why="")
    assert [len(flood(count).actions) for count in (8, 20, 21)] == [9, 21, 22]
    onward = Goto(BASE_INGRESS)
    assert flood(20, onward).actions[-1] == onward
    with pytest.raises(Undeclared, match="last"):
        flow(DELIVER, "flood", when(tagged(1)), *map(Output, range(1, 20)), onward, Output(1), origin="", why="")


def test_a_form_makes_what_flow_makes_and_refuses_what_it_refuses() -> None:
    form, arp = Form(ARP_SPOOF, "own", Goto(MAC_SPOOF)), Fixed((f.ETH_TYPE(f.ARP),))
    for address in ("10.0.0.1", IPv4Address("10.0.0.2"), "10.0.0.0/24", "0.0.0.0/0", "10.0.0.3"):
        own = (f.IN_PORT(5), f.ARP_SPA(address))
        made = form(own, "vms.a", "a claims it", arp)
        assert made == flow(ARP_SPOOF, "own", when(*own, *arp.criteria), Goto(MAC_SPOOF), origin="", why="")
        assert (made.origin, made.why, cookie_of(made)) == ("vms.a", "a claims it", cookie_of(made))
    with pytest.raises(ValueError, match="only be matched together"):
        form((f.IN_PORT(5), f.ARP_SPA("10.0.0.1")), "", "")
    with pytest.raises(Undeclared, match="does not match"):
        form((f.IN_PORT(5), f.ETH_SRC(1)), "", "", arp)


def test_many_macs_are_read_and_written_as_each_alone() -> None:
    macs = ["00:00:00:00:00:00", "fa:16:3e:00:00:01", "ff:ff:ff:ff:ff:ff"]
    assert f.numbers(macs) == tuple(f.ETH_DST(mac).value for mac in macs)
    assert f.numbers([]) == ()
    for field, values in ((f.ETH_DST, f.numbers(macs)), (f.IN_PORT, (0, 7)), (f.ARP_TPA, (0, 1 << 31)),
                          (f.TUN_ID, (0, 9))):
        assert field.show_all(values) == [field.show(value) for value in values]
