"""`tunbridge flows` as people run it: by line, by VM, again and again, and of switches that do not answer."""
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import ROOT, daemon, place, run

DEMO = ROOT / "topology.yaml"


@pytest.fixture(scope="module")
def rundir() -> Iterator[Path]:
    """A daemon with no switch."""
    with place() as made, daemon(made, DEMO):
        yield made


def test_what_switches_hold_that_are_not_there_is_not_known_and_said_so(rundir: Path) -> None:
    for words in (("flows",), ("flows", "compute1"), ("flows", "compute1/br-int"), ("flows", "--diff")):
        done = run(*words, rundir=rundir)
        done.refused(3, "What compute1/br-int holds is not known", "`tunbridge flows compute1/br-int --intended`")
        assert "compute1/br-int\n  compute1/br-int is not connected." in done.out
    found = json.loads(run("flows", "compute1", "--json", rundir=rundir).out)
    assert not found["ok"]
    assert [(one["connected"], bool(one["trouble"])) for one in found["bridges"]] == [(False, True), (False, True)]


def test_a_watch_goes_on_while_a_switch_is_away(rundir: Path) -> None:
    done = run("flows", "compute1/br-tun", "--watch", "--every", "0.2", "--count", "1", rundir=rundir)
    done.refused(3, "What compute1/br-tun holds is not known")
    assert done.out.count("compute1/br-tun: compute1/br-tun is not connected") == 2
    done = run("flows", "compute1/br-tun", "--watch", "--every", "0.2", "--count", "1", "--json", rundir=rundir)
    assert [json.loads(line)["bridges"][0]["connected"] for line in done.out.splitlines()] == [False, False]


def test_the_flows_of_a_line_and_of_a_vm(rundir: Path) -> None:
    by_line = run("flows", "--intended", "--from", "topology.yaml:74", rundir=rundir)
    by_path = run("flows", "--intended", "--from", "vms.web2", rundir=rundir)
    assert by_line.code == by_path.code == 0
    assert by_line.out == by_path.out
    assert "web2 is attached to blue  topology.yaml:74 vms.web2\n" in by_line.out
    by_vm = run("flows", "compute2", "--intended", "--vm", "web2", "--json", rundir=rundir)
    whys = {flow["why"] for bridge in json.loads(by_vm.out)["bridges"] for flow in bridge["flows"]}
    assert whys >= {"web2 is attached to blue", "broadcast and multicast go to all of blue, here and elsewhere"}
    assert not any("shop2" in why for why in whys)


@pytest.mark.parametrize(("words", "code", "said"), [
    ("--vm wbe2", 2, "did you mean web2?"), ("--from 3", 2, "nothing stands there"),
    ("--from 999", 2, "it has 85 lines"),
    ("--from gone.yaml:3", 3, "There is no file gone.yaml"), ("--from vms.gone", 1, "No flow has to do with vms.gone"),
    ("--from topology.yaml:64", 1, "rules are no flows"), ("--watch", 2, "what installed flows count"),
    ("--diff", 2, "Ask for one of")])
def test_what_cannot_be_asked_is_refused_with_its_cure(rundir: Path, words: str, code: int, said: str) -> None:
    run("flows", "--intended", *words.split(), rundir=rundir).refused(code, said)


def test_a_journey_becomes_a_page(rundir: Path, tmp_path: Path) -> None:
    file = tmp_path / "journey.html"
    done = run("trace", "web1", "store1", "--html", str(file), rundir=rundir)
    assert done.code == 0
    assert "delivered" in done.out
    assert file.read_text().startswith("<!DOCTYPE html>")
    done = run("trace", "web1", "web2", "--html", str(tmp_path), rundir=rundir)
    done.refused(2, "The page cannot be written", "Name another file")
