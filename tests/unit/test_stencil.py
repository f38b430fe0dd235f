"""The flows of ports as prints of stencils: unbuilt, they are what they would be alone."""
from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest

from controller.switch import packing, prints, zones
from controller.switch.additions import Imprint
from flows import br_int, br_tun
from flows import compile as compiler
from flows import fields as f
from flows.cookie import cookie_of
from flows.flow import Flow, Goto, Output, PopVlan, flow, when
from flows.host import Filter, Host, Identity, Network, Port, Prefix, Tunnels
from flows.port_security import link_local
from flows.sheet import Row, flow_of, numbered, whole
from flows.stencil import Print, Stencil
from flows.tables import CLASSIFY, DELIVER, ROUTER
from flows.text import line

SEED = int(os.environ.get("TUNBRIDGE_SEED", "0")) or random.SystemRandom().getrandbits(32)
FIREWALLS = ("none", "iptables_hybrid", "openvswitch")


def host(firewall: str) -> Host:
    return Host("h", 1, 1, "vxlan", Tunnels(), (), l2population=False, arp_responder=False, mac_aging_time=300,
                firewall=firewall)


class Words:
    """Numbers that are but text."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def texts(self) -> tuple[str, ...]:
        return self._words

    def octets(self) -> tuple[bytes, ...]:
        return tuple(word.encode() for word in self._words)


def net(vlan: int, *ports: Port) -> Network:
    return Network("blue", "networks.blue", vlan, 1001, ports, Tunnels(), ())


def plug(ofport: int, mac: str, *addresses: Prefix, filter: Filter | None = None) -> Port:
    return Port(f"vm{ofport}", f"vms.vm{ofport}", ofport, mac, (Identity(mac, addresses),), filter)


def some(rng: random.Random, version: int) -> Port:
    """Any port, with edges of its numbers among them."""
    mac = (rng.getrandbits(48) & 0xFEFFFFFFFFFF).to_bytes(6).hex(":")
    bits = 32 if version == 4 else 128
    number = rng.choice((0, 1, (1 << bits) - 1, rng.getrandbits(bits), rng.getrandbits(bits) & ~0xFFFF))
    address = IPv4Network((number, 32)) if version == 4 else IPv6Network((number, 128))
    filter = rng.choice((None, Filter(rng.randrange(1, 0x10000), rng.choice((1, 9, 10, 1 << 31)))))
    return plug(rng.choice((1, 9, 10, 65279, rng.randrange(1, 1 << 16))), mac, address, filter=filter)


def edges(rng: random.Random) -> Iterator[Port]:
    for version in (4, 6):
        yield from (some(rng, version) for _ in range(60))
    yield plug(1, "00:00:00:00:00:01", IPv4Network("0.0.0.0/32"))
    yield plug(1, "02:00:00:00:00:00", IPv4Network("255.255.255.255/32"))
    yield plug(8190, "fa:16:3e:00:00:01", IPv4Network("10.0.0.1/32"), filter=Filter(8190, 8190))


@pytest.mark.parametrize("firewall", FIREWALLS)
def test_a_print_has_the_cookies_and_the_lines_that_its_flows_have_alone(firewall: str) -> None:
    rng = random.Random(f"{SEED}/{firewall}")
    for port in edges(rng):
        on = net(rng.choice((1, 9, 10, 4093, 4094, rng.randrange(1, 4095))), port)
        (made,) = compiler.compile_port(host(firewall), on, port)
        assert isinstance(made, Print)
        alone = tuple(br_int.port(host(firewall), on, port))
        assert made.cookies() == [cookie_of(one) for one in alone], f"TUNBRIDGE_SEED={SEED} {port}"
        assert made.lines() == [line(one) for one in alone]
        assert list(whole([made])) == list(alone) and len(made) == len(alone)
        assert [(row.table, row.priority, row.origin, row.why) for row in made.rows()] \
            == [(one.table, one.priority, one.origin, one.why) for one in alone]


@pytest.mark.parametrize("port", [
    plug(f.LOCAL_PORT, "fa:16:3e:00:00:01", IPv4Network("10.0.0.1/32")),
    plug(1, "fa:16:3e:00:00:01", IPv4Network("10.0.0.0/24")),
    plug(1, "fa:16:3e:00:00:01", IPv4Network("10.0.0.1/32"), IPv4Network("10.0.0.2/32")),
    plug(1, "fa:16:3e:00:00:01", ip_network(link_local("fa:16:3e:00:00:01"))),
    replace(plug(1, "fa:16:3e:00:00:01", IPv4Network("10.0.0.1/32")), mac="fa:16:3e:00:00:02"),
    replace(plug(1, "fa:16:3e:00:00:01"), identities=())], ids=lambda port: f"{port.ofport} {port.identities}"[:60])
def test_a_port_that_is_not_as_others_are_has_flows(port: Port) -> None:
    assert all(isinstance(part, Flow) for part in compiler.compile_port(host("none"), net(5, port), port))


def test_a_print_is_built_when_somebody_looks_and_then_once() -> None:
    built = []

    def make() -> Iterator[Flow]:
        built.append(1)
        yield from rows(7)

    made = Print(Stencil((rows(4711), Words("4711")), (rows(815), Words("815"))), Words("7"), make)
    found: list[Row] = list(numbered([made]).values())
    assert [row.priority for row in found] == [one.priority for one in rows(7)] and not built
    assert [flow_of(row) for row in found] == list(rows(7)) == list(made)
    assert len(built) == 1


def test_flows_that_differ_otherwise_make_no_stencil() -> None:
    fine = Stencil((rows(4711), Words("4711")), (rows(815), Words("815")))
    assert fine.lines(Words("7")) == [line(one) for one in rows(7)]
    for first, second, numbers in ((rows(4711), rows(815), (Words("4711"), Words("816"))),  # other numbers
                                   (rows(2), rows(815), (Words("2"), Words("815"))),  # written elsewhere, too
                                   (rows(4711), rows(815)[:1], (Words("4711"), Words("815"))),  # another flow
                                   (rows(4711), rows(815), (Words(), Words()))):  # and none at all
        with pytest.raises(ValueError, match="numbers alone"):
            Stencil((first, numbers[0]), (second, numbers[1]))


def rows(port: int) -> tuple[Flow, ...]:
    return (flow(CLASSIFY, "admit", when(f.IN_PORT(port)), Goto(ROUTER), origin="", why=f"{port} in"),
            flow(DELIVER, "known", when(f.tagged(2), f.ETH_DST(1)), PopVlan(), Output(port), origin="", why="out"))


@pytest.mark.parametrize("firewall", FIREWALLS)
def test_who_has_a_zone_is_told_of_prints_as_of_flows(firewall: str) -> None:
    port = plug(5, "fa:16:3e:00:00:01", IPv4Network("10.0.0.1/32"), filter=Filter(7, 9))
    made = numbered(compiler.compile_port(host(firewall), net(5, port), port))
    alone = {cookie: flow_of(row) for cookie, row in made.items()}
    assert zones.of_rows(made.items()) == zones.of_rows(alone.items())
    assert bool(zones.of_rows(made.items())) == (firewall == "openvswitch")


@pytest.mark.parametrize("firewall", FIREWALLS)
def test_what_is_printed_is_packed_as_flows_are(firewall: str) -> None:
    rng = random.Random(f"{SEED}/{firewall}/packed")
    for port in edges(rng):
        on = net(rng.choice((1, 0x25, 9, 0x2525 & 0xFFF, 4094)), port)
        for made in compiler.compile_network(host(firewall), on):
            if isinstance(made, Print):
                some = tuple(sorted(rng.sample(range(len(made)), rng.randrange(1, len(made) + 1))))
                for indices in (range(len(made)), some):
                    assert filled(made, indices) == packed(made, indices), f"TUNBRIDGE_SEED={SEED} {port} {indices}"


@pytest.mark.parametrize("tunnels", [0, 1, 2, 19, 64, 65, 300])
def test_where_a_network_is_flooded_to_is_packed_as_flows_are(tunnels: int) -> None:
    rng = random.Random(f"{SEED}/{tunnels}")
    drawn = rng.randrange(1, 4095), rng.getrandbits(24)
    for vlan, tunnel_id in ((1, 1), (4094, (1 << 24) - 1), (0x25, 0x2525), drawn):
        ends = Tunnels([f"h{n}" for n in range(tunnels)], rng.sample(range(1, 1 << 16), tunnels))
        on = replace(net(vlan), tunnel_id=tunnel_id, tunnels=ends)
        (made,) = br_tun.network(host("none"), on)
        assert isinstance(made, Print)
        if tunnels <= 64:
            unbuilt = Print(made.stencil, made.numbers, nothing)
            assert filled(unbuilt, range(len(made))) == packed(made, range(len(made)))
        assert filled(made, range(len(made))) == packed(made, range(len(made)))
        assert made.cookies() == list(map(cookie_of, made)), f"TUNBRIDGE_SEED={SEED}"


def test_to_pack_the_rows_of_a_port_builds_no_flow() -> None:
    made = next(iter(compiler.compile_port(host("openvswitch"), net(5), plug(1, "fa:16:3e:00:00:01",
                                                                             IPv4Network("10.0.0.1/32")))))
    assert isinstance(made, Print)
    unbuilt = Print(made.stencil, made.numbers, nothing)
    assert all(filled(unbuilt, indices) for indices in (range(len(made)), *((index,) for index in range(len(made)))))


def alone(bundle: int, xid: int, cookie: int, flow: Flow) -> bytes:
    """A message that adds a flow: any that holds these numbers will do."""
    return bundle.to_bytes(4) + packing.add(xid, cookie, flow)


def filled(made: Print, indices: range | tuple[int, ...]) -> bytes:
    return prints.adds(alone, 3, 7, Imprint(made, indices))


def packed(made: Print, indices: range | tuple[int, ...]) -> bytes:
    cookies = made.cookies()
    return b"".join(alone(3, xid, cookies[index], made.flow(index)) for xid, index in enumerate(indices, 7))


def nothing() -> Iterator[Flow]:
    raise AssertionError("nobody looks")
