"""`trace --dump` as a person runs it: what it prints, and how it ends."""
from __future__ import annotations

import json
from pathlib import Path

from tests.commands import ROOT, place, run

GOLDEN = ROOT / "tests" / "golden" / "neutron"
DUMPS = tuple(word for bridge in ("int", "tun") for word in ("--dump", str(GOLDEN / f"l2population-br-{bridge}.txt")))
NAMES = tuple(word for path in (*sorted(GOLDEN.glob("ov*-show*.txt")), GOLDEN / "openstack-port-list.json")
              for word in ("--names", str(path)))
ASKS = ("arp,arp_op=1,dl_src=fa:16:3e:00:00:11,dl_dst=ff:ff:ff:ff:ff:ff,arp_spa=10.0.1.11,arp_tpa=10.0.1.13,"
        "arp_sha=fa:16:3e:00:00:11")


def test_how_it_ends(tmp_path: Path) -> None:
    with place() as rundir:
        done = run("trace", *DUMPS, *NAMES, "web1", ASKS, "--json", rundir=rundir)
        assert (done.code, done.words, json.loads(done.out)["verdict"]) == (0, "", "answered")
        done = run("trace", *DUMPS, *NAMES, "web1", ASKS.replace("10.0.1.11", "10.0.1.99"), rundir=rundir)
        assert done.code == 1 and "dropped: by line" in done.out
        cut = tmp_path / "cut.txt"
        cut.write_text((GOLDEN / "plain-br-int.txt").read_text()[:4000])
        done = run("trace", "--dump", str(cut), "3", ASKS, rundir=rundir)
        assert done.code == 1 and "not known: the dump is cut in line" in done.out
        run("trace", *DUMPS, *NAMES, "wbe1", ASKS, rundir=rundir).refused(2, "did you mean 'web1'")
        run("trace", *DUMPS, "web1", ASKS, "--tcp", "80", rundir=rundir).refused(2, "--dump goes with --names")
        run("trace", *NAMES, "web1", ASKS, rundir=rundir).refused(2, "--dump FILE")
