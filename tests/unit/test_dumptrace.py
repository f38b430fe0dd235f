"""`trace --dump`: what becomes of a packet in flows that somebody dumped, and what of it nobody can know."""
from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.text import Text

from controller.tools import dumptrace, dumptrace_telling
from controller.tools.dumptrace import Answer
from controller.tools.dumptrace_site import Site
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.labels import Labels
from controller.tools.ours import Ours

GOLDEN = Path(__file__).parents[1] / "golden" / "neutron"
NAMES = [str(path) for path in (*sorted(GOLDEN.glob("ov*-show*.txt")), GOLDEN / "openstack-port-list.json")]
WEB1 = "dl_src=fa:16:3e:00:00:11"
PING = f"icmp,{WEB1},dl_dst=fa:16:3e:00:00:13,nw_src=10.0.1.11,nw_dst=10.0.1.13,icmp_type=8"
ASKS = f"arp,arp_op=1,{WEB1},dl_dst=ff:ff:ff:ff:ff:ff,arp_spa=10.0.1.11,arp_tpa=10.0.1.13,arp_sha=fa:16:3e:00:00:11"


def neutron(case: str, source: str, packet: str, bridges: str = "int tun ex", names: list[str] | None = None) -> Answer:
    dumps = [str(GOLDEN / f"{case}-br-{bridge}.txt") for bridge in bridges.split()]
    return dumptrace.trace((dumps, NAMES if names is None else names), source, packet, io.StringIO(), print)


def one(text: str, packet: str = "ip", port: str = "1") -> Answer:
    """Through a dump of one bridge."""
    site = Site(Labels(), Ours(None, "", Labels()))
    site.read(text, "br-int", "dump.txt")
    return dumptrace.answer(site, dumptrace.asked(packet, *site.place(port)))


def refused(text: str) -> str:
    with pytest.raises(Refusal) as caught:
        one("table=0, priority=0 actions=NORMAL", text)
    assert caught.value.code == BAD_INPUT
    return str(caught.value)


def lines(answer: Answer) -> str:
    return "\n".join(Text.from_markup(line).plain for line in dumptrace_telling.lines(answer))


# ---- Neutron's bridges

def test_the_arp_responder_answers_and_the_answer_comes_back_over_the_patch() -> None:
    answer = neutron("l2population", "web1", ASKS)
    assert answer.verdict == "answered" and answer.known
    assert [hop.bridge for hop in answer.walk.hops if hop.table == 0] == ["br-int", "br-tun", "br-int", "br-ex"]
    assert "10.0.1.13 is answered here that it has fa:16:3e:00:00:13" in lines(answer)
    assert "answered: br-int by web1 (qvo7c4e9d0a-11)" in lines(answer)


def test_where_a_learning_switch_decides_its_ports_are_named_and_the_end_is_unknown() -> None:
    answer = neutron("l2population", "br-int:3", PING)
    assert answer.verdict == "unknown" and not answer.known and "flows do not tell which" in answer.reason
    told = lines(answer)
    assert "br-tun, by br-int (patch-int), if it goes there" in told
    assert "perhaps out of br-tun by the tunnel to 192.0.2.12 (vxlan-c000020c): tunnel id 1001" in told
    assert "perhaps out of br-int by web2 (tap1f0b5c77-22): no VLAN" in told
    assert "tap93aa60de-33" not in told  # of another VLAN


def test_from_a_tunnel_it_is_told_what_is_learned_and_what_the_packet_wears() -> None:
    answer = neutron("plain", "br-tun:2", f"tun_id=1001,{PING}", bridges="tun")
    assert answer.verdict == "leaves" and answer.known
    (learned,) = [row for hop in answer.walk.hops for row in hop.learned]
    assert learned == ("table=20, hard_timeout=300, priority=1, vlan_tci=0x0001/0x0fff,dl_dst=fa:16:3e:00:00:11 "
                       "actions=load:0->NXM_OF_VLAN_TCI[],load:0x3e9->NXM_NX_TUN_ID[],output:2")
    assert "(now VLAN 1)" in lines(answer) and "of which there is no dump" in lines(answer)


def test_the_firewall_is_asked_with_the_state_that_is_assumed() -> None:
    http = PING.replace("icmp,", "tcp,").replace("icmp_type=8", "tp_dst=80")
    new = neutron("openvswitch", "web1", http)
    assert "connection tracking of zone 1 is taken to say: new" in lines(new)
    assert "its connection is remembered in zone 1" in lines(new)
    known = neutron("openvswitch", "web1", f"{http},ct_state=est|rpl")
    assert "is taken to say: est+rpl" in lines(known) and "is remembered" not in lines(known)
    blocked = neutron("openvswitch", "web1", f"{http},ct_state=inv")
    assert blocked.verdict == "dropped" and "in table 93 of br-int" in blocked.reason


def test_a_conjunction_is_told_with_its_parts() -> None:
    answer = neutron("openvswitch", "br-int:1", "tcp,dl_vlan=1,dl_src=fa:16:3e:00:00:12,dl_dst=fa:16:3e:00:00:11,"
                     "nw_src=10.0.1.12,nw_dst=10.0.1.11,tp_dst=22")
    (hop,) = [hop for hop in answer.walk.hops if hop.found.clauses]
    assert hop.table == 82 and len(hop.found.clauses) == 2
    assert answer.verdict == "leaves" and "br-int by web1 (qvo7c4e9d0a-11)" in answer.reason


def test_as_values_for_programs() -> None:
    found = dumptrace_telling.document(neutron("l2population", "web1", ASKS))
    assert found["verdict"] == "answered" and found["port"] == "3" and found["name"] == "web1 (qvo7c4e9d0a-11)"
    last = next(hop for hop in found["hops"] if hop["table"] == 21)
    assert last["line"] == 24 and last["owner"] == "neutron" and last["changes"]["arp_op"] == "2"
    assert {end["kind"] for end in found["ends"]} == {"out"}


# ---- what nobody can know

def test_normal_without_names() -> None:
    answer = one("table=0, priority=0 actions=NORMAL")
    assert answer.verdict == "unknown" and "give `ovs-vsctl show` and `ovs-ofctl show br-int`" in answer.reason


@pytest.mark.parametrize(("actions", "said"), [
    ("group:7", "group 7"), ("frobnicate(1,2),output:2", "frobnicate(1,2)"), ("CONTROLLER:65535", "the controller"),
    ("ct(commit,table=1,nat(src=10.0.0.1-10.0.0.9))", "nat(src=10.0.0.1-10.0.0.9)"),
    ("resubmit(,0)", "round in circles")])
def test_an_action_that_nobody_can_follow(actions: str, said: str) -> None:
    answer = one(f"table=0, priority=0 actions={actions}")
    assert answer.verdict == "unknown" and said in answer.reason
    assert not any(end.kind == "out" for end in answer.walk.ends)


def test_a_condition_that_nobody_knows_matters_only_if_the_rest_holds() -> None:
    text = "priority=5,ip,frobs=3{} actions=drop\npriority=1 actions=output:2"
    assert "frobs=3" in one(text.format("")).reason
    assert one(text.format(",nw_dst=10.0.0.1")).verdict == "leaves"


CUT = "table=0,priority=1,ip actions=resubmit(,1)\ntable=1,priority=9,arp actions=drop\ntable=1,priority=5,udp acti"


def test_a_dump_that_is_cut_in_a_line() -> None:
    assert "cut in line 3" in one(CUT, "ip").reason
    assert "cut in line 3" in one(CUT, "udp").reason
    assert one(CUT, "arp").verdict == "dropped"  # in table 0, which is whole
    assert "line 3 is damaged" in one(f"{CUT}\ntable=1,priority=0 actions=output:2", "udp").reason
    whole = one(f"{CUT}\ntable=1,priority=0 actions=output:2\r\n", "ip")
    assert whole.verdict == "leaves"  # a line in the middle that cannot be this packet's
    assert one(f"{CUT}\ntable=1,priority=7,udp actions=output:2", "udp").verdict == "leaves"  # nor a lower one


def test_two_flows_of_one_priority() -> None:
    text = "priority=1,ip actions=output:2\npriority=1,nw_src=0.0.0.0,ip actions=output:3"
    assert "lines 1 and 2 both take it" in one(text).reason
    same = one("priority=2,reg1=0 actions=load:1->NXM_NX_REG1[],resubmit(,0)\n"
               "priority=2,reg2=0 actions=load:1->NXM_NX_REG2[],resubmit(,0)\npriority=0 actions=output:4")
    assert same.verdict == "leaves" and "lines 1 and 2 both take it" in lines(same)


# ---- bad input

@pytest.mark.parametrize(("packet", "said"), [
    ("", "is no packet"), ("icmp,nw_src=10.0.0.0/8", "one value"), ("nw_src=10.0.0.1", "nw_src needs ip"),
    ("ip,frob=1", "frob=1"), ("tcp,tp_dst=70000", "70000"), ("ip,tp_dst=70", "needs icmp, tcp"),
    ("ip,dl_src=fa:16", "fa:16"), ("ip,reg5=3", "reg5"), ("ip,priority=3", "is no packet"), ("ip,dl_vlan=5000", "5000"),
    ("ip,ct_state=old", "old"), ("arp,nw_dst=10.0.0.1", "nw_dst needs ip"), ("ip actions=output:1", "is no packet")])
def test_no_packet(packet: str, said: str) -> None:
    assert said in refused(packet)


@pytest.mark.parametrize(("source", "said"), [
    ("3", "br-int:3 or br-tun:3"), ("br-foo:3", "No dump is of bridge br-foo"), ("wbe1", "did you mean 'web1'"),
    ("br-tun:web1", "No port is called 'web1' in br-tun")])
def test_no_port(source: str, said: str) -> None:
    with pytest.raises(Refusal, match=said) as caught:
        neutron("plain", source, PING, bridges="int tun")
    assert caught.value.code == BAD_INPUT


def test_no_dump(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("NXST_FLOW reply (xid=0x4):\n")
    plain = str(GOLDEN / "plain-br-int.txt")
    for dumps, said in (([str(empty)], "no flow in it"), ([plain, plain], "two dumps of br-int"),
                        ([str(tmp_path / "gone")], "no such file")):
        with pytest.raises(Refusal, match=said):
            dumptrace.trace((dumps, ()), "3", PING, io.StringIO(), print)


def test_a_dump_may_be_said_to_be_of_a_bridge() -> None:
    plain = str(GOLDEN / "plain-br-ex.txt")
    answer = dumptrace.trace(([f"br-eth1={plain}"], ()), "1", "ip,dl_vlan=7", io.StringIO(), print)
    assert answer.asked.bridge == "br-eth1" and answer.verdict == "dropped"
