#!/usr/bin/env python3
"""`make bench`: every figure of "hitless and fast" in one run, side by side with its peers, with pass or FAIL.

Runs the other scripts one after the other, each in a process of its own, and writes all that they found to
bench/reach.json. What a peer needs is fetched by its script; a peer that cannot be had is skipped with a word. Needs
root, and an otherwise idle machine. `--quick` takes small sizes and one run each: to see that everything works, not for
figures. `--only NAME` runs some of them (repeatable) and keeps what reach.json has of the others.
"""
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from labs import ROOT, machine
from reports import Report, Verdict, from_json, say

RESULTS = ROOT / "bench" / "reach.json"
# Name -> (its options in full, and what --quick makes of them).
SCRIPTS: dict[str, tuple[list[str], list[str]]] = {
    "reconcile": ([], ["--flows", "2000", "--runs", "1"]),
    "native_driver": ([], ["--flows", "200", "--ours", "2000", "--runs", "1"]),
    "ovn": ([], ["--ports", "100", "--flows", "1000", "--runs", "1", "--plugs", "2"]),
    "plug": ([], ["--networks", "20", "--ports", "10"]),
    "one_vm": ([], ["--runs", "1", "--edits", "4"]),
    "crowd": ([], ["--switches", "20", "--runs", "1"]),
    "pipeline": ([], ["--runs", "1"]),
}


def run(name: str, options: list[str]) -> dict[str, Any]:
    """What a script found; a script that fails is a promise that was not kept."""
    say(f"{name} {' '.join(options)}")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as where:
        file = Path(where) / "found.json"
        subprocess.run([sys.executable, str(ROOT / "bench" / f"{name}.py"), "--json", str(file), *options],
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        if file.exists():
            found: dict[str, Any] = json.loads(file.read_text())
        else:
            found = Report(name, verdicts=[Verdict(name, "it failed; its last words are above", False)]).to_json()
    return {**found, "options": options, "seconds": round(time.monotonic() - start)}


def conclude(found: dict[str, dict[str, Any]], file: Path) -> bool:
    """Write and print all that was found; whether every promise was kept."""
    reports = [from_json(one) for one in found.values()]
    verdicts = [verdict for report in reports for verdict in report.verdicts]
    results = {"machine": machine(), "found": found, "verdicts": [vars(verdict) for verdict in verdicts]}
    file.write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(line for report in reports for line in report.lines()))
    print("\nall promises")
    print("\n".join(verdict.line() for verdict in verdicts))
    return not any(verdict.kept is False for verdict in verdicts)


def main() -> None:
    """Everything, a table at the end, and exit code 1 if a promise was not kept."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", choices=SCRIPTS)
    parser.add_argument("--json", type=Path, default=RESULTS)
    asked = parser.parse_args()
    kept = json.loads(asked.json.read_text())["found"] if asked.only and asked.json.exists() else {}
    found = {name: run(name, options[asked.quick]) if not asked.only or name in asked.only else kept.get(name, {})
             for name, options in SCRIPTS.items()}
    sys.exit(not conclude({name: one for name, one in found.items() if one}, asked.json))


if __name__ == "__main__":
    main()
