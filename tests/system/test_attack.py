"""`tunbridge attack` on a real lab: with a hole planted, every attack that fits through it does; without, none."""
from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from labkit import Cloud, cloud, tunbridge, udp_frame, until

from controller.tools import lab

pytestmark = pytest.mark.system

HOSTILE = """
cloud: hostile
underlay: {cidr: 192.0.2.0/24}
firewall: openvswitch
hosts:
  c1: {tunnel_ip: 192.0.2.11}
  n1: {tunnel_ip: 192.0.2.12, role: network}
networks:
  blue: {tunnel_id: 1001, subnets: {blue-subnet: {cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}
  data: {tunnel_id: 1002, subnets: {data-subnet: {cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}
  green: {tunnel_id: 1003, subnets: {green-subnet: {cidr: 10.0.1.0/24}}}
routers:
  r1: {host: n1, driver: simulated, interfaces: [blue-subnet, data-subnet]}
security_groups:
  web: [{direction: ingress, protocol: tcp, port: 80}]
vms:
  evil: {host: c1, network: blue, ip: 10.0.1.66}
  good: {host: c1, network: blue, ip: 10.0.1.11, security_groups: [web]}
  free: {host: n1, ports: [{network: data, ip: 10.0.2.12, port_security: false}]}
  near: {host: c1, network: data, ip: 10.0.2.11}
  other: {host: c1, network: green, ip: 10.0.1.11}
"""
BEHIND_THE_CARD = {  # what leads straight from evil's port to others lets all of these through
    "mac-spoofing", "ip-spoofing", "arp-spoofing", "gateway-arp", "nd-spoofing", "rogue-dhcp-server",
    "router-advertisement", "dhcp-starvation", "vlan-tagging", "double-tagging", "cross-tenant-scan", "mac-flood",
    "forbidden-traffic", "fragments"}
LIES = {"mac-spoofing", "ip-spoofing", "arp-spoofing", "gateway-arp", "nd-spoofing", "rogue-dhcp-server",
        "router-advertisement", "dhcp-starvation"}
ROOM = 24  # rows of a table that is to be filled


@pytest.fixture(scope="module")
def hostile() -> Iterator[Cloud]:
    with cloud(HOSTILE) as found:
        yield found


def attack(where: Cloud, vm: str, *only: str, code: int) -> dict[str, Any]:
    words = [word for name in only for word in ("--only", name)]
    done = tunbridge("attack", vm, "--json", *words, rundir=where.rundir, check=False)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return {one["name"]: one for one in json.loads(done.stdout)["attacks"]}


def verdicts(found: dict[str, Any], verdict: str) -> set[str]:
    return {name for name, one in found.items() if one["verdict"] == verdict}


def ofport(where: Cloud, host: str, device: str) -> str:
    return where.run(host, "ovs-vsctl", "get", "Interface", device, "ofport").strip()


def traces(where: Cloud) -> tuple[object, ...]:
    """What an attack might leave behind: flows, another topology, a wire on the underlay."""
    links = [line.split()[0] for line in where.run("underlay", "ip", "-br", "link").splitlines()]
    return where.dump(), where.file.read_bytes(), lab.topology_file(where.rundir).read_bytes(), sorted(links)


def hole(where: Cloud, host: str, bridge: str, match: str, actions: str) -> None:
    where.run(host, "ovs-ofctl", "-O", "OpenFlow14", "add-flow", bridge, f"cookie=0x1,priority=100,{match},{actions}")


def close(where: Cloud, host: str, bridge: str) -> None:
    where.run(host, "ovs-ofctl", "-O", "OpenFlow14", "del-flows", bridge, "cookie=0x1/-1")


def test_all_is_stopped_each_by_a_row_that_counted_it_and_the_cloud_is_as_it_was(hostile: Cloud) -> None:
    hostile.in_sync()
    before = traces(hostile)
    found = attack(hostile, "evil", code=0)
    assert verdicts(found, "stopped") == set(found)
    for name, one in found.items():
        assert one["sent"] > 0 and not one["seen_by"] and not one["complaints"]
        assert sum(row["counter"] for row in one["stopped_by"]) * 4 >= min(one["sent"], 100), name
        assert all(row["why"] and row["place"] and row["host"] for row in one["stopped_by"])
    hostile.in_sync()
    assert traces(hostile) == before


def test_spoofers_tells_what_an_attacker_was_refused_and_how_often(hostile: Cloud) -> None:
    found = attack(hostile, "evil", "arp-spoofing", "rogue-dhcp-server", "double-tagging", code=0)
    rows = json.loads(hostile.tunbridge("spoofers", "evil", "--json"))["refused"]
    counted = {row["offence"]: row["packets"] for row in rows}
    for offence, name in (("arp", "arp-spoofing"), ("vlan", "double-tagging")):
        assert counted[offence] >= found[name]["sent"]
    assert "dhcp-server" in counted
    assert all((row["port"], row["network"], row["host"]) == ("evil", "blue", "c1") for row in rows)
    assert "a VLAN tag of its own" in hostile.tunbridge("spoofers")


def test_a_flow_that_leads_past_the_tables_lets_through_whatever_fits(hostile: Cloud) -> None:
    ports = [ofport(hostile, "c1", hostile.port(name).device) for name in ("evil", "good", "other")]
    to_all = f"actions=output:{ports[1]},output:{ports[2]}"
    hole(hostile, "c1", "br-int", f"in_port={ports[0]}", to_all)
    try:
        found = attack(hostile, "evil", *BEHIND_THE_CARD, code=1)
    finally:
        close(hostile, "c1", "br-int")
    assert verdicts(found, "got through") == BEHIND_THE_CARD
    assert {row["place"] for row in found["cross-tenant-scan"]["seen_by"]} == {"other"}
    assert {row["place"] for row in found["forbidden-traffic"]["seen_by"]} == {"good"}


def test_a_hole_is_seen_while_something_else_goes_on(hostile: Cloud) -> None:
    evil, good = (ofport(hostile, "c1", hostile.port(one).device) for one in ("evil", "good"))
    hole(hostile, "c1", "br-int", f"in_port={evil}", f"actions=output:{good}")
    try:
        found = attack(hostile, "evil", "rule-change", "switch-restart", code=1)
    finally:
        close(hostile, "c1", "br-int")
    assert verdicts(found, "got through") == {"rule-change", "switch-restart"}


def test_a_stranger_on_the_underlay_that_is_believed_is_caught(hostile: Cloud) -> None:
    hole(hostile, "c1", "br-tun", "in_port=strangers", "actions=resubmit(,4)")
    try:
        found = attack(hostile, "evil", "tunnel-stranger", code=1)
    finally:
        close(hostile, "c1", "br-tun")
    assert {row["place"] for row in found["tunnel-stranger"]["seen_by"]} >= {"evil", "near", "other"}


def test_a_meter_that_lets_everything_to_the_daemon_is_caught(hostile: Cloud) -> None:
    text = hostile.run("n1", "ovs-ofctl", "-O", "OpenFlow14", "dump-meters", "br-int")
    meters = [line.split()[0].removeprefix("meter=") for line in text.splitlines() if line.startswith("meter=")]
    assert meters

    def rates(rate: int) -> None:
        for meter in meters:
            hostile.run("n1", "ovs-ofctl", "-O", "OpenFlow14", "mod-meter", "br-int",
                        f"meter={meter},pktps,burst,band=type=drop,rate={rate},burst_size={rate // 2}")
    rates(100_000)
    try:
        found = attack(hostile, "evil", "packet-in-flood", code=1)
    finally:
        rates(100)
    assert "the daemon was asked" in found["packet-in-flood"]["complaints"][0]


def test_a_port_without_port_security_may_lie_but_neither_cross_networks_nor_fill_tables(hostile: Cloud) -> None:
    found = attack(hostile, "free", *LIES, "vlan-tagging", "double-tagging", "cross-tenant-scan", "mac-flood", code=1)
    assert verdicts(found, "got through") == LIES
    assert verdicts(found, "stopped") == {"vlan-tagging", "double-tagging", "cross-tenant-scan", "mac-flood"}
    for host, bridge in (("c1", "br-int"), ("c1", "br-tun"), ("n1", "br-int"), ("n1", "br-tun")):
        assert "02:54:55" not in hostile.run(host, "ovs-ofctl", "-O", "OpenFlow14", "dump-flows", bridge)


def test_a_vm_that_is_not_heard_proves_nothing(hostile: Cloud) -> None:
    hostile.run("good", "ip", "link", "set", "eth0", "down")
    try:
        done = tunbridge("attack", "evil", rundir=hostile.rundir, check=False)
    finally:
        hostile.run("good", "ip", "link", "set", "eth0", "up")
    assert done.returncode == 1 and "silence would prove nothing" in done.stderr


@pytest.mark.parametrize(("words", "code", "said"), [
    (("nobody",), 2, "no VM or port named 'nobody'"), (("evil", "--only", "rudeness"), 2, "no attack 'rudeness'")])
def test_what_is_not_there_is_refused(hostile: Cloud, words: tuple[str, ...], code: int, said: str) -> None:
    done = tunbridge("attack", *words, rundir=hostile.rundir, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


@pytest.fixture
def little_room(hostile: Cloud) -> Iterator[int]:
    """c1's br-tun has room for few learned MACs, and is as before in the end; how many rows its table may hold."""
    row = hostile.run("c1", "ovs-vsctl", "get", "Bridge", "br-tun", "flow_tables:20").strip()
    limit = hostile.run("c1", "ovs-vsctl", "get", "Flow_Table", row, "flow_limit").strip()
    hostile.run("c1", "ovs-vsctl", "set", "Flow_Table", row, f"flow_limit={ROOM}")
    yield ROOM
    hostile.run("c1", "ovs-vsctl", "set", "Flow_Table", row, f"flow_limit={limit}")
    for mac in forged():
        hostile.run("c1", "ovs-ofctl", "-O", "OpenFlow14", "del-flows", "br-tun", f"table=20,dl_dst={mac}")


def forged() -> list[str]:
    return [f"02:54:55:00:00:{number:02x}" for number in range(4 * ROOM)]


def test_a_table_that_is_full_takes_its_room_from_whoever_filled_it(hostile: Cloud, little_room: int) -> None:
    """What is compiled stays, and so does what was learned in other networks; the flooder's own go."""
    assert hostile.pings("good", "10.0.1.1") and hostile.pings("near", "10.0.2.12")
    compiled, vlan = hostile.dump(), hostile.vlan("c1", "blue")
    neighbours = [row for row in hostile.learned("c1") if f"vlan_tci={vlan:#06x}/0x0fff" in row]
    assert neighbours, "the gateway of blue is on the other host"
    near, free = hostile.port("near"), hostile.port("free")
    with hostile.raw("free") as card:
        for mac in forged():
            card.send(udp_frame(free, near.mac, str(near.ip), b"flood", source_mac=mac))
    until(lambda: any(forged()[-1] in row for row in hostile.learned("c1")), "the last of the flood has come")
    held = [row for row in hostile.flows("c1", "br-tun") if re.search("cookie=[^,]*, table=20,", row)]
    assert len(held) == little_room, "the table is full"
    assert set(neighbours) <= set(held)
    assert hostile.dump() == compiled
    assert hostile.pings("good", "10.0.1.1") and hostile.pings("near", "10.0.2.12")
