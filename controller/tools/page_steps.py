"""The steps of a journey as HTML that is read without a script, too: each packet, its hops, and what each did."""
from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any, Final

Json = dict[str, Any]
_NAMES: Final = {  # header -> as people call it
    "tunnel_id": "tunnel id", "eth_src": "source MAC", "eth_dst": "destination MAC", "vlan": "VLAN", "arp": "ARP",
    "arp_src": "ARP source", "arp_src_mac": "ARP source MAC", "arp_dst": "ARP target", "arp_dst_mac": "ARP target MAC",
    "ip_src": "source address", "ip_dst": "destination address", "ttl": "TTL", "protocol": "protocol", "icmp": "ICMP",
    "src_port": "source port", "dst_port": "destination port", "nd_target": "ND target"}
_OUTCOMES: Final = {"arrived": "good", "answered": "good", "dropped": "bad"}
_SEEN: Final = {True: ("good", "seen"), False: ("bad", "not seen"), None: ("", "hidden")}
_NOWHERE: Final = {"pipeline": "what every host has", "learned": "learned from an earlier packet"}
_ROUND: Final = {2: "second", 3: "third"}


def name_of(header: str) -> str:
    """A header as people call it."""
    return _NAMES.get(header, header)


def steps(document: Json, source: str) -> Iterator[str]:
    """Every leg. `source`: the topology's file, as origins name it."""
    before = 1
    for leg in document["legs"]:
        if leg["round"] != before:
            before = leg["round"]
            yield f'<h2 class="round">The {_ROUND.get(before, f"{before}th")} packet</h2>'
        yield from _leg(leg, document["hops"], source)


def _leg(leg: Json, hops: list[Json], source: str) -> Iterator[str]:
    number, outcome = leg["number"], leg["outcome"]
    yield (f'<section class="leg" id="leg-{number}"><h3><span class="part">{escape(leg["part"])}</span> '
           f'{escape(leg["title"])} <span class="badge {_OUTCOMES.get(outcome, "")}">{escape(outcome)}</span></h3>')
    if leg["first"] is not None:
        yield "<ol>"
        for hop in hops[leg["first"]:leg["last"] + 1]:
            yield from _hop(hop, source)
        yield "</ol>"
    if leg["aside"]:
        yield f'<p class="aside">{escape(leg["aside"])}</p>'
    yield "</section>"


def _hop(hop: Json, source: str) -> Iterator[str]:
    number = hop["number"]
    fork = ' fork' if hop["after"] is not None and hop["after"] != number - 1 else ""
    kind = "at-table" if hop["kind"] == "table" else "at-wire"
    table = f'<span class="table">{hop["table_id"]} {escape(hop["table"])}</span>' if hop["table"] else ""
    yield (f'<li class="hop {kind}{fork}" id="hop-{number}"><button type="button" class="row" data-hop="{number}" '
           f'aria-expanded="false"><span class="place"><b>{escape(hop["host"])}</b> {escape(_device(hop))}</span>'
           f'<span class="what">{table} <span class="why">{escape(hop["why"])}</span></span>'
           f'<span class="tags">{_worn(hop)}{_observed(hop)}</span></button>')
    if hop["changes"]:
        yield f'<p class="changes">{"".join(map(_change, hop["changes"]))}</p>'
    more = "".join(_more(hop, source))
    if more:
        yield f'<div class="more">{more}</div>'
    yield "</li>"


def _device(hop: Json) -> str:
    """A router's namespace by the beginning of its id."""
    return str(hop["device"])[:15]


def _worn(hop: Json) -> str:
    worn = [f"VLAN {hop['vlan']}"] if hop["vlan"] is not None else []
    worn += [f"tunnel id {hop['tunnel_id']}"] if hop["tunnel_id"] is not None else []
    return "".join(f'<span class="tag">{word}</span>' for word in worn)


def _observed(hop: Json) -> str:
    seen = hop["observed"]
    if not seen:
        return ""
    style, words = _SEEN.get(seen["seen"], ("", "hidden"))
    return f'<span class="badge {style}" title="{escape(seen.get("note") or "")}">{words}</span>'


def _change(change: Json) -> str:
    old, new = (escape(str(change[key])) if change[key] is not None else "none" for key in ("before", "after"))
    return (f'<span class="change">{escape(name_of(change["header"]))} <s>{old}</s> '
            f'<span class="arrow">→</span> <b>{new}</b></span>')


def _more(hop: Json, source: str) -> Iterator[str]:
    """What a click shows: the question, the flow, and all that came of it."""
    if hop["question"]:
        yield f'<p class="question">{escape(hop["question"])}</p>'
    if hop["kind"] == "table":
        yield f'<code class="flow">{escape(hop["flow"] or "no flow matches: the packet is dropped")}</code>'
    yield from _clauses(hop, source)
    facts = list(_facts(hop, source))
    if facts:
        yield "<dl>" + "".join(f"<dt>{escape(what)}</dt><dd>{escape(words)}</dd>" for what, words in facts) + "</dl>"


def _clauses(hop: Json, source: str) -> Iterator[str]:
    for clause in hop["clauses"]:
        yield (f'<p class="clause">{escape(clause["why"])} '
               f'<span class="origin">{escape(_origin(clause, source))}</span></p>'
               f'<code class="flow">{escape(clause["flow"])}</code>')


def _facts(hop: Json, source: str) -> Iterator[tuple[str, str]]:
    if origin := _origin(hop, source):
        yield "comes from", origin
    if hop["cookie"]:
        yield "cookie", hop["cookie"]
    if tracked := hop["tracked"]:
        words = f"zone {tracked['zone']}: {', '.join(tracked['state']) or 'new to it'}"
        yield "conntrack", f"{words}; {tracked['translation']}" if tracked["translation"] else words
    for one in hop["learned"]:
        yield "learned", f"{one['why']}: {one['flow']}"
    if hop["outputs"]:
        yield "leaves by", ", ".join(hop["outputs"])
    if seen := hop["observed"]:
        after = seen.get("milliseconds")
        told = [seen.get("how") or "", seen.get("note") or "", f"after {after:.3g} ms" if after is not None else ""]
        yield "observed", ", ".join(word for word in told if word)


def _origin(of: Json, source: str) -> str:
    """`topology.yaml:72 vms.web1`; of what every host has, that it is so."""
    if not of["origin"]:
        return ""
    if of["line"]:
        return f"{source}:{of['line']} {of['origin']}"
    return _NOWHERE.get(of["origin"], str(of["origin"]))
