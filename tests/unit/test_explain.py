"""`explain`: what Neutron's own classes installed is told line by line; what nobody knows is said to be unknown."""
from __future__ import annotations

import random
from pathlib import Path

import pytest

from controller.tools import flows as tool
from controller.tools import flows_intended, topologies
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.explain import Told, explain
from controller.tools.labels import Labels
from controller.tools.ours import Ours

GOLDEN = Path(__file__).parents[1] / "golden" / "neutron"
DUMPS = sorted(GOLDEN.glob("*-br-*.txt"), key=str)
DUMPS = [path for path in DUMPS if "show" not in path.name]
SHOWN = (*sorted(GOLDEN.glob("ov*-show*.txt")), GOLDEN / "openstack-port-list.json")


def labels() -> Labels:
    found = Labels()
    for path in SHOWN:
        found.read(path.read_text(), path.name)
    return found


def told(text: str, names: Labels | None = None, bridge: str = "") -> list[Told]:
    names = names or Labels()
    return explain(text, names, Ours(None, "", names), bridge)


def one(text: str, names: Labels | None = None, bridge: str = "br-int") -> Told:
    (found,) = told(text, names, bridge)
    return found


# ---- Neutron's own flows

@pytest.mark.parametrize("path", DUMPS, ids=lambda path: path.stem)
def test_no_flow_that_neutron_installed_is_left_unexplained(path: Path) -> None:
    found = told(path.read_text(), labels())
    assert [each.text for each in found if not each.known] == []
    assert len(found) == path.read_text().count("actions=")
    assert {each.bridge for each in found} == {"br-" + path.stem.removesuffix("-of13").rpartition("br-")[2]}
    assert all(each.owner == "neutron" and each.title for each in found)


@pytest.mark.parametrize("path", [path for path in DUMPS if "-of13" not in path.name], ids=lambda path: path.stem)
def test_both_versions_of_openflow_tell_the_same(path: Path) -> None:
    newer = path.with_name(f"{path.stem}-of13.txt").read_text()
    old, new = ([(each.table, each.sentence) for each in told(text)] for text in (path.read_text(), newer))
    assert [each for each in sorted(old) if "OpenFlow 1.0" not in each[1]] == [
        each for each in sorted(new) if "by meter" not in each[1]]


SENTENCES = (
    ("plain-br-int", "web1 (qvo7c4e9d0a-11) may send as fa:16:3e:00:00:11 (web1)."),
    ("plain-br-int", "VLAN 101 of the physical network behind br-ex (int-br-ex) is local VLAN 3 on this host."),
    ("plain-br-tun", "Local VLAN 1 is flooded with tunnel id 1001 into the tunnel to 192.0.2.12 (vxlan-c000020c) and "
                     "the tunnel to 192.0.2.13 (vxlan-c000020d)."),
    ("plain-br-tun", "Learned: fa:16:3e:00:00:14 of local VLAN 1 lives behind the tunnel to 192.0.2.13 "
                     "(vxlan-c000020d); sent there with tunnel id 1001, until this row is 300 seconds old."),
    ("l2population-br-tun", "Who asks in local VLAN 1 for 10.0.1.13 is answered here that it has fa:16:3e:00:00:13; "
                            "the request does not leave the host."),
    ("openvswitch-br-int", "web1 (qvo7c4e9d0a-11) may get TCP to ports 8000 to 8007 from 192.0.2.0/24; the new "
                           "connection is remembered."),
    ("openvswitch-br-int", "In local VLAN 1, IPv4 from 10.0.1.12 (web2) is from a member of a remote group: part 1 of "
                           "2 of conjunction 16 (going on)."),
    ("dvr-br-tun", "Nothing leaves for fa:16:3e:00:00:01: every host has this gateway of local VLAN 1 itself, in its "
                   "distributed router."),
    ("extensions-br-ex", "Metadata requests go to the service at 240.0.0.10, port 9697, by port 2."),
)


@pytest.mark.parametrize(("dump", "sentence"), SENTENCES)
def test_a_sentence_names_what_it_is_about(dump: str, sentence: str) -> None:
    assert sentence in [each.sentence for each in told((GOLDEN / f"{dump}.txt").read_text(), labels())]


def test_without_names_a_sentence_has_the_numbers() -> None:
    dump = (GOLDEN / "plain-br-int.txt").read_text()
    assert "Port 3 may send as fa:16:3e:00:00:11." in [each.sentence for each in told(dump)]


def test_several_dumps_in_one_text_are_told_apart() -> None:
    text = "".join((GOLDEN / f"plain-{bridge}.txt").read_text() for bridge in ("br-int", "br-tun", "br-ex"))
    assert list(dict.fromkeys(each.bridge for each in told(text, labels()))) == ["br-int", "br-tun", "br-ex"]
    assert all(each.known for each in told(text))


def test_the_prompt_of_a_shell_tells_the_bridge() -> None:
    flow = " cookie=0x1, duration=1.5s, table=0, n_packets=3, n_bytes=4, priority=0 actions=NORMAL\n"
    text = f"# ovs-ofctl -O OpenFlow13 dump-flows br-provider table=0\n{flow}$ ovs-appctl bridge/dump-flows br-int\n"
    text += flow
    assert [(each.bridge, each.known, each.packets) for each in told(text)] == [
        ("br-provider", True, 3), ("br-int", True, 3)]


# ---- what is not understood

def flow(words: str) -> str:
    return f" cookie=0x7, duration=1.5s, table=60, n_packets=3, n_bytes=4, {words}"


@pytest.mark.parametrize(("words", "known_of_it"), [
    ("priority=1,in_port=3 actions=output:4", "from port 3 -> out by port 4"),
    ("priority=7,tcp,nw_src=10.0.0.0/8,tp_dst=80 actions=drop", "TCP to port 80 from 10.0.0.0/8 -> drop"),
    ("priority=1 actions=NORMAL,output:7", "any packet -> switched by MAC, out by port 7"),
    ("priority=1 actions=frobnicate(1,2),NORMAL", "no meaning is known of frobnicate(1,2)"),
    ("priority=1 actions=teleport,NORMAL", "no meaning is known of teleport"),
    ("priority=1,warp_factor=9 actions=NORMAL", "no meaning is known of warp_factor=9"),
    ("priority=1,dl_vlan=many actions=NORMAL", "no meaning is known of dl_vlan=many"),
])
def test_an_unknown_flow_is_said_to_be_unknown_with_what_is_known_of_it(words: str, known_of_it: str) -> None:
    found = one(flow(words))
    assert not found.known
    assert found.owner == "unknown"
    assert known_of_it in found.sentence
    assert found.title == "TRANSIENT: Is it from or for a port of this host?"


def test_a_table_that_neutron_does_not_have_is_said_to_be_none() -> None:
    found = one(" cookie=0x7, table=199, priority=1 actions=NORMAL")
    assert not found.known and "no such table" in found.sentence and found.title == ""


@pytest.mark.parametrize("path", DUMPS[::3], ids=lambda path: path.stem)
def test_one_condition_more_or_less_is_never_explained_by_mistake(path: Path) -> None:
    """What a flow does is told only if nothing of it is left out."""
    for line in path.read_text().splitlines()[1:]:
        for more in (line.replace(" actions=", ",metadata=0x5 actions="), f"{line},dec_ttl"):
            assert not any(each.known for each in told(more, bridge="br-int")), more


# ---- bad input

def test_windows_line_ends_change_nothing() -> None:
    text = (GOLDEN / "l2population-br-tun.txt").read_text()
    for ending in ("\r\n", "\r"):
        assert [each.sentence for each in told(text.replace("\n", ending))] == [each.sentence for each in told(text)]


def test_a_dump_cut_anywhere_in_a_line_says_so_and_tells_the_rest() -> None:
    text = (GOLDEN / "l2population-br-tun.txt").read_text()
    whole = told(text, bridge="br-tun")
    last = whole[-3].text
    before = text[:text.index(last)]
    for length in range(1, len(last)):
        found = told(before + last[:length], bridge="br-tun")
        told_of_it = found[len(whole) - 3:]
        assert [each.sentence for each in found[:len(whole) - 3]] == [each.sentence for each in whole[:-3]]
        for each in told_of_it:
            assert not each.known or "actions=" in each.text, each


def test_no_text_at_all_makes_it_fail() -> None:
    pytest.importorskip("ovs.flow")
    lines = [line for path in DUMPS for line in path.read_text().splitlines()[1:]]
    dice = random.Random(6)
    letters = "abcxyz0189=,:()[]->\"/ .\t\x00é"
    for _ in range(400):
        line = list(dice.choice(lines))
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(line))
            line[place:place + dice.randint(0, 6)] = dice.choices(letters, k=dice.randint(0, 5))
        try:
            told("".join(line))
        except Refusal as refusal:
            assert refusal.code == BAD_INPUT


@pytest.mark.parametrize("text", ["", "\n\n", "hello\n", "NXST_FLOW reply (xid=0x4):\n", "[]", "{}"])
def test_a_text_without_flows_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        told(text)
    assert refusal.value.code == BAD_INPUT


@pytest.mark.parametrize("text", ["", "hello", "[1, 2]", '[{"ID": 5}]', "{", '{"a": 1}'])
def test_a_file_that_tells_no_names_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        Labels().read(text, "names.txt")
    assert refusal.value.code == BAD_INPUT and "names.txt" in str(refusal.value)


# ---- ours

DEMO = Path(__file__).parents[2] / "topology.yaml"


def ours(host: str = "compute1") -> list[str]:
    """What `flows HOST --intended --ofctl` prints."""
    lines = []
    for one_bridge in flows_intended.intended(topologies.valid(str(DEMO)), host):
        lines += [f"# {host}/{one_bridge['bridge']}", *tool.ofctl_lines(one_bridge)]
    return lines


def told_with_topology(lines: list[str]) -> list[Told]:
    names = Labels()
    return explain("\n".join(lines), names, Ours(topologies.valid(str(DEMO)), "topology.yaml", names))


def test_every_flow_of_ours_is_told_with_the_line_of_its_cause() -> None:
    found = told_with_topology(ours())
    assert all(each.known and each.owner == "tunbridge" for each in found)
    (web1,) = [each for each in found if each.sentence == "web1 is attached to blue."]
    number = 1 + next(place for place, text in enumerate(DEMO.read_text().splitlines()) if text.startswith("  web1:"))
    assert web1.origin == f"topology.yaml:{number}  vms.web1"


def test_the_host_and_the_bridge_are_found_by_the_cookies() -> None:
    lines = ours("compute2")
    bridge_int = lines[:lines.index("# compute2/br-tun")][1:]
    assert [each.sentence for each in told_with_topology(bridge_int)] == [
        each.sentence for each in told_with_topology(lines) if each.bridge == "br-int"]


def test_a_flow_with_the_numbers_of_another_host_is_known_by_the_rest_of_it() -> None:
    mine = next(line for line in ours() if "table=25" in line and "nw_src=10.0.1.11" in line and ",ip," in line)
    strange = mine.replace(mine[:mine.index(",")], "cookie=0x5401000000000001").replace("in_port=2", "in_port=77")
    (found,) = told_with_topology(["# compute1/br-int", strange])
    (whole,) = told_with_topology(["# compute1/br-int", mine])
    assert (found.known, found.sentence) == (True, whole.sentence)


def test_a_cookie_of_ours_that_no_flow_has_is_said_to_be_of_another_topology() -> None:
    (found,) = told_with_topology([" cookie=0x5401000000000001, table=60, priority=9 actions=drop"])
    assert not found.known and "another topology" in found.sentence


def test_without_a_topology_our_flows_are_known_by_their_tables_only() -> None:
    found = told("\n".join(ours()))
    assert not any(each.known for each in found) and all(each.title for each in found)


PIPELINE = Path(__file__).resolve().parents[1] / "golden" / "pipeline"


@pytest.mark.parametrize("bridge", ["br-int", "br-tun", "br-ex"])
def test_a_dump_alone_tells_its_bridge_also_where_its_ports_have_other_numbers(bridge: str) -> None:
    names, cloud = Labels(), "docs/pipeline.yaml"
    known = Ours(topologies.valid(str(DEMO.parent / cloud)), cloud, names)
    assert {one.bridge for one in explain((PIPELINE / f"{bridge}.txt").read_text(), names, known, "")} == {bridge}


def test_what_a_switch_has_learned_is_told_by_the_names_of_the_topology() -> None:
    names, cloud = Labels(), "docs/pipeline.yaml"
    known = Ours(topologies.valid(str(DEMO.parent / cloud)), cloud, names)
    told = explain((PIPELINE / "br-tun.txt").read_text(), names, known, "")
    learned = [one.sentence for one in told if "Learned" in one.sentence]
    assert [("(web2) of blue, here VLAN 1," in one, "(store1) of green, here VLAN 2," in one) for one in learned] == [
        (True, False), (False, True)]
