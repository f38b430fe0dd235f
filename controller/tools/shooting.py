"""The packets of a journey, sent in a running lab by the VM that begins it, and heard wherever they pass."""
from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from controller.host import netns, sniffing
from controller.host.sniffing import Sniffers, Spot
from controller.model.topology import Address, Topology
from controller.tools import journey as kinds
from controller.tools.counted import Counts, Switches
from controller.tools.errors import MISSING, Refusal
from controller.tools.journey import Journey, Leg
from controller.tools.lookouts import Lookouts
from controller.tools.marked import Mark, Marked
from controller.tools.nodes import find, in_force, state
from controller.tools.services import Service
from flows import fields as f

_PATIENCE: Final = {kinds.QUESTION: 1.0, kinds.REQUEST: 2.0, kinds.BROADCAST: 0.3}  # seconds; an answer takes little
_LISTEN: Final = 0.3  # seconds, where no answer is to be expected
_GRACE: Final = 0.1  # seconds for copies that are still under way when it has come
_ANSWER: Final = {kinds.QUESTION: kinds.ANSWER, kinds.REQUEST: kinds.REPLY, kinds.BROADCAST: ""}

Place = tuple[str, str]  # host, bridge


@dataclass(frozen=True)
class Heard:
    """A packet of the trace at a device."""

    spot: Spot
    what: Marked
    milliseconds: float  # since the packet that began it was sent


@dataclass
class Record:
    """All that was observed of one journey."""

    heard: list[Heard] = field(default_factory=list)
    silent: dict[Spot, str] = field(default_factory=dict)  # a clause each
    before: dict[Place, Counts | None] = field(default_factory=dict)
    after: dict[Place, Counts | None] = field(default_factory=dict)


class Shooting:
    """One journey in one lab. Refusal if its source does not live."""

    def __init__(self, topology: Topology, rundir: Path, switches: Switches, journey: Journey) -> None:
        plan = in_force(rundir)
        world = plan.outside if plan else None
        plugs = {plug.mac: plug.interface for plug in world.plugs} if world else {}
        self._topology, self._switches, self._journey = topology, switches, journey
        self._source = next(port for port in topology.ports() if port.name == journey.source)
        find(rundir, self._source.vm)
        self.lookouts = Lookouts(topology, state(rundir), plugs, world.name if world else "")
        self.mark = Mark(secrets.randbits(32), self._source, self._asked(), self._service(),
                         journey.target == kinds.BROADCAST)

    def shoot(self, *, counting: bool = True) -> Record:
        """Send the packets of the source one after the other, and hear what becomes of them."""
        record = Record(before=self._counts() if counting else {})
        with Sniffers(self._spots()) as ears:
            record.silent = {one.spot: one.why for one in ears.silent}
            for leg in self._journey.legs:
                if leg.part in _PATIENCE and leg.hops:
                    self._send(leg, ears, record)
        record.after = self._counts() if counting else {}
        return record

    def _asked(self) -> Address:
        """Whose MAC the source asks for."""
        first = self._journey.legs[0].hops[0].wears
        told = first.shown(f.ARP_TPA) or first.shown(f.ND_TARGET)
        return ip_address(told) if told else self._source.ip

    def _service(self) -> Service:
        words = self._journey.service.split()
        return Service({"tcp": f.TCP, "udp": f.UDP}[words[0]], int(words[1])) if len(words) > 1 else Service()

    def _spots(self) -> Iterator[Spot]:
        """Every device of the way, and every VM: nobody else shall hear it."""
        for leg in self._journey.legs:
            for hop in leg.hops:
                before = leg.hops[hop.after] if hop.after is not None else None
                if (spot := self.lookouts.spot(hop, before)) is not None:
                    yield spot
        yield from (spot for port in self._topology.ports() if (spot := self.lookouts.vm(port)) is not None)

    def _counts(self) -> dict[Place, Counts | None]:
        places = list(dict.fromkeys((hop.host, hop.device) for hop in self._journey.hops if hop.kind == kinds.TABLE))
        hosts = dict.fromkeys(host for host, _ in places)
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._switches.settle, hosts))
            return dict(zip(places, pool.map(lambda place: self._switches.counts(*place), places), strict=True))

    def _send(self, leg: Leg, ears: Sniffers, record: Record) -> None:
        spot = self.lookouts.vm(self._source)
        if spot is None:
            raise Refusal(f"{self._source.vm} has died; `tunbridge lab up` makes it again.", MISSING)
        began = time.monotonic()
        try:
            sniffing.send(spot, self.mark.bytes_of(leg.hops[0].wears))
        except (OSError, netns.NamespaceError) as error:
            raise Refusal(f"Nothing can be sent from {spot.device} of {self._source.vm}: {error}; is it up? "
                          f"`tunbridge lab exec {self._source.vm} -- ip link` tells.", MISSING) from error
        for frame in ears.listen(_PATIENCE[leg.part] if leg.outcome != kinds.DROPPED else _LISTEN):
            if self._note(frame, began, record) == _ANSWER[leg.part] and frame.spot == spot:
                break
        for frame in ears.listen(_GRACE):
            self._note(frame, began, record)

    def _note(self, frame: sniffing.Frame, began: float, record: Record) -> str | None:
        what = self.mark.find(frame.data, frame.vlan)
        if what is None:
            return None
        record.heard.append(Heard(frame.spot, what, round((frame.seconds - began) * 1000, 2)))
        return what.part
