"""Every cloud that compiles is proven; and what the proof says of all packets holds for random ones, one by one."""
from __future__ import annotations

import os
import random

import pytest

from controller.switch.rows import flow_json
from controller.tools.verify import prove, verify
from controller.tools.verify_live import of_answers
from controller.tools.verify_text import flow
from controller.tools.verify_walk import Paper
from controller.tools.verify_wires import Flows, Laid, compiled
from flows import fields as f
from flows.headerspace import (
    EVERYTHING,
    Literal,
    Region,
    both,
    holds,
    meet,
    minus,
    region,
    solve,
    uncovered,
    united,
    without,
)
from flows.packet import Packet
from flows.prove import INNER
from flows.prove_cloud import Arrival, Cloud
from flows.prove_tracking import Talk
from tests.clouds import CASES, ROOT, golden, parse
from tests.random_clouds import random_cloud

_SLOW = {"routed"}  # three routers that lead to each other: half a minute


@pytest.mark.parametrize("case", [case for case in CASES if case not in _SLOW])
def test_what_we_compile_keeps_every_promise(case: str) -> None:
    report = verify(golden(case))
    assert report.ok, [one.document() for one in report.breaches]


@pytest.mark.parametrize("file", ["topology.yaml", "docs/pipeline.yaml"])
def test_the_clouds_of_the_documents_are_proven(file: str) -> None:
    report = verify(parse((ROOT / file).read_text()))
    assert report.ok, [one.document() for one in report.breaches]


def test_what_a_switch_does_not_say_is_not_claimed() -> None:
    cloud = golden("one-network-two-hosts")
    laid = Laid(cloud)
    bridges = [{"host": host, "bridge": bridge, "connected": True, "ports": laid.seen[host].ports[bridge],
                "vlans": laid.seen[host].vlans, "flows": [{**flow_json(row), "status": "installed"} for row in rows]}
               for (host, bridge), rows in compiled(laid.hosts.values()).items()]
    found = of_answers(cloud, bridges)
    assert not found.unknown
    assert prove(found.laid, found.flows, found.intended).ok
    bridges[0] |= {"connected": False, "flows": []}
    bridges[1]["flows"].append({"cookie": "0x1", "table": 0, "priority": 9, "match": "in_port=1", "origin": "",
                                "actions": "output:4294967290", "status": "stranger", "why": "not ours"})
    found = of_answers(cloud, bridges)
    assert len(found.unknown) == 2
    assert not prove(found.laid, found.flows, found.intended).ok


# ---- one by one

def test_the_proof_says_of_random_packets_what_becomes_of_each() -> None:
    seed = int(os.environ.get("TUNBRIDGE_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}")
    dice = random.Random(seed)
    delivered = 0
    for _ in range(4):
        edge = dice.choice(["", "iptables_hybrid"])
        laid = Laid(parse(random_cloud(dice, outside=True, edge=edge)))
        wiring, flows = laid.wiring, compiled(laid.hosts.values())
        delivered += _compared(dice, laid, Cloud(flows, wiring, stops=()), Paper(flows, wiring), flows)
    assert delivered


def _compared(dice: random.Random, laid: Laid, cloud: Cloud, paper: Paper, flows: Flows) -> int:
    """How many random packets came to somebody; for each, the proof names the very same."""
    seen = _values(flows)
    count = 0
    for port in [*laid.topology.ports()][:5]:
        paths = cloud.paths(cloud.entry(laid.plugs[port.name]))
        talks = {var for path in paths for var in path.space.cube if var.startswith("talk:")}
        for _ in range(30):
            packet = _packet(dice, seen, port.mac, str(port.ip))
            paper.forget()
            came = sorted(one.end for one in paper.send(laid.plugs[port.name], packet).came)
            values = {**dict(packet.items), INNER: (*packet.inner, 0)[0], **dict.fromkeys(talks, int(Talk.NEW))}
            assert came == sorted(path.end.end.name for path in paths
                                  if isinstance(path.end, Arrival) and holds(path.space, values)), str(packet)
            count += bool(came)
    return count


def _values(flows: Flows) -> dict[str, list[int]]:
    found: dict[str, set[int]] = {}
    for criterion in (one for rows in flows.values() for row in rows for one in row.match.criteria):
        found.setdefault(criterion.field.name, set()).add(criterion.value)
    return {name: sorted(values) for name, values in found.items()}


def _packet(dice: random.Random, seen: dict[str, list[int]], mac: str, address: str) -> Packet:
    """A frame made of what rows match: nearly as its sender may send it."""
    kind = dice.choice([f.ARP, f.IPV4, f.IPV4, f.IPV6, f.RARP, 0x88CC])
    own = f.ETH_SRC(mac).value
    four = f.IPV4_SRC(address).value if ":" not in address else 0
    sender = own if dice.random() < 0.8 else dice.choice(seen["eth_dst"])
    items = {"eth_src": sender, "eth_dst": dice.choice([*seen["eth_dst"], 0xFFFFFFFFFFFF]), "eth_type": kind,
             "tunnel_id": 0, "vlan_vid": dice.choice([0, 0, 0, 0x1001, 0x1002])}
    if kind == f.ARP:
        items |= {"arp_op": dice.choice([1, 2]), "arp_sha": own, "arp_spa": dice.choice([four, four, 0, 99]),
                  "arp_tha": 0, "arp_tpa": dice.choice(seen.get("arp_spa", [1]))}
    elif kind in (f.IPV4, f.IPV6):
        items |= {"ip_proto": f.UDP, "udp_src": dice.choice([67, 68, 547, 9]), "udp_dst": dice.choice([67, 68, 546, 9])}
        items |= {"ipv4_src": dice.choice([four, four, 0]), "ipv4_dst": dice.choice([0xFFFFFFFF, 7]), "nw_ttl": 64} \
            if kind == f.IPV4 else {"ipv6_src": dice.choice(seen.get("ipv6_src", [0])), "ipv6_dst": 1}
    inner = (0x1001,) if items["vlan_vid"] and dice.random() < 0.5 else ()
    return Packet(tuple(sorted(items.items())), inner)


# ---- sets of packets

def test_sets_of_packets_are_what_they_say_of_every_packet() -> None:
    seed = int(os.environ.get("TUNBRIDGE_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}")
    dice = random.Random(seed)
    space = [{"a": a, "b": b} for a in range(8) for b in range(8)]
    joined = 0
    for _ in range(150):
        one, other, third = (_region(dice) for _ in range(3))
        common, pieces = both(one, other), [*minus(one, other)]
        left = uncovered(one, [other, third])
        halves = _halves(dice, one)
        whole = united(*halves) if halves else None
        for packet in space:
            assert holds(one, packet) <= (solve(one) is not None)
            assert (holds(one, packet) and holds(other, packet)) == (common is not None and holds(common, packet))
            assert whole is None or holds(whole, packet) == any(holds(half, packet) for half in halves)
            apart = holds(one, packet) and not holds(other, packet)
            assert apart == (sum(holds(piece, packet) for piece in pieces) == 1)
        joined += whole is not None
        missed = [packet for packet in space if holds(one, packet) and not holds(other, packet)
                  and not holds(third, packet)]
        assert (left is None) == (not missed)
        assert left is None or {"a": left.get("a", 0), "b": left.get("b", 0)} in missed
    assert joined


def _halves(dice: random.Random, one: Region) -> list[Region]:
    """A region's packets with a bit and those without, of each some taken out; nothing if it has only one kind."""
    bit = dice.choice([1, 2, 4])
    found = []
    for value in (0, bit):
        half = meet(one, [Literal("a", value, bit)])
        out = [Literal(var, dice.randrange(8), 7) for var in ("a", "b") if dice.random() < 0.6]
        found += [rest for rest in [half and without(half, out)] if rest is not None]
    return found if len(found) == 2 else []


def _region(dice: random.Random):  # type: ignore[no-untyped-def]
    def literals() -> list[Literal]:
        masks = {var: dice.randrange(8) for var in ("a", "b") if dice.random() < 0.8}
        return [Literal(var, dice.randrange(8) & mask, mask) for var, mask in masks.items()]
    return region(literals(), [literals() for _ in range(dice.randrange(3))]) or region([Literal("a", 7, 7)])


def test_what_is_plainly_empty_is_nothing() -> None:
    assert meet(EVERYTHING, [Literal("a", 1, 1), Literal("a", 0, 1)]) is None
    assert without(EVERYTHING, []) is None
    assert flow("br-int", {"table": 23, "priority": 0, "match": "", "actions": "drop", "origin": "", "why": ""})
