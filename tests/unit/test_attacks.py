"""Attacks as values: what they send is what they say, all of it is forbidden, and every one of them can be seen."""
from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from ipaddress import ip_address, ip_network

import pytest

from controller.host import forging
from controller.host.forging import Token
from controller.host.hostile import Place, Sight
from controller.model import reading, variation
from controller.model.topology import Port, Topology
from controller.tools import attack, counters
from controller.tools.attacks import Attack, From, Scene, joined
from controller.tools.counters import Reading, Stopper
from controller.tools.errors import Refusal
from controller.tools.verdicts import GOT_THROUGH, STOPPED

RUN = 0x1234ABCD
CLOUD = """
cloud: attacked
underlay: {cidr: 192.0.2.0/24}
firewall: openvswitch
hosts:
  c1: {tunnel_ip: 192.0.2.11}
  n1: {tunnel_ip: 192.0.2.12, role: network}
networks:
  blue: {tunnel_id: 1, subnets: {blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1, dhcp: true}}}
  data: {tunnel_id: 2, subnets: {data-subnet: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
  green: {tunnel_id: 3, subnets: {green-subnet: {cidr: 10.0.1.0/24}}}
  six: {tunnel_id: 4, subnets: {six-subnet: {cidr: "2001:db8::/64"}}}
routers:
  r1: {host: n1, driver: simulated, interfaces: [blue-subnet, data-subnet]}
security_groups:
  web: [{direction: ingress, protocol: tcp, port: 80}]
vms:
  evil: {host: c1, network: blue, ip: 10.0.1.66}
  good: {host: n1, network: blue, ip: 10.0.1.11, security_groups: [web]}
  near: {host: n1, network: data, ip: 10.0.2.11}
  other: {host: n1, network: green, ip: 10.0.1.11}
  free: {host: c1, network: green, ip: 10.0.1.12}
  evil6: {host: c1, network: six, ip: "2001:db8::66"}
  good6: {host: n1, network: six, ip: "2001:db8::11"}
"""


@cache
def topology(text: str = CLOUD) -> Topology:
    found = reading.parse(text, "attacked.yaml")
    assert found.topology, found.problems
    return found.topology


def port(cloud: Topology, name: str) -> Port:
    return next(port for port in cloud.ports() if port.name == name)


@cache
def scene(name: str = "evil", text: str = CLOUD) -> Scene:
    cloud = topology(text)
    return Scene(cloud, port(cloud, name), RUN, {"blue": 1, "green": 2, "six": 3})


@cache
def planned(name: str = "evil", text: str = CLOUD) -> dict[int, Attack]:
    return attack.planned(scene(name, text))


def by_name(name: str = "evil", text: str = CLOUD) -> dict[str, Attack]:
    return {one.name: one for one in planned(name, text).values()}


NAMES = list(by_name())
FILTERED = {"forbidden-traffic", "fragments", "rule-change", "switch-restart"}


def seen_at(where: Scene, one: Attack) -> str:
    """A place where the frames of an attack have no business."""
    if one.name == "cross-tenant-scan":
        return "other"
    return where.port.name if one.answers else "good"


def frame_as_seen(one: Attack) -> bytes:
    """What a victim would see: of a tunnel packet what is in it, of a starved server its offer."""
    if one.answers:
        server, client = forging.End("fa:16:3e:00:00:01", ip_address("10.0.1.2")), forging.End(
            forging.BROADCAST, ip_address("255.255.255.255"))
        return forging.udp(server, client, (67, 68), forging.dhcp(forging.OFFER, client.mac, server.ip, Token(RUN, 0)))
    frame = one.frames[0]
    return frame[50:] if one.name in ("forged-tunnel", "tunnel-stranger") else frame


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_gets_through_if_its_frames_are_seen_where_they_must_not_be(name: str) -> None:
    where = scene()
    number, one = next((number, one) for number, one in planned().items() if one.name == name)
    shot = attack._Shot(one, 1, Reading({}, ()), Reading({}, ()), ())
    place = Place(seen_at(where, one), "vm", "blue", "/proc/1/ns/net", "eth0")
    frame = frame_as_seen(one)
    token = None if one.answers else forging.found(frame, RUN)
    seen = attack._breaches({number: shot}, [Sight(place, frame, token)])
    if name == "packet-in-flood":  # it harms the daemon, and whoever sees such a packet may
        assert attack._result(where, one, replace(shot, complaints=("asked",)), seen[number]).verdict == GOT_THROUGH
    else:
        assert attack._result(where, one, shot, seen[number]).verdict == GOT_THROUGH
    assert attack._result(where, one, shot, attack._breaches({number: shot}, [])[number]).verdict == STOPPED


@pytest.mark.parametrize("name", ["evil", "evil6"])
def test_every_frame_carries_the_token_of_its_attack(name: str) -> None:
    for number, one in planned(name).items():
        for frame in one.frames:
            token = forging.found(frame, RUN)
            assert token is not None and token.attack == number, one.name
            assert forging.found(frame, RUN + 1) is None
            assert 60 <= len(frame) <= 1500


def test_from_a_full_scene_every_attack_is_tried_and_from_a_bare_one_those_left_out_say_why() -> None:
    assert all(one.frames for one in by_name().values())
    bare = by_name("evil6", CLOUD.replace(", security_groups: [web]", ""))
    left = {name: one.what for name, one in bare.items() if not one.frames}
    assert set(left) == {"arp-spoofing", "gateway-arp", "dhcp-starvation", "forged-tunnel", "packet-in-flood",
                         "cross-tenant-scan", *FILTERED}
    assert left["forbidden-traffic"] == "neither evil6 nor anybody it can reach lists a security group"


def test_what_address_pairs_allow_is_no_attack() -> None:
    text = CLOUD.replace("evil: {host: c1, network: blue, ip: 10.0.1.66}",
                         "evil: {host: c1, ports: [{network: blue, ip: 10.0.1.66, allowed_address_pairs: "
                         "[{ip: 10.0.1.11}, {ip: 10.0.1.1}, {ip: 198.18.0.0/15}]}]}")
    found = by_name("evil", text)
    assert not found["arp-spoofing"].frames and "pairs" in found["arp-spoofing"].what
    assert not found["gateway-arp"].frames
    assert found["mac-spoofing"].frames
    shown = {frame[26:30] for frame in found["ip-spoofing"].frames if frame[12:14] == b"\x08\x00"}
    assert not shown


def test_strangers_are_those_whom_no_router_joins() -> None:
    cloud = topology()
    assert joined(cloud, "blue") == {"blue", "data"}
    assert {one.name for one in scene().strangers} == {"other", "free", "evil6", "good6"}


def test_a_scan_aims_at_strangers_alone_and_only_they_may_complain() -> None:
    one = by_name()["cross-tenant-scan"]
    for name, breach in (("other", True), ("good", False), ("near", False)):
        assert one.is_breach(Place(name, "vm", "", "", "eth0"), b"") is breach


def test_a_tunnel_packet_that_a_router_brings_outside_whole_is_no_breach() -> None:
    one = by_name()["forged-tunnel"]
    place = Place("internet", "outside", "", "", "")
    assert not one.is_breach(place, one.frames[0])
    assert one.is_breach(place, one.frames[0][50:])


def test_a_stranger_on_the_underlay_has_an_address_that_no_host_has() -> None:
    one = by_name()["tunnel-stranger"]
    sources = {ip_address(frame[26:30]) for frame in one.frames}
    assert one.source is From.UNDERLAY and len(sources) == 1
    assert all(source in ip_network("192.0.2.0/24") for source in sources)
    assert not sources & {ip_address("192.0.2.11"), ip_address("192.0.2.12")}


def test_forbidden_traffic_is_what_the_groups_refuse_and_nothing_else() -> None:
    one = by_name()["forbidden-traffic"]
    assert one.victim == "good" and "ping" in one.what and "TCP 22" in one.what
    assert "TCP 80" not in one.what


def test_the_attacker_is_the_vm_from_which_most_can_be_tried_unless_one_is_named() -> None:
    cloud = topology()
    assert attack.chosen(cloud, None).name == "evil"
    assert attack.chosen(cloud, "free").name == "free"
    with pytest.raises(Refusal, match="known: evil, evil6"):
        attack.chosen(cloud, "nobody")


def test_only_named_attacks_are_planned_and_keep_their_numbers() -> None:
    every, some = planned(), attack.planned(scene(), ["arp-spoofing", "mac-flood"])
    assert [one.name for one in some.values()] == ["arp-spoofing", "mac-flood"]
    assert all(every[number].name == one.name for number, one in some.items())
    with pytest.raises(Refusal, match="There is no attack 'arp'"):
        attack.planned(scene(), ["arp"])


# ---- counters

CHAIN = "iptables neutron-openvswi-"
SAVED = """*filter
:neutron-openvswi-o04f84f4f-4 - [0:0]
[7:100] -A neutron-openvswi-o04f84f4f-4 -p udp -m udp --sport 67 --dport 68 -m comment --comment "no server" -j DROP
[3:100] -A neutron-openvswi-s04f84f4f-4 -j DROP
[3:100] -A neutron-openvswi-s04f84f4f-4 -s 10.0.1.66/32 -m mac --mac-source fa:16:3e:00:00:01 -j RETURN
[5:100] -A neutron-openvswi-i04f84f4f-4 -m comment --comment "Send here" -j neutron-openvswi-sg-fallback
[9:100] -A neutron-openvswi-iffffffff-f -j neutron-openvswi-sg-fallback
[9:100] -A neutron-openvswi-sg-fallback -j DROP
COMMIT
"""


def test_rules_of_iptables_that_drop_are_counted_for_their_ports() -> None:
    found = dict(counters.rules_of(SAVED, "iptables", "c1", {"04f84f4f-4": port(topology(), "evil")}))
    assert [(one.counter, one.place[len(CHAIN)], one.why.partition(": ")[0]) for one in found.values()] == [
        (7, "o", "evil"), (3, "s", "evil"), (5, "i", "evil")]
    assert {one.origin for one in found.values()} == {"vms.evil"}


def stopper(host: str, counter: int) -> Stopper:
    return Stopper("flow", host, "br-int table 25 mac-spoof", "in_port=5", "no", "vms.evil", counter)


def test_a_switch_that_starts_anew_counts_from_nothing() -> None:
    before = Reading({("a",): stopper("c1", 100), ("b",): stopper("n1", 5)}, ())
    after = Reading({("a",): stopper("c1", 3), ("b",): stopper("n1", 5), ("c",): stopper("n1", 2)}, ())
    assert [one.counter for one in after.risen(before)] == [3, 2]


def test_a_reading_of_some_hosts_keeps_what_is_known_of_the_others() -> None:
    before = Reading({("a",): stopper("c1", 100), ("b",): stopper("n1", 5)}, ({"host": "c1"}, {"host": "n1"}))
    after = Reading({("a",): stopper("c1", 140)}, ()).over(before, ["c1"])
    assert [one.counter for one in after.risen(before)] == [40]
    assert after.learned == ({"host": "n1"},)


def test_a_file_with_one_more_rule_is_the_same_cloud_but_for_that_rule() -> None:
    changed = variation.with_rule(CLOUD.encode(), "web", {"direction": "ingress", "protocol": "tcp", "port": 81})
    old, new = topology(), topology(changed.decode())
    assert len(new.security_groups["web"].rules) == len(old.security_groups["web"].rules) + 1
    assert [port.id for port in new.ports()] == [port.id for port in old.ports()]
    whole = variation.with_rule(b'security_groups: {g: {id: x, rules: null}}', "g", {"direction": "egress"})
    assert json.loads(whole)["security_groups"]["g"] == {"id": "x", "rules": [{"direction": "egress"}]}


def test_the_second_half_of_a_datagram_names_no_port_and_carries_the_token_all_the_same() -> None:
    first, second = forging.fragments(scene().me, scene().victim, (1, 53), Token(RUN, 5, 6))
    assert [forging.found(half, RUN) for half in (first, second)] == [Token(RUN, 5, 6)] * 2
    assert [int.from_bytes(half[20:22], "big") for half in (first, second)] == [0x2000, 3]  # more to come; at 24
    assert first[18:20] == second[18:20]


def test_what_is_forbidden_by_way_of_a_router_is_tried_too() -> None:
    where, one = scene("near"), by_name("near")["forbidden-traffic"]
    assert one.victim == "good" and where.gateway is not None
    assert {frame[:6].hex(":") for frame in one.frames} == {where.gateway.mac}
