#!/usr/bin/env python3
"""`tunbridge run` of a topology that has been read before: `served.py PICKLE RUNDIR HOST...`.

Reading 100,000 VMs takes half a minute, and the measurements start the daemon many times. All else is the daemon's own.
"""
from __future__ import annotations

import pickle
import sys
from pathlib import Path

from controller.model.reading import Reading
from controller.tools import daemon, rundir, topologies


def main() -> None:
    """Until SIGTERM."""
    file, where, *hosts = sys.argv[1:]
    topology = pickle.loads(Path(file).read_bytes())
    topologies.read = lambda _: (topology, Reading(topology, ()))
    daemon.run(daemon.Options(file, rundir.Rundir(Path(where)), ("none",), tuple(hosts)))


if __name__ == "__main__":
    main()
