"""The documents say what the code does: generated parts are current, named files exist."""
from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from controller.model.problems import CODES, RETIRED
from flows.tables import PIPELINES, TUNNEL_TO_VLAN, pipeline
from tests import pipelinepage

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- tables: written by tests/unit/test_docs.py with UPDATE_GOLDEN=1 -->\n", "<!-- end of tables -->"


def table_list() -> str:
    """README's list of tables, from their declaration."""
    lines = ["| bridge | table | name | asks | leads to |", "|---|---|---|---|---|"]
    for bridge in (*PIPELINES, "br-ex"):
        for table in pipeline(bridge):
            lines.append(f"| {bridge} | {table.id} | {table.name} | {table.question} | {', '.join(table.goes_to)} |")
    return "\n".join(lines) + "\n"


def problem_list() -> str:
    """docs/problems.md, from the codes."""
    lines = ["# What `tunbridge check` can find", "",
             "Codes are stable. 6xx are warnings; every other one makes the file invalid.", "",
             "| code | what |", "|---|---|"]
    lines += [f"| {code} | {title} |" for code, title in sorted(CODES.items())]
    lines += ["", "Retired, and never given out again: " + "; ".join(
        f"{code} ({what})" for code, what in sorted(RETIRED.items())) + "."]
    return "\n".join(lines) + "\n"


def current(path: Path, text: str) -> bool:
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    return path.exists() and path.read_text() == text


def test_readme_lists_the_tables_as_they_are_declared() -> None:
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    assert current(readme, before + BEGIN + table_list() + END + after)


def test_the_list_of_problems_is_current() -> None:
    assert current(ROOT / "docs" / "problems.md", problem_list())


def test_the_page_of_the_pipelines_is_current() -> None:
    assert current(ROOT / "docs" / "pipeline.md", pipelinepage.page())


@pytest.mark.parametrize("bridge", pipelinepage.BRIDGES)
def test_the_dumps_of_that_page_are_what_is_installed_today_and_every_flow_is_explained(bridge: str) -> None:
    assert pipelinepage.stale(bridge) == (set(), set())
    assert [one.text for one in pipelinepage.told(bridge) if not one.known] == []
    unused = {TUNNEL_TO_VLAN[kind].id for kind in ("gre", "geneve")} if bridge == "br-tun" else set()
    assert {one.table for one in pipelinepage.told(bridge)} == {table.id for table in pipeline(bridge)} - unused


def test_every_file_that_the_documents_name_exists() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "bench").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name} names {target}"


def test_the_documents_name_every_command() -> None:
    from controller.tools.cli import app, lab

    readme = (ROOT / "README.md").read_text()
    for typer_app, prefix in ((app, ""), (lab, "lab ")):
        for command in typer_app.registered_commands:
            assert command.callback
            name = command.name or command.callback.__name__
            assert f"tunbridge {prefix}{name}" in readme or f"`{name}`" in readme, name
