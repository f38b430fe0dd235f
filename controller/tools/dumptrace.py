"""`tunbridge trace --dump`: a packet's way through tables that somebody dumped; `dumptrace_walk` has the way itself."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from controller.tools import dumptrace_fields as fields
from controller.tools import explaining, ofwords, topologies
from controller.tools.dumptrace_actions import act
from controller.tools.dumptrace_fields import Packet
from controller.tools.dumptrace_site import Site
from controller.tools.dumptrace_walk import BACK, CONTROLLER, OUT, UNKNOWN, End, Walk
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.ofctl import DEFAULT_PRIORITY, Damaged, Row, read
from controller.tools.ours import Ours
from flows.fields import CT_FLAGS

LEAVES, ANSWERED, DROPPED = "leaves", "answered", "dropped"
_TTL: Final = 64
_NEEDS: Final = {"nw_src": ((fields.IP,), "ip, icmp, tcp, udp or sctp"),
                 "arp_": ((fields.ARP, fields.RARP), "arp or rarp"),
                 "nw_dst": ((fields.IP,), "ip, icmp, tcp, udp or sctp"),
                 "ipv6_": ((fields.IP6,), "ipv6, icmp6, tcp6 or udp6")}
_INSIDE: Final = ("conj_id", "ct_zone", "in_port", "reg")


@dataclass(frozen=True)
class Asked:
    """A packet that comes in somewhere, and what connection tracking will say of it."""

    text: str
    bridge: str
    port: int
    packet: Packet
    state: dict[str, int]


@dataclass(frozen=True)
class Answer:
    """What became of it."""

    asked: Asked
    walk: Walk
    verdict: str
    reason: str

    @property
    def known(self) -> bool:
        """Whether it leaves, and nothing about it is unknown."""
        return self.verdict in (LEAVES, ANSWERED)


def trace(files: tuple[Iterable[str], Iterable[str]], source: str, packet: str, stdin: TextIO,
          say: Callable[[str], None]) -> Answer:
    """`files` are dumps, and those that tell names. Refusal if one of them cannot be used, or there is no such port."""
    dumps, names = files
    labels = explaining.labels_of(names, stdin)
    texts = [(*_named(file), file) for file in dumps]
    read_ = [(explaining.text_of(path, stdin), bridge, file) for bridge, path, file in texts]
    own = any("cookie=0x54" in text for text, _, _ in read_) and Path(explaining.USUAL).exists()
    ours = Ours(topologies.valid(explaining.USUAL, say) if own else None, explaining.USUAL if own else "", labels)
    site = Site(labels, ours)
    for text, bridge, file in read_:
        site.read(text, bridge, file)
    bridge, port = site.place(source)
    return answer(site, asked(packet, bridge, port))


def _named(file: str) -> tuple[str, str]:
    """`br-ex=dump.txt`: whose it is, and the file."""
    bridge, found, path = file.partition("=")
    return (bridge, path) if found and "/" not in bridge and not Path(file).exists() else ("", file)


def answer(site: Site, question: Asked) -> Answer:
    """Follow it."""
    walk = Walk(site, question.state, act)
    walk.run(question.bridge, question.port, question.packet)
    tied = next((hop for hop in walk.hops if hop.found.tie), None)
    if tied:  # it matters only if it ends otherwise
        other = Walk(site, question.state, act, last=True)
        other.run(question.bridge, question.port, question.packet)
        if _gone(walk) != _gone(other):
            tied.unknown = tied.found.tie
            walk.ends.append(End(UNKNOWN, tied.bridge, 0, dict(tied.before), tied.found.tie))
    return Answer(question, walk, *_verdict(walk, question))


def _gone(walk: Walk) -> list[tuple[str, str, int, list[tuple[str, int]]]]:
    """What leaves, and where, in an order of its own."""
    return sorted((end.kind, end.bridge, end.port, sorted((key, value) for key, value in end.packet.items()
                                                          if not key.startswith("reg"))) for end in walk.ends)


def _verdict(walk: Walk, question: Asked) -> tuple[str, str]:
    gone = [end for end in walk.ends if end.kind in (OUT, BACK)]
    if open_ := list(dict.fromkeys(end.why for end in walk.ends if end.kind == UNKNOWN)):
        return UNKNOWN, "; ".join(open_)
    if gone:
        back = any((end.bridge, end.port) == (question.bridge, question.port) for end in gone)
        places = list(dict.fromkeys(where(walk.site, end) for end in gone))
        return ANSWERED if back else LEAVES, ", ".join(places)
    if any(end.kind == CONTROLLER and not end.why for end in walk.ends):
        return UNKNOWN, "the controller gets it, and flows do not tell what that does with it"
    return DROPPED, _last(walk)


def _last(walk: Walk) -> str:
    hop = walk.hops[-1]
    entry = hop.found.entry
    place = f"in table {hop.table} of {hop.bridge}"
    return f"by line {entry.line.number} {place}" if entry else f"no flow {place} takes it"


def where(site: Site, end: End) -> str:
    """An end in words."""
    called = site.port(end.bridge, end.port)
    return f"{end.bridge} by {called}{f' ({end.why})' if end.why else ''}"


# ---- the packet

def asked(text: str, bridge: str, port: int) -> Asked:
    """A packet in ovs-ofctl's words. Refusal if it is none."""
    words = list(ofwords.split(text))
    about = [word for word in words if word.startswith(("ct_state=", "ct_mark=", "ct_label="))]
    row = _row(",".join(word for word in words if word not in about), text)
    try:
        state = {name: (fields.flags(value)[0] if name == "ct_state" else int(value, 0))
                 for name, _, value in (word.partition("=") for word in about)}
        packet = fields.packet_of(row.match)
    except (KeyError, ValueError) as error:
        raise Refusal(f"{text}: {error} is no field of a packet with one value.", BAD_INPUT) from error
    _fits(packet, text)
    if packet.get("dl_type") in (fields.IP, fields.IP6):
        packet.setdefault("nw_ttl", _TTL)
    state["ct_state"] = state.get("ct_state", CT_FLAGS["new"]) | CT_FLAGS["trk"]
    return Asked(text, bridge, port, packet, state)


def _row(text: str, whole: str) -> Row:
    try:
        row = read(f"{text if 'actions' not in text else 'table=1'} actions=drop")
    except Damaged as error:
        raise Refusal(f"{whole}: this is no packet: {error}.", BAD_INPUT) from error
    odd = [*row.strange, *(name for name in row.match if name.startswith(_INSIDE))]
    if odd:
        raise Refusal(f"{whole}: {', '.join(odd)} is no field that a packet comes with.", BAD_INPUT)
    if not text or row.table or row.cookie is not None or row.priority != DEFAULT_PRIORITY:
        raise Refusal(f"{whole!r} is no packet: give one as icmp,dl_src=MAC,dl_dst=MAC,nw_src=IP,nw_dst=IP.",
                      BAD_INPUT)
    return row


def _fits(packet: Packet, text: str) -> None:
    """Addresses need a packet that has some."""
    for key in packet:
        types, say = next((need for prefix, need in _NEEDS.items() if key.startswith(prefix)), ((), ""))
        if types and packet.get("dl_type") not in types:
            raise Refusal(f"{text}: {key} needs {say}.", BAD_INPUT)
        if key.startswith(("tp_", "icmp_")) and not packet.get("nw_proto"):
            raise Refusal(f"{text}: {key} needs icmp, tcp, udp or sctp.", BAD_INPUT)
