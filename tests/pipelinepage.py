"""docs/pipeline.md: every declared table, and what a real switch has in it, a sentence above each flow.

The dumps in golden/pipeline/ were printed by `ovs-ofctl dump-flows` and `ovs-ofctl show` on node1 of a lab of
docs/pipeline.yaml, after each VM had pinged another, so that learned flows are among them. Our cookies digest a flow's
content, so a dump that is not what we install today is found by its cookies (`stale`): make it again, then.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from controller.model import placement, reading
from controller.model.topology import Topology
from controller.tools.explain import Told, explain
from controller.tools.labels import Labels
from controller.tools.ours import Ours
from flows.compile import compile_host
from flows.cookie import cookie_of, is_compiled
from flows.tables import PIPELINES, Table, pipeline

ROOT = Path(__file__).resolve().parents[1]
DUMPS, CLOUD, HOST = ROOT / "tests" / "golden" / "pipeline", "docs/pipeline.yaml", "node1"
BRIDGES = (*PIPELINES, "br-ex")
INTRODUCTION = f"""\
# The pipelines, table by table

Written by `tests/pipelinepage.py` from the declared tables (`flows/tables.py`) and from what Open vSwitch printed on
{HOST} of [a small cloud]({Path(CLOUD).name}); a test keeps it current. Change a table or a flow, and make it again:
`UPDATE_GOLDEN=1 pytest tests/unit/test_docs.py`.

How to read it. A packet enters a bridge at table 0, goes from table to table as `goto_table` says, and in each the flow
with the highest priority that matches decides. Where no flow matches, the packet is dropped; we always say so by a flow
of priority 0, so that drops are counted. The line below a sentence is the flow as `ovs-ofctl dump-flows` prints it,
without its cookie, its counters and its age. Numbers are this host's own: VLAN 1 is blue and VLAN 2 is green here, and
port numbers are at the head of each bridge. `reg` numbers are ours: what they hold is in `flows/fields.py`.
"""


@cache
def cloud() -> Topology:
    found = reading.load(str(ROOT / CLOUD)).topology
    assert found is not None
    return found


@cache
def labels() -> Labels:
    found = Labels()
    for bridge in BRIDGES:
        found.read((DUMPS / f"{bridge}.show").read_text(), bridge)
    return found


@cache
def told(bridge: str) -> tuple[Told, ...]:
    """Every flow of a dump, explained."""
    ours = Ours(cloud(), CLOUD, labels())
    return tuple(explain((DUMPS / f"{bridge}.txt").read_text(), labels(), ours, bridge))


def stale(bridge: str) -> tuple[set[int], set[int]]:
    """The cookies that only the dump has, and those that only today's flows have."""
    printed = {int(one, 16) for one in re.findall(r"^ cookie=(0x\w+)", (DUMPS / f"{bridge}.txt").read_text(), re.M)}
    ports = {name: {device: int(number) for (at, number), device in labels().devices.items()
                    if at == name and number.isdigit()} for name in BRIDGES}
    seen = placement.Seen(ports, placement.imagined(cloud(), HOST).vlans)
    today = {cookie_of(flow) for flow in compile_host(placement.place(cloud(), HOST, seen))[bridge]}
    compiled = set(filter(is_compiled, printed))
    return compiled - today, today - compiled


def page() -> str:
    return "".join((INTRODUCTION, *(f"\n{line}" for bridge in BRIDGES for line in _bridge(bridge)), "\n"))


def _bridge(bridge: str) -> Iterator[str]:
    ports = ", ".join(f"{number} {device}" for (at, number), device in sorted(labels().devices.items()) if at == bridge)
    yield from (f"## {bridge}", "", f"Ports of {HOST}: {ports}.", "")
    for table in pipeline(bridge):
        yield from _table(bridge, table)


def _table(bridge: str, table: Table) -> Iterator[str]:
    yield from (f"### {bridge} {table.id}: {table.name}", "", f"**{table.question}**", "")
    matches = ", ".join(sorted(f"`{field.name}`" for field in table.matches))
    yield f"Looks at {matches or 'nothing'}; " + (
        f"leads to {', '.join(table.goes_to)}." if table.goes_to else "leads to no other table.")
    yield ""
    here = [one for one in told(bridge) if one.table == table.id]
    if not here:
        yield from ("This host has no flow in it: the cloud uses another type of tunnel.", "")
    for one in here:
        yield from _flow(one)


def _flow(one: Told) -> Iterator[str]:
    origin = one.origin.partition("  ")[0].rpartition("/")[2]
    yield f"- {one.sentence}" + (f" *({origin})*" if origin else "")
    yield from ("", "  ```", f"  {one.text[one.text.index('priority='):]}", "  ```", "")
