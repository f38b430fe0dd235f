"""Every golden topology has its flow tables: one file of tests/golden and the exact text of what it compiles to.

After a change of flows: UPDATE_GOLDEN=1 pytest tests/unit/test_flows_golden.py, and read the difference like the
engineer who will be called at night because of it.
"""
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from controller.model import placement, reading
from controller.model.topology import Topology
from flows.cookie import cookie_of
from flows.tables import pipeline
from flows.text import line
from tests.clouds import CASES, GOLDEN, ROOT, golden, tables


def text(cloud: Topology) -> Iterator[str]:
    """Per host and bridge: its ports, then each flow in one line with its reason in the next."""
    for host in cloud.hosts:
        seen = placement.imagined(cloud, host)
        for bridge, flows in tables(cloud, host).items():
            yield f"== {host}/{bridge} =="
            yield from (f"# port {ofport}: {device}" for device, ofport in seen.ports[bridge].items())
            for flow in flows:
                yield f"cookie={cookie_of(flow):#x}, {line(flow)}"
                yield f"    # {flow.why} [{flow.origin}]"
            yield ""


@pytest.mark.parametrize("case", CASES)
def test_a_topology_gives_exactly_these_tables(case: str) -> None:
    path = GOLDEN / f"{case}.flows"
    found = "\n".join(text(golden(case)))
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def test_every_text_belongs_to_a_topology() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.flows")) == CASES
    assert len(CASES) >= 12


@pytest.mark.parametrize("case", CASES)
def test_a_topology_is_read_without_an_error(case: str) -> None:
    assert not [problem for problem in reading.load(GOLDEN / f"{case}.yaml").problems if problem.severity == "error"]


def test_every_table_but_the_other_tunnels_has_a_flow_in_every_case() -> None:
    for case in CASES:
        cloud = golden(case)
        for host in cloud.hosts:
            for bridge, flows in tables(cloud, host).items():
                used = {flow.table.name for flow in flows}
                spare = {"gre-to-vlan", "vxlan-to-vlan", "geneve-to-vlan"} - {f"{cloud.tunnel.type}-to-vlan"}
                if not cloud.arp_responder:
                    spare.add("arp-responder")
                assert used == {table.name for table in pipeline(bridge)} - spare


def test_the_hash_seed_changes_no_byte() -> None:
    """A set or a dict that leaks its order into a flow would show here."""
    program = ("import sys; sys.path.insert(0, '.'); "
               "from tests.unit.test_flows_golden import CASES, golden, text; "
               "sys.stdout.writelines(line + '\\n' for case in CASES for line in text(golden(case)))")
    outputs = {subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True,
                              env={**os.environ, "PYTHONHASHSEED": hash_seed}).stdout
               for hash_seed in ("1", "random")}
    assert len(outputs) == 1
    assert outputs.pop().count(b"cookie=") > 500
