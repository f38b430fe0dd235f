"""A journey's page: whole without a network, readable without a script, and every hop of it on both maps."""
from __future__ import annotations

import configparser
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from controller.model import reading
from controller.model.topology import Topology
from controller.tools import page, trace
from controller.tools.errors import Refusal
from controller.tools.page_map import Map
from tests.wideclouds import wide

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]
VOID = {"meta", "link", "input", "br", "rect", "circle", "path"}
DEMO = reading.load(str(ROOT / "topology.yaml")).topology
assert DEMO
JOURNEYS = {"near": ("web1", "web2", 2), "same-host": ("web1", "db1", 1), "simulated": ("web1", "store1", 1),
            "namespace": ("shop1", "vault1", 1), "outside": ("web1", "internet", 1), "tree": ("web1", "broadcast", 1),
            "dropped": ("web1", "monitor1", 1), "floating": ("db1", "203.0.113.50", 1)}


class Read(HTMLParser):
    """What is in a page; that every element is closed, in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.keys: dict[str, set[str]] = {}
        self.text = ""
        self._map = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.ids += [found["id"]] if found.get("id") else []
        self.links += [str(found[name]) for name in ("src", "href", "action", "data", "poster") if name in found]
        if tag == "svg":
            self._map = str(found["class"]).split()[-1]
        if found.get("data-key"):
            self.keys.setdefault(self._map, set()).add(str(found["data-key"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" not in self.open and "style" not in self.open:
            self.text += data


def document(topology: Topology, source: str, target: str, packets: int = 1) -> Json:
    """A journey's JSON as `--json` prints it."""
    found: Json = json.loads(json.dumps(trace.trace(topology, source, target, packets=packets).document()))
    return found


def data_of(text: str) -> Json:
    """What the script is given."""
    found: Json = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[0])
    return found


@pytest.fixture(scope="module", params=JOURNEYS)
def told(request: pytest.FixtureRequest) -> tuple[Json, str]:
    assert DEMO
    found = document(DEMO, *JOURNEYS[request.param])
    return found, page.page(found, DEMO)


def test_a_page_needs_nothing_but_itself(told: tuple[Json, str]) -> None:
    read = Read(told[1])
    assert read.links == ["data:,"]
    assert "default-src 'none'" in told[1]
    assert not re.search(r"@import|url\(|https?:|fetch\(|XMLHttpRequest|import\(", told[1])


def test_every_hop_can_be_read_without_a_script(told: tuple[Json, str]) -> None:
    found, text = told
    read = Read(text)
    assert [one for one in read.ids if one.startswith("hop-")] == [f"hop-{hop['number']}" for hop in found["hops"]]
    assert len(read.ids) == len(set(read.ids))
    for hop in found["hops"]:
        changed = (change["after"] for change in hop["changes"] if change["after"])
        for word in (hop["why"], hop["flow"] or "", *map(str, changed)):
            assert word in read.text
    assert all(leg["title"] in read.text for leg in found["legs"])


def test_every_hop_is_on_both_maps_at_something_that_is_drawn(told: tuple[Json, str]) -> None:
    found, text = told
    read, points = Read(text), data_of(text)["points"]
    for kind in ("wide", "narrow"):
        width, height = map(float, re.findall(rf'class="map {kind}" viewBox="0 0 (\S+) (\S+)"', text)[0])
        assert len(points[kind]) == len(found["hops"])
        for hop, point in zip(found["hops"], points[kind], strict=True):
            assert point is not None, hop
            assert point[2] in read.keys[kind], hop
            assert 0 < point[0] < width, hop
            assert 0 < point[1] < height, hop


def test_a_simulated_router_is_a_place_of_its_own() -> None:
    assert DEMO
    found = document(DEMO, "web1", "store1")
    points = data_of(page.page(found, DEMO))["points"]["wide"]
    at_router = {hop["table"] for hop, point in zip(found["hops"], points, strict=True)
                 if point[2] == "network1/router r1"}
    assert at_router >= {"router", "route", "next-hop", "leave"}
    assert "deliver" not in at_router


def test_a_journey_without_hops_is_a_page_all_the_same() -> None:
    assert DEMO
    read = Read(page.page(document(DEMO, "web1", "web1"), DEMO))
    assert "talks to itself" in read.text


def test_words_are_words_and_no_markup() -> None:
    assert DEMO
    found = document(DEMO, "web1", "web2")
    evil = "</script><script>alert(1)</script><img src=x>&amp;"
    found["reason"] = found["legs"][0]["title"] = found["hops"][3]["why"] = evil
    found["hops"][3]["headers"]["vlan"] = evil
    text = page.page(found, replace(DEMO, cloud=evil))
    assert "<script>alert" not in text
    assert "<img" not in text
    assert evil in Read(text).text
    assert data_of(text)["hops"][3]["headers"]["vlan"] == evil


def test_what_was_observed_stands_beside_what_was_computed() -> None:
    assert DEMO
    found = document(DEMO, "web1", "web2")
    found["live"] = {"agrees": False, "differs": ["web2 did not get it"], "unknown": ["compute2 does not answer"]}
    found["hops"][0]["observed"] = {"seen": True, "how": "captured", "note": None, "milliseconds": 1.25}
    found["hops"][1]["observed"] = {"seen": False, "note": "nothing came"}
    found["hops"][2]["observed"] = {"seen": None, "note": "nothing can look there"}
    read = Read(page.page(found, DEMO))
    for words in ("web2 did not get it.", "compute2 does not answer.", "not seen", "nothing can look there",
                  "captured, after 1.25 ms"):
        assert words in read.text


def test_of_a_large_cloud_only_what_the_packet_concerns_is_drawn() -> None:
    cloud = wide(60, 240, firewall="iptables_hybrid", forwarding="learning")
    found = document(cloud, "vm0", "broadcast")
    for narrow in (False, True):
        drawn = Map(cloud, found, narrow=narrow).drawn()
        assert drawn.svg.count('class="host"') == 20
        assert "There are 40 hosts more." in drawn.svg


def test_a_page_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    assert DEMO
    with pytest.raises(Refusal, match="cannot be written"):
        page.write(document(DEMO, "web1", "web1"), DEMO, str(tmp_path / "no" / "page.html"))


def test_what_the_page_is_made_of_is_in_the_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = (ROOT / "controller/tools").glob(config["options.package_data"]["controller.tools"])
    assert {path.name for path in listed} == {"page.html", "page.css", "page.js"}
