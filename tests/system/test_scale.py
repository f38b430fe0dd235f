"""A lab of twenty hypervisors and a hundred VMs, and its matrix. How long it takes is measured in bench/."""
from __future__ import annotations

import json
import runpy

import pytest
from labkit import ROOT, cloud, tunbridge

pytestmark = pytest.mark.system

of_size = runpy.run_path(str(ROOT / "bench" / "sizes.py"))["cloud"]


def test_twenty_hypervisors_and_a_hundred_vms_reach_whom_they_should(seed: int) -> None:
    with cloud(of_size(hosts=20, vms=100, networks=8)) as big:
        status = big.in_sync()
        assert len(status["switches"]) == 40
        assert status["ports"] == {"expected": 100, "present": 100, "missing": []}
        found = json.loads(tunbridge("lab", "reach", "--sample", "500", "--seed", str(seed), "--json",
                                     rundir=big.rundir).stdout)
        assert found["ok"]
        assert len(found["pairs"]) == 500
