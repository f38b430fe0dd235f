"""What could not be done is kept where every tool finds it, until it is done."""
from __future__ import annotations

from pathlib import Path

from controller.tools import troubles
from controller.tools.troubles import Trouble

FOUND = (Trouble("c1", "port web1", "no memory"), Trouble("c1", "port web2", "no memory"),
         Trouble("n1", "router r1", "no memory"))


def test_the_lab_and_plumb_each_keep_their_own_and_a_convergence_without_any_takes_them_away(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    troubles.write_lab(tmp_path, FOUND[:1])
    troubles.write_plumb(tmp_path, FOUND[2:])
    assert [one["object"] for one in troubles.read(tmp_path)] == ["port web1", "router r1"]
    troubles.write_lab(tmp_path, ())
    troubles.write_plumb(tmp_path, ())
    assert troubles.read(tmp_path) == []


def test_no_run_directory_is_made_for_no_trouble(tmp_path: Path) -> None:
    troubles.write_plumb(tmp_path / "run", ())
    assert not (tmp_path / "run").exists() and troubles.read(tmp_path / "run") == []


def test_half_a_file_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "plumb-troubles.json").write_text('[{"host"')
    assert troubles.read(tmp_path) == []


def test_one_sentence_for_each_cause() -> None:
    ports, router = troubles.sentences(FOUND, "lab up")
    assert ports.startswith("The port web1, the port web2 are closed, all else stands: no memory; `tunbridge lab up`")
    assert router.startswith("The router r1 is not set up, all else stands: no memory")
