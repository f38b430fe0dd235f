"""A probe over a way that works: what is lost on it while something else happens, and the longest gap."""
from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labs import ROOT, TUNBRIDGE, environment

RATE = 1000  # packets a second
PROBE = str(ROOT / "bench" / "probe.py")
PATIENCE = 30
LEAD = 0.3  # seconds of packets before whatever is watched, and after it


@dataclass
class Heard:
    """What a probe has found, once its block has ended."""

    sent: int = 0
    lost: int = 0
    twice: int = 0
    gap: float = 0.0  # ms, the longest between two arrivals
    pause: float = 0.0  # ms, the sender's own longest
    gaps: list[tuple[float, float]] = field(default_factory=list)  # the worst ones: ms, and the second it began

    def words(self) -> str:
        return f"{self.lost} of {self.sent} lost, longest gap {self.gap:.1f} ms"


@dataclass(frozen=True)
class Ends:
    """How to run a command at either end, and the receiver's address."""

    sender: Sequence[str]
    receiver: Sequence[str]
    address: str
    environment: dict[str, str] | None = None


def in_lab(where: Path, source: str, target: str, address: str) -> Ends:
    """From a VM of the lab to another."""
    room = (*TUNBRIDGE, "lab", "exec")
    return Ends((*room, source, "--"), (*room, target, "--"), address, environment(where))


@contextlib.contextmanager
def probe(ends: Ends) -> Iterator[Heard]:
    """Packets flow while the block runs."""
    heard = Heard()
    receiver = _start(ends.receiver, "receive", environment=ends.environment)
    sender = _start(ends.sender, "send", ends.address, str(RATE), environment=ends.environment)
    time.sleep(LEAD)
    try:
        yield heard
        time.sleep(LEAD)
    finally:
        sent, _ = sender.communicate(timeout=PATIENCE)
        came, _ = receiver.communicate(timeout=PATIENCE)
    said, told = json.loads(sent), json.loads(came)
    heard.sent, heard.pause = said["sent"], said["pause"]
    heard.lost, heard.twice, heard.gaps = heard.sent - told["received"], told["twice"], told["gaps"]
    heard.gap = heard.gaps[0][0] if heard.gaps else float("inf")


def _start(room: Sequence[str], *words: str, environment: dict[str, str] | None) -> subprocess.Popen[str]:
    made = subprocess.Popen([*room, sys.executable, PROBE, *words], env=environment, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)
    assert made.stdout
    if made.stdout.readline() != "ready\n":
        sys.exit(f"the probe does not {words[0]}")
    return made
