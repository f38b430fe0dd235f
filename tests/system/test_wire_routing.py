"""The routed hop on the wire: its rows and meters, what the switch asks of the daemon, and what it says back."""
from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from controller.switch import answers, dumps, listing, wire
from controller.switch.diff import Plan
from controller.switch.events import Asked, NextHop, Removed
from controller.switch.found import Found
from flows import fields as f
from flows.cookie import NEIGHBOUR_COOKIE, cookie_of
from flows.flow import Flow
from flows.host import CONTROLLER_METER, Meter
from flows.tables import LEAVE, TRANSLATE_OUT
from flows.text import actions_text, line, match_words
from tests import routed_rows
from tests.private_ovs import PATIENCE, OpenFlow, PrivateOvs
from tests.wirekit import BRIDGE, Counting, asked, dumped, heard, held, plan_for, send, texts

pytestmark = [pytest.mark.system, pytest.mark.shared]

METERS = tuple(Meter(number, 100, 50) for number in (5, 6, CONTROLLER_METER))
SET_CONFIG = struct.pack("!BBHIHH", wire.VERSION, 9, 12, 1, 0, 0xFFFF)  # a connection of ours is sent packet-ins, too
PAYLOAD = bytes(range(64))


@pytest.fixture(scope="module")
def ovs() -> Iterator[PrivateOvs]:
    with PrivateOvs() as running:
        yield running


@pytest.fixture
def bridge(ovs: PrivateOvs) -> Iterator[PrivateOvs]:
    ovs.add_bridge(BRIDGE, {f"vm{port}": port for _, _, port in routed_rows.VMS.values()})
    yield ovs
    ovs.del_bridge(BRIDGE)


def routed(ovs: PrivateOvs) -> None:
    assert send(ovs, plan_for(routed_rows.rows())) == {}


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def packet(source: str, target: str, to_mac: str, ttl: int = 64) -> bytes:
    """A UDP datagram; nobody on its way reads checksums but connection tracking, which takes 0 for none."""
    udp = struct.pack("!HHHH", 4000, 5000, 8 + len(PAYLOAD), 0) + PAYLOAD
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, ttl, 17, 0)
    header += IPv4Address(source).packed + IPv4Address(target).packed
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]
    return mac_bytes(to_mac) + mac_bytes(routed_rows.VMS[source][0]) + struct.pack("!H", f.IPV4) + header + udp


def sent_by(ovs: PrivateOvs, port: str) -> int:
    """How many frames have left by a port."""
    return int(ovs.vsctl("get", "interface", port, "statistics:tx_packets"))


# ---- rows and meters

def test_every_row_of_the_hop_is_held_as_our_text_says_byte_for_byte(bridge: PrivateOvs) -> None:
    routed(bridge)
    assert held(bridge) == texts(routed_rows.rows())


def test_the_daemon_lists_rows_in_the_words_of_ovs_ofctl(bridge: PrivateOvs) -> None:
    routed(bridge)
    with bridge.openflow(BRIDGE) as connection:
        rows = [listing.row(row) for row in asked(connection, wire.read_flows(Counting()))]
    assert sorted((row.cookie, row.table, row.priority, row.match, row.actions) for row in rows) == sorted(
        (cookie_of(row), row.table.id, row.priority, ",".join(match_words(row.match)), actions_text(row.actions))
        for row in routed_rows.rows())


def test_meters_come_change_are_read_and_go(bridge: PrivateOvs) -> None:
    def read() -> dict[int, Meter]:
        with bridge.openflow(BRIDGE) as connection:
            return answers.meters(asked(connection, wire.read_meters(Counting())))

    assert read() == {}
    assert send(bridge, Plan(meters_add=METERS)) == {}
    assert read() == {meter.id: meter for meter in METERS}
    changed = Meter(METERS[0].id, 7, 3)
    assert send(bridge, Plan(meters_change=(changed,))) == {}
    assert read()[changed.id] == changed
    bridge.run("ovs-ofctl", "-O", "OpenFlow14", "add-meter", BRIDGE, "meter=77,kbps,band=type=drop,rate=10")
    assert read()[77] == Meter(77, 0, 0), "not as we make them"
    assert send(bridge, Plan(meters_delete=(77, *(meter.id for meter in METERS)))) == {}
    assert read() == {}


def test_a_meter_that_cannot_be_had_is_blamed(bridge: PrivateOvs) -> None:
    refused = send(bridge, Plan(meters_change=(METERS[0],)))
    assert list(refused) == [f"set meter {METERS[0].id}"]


# ---- learned neighbours

def neighbour() -> tuple[Flow, NextHop]:
    row = next(row for row in routed_rows.rows() if row.table.name == "next-hop" and row.match[f.REG_NEXT_HOP])
    leg, address = row.match[f.REG_LEAVES_BY], row.match[f.REG_NEXT_HOP]
    assert leg and address
    return replace(row, priority=row.priority - 1), NextHop(
        leg.value, address.value, mac=routed_rows.VMS[routed_rows.FIXED][0], source=routed_rows.LEG_MACS[0])


def test_a_learned_neighbour_is_read_back_whole_and_its_end_is_told(bridge: PrivateOvs) -> None:
    row, said = neighbour()
    with bridge.openflow(BRIDGE) as connection:
        connection.send(SET_CONFIG + wire.learn(1, row))
        rows = Found()
        dumps.take(dumped(asked(connection, wire.read_flows(Counting()))), rows)
        assert [(row.cookie, row.neighbour) for row in rows.others] == [(NEIGHBOUR_COOKIE, said)]
        lasts = f"idle_timeout={wire.NEIGHBOUR_IDLE}, send_flow_rem "
        assert held(bridge) == [f"cookie={NEIGHBOUR_COOKIE:#x}, {line(row).replace('priority', lasts + 'priority')}"]
        connection.send(wire.unlearn(1, row))
        assert answers.removed(heard(connection)) == Removed(said.leg, said.address, idle=False)
        assert asked(connection, wire.read_flows(Counting())) == []


def test_unlearning_leaves_what_is_compiled(bridge: PrivateOvs) -> None:
    row, _ = neighbour()
    assert send(bridge, plan_for((row,))) == {}
    with bridge.openflow(BRIDGE) as connection:
        connection.send(wire.unlearn(1, row))
        assert len(asked(connection, wire.read_flows(Counting()))) == 1


# ---- packets in and out

def inject(ovs: PrivateOvs, port: str, frame: bytes) -> None:
    with ovs.control() as control:
        control.ask("netdev-dummy/receive", port, frame.hex())


def next_asked(connection: OpenFlow) -> Asked:
    found = answers.asked(heard(connection))
    assert found
    return found


def test_what_the_tables_cannot_do_is_asked_of_the_daemon_with_its_registers(bridge: PrivateOvs) -> None:
    routed(bridge)
    unknown = packet("10.0.1.11", "10.0.2.99", routed_rows.LEG_MACS[0])
    expired = packet("10.0.2.12", "10.0.1.11", routed_rows.LEG_MACS[1], ttl=1)
    from_outside = packet("203.0.113.1", "203.0.113.50", routed_rows.LEG_MACS[2], ttl=1)
    with bridge.openflow(BRIDGE) as connection:
        connection.send(SET_CONFIG)
        asked(connection, wire.read_flows(Counting()))  # the switch has taken what was sent before
        inject(bridge, "vm11", unknown)
        assert next_asked(connection) == Asked(routed_rows.ROUTER, 1, 0, unknown)
        inject(bridge, "vm12", expired)
        assert next_asked(connection) == Asked(routed_rows.ROUTER, 2, 0, expired)
        inject(bridge, "vm13", from_outside)
        found = next_asked(connection)
        assert (found.leg, found.translated) == (3, 1)
        assert found.data[30:34] == bytes((10, 0, 1, 11)), "its destination is translated already"


def test_what_the_daemon_says_goes_through_the_tables_from_where_it_shall(bridge: PrivateOvs) -> None:
    routed(bridge)
    before = sent_by(bridge, "vm12")
    frame = packet("10.0.1.11", "10.0.2.12", routed_rows.VMS["10.0.2.12"][0])
    registers = (f.REG_ROUTER(routed_rows.ROUTER), f.REG_CAME_BY(1), f.REG_LEAVES_BY(2), f.REG_TRANSLATED(0))
    with bridge.openflow(BRIDGE) as connection:
        for table in (TRANSLATE_OUT, LEAVE):
            connection.send(wire.packet_out(1, frame, registers, table))
        asked(connection, wire.read_flows(Counting()))
    deadline = time.monotonic() + PATIENCE
    while sent_by(bridge, "vm12") < before + 2 and time.monotonic() < deadline:
        time.sleep(0.2)  # the database hears of counters every few seconds
    assert sent_by(bridge, "vm12") == before + 2


# ---- strangers

STRANGERS = """
controller(meter_id=5),controller(reason=no_match,max_len=40,id=7),controller(userdata=01.02.03,pause)
check_pkt_larger(100)->NXM_NX_XXREG0[5],check_pkt_larger(9)->NXM_NX_REG8[0]
ct(commit,zone=NXM_NX_REG0[0..15],exec(set_field:1->ct_mark),nat(src=10.0.0.1-10.0.0.9:5-9,random))
ct(force,commit,zone=5,alg=ftp,nat(dst=[2001:db8::1]))
ct(table=5,nat),ct_clear,ct(commit,exec(move:NXM_NX_REG0[]->NXM_NX_CT_LABEL[0..31]))
load:5->NXM_NX_TUN_METADATA0[0..7],load:1->NXM_OF_IP_TOS[],load:0x123456789->OXM_OF_METADATA[],move:NXM_NX_CT_LABEL[]->NXM_NX_XXREG0[]
learn(table=9,idle_timeout=4,fin_idle_timeout=2,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_NX_XXREG0[0..3]->NXM_NX_XXREG1[4..7],limit=6,result_dst=NXM_NX_REG0[0])
learn(table=9,delete_learned,NXM_NX_XXREG0[0..100]=NXM_NX_XXREG1[0..100],load:0xfffffffffffffffffffff->NXM_NX_XXREG0[0..99],output:NXM_OF_IN_PORT[])
multipath(eth_src,50,modulo_n,1,0,NXM_NX_REG0[]),bundle(eth_src,0,hrw,ofport,members:1,2),bundle_load(eth_src,0,hrw,ofport,NXM_NX_REG0[],members:1,2)
note:01.02.03.04.05.06.07,sample(probability=5,collector_set_id=3,sampling_port=2,egress),exit
push:NXM_NX_REG0[3..5],pop:NXM_NX_REG1[0..3],output:NXM_NX_REG0[],output(port=3,max_len=100),resubmit(3,4),resubmit(,5,ct)
clone(set_field:1->reg0,output:3),dec_ttl(1,2),set_queue:3,pop_queue,enqueue(1,2),fin_timeout(idle_timeout=3)
push_mpls:0x8847,set_mpls_label:5,dec_mpls_ttl,pop_mpls:0x0800
encap(nsh(md_type=1)),encap(ethernet)
set_field:10.0.0.1/24->ip_src,set_field:2001:db8::1->tun_ipv6_dst,set_field:5/7->metadata,set_field:1->pkt_mark
write_actions(output:3,set_field:1->reg0),write_metadata:5/7,goto_table:9
clear_actions,delete_field:tun_metadata0,output:LOCAL,output:NORMAL,output:FLOOD,output:ALL
""".strip().splitlines()
STRANGE_MATCHES = """
tun_metadata0=0x5,ct_nw_src=10.0.0.1,ct_tp_dst=5,ct_nw_proto=6,ct_state=+trk,ip
xxreg0=5/7,ct_label=0x5,nw_frag=later,ip,pkt_mark=3
tcp,tcp_flags=+syn-ack,tp_src=0x400/0xfc00
packet_type=(1,0x894f),nsh_spi=5
conj_id=5,ipv6,ipv6_label=5,ct_ipv6_src=2001:db8::1,ct_state=+trk
sctp,tp_dst=5,nw_tos=16,nw_ecn=1,nw_ttl=4
icmp6,icmp_type=135,nd_target=2001:db8::1,nd_sll=00:00:00:00:00:01
mpls,mpls_label=5,mpls_bos=1
dl_vlan=5,dl_vlan_pcp=3
""".strip().splitlines()


def test_whatever_strangers_install_can_be_read_and_listed(bridge: PrivateOvs) -> None:
    bridge.run("ovs-ofctl", "-O", "OpenFlow14", "add-meter", BRIDGE, "meter=5,pktps,band=type=drop,rate=10")
    bridge.run("ovs-ofctl", "add-tlv-map", BRIDGE, "{class=0xffff,type=0,len=4}->tun_metadata0")
    taken = 0
    for words in [*(f"{match} actions=drop" for match in STRANGE_MATCHES),
                  *(f"{kind} actions={actions}" for kind in ("ip", "mpls") for actions in STRANGERS)]:
        where = f"table={taken // 200},cookie=1,priority={taken + 1}"
        for version in ("OpenFlow14", "OpenFlow10"):
            with suppress(AssertionError):  # it cannot be said in every version, or not for every kind of packet
                bridge.run("ovs-ofctl", "-O", version, "add-flow", BRIDGE, f"{where},{words}")
                taken += 1
                break
    assert taken > len(STRANGERS)
    with bridge.openflow(BRIDGE) as connection:
        rows = asked(connection, wire.read_flows(Counting()))
    found = Found()
    dumps.take(dumped(rows), found)
    assert len(rows) == taken == len(found)
    for row in rows:
        assert listing.row(row).actions not in ("", "(not understood)")
