"""The pieces of bench/ that need no root: they run, and what they find is what they say."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def found(script: str, *options: str, into: Path) -> dict[str, list[float]]:
    done = subprocess.run([sys.executable, str(ROOT / "bench" / script), "--json", str(into), *options],
                          capture_output=True, text=True, timeout=120)
    assert into.exists(), done.stderr
    return {one["what"].strip(): one["runs"] for one in json.loads(into.read_text())["figures"]}


def test_fake_switches_are_all_in_sync_and_a_restart_tells_them_nothing_new(tmp_path: Path) -> None:
    figures = found("crowd.py", "--switches", "6", "--runs", "1", into=tmp_path / "crowd.json")
    assert figures["flows of the switch with the fewest"][0] > 50
    assert figures["flow-mods sent then"] == [0]


def test_a_vm_more_is_written_to_the_hosts_of_its_network_alone(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "bench" / "one_vm.py"), "--size", "600", "--edits", "2"],
                          capture_output=True, text=True, timeout=120)
    edits = json.loads(done.stdout)["edits"]
    assert all(21 <= edit["switches"] <= 24 for edit in edits), "br-tun of its 21 hosts, br-int where it lives"
