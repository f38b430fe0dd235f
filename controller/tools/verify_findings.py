"""What a proof finds: breaches of what the topology promises, each with a packet and the flow to blame."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from flows.flow import Flow
from flows.packet import Packet
from flows.text import line

# Kinds of breaches.
ISOLATION, SPOOFING, TAG, LOOP, BLACK_HOLE, GROUPS, WRONG_PORT, STRANGER, REWRITTEN = (
    "isolation", "spoofing", "tag", "loop", "black hole", "security group", "wrong port", "stranger", "rewritten")
KINDS: Final = (ISOLATION, SPOOFING, TAG, LOOP, BLACK_HOLE, GROUPS, WRONG_PORT, STRANGER, REWRITTEN)


@dataclass(frozen=True)
class Blame:
    """A flow, where it is; `flow` is None where one is missing. `instead`: the flow that should have had the packet."""

    host: str
    bridge: str
    table: int
    flow: Flow | None
    instead: Flow | None = None

    def document(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {"host": self.host, "bridge": self.bridge, "table": self.table,
                "flow": line(self.flow) if self.flow else None, "why": self.flow.why if self.flow else "",
                "origin": self.flow.origin if self.flow else "",
                "instead_of": line(self.instead) if self.instead else None}


@dataclass(frozen=True)
class Breach:
    """A promise that the tables do not keep."""

    kind: str
    source: str
    target: str
    what: str  # a sentence without its full stop
    packet: Packet
    confirmed: bool  # the packet, sent on paper, does what the proof says
    blame: Blame | None

    def document(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {"kind": self.kind, "src": self.source, "dst": self.target, "what": self.what,
                "packet": {"words": str(self.packet), "fields": dict(self.packet.items),
                           "inner_vlans": list(self.packet.inner)},
                "confirmed": self.confirmed, "blame": self.blame.document() if self.blame else None}


@dataclass(frozen=True)
class Report:
    """All that was found, and how much was looked at."""

    breaches: tuple[Breach, ...]
    more: int  # breaches of the same kind at the same flow that are not among these
    flows: int
    hosts: int
    ports: int
    pairs: int  # ordered pairs of VM ports
    reaching: int  # of these, those between which some frame may pass
    undecided: tuple[str, ...] = ()  # what was not proven, and why

    @property
    def ok(self) -> bool:
        """Whether everything is as the topology promises."""
        return not self.breaches and not self.undecided

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {"ok": self.ok, "flows": self.flows, "hosts": self.hosts, "ports": self.ports, "pairs": self.pairs,
                "reaching": self.reaching, "breaches": [one.document() for one in self.breaches], "more": self.more,
                "undecided": list(self.undecided)}


def lines(report: Report) -> Iterator[str]:
    """For people, with rich's markup."""
    from rich.markup import escape
    for one in report.breaches:
        sure = "" if one.confirmed else " [yellow](not confirmed by sending it on paper)[/yellow]"
        yield f"[bold red]{one.kind}[/bold red]: {escape(one.what)}{sure}"
        yield f"  packet  {escape(str(one.packet))}, {escape(fields(one.packet))}"
        if one.blame is not None:
            yield from (f"  {escape(text)}" for text in _blame_lines(one.blame))
    if report.more:
        yield f"and {report.more} more that the same flows cause"
    yield from (f"[yellow]undecided[/yellow]: {escape(one)}" for one in report.undecided)
    size = f"{report.flows} flows of {report.hosts} hosts, {report.ports} ports, {report.pairs} ordered pairs"
    if report.ok:
        yield f"[green]proven[/green] for all packets: {size}; {report.reaching} pairs reach each other"
    else:
        count = len(report.breaches)
        yield f"[bold red]{count} breach{'es' * (count != 1)}[/bold red] in {size}"


def _blame_lines(blame: Blame) -> Iterator[str]:
    place = f"{blame.host}/{blame.bridge} table {blame.table}"
    if blame.flow is None:
        yield f"flow    {place}: no flow takes it"
    else:
        yield f"flow    {place}: {line(blame.flow)}"
        yield f"        {blame.flow.why} ({blame.flow.origin})"
    if blame.instead is not None:
        yield f"instead {line(blame.instead)}"
        yield f"        {blame.instead.why} ({blame.instead.origin})"


def fields(packet: Packet) -> str:
    """The fields of a packet in one line."""
    from flows.fields import FIELDS
    known = {field.name: field for field in FIELDS}
    return ",".join(f"{known[name].ofctl if name in known else name}="
                    f"{known[name].show(value) if name in known else value}"
                    for name, value in packet.items if value or name not in ("tunnel_id", "vlan_vid"))
