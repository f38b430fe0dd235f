#!/usr/bin/env python3
"""`tunbridge run` of a topology that has been read before: `served.py PICKLE RUNDIR HOST...`.

Reading 100,000 VMs takes half a minute, and the measurements start the daemon many times. All else is the daemon's own.
When it has the topology, and all that it imports, it logs `loaded`.
"""
from __future__ import annotations

import importlib
import os
import pickle
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path

from controller.model.reading import Reading
from controller.tools import daemon, rundir, topologies


def main() -> None:
    """Until SIGTERM."""
    file, where, *hosts = sys.argv[1:]
    os.environ["OSKEN_HUB_TYPE"] = "eventlet"
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    importlib.import_module("controller.switch.serving")
    topology = pickle.loads(Path(file).read_bytes())
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    print(f"{now}Z INFO loaded", file=sys.stderr, flush=True)
    topologies.read = lambda _: (topology, Reading(topology, ()))
    daemon.run(daemon.Options(file, rundir.Rundir(Path(where)), ("none",), tuple(hosts)))


if __name__ == "__main__":
    main()
