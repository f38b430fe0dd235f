"""A planted fault of each kind is found: as what it is, with the flow that is to blame, and a packet that shows it."""
from __future__ import annotations

import pytest

from controller.tools.verify import prove
from controller.tools.verify_findings import KINDS
from tests.breaches import CASES, INTACT, Case


@pytest.mark.parametrize("case", INTACT, ids=lambda case: case.name)
def test_a_sound_cloud_is_proven(case: Case) -> None:
    ground = case.ground()
    report = prove(ground.laid, {key: tuple(rows) for key, rows in ground.flows.items()})
    assert report.ok, [one.document() for one in report.breaches]
    assert report.reaching


@pytest.mark.parametrize("name", CASES)
def test_a_planted_fault_is_found_with_the_flow_to_blame(name: str) -> None:
    case = CASES[name]
    ground = case.ground()
    host, culprit = case.plant(ground)
    flows = {key: tuple(rows) for key, rows in ground.flows.items()}
    report = prove(ground.laid, flows, case.intended)
    assert case.kinds <= {one.kind for one in report.breaches}
    assert {one.kind for one in report.breaches} <= {*KINDS}
    blamed = [one for one in report.breaches if one.kind in case.kinds and one.confirmed and one.blame is not None
              and one.blame.flow == culprit and host in ("", one.blame.host)]
    assert blamed, [one.document() for one in report.breaches]
