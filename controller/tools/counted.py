"""What the switches of a lab say of themselves: numbers of ports, and how often each flow was hit."""
from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from controller.host import outside
from controller.model import names, placement
from controller.model.placement import Seen
from controller.model.topology import Topology
from controller.tools import lab
from controller.tools.errors import MISSING, Refusal
from flows import fields as f
from flows.cookie import LEARNED_COOKIE, cookie_of
from flows.flow import Flow
from flows.text import line

_PATIENCE: Final = 3.0  # seconds for a switch to answer
_ROW: Final = re.compile(r"cookie=(0x[0-9a-f]+),.*? table=(\d+),.*? n_packets=(\d+),")
_MAC: Final = re.compile(r"dl_dst=([0-9a-f:]{17})(?:,\S*)? actions=")
_KIND_BITS: Final = 48
Key = tuple[int, int, str]  # table, cookie, and of a learned flow the MAC
Counts = Mapping[Key, int]


class Mute(Exception):
    """A switch that does not answer; str() is a sentence."""


@dataclass
class Switches:
    """The switches of a lab's hosts; who has not answered once is not asked again."""

    topology: Topology
    rundir: Path
    mute: dict[str, str] = field(default_factory=dict)  # host -> sentence

    def seen(self, host: str, vlans: Mapping[str, int]) -> Seen | None:
        """The numbers of a host's ports, beside those VLANs; None if nobody answers."""
        argv = ("ovs-vsctl", "--timeout=3", "--format=json", "--columns=name,ofport", "list", "Interface")
        text = self._ask(host, argv)
        if text is None:
            return None
        numbers = {row[0]: row[1] for row in json.loads(text)["data"] if isinstance(row[1], int) and row[1] > 0}
        imagined = placement.imagined(self.topology, host)
        found = {bridge: {device: numbers[device] for device in devices if device in numbers}
                 for bridge, devices in imagined.ports.items()}
        for physical, bridge in self.topology.hosts[host].bridge_mappings.items():
            card = outside.card(self.topology, physical)
            mine = names.phy_device(bridge), card
            found[bridge] = {device: numbers[device] for device in mine if device in numbers}
        return Seen(found, vlans)

    def settle(self, host: str) -> None:
        """Wait until the flows have counted what has passed."""
        self._ask(host, ("ovs-appctl", "--timeout=3", "revalidator/wait"))

    def counts(self, host: str, bridge: str) -> Counts | None:
        """How many packets each flow has taken; None if nobody answers."""
        text = self._ask(host, ("ovs-ofctl", "--timeout=3", "-O", "OpenFlow14", "--no-names", "dump-flows", bridge))
        return None if text is None else _counts(text)

    def _ask(self, host: str, argv: tuple[str, ...]) -> str | None:
        if host in self.mute:
            return None
        try:
            return _run(self.rundir, host, argv)
        except Mute as reason:
            self.mute[host] = str(reason)
            return None


def key_of(flow: Flow) -> Key:
    """How a flow is known again in a dump."""
    if flow.origin == "learned":
        mac = flow.match[f.ETH_DST]
        return flow.table.id, LEARNED_COOKIE >> _KIND_BITS, f.ETH_DST.show(mac.value) if mac else line(flow)
    return flow.table.id, cookie_of(flow), ""


def _counts(text: str) -> Counts:
    found: dict[Key, int] = {}
    for row in text.splitlines():
        if read := _ROW.search(row):
            cookie, table, packets = int(read[1], 16), int(read[2]), int(read[3])
            is_learned = cookie >> _KIND_BITS == LEARNED_COOKIE >> _KIND_BITS
            mac = _MAC.search(row)
            key = (table, cookie >> _KIND_BITS, mac[1] if mac else "") if is_learned else (table, cookie, "")
            found[key] = found.get(key, 0) + packets
    return found


def _run(rundir: Path, host: str, argv: tuple[str, ...]) -> str:
    command, environment = lab.exec_argv(rundir, host, argv)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2 * _PATIENCE,
                              stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        raise Mute(f"Open vSwitch of {host} does not answer `{argv[0]}`") from None
    except FileNotFoundError as error:
        raise Refusal(f"There is no command {error.filename!r} on this machine; install openvswitch-switch.",
                      MISSING) from error
    if done.returncode < 0:  # its own --timeout
        raise Mute(f"Open vSwitch of {host} does not answer `{argv[0]}`")
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Mute(f"Open vSwitch of {host} does not answer `{argv[0]}`: {said[-1] if said else 'it says nothing'}")
    return done.stdout
