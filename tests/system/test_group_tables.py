"""Port security and security groups on a real Open vSwitch, packet by packet: who may begin what, and with whom."""
from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from itertools import count

import pytest
from groupkit import Card, Site, site

from tests import edge_packets as packets
from tests import groupcloud
from tests.edge_packets import GRE, ICMP, ICMPV6, SCTP, TCP, UDP, Packet

pytestmark = [pytest.mark.system, pytest.mark.shared]

_PORTS = count(20000)  # nobody speaks twice from the same port
BROADCAST = "ff:ff:ff:ff:ff:ff"
CARDS = {**{name: Card(vm.port, vm.mac, vm.address, vm.address6) for name, vm in groupcloud.VMS.items()},
         "dhcp": Card(groupcloud.DHCP.port, groupcloud.DHCP.mac, groupcloud.DHCP.address, groupcloud.DHCP.address6),
         "far1": Card(groupcloud.PATCH_TUN, groupcloud.FAR.mac, groupcloud.FAR.address, groupcloud.FAR.address6,
                      groupcloud.VLAN)}


@pytest.fixture(scope="module")
def there() -> Iterator[Site]:
    with site(groupcloud.host(), CARDS) as made:
        yield made


def packet(source: str, target: str, protocol: int, port: int = 0, *, version: int = 4,
           icmp: tuple[int, int] = (0, 0)) -> Packet:
    """The first packet of a conversation."""
    ends = [CARDS[name].address if version == 4 else CARDS[name].address6 for name in (source, target)]
    return Packet(protocol, ip_address(ends[0]), ip_address(ends[1]), next(_PORTS), port, *icmp)


def passes(there: Site, source: str, target: str, sent: Packet) -> bool:
    """Whether it arrives; it never arrives elsewhere."""
    found = there.reaches(source, sent, CARDS[target].mac)
    assert found in ([], [target])
    return bool(found)


def tcp(source: str, target: str, port: int, version: int = 4) -> Packet:
    return packet(source, target, TCP, port, version=version)


def udp(source: str, target: str, port: int) -> Packet:
    return packet(source, target, UDP, port)


def ping(source: str, target: str, version: int = 4) -> Packet:
    return packet(source, target, ICMP if version == 4 else ICMPV6, version=version,
                  icmp=(8 if version == 4 else 128, 0))


# ---- who may begin what

@pytest.mark.parametrize(("source", "target", "protocol", "port", "version", "expected"), [
    ("client", "web1", TCP, 80, 4, True), ("client", "web1", TCP, 81, 4, False), ("client", "web1", TCP, 80, 6, True),
    ("client", "web1", TCP, 79, 6, False), ("client", "web1", UDP, 80, 4, False),
    ("client", "web1", TCP, 8000, 4, True), ("client", "web1", TCP, 8007, 4, True),
    ("client", "web1", TCP, 8009, 4, True), ("client", "web1", TCP, 8010, 4, False),
    ("client", "web1", TCP, 7999, 4, False), ("ear", "web1", TCP, 8000, 4, False),
    ("ear", "web1", UDP, 53, 4, True), ("web2", "web1", UDP, 53, 4, True), ("client", "web1", UDP, 53, 4, False),
    ("client", "web1", SCTP, 5000, 4, True), ("client", "web2", SCTP, 5001, 4, False),
    ("client", "web1", GRE, 0, 4, True), ("client", "db1", GRE, 0, 4, False), ("client", "web1", 89, 0, 4, False),
    ("web1", "client", TCP, 22, 4, True), ("web1", "client", UDP, 9, 6, True), ("web1", "client", 89, 0, 4, True),
    ("web2", "web1", TCP, 9000, 4, True), ("free2", "web1", TCP, 9000, 4, True), ("far1", "web1", TCP, 9000, 4, True),
    ("client", "web1", TCP, 9000, 4, False), ("db1", "web1", TCP, 9000, 4, False),
    ("web1", "db1", TCP, 5432, 4, True), ("far1", "db1", TCP, 5432, 4, True), ("client", "db1", TCP, 5432, 4, False),
    ("web1", "db1", TCP, 5433, 4, False), ("db1", "client", TCP, 443, 4, True), ("db1", "client", TCP, 80, 4, False),
    ("db1", "client", UDP, 53, 4, True), ("db1", "ear", UDP, 53, 4, False), ("db1", "client", TCP, 443, 6, False),
    ("db1", "web1", TCP, 80, 4, False), ("client", "free2", TCP, 80, 4, True), ("client", "free2", TCP, 81, 4, False),
    ("client", "free1", TCP, 81, 4, True), ("far1", "client", UDP, 7, 6, True)])
def test_a_conversation_begins_as_the_groups_of_both_ends_allow(there: Site, source: str, target: str, protocol: int,
                                                                port: int, version: int, expected: bool) -> None:
    assert passes(there, source, target, packet(source, target, protocol, port, version=version)) is expected


@pytest.mark.parametrize("version", [4, 6])
def test_members_of_a_group_may_ping_each_other_and_others_may_not(there: Site, version: int) -> None:
    assert passes(there, "web2", "web1", ping("web2", "web1", version))
    assert passes(there, "far1", "web1", ping("far1", "web1", version))
    assert not passes(there, "client", "web1", ping("client", "web1", version))
    asked = packet("web2", "web1", ICMP, icmp=(13, 0))
    assert not passes(there, "web2", "web1", asked)


def test_an_egress_rule_with_a_group_reaches_its_members_alone(there: Site) -> None:
    before = there.hits(83, "conj_id=2147484163 ")
    assert not passes(there, "db1", "web1", ping("db1", "web1"))  # web1 hears pings of web alone
    assert there.hits(83, "conj_id=2147484163 ") == before + 1
    assert passes(there, "db1", "far1", ping("db1", "far1"))
    assert not passes(there, "db1", "client", ping("db1", "client"))


# ---- what belongs to a conversation

@pytest.mark.parametrize(("source", "target", "sent"), [
    ("client", "web1", tcp("client", "web1", 80)), ("client", "web1", tcp("client", "web1", 80, 6)),
    ("ear", "web1", udp("ear", "web1", 53)), ("web1", "client", udp("web1", "client", 7)),
    ("web2", "web1", ping("web2", "web1")), ("web1", "client", ping("web1", "client", 6)),
    ("web1", "db1", tcp("web1", "db1", 5432)), ("db1", "client", tcp("db1", "client", 443)),
    ("client", "web2", packet("client", "web2", SCTP, 5000)), ("client", "web2", packet("client", "web2", GRE))])
def test_answers_pass_but_not_before_the_question(there: Site, source: str, target: str, sent: Packet) -> None:
    early = replace(sent.answer(), sport=next(_PORTS))
    if early.protocol not in (GRE, SCTP):
        filtered = target in ("db1",) or source in ("web1", "web2", "db1")
        assert passes(there, target, source, early) is (not filtered and early.protocol not in (ICMP, TCP))
    assert passes(there, source, target, sent)
    assert passes(there, target, source, sent.answer())
    if sent.protocol == TCP:
        assert passes(there, source, target, sent.answer().answer())
        assert passes(there, target, source, replace(sent.answer(), flags="A"))


@pytest.mark.parametrize("sent", [udp("ear", "web1", 53), tcp("client", "web1", 80), tcp("client", "web1", 80, 6),
                                  packet("client", "web1", SCTP, 5000)])
def test_icmp_errors_about_a_conversation_pass_both_ways(there: Site, sent: Packet) -> None:
    source = "ear" if str(sent.source) == CARDS["ear"].address else "client"
    other = CARDS["web1"].address if sent.version == 4 else CARDS["web1"].address6
    if sent.protocol != SCTP:  # which is tracked by addresses alone
        assert not passes(there, "web1", source, replace(sent, sport=next(_PORTS)).error(ip_address(other)))
    assert passes(there, source, "web1", sent)
    assert passes(there, "web1", source, sent.error(ip_address(other)))
    if sent.protocol == UDP:
        assert passes(there, "web1", source, sent.answer())
        assert passes(there, source, "web1", sent.answer().error(sent.source))


def test_an_error_about_what_nobody_said_is_dropped(there: Site) -> None:
    lie = udp("web1", "client", 4242).error(ip_address(CARDS["client"].address))
    assert not passes(there, "client", "web1", lie)


def test_fragments_are_judged_as_the_packet_that_they_are_of(there: Site) -> None:
    """Only the first one shows its ports. Open vSwitch wants at least 1200 bytes of it unless told."""
    for port, expected in ((53, ["web1", "web1"]), (54, [])):
        whole = packets.ip(udp("ear", "web1", port), bytes(1500))
        cut = 20 + 1400
        pieces = [_ipv4_piece(whole, 20, cut, more=True), _ipv4_piece(whole, cut, len(whole), more=False)]
        there.put("ear", _framed("ear", "web1", pieces[0]))
        seen = there.sent("ear", _framed("ear", "web1", pieces[1]))
        assert [one.where for one in seen] == expected
        assert sorted(len(one.frame.payload) for one in seen) == sorted(len(one) for one in pieces)[:len(expected)]


def test_port_0_is_no_way_round_a_rule_with_ports(there: Site) -> None:
    assert passes(there, "client", "web1", tcp("client", "web1", 80))
    assert not passes(there, "client", "web1", tcp("client", "web1", 0))


def _ipv4_piece(whole: bytes, start: int, end: int, *, more: bool) -> bytes:
    source, target = ip_address(whole[12:16]), ip_address(whole[16:20])
    offset = (start - 20) >> 3 | (0x2000 if more else 0)
    return packets.ipv4_header(source, target, whole[9], end - start, fragment=offset) + whole[start:end]


def _framed(source: str, target: str, payload: bytes, kind: int = 0x0800) -> bytes:
    return packets.mac_bytes(CARDS[target].mac) + packets.mac_bytes(CARDS[source].mac) + struct.pack(
        "!H", kind) + payload


def test_connections_of_one_kind_share_their_cache_entries(there: Site) -> None:
    """Else whoever connects often enough keeps the switch from forwarding anything."""
    def entries() -> int:
        return len(there.ovs.run("ovs-appctl", "dpctl/dump-flows").splitlines())

    for _ in range(2):  # one for a new connection, one for a known one
        assert passes(there, "client", "web2", tcp("client", "web2", 80))
    before = entries()
    for _ in range(50):
        assert passes(there, "client", "web2", tcp("client", "web2", 80))
    assert entries() <= before + 5


# ---- rules that change

def test_a_rule_that_goes_cuts_an_open_conversation_in_both_directions_at_the_next_packet(there: Site) -> None:
    sent, kept = tcp("client", "web1", 80), tcp("client", "web1", 8001)
    for one in (sent, kept):
        assert passes(there, "client", "web1", one)
        assert passes(there, "web1", "client", one.answer())
    without = tuple(rule for rule in groupcloud.WEB_RULES if rule.ports != (80, 80))
    there.hold(groupcloud.host(groupcloud.network(web=without)))
    try:
        later = replace(sent, flags="A")
        assert not passes(there, "client", "web1", later)
        assert not passes(there, "web1", "client", replace(sent.answer(), flags="A"))
        assert not passes(there, "web1", "client", replace(sent.answer(), flags="R"))
        assert passes(there, "client", "web1", replace(kept, flags="A"))
        assert passes(there, "web1", "client", replace(kept.answer(), flags="A"))
    finally:
        there.hold(groupcloud.host())


def test_who_leaves_a_group_is_cut_off_at_the_next_packet_and_heard_again_when_back(there: Site) -> None:
    sent = tcp("web2", "db1", 5432)
    assert passes(there, "web2", "db1", sent)
    assert passes(there, "db1", "web2", sent.answer())
    net = groupcloud.network()
    address = {member for member in groupcloud.members(4) if str(member.network_address) == CARDS["web2"].address}
    groups = tuple(replace(group, members=tuple(one for one in group.members if one not in address))
                   for group in net.remote_groups)
    there.hold(groupcloud.host(replace(net, remote_groups=groups)))
    try:
        assert not passes(there, "web2", "db1", replace(sent, flags="A"))
        assert not passes(there, "db1", "web2", replace(sent.answer(), flags="A"))
        assert passes(there, "web1", "db1", tcp("web1", "db1", 5432))
    finally:
        there.hold(groupcloud.host())
    assert passes(there, "web2", "db1", replace(sent, flags="A"))


def test_an_egress_rule_that_comes_ends_what_others_may_begin_no_more(there: Site) -> None:
    sent = udp("web1", "client", 4000)
    assert passes(there, "web1", "client", sent)
    assert passes(there, "client", "web1", sent.answer())
    rules = (*groupcloud.WEB_RULES, groupcloud.rule("web: tcp 1 to all", by_vm=True, protocol=TCP, ports=(1, 1)))
    there.hold(groupcloud.host(groupcloud.network(web=rules)))
    try:
        assert not passes(there, "web1", "client", sent)
        assert not passes(there, "client", "web1", sent.answer())
    finally:
        there.hold(groupcloud.host())


# ---- broadcast and multicast

def test_broadcast_reaches_a_filtered_port_only_as_its_rules_allow(there: Site) -> None:
    web, others = ["free2", "web1", "web2"], ["client", "dhcp", "far1", "free1"]
    everybody = replace(udp("ear", "web1", 53), destination=ip_address("10.0.1.255"))
    assert there.reaches("ear", everybody, BROADCAST) == sorted(web + others)
    assert there.reaches("ear", replace(everybody, dport=54), BROADCAST) == others
    elsewhere = replace(everybody, source=ip_address(CARDS["far1"].address))
    assert there.reaches("far1", elsewhere, BROADCAST) == sorted({*others, "ear"} - {"far1"})


def test_multicast_reaches_a_filtered_port_only_as_its_rules_allow(there: Site) -> None:
    group = replace(packet("ear", "web1", 112), destination=ip_address("224.0.0.18"))  # VRRP, bug 1889631
    assert there.reaches("ear", group, "01:00:5e:00:00:12") == ["client", "dhcp", "far1", "free1"]


def test_broadcast_of_a_filtered_port_leaves_only_as_its_rules_allow(there: Site) -> None:
    sent = replace(udp("db1", "client", 53), destination=ip_address("255.255.255.255"))
    assert there.reaches("db1", sent, BROADCAST) == []
    sent = replace(udp("web1", "client", 53), destination=ip_address("255.255.255.255"))
    assert there.reaches("web1", sent, BROADCAST) == ["client", "dhcp", "ear", "far1", "free1", "free2", "web2"]


def test_arp_reaches_everybody_each_once(there: Site) -> None:
    for sender in ("client", "web1", "db1", "free2", "far1", "dhcp"):
        card = CARDS[sender]
        question = packets.arp(card.mac, ip_address(card.address), ip_address("10.0.1.250"), 7777)
        heard = there.gets(sender, question)
        assert heard == sorted({*CARDS} - {sender})


# ---- what is free whatever the groups say

def test_a_vm_without_any_address_is_given_one(there: Site) -> None:
    discover = Packet(UDP, ip_address("0.0.0.0"), ip_address("255.255.255.255"), 68, 67)
    assert "dhcp" in there.reaches("db1", discover, BROADCAST)
    for to in (CARDS["db1"].address, "255.255.255.255"):
        offer = Packet(UDP, ip_address(CARDS["dhcp"].address), ip_address(to), 67, 68)
        assert there.reaches("dhcp", offer, CARDS["db1"].mac) == ["db1"]
    stray = Packet(UDP, ip_address(CARDS["dhcp"].address), ip_address("224.0.0.1"), 67, 68)
    assert there.reaches("dhcp", stray, CARDS["db1"].mac) == []


@pytest.mark.parametrize(("kind", "leaves", "enters"), [
    (130, True, True), (131, True, False), (132, True, False), (133, True, False), (134, False, True),
    (135, True, True), (136, True, True), (137, False, False), (143, True, False), (1, False, False),
    (129, False, False)])
def test_icmpv6_is_free_as_far_as_ipv6_needs_it(there: Site, kind: int, leaves: bool, enters: bool) -> None:
    about = ip_address(CARDS["db1"].address6)
    out = packets.frame(packet("db1", "client", ICMPV6, version=6, icmp=(kind, 0)), CARDS["db1"].mac,
                        CARDS["client"].mac, 0)
    if kind == 136:
        body = packets.neighbour_advertisement(about, about, CARDS["db1"].mac, ip_address(CARDS["client"].address6))
        to = ip_address(CARDS["client"].address6)
        out = _framed("db1", "client", packets.ipv6_header(about, to, ICMPV6, len(body)) + body, 0x86DD)
    assert [seen.where for seen in there.sent("db1", out)] == ["client"] * leaves
    assert passes(there, "dhcp", "db1", packet("dhcp", "db1", ICMPV6, version=6, icmp=(kind, 0))) is enters


def test_other_kinds_of_frames_neither_leave_nor_reach_a_filtered_port(there: Site) -> None:
    for sender in ("free1", "dhcp", "far1"):
        frame = _other(sender, BROADCAST, 0x88CC)
        assert there.gets(sender, frame) == sorted({"client", "dhcp", "ear", "far1", "free1"} - {sender})
        assert there.gets(sender, _other(sender, CARDS["web1"].mac, 0x8847)) == []
    assert there.gets("free2", _other("free2", BROADCAST, 0x88CC)) == []
    rarp = _other("web1", BROADCAST, 0x8035)
    assert there.gets("web1", rarp) == sorted({*CARDS} - {"web1"})


def _other(sender: str, to: str, kind: int) -> bytes:
    head = packets.mac_bytes(to) + packets.mac_bytes(CARDS[sender].mac) + struct.pack("!H", kind)
    return (head + bytes(40) + packets.token(next(_PORTS))).ljust(60, b"\0")


# ---- port security

@pytest.mark.parametrize(("frame", "words"), [
    (lambda: packets.frame(tcp("db1", "client", 443), "02:00:00:00:00:99", CARDS["client"].mac, 1),
     "priority=2,in_port=13 "),
    (lambda: packets.frame(replace(tcp("db1", "client", 443), source=ip_address("10.0.1.99")), CARDS["db1"].mac,
                           CARDS["client"].mac, 1), "priority=3,in_port=13,"),
    (lambda: packets.frame(Packet(UDP, ip_address(CARDS["db1"].address), ip_address("255.255.255.255"), 67, 68),
                           CARDS["db1"].mac, BROADCAST, 1), "priority=5,udp,in_port=13,"),
    (lambda: packets.frame(packet("db1", "client", ICMPV6, version=6, icmp=(134, 0)), CARDS["db1"].mac,
                           CARDS["client"].mac, 1), "priority=5,icmp6,in_port=13,icmp_type=134"),
    (lambda: packets.frame(packet("db1", "client", ICMPV6, version=6, icmp=(137, 0)), CARDS["db1"].mac,
                           CARDS["client"].mac, 1), "priority=5,icmp6,in_port=13,icmp_type=137"),
    (lambda: packets.frame(Packet(UDP, ip_address("0.0.0.0"), ip_address("10.0.1.31"), 68, 67), CARDS["db1"].mac,
                           CARDS["client"].mac, 1), "priority=3,in_port=13,")])
def test_what_port_security_refuses_is_counted_by_port_and_offence(there: Site, frame: object, words: str) -> None:
    assert callable(frame)
    before = there.hits(25, words)
    assert there.gets("db1", frame()) == []
    assert there.hits(25, words) == before + 1


def test_what_groups_refuse_is_counted_by_port_and_direction(there: Site) -> None:
    before = [there.hits(83, words) for words in ("in_port=13", "reg6=0xd ")]
    assert not passes(there, "db1", "client", udp("db1", "client", 4444))
    assert not passes(there, "client", "db1", udp("client", "db1", 4444))
    assert [there.hits(83, words) for words in ("in_port=13", "reg6=0xd ")] == [one + 1 for one in before]


# ---- ports without port security

def test_a_mac_that_nobody_knows_is_looked_for_everywhere_and_then_found(there: Site) -> None:
    unknown = "02:00:00:00:09:01"
    sent = tcp("client", "free1", 4321)
    assert there.reaches("client", sent, unknown) == ["far1", "free1"]  # free2 is filtered
    own = packets.arp(unknown, ip_address("10.0.1.41"), ip_address("10.0.1.41"), 5)
    _taught(there, "free1", own)
    assert there.reaches("client", sent, unknown) == ["free1"]
    _taught(there, "free2", own)  # it has moved
    assert there.reaches("client", sent, unknown) == []
    assert there.reaches("client", tcp("client", "free2", 80), unknown) == ["free2"]
    _taught(there, "far1", own)
    assert there.reaches("client", sent, unknown) == ["far1"]
    assert there.reaches("far1", sent, unknown) == []


def test_only_macs_that_the_topology_does_not_know_are_remembered_elsewhere(there: Site) -> None:
    away = groupcloud.VLAN << 32 | groupcloud.PATCH_TUN
    before = there.learned(away)
    stranger = packets.arp("02:00:00:00:09:02", ip_address("10.0.1.77"), ip_address("10.0.1.77"), 5)
    named = packets.arp(CARDS["far1"].mac, ip_address("10.0.1.70"), ip_address("10.0.1.70"), 5)
    for frame in (stranger, named):
        _taught(there, "far1", frame)
    assert there.learned(away) == before + 1


def _taught(there: Site, sender: str, frame: bytes) -> None:
    assert there.gets(sender, frame)
    there.settle()


def test_a_port_teaches_so_many_macs_and_no_more_and_takes_nobody_elses_place(there: Site) -> None:
    own = packets.arp("02:00:00:00:0a:01", ip_address("10.0.1.42"), ip_address("10.0.1.42"), 5)
    _taught(there, "free2", own)
    for number in range(100):
        there.put("free1", packets.arp(f"02:00:00:01:00:{number:02x}", ip_address("10.0.1.41"),
                                       ip_address("10.0.1.41"), 6))
    there.sent("free1", own.replace(bytes.fromhex("020000000a01"), bytes.fromhex("020000010000")))
    there.settle()
    assert there.learned(CARDS["free1"].port) == 64
    assert there.reaches("client", tcp("client", "free2", 80), "02:00:00:00:0a:01") == ["free2"]


# ---- the iptables driver: br-int keeps out what iptables does not see

def test_with_iptables_br_int_filters_nothing_but_kinds_of_frames() -> None:
    with site(groupcloud.host(firewall="iptables_hybrid"), CARDS) as there:
        assert passes(there, "client", "web1", tcp("client", "web1", 81))
        assert passes(there, "db1", "client", udp("db1", "client", 4444))
        assert there.gets("free1", _other("free1", BROADCAST, 0x88CC)) == ["client", "dhcp", "ear", "far1"]
        assert there.gets("free2", _other("free2", BROADCAST, 0x88CC)) == []
        everybody = replace(udp("ear", "web1", 54), destination=ip_address("10.0.1.255"))
        assert there.reaches("ear", everybody, BROADCAST) == sorted({*CARDS} - {"ear"})
