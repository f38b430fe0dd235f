"""A pulse in a running cloud: 1,000 packets a second over each of some ways, of which not one may be lost."""
from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from labkit import PATIENCE, Cloud

from controller.host import daemons
from controller.tools.nodes import directory

PULSE = Path(__file__).with_name("pulse.py")
RATE = 1000  # packets a second, on each way
Ways = tuple[tuple[str, str], ...]  # (VM, VM)

_FIRST = -20  # niceness

_ports = itertools.count(20000)


class Pulse:
    """A process that sends until it is stopped. The ways are established when it is made."""

    def __init__(self, cloud: Cloud, ways: Ways, rate: int = RATE) -> None:
        self.ways = ways
        for begin, end in ways:  # neighbours know each other, tunnels are learned
            assert cloud.pings(begin, str(cloud.port(end).ip)), f"{begin} does not reach {end}"
        words = [f"{cloud.pid(begin)},{cloud.pid(end)},{cloud.port(end).ip},{next(_ports)}" for begin, end in ways]
        self._process = subprocess.Popen([sys.executable, str(PULSE), str(rate), *words], stdout=subprocess.PIPE,
                                         start_new_session=True)
        _favour(self._process.pid, *(daemons.pid(directory(cloud.rundir) / host, program)
                                     for host in cloud.topology.hosts for program in daemons.PROGRAMS))
        self.beats(100)

    def beats(self, count: int) -> None:
        """Wait until so many more, in hundreds, have been sent on each way."""
        assert self._process.stdout
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + PATIENCE
        while select.select([descriptor], [], [], 0)[0] and os.read(descriptor, 1 << 16):
            pass  # of before
        while count > 0:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                pytest.fail("the pulse stands still")
            dots = os.read(descriptor, 1 << 16)
            assert dots, "the pulse has ended"
            count -= 100 * len(dots)

    def stop(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What has become of it: see pulse.py."""
        self._process.terminate()
        words = self._process.communicate(timeout=PATIENCE)[0]
        return dict(zip(self.ways, json.loads(words.splitlines()[-1]), strict=True))

    def close(self) -> None:
        """End it, if it has not been stopped."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()


def _favour(*pids: int | None) -> None:
    """What else this machine is busy with shall not be taken for the project's doing: a switch that is not let run for
    a quarter of a second loses packets, since its sockets hold no more; one whose database is not let run stands still
    with it. All threads: they wait for each other. Where sessions share out the processors, a session has its own
    niceness, see sched(7).
    """
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.setpriority(os.PRIO_PROCESS, int(thread), _FIRST)
            Path(f"/proc/{pid}/autogroup").write_text(str(_FIRST))


@contextlib.contextmanager
def pulse(cloud: Cloud, *ways: tuple[str, str], spared: bool = True) -> Iterator[Pulse]:
    """A pulse meanwhile. `spared`: at the end, nothing was lost and nothing came twice; a failure says when."""
    with contextlib.closing(Pulse(cloud, ways)) as made:
        yield made
        if spared:
            made.beats(100)
            found = made.stop()
            assert all(one["sent"] >= 300 for one in found.values()), found
            assert all((one["lost"], one["doubled"]) == (0, 0) for one in found.values()), found
