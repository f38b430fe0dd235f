"""`tunbridge flows`: names for numbers, lines for origins, portions for large bridges, and rates between two looks."""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from controller.model import placement, reading
from controller.model.naming import Directory, Naming
from controller.model.places import Places
from controller.model.topology import Topology
from controller.model.wording import annotated
from controller.switch.dumps import Content
from controller.switch.events import Row
from controller.switch.questions import Portion
from controller.switch.showing import Showing
from controller.tools import flows as tool
from controller.tools import flows_intended, flows_lines, flows_pick, flows_watch
from controller.tools.commands.output import show_lines
from controller.tools.errors import Refusal
from controller.tools.flows import Json
from flows.tables import BR_INT, BR_TUN, UNICAST
from tests.model_switch import STRANGER_COOKIE, World

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "topology.yaml"
LAID_OUT = """\
cloud: odd
underlay: {cidr: 192.0.2.0/24}
hosts: {c1: {tunnel_ip: 192.0.2.11}}
networks:
    blue:
        tunnel_id: 1001
        subnets: {blue-subnet: {cidr: 10.0.1.0/24}}
vms:
    "fw.1":
        host: c1
        ports:
        -   {network: blue,
             ip: 10.0.1.11}

        # the other one
        -   network: blue
            ip: 10.0.1.12
    web: {host: c1, network: blue}
"""


@pytest.fixture(scope="module")
def demo() -> Topology:
    found = reading.load(str(DEMO)).topology
    assert found
    return found


@pytest.fixture(scope="module")
def bridges(demo: Topology) -> list[Json]:
    return list(flows_intended.intended(demo))


def flows_of(bridges: Iterable[Json], *place: str) -> list[Json]:
    return [flow for one in bridges if (one["host"], one["bridge"])[:len(place)] == place for flow in one["flows"]]


# ---- names

def test_ports_networks_macs_and_addresses_have_names(bridges: list[Json]) -> None:
    told = "\n".join("".join(text for _, text in line)
                     for line in flows_lines.lines(bridges, Places(str(DEMO)), "topology.yaml"))
    for words in ("in_port=2 (web1),vlan_tci=0x0000/0x1fff -> push_vlan:0x8100,set_field:4097->vlan_vid (blue),"
                  "goto_table:24 (arp-spoof)", "arp_spa=10.0.1.11 (web1)", "tun_id=0x3e9 (blue)",
                  "output:3 (the tunnel to compute2)",
                  "table 20 unicast: Do we know which host has this MAC?", "topology.yaml:72 vms.web1"):
        assert words in told


def test_twins_are_told_apart_by_the_network_of_their_flow(demo: Topology) -> None:
    naming = Naming(Directory(demo), placement.imagined(demo, "compute2"), "compute2", BR_INT)
    vlans = placement.imagined(demo, "compute2").vlans
    for network, who in (("blue", "web2"), ("green", "shop2")):
        assert naming.of(f"dl_vlan={vlans[network]},dl_dst=fa:16:3e:00:00:12").ports == {"fa:16:3e:00:00:12": who}
    assert not naming.of("dl_dst=fa:16:3e:00:00:12").ports, "two have it, and nothing tells which is meant"


def test_a_name_stands_behind_the_whole_word_alone() -> None:
    assert annotated("in_port=1,nw_src=10.0.1.1", {"in_port=1": "web1"}) == "in_port=1 (web1),nw_src=10.0.1.1"
    assert annotated("in_port=12", {"in_port=1": "web1"}) == "in_port=12"


# ---- lines

def test_every_origin_stands_at_a_line_that_names_it(bridges: list[Json]) -> None:
    places, lines = Places(str(DEMO)), DEMO.read_text().splitlines()
    origins = {flow["origin"] for flow in flows_of(bridges)} - {"pipeline"}
    assert len(origins) > 15
    for origin in origins:
        number = places.line_of(origin)
        assert number, origin
        assert any(word in lines[number - 1] for word in re.split(r"\.|\[", origin)[1:]), origin
        assert flows_pick.from_line(str(number), str(DEMO)).keep({"origin": origin})


@pytest.mark.parametrize(("path", "line"), [
    ("vms.fw.1.ports[0]", 12), ("vms.fw.1.ports[1]", 16), ("vms.fw.1", 9), ("vms.web", 18), ("networks.blue", 5),
    ("networks.blue.tunnel_id", 6), ("hosts.c1", 3), ("vms.web.ports[0]", 18), ("vms.nobody", 8), ("nothing", None)])
def test_lines_are_found_however_a_file_is_laid_out(path: str, line: int | None, tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(LAID_OUT)
    assert Places(str(file)).line_of(path) == line


@pytest.mark.parametrize(("line", "path"), [
    (5, "networks.blue"), (6, "networks.blue.tunnel_id"), (12, "vms.fw.1.ports[0]"), (13, "vms.fw.1.ports[0].ip"),
    (14, None), (15, None), (16, "vms.fw.1.ports[1]"), (17, "vms.fw.1.ports[1].ip"), (18, "vms.web"), (99, None)])
def test_what_stands_at_a_line(line: int, path: str | None, tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(LAID_OUT)
    assert Places(str(file)).path_at(line) == path


def test_a_file_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert Places(str(tmp_path / "gone.yaml")).line_of("vms.web1") is None
    with pytest.raises(Refusal, match="There is no file"):
        flows_pick.from_line(f"{tmp_path}/gone.yaml:1", "topology.yaml")
    with pytest.raises(Refusal, match="it has 85 lines"):
        flows_pick.from_line("86", str(DEMO))
    with pytest.raises(Refusal, match="nothing stands there"):
        flows_pick.from_line("3", str(DEMO))


# ---- which flows

def test_the_flows_of_a_vm_are_those_that_it_brought_and_those_that_name_it(bridges: list[Json]) -> None:
    for vm, other in (("web2", "shop2"), ("shop2", "web2")):
        picked = flows_of(flows_pick.of_vm(vm).of(bridges))
        assert {flow["origin"] for flow in picked} >= {f"vms.{vm}"}
        assert not [flow for flow in picked if flow["origin"] == f"vms.{other}"]
        floods = [flow for flow in picked if flow["why"].startswith("broadcast and multicast go to all of")]
        assert [vm in flow["names"]["ports"].values() for flow in floods] == [True]


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(Refusal, match="did you mean web1"):
        flows_pick.check_vm("wbe1", ["web1", "db1"])


# ---- portions

HEAD = "cloud: p\nunderlay: {cidr: 192.0.2.0/24}\nforwarding: l2population\nhosts:\n  c1: {tunnel_ip: 192.0.2.11}\n" \
       "  c2: {tunnel_ip: 192.0.2.12}\nnetworks:\n  blue: {tunnel_id: 1, subnets: {s: {cidr: 10.0.0.0/16}}}\nvms:\n" \
       "  here: {host: c1, network: blue}\n"
MANY, SIZE = 30, 20  # so that table 20 of c1's br-tun comes in two portions


def test_the_portions_of_a_large_bridge_together_are_the_whole_of_it() -> None:
    text = HEAD + "".join(f"  v{number}: {{host: c2, network: blue}}\n" for number in range(MANY))
    world = World(reading.parse(text.encode(), "p.yaml").topology or pytest.fail("no topology"))
    world.plug_all(world.fleet.topology)
    world.connect()
    world.settle()
    held = [Row(one.cookie, one.table, one.priority, "", "", 1, 2, 3) for one in world.switches["c1", BR_TUN].dump()]
    held.append(Row(STRANGER_COOKIE, 99, 7, "ip", "drop", 0, 0, 0))

    def dump(_: object, known: Callable[[Content], bool], portion: Portion | None) -> list[Row]:
        return [row for row in held if portion is None or (row.table == portion.table and portion.has(row.cookie))]

    def tally(_: object) -> dict[int, int]:
        return Counter(row.table for row in held)

    showing, place = Showing(world.fleet, dump, tally, SIZE), {"host": "c1", "bridge": BR_TUN}
    portions = showing.outline(place)["portions"]
    assert [table for table, *_ in portions] == [0, 2, 4, 10, UNICAST.id, UNICAST.id, 22, 99]
    parts = [showing.flows({**place, "table": table, "group": group, "of": of})["bridges"][0]
             for table, group, of in portions]
    (whole,) = tool.together(parts)
    key = [(one["table"], one["priority"], one["match"], one["status"]) for one in whole["flows"]]
    assert sorted(key) == sorted((one["table"], one["priority"], one["match"], one["status"])
                                 for one in showing.flows(place)["bridges"][0]["flows"])
    assert {one["status"] for one in whole["flows"]} == {"installed", "stranger"}


def test_a_bridge_that_cannot_be_asked_does_not_keep_the_others_from_being_shown() -> None:
    world = World(reading.parse(HEAD.encode(), "p.yaml").topology or pytest.fail("no topology"))
    showing = Showing(world.fleet, lambda *_: [], lambda *_: {})
    answer = showing.flows({"host": "c1"})["bridges"]
    assert [(one["connected"], one["trouble"]) for one in answer] == [
        (False, f"c1/{bridge} is not connected. Look at `tunbridge status`.") for bridge in (BR_INT, BR_TUN)]
    told = ["".join(text for _, text in line) for line in flows_lines.lines(answer, Places(""), "p.yaml")]
    assert told[:2] == ["c1/br-int", "  c1/br-int is not connected. Look at `tunbridge status`."]


# ---- rates

def look(packets: int, seconds: int = 100) -> list[Json]:
    return [{"host": "c1", "bridge": BR_TUN, "connected": True, "flows": [
        {"table": 20, "priority": 2, "match": "dl_vlan=1", "actions": "drop", "origin": "", "why": "a reason",
         "packets": packets, "bytes": 100 * packets, "seconds": seconds, "status": "installed"}]}]


def test_rates_are_of_the_time_between_two_looks() -> None:
    watch = flows_watch.Watch()
    (first,) = flows_of(watch.look(look(10), 1000.0))
    assert (first["packets_per_second"], first["idle_seconds"]) == (None, 0)
    (second,) = flows_of(watch.look(look(30), 1004.0))
    assert (second["packets_per_second"], second["bytes_per_second"], second["idle_seconds"]) == (5, 500, 0)
    (third,) = flows_of(watch.look(look(30), 1006.0))
    assert (third["packets_per_second"], third["idle_seconds"]) == (0, 2)
    assert flows_lines.idle(third)
    (anew,) = flows_of(watch.look(look(1, 0), 1008.0))
    assert anew["packets_per_second"] is None, "its switch was started anew"


def test_the_busiest_come_first_and_the_idle_are_counted() -> None:
    watch = flows_watch.Watch()
    watch.look(look(0), 0.0)
    told = ["".join(text for _, text in line) for line in flows_watch.lines(watch.look(look(4), 2.0), idle=True)]
    assert told[0].endswith("1 flows, 1 busy, 0 idle")
    assert told[1].split()[:3] == ["2.0/s", "200", "B/s"]
    told = ["".join(text for _, text in line) for line in flows_watch.lines(watch.look(look(4), 9.0), idle=True)]
    assert told[0].endswith("1 flows, 0 busy, 1 idle")
    assert "idle 7 s" in told[1]


@pytest.mark.parametrize(("packets", "seconds", "words"), [
    (0, 240, "idle: no packet in 4 min"), (1, 3600, "1 packet, 100 B, on average 1/h"),
    (23_456, 10, "23,456 packets, 2.35 MB, on average 2,346/s")])
def test_counters_are_told_in_words(packets: int, seconds: int, words: str) -> None:
    (flow,) = flows_of(look(packets, seconds))
    assert flows_lines.counters(flow) == words


def test_no_part_of_a_mac_becomes_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    show_lines(["it lives at fa:16:3e:ab:13:54"])  # `:ab:` is the name of one
    assert capsys.readouterr().out == "it lives at fa:16:3e:ab:13:54\n"
