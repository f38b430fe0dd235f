"""`tunbridge why-not` as a process: its page, its exit codes."""
from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests import transcripts
from tests.commands import ROOT, run


def test_the_page_shows_what_its_commands_print() -> None:
    text = (ROOT / "docs" / "why-not.md").read_text()
    assert transcripts.differing(text, transcripts.renew(text, os.environ)) == []


@pytest.mark.parametrize(("words", "code"), [("web1 db1 --tcp 5432", 0), ("web1 db1 --tcp 5433", 1)])
def test_the_exit_code_tells_whether_it_is_delivered(tmp_path: Path, words: str, code: int) -> None:
    done = run("why-not", *words.split(), "--json", rundir=tmp_path)
    assert done.code == code, done.words
    assert json.loads(done.out)["delivered"] == (code == 0)


@pytest.mark.parametrize("words", ["web1", "web1 db1 --tcp 1 --udp 1", "web1 db1 --tcp 0", "web9 db1"])
def test_wrong_usage_is_told(tmp_path: Path, words: str) -> None:
    run("why-not", *words.split(), rundir=tmp_path).refused(2)
