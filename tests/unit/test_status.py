"""What `tunbridge status` says of the whole: a port that is closed is no less out of order than a missing flow."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller.tools import status
from controller.tools.rundir import Rundir

TROUBLE = {"host": "c1", "object": "port web1", "problem": "no memory"}


def told(*, ok: bool, troubles: list[dict[str, str]]) -> dict[str, Any]:
    """A daemon's answer of a cloud without switches."""
    none: dict[str, Any] = {"expected": 0, "present": 0, "missing": []}
    return {"ok": ok, "topology": "topology.yaml", "listening": ["here"], "switches": [], "ports": none,
            "router_ports": none, "dhcp_ports": none, "troubles": troubles, "routers_failed": [], "strangers": [],
            "refusals": 0, "errors": 0, "last_apply": None}


@pytest.mark.parametrize(("in_sync", "troubles", "ok", "words"), [
    (True, [], True, "[green]in sync[/green]"),
    (True, [TROUBLE], False, "[red]in sync, but not all is set up[/red]"),
    (False, [], False, "[red]not in sync[/red]"),
    (False, [TROUBLE], False, "[red]not in sync[/red]")])
def test_all_is_well_only_if_the_switches_are_in_sync_and_nothing_is_closed(
        in_sync: bool, troubles: list[dict[str, str]], ok: bool, words: str, tmp_path: Path) -> None:
    found = status.with_dead(told(ok=in_sync, troubles=troubles), Rundir(tmp_path))
    assert (found["ok"], found["in_sync"]) == (ok, in_sync)
    assert list(status.lines(found))[-1] == words
