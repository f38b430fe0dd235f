"""A journey as lines for people, in rich's markup: one a hop, and one for each packet and for the end."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.markup import escape

from controller.tools.headers import WORDS, Change
from controller.tools.journey import DROPPED, TABLE, Hop, Journey, Leg, Observed, Tracked

_DEVICE_CHARS: Final = 15
_WORN: Final = ("vlan", "tunnel_id")  # said as long as it is worn
_PART_OF: Final = ("arp", "arp_src", "arp_src_mac", "arp_dst", "arp_dst_mac", "nd_target", "icmp", "protocol")
Widths = list[int]


def story(journey: Journey) -> Iterator[str]:
    """The whole journey."""
    places = [_place(hop) for hop in journey.hops]
    widths = [max((len(word) for word in column), default=0) for column in zip(*places, strict=True)]
    for leg in journey.legs:
        yield f"[bold]{escape(leg.title)}[/bold]"
        yield from _leg(leg, widths)
        if leg.aside:
            yield f"  [dim]{escape(leg.aside)}[/dim]"
    colour = "red" if journey.verdict == DROPPED else "green"
    whose = "computed: " if journey.live else ""
    yield f"[bold {colour}]{whose}{journey.verdict}[/bold {colour}]: {escape(journey.reason)}"
    if journey.live:
        yield from _live(journey)


def _place(hop: Hop) -> tuple[str, str, str]:
    """Host, device (a router's namespace by the beginning of its id), table."""
    return hop.host, hop.device[:_DEVICE_CHARS], hop.table or ""


def _leg(leg: Leg, widths: Widths) -> Iterator[str]:
    indents = _indents(leg)
    for (hop, changed), (rail, fork) in zip(leg.changed(), indents, strict=True):
        yield f"  {rail}{fork}{_line(hop, changed, widths)}"


def _indents(leg: Leg) -> Iterator[tuple[str, str]]:
    """What stands before each line: the rails of branches that still come, and the beginning of a branch."""
    children: dict[int | None, list[int]] = {}
    for place, hop in enumerate(leg.hops):
        children.setdefault(hop.after, []).append(place)
    rails: dict[int | None, str] = {None: ""}
    for place, hop in enumerate(leg.hops):
        mates, rail = children[hop.after], rails[hop.after]
        if len(mates) == 1:
            yield rail, ""
            rails[place] = rail
        else:
            is_last = place == mates[-1]
            yield rail, "└─ " if is_last else "├─ "
            rails[place] = f"{rail}{'   ' if is_last else '│  '}"


def _line(hop: Hop, changed: tuple[Change, ...], widths: Widths) -> str:
    place = "  ".join(f"{word:<{width}}" for word, width in zip(_place(hop), widths, strict=True))
    notes = list(_notes(hop, changed))
    noted = f"  [cyan]({escape(', '.join(notes))})[/cyan]" if notes else ""
    why = escape(hop.why)
    return f"{escape(place)}  {why if hop.kind == TABLE else f'[dim]{why}[/dim]'}{noted}{_observed(hop.observed)}"


def _notes(hop: Hop, changed: tuple[Change, ...]) -> Iterator[str]:
    """What it wears between hosts and on a host, and what else is new about it."""
    if hop.vlan is not None:
        yield f"VLAN {hop.vlan}"
    if hop.tunnel_id is not None:
        yield f"tunnel id {hop.tunnel_id}"
    new = {one.header: one.after for one in changed if one.header not in _WORN}
    if any(header in _PART_OF for header in new):
        yield f"now {hop.packet}"
    else:
        words = [f"{WORDS[header]} {text}" for header, text in new.items()]
        yield from [f"now {', '.join(words)}"] * bool(words)
    if hop.said and hop.said.tracked:
        yield _tracked(hop.said.tracked)


def _tracked(tracked: Tracked) -> str:
    state = [name for name in tracked.state if name != "trk"]
    words = [f"zone {tracked.zone}", *state, *(["remembered"] if tracked.commit else [])]
    return f"conntrack: {' '.join(words)}"


def _observed(observed: Observed | None) -> str:
    if observed is None:
        return ""
    if observed.seen is None:
        return f"  [yellow]not visible[/yellow][dim]: {escape(observed.note)}[/dim]"
    word = "counted" if observed.how == "counted" else "seen"
    words = f"[green]{word}[/green]" if observed.seen else f"[red]not {word}[/red]"
    return f"  {words}[dim]{escape(f' {observed.note}' if observed.note else '')}[/dim]"


def _live(journey: Journey) -> Iterator[str]:
    live = journey.live
    if live is None:
        return
    watched = [hop.observed for hop in journey.hops if hop.observed]
    seen = sum(one.seen is True for one in watched)
    looked = sum(one.seen is not None for one in watched)
    colour, word = ("green", "as computed") if live.agrees else ("red", "not as computed")
    yield f"[bold {colour}]live: {word}[/bold {colour}]: seen at {seen} of {looked} places where one can look"
    yield from (f"  [red]{escape(sentence)}[/red]" for sentence in live.differs)
    yield from (f"  [yellow]{escape(sentence)}[/yellow]" for sentence in live.unknown)
