"""What was observed beside what was computed: hop by hop, and in sentences where the two differ."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from controller.host.sniffing import Spot
from controller.model.topology import Topology
from controller.tools import journey as kinds
from controller.tools.counted import key_of
from controller.tools.headers import WORDS, headers
from controller.tools.journey import Hop, Journey, Leg, Observed
from controller.tools.lookouts import Lookouts
from controller.tools.marked import Marked
from controller.tools.shooting import Heard, Record
from flows.cookie import is_compiled

_CAPTURED, _COUNTED, _HIDDEN = "captured", "counted", "hidden"
_TOLD: Final = (kinds.QUESTION, kinds.REQUEST, kinds.BROADCAST)  # parts that nobody else shall hear


class Beside:
    """One journey and its record."""

    def __init__(self, topology: Topology, lookouts: Lookouts, journey: Journey, record: Record) -> None:
        self._topology, self._lookouts, self._journey, self._record = topology, lookouts, journey, record
        self._differs: list[str] = []

    def leg(self, leg: Leg) -> Leg:
        """A leg with what was observed at each of its hops."""
        hops = [replace(hop, observed=self._observed(leg, hop)) for hop in leg.hops]
        heard_later = _passed(hops)
        for place, hop in enumerate(hops):
            seen = hop.observed
            if seen and seen.how == _COUNTED and seen.seen is False and place in heard_later:
                hops[place] = replace(hop, observed=Observed(None, _COUNTED, "not counted here: another flow took it"))
        self._tell(leg, hops)
        return replace(leg, hops=tuple(hops))

    def sentences(self) -> tuple[str, ...]:
        """What is not as computed, of all legs that were asked about, and who heard what nobody shall."""
        return tuple(dict.fromkeys((*self._differs, *self._leaks())))

    # ---- hops

    def _observed(self, leg: Leg, hop: Hop) -> Observed:
        if hop.kind == kinds.TABLE:
            return self._counted(hop)
        before = leg.hops[hop.after] if hop.after is not None else None
        spot = self._lookouts.spot(hop, before)
        if spot is None:
            return Observed(None, _HIDDEN, self._lookouts.hidden(hop))
        if spot in self._record.silent:
            why = self._record.silent[spot]
            self._differs.append(f"{spot.device} {_on(hop)} {why}.")
            return Observed(None, _HIDDEN, f"{spot.device} {why}")
        heard = [one for one in self._record.heard if one.spot == spot and one.what.part == leg.part
                 and self._fits(hop, before, one.what)]
        refused = leg.outcome == kinds.DROPPED and hop is leg.hops[-1] and before and before.kind == kinds.QBR
        if refused and heard:
            self._differs.append(f"{leg.title}: it is heard at {hop.device} {_on(hop)}, where it shall be refused.")
        if refused and not heard:
            return Observed(None, _HIDDEN, "refused before it, as computed")
        return self._captured(leg, hop, heard) if heard else Observed(False, _CAPTURED)

    def _counted(self, hop: Hop) -> Observed:
        place = hop.host, hop.device
        if place not in self._record.before:
            return Observed(None, _HIDDEN, "its flows were not asked")
        before, after = self._record.before[place], self._record.after[place]
        if before is None or after is None:
            return Observed(None, _HIDDEN, f"Open vSwitch of {hop.host} does not answer")
        if hop.said is None or hop.said.row is None:
            return Observed(None, _HIDDEN, "what no flow matches is not counted")
        key = key_of(hop.said.row.flow)
        more = after.get(key, 0) - before.get(key, 0)
        return Observed(True, _COUNTED, f"+{more}") if more > 0 else Observed(False, _COUNTED)

    def _fits(self, hop: Hop, before: Hop | None, what: Marked) -> bool:
        """Whether a frame on the underlay is between these two hosts."""
        if hop.kind not in (kinds.TUNNEL, kinds.UNDERLAY):
            return what.ends is None
        device = hop.device if hop.kind == kinds.TUNNEL or before is None else before.device
        remote = self._topology.hosts[self._topology.whereabouts.tunnel_to[device]].tunnel_ip
        own = self._topology.hosts[hop.host].tunnel_ip
        return what.ends is not None and set(what.ends) == {own, remote}

    def _captured(self, leg: Leg, hop: Hop, heard: list[Heard]) -> Observed:
        best = min(heard, key=lambda one: len(_differences(hop, one.what)))
        wrong = _differences(hop, best.what)
        if wrong:
            self._differs.append(f"{leg.title}: at {hop.device} {_on(hop)} it wears {', '.join(wrong)}.")
        packet = best.what.packet
        return Observed(True, _CAPTURED, ", ".join(wrong), str(packet), packet.vlan, packet.tunnel_id or None,
                        best.milliseconds)

    # ---- sentences

    def _tell(self, leg: Leg, hops: list[Hop]) -> None:
        """Where it was lost: the first place on each way where it was not heard, though it was before."""
        lost: set[int] = set()
        later = _passed(hops)
        if not any(one.what.part == leg.part for one in self._record.heard):
            if not self._differs:  # else it was not sent, as what it answers did not come
                self._differs.append(f"{leg.title}: nothing was heard of it.")
            return
        for place, hop in enumerate(hops):
            if hop.after in lost:
                lost.add(place)
            elif hop.observed and hop.observed.seen is False and place not in later:
                lost.add(place)
                self._differs.append(f"{leg.title}: it was not {'counted' if hop.kind == kinds.TABLE else 'heard'} at "
                                     f"{hop.table or hop.device} {_on(hop)}{self._last(hops, hop)}."
                                     f"{self._instead(hop)}")

    def _instead(self, hop: Hop) -> str:
        """Which other flow of a table has counted; one that is not ours, if there is such: others have packets, too."""
        place = hop.host, hop.device
        before, after = self._record.before.get(place) or {}, self._record.after.get(place) or {}
        known = {key_of(one.said.row.flow) for one in self._journey.hops if one.said and one.said.row}
        table = hop.said.table.id if hop.said else None
        others = [key for key, count in after.items()
                  if key[0] == table and key not in known and count > before.get(key, 0)]
        found = [key for key in others if not is_compiled(key[1]) and not key[2]] or others
        words = ", ".join(sorted(f"{key[1]:#x}" for key in found))
        return f" There the flow with cookie {words} has counted." if found else ""

    @staticmethod
    def _last(hops: list[Hop], hop: Hop) -> str:
        while hop.after is not None:
            hop = hops[hop.after]
            if hop.observed and hop.observed.seen and hop.observed.how == _CAPTURED:
                return f", after {hop.table or hop.device} {_on(hop)}"
        return ""

    def _leaks(self) -> Iterator[str]:
        """VMs that heard what, as computed, does not come to them."""
        ports = {spot: port.name for port in self._topology.ports() if (spot := self._lookouts.vm(port)) is not None}
        for leg in self._journey.legs:
            meant = {leg.sender, leg.receiver, self._journey.source, *leg.reached}
            heard: dict[Spot, None] = {one.spot: None for one in self._record.heard
                                       if leg.part in _TOLD and one.what.part == leg.part and one.spot in ports}
            yield from (f"{leg.title}: {ports[spot]} hears it, which is not computed." for spot in heard
                        if ports[spot] not in meant)


def _passed(hops: list[Hop]) -> set[int]:
    """The places behind which it was heard. What flows count may be others' packets."""
    found: set[int] = set()
    for place in range(len(hops) - 1, -1, -1):
        seen, after = hops[place].observed, hops[place].after
        if after is not None and (place in found or (seen and seen.seen and seen.how == _CAPTURED)):
            found.add(after)
    return found


def _on(hop: Hop) -> str:
    return f"of {hop.owner}" if hop.kind == kinds.VM else f"on {hop.host}"


def _differences(hop: Hop, what: Marked) -> list[str]:
    """Headers that both know, and say otherwise."""
    computed, observed = headers(hop.wears), headers(what.packet)
    known = [name for name in WORDS if name in computed and name in observed]
    if computed.get("protocol") == "udp" and observed.get("protocol") == "icmp":  # nobody listens there, and says so
        known = [name for name in known if name not in ("protocol", "icmp")]
    wears = [name for name in known if computed[name] != observed[name]]
    wears += [name for name in ("vlan", "tunnel_id") if (name in computed) != (name in observed)]
    return [f"{WORDS[name]} {observed.get(name, 'none')} instead of {computed.get(name, 'none')}"
            for name in dict.fromkeys(wears)]
