"""Every mistake has its text: one file of tests/errors and the exact words it is answered with.

After a change of words: UPDATE_GOLDEN=1 pytest tests/unit/test_check_golden.py, and read the difference.
"""
from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from controller.model import check_limits, numbers, reading
from controller.model.bounds import MAX_BYTES
from controller.model.problems import CODES, ERROR, Problem, render, to_json
from controller.model.reading import Reading

ERRORS = Path(__file__).parents[1] / "errors"


def too_many_networks() -> bytes:
    """One host with 4095 networks, one more than there are local VLANs."""
    numbers = range(1, 4096)
    networks = "".join(f"  n{n}: {{tunnel_id: {n}, subnets: {{s{n}: {{cidr: 10.0.0.0/24}}}}}}\n" for n in numbers)
    vms = "".join(f"  v{n}: {{host: compute1, network: n{n}}}\n" for n in numbers)
    head = "cloud: test\nunderlay: {cidr: 192.0.2.0/24}\nhosts:\n  compute1: {tunnel_ip: 192.0.2.11}\n"
    return f"{head}networks:\n{networks}vms:\n{vms}".encode()


FEW_ROUTERS = 20  # instead of 16384, whose file takes long to read


def too_many_routers() -> bytes:
    """One host with one simulated router more than there are zones for, where there are few of these."""
    networks = "  n0: {tunnel_id: 1, subnets: {s0: {cidr: 10.0.0.0/16}}}\n"
    routers = "".join(f"  r{n}: {{host: network1, interfaces: [{{subnet: s0, ip: 10.0.9.{n + 1}}}]}}\n"
                      for n in range(FEW_ROUTERS + 1))
    head = "cloud: test\nunderlay: {cidr: 192.0.2.0/24}\nhosts:\n  network1: {tunnel_ip: 192.0.2.11, role: network}\n"
    return f"{head}networks:\n{networks}routers:\n{routers}".encode()


FEW_ZONES = 3  # instead of 32767


def too_many_filtered_ports() -> bytes:
    """One host with one more port in a group than there are zones for, where there are few of these."""
    networks = "  n0: {tunnel_id: 1, subnets: {s0: {cidr: 10.0.0.0/16}}}\n"
    vms = "".join(f"  v{n}: {{host: compute1, network: n0, security_groups: [web]}}\n" for n in range(FEW_ZONES + 1))
    groups = "security_groups: {web: [{direction: ingress, protocol: tcp}]}\n"
    head = "cloud: test\nunderlay: {cidr: 192.0.2.0/24}\nhosts:\n  compute1: {tunnel_ip: 192.0.2.11}\n"
    return f"{head}networks:\n{networks}{groups}vms:\n{vms}".encode()


def too_many_to_flood() -> bytes:
    """The same with the other driver, for which too many of one network are the first limit."""
    return b"firewall: openvswitch\n" + too_many_filtered_ports()


def too_big() -> bytes:
    return b"#" * (MAX_BYTES + 1)


# Cases that are too large to keep as files, by the name of their text.
MADE = {"exhausted-vlans": too_many_networks, "exhausted-routers": too_many_routers,
        "exhausted-zones": too_many_filtered_ports, "exhausted-flood": too_many_to_flood, "yaml-too-big": too_big}
CASES = [*sorted(path.stem for path in ERRORS.glob("*.yaml")), *MADE]


def read(case: str) -> Reading:
    """The reading of a case; its file is called by its base name."""
    content = MADE[case]() if case in MADE else (ERRORS / f"{case}.yaml").read_bytes()
    return reading.parse(content, f"{case}.yaml")


def assert_golden(path: Path, text: str) -> None:
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_answered_with_the_exact_words(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "exhausted-routers":
        monkeypatch.setattr(numbers, "ROUTERS", FEW_ROUTERS)
    if case == "exhausted-flood":
        monkeypatch.setattr(check_limits, "FLOODED", FEW_ZONES)
    if case == "exhausted-zones":
        monkeypatch.setattr(numbers, "PORT_ZONES", FEW_ZONES)
    found = read(case)
    assert (found.topology is None) == any(problem.severity == ERROR for problem in found.problems)
    assert found.problems
    assert_golden(ERRORS / f"{case}.txt", render(found.problems))


@pytest.mark.parametrize("code", sorted(set(CODES) - {reading.UNREADABLE}))
def test_every_code_has_a_case(code: str) -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in ERRORS.glob("*.txt"))
    assert re.search(rf"^\S+:\d+:\d+: {code} ", texts, re.MULTILINE)


def test_every_text_belongs_to_a_case() -> None:
    assert sorted(path.stem for path in ERRORS.glob("*.txt")) == sorted(CASES)


def test_json_says_the_same_as_the_text() -> None:
    found = read("everything-at-once")
    value = json.loads(json.dumps(to_json(found.problems, "everything-at-once.yaml")))
    assert value["ok"] is False
    assert value["file"] == "everything-at-once.yaml"
    pairs = zip(value["problems"], found.problems, strict=True)
    again = tuple(Problem(**each, excerpt=of.excerpt) for each, of in pairs)
    assert render(again) == render(found.problems)


def test_json_of_a_file_with_warnings_only_is_ok() -> None:
    found = read("warning-unused-networks")
    value = to_json(found.problems, "f")
    assert value["ok"] is True
    assert {each["severity"] for each in value["problems"]} == {"warning"}


def test_a_missing_file_is_a_problem_that_names_the_cure(tmp_path: Path) -> None:
    found = reading.load(tmp_path / "nowhere.yaml")
    (problem,) = found.problems
    assert (found.topology, problem.code, problem.line, problem.column) == (None, reading.UNREADABLE, 1, 1)
    assert "no such file" in problem.message
    assert problem.hint


@pytest.mark.parametrize("name", [".", "\0", "x" * 5000])
def test_a_path_that_cannot_be_read_is_a_problem(tmp_path: Path, name: str) -> None:
    (problem,) = reading.load(f"{tmp_path}/{name}").problems
    assert problem.code == reading.UNREADABLE
    assert "cannot be read" in problem.message


def test_a_long_line_is_cut_around_the_column() -> None:
    text = f"cloud: test\nvms: {{{'a' * 500}: 1, b\x01: 2}}\n"
    (problem,) = reading.parse(text, "f").problems
    _, line, caret, *_ = str(problem).splitlines()
    assert len(line) <= 124
    assert problem.column > 500
    assert line[caret.index("^") - 1] == "b"
