"""What `trace --dump` shows, for people and for programs."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.markup import escape

from controller.tools.dumptrace import DROPPED, Answer, where
from controller.tools.dumptrace_fields import PARTS, TAGGED, VID
from controller.tools.dumptrace_rows import Entry
from controller.tools.dumptrace_walk import BACK, CONTROLLER, UNKNOWN, End, Hop
from controller.tools.explaining import bare

Json = dict[str, Any]
_NAMES: Final = {"dl_src": "from", "dl_dst": "to", "nw_src": "source", "nw_dst": "destination", "ipv6_src": "source",
                 "ipv6_dst": "destination", "tp_src": "source port", "tp_dst": "destination port", "nw_ttl": "TTL",
                 "tun_id": "tunnel id", "pkt_mark": "mark"}
_ASKED: Final = ("reg", "ct_")


def document(answer: Answer) -> Json:
    """For programs."""
    walk, asked = answer.walk, answer.asked
    return {"verdict": answer.verdict, "reason": answer.reason, "bridge": asked.bridge,
            "port": walk.site.numbers.text(asked.port), "name": walk.site.port(asked.bridge, asked.port),
            "packet": shown(asked.packet), "ct_state": f"{asked.state['ct_state']:#x}",
            "hops": [_hop(answer, hop) for hop in walk.hops], "ends": [_end(answer, end) for end in walk.ends]}


def _hop(answer: Answer, hop: Hop) -> Json:
    site, entry = answer.walk.site, hop.found.entry
    reader = site.boards[hop.bridge].reader
    told = reader.one(entry.line) if entry else None
    return {"bridge": hop.bridge, "port": site.numbers.text(hop.before["in_port"]), "table": hop.table,
            "title": reader.title(hop.table), "line": entry.line.number if entry else None,
            "flow": entry.line.text if entry else None, "sentence": told.sentence if told else None,
            "owner": told.owner if told else None, "sure": hop.sure, "unknown": hop.unknown or None,
            "clauses": [one.line.number for one in hop.found.clauses], "changes": _changes(hop),
            "notes": hop.notes, "learned": hop.learned, "outputs": hop.outputs, "packet": shown(hop.after)}


def _end(answer: Answer, end: End) -> Json:
    site = answer.walk.site
    leaves = end.kind not in (UNKNOWN, CONTROLLER)
    return {"kind": end.kind, "bridge": end.bridge, "port": site.numbers.text(end.port) if leaves else None,
            "name": site.port(end.bridge, end.port) if leaves else None, "sure": end.sure, "why": end.why or None,
            "packet": shown(end.packet)}


def shown(packet: Mapping[str, int]) -> dict[str, str]:
    """A packet's fields in ovs-ofctl's words."""
    found = {}
    for key, value in sorted(packet.items()):
        if key == "vlan_tci":
            found["dl_vlan"] = str(value & VID) if value & TAGGED else "none"
        elif value and key not in ("in_port", "conj_id"):
            found[key] = PARTS[key].show(value)
    return found


def _changes(hop: Hop) -> Json:
    before, after = shown(hop.before), shown(hop.after)
    return {key: after.get(key, "0") for key in sorted({*before, *after})
            if before.get(key, "none" if key == "dl_vlan" else "0") != after.get(key, "0")}


# ---- for people

def lines(answer: Answer) -> Iterator[str]:
    """With rich's markup."""
    walk, asked = answer.walk, answer.asked
    yield f"[bold]{escape(asked.text)}[/bold]"
    matter = {one.key for hop in walk.hops for row in (hop.found.entry, *hop.found.clauses) if row
              for one in row.conditions}
    at = None
    for hop in walk.hops:
        if at != (hop.bridge, hop.depth, hop.before["in_port"]):
            at = hop.bridge, hop.depth, hop.before["in_port"]
            perhaps = "" if hop.sure else ", if it goes there"
            yield f"{escape(hop.bridge)}, by {escape(walk.site.port(hop.bridge, hop.before['in_port']))}{perhaps}"
        yield from _told(answer, hop, matter)
    for end in walk.ends:
        if end.kind != UNKNOWN:
            yield _left(answer, end)
    colour = {UNKNOWN: "yellow", DROPPED: "red"}.get(answer.verdict, "green")
    verdict = "not known" if answer.verdict == UNKNOWN else answer.verdict
    yield f"[{colour}]{verdict}[/{colour}]: {escape(answer.reason)}"


def _told(answer: Answer, hop: Hop, matter: set[str]) -> Iterator[str]:
    reader, entry = answer.walk.site.boards[hop.bridge].reader, hop.found.entry
    title = reader.title(hop.table)
    yield f"  [cyan]table {hop.table}{' ' if title else ''}{escape(title)}[/cyan]"
    if entry:
        told = reader.one(entry.line)
        changed = [_change(key, value) for key, value in _changes(hop).items()
                   if not key.startswith(_ASKED) or key in matter]
        mark = "" if told.known else "[yellow]?[/yellow] "
        yield f"    {mark}{escape(told.sentence)}{escape('  (now ' + ', '.join(changed) + ')') if changed else ''}"
        for row in hop.found.clauses:
            yield f"      [dim]{_line(row)}[/dim]"
        yield f"      [dim]{_line(entry)}[/dim]"
    elif not hop.unknown:
        yield "    No flow takes it: dropped."
    yield from (f"      {escape(note)}" for note in hop.notes if note != hop.unknown)
    yield from (f"      would be learned: {escape(row)}" for row in hop.learned)
    if hop.unknown:
        yield f"      [yellow]?[/yellow] {escape(hop.unknown)}"


def _line(entry: Entry) -> str:
    return f"line {entry.line.number}: {escape(bare(entry.line.text))}"


def _change(key: str, value: str) -> str:
    if key == "dl_vlan":
        return "no VLAN" if value == "none" else f"VLAN {value}"
    return f"{_NAMES[key]} {value}" if key in _NAMES else f"{key} {value}"


def _left(answer: Answer, end: End) -> str:
    packet = shown(end.packet)
    wears = [_change(key, packet[key]) for key in ("dl_vlan", "tun_id") if packet.get(key, "none") != "none"]
    wears = wears or ["no VLAN"]
    how = "" if end.sure else "perhaps "
    if end.kind == CONTROLLER:
        return f"{how}to the controller of {escape(end.bridge)}{f', {end.why}' if end.why else ''}"
    back = "back out of" if end.kind == BACK else "out of"
    return f"{how}{back} {escape(where(answer.walk.site, end))}: {escape(', '.join(wears))}"
